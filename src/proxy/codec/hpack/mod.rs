//! HPACK (RFC 7541): header blocks into lines of HTTP/1 ([`Decoder`]), fields into header blocks ([`Encoder`]).

pub(crate) mod block;
mod decoder;
mod encoder;
mod field_lines;
mod huffman;
mod name;
mod static_table;
mod table;

pub(crate) use self::decoder::Decoder;
pub(crate) use self::encoder::Encoder;
pub(crate) use self::field_lines::{FieldLine, FieldLines, Flaw, Pseudo};
#[cfg(any(test, fuzzing))]
pub(crate) use self::huffman::{decode as huffman_decode, encode as huffman_encode};
pub(crate) use self::table::TABLE;

/// Why a header block cannot be read; no later one can be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HpackError {
    /// It is no header block: COMPRESSION_ERROR (RFC 9113 §4.3).
    #[error("the header block is not valid HPACK")]
    Invalid,
    /// Its list is so much longer than the limit that nobody sends it by mistake: ENHANCE_YOUR_CALM.
    #[error("the header list is several times as long as the limit")]
    TooLarge,
}

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

#[cfg(test)]
mod tests;
