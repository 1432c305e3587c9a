//! A response's head on the express lane: read from the endpoint, written anew for the client.

use std::fmt::Write;

use crate::proxy::codec::body::Body;
use crate::proxy::codec::date::write_date;
use crate::proxy::codec::response::{self, Found, Head, Read, SWITCHING};
use crate::proxy::express::response::{ParseContext, ResponseHead};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::kind;
use crate::proxy::request::response::{self as response_rules, ClientFields};

/// What the client is told beside what the endpoint wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseRewrite<'a> {
    /// The client's connection ends after this response.
    pub(super) close: bool,
    pub(super) fields: ClientFields<'a>,
    /// The protocol that the endpoint was offered.
    pub(super) upgrade: Option<&'a str>,
}

/// What the bytes that arrived are.
#[derive(Debug)]
pub(super) enum ParsedResponse {
    /// The beginning of a head.
    Partial,
    /// An informational head of so many bytes; it was written as it came.
    Informational(usize),
    /// The final head, of so many bytes; it was written.
    Final(ResponseHead, usize),
    /// The head, of so many bytes, with which the endpoint takes the upgrade; it was written.
    Switched(ResponseHead, usize),
    /// No valid response.
    Invalid,
}

/// Reads a head and writes what the client gets to `out`.
pub(super) fn rewrite_head(
    bytes: &[u8],
    parse_context: ParseContext,
    rewrite: &ResponseRewrite<'_>,
    out: &mut Buffer,
) -> ParsedResponse {
    match response::read(bytes, |head, length| write(head, length, parse_context, rewrite, out)) {
        Read::Partial => ParsedResponse::Partial,
        Read::Invalid => ParsedResponse::Invalid,
        Read::Head(parsed) => parsed,
    }
}

/// Writes what the client gets of a head of `length` bytes.
fn write(
    head: &Head<'_, '_>,
    length: usize,
    parse_context: ParseContext,
    rewrite: &ResponseRewrite<'_>,
    out: &mut Buffer,
) -> ParsedResponse {
    if head.status == SWITCHING {
        return write_switching(head, length, rewrite, out);
    }
    response_rules::write(head, out);
    if head.status < 200 {
        out.push(b"\r\n");
        return ParsedResponse::Informational(length);
    }
    let body = head.body(parse_context.head_only);
    finish(&head.found, body, rewrite, out);
    ParsedResponse::Final(ResponseHead::of(head, body, parse_context), length)
}

/// Writes what the client gets of a head that takes an upgrade, if it takes what was offered.
#[cold]
fn write_switching(
    head: &Head<'_, '_>,
    length: usize,
    rewrite: &ResponseRewrite<'_>,
    out: &mut Buffer,
) -> ParsedResponse {
    let taken = |offered: &str| response_rules::takes(head.upgrades(), offered);
    if !rewrite.upgrade.is_some_and(taken) {
        return ParsedResponse::Invalid;
    }
    response_rules::write_switching(head, out);
    rewrite.fields.each(|name, value| out.push_field(name, value));
    out.push(b"\r\n");
    let kind = kind::of_tunnel(head.upgrades().next());
    let answer =
        ResponseHead { status: head.status, body: Body::Done, kind, closes: true, later: false, grpc_failed: false };
    ParsedResponse::Switched(answer, length)
}

