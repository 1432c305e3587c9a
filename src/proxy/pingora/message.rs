//! The rules for messages on the engine's heads: what the validation sees, what the endpoint and the client get.
//!
//! The engine takes hop-by-hop fields out of requests to HTTP/1 endpoints; all else is decided in
//! [`request`](crate::proxy::request), for every lane.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::Uri;
use http::header::{self, HeaderName, HeaderValue};
use pingora_core::protocols::http::server::Session as ServerSession;
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::drain::Kind;
use crate::proxy::request::admit::RequestHead;
use crate::proxy::request::headers::{AddFields, CameFields, HeaderAction, RequestRewrite};
use crate::proxy::request::response::ClientFields;
use crate::proxy::request::{headers, kind, local_response, response};
use crate::traffic::{HttpVersion, Refusal, Request};

/// A request head of the engine, as the traffic stages see it.
pub(crate) struct View<'a> {
    pub(crate) head: &'a RequestHeader,
    pub(crate) client: Option<IpAddr>,
    /// The client also sent a `Content-Length`, which the engine took out; see [`hides_length`].
    pub(crate) hidden_length: bool,
}

/// Whether the engine took a `Content-Length` out of this request because there is a `Transfer-Encoding` too.
///
/// RFC 9112 §6.3 allows that, but validation must see both: whoever sent them means two parsers to disagree.
pub(crate) fn hides_length(session: &ServerSession) -> bool {
    let Some(h1) = session.as_http1() else { return false };
    h1.req_header().headers.contains_key(header::TRANSFER_ENCODING)
        && h1.get_headers_raw_bytes().split(|&byte| byte == b'\n').skip(1).any(|line| {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"content-length")
        })
}

impl RequestHead for View<'_> {
    fn set_client(&mut self, client: Option<IpAddr>) {
        self.client = client;
    }
}

impl Request for View<'_> {
    fn version(&self) -> HttpVersion {
        version(self.head.version)
    }

    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn target(&self) -> &[u8] {
        if self.head.version == http::Version::HTTP_2 {
            self.head.uri.path_and_query().map_or(b"/", |target| target.as_str().as_bytes())
        } else {
            self.head.raw_path()
        }
    }

    fn authority(&self) -> Option<&[u8]> {
        if self.head.version == http::Version::HTTP_2 {
            self.head.uri.authority().map(|authority| authority.as_str().as_bytes())
        } else {
            None
        }
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        for (name, value) in &self.head.headers {
            visit(name.as_str().as_bytes(), value.as_bytes());
        }
        if self.hidden_length {
            visit(b"content-length", b"0");
        }
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }
}

/// The version of HTTP, as the traffic stages have it.
pub(crate) fn version(version: http::Version) -> HttpVersion {
    match version {
        http::Version::HTTP_2 => HttpVersion::Http2,
        http::Version::HTTP_11 => HttpVersion::Http11,
        _ => HttpVersion::Http10,
    }
}

/// Joins the cookies that an HTTP/2 client sent as several fields, to compress them better, into the one field that
/// HTTP/1.1 has (RFC 9113 §8.2.3): done before the fields are counted, so that limits are those of HTTP/1.1.
///
/// # Errors
/// None: what is joined of header values is one.
pub(crate) fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    if head.version != http::Version::HTTP_2 || head.headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let crumbs = head.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<&[u8]> = crumbs.filter(|crumb| !crumb.is_empty()).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    head.insert_header(header::COOKIE, joined.or_err(ErrorType::InvalidHTTPHeader, "the cookies are no value")?)
}

