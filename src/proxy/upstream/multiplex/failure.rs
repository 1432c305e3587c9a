//! Why a request on a stream has no response, or not a whole one.

use crate::proxy::codec::frame::ErrorCode;

/// Why a request on a stream has no response, or not a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamFailure {
    /// The endpoint provably did not process the request: its stream was refused, is above the last one of a GOAWAY, or
    /// was never sent (RFC 9113 §8.7). It may be tried again whatever its method.
    #[error("the endpoint did not process the request")]
    Unprocessed,
    /// The endpoint reset the stream. A client that speaks HTTP/2 is told the same code.
    #[error("the endpoint reset the stream with code {}", .0.0)]
    Reset(ErrorCode),
    #[error("the connection broke off")]
    Broken,
    #[error("the endpoint does not speak HTTP/2 properly")]
    Protocol,
}
