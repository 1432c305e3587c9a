//! A request's head on this lane: the fields of its header block, as the traffic stages see them.

use std::net::IpAddr;

use http::uri::Scheme;

use crate::proxy::codec::h2::requests::MALFORMED;
use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::codec::hpack::{FieldLine, FieldLines, Flaw, Pseudo};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::admit::RequestHead;
use crate::traffic::validate::is_token;
use crate::traffic::validate::refusal::{
    CONNECTION_SPECIFIC, FIELD_NAME_INVALID, FIELD_VALUE_INVALID, FIELDS_TOO_LARGE, HOST_INVALID, METHOD_INVALID,
    METHOD_UNSUPPORTED, TARGET_INVALID,
};
use crate::traffic::{HttpVersion, Refusal, Request};

/// A request's head, borrowed from the fields that were decoded.
pub(super) struct H2Head<'f> {
    fields: &'f FieldLines,
    method: &'f str,
    path: &'f [u8],
    authority: Option<&'f [u8]>,
    /// All cookies in one, where they came in several fields.
    cookies: Option<Buffer>,
    /// Why it is no request.
    malformed: Option<Refusal>,
    /// The protocol of a tunnel that it asks for (RFC 8441 §4).
    protocol: Option<&'f str>,
    client: Option<IpAddr>,
}

impl<'f> H2Head<'f> {
    /// The head of a request; `ends`: nothing comes after it.
    pub(super) fn new(fields: &'f FieldLines, ends: bool) -> Self {
        let text = |which| fields.pseudo(which).and_then(|value| str::from_utf8(value).ok());
        let method = text(Pseudo::Method).unwrap_or_default();
        let protocol = text(Pseudo::Protocol);
        let malformed = malformed(fields, method, protocol.is_some(), ends);
        // A tunnel is opened by what is a GET in HTTP/1.1 (RFC 8441 §5).
        let tunnel = protocol.filter(|_| malformed.is_none());
        Self {
            fields,
            method: if tunnel.is_some() { "GET" } else { method },
            path: fields.pseudo(Pseudo::Path).unwrap_or(b"/"),
            authority: fields.pseudo(Pseudo::Authority),
            cookies: join_cookies(fields),
            malformed,
            protocol: tunnel,
            client: None,
        }
    }

    /// Whether it is no request, which costs its stream an error beside the answer (RFC 9113 §8.1.1).
    pub(super) fn is_malformed(&self) -> bool {
        self.malformed.is_some_and(|refusal| refusal != FIELDS_TOO_LARGE && refusal != METHOD_UNSUPPORTED)
    }

    /// The protocol of a tunnel that it asks for.
    pub(super) fn protocol(&self) -> Option<&'f str> {
        self.protocol
    }

    /// Its fields, with the cookies in one.
    #[inline]
    pub(super) fn each(&self, mut field: impl FnMut(FieldLine<'_>)) {
        let mut joined = self.cookies.as_ref();
        for line in self.fields.iter() {
            if self.cookies.is_some() && line.name == COOKIE {
                let Some(cookies) = joined.take() else { continue };
                let line = cookies.data();
                let value = line.get(COOKIE.len() + 2..line.len().saturating_sub(2)).unwrap_or_default();
                field(FieldLine { line, name: COOKIE, value, never_indexed: true });
            } else {
                field(line);
            }
        }
    }
}

const COOKIE: &str = "cookie";

/// Joins the cookies that a client sent as several fields, to compress them better, into the one field that HTTP/1.1 has
/// (RFC 9113 §8.2.3): before fields are counted, so that limits are those of HTTP/1.1. None if there are no two.
fn join_cookies(fields: &FieldLines) -> Option<Buffer> {
    let crumbs = || fields.iter().filter(|field| field.name == COOKIE).map(|field| field.value);
    crumbs().nth(1)?;
    let mut line = Buffer::default();
    line.push(b"cookie: ");
    for (at, crumb) in crumbs().filter(|crumb| !crumb.is_empty()).enumerate() {
        line.push_all([if at > 0 { b"; " } else { b"" }, crumb, b"", b""]);
    }
    line.push(b"\r\n");
    Some(line)
}

/// Why a head is no request, as far as only HTTP/2 knows it (RFC 9113 §8.1.1, §8.3.1, §8.5); what is wrong with it in any
/// version, validation finds.
fn malformed(fields: &FieldLines, method: &str, tunnel: bool, ends: bool) -> Option<Refusal> {
    if fields.overflows() {
        return Some(FIELDS_TOO_LARGE);
    }
    if let Some(flaw) = fields.flaw() {
        return Some(refusal(flaw));
    }
    let has = |which| fields.pseudo(which).is_some();
    if !has(Pseudo::Method) || has(Pseudo::Status) {
        return Some(BAD_REQUEST);
    }
    if !is_token(method.as_bytes()) {
        return Some(METHOD_INVALID);
    }
    if method == "CONNECT" && !tunnel {
        let malformed = has(Pseudo::Scheme) || has(Pseudo::Path) || !has(Pseudo::Authority);
        return Some(if malformed { BAD_REQUEST } else { METHOD_UNSUPPORTED });
    }
    let protocol = fields.pseudo(Pseudo::Protocol).unwrap_or_default();
    if tunnel && (method != "CONNECT" || !has(Pseudo::Authority) || !is_token(protocol)) {
        return Some(BAD_REQUEST);
    }
    let (Some(scheme), Some(path)) = (fields.pseudo(Pseudo::Scheme), fields.pseudo(Pseudo::Path)) else {
        return Some(BAD_REQUEST);
    };
    let is_scheme = || !scheme.is_empty() && Scheme::try_from(scheme).is_ok();
    if !matches!(scheme, b"http" | b"https") && !is_scheme() {
        return Some(BAD_REQUEST);
    }
    if path.is_empty() {
        return Some(TARGET_INVALID);
    }
    let declares = |field: FieldLine<'_>| field.name == "content-length" && field.value != b"0";
    (ends && fields.iter().any(declares)).then_some(BAD_REQUEST)
}

/// What a request with this flaw is answered with.
fn refusal(flaw: Flaw) -> Refusal {
    match flaw {
        Flaw::Name => FIELD_NAME_INVALID,
        Flaw::Value => FIELD_VALUE_INVALID,
        Flaw::ConnectionSpecific => CONNECTION_SPECIFIC,
        Flaw::PseudoValue(Pseudo::Method) => METHOD_INVALID,
        Flaw::PseudoValue(Pseudo::Authority) => HOST_INVALID,
        Flaw::PseudoValue(Pseudo::Path) => TARGET_INVALID,
        Flaw::UnknownPseudo | Flaw::RepeatedPseudo | Flaw::LatePseudo | Flaw::PseudoValue(_) => BAD_REQUEST,
    }
}

impl RequestHead for H2Head<'_> {
    #[inline]
    fn set_client(&mut self, client: Option<IpAddr>) {
        self.client = client;
    }
}

impl Request for H2Head<'_> {
    #[inline]
    fn version(&self) -> HttpVersion {
        HttpVersion::Http2
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &[u8] {
        self.path
    }

    fn authority(&self) -> Option<&[u8]> {
        self.authority
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        if let (Some(refusal), MALFORMED) = (self.malformed, name) {
            return Some(refusal.cause.as_bytes());
        }
        if let (Some(cookies), COOKIE) = (&self.cookies, name) {
            let line = cookies.data();
            return line.get(COOKIE.len() + 2..line.len().saturating_sub(2));
        }
        self.fields.iter().find(|field| field.name == name).map(|field| field.value)
    }

    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.each(|field| visit(field.name.as_bytes(), field.value));
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }
}
