//! A response of Weir's own in place of an endpoint's: what it says, and whether the client's connection ends with it.

use std::fmt::{self, Arguments, Write};

use super::response::CAUSE;
use crate::proxy::codec::date::write_date;
use crate::proxy::codec::response::write_status;
use crate::proxy::io::buffer::Buffer;
use crate::traffic::Refusal;

/// Calls `field` with each field of a local response but the `Date`.
pub(crate) fn fields(refusal: Refusal, mut field: impl FnMut(&'static str, Arguments<'_>)) {
    field("content-type", format_args!("text/plain; charset=utf-8"));
    field("content-length", format_args!("{}", refusal.body_bytes(false)));
    field("cache-control", format_args!("no-store"));
    field(CAUSE, format_args!("{}", refusal.cause));
}

/// The body of a local response: one line.
pub(crate) fn body(refusal: Refusal) -> impl fmt::Display {
    fmt::from_fn(move |out| writeln!(out, "{} {}", refusal.status, refusal.text))
}

/// What decides whether the connection ends with a local response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// It was on its way to an endpoint: how much of it was read, nobody knows for sure.
    pub(crate) attempted: bool,
    /// Not all of its body was read.
    pub(crate) unread: bool,
    /// Its client closes the connection afterwards.
    pub(crate) last: bool,
    /// The process ends, so every response announces the close.
    pub(crate) draining: bool,
}

impl Circumstances {
    /// Whether the client's HTTP/1 connection ends with this response. One of HTTP/2 goes on.
    pub(crate) fn close(self, refusal: Refusal) -> bool {
        let Self { attempted, unread, last, draining } = self;
        refusal.close || attempted || unread || last || draining
    }
}

/// Writes a local response in HTTP/1.1, and announces the end of the connection if `close`.
pub(crate) fn write(refusal: Refusal, head_only: bool, close: bool, out: &mut Buffer) {
    let reason = http::StatusCode::from_u16(refusal.status).ok().and_then(|status| status.canonical_reason());
    write_status(refusal.status, reason.unwrap_or_default(), out);
    // Writing to a buffer cannot fail.
    fields(refusal, |name, value| _ = write!(out, "{name}: {value}\r\n"));
    write_date(out);
    out.push(if close { b"connection: close\r\n\r\n" } else { b"connection: keep-alive\r\n\r\n" });
    if !head_only {
        let _ = write!(out, "{}", body(refusal));
    }
}

/// A local response that ends the connection, in bytes.
pub(crate) fn bytes(refusal: Refusal, head_only: bool) -> Vec<u8> {
    let mut out = Buffer::default();
    write(refusal, head_only, true, &mut out);
    out.data().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_response_has_the_length_that_it_says() {
        let refusal = Refusal { status: 503, cause: "no_endpoint", text: "no endpoint", close: false };
        let mut out = Buffer::default();
        write(refusal, false, true, &mut out);
        let text = String::from_utf8(out.data().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
        assert!(head.contains("weir-error: no_endpoint") && head.contains("connection: close"), "{text}");
    }
}
