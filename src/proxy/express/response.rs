//! What an HTTP/1 endpoint's response says, and what of its request says how to read it.

use crate::drain::Kind;
use crate::proxy::codec::body::Body;
use crate::proxy::codec::response::Head;
use crate::proxy::request::kind;

/// What is known of the request when its response comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParseContext {
    /// By `HEAD`, which is answered without body.
    pub(crate) head_only: bool,
    /// By a gRPC call.
    pub(crate) grpc: bool,
}

/// The field that says when to come again (RFC 9110 §10.2.3).
pub(crate) const RETRY_AFTER: &str = "retry-after";

/// A response's head.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) body: Body,
    pub(crate) kind: Kind,
    /// The endpoint ends its connection after it, or might.
    pub(crate) closes: bool,
    /// It says when to come again.
    pub(crate) later: bool,
    /// It says that the gRPC call failed.
    pub(crate) grpc_failed: bool,
}

/// Whether an error says when to come again.
#[inline]
pub(crate) fn says_when(head: &Head<'_, '_>) -> bool {
    head.status >= 500 && head.fields.iter().any(|field| field.name.eq_ignore_ascii_case(RETRY_AFTER))
}

impl ResponseHead {
    /// What a final head that is followed by `body` says.
    #[inline]
    pub(crate) fn of(head: &Head<'_, '_>, body: Body, parse_context: ParseContext) -> Self {
        Self {
            status: head.status,
            body,
            kind: kind::of_response(head.found.content_type, parse_context.grpc),
            closes: head.closes(body),
            later: says_when(head),
            grpc_failed: parse_context.grpc && head.found.grpc_status.is_some_and(kind::blames_server),
        }
    }
}
