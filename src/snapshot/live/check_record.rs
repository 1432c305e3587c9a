//! What active checks found of one endpoint, for those who decide by it and for people.

use std::time::Instant;

use crate::health::check::{Checked, Thresholds};

/// What active checks found of an endpoint.
#[derive(Debug, Default)]
pub(super) struct CheckRecord {
    pub(super) checked: Checked,
    last: Option<LastCheck>,
    /// Why one failed last.
    why: Option<String>,
    /// Since when the endpoint is out for its checks.
    pub(super) out_since: Option<Instant>,
}

/// The last check of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct LastCheck {
    /// When it was over.
    pub(crate) at: Instant,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

impl CheckRecord {
    pub(super) fn is_answered(&self) -> bool {
        self.checked.is_answered()
    }

    pub(super) fn last(&self) -> Option<LastCheck> {
        self.last.clone()
    }

    /// Why the endpoint is not healthy, if so.
    pub(super) fn unwell(&self) -> Option<String> {
        if !self.is_answered() {
            return Some("was not checked yet".to_owned());
        }
        self.out_since?;
        Some(format!("fails its health check ({})", self.why.as_deref().unwrap_or("unknown")))
    }

    /// Why the endpoint is out, if it is.
    pub(super) fn why(&self) -> Option<String> {
        self.out_since?;
        let of_check = self.why.as_ref().map(|why| format!("its check fails: {why}"));
        Some(of_check.unwrap_or_else(|| "it was not checked yet".to_owned()))
    }

    /// Takes in an answer; whether the endpoint is healthy now.
    pub(super) fn answered(&mut self, failure: Option<String>, thresholds: Thresholds, now: Instant) -> bool {
        let healthy = self.checked.answered(failure.is_none(), thresholds);
        self.out_since = if healthy { None } else { self.out_since.or(Some(now)) };
        if failure.is_some() {
            self.why.clone_from(&failure);
        }
        self.last = Some(LastCheck { at: now, failure });
        healthy
    }
}
