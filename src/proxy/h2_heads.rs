//! The header blocks of an HTTP/2 client, before the engine reads them: a malformed one costs its stream only.
//!
//! A malformed request is an error of its stream (RFC 9113 §8.1.1). The h2 crate makes typed fields of a block while it
//! follows HPACK's table, loses the table at the first name, value or method that is none, and so has to end the
//! connection with all that is in flight on it. So each block is read here first:
//!
//! * a sound one goes on byte by byte as it came;
//! * from the first one on that the crate cannot have, all are written anew without HPACK's tables, because the crate's
//!   is no longer the client's;
//! * in the place of a malformed request goes one that says so ([`MALFORMED`]), which admission refuses like any other,
//!   with an answer, a count and a line in the log. Who forges the field is refused;
//! * characters in a target that a URI must encode are encoded, as for HTTP/1 (see [`super::intake`]);
//! * malformed trailers end their stream with an error.
//!
//! A block that cannot be read at all ends the connection, as RFC 7541 wants. That is the crate's to find, and so is
//! what a block beyond our measure comes to.
//!
//! Invariant: no byte of a header block is handed on before its end, and at most [`BLOCK`] of them and what is read at
//! once are held.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use http::uri::{Authority, Scheme};

use super::failure::BAD_REQUEST;
use super::h2_frames::{CONTINUATION, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, Head, LARGEST, PREFACE_BYTES};
use super::hpack::block::{self, Decoder, Field};
use super::intake;
use crate::traffic::Refusal;
use crate::traffic::guard::is_token;
use crate::traffic::guard::refusal::{
    CONNECTION_SPECIFIC, CONTENT_LENGTH_INVALID, CONTENT_LENGTH_REPEATED, FIELD_NAME_INVALID, FIELD_VALUE_INVALID,
    HOST_INVALID, HOST_MISMATCH, HOST_MISSING, HOST_REPEATED, METHOD_INVALID, TARGET_INVALID, TARGET_TOO_LONG,
};

/// The field of a request that was malformed; its value is the cause.
pub(super) const MALFORMED: &str = "weir-malformed";

/// What a malformed request can be refused for.
const REFUSALS: [Refusal; 13] = [
    BAD_REQUEST,
    CONNECTION_SPECIFIC,
    CONTENT_LENGTH_INVALID,
    CONTENT_LENGTH_REPEATED,
    FIELD_NAME_INVALID,
    FIELD_VALUE_INVALID,
    HOST_INVALID,
    HOST_MISMATCH,
    HOST_MISSING,
    HOST_REPEATED,
    METHOD_INVALID,
    TARGET_INVALID,
    TARGET_TOO_LONG,
];

/// The refusal of a request whose [`MALFORMED`] says `cause`.
pub(super) fn refusal(cause: &[u8]) -> Refusal {
    REFUSALS.into_iter().find(|refusal| refusal.cause.as_bytes() == cause).unwrap_or(BAD_REQUEST)
}

/// The longest block that is held, with its frames' heads: twice the default of `limits.header_bytes`. One beyond it is
/// the crate's to judge.
const BLOCK: usize = 64 * 1024;

/// The longest target that a URI holds.
const TARGET: usize = u16::MAX as usize - 1;

/// How much of a malformed target the log is told.
const TOLD: usize = 1024;

const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Follows the header blocks of a connection from its first byte.
#[derive(Debug)]
pub(super) struct Heads {
    /// Bytes of the preface still to come.
    preface: usize,
    /// Of the frame under way, which is none of a block.
    payload: usize,
    /// The frames of the block under way, as they came.
    held: Vec<u8>,
    /// How many bytes of it are complete frames.
    walked: usize,
    newest: u32,
    decoder: Decoder,
    /// The crate's table is not the client's any more.
    rewrites: bool,
    /// The decoder's table is not the client's any more: all goes on as it comes.
    lost: bool,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            preface: PREFACE_BYTES,
            payload: 0,
            held: Vec::new(),
            walked: 0,
            newest: 0,
            decoder: Decoder::default(),
            rewrites: false,
            lost: false,
        }
    }
}

