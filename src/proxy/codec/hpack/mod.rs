//! HPACK (RFC 7541): whole blocks ([`block`]), and the integers and strings that they are made of.

pub(crate) mod block;
mod huffman;

/// How a string is written.
#[derive(Debug, PartialEq, Eq)]
enum Text<'a> {
    Plain(&'a [u8]),
    Huffman(&'a [u8]),
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
fn string<'a>(block: &mut &'a [u8]) -> Option<Text<'a>> {
    let huffman = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (string, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(if huffman { Text::Huffman(string) } else { Text::Plain(string) })
}
