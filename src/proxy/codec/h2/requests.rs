//! The header blocks of an HTTP/2 client: a malformed request is one to refuse (see [`crate::proxy::codec::h2::blocks`]).
//!
//! * In the place of a malformed request, or of one that the crate or the engine would answer by themselves, goes one
//!   that says so ([`MALFORMED`]), which admission refuses like any other, with an answer, a count and a line in the
//!   log. Who forges the field is refused.
//! * Characters in a target that a URI must encode are encoded, as for HTTP/1 (see [`target`]).
//! * Malformed trailers end their stream with an error.

use std::fmt::Write as _;

use bytes::Bytes;
use http::uri::{Authority, Scheme};

use super::blocks::{Blocks, Instead, Next, Opening, Rules};
use super::frames::{FRAME_HEAD, Head, LARGEST, PREFACE_BYTES};
use crate::algorithm::decimal::decimal;
use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::codec::hpack::block::{Field, List};
use crate::proxy::codec::target;
use crate::traffic::Refusal;
use crate::traffic::validate::is_token;
use crate::traffic::validate::refusal::{
    CONNECTION_SPECIFIC, CONTENT_LENGTH_INVALID, CONTENT_LENGTH_REPEATED, FIELD_NAME_INVALID, FIELD_VALUE_INVALID,
    FIELDS_TOO_LARGE, HOST_INVALID, HOST_MISMATCH, HOST_MISSING, HOST_REPEATED, METHOD_INVALID, METHOD_UNSUPPORTED,
    TARGET_INVALID, TARGET_TOO_LONG,
};

/// The field of a request that was malformed; its value is the cause.
pub(crate) const MALFORMED: &str = "weir-malformed";

/// What a request can be refused for here.
const REFUSALS: [Refusal; 15] = [
    BAD_REQUEST,
    CONNECTION_SPECIFIC,
    CONTENT_LENGTH_INVALID,
    CONTENT_LENGTH_REPEATED,
    FIELD_NAME_INVALID,
    FIELD_VALUE_INVALID,
    FIELDS_TOO_LARGE,
    HOST_INVALID,
    HOST_MISMATCH,
    HOST_MISSING,
    HOST_REPEATED,
    METHOD_INVALID,
    METHOD_UNSUPPORTED,
    TARGET_INVALID,
    TARGET_TOO_LONG,
];

/// The refusal of a request whose [`MALFORMED`] says `cause`.
pub(crate) fn refusal(cause: &[u8]) -> Refusal {
    REFUSALS.into_iter().find(|refusal| refusal.cause.as_bytes() == cause).unwrap_or(BAD_REQUEST)
}

/// The longest target that a URI holds.
const TARGET: usize = u16::MAX as usize - 1;

/// How much of a malformed target the log is told. With a method and a host of this size, and the rest, it is within the
/// least limit that a header list can have.
const TOLD: usize = 1024;
const METHOD: usize = 64;
const HOST: usize = 255;

/// Follows the header blocks of a client's connection from its first byte.
#[derive(Debug)]
pub(crate) struct Heads {
    /// Bytes of the preface still to come.
    preface: usize,
    /// Of the frame under way, which is none of a block.
    payload: usize,
    /// The beginning of a block's frame.
    held: Vec<u8>,
    blocks: Blocks<Requests>,
}

/// The rules of requests.
#[derive(Debug, Default)]
struct Requests {
    newest: u32,
}

impl Heads {
    /// Those of a connection whose requests may have header lists of so many bytes.
    pub(crate) fn new(header_bytes: u32) -> Self {
        let list = usize::try_from(header_bytes).unwrap_or(usize::MAX);
        Self {
            preface: PREFACE_BYTES,
            payload: 0,
            held: Vec::new(),
            blocks: Blocks::new(Requests::default(), list, LARGEST),
        }
    }

    /// Takes the next bytes; what goes on instead of them, if not they. Heads of frames come as a whole.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.held.is_empty() {
            return self.follow(bytes);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let whole = held.first_chunk().map(Head::read).map_or(0, |head| FRAME_HEAD + head.length);
        if held.len() < whole {
            self.held = held;
            return Some(Vec::new());
        }
        Some(self.follow(&held).unwrap_or(held))
    }

    fn follow(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        // Bytes that `out` has or has something else for, and those that were looked at.
        let (mut done, mut at) = (0, 0);
        while at < bytes.len() && !self.blocks.is_lost() {
            let rest = bytes.get(at..).unwrap_or_default();
            let under_way = if self.preface > 0 { &mut self.preface } else { &mut self.payload };
            if *under_way > 0 {
                let n = rest.len().min(*under_way);
                *under_way -= n;
                at += n;
                continue;
            }
            let Some(head) = rest.first_chunk().map(Head::read) else { break };
            let length = FRAME_HEAD + head.length;
            let (instead, taken) = match self.blocks.next(head) {
                Next::Pass => {
                    self.payload = head.length;
                    at += FRAME_HEAD;
                    continue;
                }
                Next::After(begun) => (Some(begun), 0),
                Next::Whole => match rest.get(..length) {
                    Some(frame) => (self.blocks.frame(head, frame), length),
                    None => {
                        self.held = rest.to_vec();
                        (Some(Vec::new()), rest.len())
                    }
                },
            };
            if let Some(instead) = instead {
                let out = out.get_or_insert_default();
                out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
                out.extend_from_slice(&instead);
                done = at + taken;
            }
            at += taken;
        }
        out.map(|mut out| {
            out.extend_from_slice(bytes.get(done..).unwrap_or_default());
            out
        })
    }
}

