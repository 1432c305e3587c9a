//! A request's head on this lane: the fields of its header block, as the traffic stages see them.

use std::net::IpAddr;

use http::uri::Scheme;

use crate::proxy::codec::h2::requests::MALFORMED;
use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::codec::hpack::{FieldLine, FieldLines, Flaw, Pseudo};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::admit::RequestHead;
use crate::proxy::request::kind;
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
    grpc: bool,
    client: Option<IpAddr>,
}

impl<'f> H2Head<'f> {
    /// The head of a request; `ends`: nothing comes after it.
    pub(super) fn new(fields: &'f FieldLines, ends: bool) -> Self {
        let text = |which| fields.pseudo(which).and_then(|value| str::from_utf8(value).ok());
        let method = match fields.pseudo(Pseudo::Method) {
            // The usual ones are known to be text.
            Some(b"GET") => "GET",
            Some(b"POST") => "POST",
            _ => text(Pseudo::Method).unwrap_or_default(),
        };
        let protocol = text(Pseudo::Protocol);
        let (mut crumbs, mut declares, mut content_type) = (0, false, None);
        for field in fields.iter() {
            match field.name.len() {
                6 => crumbs += u32::from(field.name == COOKIE),
                12 if field.name == "content-type" => _ = content_type.get_or_insert(field.value),
                14 => declares |= field.name == "content-length" && field.value != b"0",
                _ => {}
            }
        }
        let malformed = malformed(fields, method, protocol.is_some(), ends && declares);
        // A tunnel is opened by what is a GET in HTTP/1.1 (RFC 8441 §5).
        let tunnel = protocol.filter(|_| malformed.is_none());
        Self {
            fields,
            method: if tunnel.is_some() { "GET" } else { method },
            path: fields.pseudo(Pseudo::Path).unwrap_or(b"/"),
            authority: fields.pseudo(Pseudo::Authority),
            cookies: (crumbs > 1).then(|| join_cookies(fields)),
            malformed,
            protocol: tunnel,
            grpc: kind::is_grpc(content_type),
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

    /// Whether it is a gRPC call.
    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
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
/// (RFC 9113 §8.2.3): before fields are counted, so that limits are those of HTTP/1.1.
fn join_cookies(fields: &FieldLines) -> Buffer {
    let crumbs = fields.iter().filter(|field| field.name == COOKIE).map(|field| field.value);
    let mut line = Buffer::default();
    line.push(b"cookie: ");
    for (at, crumb) in crumbs.filter(|crumb| !crumb.is_empty()).enumerate() {
        line.push_all([if at > 0 { b"; " } else { b"" }, crumb, b"", b""]);
    }
    line.push(b"\r\n");
    line
}

/// Why a head is no request, as far as only HTTP/2 knows it (RFC 9113 §8.1.1, §8.3.1, §8.5); what is wrong with it in any
/// version, validation finds. `bodiless`: it has no body and declares one.
fn malformed(fields: &FieldLines, method: &str, tunnel: bool, bodiless: bool) -> Option<Refusal> {
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
    bodiless.then_some(BAD_REQUEST)
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
        // Not looked for: it is no field of the client's.
        if name == MALFORMED {
            return self.malformed.map(|refusal| refusal.cause.as_bytes());
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

/// The fields of a header block.
#[cfg(test)]
pub(super) fn fields(list: &[(&str, &str)]) -> FieldLines {
    use crate::proxy::codec::hpack::{Decoder, write_plain};
    let (mut block, mut fields) = (Vec::new(), FieldLines::new());
    list.iter().for_each(|(name, value)| write_plain(name.as_bytes(), value.as_bytes(), &mut block));
    fields.clear(1024);
    Decoder::new().decode(&block, &mut fields).unwrap();
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::validate::refusal::FIELDS_TOO_LARGE;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "shop.test")];

    fn refused(list: &[(&str, &str)], ends: bool) -> Option<&'static str> {
        H2Head::new(&fields(list), ends).malformed.map(|refusal| refusal.cause)
    }

    #[test]
    fn what_is_no_request_has_its_cause() {
        assert_eq!(refused(&GET, true), None);
        let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
        let without = |name| GET.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
        let connect = [(":method", "CONNECT"), (":authority", "shop.test:443")];
        let websocket = |protocol| [&[(":protocol", protocol), (":method", "CONNECT")], &GET[1..]].concat();
        for (list, cause) in [
            (without(":method"), BAD_REQUEST.cause),
            (without(":scheme"), BAD_REQUEST.cause),
            (without(":path"), BAD_REQUEST.cause),
            (with(&[("a b", "1")]), FIELD_NAME_INVALID.cause),
            (with(&[("a", " b")]), FIELD_VALUE_INVALID.cause),
            (with(&[("te", "gzip")]), CONNECTION_SPECIFIC.cause),
            (with(&[("upgrade", "h2c")]), CONNECTION_SPECIFIC.cause),
            (with(&[("content-length", "1")]), BAD_REQUEST.cause),
            (with(&[(":status", "200")]), BAD_REQUEST.cause),
            (connect.to_vec(), METHOD_UNSUPPORTED.cause),
            (connect[..1].to_vec(), BAD_REQUEST.cause),
            (websocket(""), BAD_REQUEST.cause),
            ([&[(":protocol", "websocket")], &GET[..]].concat(), BAD_REQUEST.cause),
        ] {
            assert_eq!(refused(&list, true), Some(cause), "{list:?}");
        }
        assert_eq!(refused(&with(&[("content-length", "1")]), false), None);
        assert_eq!(refused(&websocket("websocket"), false), None);
        let long = "x".repeat(1100);
        assert_eq!(refused(&[&GET[..], &[("a", &long)]].concat(), true), Some(FIELDS_TOO_LARGE.cause));
    }

    #[test]
    fn a_request_for_a_tunnel_is_a_get_for_all_who_decide() {
        let fields = fields(&[&[(":protocol", "websocket"), (":method", "CONNECT")], &GET[1..]].concat());
        let head = H2Head::new(&fields, false);
        assert_eq!((head.method(), head.protocol()), ("GET", Some("websocket")));
    }

    #[test]
    fn cookies_are_one_field() {
        let crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", ""), ("cookie", "b=2")];
        let fields = fields(&[&GET[..], &crumbs].concat());
        let head = H2Head::new(&fields, true);
        assert_eq!(head.header("cookie"), Some(&b"a=1; b=2"[..]));
        let mut seen = Vec::new();
        head.each(|field| seen.push(String::from_utf8(field.line.to_vec()).unwrap()));
        assert_eq!(seen, ["cookie: a=1; b=2\r\n", "x: y\r\n"]);
    }
}