/// Says that there is no body where a method makes one expected (RFC 9110 §8.6). HTTP/2 says it by the end of the
/// stream; HTTP/1.1 has a field for it, and some endpoints answer 411 without.
///
/// # Errors
/// None.
pub(crate) fn declare_no_body(head: &mut RequestHeader) -> Result<()> {
    let expected = [http::Method::POST, http::Method::PUT, http::Method::PATCH].contains(&head.method);
    if expected && !head.headers.contains_key(header::CONTENT_LENGTH) {
        head.insert_header(header::CONTENT_LENGTH, "0")?;
    }
    Ok(())
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Rewrites a request's fields for the endpoint, without those that the engine took out.
///
/// # Errors
/// Only if a value is no header value, which what was validated always is.
pub(crate) fn to_origin(head: &mut RequestHeader, rewrite: &RequestRewrite<'_>) -> Result<()> {
    let mut came = CameFields::default();
    let mut dropped = Vec::new();
    let mut cookies: Option<Vec<Vec<u8>>> = None;
    for name in head.headers.keys() {
        match rewrite.action(name.as_str()) {
            HeaderAction::Drop => dropped.push(name.clone()),
            HeaderAction::Cookie => {
                let values = head.headers.get_all(name).iter();
                cookies =
                    Some(values.filter_map(|value| rewrite.cookies(value.as_bytes())).map(Cow::into_owned).collect());
            }
            action => came.note(action),
        }
    }
    for name in &dropped {
        head.remove_header(name);
    }
    if let Some(cookies) = cookies {
        replace_cookies(head, cookies)?;
    }
    rewrite.add_to(came, head)
}

fn replace_cookies(head: &mut RequestHeader, values: Vec<Vec<u8>>) -> Result<()> {
    head.remove_header(&header::COOKIE);
    for value in values {
        head.append_header(header::COOKIE, value)?;
    }
    Ok(())
}

impl AddFields for RequestHeader {
    type Error = Box<pingora_core::Error>;

    fn field(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        self.insert_header(HeaderName::from_static(name), value)
    }

    fn named(&mut self, name: &HeaderName, value: &'static str) -> Result<()> {
        self.insert_header(name, value)
    }

    fn member(&mut self, name: &'static str, own: &str) -> Result<()> {
        let name = HeaderName::from_static(name);
        let line = continued(self, &name, own);
        if line.is_empty() {
            self.remove_header(&name);
            return Ok(());
        }
        self.insert_header(name, line)
    }
}

/// All members of a list header, as far as they are text, and `own` behind them.
fn continued(head: &RequestHeader, name: &HeaderName, own: &str) -> String {
    let came = head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let members: Vec<&str> = came.chain([own]).filter(|member| !member.is_empty()).collect();
    members.join(", ")
}

/// Sends the target in normal form instead of the client's.
///
/// # Errors
/// If the target is none, which what validation made of it always is.
pub(crate) fn set_target(head: &mut RequestHeader, target: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(target).or_err(ErrorType::InternalError, "the target is not text")?;
    let mut parts = head.uri.clone().into_parts();
    if head.version != http::Version::HTTP_2 {
        parts.scheme = None;
        parts.authority = None;
    }
    parts.path_and_query = Some(text.parse().or_err(ErrorType::InternalError, "the target does not parse")?);
    head.set_uri(Uri::from_parts(parts).or_err(ErrorType::InternalError, "the target is no URI")?);
    Ok(())
}

/// Sends `host` instead of the client's.
///
/// # Errors
/// If it is no host, which the configuration sees to.
pub(crate) fn set_host(head: &mut RequestHeader, host: &str) -> Result<()> {
    if head.uri.authority().is_some() {
        let mut parts = head.uri.clone().into_parts();
        parts.authority = Some(host.parse().or_err(ErrorType::InternalError, "the host does not parse")?);
        head.set_uri(Uri::from_parts(parts).or_err(ErrorType::InternalError, "the host makes no URI")?);
    }
    head.insert_header(header::HOST, host)?;
    Ok(())
}

/// Offers the one protocol that was chosen of the client's; other hop-by-hop fields go no further.
///
/// # Errors
/// If the token is no header value, which what was validated always is.
pub(crate) fn offer_upgrade(head: &mut RequestHeader, token: &str) -> Result<()> {
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &header::TE, &header::TRAILER] {
        head.remove_header(name);
    }
    head.insert_header(header::CONNECTION, "upgrade")?;
    head.insert_header(header::UPGRADE, token)?;
    Ok(())
}

/// Takes what concerns only the upstream connection out of a response.
///
/// `Transfer-Encoding` stays: it is the engine's framing towards the client, not the endpoint's.
pub(crate) fn to_client(head: &mut ResponseHeader) {
    let upgrading = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
    let nominated = headers::nominated(&head.headers);
    let ending = head.headers.keys().filter(|name| !stays(name, upgrading, nominated.contains(name)));
    let ending: Vec<HeaderName> = ending.cloned().collect();
    for name in ending {
        head.remove_header(&name);
    }
    if head.status.is_informational() || head.status == http::StatusCode::NO_CONTENT {
        // Neither may be said with these (RFC 9110 §8.6, RFC 9112 §6.1).
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::TRANSFER_ENCODING);
    }
}

