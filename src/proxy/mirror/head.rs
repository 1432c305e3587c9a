//! The head of a copy: the request's own, without what is not for the mirror.

use httparse::Header;

use crate::proxy::codec::hpack::Encoder;
use crate::proxy::mirror_queue::MirroredRequest;
use crate::proxy::request::attempts::is_idempotent;
use crate::proxy::request::headers::{MIRROR, VERSION, VERSION_REASON};

/// What a mirror is told as the reason for its version.
const REASON: &str = "mirror";

/// A copy's head, read from what the request's own endpoint gets.
pub(super) struct CopiedHead<'c> {
    method: &'c str,
    target: &'c str,
    host: &'c [u8],
    /// Those that go on, but for `Host`.
    fields: Vec<&'c Header<'c>>,
    /// The endpoint is told which version it is.
    told: bool,
    from: &'c str,
    to: &'c str,
}

impl<'c> CopiedHead<'c> {
    /// As many fields as a head of these bytes may have.
    pub(super) fn most_fields(head: &[u8]) -> usize {
        memchr::memchr_iter(b'\n', head).count()
    }

    /// Reads the head, for the version `to`; `room` has room for its fields.
    pub(super) fn of(copy: &'c MirroredRequest, to: &'c str, room: &'c mut [Header<'c>]) -> Option<Self> {
        let mut request = httparse::Request::new(room);
        if !request.parse(&copy.head).ok()?.is_complete() {
            return None;
        }
        let (method, target) = (request.method?, request.path?);
        let all: &'c [Header<'c>] = request.headers;
        let is = |field: &Header<'_>, name: &str| field.name.eq_ignore_ascii_case(name);
        let host = all.iter().find(|field| is(field, "host"))?.value;
        let told = all.iter().any(|field| is(field, VERSION));
        let goes_on = |field: &&Header<'_>| {
            let ends = ENDS.iter().any(|name| is(field, name));
            !ends && !copy.mirror.strip.iter().any(|name| is(field, name))
        };
        let fields = all.iter().filter(goes_on).collect();
        Some(Self { method, target, host, fields, told, from: &copy.from, to })
    }

    /// Whether the mirror may get it twice.
    pub(super) fn is_idempotent(&self) -> bool {
        is_idempotent(self.method)
    }

    /// Whether its response has no body.
    pub(super) fn is_for_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The whole copy as an HTTP/1.1 endpoint gets it.
    pub(super) fn http1(&self, body: &[u8]) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        };
        line("host", self.host);
        self.each(body, &mut line);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out
    }

    /// Writes the head that an HTTP/2 endpoint gets.
    pub(super) fn http2(&self, tls: bool, body: &[u8], encoder: &mut Encoder, block: &mut Vec<u8>) {
        let scheme = if tls { "https" } else { "http" };
        encoder.request(self.method, scheme, self.host, self.target.as_bytes(), block);
        self.each(body, &mut |name, value| {
            encoder.field(name.to_ascii_lowercase().as_bytes(), value, block);
        });
    }

    /// All fields but `Host`.
    fn each(&self, body: &[u8], line: &mut dyn FnMut(&str, &[u8])) {
        for field in &self.fields {
            line(field.name, field.value);
        }
        if self.told {
            line(VERSION, self.to.as_bytes());
            line(VERSION_REASON, REASON.as_bytes());
        }
        line(MIRROR, self.from.as_bytes());
        if !body.is_empty() || matches!(self.method, "POST" | "PUT" | "PATCH") {
            line("content-length", body.len().to_string().as_bytes());
        }
    }
}

/// Fields that end with the request: what concerns its connection and its body's framing, and what is written anew.
const ENDS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    MIRROR,
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    VERSION,
    VERSION_REASON,
];

#[cfg(test)]
mod tests;
