//! The head of an HTTP/1 endpoint's answer: whether it is valid, where its body ends, and what of it goes on. The one
//! set of rules for all lanes, which differ only in what they write.
//!
//! What is ambiguous is no answer (RFC 9112 §6.3): lengths that differ, codings other than one `chunked`. What is odd
//! and has one meaning is read, and what goes on is canonical.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response};

use super::body::{Body, Chunk};
use crate::algorithm::decimal::decimal;
use crate::proxy::io::buffer::Buffer;

/// The largest head that is passed on, in bytes.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Informational answers passed on at most for one request.
pub(crate) const MAX_INFORMATIONAL: u8 = 10;

/// Fields that are read without ado; a head with more is odd.
const USUAL_FIELDS: usize = 128;

/// Fields that are read at most: as many as the engine reads, without those that a lane adds.
const MAX_FIELDS: usize = 250;

/// A valid head.
pub(crate) struct Head<'b, 'f> {
    /// From 100 on; 101 only in HTTP/1.1.
    pub(crate) status: u16,
    pub(crate) reason: &'b str,
    pub(crate) fields: &'f [Header<'b>],
    pub(crate) found: Found<'b>,
    http11: bool,
}

/// What the bytes that arrived are.
#[derive(Debug)]
pub(crate) enum Read<T> {
    /// The beginning of a head.
    Partial,
    /// No valid head.
    Invalid,
    /// What was made of a head.
    Head(T),
}

/// Reads a head; `take` makes something of it and of its length in bytes.
pub(crate) fn read<T>(bytes: &[u8], take: impl FnOnce(&Head<'_, '_>, usize) -> T) -> Read<T> {
    let mut room = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut response = Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut room) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => taken(&response, length, take),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Read::Partial,
        Err(_) if bytes.len() <= MAX_HEAD => read_odd(bytes, take),
        _ => Read::Invalid,
    }
}

/// As [`read`], for heads that no server should write and everybody forgives: a space after a field's name, a value
/// that goes on in the next line (RFC 9112 §5.2), very many fields.
#[cold]
fn read_odd<T>(bytes: &[u8], take: impl FnOnce(&Head<'_, '_>, usize) -> T) -> Read<T> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = Response::new(&mut []);
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut room) {
        Ok(httparse::Status::Complete(length)) => {
            let unfolded: Vec<Vec<u8>> = response.headers.iter().map(|field| unfold(field.value)).collect();
            for (field, value) in response.headers.iter_mut().zip(&unfolded) {
                field.value = value;
            }
            taken(&response, length, take)
        }
        Ok(httparse::Status::Partial) => Read::Partial,
        Err(_) => Read::Invalid,
    }
}

/// A value in one line.
fn unfold(value: &[u8]) -> Vec<u8> {
    value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

fn taken<T>(response: &Response<'_, '_>, length: usize, take: impl FnOnce(&Head<'_, '_>, usize) -> T) -> Read<T> {
    Head::of(response).map_or(Read::Invalid, |head| Read::Head(take(&head, length)))
}

impl<'b, 'f> Head<'b, 'f> {
    /// None if it is not valid.
    #[inline]
    fn of(response: &'f Response<'_, 'b>) -> Option<Self> {
        let (status, http11) = (response.code?, response.version? == 1);
        if status < 100 || (status == SWITCHING && !http11) {
            return None;
        }
        let fields = &*response.headers;
        let mut found = Found::among(fields)?;
        found.bare = status < 200 || status == 204;
        Some(Self { status, reason: response.reason.unwrap_or_default(), fields, found, http11 })
    }

    /// The protocols that it names in `Upgrade`, field by field.
    pub(crate) fn upgrades(&self) -> impl Iterator<Item = &'b [u8]> {
        let fields = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("upgrade"));
        fields.map(|field| field.value)
    }

    /// The body that follows; `head_only` if the request was `HEAD`.
    #[inline]
    pub(crate) fn body(&self, head_only: bool) -> Body {
        if head_only || matches!(self.status, 204 | 304) {
            Body::Done
        } else if self.found.chunked {
            Body::Chunked(Chunk::Size)
        } else {
            self.found.length.map_or(Body::UntilClose, Body::of_length)
        }
    }

    /// Whether the endpoint ends its connection after this answer, or might, or is not to be believed about it.
    #[inline]
    pub(crate) fn closes(&self, body: Body) -> bool {
        let unsure = self.found.chunked && self.found.length.is_some();
        !self.http11 || self.found.close || unsure || body == Body::UntilClose
    }
}

