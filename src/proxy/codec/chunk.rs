//! The lines of a chunked body (RFC 9112 §7.1): sizes with their extensions, and trailers.
//!
//! They are read strictly: hexadecimal digits, well-formed extensions that go no further, CRLF. Of an endpoint a size may
//! be padded, as old servers write it and everybody reads it: a response cannot smuggle a request past anybody.

use memchr::memchr;

use crate::traffic::validate::is_token;

/// The most a chunk's size line may take, extension included.
pub(super) const MAX_SIZE_LINE: usize = 4 * 1024;
/// The most the trailers may take.
pub(super) const MAX_TRAILERS: usize = 16 * 1024;

/// The framing is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is not valid HTTP")]
pub(crate) struct Malformed;

/// Who sends a message, which says how strictly its chunks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Somebody who may want two parsers to disagree.
    Client,
    /// A server of our own side, which may be old.
    Endpoint,
}

/// The line at the front, without its end; none if it is not complete.
pub(super) fn line(input: &[u8], most: usize) -> Result<Option<&[u8]>, Malformed> {
    match memchr(b'\n', input) {
        None if input.len() > most => Err(Malformed),
        None => Ok(None),
        Some(end) if end > most + 1 => Err(Malformed),
        Some(end) => match input.get(..end).unwrap_or_default() {
            // A carriage return anywhere else is read as a line end by some.
            [line @ .., b'\r'] if memchr(b'\r', line).is_none() => Ok(Some(line)),
            _ => Err(Malformed),
        },
    }
}

/// The field in a line; none if it is no field, or goes on the one before (RFC 9112 §5).
pub(super) fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
    let valid = is_token(name) && value.iter().all(|&byte| is_text(byte));
    valid.then_some((str::from_utf8(name).ok()?, value))
}

/// The size in a chunk's size line.
pub(super) fn size(line: &[u8], sender: Sender) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at_checked(digits).ok_or(Malformed)?;
    let (number, well_ended) = match sender {
        Sender::Client => (number, rest.is_empty() || are_extensions(rest)),
        Sender::Endpoint => (unpadded(number), is_padding(rest)),
    };
    if digits == 0 || number.len() > 15 || !well_ended {
        return Err(Malformed);
    }
    let text = str::from_utf8(number).map_err(|_| Malformed)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed)
}

/// A number without the zeros before it.
fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&digit| digit == b'0').count();
    // The last one may be all of it.
    number.get(zeros.min(number.len().saturating_sub(1))..).unwrap_or_default()
}

/// Whether nothing follows a size but blanks and an extension in one line.
fn is_padding(rest: &[u8]) -> bool {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match rest.get(blanks..).unwrap_or_default() {
        [] => true,
        [b';', extension @ ..] => extension.iter().all(|byte| *byte >= b' ' || *byte == b'\t'),
        _ => false,
    }
}

/// Whether `text` is a list of chunk extensions, each `;name` or `;name=value` (RFC 9112 §7.1.1). Parsers disagree
/// about where a line ends that is none, so a lax reader is a way to smuggle.
fn are_extensions(mut text: &[u8]) -> bool {
    while let Some(rest) = text.trim_ascii_start().strip_prefix(b";") {
        let Some(rest) = after_token(rest.trim_ascii_start()) else { return false };
        text = rest;
        if let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            let Some(rest) = after_quoted(value).or_else(|| after_token(value)) else { return false };
            text = rest;
        }
    }
    text.is_empty()
}

/// What follows the token at the front; none if there is no token.
fn after_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|&&byte| is_token(&[byte])).count();
    if length > 0 { text.get(length..) } else { None }
}

/// What follows the quoted string at the front; none if there is no such string.
fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] if is_text(*byte) => rest,
            [byte, rest @ ..] if *byte != b'\\' && is_text(*byte) => rest,
            _ => return None,
        };
    }
}

/// Whether a quoted string may have this byte: anything but control bytes.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoints_size_may_be_padded_and_a_clients_may_not() {
        for (line, of_endpoint) in [
            ("3 ", Some(3)),
            ("3 \t ", Some(3)),
            ("003", Some(3)),
            ("00000000000000000000000000000003", Some(3)),
            ("0000000000000000000", Some(0)),
            ("3  ;a=\"b\"", Some(3)),
            (" 3", None),
            ("3 x", None),
            ("3 3", None),
            ("", None),
            ("fffffffffffffffff", None),
        ] {
            assert_eq!(size(line.as_bytes(), Sender::Endpoint).ok(), of_endpoint, "{line:?}");
            let plain = line.len() < 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let of_client = of_endpoint.filter(|_| plain || line.contains(';'));
            assert_eq!(size(line.as_bytes(), Sender::Client).ok(), of_client, "{line:?}");
        }
    }
}
