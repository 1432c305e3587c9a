//! HPACK (RFC 7541): header blocks into lines of HTTP/1 ([`Decoder`]), fields into header blocks ([`Encoder`]).

mod decoder;
mod encoder;
mod field_lines;
mod huffman;
mod name;
mod static_table;
mod table;

pub(crate) use self::decoder::Decoder;
pub(crate) use self::encoder::{Encoder, write_plain};
pub(crate) use self::field_lines::{FieldLine, FieldLines};
#[cfg(any(test, fuzzing))]
pub(crate) use self::huffman::{decode as huffman_decode, encode as huffman_encode};
pub(crate) use self::name::{Flaw, Pseudo};

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

#[cfg(test)]
mod tests;
