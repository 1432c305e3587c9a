//! The head that an endpoint gets of a client's request, in HTTP/1.1 or HTTP/2.

use std::borrow::Cow;
use std::convert::Infallible;

use super::head::H2Head;
#[cfg(test)]
use super::head::fields;
use crate::proxy::codec::hpack::{Encoder, FieldLine};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::headers::{AddFields, CameFields, HeaderAction, RequestRewrite};
use crate::traffic::Request as _;
use crate::traffic::validate::Framing;

/// What the endpoint's head is made of beside the client's.
#[derive(Clone, Copy)]
pub(super) struct HeadRewrite<'a> {
    pub(super) rewrite: RequestRewrite<'a>,
    /// In normal form.
    pub(super) target: &'a str,
    /// Instead of the client's authority.
    pub(super) host: Option<&'a str>,
    pub(super) framing: Framing,
    /// Nothing comes after the head.
    pub(super) ends: bool,
    /// The protocol of a tunnel that is offered to the endpoint, and the key of its handshake.
    pub(super) tunnel: Option<(&'a str, &'a str)>,
}

impl HeadRewrite<'_> {
    /// Whether the body goes to an HTTP/1.1 endpoint in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        !self.ends && self.tunnel.is_none() && matches!(self.framing, Framing::Frames { length: None })
    }

    fn authority(&self) -> &str {
        self.host.unwrap_or(self.rewrite.authority)
    }

    /// Calls `keep` with the fields that go on as they came; the rest of what came.
    fn pass(&self, head: &H2Head<'_>, mut keep: impl FnMut(HeaderAction, FieldLine<'_>)) -> CameFields {
        let mut came = CameFields::default();
        head.each(|field| {
            let action = self.rewrite.action(field.name);
            match action {
                HeaderAction::Host | HeaderAction::Drop => {}
                HeaderAction::Cookie => match self.rewrite.cookies(field.value) {
                    Some(Cow::Borrowed(_)) => keep(HeaderAction::Keep, field),
                    Some(Cow::Owned(value)) => {
                        let line = [&b"cookie: "[..], &value, b"\r\n"].concat();
                        keep(HeaderAction::Keep, FieldLine { line: &line, value: &value, ..field });
                    }
                    None => {}
                },
                HeaderAction::Via | HeaderAction::ForwardedFor => came.note(action),
                _ => {
                    came.note(action);
                    keep(action, field);
                }
            }
        });
        came
    }
}

