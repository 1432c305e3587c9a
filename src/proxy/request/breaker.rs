//! What a finished request says about its version, for the trip wire that guards it.
//!
//! | how it ended | it is |
//! |---|---|
//! | 5xx or a gRPC status that blames the server, from the endpoint, from a drill, or from Weir because of the version | an error |
//! | a response that the endpoint broke off | an error, unless it is a stream: those end in many ways |
//! | any other response of the endpoint, 4xx too | a success |
//! | the client left; Weir refused it; a drain cut it | nothing |

use std::time::Instant;

use super::failure::{DRILL, Failure};
use super::record::Finished;
use crate::snapshot::live::CircuitBreaker;
use crate::telemetry::{Class, Outcome};

/// Tells a version's trip wire how a request ended.
pub(crate) fn tell(wire: &CircuitBreaker, finished: &Finished<'_>) {
    if let Some(is_error) = evidence(finished) {
        wire.observe(is_error, Instant::now);
    }
}

/// Whether the request failed because of its version; none if it says nothing about it.
fn evidence(finished: &Finished<'_>) -> Option<bool> {
    if finished.cut || finished.outcome == Outcome::ClientClosed {
        return None;
    }
    let is_5xx = finished.grpc_failed || finished.outcome.class() == Class::ServerError;
    match finished.cause {
        None => Some(is_5xx),
        Some(cause) if cause == DRILL.cause => Some(is_5xx),
        Some(cause) if Failure::is_named(cause) => Some(is_5xx || !finished.kind.is_stream()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