/// How far a block's frames go.
enum Walk {
    Part,
    /// So many bytes.
    Whole(usize),
    /// No block: too long, or other frames between its own.
    None,
}

impl Heads {
    /// Takes the next bytes; what goes on instead of them, if not they. Heads of frames come as a whole.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.held.is_empty() {
            return self.follow(bytes);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        if matches!(self.walk(&held), Walk::Part) {
            self.held = held;
            return Some(Vec::new());
        }
        Some(self.follow(&held).unwrap_or(held))
    }

    fn follow(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        // Bytes that `out` has or has something else for, and those that were looked at.
        let (mut done, mut at) = (0, 0);
        while at < bytes.len() && !self.lost {
            let rest = bytes.get(at..).unwrap_or_default();
            let under_way = if self.preface > 0 { &mut self.preface } else { &mut self.payload };
            if *under_way > 0 {
                let n = rest.len().min(*under_way);
                *under_way -= n;
                at += n;
                continue;
            }
            let Some(head) = rest.first_chunk().map(Head::read) else { break };
            if head.kind != HEADERS {
                self.payload = head.length;
                at += FRAME_HEAD;
                continue;
            }
            let before = |out: Option<Vec<u8>>| {
                let mut out = out.unwrap_or_default();
                out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
                out
            };
            let (length, instead) = match self.walk(rest) {
                Walk::Part => {
                    self.held = rest.to_vec();
                    return Some(before(out));
                }
                Walk::Whole(length) => (length, self.judge(head, rest.get(..length).unwrap_or_default())),
                Walk::None => (0, self.give_up(head)),
            };
            self.walked = 0;
            if let Some(instead) = instead {
                let mut with = before(out);
                with.extend_from_slice(&instead);
                out = Some(with);
                done = at + length;
            }
            at += length;
        }
        out.map(|mut out| {
            out.extend_from_slice(bytes.get(done..).unwrap_or_default());
            out
        })
    }

    /// Looks for the end of the block whose frames begin here, from where it was looked for before.
    fn walk(&mut self, frames: &[u8]) -> Walk {
        let Some(first) = frames.first_chunk().map(Head::read) else { return Walk::Part };
        loop {
            if self.walked > BLOCK {
                return Walk::None;
            }
            let Some(head) = frames.get(self.walked..).and_then(|rest| rest.first_chunk()).map(Head::read) else {
                return Walk::Part;
            };
            let continues = head.kind == CONTINUATION && head.stream == first.stream;
            if (self.walked > 0 && !continues) || head.length > LARGEST {
                return Walk::None;
            }
            let end = self.walked + FRAME_HEAD + head.length;
            if frames.len() < end {
                return Walk::Part;
            }
            if head.flags & END_HEADERS != 0 {
                return Walk::Whole(end);
            }
            self.walked = end;
        }
    }

    /// What goes on instead of a block that cannot be read: the crate ends the connection for it, and must not take it
    /// for another one.
    fn give_up(&mut self, head: Head) -> Option<Vec<u8>> {
        self.lost = true;
        // No field has the index 0.
        self.rewrites.then(|| frames(head.stream, END_STREAM, &[0x80]))
    }

    /// What goes on instead of a block, of which these are the frames.
    fn judge(&mut self, head: Head, block: &[u8]) -> Option<Vec<u8>> {
        let Some((fragment, itself)) = fragment(head, block) else { return self.give_up(head) };
        let Ok(mut fields) = self.decoder.decode(&fragment) else { return self.give_up(head) };
        let trailers = head.stream <= self.newest;
        self.newest = self.newest.max(head.stream);
        let mut ends = head.flags & END_STREAM;
        let malformed = if trailers { malformed_trailers(&fields) } else { malformed(&fields, ends != 0) };
        let malformed = malformed.or(itself.then_some(BAD_REQUEST));
        let mut changed = malformed.is_some();
        match malformed {
            // The crate refuses trailers that do not end their stream, and no others.
            Some(_) if trailers => {
                ends = 0;
                fields.clear();
            }
            Some(refusal) => fields = marked(&fields, refusal),
            None => {
                for (name, value) in &mut fields {
                    if !trailers
                        && *name == ":path"
                        && let Some(encoded) = str::from_utf8(value).ok().and_then(intake::encode)
                    {
                        *value = encoded.into();
                        changed = true;
                    }
                }
            }
        }
        self.rewrites |= changed;
        self.rewrites.then(|| {
            let mut block = Vec::with_capacity(fragment.len() * 2);
            for (name, value) in &fields {
                block::write(name, value, &mut block);
            }
            frames(head.stream, ends, &block)
        })
    }
}

