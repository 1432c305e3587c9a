//! HPACK (RFC 7541): whole blocks ([`block`]), and the names of a block's fields as far as its own bytes tell.
//!
//! The names are enough to see what an endpoint's trailers must not hold where the h2 crate does not look: it drops
//! pseudo-header fields there in silence, and its users do not see a `content-length`. What only the dynamic table
//! names is not seen; it reaches nobody either.

pub(in crate::proxy) mod block;
mod huffman;

/// Whether these are no trailers: they hold a pseudo-header field or frame the body (RFC 9113 §8.1, RFC 9110 §6.5.1).
pub(crate) fn is_malformed_trailers(block: &[u8]) -> bool {
    names(block).any(|name| match name {
        Name::Index(index) => index <= LAST_PSEUDO || index == CONTENT_LENGTH || index == TRANSFER_ENCODING,
        Name::Plain(name) => name.starts_with(b":") || FRAMING.contains(&name),
        // `:` has seven bits.
        Name::Huffman(name) => name.first().is_some_and(|first| first >> 1 == 0x5C) || FRAMING_HUFFMAN.contains(&name),
    })
}

/// The fragment of a header block in a HEADERS frame's payload (RFC 9113 §6.2).
pub(crate) fn fragment(payload: &[u8], flags: u8) -> &[u8] {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => (usize::from(*padding), rest),
        _ => (0, payload),
    };
    let from = if flags & PRIORITY == 0 { 0 } else { 5 };
    rest.get(from..rest.len().saturating_sub(padding)).unwrap_or_default()
}

/// How a field's name is written.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    /// By its place in the tables; those above 61 are dynamic.
    Index(usize),
    Plain(&'a [u8]),
    Huffman(&'a [u8]),
}

/// The names in a block, up to where it ends or is none.
fn names(mut block: &[u8]) -> impl Iterator<Item = Name<'_>> {
    std::iter::from_fn(move || {
        loop {
            let first = *block.first()?;
            let bits = match first {
                0x80.. => 7,
                0x40.. => 6,
                0x20.. => 5,
                _ => 4,
            };
            let index = integer(&mut block, bits)?;
            if bits == 5 {
                // The dynamic table's size.
                continue;
            }
            let name = match (bits, index) {
                (7, index) => return Some(Name::Index(index)),
                (_, 0) => string(&mut block)?,
                (_, index) => Name::Index(index),
            };
            string(&mut block)?;
            return Some(name);
        }
    })
}

/// Reads an integer that begins in so many bits (RFC 7541 §5.1).
fn integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        // Four more bytes hold every length that a frame can have.
        for shift in [0, 7, 14, 21] {
            let (next, after) = rest.split_first()?;
            rest = after;
            value += usize::from(next & 0x7F) << shift;
            if next & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// Reads a string (RFC 7541 §5.2).
fn string<'a>(block: &mut &'a [u8]) -> Option<Name<'a>> {
    let huffman = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (string, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(if huffman { Name::Huffman(string) } else { Name::Plain(string) })
}

const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The static table begins with the pseudo-header fields (RFC 7541 appendix A).
const LAST_PSEUDO: usize = 14;
const CONTENT_LENGTH: usize = 28;
const TRANSFER_ENCODING: usize = 57;

const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];

/// The same by Huffman's code (RFC 7541 appendix B).
const FRAMING_HUFFMAN: [&[u8]; 2] = [
    &[0x21, 0xEA, 0x49, 0x6A, 0x4A, 0xD4, 0x16, 0xA9, 0x93, 0x3F],
    &[0x4D, 0x83, 0xA9, 0x12, 0x96, 0xC5, 0x8B, 0x51, 0x0F, 0x21, 0xAA, 0x9B],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trailers_must_not_hold_is_seen_wherever_it_is() {
        let plain = |name: &[u8]| [&[0x00, u8::try_from(name.len()).unwrap()], name, &[1, b'5']].concat();
        for (block, malformed) in [
            (vec![0x88], true),
            (vec![0x20, 0x3F, 0x81, 0x10, 0x84], true),
            (vec![0x44, 1, b'/'], true),
            (plain(b":x"), true),
            (vec![0x10, 0x82, 0xB9, 0xFF, 0], true),
            (plain(b"content-length"), true),
            (vec![0x0F, 0x0D, 1, b'5'], true),
            (vec![0x5C, 1, b'5'], true),
            ([&[0xBE][..], &plain(b"grpc-status"), &[0x5C, 1, b'5']].concat(), true),
            ([&[0x00, 0x8A][..], FRAMING_HUFFMAN[0], &[1, b'5']].concat(), true),
            ([&[0x00, 0x8C][..], FRAMING_HUFFMAN[1], &[1, b'5']].concat(), true),
            (plain(b"grpc-status"), false),
            (vec![0xBE], false),
            (vec![0x7F, 0x01, 1, b'5'], false),
            (vec![], false),
            (vec![0x00, 11, b':'], false),
            (vec![0x7F], false),
        ] {
            assert_eq!(is_malformed_trailers(&block), malformed, "{block:x?}");
        }
    }

    #[test]
    fn padding_and_priority_are_no_fields() {
        let payload = [2, 0, 0, 0, 0, 16, 0x88, 0, 0];
        assert_eq!(fragment(&payload, PADDED | PRIORITY), [0x88]);
        assert_eq!(fragment(&payload, 0), payload);
        assert_eq!(fragment(&[9], PADDED), [0u8; 0]);
        assert_eq!(fragment(&[], PADDED | PRIORITY), [0u8; 0]);
    }
}
