//! What the answers to active checks make of an endpoint's health.
//!
//! Invariant: only whoever follows health says what checks found, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::check_record::CheckRecord;
use super::endpoint::EndpointLive;
use super::state::Out;
use crate::health::check::Thresholds;
use crate::snapshot::HealthCheck;
use crate::telemetry::{CheckResult, EjectionReason};

impl EndpointLive {
    /// A snapshot has the endpoint, whose version checks it so. One that none had before may be out until its first check.
    pub(crate) fn starts(&self, check: Option<&HealthCheck>) {
        let is_new = self.health.is_new.swap(false, Ordering::AcqRel);
        if is_new && check.is_some_and(|check| check.starts_unhealthy) {
            self.health.detail().checks.out_since = Some(Instant::now());
            self.state.set_out(Out::Unhealthy, true);
        }
    }

    /// A check of the endpoint that began then is over. One that passes ends an ejection before it, and where its time has
    /// come also that the endpoint is unreachable.
    pub(crate) fn checked(
        self: &Arc<Self>,
        failure: Option<String>,
        thresholds: Thresholds,
        (began, now): (Instant, Instant),
    ) {
        let passed = failure.is_none();
        let result = if passed { CheckResult::Pass } else { CheckResult::Fail };
        if let Some(count) = self.health.checks.get(result.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let (is_first, healthy) = {
            let mut detail = self.health.detail();
            let is_first = !detail.checks.is_answered();
            (is_first, detail.checks.answered(failure, thresholds, now))
        };
        if !healthy {
            let version = Arc::clone(&self.health.of_version);
            let _pool = version.lock();
            // One that was out before its first check is so for a reason from now on.
            if is_first && self.state.is_out(Out::Unhealthy) {
                return self.count_out(EjectionReason::Unhealthy);
            }
            return self.take_out(Out::Unhealthy, EjectionReason::Unhealthy);
        }
        self.bring_back(Out::Unhealthy);
        if passed {
            self.is_well(began, now);
        }
    }

    /// A check that began then passed.
    fn is_well(self: &Arc<Self>, began: Instant, now: Instant) {
        let report = self.health.report();
        if report.ejected.is_some_and(|ejected| ejected.since <= began) {
            self.readmit(true, now);
        }
        // One that flaps is not back each time that it accepts.
        if report.unreachable.is_some_and(|lost| lost.due <= began) {
            self.asked(None, now);
        }
    }

    /// Another question is asked from now on: what the first passes, brings the endpoint back.
    pub(crate) fn is_checked_anew(&self) {
        self.health.detail().checks.checked.ask_anew();
    }

    /// The endpoint is not checked any more.
    pub(crate) fn is_unchecked(self: &Arc<Self>) {
        self.health.detail().checks = CheckRecord::default();
        self.bring_back(Out::Unhealthy);
    }
}

#[cfg(test)]
mod tests;
