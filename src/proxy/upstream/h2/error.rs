//! Why a request on a stream has no response, or not a whole one.

use std::error::Error;

use ::h2::Reason;

use super::state::ConnectionState;

/// Why a request on a stream has no response, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The endpoint provably did not process the request: its stream was refused, is above the last one of a GOAWAY, or
    /// never came to be (RFC 9113 §8.7). It may be tried again whatever its method.
    #[error("the endpoint did not process the request")]
    Unprocessed,
    #[error("the connection or the response broke off: {0}")]
    Broken(::h2::Error),
    #[error("the endpoint does not speak HTTP/2 properly: {0}")]
    Protocol(::h2::Error),
    /// A fault of our own.
    #[error("the request's head cannot be sent: {0}")]
    Unsendable(Box<dyn Error + Send + Sync>),
}

impl StreamError {
    /// What the end of a stream means; `answered`: its final head had arrived.
    pub(super) fn of(error: ::h2::Error, answered: bool, stream: u32, state: &ConnectionState) -> Self {
        let refused = error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        if !answered && (refused || state.excludes(stream)) {
            Self::Unprocessed
        } else if answered || error.is_io() {
            Self::Broken(error)
        } else {
            Self::Protocol(error)
        }
    }

    /// What it means that the head of a request was not taken.
    pub(super) fn of_unsent(error: ::h2::Error) -> Self {
        if error.is_go_away() || error.is_io() || error.is_reset() {
            Self::Unprocessed
        } else {
            Self::Unsendable(error.into())
        }
    }
}