impl Rules for Requests {
    fn judge(&mut self, block: Opening, list: &mut List) -> Option<Instead> {
        let trailers = block.stream <= self.newest;
        self.newest = self.newest.max(block.stream);
        let malformed = match list.fields.as_slice() {
            _ if list.is_over() => Some(FIELDS_TOO_LARGE),
            _ if block.itself => Some(BAD_REQUEST),
            fields if trailers => malformed_trailers(fields),
            fields => malformed(fields, block.ends),
        };
        if trailers {
            // The crate refuses trailers that do not end their stream, and no others.
            return malformed.map(|_| Instead { fields: Vec::new(), ends: false });
        }
        match malformed.map_or_else(|| tidy(list), Err) {
            Ok(false) => None,
            Ok(true) => Some(Instead { fields: std::mem::take(&mut list.fields), ends: block.ends }),
            Err(refusal) => Some(Instead { fields: marked(list, refusal), ends: block.ends }),
        }
    }
}

/// Writes what is right as the engine can have it; whether something is new.
fn tidy(list: &mut List) -> Result<bool, Refusal> {
    let (mut changed, room) = (false, list.room());
    let mut authority = None;
    for (name, value) in &mut list.fields {
        match &**name {
            b":authority" => authority = Some(value.clone()),
            b":path" => {
                if let Some(encoded) = str::from_utf8(value).ok().and_then(target::encode) {
                    if encoded.len().saturating_sub(value.len()) > room {
                        return Err(TARGET_TOO_LONG);
                    }
                    *value = encoded.into();
                    changed = true;
                }
            }
            // The engine compares them byte by byte.
            b"host" => {
                if let Some(authority) = authority.take().filter(|authority| authority != value) {
                    *value = authority;
                    changed = true;
                }
            }
            _ => {}
        }
    }
    Ok(changed)
}

/// What is wrong with a field that is no pseudo-header field, in heads and trailers (RFC 9113 §8.2).
pub(crate) fn wrong(name: &[u8], value: &[u8]) -> Option<Refusal> {
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

/// Why trailers are malformed, if they are: they have no pseudo-header field and frame no body (RFC 9110 §6.5.1).
pub(crate) fn malformed_trailers(fields: &[Field]) -> Option<Refusal> {
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
            // The engine has an answer of its own to one that is well formed.
            let malformed = self.scheme.is_some() || self.path.is_some() || self.authority.is_none();
            return Some(if malformed { BAD_REQUEST } else { METHOD_UNSUPPORTED });
        }
        let (Some(scheme), Some(path)) = (self.scheme, self.path) else { return Some(BAD_REQUEST) };
        if scheme.is_empty() || Scheme::try_from(scheme).is_err() {
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
            let Some(number) = decimal(value) else { return Some(CONTENT_LENGTH_INVALID) };
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
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Some(HOST_MISMATCH),
        _ => None,
    })
}

/// A request that stands for a malformed one: what can be said of it within the limit, and why it is to be refused.
fn marked(list: &List, refusal: Refusal) -> Vec<Field> {
    let value = |wanted: &str| list.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let method = value(":method").filter(|name| name.len() <= METHOD && is_token(name) && name != "CONNECT");
    let authority = value(":authority").filter(|name| name.len() <= HOST && is_authority(name));
    let told = TOLD.min(list.limit() / 4);
    let mut path = String::from("/");
    for byte in value(":path").unwrap_or_default().iter().skip_while(|byte| **byte == b'/') {
        if path.len() >= told {
            break;
        }
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
    vec![
        (known(":method"), method.unwrap_or(known("GET"))),
        (known(":scheme"), known("http")),
        (known(":path"), path.into()),
        (known(":authority"), authority.unwrap_or(known("-"))),
        (known(MALFORMED), known(refusal.cause)),
    ]
}

#[cfg(test)]
mod tests;
