//! What a finished request says about its version, for its circuit breaker.
//!
//! | how it ended | it is |
//! |---|---|
//! | 5xx or a gRPC status that blames the server, from the endpoint, from an injected fault, or from Weir because of the version | an error |
//! | a response that the endpoint broke off | an error, unless it is a stream: those end in many ways |
//! | any other response of the endpoint, 4xx too | a success |
//! | the client left; Weir refused it; a drain cut it | nothing |

use std::time::Instant;

use super::context::RequestProgress;
use super::failure::{Failure, INJECTED_FAULT};
use crate::snapshot::live::{CircuitBreaker, EndpointLive};
use crate::telemetry::{Class, Outcome, VersionSeries};

/// Lets a version's circuit breaker know how a request ended that went to `endpoint`.
pub(crate) fn observe(
    breaker: &CircuitBreaker,
    progress: &RequestProgress,
    series: &VersionSeries,
    endpoint: Option<&EndpointLive>,
) {
    match evidence(progress) {
        Some(true) => {
            breaker.failed(endpoint, series.requests_total(), Instant::now());
        }
        Some(false) => breaker.succeeded(endpoint),
        None => {}
    }
}

/// Whether the request failed because of its version; none if it says nothing about it.
fn evidence(progress: &RequestProgress) -> Option<bool> {
    let outcome = progress.outcome();
    if progress.is_cut() || outcome == Outcome::ClientClosed {
        return None;
    }
    let is_5xx = progress.grpc_failed || outcome.class() == Class::ServerError;
    match progress.cause {
        None => Some(is_5xx),
        Some(cause) if cause == INJECTED_FAULT.cause => Some(is_5xx),
        Some(cause) if Failure::is_named(cause) => Some(is_5xx || !progress.kind.is_stream()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
