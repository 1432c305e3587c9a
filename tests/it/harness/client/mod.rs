//! Clients that show what really came over the wire, and do nothing on their own: no retries, no hidden connections.
//!
//! [`H1`] and [`H2`] are one connection each. What a story does with a [`Request`] is the same for both: `send` gives
//! the whole [`Response`] or ends the story, `try_send` gives the [`Failure`] instead, `open` reads the head and leaves
//! the body to be read piece by piece. A [`Client`] is either of them. [`Frames`] sends what no sound client does. [`WebSocket`], [`Sse`] and [`grpc`] stand on them.

mod either;
mod frames;
pub(crate) mod grpc;
mod h1;
mod h2;
mod sse;
mod tap;
pub(crate) mod websocket;

use std::fmt;
use std::io;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub(crate) use either::{Client, Protocol};
pub(crate) use frames::{Frames, Seen};
pub(crate) use h1::{Ending, H1};
pub(crate) use h2::{H2, H2Stream};
pub(crate) use sse::Sse;
pub(crate) use websocket::WebSocket;

use super::wire::{Checksum, Fields, ResponseHead};

/// A request to send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: String,
    /// The request target as written; the `:path` of HTTP/2.
    pub(crate) target: String,
    /// The `Host` field or `:authority`; none sends none.
    pub(crate) host: Option<String>,
    /// The other fields.
    pub(crate) fields: Fields,
    /// The body.
    pub(crate) body: Bytes,
    /// The trailers; HTTP/1 sends them after chunks only.
    pub(crate) trailers: Fields,
    framing: Framing,
    http10: bool,
    expects: bool,
    /// The `:protocol` of an extended CONNECT (RFC 8441).
    tunnel: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length,
    Chunked,
}

impl Request {
    /// A request without a body, for the host `shop.test`.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: Some("shop.test".to_owned()),
            fields: Fields::default(),
            body: Bytes::new(),
            trailers: Fields::default(),
            framing: Framing::None,
            http10: false,
            expects: false,
            tunnel: None,
        }
    }

    /// `GET target`.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST target` with this body and its length.
    pub(crate) fn post(target: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), framing: Framing::Length, ..Self::new("POST", target) }
    }

    /// With another method.
    pub(crate) fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// For another target.
    pub(crate) fn target(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    /// For another host.
    pub(crate) fn host(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }

    /// With one more header field.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push(name, value);
        self
    }

    /// With this nonce, which origins write down and send back.
    pub(crate) fn nonce(self, nonce: &str) -> Self {
        self.header("x-nonce", nonce)
    }

    /// Without a length: HTTP/1 sends chunks, HTTP/2 no `content-length`.
    pub(crate) fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// With a trailer field after the body, which goes in chunks.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push(name, value);
        self.chunked()
    }

    /// An extended CONNECT for a tunnel of this protocol; an [`H2`] sends it.
    pub(crate) fn tunnel(target: &str, protocol: &'static str) -> Self {
        Self { tunnel: Some(protocol), ..Self::new("CONNECT", target) }
    }

    /// As HTTP/1.0.
    pub(crate) fn http10(self) -> Self {
        Self { http10: true, ..self }
    }

    /// With `Expect: 100-continue`: an [`H1`] sends the body only after a 100.
    pub(crate) fn expect_continue(self) -> Self {
        Self { expects: true, ..self }.header("expect", "100-continue")
    }

    /// The fields that frame the body.
    fn framing_fields(&self) -> Fields {
        let mut fields = Fields::default();
        match self.framing {
            Framing::None => {}
            Framing::Length => fields.push("content-length", self.body.len().to_string()),
            Framing::Chunked => fields.push("transfer-encoding", "chunked"),
        }
        fields
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The HTTP version it came with.
    pub(crate) version: http::Version,
    /// Interim responses before it, in order.
    pub(crate) interim: Vec<ResponseHead>,
    /// The header.
    pub(crate) headers: Fields,
    /// The body, unframed.
    pub(crate) body: Bytes,
    /// The trailers.
    pub(crate) trailers: Fields,
    /// Whether the end of the connection was announced with it: `Connection: close`, a GOAWAY seen by now.
    pub(crate) announced_close: bool,
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Which origin answered, by `x-origin`; empty for an answer of Weir's own.
    pub(crate) fn origin(&self) -> &str {
        self.headers.get("x-origin").unwrap_or_default()
    }

    /// The first value of a header field, empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_default()
    }

    /// The checksum of the body.
    pub(crate) fn checksum(&self) -> Checksum {
        Checksum::of(&self.body)
    }

    /// The same response; ends the story unless it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// How a request failed, by what the client could see.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection came to be.
    Refused(io::Error),
    /// The TLS handshake failed.
    Handshake(io::Error),
    /// The connection, or the HTTP/2 stream, was reset before a byte of the answer.
    ResetBeforeByte(String),
    /// The connection ended in good order before a byte of the answer.
    EofBeforeByte,
    /// The server said that it did not process the stream: `REFUSED_STREAM`, or a GOAWAY below its id.
    Unprocessed(String),
    /// The answer began and did not end.
    Truncated {
        /// How it began, if its head was whole.
        head: Option<ResponseHead>,
        /// Bytes of the body that arrived.
        received: usize,
        /// What ended it.
        how: String,
    },
    /// What came is no HTTP.
    Garbage(String),
    /// Patience ended.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::Handshake(error) => write!(f, "TLS handshake: {error}"),
            Self::ResetBeforeByte(how) => write!(f, "reset before a byte: {how}"),
            Self::EofBeforeByte => f.write_str("end before a byte"),
            Self::Unprocessed(how) => write!(f, "not processed: {how}"),
            Self::Truncated { head, received, how } => {
                let status = head.as_ref().map(|head| head.status);
                write!(f, "truncated ({how}) after status {status:?} and {received} bytes of body")
            }
            Self::Garbage(what) => write!(f, "no HTTP: {what}"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}