/// Whether a field of a response goes on to the engine.
fn stays(name: &HeaderName, upgrading: bool, nominated: bool) -> bool {
    match *name {
        header::TRANSFER_ENCODING => true,
        header::CONNECTION | header::UPGRADE => upgrading,
        _ => response::passes(name.as_str(), nominated),
    }
}

/// A request's head as HTTP/1.1 has it; `authority` is its host where the head names none.
pub(crate) fn http1_head(head: &RequestHeader, authority: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [head.method.as_str().as_bytes(), b" ", head.raw_path(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    if !head.headers.contains_key(header::HOST) {
        line("host", authority.as_bytes());
    }
    head.headers.iter().for_each(|(name, value)| line(name.as_str(), value.as_bytes()));
    out.extend_from_slice(b"\r\n");
    out
}

/// Adds what the client is told beside what the endpoint wrote.
///
/// # Errors
/// Only if a value is no header value, which none is that the configuration or Weir made.
pub(crate) fn add_client_fields(head: &mut ResponseHeader, fields: ClientFields<'_>) -> Result<()> {
    let mut added = Ok(());
    fields.each(|name, value| {
        let field = head.append_header(HeaderName::from_static(name), value);
        added = std::mem::replace(&mut added, Ok(())).and(field.map(drop));
    });
    added
}

/// Takes the same out of trailers.
pub(crate) fn trailers_to_client(trailers: &mut http::HeaderMap) {
    let ending: Vec<HeaderName> = trailers.keys().filter(|name| response::ends_here(name.as_str())).cloned().collect();
    for name in ending {
        trailers.remove(&name);
    }
}

/// Whether a 101 takes the protocol that was offered, and no other.
pub(crate) fn takes(head: &ResponseHeader, offered: &str) -> bool {
    response::takes(head.headers.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes), offered)
}

/// What kind of work a response makes of its request.
pub(crate) fn kind_of(request: &RequestHeader, response: &ResponseHeader) -> Kind {
    if response.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return kind::of_tunnel(response.headers.get(header::UPGRADE).map(HeaderValue::as_bytes));
    }
    kind::of_response(response.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes), is_grpc(request))
}

/// Whether fields hold a gRPC status that blames the server.
pub(crate) fn grpc_failed(fields: &http::HeaderMap) -> bool {
    fields.get("grpc-status").is_some_and(|status| kind::blames_server(status.as_bytes()))
}

/// Whether a request is a gRPC call.
pub(crate) fn is_grpc(request: &RequestHeader) -> bool {
    kind::is_grpc(request.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes))
}