/// The status with which an endpoint takes an upgrade.
pub(crate) const SWITCHING: u16 = 101;

/// Writes a status line.
#[inline]
pub(crate) fn write_status(status: u16, reason: &str, out: &mut Buffer) {
    let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or_default();
    let code = [digit(status / 100), digit(status / 10), digit(status), b' '];
    out.push_all([b"HTTP/1.1 ", &code, reason.as_bytes(), b"\r\n"]);
}

/// What the fields of a head say about the message and the connection.
#[derive(Default)]
pub(crate) struct Found<'b> {
    length: Option<u64>,
    /// The length is said more than once, or not plainly: it is written anew.
    odd_length: bool,
    /// Neither length nor coding may be said with this status (RFC 9110 §8.6, RFC 9112 §6.1).
    bare: bool,
    chunked: bool,
    close: bool,
    pub(crate) date: bool,
    pub(crate) content_type: Option<&'b [u8]>,
    pub(crate) grpc_status: Option<&'b [u8]>,
    /// A `Connection` value that names fields, and another one.
    nominated: Option<&'b [u8]>,
    nominated_too: Option<&'b [u8]>,
}

impl<'b> Found<'b> {
    /// None if the framing is not valid.
    #[inline]
    fn among(fields: &[Header<'b>]) -> Option<Self> {
        let mut found = Self::default();
        for field in fields {
            // Most are written in lower case, which is the cheaper comparison.
            let is = |word: &str| field.name == word || field.name.eq_ignore_ascii_case(word);
            match field.name.len() {
                4 if is("date") => found.date = true,
                10 if is("connection") => {
                    for token in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        if token.eq_ignore_ascii_case(b"close") {
                            found.close = true;
                        } else if !token.eq_ignore_ascii_case(b"keep-alive") && !token.is_empty() {
                            found.nominate(field.value)?;
                        }
                    }
                }
                11 if is("grpc-status") => _ = found.grpc_status.get_or_insert(field.value),
                12 if is("content-type") => _ = found.content_type.get_or_insert(field.value),
                14 if is("content-length") => {
                    let plain = is_plain(field.value);
                    let length = if plain { decimal(field.value) } else { length(field.value) }?;
                    found.odd_length |= found.length.is_some() || !plain;
                    if found.length.replace(length).is_some_and(|other| other != length) {
                        return None;
                    }
                }
                17 if is("transfer-encoding") => {
                    if found.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return None;
                    }
                    found.chunked = true;
                }
                _ => {}
            }
        }
        Some(found)
    }

    /// Notes a `Connection` value that names fields; none if there are too many to keep.
    fn nominate(&mut self, value: &'b [u8]) -> Option<()> {
        match (self.nominated, self.nominated_too) {
            (None, _) => self.nominated = Some(value),
            (Some(first), _) if first == value => {}
            (_, None) => self.nominated_too = Some(value),
            (_, Some(second)) => return (second == value).then_some(()),
        }
        Some(())
    }

    /// The length, where the endpoint's own field does not go on.
    #[inline]
    pub(crate) fn restated_length(&self) -> Option<u64> {
        self.length.filter(|_| self.odd_length && !self.chunked && !self.bare)
    }

    /// Whether the length is not passed on as the endpoint wrote it.
    #[inline]
    pub(crate) fn drops_length(&self) -> bool {
        self.chunked || self.odd_length || self.bare
    }

    /// Whether the endpoint's `Connection` names the field.
    #[inline]
    pub(crate) fn nominates(&self, name: &str) -> bool {
        let named = |names: &[u8]| {
            names.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        };
        self.nominated.is_some_and(named) || self.nominated_too.is_some_and(named)
    }
}

/// The length in an endpoint's `Content-Length`, by whatever protocol; a list of equal ones counts as one (RFC 9110 §8.6).
pub(crate) fn length(value: &[u8]) -> Option<u64> {
    let mut all = value.split(|byte| *byte == b',').map(|one| decimal(one.trim_ascii()));
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

/// Whether a length is one number without leading zeros.
#[inline]
fn is_plain(value: &[u8]) -> bool {
    matches!(value, [b'0'] | [b'1'..=b'9', ..]) && value.iter().all(u8::is_ascii_digit)
}
