//! The header blocks of an HTTP/2 client: a malformed request is one to refuse (see [`crate::proxy::codec::h2::blocks`]).
//!
//! * In the place of a malformed request, or of one that the crate or the engine would answer by themselves, goes one
//!   that says so ([`MALFORMED`]), which admission refuses like any other, with an answer, a count and a line in the
//!   log. Who forges the field is refused.
//! * Characters in a target that a URI must encode are encoded, as for HTTP/1 (see [`target`]).
//! * Malformed trailers end their stream with an error.

use std::fmt::Write as _;

use http::uri::{Authority, Scheme};

use super::blocks::{Blocks, Instead, Next, Opening, PSEUDO, Rules};
use crate::algorithm::decimal::decimal;
use crate::proxy::codec::frame::{DEFAULT_MAX_FRAME, FrameHead, PREFACE};
use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::codec::hpack::{FieldLines, Flaw, Pseudo, write_plain};
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

/// Fields that a request may have: more than any configuration allows, and less than the h2 crate's map has room for.
const FIELDS: usize = 4096;

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
#[derive(Debug)]
struct Requests {
    newest: u32,
    /// How large a list of fields may be.
    list: usize,
}

impl Heads {
    /// Those of a connection whose requests may have header lists of so many bytes.
    pub(crate) fn new(header_bytes: u32) -> Self {
        let list = usize::try_from(header_bytes).unwrap_or(usize::MAX);
        Self {
            preface: PREFACE.len(),
            payload: 0,
            held: Vec::new(),
            blocks: Blocks::new(Requests { newest: 0, list }, list, DEFAULT_MAX_FRAME),
        }
    }

