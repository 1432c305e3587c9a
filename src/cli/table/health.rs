//! The health of an endpoint, in words after its line's work.

use super::{BAD, CAUTION, DIM, clean, paint, span};
use crate::admin::wire::{EndpointStatus, FailureStatus, HealthStatus};

/// `  ejected for 12 s, back in 18 s: errors in a row  (refused 3; last refused 2 s ago)`; empty where all is well.
pub(super) fn words(endpoint: &EndpointStatus) -> String {
    let health = &endpoint.health;
    let out = out(health).map_or_else(String::new, |text| format!("  {text}"));
    format!("{out}{}", failures(health))
}

fn out(health: &HealthStatus) -> Option<String> {
    let since = health.out_seconds?;
    let back = health.back_in_seconds.map_or_else(String::new, |left| format!(", back in {}", span(left)));
    let why = health.why.as_deref().map_or_else(String::new, |why| format!(": {}", clean(why)));
    let style = if health.back_in_seconds.is_some() { CAUTION } else { BAD };
    Some(paint(style, &format!("{} for {}{back}{why}", clean(&health.status), span(since))))
}

fn failures(health: &HealthStatus) -> String {
    if health.failures.is_empty() {
        return String::new();
    }
    let counts: Vec<String> =
        health.failures.iter().map(|(cause, count)| format!("{} {count}", clean(cause))).collect();
    let last = health.last_failure.as_ref().map_or_else(String::new, last);
    format!("  {}", paint(DIM, &format!("({}{last})", counts.join(", "))))
}

fn last(failure: &FailureStatus) -> String {
    let detail = failure.detail.as_deref().map_or_else(String::new, |detail| format!(": {}", clean(detail)));
    format!("; last {} {} ago{detail}", clean(&failure.cause), span(failure.seconds_ago))
}