/// The header block in its frames, and whether its stream depends on itself; none if the frames are no such.
fn fragment(head: Head, frames: &[u8]) -> Option<(Cow<'_, [u8]>, bool)> {
    let (mut first, mut next) = frames.get(FRAME_HEAD..)?.split_at_checked(head.length)?;
    if head.flags & PADDED != 0 {
        let (padding, rest) = first.split_first()?;
        first = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    let mut itself = false;
    if head.flags & PRIORITY != 0 {
        let (on, rest) = first.split_first_chunk::<4>()?;
        itself = u32::from_be_bytes(*on) & !(1 << 31) == head.stream;
        first = rest.get(1..)?;
    }
    let mut fragment = Cow::Borrowed(first);
    while let Some(head) = next.first_chunk().map(Head::read) {
        let (payload, after) = next.get(FRAME_HEAD..)?.split_at_checked(head.length)?;
        fragment.to_mut().extend_from_slice(payload);
        next = after;
    }
    Some((fragment, itself))
}

/// A block as frames.
fn frames(stream: u32, ends: u8, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + FRAME_HEAD);
    let (mut kind, mut flags, mut rest) = (HEADERS, ends, block);
    loop {
        let (piece, after) = rest.split_at_checked(LARGEST).unwrap_or((rest, &[]));
        let last = if after.is_empty() { END_HEADERS } else { 0 };
        let [_, a, b, c] = u32::try_from(piece.len()).unwrap_or_default().to_be_bytes();
        out.extend_from_slice(&[a, b, c, kind, flags | last]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(piece);
        if after.is_empty() {
            return out;
        }
        (kind, flags, rest) = (CONTINUATION, 0, after);
    }
}

/// What is wrong with a field that is no pseudo-header field, in requests and trailers (RFC 9113 §8.2).
fn wrong(name: &[u8], value: &[u8]) -> Option<Refusal> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Some(FIELD_NAME_INVALID);
    }
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7F) {
        return Some(FIELD_VALUE_INVALID);
    }
    let specific = match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => true,
        b"te" => value != b"trailers",
        _ => false,
    };
    specific.then_some(CONNECTION_SPECIFIC)
}

fn malformed_trailers(fields: &[Field]) -> Option<Refusal> {
    fields.iter().find_map(|(name, value)| match &**name {
        b"content-length" => Some(BAD_REQUEST),
        name => wrong(name, value),
    })
}

/// The pseudo-header fields of a request.
#[derive(Default)]
struct Pseudo<'f> {
    method: Option<&'f [u8]>,
    scheme: Option<&'f [u8]>,
    path: Option<&'f [u8]>,
    authority: Option<&'f [u8]>,
}

