//! A request's head on the express lane: borrowed from the bytes that arrived, written anew for the endpoint.

use std::convert::Infallible;
use std::mem::MaybeUninit;

use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::head::ParsedHead;
use crate::proxy::request::headers::{AddFields, CameFields, HeaderAction, RequestRewrite};
use crate::traffic::validate::Framing;
use crate::traffic::{HttpVersion, Request};

/// Header fields that are read at most; a request with more is the general lane's to refuse.
const MAX_FIELDS: usize = 128;

/// Room for the fields of one head.
pub(super) type Fields<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS];

/// Room for the fields of one head, not written to yet.
pub(super) const fn fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// What the bytes that arrived are.
pub(super) enum ParsedRequest<'b, 'f> {
    /// The beginning of a head.
    Partial,
    /// A head of so many bytes.
    Head(ParsedHead<'b, 'f>, usize),
    /// Nothing that this lane reads: another protocol or version, or no HTTP.
    Other,
}

/// Reads a head.
pub(super) fn parse<'b, 'f>(bytes: &'b [u8], fields: &'f mut Fields<'b>) -> ParsedRequest<'b, 'f> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Partial) => ParsedRequest::Partial,
        Ok(httparse::Status::Complete(length)) => match (request.method, request.path, request.version) {
            (Some(method), Some(target), Some(1)) => {
                let fields = request.headers;
                ParsedRequest::Head(
                    ParsedHead { version: HttpVersion::Http11, method, target, fields, client: None },
                    length,
                )
            }
            _ => ParsedRequest::Other,
        },
        Err(_) => ParsedRequest::Other,
    }
}

impl ParsedHead<'_, '_> {
    /// Whether the request may be one this lane carries: an ordinary target, and of the connection only whether it is
    /// to be kept, or what it may become.
    pub(super) fn shape(&self) -> Shape {
        let plain_target = self.target.starts_with('/') && self.target.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain_target {
            return Shape::Other;
        }
        let mut shape = Shape::Plain;
        for field in self.fields {
            match field.name.len() {
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    let keeps =
                        [&b"keep-alive"[..], b"close"].iter().any(|word| field.value.eq_ignore_ascii_case(word));
                    match keeps {
                        true => {}
                        false if is_about_upgrades(field.value) => shape = Shape::Upgrade,
                        false => return Shape::Other,
                    }
                }
                7 if field.name.eq_ignore_ascii_case("upgrade") => shape = Shape::Upgrade,
                6 if field.name.eq_ignore_ascii_case("expect") => return Shape::Other,
                _ => {}
            }
        }
        shape
    }

    /// Whether the client ends its connection after the answer.
    pub(super) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
    }
}

/// What a request's head says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Only whether it is to be kept.
    Plain,
    /// It may change its protocol.
    Upgrade,
    /// Something that this lane does not know.
    Other,
}

/// Whether a `Connection` names nothing but what it may become, and that it is kept otherwise.
fn is_about_upgrades(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(|option| {
        option.eq_ignore_ascii_case(b"upgrade") || option.eq_ignore_ascii_case(b"keep-alive") || option.is_empty()
    })
}

/// What the endpoint's head is made of beside the client's.
pub(super) struct HeadRewrite<'a> {
    pub(super) rewrite: RequestRewrite<'a>,
    /// In normal form.
    pub(super) target: &'a str,
    /// Instead of the client's `Host`.
    pub(super) host: Option<&'a str>,
    pub(super) framing: Framing,
    /// The protocol that the endpoint is offered.
    pub(super) upgrade: Option<&'a str>,
}

/// Appends the head that the endpoint gets to `out`.
pub(super) fn write(head: &ParsedHead<'_, '_>, rewrite: &HeadRewrite<'_>, out: &mut Buffer) {
    out.push_all([head.method, " ", rewrite.target, " HTTP/1.1\r\n"].map(str::as_bytes));
    let mut came = CameFields::default();
    for field in head.fields {
        let action = rewrite.rewrite.action(field.name);
        match action {
            HeaderAction::Keep => out.push_field(field.name, field.value),
            HeaderAction::Host => out.push_field(field.name, rewrite.host.map_or(field.value, str::as_bytes)),
            HeaderAction::HopByHop | HeaderAction::Drop => {}
            HeaderAction::Cookie => {
                if let Some(value) = rewrite.rewrite.cookies(field.value) {
                    out.push_field(field.name, &value);
                }
            }
            HeaderAction::Via | HeaderAction::ForwardedFor => came.note(action),
            _ => {
                came.note(action);
                out.push_field(field.name, field.value);
            }
        }
    }
    let Ok(()) = rewrite.rewrite.add_to(came, &mut Added { head, out });
    if rewrite.framing == Framing::Chunked {
        out.push(b"transfer-encoding: chunked\r\n");
    }
    if let Some(token) = rewrite.upgrade {
        out.push_all([b"connection: upgrade\r\nupgrade: ", token.as_bytes(), b"\r\n", b""]);
    }
    out.push(b"\r\n");
}

/// Where the fields that Weir writes are appended.
struct Added<'a, 'b, 'f> {
    head: &'a ParsedHead<'b, 'f>,
    out: &'a mut Buffer,
}

