//! What a response makes of its request: one message, or a stream of a kind; and whether a gRPC call failed.

use crate::drain::Kind;

/// The kind of work that a response makes of its request, if it does not switch protocols; `grpc`: the request is a
/// gRPC call.
#[inline]
pub(crate) fn of_response(content_type: Option<&[u8]>, grpc: bool) -> Kind {
    if content_type.is_some_and(is_event_stream) {
        Kind::Sse
    } else if grpc {
        Kind::Grpc
    } else {
        Kind::Request
    }
}

/// What kind of work a tunnel is that was opened for `protocol`.
pub(crate) fn of_tunnel(protocol: Option<&[u8]>) -> Kind {
    let websocket = protocol.is_some_and(|token| token.eq_ignore_ascii_case(b"websocket"));
    if websocket { Kind::WebSocket } else { Kind::Upgrade }
}

fn is_event_stream(content_type: &[u8]) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    content_type.get(..EVENT_STREAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}

/// Whether a request with this type of content is a gRPC call.
#[inline]
pub(crate) fn is_grpc(content_type: Option<&[u8]>) -> bool {
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}

/// Whether a gRPC status blames the server: those that OpenTelemetry's conventions for RPC servers call errors (unknown,
/// deadline exceeded, unimplemented, internal, unavailable, data loss).
pub(crate) fn blames_server(status: &[u8]) -> bool {
    matches!(status, b"2" | b"4" | b"12" | b"13" | b"14" | b"15")
}