    /// Takes the next bytes; what goes on instead of them, if not they. Heads of frames come as a whole.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.held.is_empty() {
            return self.follow(bytes);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let whole = FrameHead::read(&held).map_or(0, |head| FrameHead::SIZE + head.length);
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
            let Some(head) = FrameHead::read(rest) else { break };
            let length = FrameHead::SIZE + head.length;
            let (instead, taken) = match self.blocks.next(head) {
                Next::Pass => {
                    self.payload = head.length;
                    at += FrameHead::SIZE;
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
    fn judge(&mut self, block: Opening, lines: &FieldLines) -> Option<Instead> {
        let trailers = block.stream <= self.newest;
        self.newest = self.newest.max(block.stream);
        // The h2 crate takes less than all of the limit.
        let over = lines.size() >= self.list || lines.len() > FIELDS;
        if trailers {
            // The crate refuses trailers that do not end their stream, and no others.
            let malformed = over || block.itself || are_malformed_trailers(lines);
            return malformed.then(|| Instead { block: Vec::new(), ends: false });
        }
        let malformed = match lines {
            _ if over => Some(FIELDS_TOO_LARGE),
            _ if block.itself => Some(BAD_REQUEST),
            lines => malformed(lines, block.ends),
        };
        let block_instead = match malformed.map_or_else(|| self.tidied(lines), Err) {
            Ok(tidied) => tidied?,
            Err(refusal) => marked(lines, self.list, refusal),
        };
        Some(Instead { block: block_instead, ends: block.ends })
    }
}

impl Requests {
    /// What is right as the engine can have it; none if it is that already.
    fn tidied(&self, lines: &FieldLines) -> Result<Option<Vec<u8>>, Refusal> {
        let path = lines.pseudo(Pseudo::Path).unwrap_or_default();
        let encoded = str::from_utf8(path).ok().and_then(target::encode);
        let room = self.list.saturating_sub(lines.size() + 1);
        if encoded.as_ref().is_some_and(|encoded| encoded.len().saturating_sub(path.len()) > room) {
            return Err(TARGET_TOO_LONG);
        }
        // The engine compares them byte by byte.
        let authority = lines.pseudo(Pseudo::Authority);
        let is_other = |host: &[u8]| authority.is_some_and(|authority| authority != host);
        let other_host = lines.iter().any(|field| field.name == "host" && is_other(field.value));
        if encoded.is_none() && !other_host {
            return Ok(None);
        }
        let mut block = Vec::with_capacity(lines.size());
        for (which, name) in PSEUDO {
            let encoded = encoded.as_ref().filter(|_| which == Pseudo::Path).map(|path| path.as_bytes());
            if let Some(value) = encoded.or(lines.pseudo(which)) {
                write_plain(name.as_bytes(), value, &mut block);
            }
        }
        for field in lines.iter() {
            let host = authority.filter(|_| field.name == "host");
            write_plain(field.name.as_bytes(), host.unwrap_or(field.value), &mut block);
        }
        Ok(Some(block))
    }
}

/// Whether trailers are malformed: they have no pseudo-header field and frame no body (RFC 9110 §6.5.1).
fn are_malformed_trailers(lines: &FieldLines) -> bool {
    lines.flaw().is_some() || lines.has_pseudo() || lines.iter().any(|field| field.name == "content-length")
}

/// Why a request is malformed, if it is (RFC 9113 §8.1.1).
fn malformed(lines: &FieldLines, ends: bool) -> Option<Refusal> {
    match lines.flaw() {
        Some(Flaw::Name) => return Some(FIELD_NAME_INVALID),
        Some(Flaw::Value) => return Some(FIELD_VALUE_INVALID),
        Some(Flaw::ConnectionSpecific) => return Some(CONNECTION_SPECIFIC),
        Some(Flaw::UnknownPseudo | Flaw::RepeatedPseudo | Flaw::LatePseudo) => return Some(BAD_REQUEST),
        // The rules of pseudo-header fields say more.
        Some(Flaw::PseudoValue(_)) | None => {}
    }
    if let Some(refusal) = wrong_length(lines, ends) {
        return Some(refusal);
    }
    let mut hosts = lines.iter().filter(|field| field.name == "host").map(|field| field.value);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some(HOST_REPEATED);
    }
    // The engine has answers of its own to these, which nobody would count.
    wrong_pseudo(lines).or(match (host, lines.pseudo(Pseudo::Authority)) {
        (None, None) => Some(HOST_MISSING),
        (Some(host), _) if host.contains(&b'@') => Some(HOST_INVALID),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Some(HOST_MISMATCH),
        _ => None,
    })
}

/// What is wrong with the length that a request says its body has.
fn wrong_length(lines: &FieldLines, ends: bool) -> Option<Refusal> {
    let mut lengths = lines.iter().filter(|field| field.name == "content-length");
    let first = lengths.next()?;
    match decimal(first.value) {
        None => Some(CONTENT_LENGTH_INVALID),
        Some(_) if lengths.next().is_some() => Some(CONTENT_LENGTH_REPEATED),
        Some(length) if ends && length > 0 => Some(BAD_REQUEST),
        Some(_) => None,
    }
}

/// What is wrong with a request's pseudo-header fields (RFC 9113 §8.3.1, §8.5).
fn wrong_pseudo(lines: &FieldLines) -> Option<Refusal> {
    let [method, scheme, path, authority] = PSEUDO.map(|(which, _)| lines.pseudo(which));
    if lines.pseudo(Pseudo::Status).or(lines.pseudo(Pseudo::Protocol)).is_some() {
        return Some(BAD_REQUEST);
    }
    let Some(method) = method else { return Some(BAD_REQUEST) };
    if !is_token(method) {
        return Some(METHOD_INVALID);
    }
    if authority.is_some_and(|authority| !is_authority(authority)) {
        return Some(HOST_INVALID);
    }
    if method == b"CONNECT" {
        // The engine has an answer of its own to one that is well formed.
        let malformed = scheme.is_some() || path.is_some() || authority.is_none();
        return Some(if malformed { BAD_REQUEST } else { METHOD_UNSUPPORTED });
    }
    let (Some(scheme), Some(path)) = (scheme, path) else { return Some(BAD_REQUEST) };
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

/// Whether these are a host and a port, without the user that URIs may have there (RFC 9113 §8.3.1).
fn is_authority(text: &[u8]) -> bool {
    Authority::try_from(text).is_ok() && !text.contains(&b'@')
}

/// A request that stands for a malformed one: what can be said of it within the limit, and why it is to be refused.
fn marked(lines: &FieldLines, list: usize, refusal: Refusal) -> Vec<u8> {
    let method = lines.pseudo(Pseudo::Method);
    let method = method.filter(|name| name.len() <= METHOD && is_token(name) && *name != b"CONNECT");
    let authority = lines.pseudo(Pseudo::Authority).filter(|name| name.len() <= HOST && is_authority(name));
    let told = TOLD.min(list / 4);
    let mut path = String::from("/");
    for byte in lines.pseudo(Pseudo::Path).unwrap_or_default().iter().skip_while(|byte| **byte == b'/') {
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
    let mut block = Vec::new();
    for (name, value) in [
        (":method", method.unwrap_or(b"GET")),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", authority.unwrap_or(b"-")),
        (MALFORMED, refusal.cause.as_bytes()),
    ] {
        write_plain(name.as_bytes(), value, &mut block);
    }
    block
}

#[cfg(test)]
mod tests;
