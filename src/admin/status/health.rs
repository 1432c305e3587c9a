//! The health of one endpoint, for operators.

use std::time::Instant;

use super::rounded;
use crate::admin::wire::{CheckStatus, FailureStatus, HealthStatus};
use crate::snapshot::live::{EndpointLive, LastCheck, LastFailure, counted};

/// What is known of the health of an endpoint.
pub(super) fn of(endpoint: &EndpointLive, now: Instant) -> HealthStatus {
    let report = endpoint.health.report();
    let ago = |then: Instant| rounded(now.saturating_duration_since(then).as_secs_f64(), 1);
    let (status, since) = match (report.unreachable, report.unhealthy, report.ejected) {
        (Some(lost), _, _) => ("unreachable", Some(lost.since)),
        (None, Some(since), _) => ("unhealthy", Some(since)),
        (None, None, Some(ejected)) => ("ejected", Some(ejected.since)),
        (None, None, None) => ("healthy", None),
    };
    let left = |until: Instant| rounded(until.saturating_duration_since(now).as_secs_f64(), 1);
    HealthStatus {
        status: status.to_owned(),
        why: report.why,
        out_seconds: since.map(ago),
        back_in_seconds: report.ejected.filter(|_| status == "ejected").map(|ejected| left(ejected.until)),
        connects: endpoint.health.connects(),
        failures: counted(&endpoint.health),
        last_failure: report.last_failure.map(|LastFailure { cause, detail, at }| FailureStatus {
            cause: cause.as_str().to_owned(),
            detail,
            seconds_ago: ago(at),
        }),
        last_check: report.last_check.map(|LastCheck { at, failure }| CheckStatus {
            passed: failure.is_none(),
            why: failure,
            seconds_ago: ago(at),
        }),
    }
}
