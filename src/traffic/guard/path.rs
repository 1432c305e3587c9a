//! The normal form of a path: what routes are matched on, and what is forwarded.
//!
//! Percent-encoded unreserved characters are decoded, other triplets get upper-case digits, dot segments are
//! resolved (RFC 3986 §6.2.2 and §5.2.4), then runs of slashes become one. In this order every two spellings
//! with one RFC 3986 normal form give one path. What servers are known to read in different ways and no rule
//! makes equal is refused.
//!
//! Invariant: normalising twice is normalising once, and a path in normal form is borrowed, not copied.

use std::borrow::Cow;

use crate::traffic::Refusal;

use super::EncodedSeparators;
use super::refusal::{PATH_AMBIGUOUS, PATH_ENCODING_INVALID};

/// The normal form of `path`, which starts with a slash.
pub(in crate::traffic) fn normalise(path: &str, separators: EncodedSeparators) -> Result<Cow<'_, str>, Refusal> {
    if path.contains('\\') {
        return Err(PATH_AMBIGUOUS);
    }
    let decoded = match path.contains('%') {
        true => decode(path, separators)?,
        false => Cow::Borrowed(path),
    };
    // A dot segment needs `/.`; what has none of these is in normal form.
    let decoded = if decoded.contains("/.") { resolve_dots(decoded) } else { decoded };
    let normal = if decoded.contains("//") { Cow::Owned(merge_slashes(&decoded)) } else { decoded };
    if has_dots_with_parameters(&normal) { Err(PATH_AMBIGUOUS) } else { Ok(normal) }
}

/// `path` (in normal form) without the `;parameters` of its segments: what routes are matched on, because some
/// servers drop them before they choose. `None` if there are none.
pub(super) fn without_parameters(path: &str) -> Option<String> {
    memchr::memchr(b';', path.as_bytes()).is_some().then(|| {
        let mut out = String::with_capacity(path.len());
        for segment in path.split('/').skip(1) {
            out.push('/');
            out.push_str(segment.split_once(';').map_or(segment, |(name, _)| name));
        }
        merge_slashes(&out)
    })
}

/// Decodes unreserved characters and writes other triplets in upper case.
fn decode(path: &str, separators: EncodedSeparators) -> Result<Cow<'_, str>, Refusal> {
    let mut out: Option<String> = None;
    let mut rest = path;
    let mut kept = 0;
    let mut before = None;
    while let Some(at) = rest.find('%') {
        let (plain, triplet) = rest.split_at_checked(at).ok_or(PATH_ENCODING_INVALID)?;
        let digits = triplet.get(1..3).ok_or(PATH_ENCODING_INVALID)?;
        let byte = parse_hex(digits).ok_or(PATH_ENCODING_INVALID)?;
        let adjacent = if plain.is_empty() { before } else { None };
        if is_ambiguous(adjacent, byte, separators) {
            return Err(PATH_AMBIGUOUS);
        }
        before = Some(byte);
        let unreserved = is_unreserved(byte);
        // Copying starts at the first triplet that has to change.
        if out.is_none() && (unreserved || digits.bytes().any(|digit| digit.is_ascii_lowercase())) {
            let mut copy = String::with_capacity(path.len());
            copy.push_str(path.get(..kept).unwrap_or_default());
            out = Some(copy);
        }
        if let Some(out) = &mut out {
            out.push_str(plain);
            if unreserved {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
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

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether servers disagree about what the encoded `byte` after the encoded byte `before` means.
fn is_ambiguous(before: Option<u8>, byte: u8, separators: EncodedSeparators) -> bool {
    let separator = matches!(byte, b'/' | b'\\') && separators == EncodedSeparators::Refuse;
    // The starts of UTF-8 sequences that are longer than their character needs: `%C0%AF` is a slash to some.
    let overlong = matches!(
        (before, byte),
        (Some(0xc0 | 0xc1), 0x80..=0xbf) | (Some(0xe0), 0x80..=0x9f) | (Some(0xf0), 0x80..=0x8f)
    );
    separator || overlong || byte.is_ascii_control()
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

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

/// Whether a segment is `.;…` or `..;…`: a name to one server, a dot segment to the next.
fn has_dots_with_parameters(path: &str) -> bool {
    memchr::memchr(b';', path.as_bytes()).is_some()
        && path.contains("/.")
        && path.split('/').any(|segment| matches!(segment.split_once(';'), Some(("." | "..", _))))
}
