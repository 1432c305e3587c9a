//! The health of an endpoint, in words after its line's work.

use super::{BAD, CAUTION, DIM, clean, paint, span};
use crate::admin::wire::{CheckStatus, EndpointStatus, FailureStatus, HealthStatus};

/// `  ejected for 12 s, back in 18 s: errors in a row  checked 2 s ago  (refused 3; last refused 2 s ago)`; empty where all
/// is well and nothing is checked.
pub(super) fn words(endpoint: &EndpointStatus) -> String {
    let health = &endpoint.health;
    let out = out(health).map_or_else(String::new, |text| format!("  {text}"));
    let check = health.last_check.as_ref().map_or_else(String::new, |last| check(health, last));
    format!("{out}{check}{}", failures(health))
}

fn out(health: &HealthStatus) -> Option<String> {
    let since = health.out_seconds?;
    let back = health.back_in_seconds.map_or_else(String::new, |left| format!(", back in {}", span(left)));
    let why = health.why.as_deref().map_or_else(String::new, |why| format!(": {}", clean(why)));
    let style = if health.back_in_seconds.is_some() { CAUTION } else { BAD };
    Some(paint(style, &format!("{} for {}{back}{why}", clean(&health.status), span(since))))
}

fn check(health: &HealthStatus, last: &CheckStatus) -> String {
    let ago = span(last.seconds_ago);
    if last.passed {
        return format!("  {}", paint(DIM, &format!("checked {ago} ago")));
    }
    // One that is out for that has said why.
    let why = last.why.as_deref().filter(|_| health.status != "unhealthy");
    let why = why.map_or_else(String::new, |why| format!(": {}", clean(why)));
    format!("  {}", paint(CAUTION, &format!("check failed {ago} ago{why}")))
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