impl AddFields for Added<'_, '_, '_> {
    type Error = Infallible;

    #[inline]
    fn field(&mut self, name: &'static str, value: &[u8]) -> Result<(), Infallible> {
        self.out.push_field(name, value);
        Ok(())
    }

    #[inline]
    fn line(&mut self, _: &'static str, line: &str) -> Result<(), Infallible> {
        self.out.push(line.as_bytes());
        Ok(())
    }

    fn named(&mut self, name: &http::HeaderName, value: &'static str) -> Result<(), Infallible> {
        self.out.push_field(name.as_str(), value.as_bytes());
        Ok(())
    }

    fn member(&mut self, name: &'static str, own: &str) -> Result<(), Infallible> {
        write_list(self.head, name, own, self.out);
        Ok(())
    }
}

/// Appends the list field `name`: what came, then `own`.
fn write_list(head: &ParsedHead<'_, '_>, name: &str, own: &str, out: &mut Buffer) {
    let came = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name) && field.value.is_ascii());
    let members = came.map(|field| field.value).chain([own.as_bytes()]).filter(|member| !member.is_empty());
    let mut first = true;
    for member in members {
        if first {
            out.push_all([name.as_bytes(), b": ", member, b""]);
        } else {
            out.push_all([b", ", member, b"", b""]);
        }
        first = false;
    }
    if !first {
        out.push(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::request::flags::FlagValues;
    use crate::proxy::request::headers::ToldVersion;
    use crate::traffic::split::Reason;

    fn written(head: &str, trusted: bool) -> String {
        let mut room = fields();
        let ParsedRequest::Head(head, _) = parse(head.as_bytes(), &mut room) else { panic!("{head}") };
        let rewrite = RequestRewrite {
            peer: "10.0.0.9",
            trusted,
            underscore: None,
            tls: true,
            authority: "shop.example.com",
            request_id: b"abc",
            version: HttpVersion::Http11,
            may_wait: false,
            overrides: None,
            told: Some(ToldVersion { version: "weir-version: v2\r\n", reason: Reason::Weight }),
            flags: FlagValues::default(),
        };
        let rewrite =
            HeadRewrite { rewrite, target: head.target, host: None, framing: Framing::Chunked, upgrade: None };
        let mut out = Buffer::default();
        write(&head, &rewrite, &mut out);
        String::from_utf8(out.data().to_vec()).unwrap()
    }

    #[test]
    fn a_strangers_forwarded_fields_are_replaced_and_hop_by_hop_ones_end_here() {
        let head = "GET /a?b HTTP/1.1\r\nHost: Shop.example.com\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6\r\n\
            X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 6\r\nX-Request-Id: 6\r\nTE: trailers\r\n\
            X-Forwarded-Port: 6\r\nx-forwarded-user: root\r\nTrue-Client-IP: 6\r\n\
            Keep-Alive: 5\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nAccept: */*\r\n\r\n";
        assert_eq!(
            written(head, false),
            "GET /a?b HTTP/1.1\r\nHost: Shop.example.com\r\nAccept: */*\r\nx-forwarded-for: 10.0.0.9\r\n\
             x-forwarded-proto: https\r\nx-forwarded-host: shop.example.com\r\nx-request-id: abc\r\n\
             weir-version: v2\r\nweir-version-reason: weight\r\nvia: 1.1 weir\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn a_trusted_proxys_chain_is_continued() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n\
            X-Forwarded-Proto: http\r\nForwarded: for=1\r\nX-Forwarded-Port: 8443\r\n\r\n";
        let written = written(head, true);
        assert!(written.contains("\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\n"), "{written}");
        assert!(written.contains("\r\nX-Forwarded-Proto: http\r\n") && written.contains("\r\nForwarded: for=1\r\n"));
        assert!(written.contains("\r\nX-Forwarded-Port: 8443\r\n") && !written.contains("https"), "{written}");
    }

    #[test]
    fn via_is_continued_from_everybody_in_one_line() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred, 1.1 p.example\r\nVIA: 1.1 other\r\nvia:\r\n\r\n";
        for trusted in [false, true] {
            let written = written(head, trusted);
            assert!(written.contains("\r\nvia: 1.0 fred, 1.1 p.example, 1.1 other, 1.1 weir\r\n"), "{written}");
            assert_eq!(written.to_lowercase().matches("via:").count(), 1, "{written}");
        }
    }

    #[test]
    fn what_is_not_plain_is_not_for_this_lane() {
        let shape = |head: &str| {
            let mut room = fields();
            match parse(head.as_bytes(), &mut room) {
                ParsedRequest::Head(head, _) => head.shape(),
                ParsedRequest::Partial | ParsedRequest::Other => Shape::Other,
            }
        };
        assert_eq!(shape("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"), Shape::Plain);
        for connection in ["upgrade", "keep-alive, Upgrade", "Upgrade,keep-alive", ", upgrade"] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: {connection}\r\n\r\n");
            assert_eq!(shape(&head), Shape::Upgrade, "{head}");
        }
        assert_eq!(shape("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"), Shape::Upgrade);
        for other in [
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade, x-a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ] {
            assert_eq!(shape(other), Shape::Other, "{other}");
        }
    }
}