/// Writes a local response; with `close`, one that ends an HTTP/1 connection.
///
/// # Errors
/// If the client is gone.
pub(crate) async fn answer(session: &mut ServerSession, refusal: Refusal, head_only: bool, close: bool) -> Result<()> {
    let mut head = ResponseHeader::build(refusal.status, Some(5))?;
    let mut built = Ok(());
    local_response::fields(refusal, |name, value| {
        let field = head.insert_header(HeaderName::from_static(name), value.to_string());
        built = std::mem::replace(&mut built, Ok(())).and(field);
    });
    built?;
    if close {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(head)).await?;
    let body = if head_only { Bytes::new() } else { Bytes::from(local_response::body(refusal).to_string()) };
    session.write_response_body(body, true).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::request::flags::FlagValues;

    fn request() -> RequestHeader {
        RequestHeader::build("GET", b"/", None).unwrap()
    }

    fn rewrite(trusted: bool) -> RequestRewrite<'static> {
        RequestRewrite {
            peer: "10.0.0.9",
            trusted,
            underscore: None,
            tls: true,
            authority: "shop.example.com",
            request_id: b"abc",
            version: HttpVersion::Http11,
            may_wait: true,
            overrides: None,
            told: None,
            flags: FlagValues::default(),
        }
    }

    #[test]
    fn a_strangers_forwarded_headers_are_replaced() {
        let mut head = request();
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-real-ip"] {
            head.insert_header(name, "6.6.6.6").unwrap();
        }
        head.insert_header("x-forwarded-port", "6").unwrap();
        head.append_header("x-forwarded-client-cert", "Subject=root").unwrap();
        head.append_header("x-forwarded-client-cert", "Subject=root").unwrap();
        to_origin(&mut head, &rewrite(false)).unwrap();
        let value = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(value("x-forwarded-for").as_deref(), Some("10.0.0.9"));
        assert_eq!(value("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(value("x-forwarded-host").as_deref(), Some("shop.example.com"));
        assert_eq!((value("forwarded"), value("x-real-ip")), (None, None));
        assert_eq!((value("x-forwarded-port"), value("x-forwarded-client-cert")), (None, None));
        assert_eq!(value("via").as_deref(), Some("1.1 weir"));
    }

    #[test]
    fn a_trusted_proxys_chain_is_continued() {
        let mut head = request();
        head.append_header("x-forwarded-for", "1.1.1.1").unwrap();
        head.append_header("x-forwarded-for", "2.2.2.2").unwrap();
        head.insert_header("x-forwarded-proto", "http").unwrap();
        head.insert_header("x-forwarded-port", "8443").unwrap();
        to_origin(&mut head, &rewrite(true)).unwrap();
        assert_eq!(head.headers.get("x-forwarded-port").unwrap(), "8443");
        assert_eq!(head.headers.get("x-forwarded-for").unwrap(), "1.1.1.1, 2.2.2.2, 10.0.0.9");
        assert_eq!(head.headers.get("x-forwarded-proto").unwrap(), "http");
    }

    #[test]
    fn via_is_continued_from_everybody_in_one_line() {
        for trusted in [false, true] {
            let mut head = request();
            head.append_header("via", "1.0 fred, 1.1 p.example").unwrap();
            head.append_header("via", "1.1 other").unwrap();
            to_origin(&mut head, &rewrite(trusted)).unwrap();
            let lines: Vec<_> = head.headers.get_all("via").iter().collect();
            assert_eq!(lines, ["1.0 fred, 1.1 p.example, 1.1 other, 1.1 weir"]);
        }
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let join = |crumbs: &[&[u8]], version| {
            let mut head = request();
            head.set_version(version);
            for crumb in crumbs {
                head.append_header("cookie", HeaderValue::from_bytes(crumb).unwrap()).unwrap();
            }
            join_cookies(&mut head).unwrap();
            head.headers.get_all("cookie").iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>()
        };
        let two = http::Version::HTTP_2;
        assert_eq!(join(&[b"a=1", b"b=2; c=3", b"", b"d=\xe9"], two), [b"a=1; b=2; c=3; d=\xe9"]);
        assert_eq!(join(&[b"a=1"], two), [b"a=1"]);
        assert!(join(&[], two).is_empty());
        assert_eq!(join(&[b"a=1", b"b=2"], http::Version::HTTP_11).len(), 2);
    }

    #[test]
    fn only_methods_with_a_body_say_that_there_is_none() {
        let declared = |method: &str, length: Option<&str>| {
            let mut head = RequestHeader::build(method, b"/", None).unwrap();
            if let Some(length) = length {
                head.insert_header("content-length", length).unwrap();
            }
            declare_no_body(&mut head).unwrap();
            head.headers.get("content-length").map(|value| value.to_str().unwrap().to_owned())
        };
        for method in ["POST", "PUT", "PATCH"] {
            assert_eq!(declared(method, None).as_deref(), Some("0"), "{method}");
        }
        assert_eq!(declared("POST", Some("0")).as_deref(), Some("0"));
        for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
            assert_eq!(declared(method, None), None, "{method}");
        }
    }

    #[test]
    fn nominated_response_fields_do_not_reach_the_client() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("connection", "close, X-Secret").unwrap();
        head.insert_header("x-secret", "1").unwrap();
        head.insert_header("keep-alive", "timeout=5").unwrap();
        head.insert_header("te", "x").unwrap();
        to_client(&mut head);
        assert!(head.headers.is_empty(), "{:?}", head.headers);
    }
}
