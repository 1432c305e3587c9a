//! A response of Weir's own in place of an endpoint's: what it says, for every lane.

use std::fmt::Write;

use crate::proxy::codec::date::write_date;
use crate::proxy::codec::response::write_status;
use crate::proxy::io::buffer::Buffer;
use crate::traffic::Refusal;

/// Writes a local response, and announces the end of the connection if `close`.
pub(crate) fn write(refusal: Refusal, head_only: bool, close: bool, out: &mut Buffer) {
    let Refusal { status, cause, text, .. } = refusal;
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    write_status(status, reason.unwrap_or_default(), out);
    let length = refusal.body_bytes(false);
    let _ = write!(
        out,
        "content-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\ncache-control: no-store\r\n\
         weir-error: {cause}\r\n"
    );
    write_date(out);
    out.push(if close { b"connection: close\r\n\r\n" } else { b"connection: keep-alive\r\n\r\n" });
    if !head_only {
        let _ = writeln!(out, "{status} {text}");
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
