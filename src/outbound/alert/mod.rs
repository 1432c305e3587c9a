//! Alerts: people and machines are notified of what a rollout did, why, and on what figures.
//!
//! ```text
//! Alerts::raise ──► [ queue of `oncall` ] ──► pagerduty ──► POST
//!   never waits ──► [ queue of `chat`   ] ──► slack     ──► POST      each queue at its own pace, tried again
//!               ──► [ queue of `audit`  ] ──► cloudevents ► POST      with growing pauses
//!                    full: the oldest goes, and is counted
//! ```
//!
//! A receiver gets alerts in their order, each at least once: what a restart or a late answer repeats has the same id.
//!
//! Invariant: a receiver that is dead or slow costs its own queue and nothing else.

mod cloudevents;
mod delivery;
mod pagerduty;
mod queue;
mod send;
mod slack;

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::model::Name;
use crate::rollout::alerts::{Receiver as Kind, Severity, Transition};
use crate::rollout::verdict::Verdict;

pub(crate) use delivery::{Alerts, DeliveryStatus, OnReport, Report};
pub(crate) use queue::Pending;

/// What receivers get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    /// Of this transition alone: it is what receivers tell a repetition by.
    pub(crate) id: String,
    /// When it happened, in Unix seconds.
    pub(crate) time: u64,
    /// The service.
    pub(crate) service: String,
    /// The version that traffic goes back to.
    pub(crate) stable: String,
    /// The version that is rolled out.
    pub(crate) canary: String,
    /// What happened.
    pub(crate) transition: Transition,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// Why, in one sentence.
    pub(crate) sentence: String,
    /// What was done: weights, for instance.
    pub(crate) done: String,
    /// What the checks look back on, in seconds.
    pub(crate) window_seconds: f64,
    /// What the checks found.
    pub(crate) figures: Vec<Figure>,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The check's name.
    pub(crate) check: String,
    /// `pass`, `fail`, `suspect`, `warming_up`, `no_data` or `error`.
    pub(crate) verdict: String,
    /// What was measured, in the check's own unit.
    pub(crate) value: Option<f64>,
    /// What it is compared with, in the same unit.
    pub(crate) limit: Option<f64>,
    /// The canary's requests that the value is about.
    pub(crate) samples: u64,
    /// All of it, for a person.
    pub(crate) sentence: String,
}

impl From<&Verdict> for Figure {
    fn from(verdict: &Verdict) -> Self {
        // JSON has no infinity: a number that is one would be read back as none, and fail.
        let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
        Self {
            check: verdict.check.to_string(),
            verdict: verdict.outcome.as_str().to_owned(),
            value: finite(verdict.value),
            limit: finite(verdict.limit),
            samples: verdict.samples,
            sentence: verdict.sentence.clone(),
        }
    }
}

impl Alert {
    /// `shop/v2: rolled back`
    fn headline(&self) -> String {
        format!("{}/{}: {}", self.service, self.canary, self.transition.as_str().replace('_', " "))
    }

    /// When it happened, as RFC 3339 writes it.
    fn time(&self) -> String {
        // The last second that four digits of a year can say.
        const LAST: u64 = 253_402_300_799;
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.time.min(LAST))).to_string()
    }
}

/// Who is told, as the configuration states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    /// Its name; unique.
    pub(crate) name: Name,
    /// Where it is.
    pub(crate) kind: Kind,
    /// What it is told of.
    pub(crate) on: Vec<Transition>,
}

impl Receiver {
    /// Whether it is told of a transition: if it asked for it, and if it must end an incident that it began.
    #[must_use]
    pub(crate) fn wants(&self, transition: Transition) -> bool {
        self.on.contains(&transition)
            || (transition.ends_incident() && matches!(self.kind, Kind::PagerDuty { .. }) && !self.on.is_empty())
    }
}

#[cfg(test)]
mod tests;
