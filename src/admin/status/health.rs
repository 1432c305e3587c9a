//! The health of one endpoint, for operators.

use std::time::Instant;

use super::rounded;
use crate::admin::wire::{FailureStatus, HealthStatus};
use crate::snapshot::live::{EndpointLive, LastFailure, counted};

/// What is known of the health of an endpoint.
pub(super) fn of(endpoint: &EndpointLive, now: Instant) -> HealthStatus {
    let report = endpoint.health.report();
    let ago = |then: Instant| rounded(now.saturating_duration_since(then).as_secs_f64(), 1);
    let (status, since) = match (report.unreachable, report.ejected) {
        (Some(lost), _) => ("unreachable", Some(lost.since)),
        (None, Some(ejected)) => ("ejected", Some(ejected.since)),
        (None, None) => ("healthy", None),
    };
    let left = |until: Instant| rounded(until.saturating_duration_since(now).as_secs_f64(), 1);
    HealthStatus {
        status: status.to_owned(),
        why: report.why,
        out_seconds: since.map(ago),
        back_in_seconds: report.ejected.filter(|_| report.unreachable.is_none()).map(|ejected| left(ejected.until)),
        connects: endpoint.health.connects(),
        failures: counted(&endpoint.health),
        last_failure: report.last_failure.map(|LastFailure { cause, detail, at }| FailureStatus {
            cause: cause.as_str().to_owned(),
            detail,
            seconds_ago: ago(at),
        }),
    }
}