impl<'f> Pseudo<'f> {
    fn place(&mut self, name: &[u8]) -> Option<&mut Option<&'f [u8]>> {
        Some(match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            _ => return None,
        })
    }

    /// What is wrong with them (RFC 9113 §8.3.1, §8.5).
    fn wrong(&self) -> Option<Refusal> {
        let Some(method) = self.method else { return Some(BAD_REQUEST) };
        if !is_token(method) {
            return Some(METHOD_INVALID);
        }
        if self.authority.is_some_and(|authority| !is_authority(authority)) {
            return Some(HOST_INVALID);
        }
        if method == b"CONNECT" {
            return (self.scheme.is_some() || self.path.is_some()).then_some(BAD_REQUEST);
        }
        let (Some(scheme), Some(path)) = (self.scheme, self.path) else { return Some(BAD_REQUEST) };
        if Scheme::try_from(scheme).is_err() {
            return Some(BAD_REQUEST);
        }
        // A fragment would be cut off in silence.
        let is_target = |byte: &u8| *byte > b' ' && *byte != 0x7F && *byte != b'#';
        let begins = path.starts_with(b"/") || path == b"*";
        match path {
            _ if path.len() > TARGET => Some(TARGET_TOO_LONG),
            _ if !begins || !path.iter().all(is_target) || str::from_utf8(path).is_err() => Some(TARGET_INVALID),
            _ => None,
        }
    }
}

/// Whether these are a host and a port, without the user that URIs may have there (RFC 9113 §8.3.1).
fn is_authority(text: &[u8]) -> bool {
    Authority::try_from(text).is_ok() && !text.contains(&b'@')
}

/// Why a request is malformed, if it is (RFC 9113 §8.1.1).
fn malformed(fields: &[Field], ends: bool) -> Option<Refusal> {
    let mut pseudo = Pseudo::default();
    let mut regular = false;
    let mut host = None;
    let mut length: Option<u64> = None;
    for (name, value) in fields {
        if name.starts_with(b":") {
            // One that is unknown or of other messages, one that comes twice or late.
            match pseudo.place(name) {
                Some(place) if place.is_none() && !regular => *place = Some(value),
                _ => return Some(BAD_REQUEST),
            }
            continue;
        }
        regular = true;
        if let Some(refusal) = wrong(name, value) {
            return Some(refusal);
        }
        if name == "host" && host.replace(value).is_some() {
            return Some(HOST_REPEATED);
        }
        if name == "content-length" {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let Some(number) = str::from_utf8(value).ok().filter(|_| digits).and_then(|value| value.parse().ok())
            else {
                return Some(CONTENT_LENGTH_INVALID);
            };
            match length.replace(number) {
                Some(_) => return Some(CONTENT_LENGTH_REPEATED),
                None if ends && number > 0 => return Some(BAD_REQUEST),
                None => {}
            }
        }
    }
    // The engine has answers of its own to these, which nobody would count.
    pseudo.wrong().or(match (host, pseudo.authority) {
        (None, None) => Some(HOST_MISSING),
        (Some(host), _) if host.contains(&b'@') => Some(HOST_INVALID),
        (Some(host), Some(authority)) if host != authority => Some(HOST_MISMATCH),
        _ => None,
    })
}

/// A request that stands for a malformed one: what can be said of it, and why it is to be refused.
fn marked(fields: &[Field], refusal: Refusal) -> Vec<Field> {
    let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let method = value(":method").filter(|method| is_token(method) && method != "CONNECT");
    let authority = value(":authority").filter(|authority| is_authority(authority));
    let mut path = String::from("/");
    for byte in value(":path").unwrap_or_default().iter().skip_while(|byte| **byte == b'/').take(TOLD) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'%' | b'?' | b'&' | b'=' => {
                path.push(char::from(*byte));
            }
            // Writing to a string cannot fail.
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    let known = |name: &'static str| Bytes::from_static(name.as_bytes());
    let mut fields = vec![
        (known(":method"), method.unwrap_or(known("GET"))),
        (known(":scheme"), known("http")),
        (known(":path"), path.into()),
    ];
    fields.push((known(":authority"), authority.unwrap_or(known("-"))));
    fields.push((known(MALFORMED), known(refusal.cause)));
    fields
}

#[cfg(test)]
mod tests;
