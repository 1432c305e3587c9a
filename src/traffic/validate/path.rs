//! The normal form of a path: what is forwarded, and with it what routes are matched on.
//!
//! Percent-encoded unreserved characters are decoded and dot segments resolved (RFC 3986 §6.2.2.2 and §5.2.4); what
//! [`Paths`] says of slashes, backslashes and bytes beyond ASCII is done. In this order every two spellings with one
//! RFC 3986 normal form are matched as one path. What servers are known to read in different ways, and nobody chose to
//! keep, is refused.
//!
//! The digits of a triplet are forwarded in the client's case, since signatures are made over them, and matched in
//! upper case; what should have come as a triplet and is let pass (`<`, `|`, a letter beyond ASCII) is matched as one.
//! So what is matched is a function of what is forwarded, and the same for two that mean the same.
//!
//! Invariant: normalising twice is normalising once, and a path in normal form is borrowed, not copied.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::traffic::Refusal;

use super::refusal::{PATH_AMBIGUOUS, PATH_ENCODING_INVALID};
use super::spelling::{Backslash, EncodedSlash, NonAscii, Paths};

/// A path in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::traffic) struct Normal<'p> {
    /// What is forwarded.
    pub(in crate::traffic) forwarded: Cow<'p, str>,
    /// What routes are matched on, where it is spelled in another way.
    matched: Option<String>,
}

impl<'p> Normal<'p> {
    /// What routes are matched on: without the `;parameters` of segments, which some servers drop before they choose,
    /// with triplets in upper case, and with triplets in the place of what should have come as such.
    pub(in crate::traffic) fn into_matched(self) -> Cow<'p, str> {
        self.matched.map_or(self.forwarded, Cow::Owned)
    }
}

/// The normal form of `path`, which starts with a slash.
pub(in crate::traffic) fn normalise(path: &str, paths: Paths) -> Result<Normal<'_>, Refusal> {
    let odd = has_odd_bytes(path);
    let decoded = if odd { decode(path, paths)? } else { Cow::Borrowed(path) };
    // A dot segment needs `/.`; what has none of these is in normal form.
    let decoded = if has_pair(&decoded, *b"/.") { resolve_dots(decoded) } else { decoded };
    let forwarded = if paths.merge_slashes { merge_slashes(decoded) } else { decoded };
    if odd && has_dots_with_parameters(&forwarded) {
        return Err(PATH_AMBIGUOUS);
    }
    let matched = if odd { matched(&forwarded, paths) } else { None };
    Ok(Normal { forwarded, matched })
}

/// Whether there is anything that may be spelled in several ways but dots and slashes.
fn has_odd_bytes(path: &str) -> bool {
    // Without an early exit: paths are short, and the loop without branches is the faster one.
    path.bytes().fold(false, |any, byte| any | !is_plain(byte))
}

/// Whether these two bytes stand side by side. Paths are short: a search that prepares itself takes longer.
fn has_pair(path: &str, pair: [u8; 2]) -> bool {
    path.as_bytes().windows(2).any(|two| two == pair)
}

/// Whether the byte has one spelling: one of a path (RFC 3986 §3.3) that begins neither a triplet nor a parameter.
fn is_plain(byte: u8) -> bool {
    PLAIN.get(usize::from(byte)).copied().unwrap_or_default()
}

const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
        {
            plain[byte as usize] = is_unreserved(byte)
                || matches!(
                    byte,
                    b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'='
                );
        }
        byte += 1;
    }
    plain
};

/// What routes are matched on for a path that is forwarded; none if it is the same.
fn matched(forwarded: &str, paths: Paths) -> Option<String> {
    if forwarded.bytes().all(|byte| is_plain(byte) || byte == b'%') && !has_lower_digits(forwarded) {
        return None;
    }
    let mut out = String::with_capacity(forwarded.len());
    for segment in forwarded.split('/').skip(1) {
        out.push('/');
        let mut digits = 0;
        for byte in segment.split(';').next().unwrap_or_default().bytes() {
            match byte {
                _ if digits > 0 => out.push(char::from(byte.to_ascii_uppercase())),
                b'%' => out.push('%'),
                _ if is_plain(byte) => out.push(char::from(byte)),
                _ => push_triplet(&mut out, byte),
            }
            digits = if byte == b'%' { 2_u8 } else { digits.saturating_sub(1) };
        }
    }
    Some(if paths.merge_slashes { merge_slashes(Cow::Owned(out)).into_owned() } else { out })
}