/// Appends the head that an HTTP/1.1 endpoint gets to `out`.
pub(super) fn write_http1(head: &H2Head<'_>, rewrite: &HeadRewrite<'_>, out: &mut Buffer) {
    out.push_all([head.method(), " ", rewrite.target, " HTTP/1.1\r\n"].map(str::as_bytes));
    out.push_field("host", rewrite.authority().as_bytes());
    let came = rewrite.pass(head, |action, field| {
        if action != HeaderAction::HopByHop {
            out.push(field.line);
        }
    });
    let Ok(()) = rewrite.rewrite.add_to(came, &mut Lines { head, out });
    if rewrite.is_chunked() {
        out.push(b"transfer-encoding: chunked\r\n");
    }
    // Some endpoints answer 411 to what says nothing of a body that they expect (RFC 9110 §8.6).
    let silent = rewrite.ends && matches!(rewrite.framing, Framing::Frames { length: None });
    if silent && matches!(head.method(), "POST" | "PUT" | "PATCH") {
        out.push(b"content-length: 0\r\n");
    }
    if let Some((protocol, key)) = rewrite.tunnel {
        out.push_all([b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n", b""]);
        if !key.is_empty() {
            out.push_field("sec-websocket-key", key.as_bytes());
        }
    }
    out.push(b"\r\n");
}

/// Writes the head that an HTTP/2 endpoint gets.
pub(super) fn write_http2(
    head: &H2Head<'_>,
    rewrite: &HeadRewrite<'_>,
    scheme: &str,
    encoder: &mut Encoder,
    block: &mut Vec<u8>,
) {
    encoder.request(head.method(), scheme, rewrite.authority().as_bytes(), rewrite.target.as_bytes(), block);
    let came = rewrite.pass(head, |action, field| {
        // What concerns the connection only came over HTTP/2 already: it is `te: trailers`, which gRPC wants, and `trailer`.
        let ends_here = action == HeaderAction::HopByHop && !matches!(field.name, "te" | "trailer");
        if !ends_here {
            if field.never_indexed {
                encoder.secret(field.name.as_bytes(), field.value, block);
            } else {
                encoder.field(field.name.as_bytes(), field.value, block);
            }
        }
    });
    let Ok(()) = rewrite.rewrite.add_to(came, &mut Block { head, encoder, block });
}

/// Where the fields that Weir writes are appended for HTTP/1.1.
struct Lines<'a, 'f> {
    head: &'a H2Head<'f>,
    out: &'a mut Buffer,
}

impl AddFields for Lines<'_, '_> {
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
        let line = list(self.head, name, own);
        if !line.is_empty() {
            self.out.push_field(name, &line);
        }
        Ok(())
    }
}

/// Where the fields that Weir writes are appended for HTTP/2.
struct Block<'a, 'f> {
    head: &'a H2Head<'f>,
    encoder: &'a mut Encoder,
    block: &'a mut Vec<u8>,
}

impl AddFields for Block<'_, '_> {
    type Error = Infallible;

    #[inline]
    fn field(&mut self, name: &'static str, value: &[u8]) -> Result<(), Infallible> {
        self.encoder.field(name.as_bytes(), value, self.block);
        Ok(())
    }

    fn named(&mut self, name: &http::HeaderName, value: &'static str) -> Result<(), Infallible> {
        self.encoder.field(name.as_str().as_bytes(), value.as_bytes(), self.block);
        Ok(())
    }

    fn member(&mut self, name: &'static str, own: &str) -> Result<(), Infallible> {
        let line = list(self.head, name, own);
        if !line.is_empty() {
            self.encoder.field(name.as_bytes(), &line, self.block);
        }
        Ok(())
    }
}

/// The members of the list field `name` that came, as far as they are text, and `own` behind them.
fn list(head: &H2Head<'_>, name: &str, own: &str) -> Vec<u8> {
    let mut line = Vec::new();
    let mut add = |member: &[u8]| {
        if !member.is_empty() {
            if !line.is_empty() {
                line.extend_from_slice(b", ");
            }
            line.extend_from_slice(member);
        }
    };
    head.each(|field| {
        if field.name == name && field.value.is_ascii() {
            add(field.value);
        }
    });
    add(own.as_bytes());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::request::flags::FlagValues;
    use crate::traffic::HttpVersion;

    fn written(list: &[(&str, &str)], ends: bool, tunnel: Option<(&str, &str)>) -> String {
        let fields = fields(list);
        let head = H2Head::new(&fields, ends);
        let rewrite = RequestRewrite {
            peer: "10.0.0.9",
            trusted: false,
            underscore: None,
            tls: true,
            authority: "shop.test",
            request_id: b"abc",
            version: HttpVersion::Http2,
            may_wait: false,
            overrides: None,
            told: None,
            flags: FlagValues::default(),
        };
        let framing = Framing::Frames { length: None };
        let rewrite = HeadRewrite { rewrite, target: "/a", host: None, framing, ends, tunnel };
        let mut out = Buffer::default();
        write_http1(&head, &rewrite, &mut out);
        String::from_utf8(out.data().to_vec()).unwrap()
    }

    const ADDED: &str = "x-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: shop.test\r\n\
        x-request-id: abc\r\nvia: 2.0 weir\r\n";

    #[test]
    fn an_http_1_endpoint_gets_one_host_and_plain_framing() {
        let head = |method| [(":method", method), (":scheme", "https"), (":path", "/a"), (":authority", "shop.test")];
        let more = [("host", "shop.test"), ("te", "trailers"), ("x-real-ip", "6.6.6.6"), ("accept", "*/*")];
        let get = written(&[&head("GET")[..], &more].concat(), true, None);
        assert_eq!(get, format!("GET /a HTTP/1.1\r\nhost: shop.test\r\naccept: */*\r\n{ADDED}\r\n"));
        let post = written(&head("POST"), true, None);
        assert_eq!(post, format!("POST /a HTTP/1.1\r\nhost: shop.test\r\n{ADDED}content-length: 0\r\n\r\n"));
        let body = written(&head("POST"), false, None);
        assert_eq!(body, format!("POST /a HTTP/1.1\r\nhost: shop.test\r\n{ADDED}transfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_tunnel_is_offered_as_http_1_offers_it() {
        let list = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/a"),
            (":authority", "shop.test"),
            ("sec-websocket-version", "13"),
        ];
        let text = written(&list, false, Some(("websocket", "key")));
        let end = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: key\r\n\r\n";
        assert!(text.starts_with("GET /a HTTP/1.1\r\nhost: shop.test\r\nsec-websocket-version: 13\r\n"), "{text}");
        assert!(text.ends_with(end) && !text.contains("transfer-encoding"), "{text}");
    }
}