/// The end of a final head: what we add.
fn finish(found: &Found<'_>, body: Body, rewrite: &ResponseRewrite<'_>, out: &mut Buffer) {
    if matches!(body, Body::Chunked(_) | Body::UntilClose) {
        out.push(b"transfer-encoding: chunked\r\n");
    }
    if let Some(length) = found.restated_length() {
        let _ = write!(out, "content-length: {length}\r\n");
    }
    if !found.date {
        write_date(out);
    }
    rewrite.fields.each(|name, value| out.push_field(name, value));
    out.push(if rewrite.close { b"connection: close\r\n\r\n" } else { b"connection: keep-alive\r\n\r\n" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::codec::body::Chunk;

    const PARSE_CONTEXT: ParseContext = ParseContext { head_only: false, grpc: false };
    const FIELDS: ClientFields<'_> = ClientFields { set_cookie: None, version: None };
    const KEEP: ResponseRewrite<'_> = ResponseRewrite { close: false, fields: FIELDS, upgrade: None };

    fn rewritten(head: &str, parse_context: ParseContext) -> (ParsedResponse, String) {
        let mut out = Buffer::default();
        let parsed = rewrite_head(head.as_bytes(), parse_context, &KEEP, &mut out);
        (parsed, String::from_utf8(out.data().to_vec()).unwrap())
    }

    fn answer(head: &str) -> ResponseHead {
        match rewritten(head, PARSE_CONTEXT).0 {
            ParsedResponse::Final(answer, length) => {
                assert_eq!(length, head.len());
                answer
            }
            other => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn framing_is_that_of_the_rfc() {
        let body = |fields: &str| answer(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).body;
        assert_eq!(body("Content-Length: 5\r\n"), Body::Length(5));
        assert_eq!(body("Content-Length: 0\r\n"), Body::Done);
        assert_eq!(body("Content-Length: 5, 5\r\ncontent-length: 5\r\n"), Body::Length(5));
        assert_eq!(body("Transfer-Encoding: chunked\r\n"), Body::Chunked(Chunk::Size));
        assert_eq!(body("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Body::Chunked(Chunk::Size));
        assert_eq!(body(""), Body::UntilClose);
        assert_eq!(answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").body, Body::Done);
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: \r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{bad}\r\n");
            assert!(matches!(rewritten(&head, PARSE_CONTEXT).0, ParsedResponse::Invalid), "{bad}");
        }
    }

    #[test]
    fn a_length_that_is_said_more_than_once_is_written_once() {
        let (_, written) =
            rewritten("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\ncontent-length: 5\r\nA: b\r\n\r\n", PARSE_CONTEXT);
        assert_eq!(written.to_ascii_lowercase().matches("content-length").count(), 1, "{written}");
        assert!(written.contains("content-length: 5\r\n"), "{written}");
    }

    #[test]
    fn what_the_engine_forgives_is_forgiven() {
        let (parsed, written) =
            rewritten("HTTP/1.1 200 OK\r\nServer : IIS\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n", PARSE_CONTEXT);
        assert!(matches!(parsed, ParsedResponse::Final(ResponseHead { body: Body::Done, .. }, _)), "{parsed:?}");
        assert!(written.contains("Server: IIS\r\n") && written.contains("X-A: 1   2\r\n"), "{written}");
        let many: String = (0..200).map(|n| format!("x-{n}: {n}\r\n")).collect();
        let (parsed, written) = rewritten(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), PARSE_CONTEXT);
        assert!(matches!(parsed, ParsedResponse::Final(..)) && written.contains("x-199: 199\r\n"), "{parsed:?}");
        // An odd head that is not complete waits; one with too many fields does not.
        assert!(matches!(
            rewritten("HTTP/1.1 200 OK\r\nServer : IIS\r\nX-A", PARSE_CONTEXT).0,
            ParsedResponse::Partial
        ));
        let many: String = (0..300).map(|n| format!("x-{n}: {n}\r\n")).collect();
        assert!(matches!(
            rewritten(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), PARSE_CONTEXT).0,
            ParsedResponse::Invalid
        ));
    }

    #[test]
    fn a_failed_grpc_call_is_seen_in_the_head() {
        let parse_context = ParseContext { grpc: true, ..PARSE_CONTEXT };
        let failed = |head: &str, parse_context| match rewritten(head, parse_context).0 {
            ParsedResponse::Final(answer, _) => answer.grpc_failed,
            other => panic!("{other:?}"),
        };
        let head = |status: &str| format!("HTTP/1.1 200 OK\r\nGrpc-Status: {status}\r\nContent-Length: 0\r\n\r\n");
        assert!(
            failed(&head("14"), parse_context)
                && !failed(&head("0"), parse_context)
                && !failed(&head("5"), parse_context)
        );
        assert!(!failed(&head("14"), PARSE_CONTEXT), "it was no gRPC call");
    }

    #[test]
    fn a_connection_that_might_end_is_known() {
        let closes = |head: &str| answer(head).closes;
        assert!(!closes("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
        assert!(!closes("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(closes("HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\nContent-Length: 5\r\n\r\n"));
        assert!(closes("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"));
        assert!(closes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"));
        assert!(closes("HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn what_concerns_the_endpoints_connection_ends_here() {
        let head = "HTTP/1.1 200 Fine\r\nConnection: close, X-Secret\r\nx-secret: 1\r\nKeep-Alive: timeout=5\r\n\
            Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\nA: b\r\n\r\n";
        let (_, written) = rewritten(head, PARSE_CONTEXT);
        assert_eq!(
            written,
            "HTTP/1.1 200 Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nA: b\r\ntransfer-encoding: chunked\r\n\
             connection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn the_answer_to_head_keeps_its_length_and_has_no_body() {
        let parse_context = ParseContext { head_only: true, ..PARSE_CONTEXT };
        let (parsed, written) = rewritten("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", parse_context);
        assert!(matches!(parsed, ParsedResponse::Final(ResponseHead { body: Body::Done, .. }, _)), "{parsed:?}");
        assert!(written.contains("Content-Length: 5\r\n"), "{written}");
    }

    #[test]
    fn an_informational_head_is_passed_and_a_switch_of_protocols_is_not() {
        let (parsed, written) = rewritten("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200", PARSE_CONTEXT);
        assert!(matches!(parsed, ParsedResponse::Informational(40)), "{parsed:?}");
        assert_eq!(written, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        let (_, written) = rewritten(
            "HTTP/1.1 100 Continue\r\nConnection: close, a\r\nA: b\r\nContent-Length: 0\r\n\r\n",
            PARSE_CONTEXT,
        );
        assert_eq!(written, "HTTP/1.1 100 Continue\r\n\r\n", "framing and the endpoint's connection end here");
        assert!(matches!(rewritten("HTTP/1.1 101 Switching\r\n\r\n", PARSE_CONTEXT).0, ParsedResponse::Invalid));
        assert!(matches!(rewritten("SSH-2.0-x\r\n\r\n", PARSE_CONTEXT).0, ParsedResponse::Invalid));
        assert!(matches!(rewritten("HTTP/1.1 200 OK\r\nA:", PARSE_CONTEXT).0, ParsedResponse::Partial));
    }
}