fn has_lower_digits(path: &str) -> bool {
    path.split('%').skip(1).any(|rest| rest.bytes().take(2).any(|digit| digit.is_ascii_lowercase()))
}

fn push_triplet(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

/// `text` with triplets in the place of bytes beyond ASCII.
pub(super) fn encode(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            0x80.. => push_triplet(&mut out, byte),
            _ => out.push(char::from(byte)),
        }
    }
    Cow::Owned(out)
}

/// Decodes what is to be decoded, encodes what is to be encoded, and refuses what is to be refused.
fn decode(path: &str, paths: Paths) -> Result<Cow<'_, str>, Refusal> {
    if paths.backslash == Backslash::Refuse && path.contains('\\') {
        return Err(PATH_AMBIGUOUS);
    }
    if paths.non_ascii == NonAscii::Encode && !path.is_ascii() {
        return decode_triplets(&encode(path), paths).map(|decoded| Cow::Owned(decoded.into_owned()));
    }
    if path.contains('%') { decode_triplets(path, paths) } else { Ok(Cow::Borrowed(path)) }
}

/// Decodes the triplets of unreserved characters, and of slashes where they are to be.
fn decode_triplets(path: &str, paths: Paths) -> Result<Cow<'_, str>, Refusal> {
    let mut out: Option<String> = None;
    let mut rest = path;
    let mut kept = 0;
    let mut before = None;
    while let Some(at) = rest.find('%') {
        let (plain, triplet) = rest.split_at_checked(at).ok_or(PATH_ENCODING_INVALID)?;
        let digits = triplet.get(1..3).ok_or(PATH_ENCODING_INVALID)?;
        let byte = parse_hex(digits).ok_or(PATH_ENCODING_INVALID)?;
        let adjacent = if plain.is_empty() { before } else { None };
        if is_ambiguous(adjacent, byte, paths) {
            return Err(PATH_AMBIGUOUS);
        }
        before = Some(byte);
        let decoded = is_unreserved(byte) || (byte == b'/' && paths.encoded_slash == EncodedSlash::Decode);
        // Copying starts at the first triplet that has to change.
        if out.is_none() && decoded {
            let mut copy = String::with_capacity(path.len());
            copy.push_str(path.get(..kept).unwrap_or_default());
            out = Some(copy);
        }
        if let Some(out) = &mut out {
            out.push_str(plain);
            if decoded {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.push_str(digits);
            }
        }
        kept += at + 3;
        rest = triplet.get(3..).unwrap_or_default();
    }
    Ok(match out {
        Some(mut out) => {
            out.push_str(rest);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(path),
    })
}

fn parse_hex(digits: &str) -> Option<u8> {
    // `from_str_radix` alone would take a sign.
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u8::from_str_radix(digits, 16).ok() } else { None }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether servers disagree about what the encoded `byte` after the encoded byte `before` means, and nobody chose.
fn is_ambiguous(before: Option<u8>, byte: u8, paths: Paths) -> bool {
    // The starts of UTF-8 sequences that are longer than their character needs: `%C0%AF` is a slash to some.
    let overlong = matches!(
        (before, byte),
        (Some(0xc0 | 0xc1), 0x80..=0xbf) | (Some(0xe0), 0x80..=0x9f) | (Some(0xf0), 0x80..=0x8f)
    );
    match byte {
        b'/' => paths.encoded_slash == EncodedSlash::Refuse,
        b'\\' => paths.backslash == Backslash::Refuse,
        _ => overlong || byte.is_ascii_control(),
    }
}

/// RFC 3986 §5.2.4, where an empty segment is a segment.
fn resolve_dots(path: Cow<'_, str>) -> Cow<'_, str> {
    // Most paths have no segment that begins with a dot.
    if !path.as_bytes().windows(2).any(|pair| pair == b"/.")
        || !path.split('/').any(|segment| matches!(segment, "." | ".."))
    {
        return path;
    }
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.truncate(out.rfind('/').unwrap_or(0));
                }
                if last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    Cow::Owned(out)
}

fn merge_slashes(path: Cow<'_, str>) -> Cow<'_, str> {
    if !has_pair(&path, *b"//") {
        return path;
    }
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Whether a segment is `.;…` or `..;…`: a name to one server, a dot segment to the next.
fn has_dots_with_parameters(path: &str) -> bool {
    memchr::memchr(b';', path.as_bytes()).is_some()
        && path.contains("/.")
        && path.split('/').any(|segment| matches!(segment.split_once(';'), Some(("." | "..", _))))
}
