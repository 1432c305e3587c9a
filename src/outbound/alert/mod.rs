//! Alerts: people and machines are told what a rollout did, why, and on what figures.
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
mod courier;
mod pagerduty;
mod queue;
mod send;
mod slack;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::model::Name;
use crate::rollout::verdict::Verdict;

pub use courier::{Alerts, Courier, Fate, Loss, OnReport, Report};
pub use queue::{CAPACITY, Pending};
pub use send::TRY;

/// What happened to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It began.
    Started,
    /// The canary's weight rose.
    Step,
    /// It waits for a person or a hook.
    Waiting,
    /// It goes on after it had waited or paused.
    Resumed,
    /// It stands still until a person decides.
    Paused,
    /// The canary has everything; the old version is kept warm.
    Baking,
    /// The analysis sent all traffic back to stable.
    RolledBack,
    /// A person sent all traffic back to stable.
    Aborted,
    /// The canary is the stable version now.
    Succeeded,
    /// A check could not be measured.
    ProviderError,
    /// Decisions cannot be written down, so none is taken.
    StoreError,
}

impl Transition {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Started,
        Self::Step,
        Self::Waiting,
        Self::Resumed,
        Self::Paused,
        Self::Baking,
        Self::RolledBack,
        Self::Aborted,
        Self::Succeeded,
        Self::ProviderError,
        Self::StoreError,
    ];

    /// The word in the configuration and in alerts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Step => "step",
            Self::Waiting => "waiting",
            Self::Resumed => "resumed",
            Self::Paused => "paused",
            Self::Baking => "baking",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Succeeded => "succeeded",
            Self::ProviderError => "provider_error",
            Self::StoreError => "store_error",
        }
    }

    /// The transition of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transition| transition.as_str() == word)
    }

    /// How bad it is, unless whoever raises the alert knows better.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Started | Self::Step | Self::Waiting | Self::Resumed | Self::Baking | Self::Succeeded => {
                Severity::Info
            }
            Self::Aborted | Self::ProviderError => Severity::Warning,
            Self::Paused | Self::RolledBack => Severity::Error,
            Self::StoreError => Severity::Critical,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// To be looked at.
    Warning,
    /// Something went wrong, and Weir did what there was to do.
    Error,
    /// Somebody must act.
    Critical,
}

impl Severity {
    /// The word in alerts; PagerDuty has the same ones.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Of this transition alone: it is what receivers tell a repetition by.
    pub id: String,
    /// When it happened, in Unix seconds.
    pub time: u64,
    /// The service.
    pub service: String,
    /// The version that traffic goes back to.
    pub stable: String,
    /// The version that is rolled out.
    pub canary: String,
    /// What happened.
    pub transition: Transition,
    /// How bad it is.
    pub severity: Severity,
    /// Why, in one sentence.
    pub sentence: String,
    /// What was done: weights, for instance.
    pub done: String,
    /// What the checks look back on, in seconds.
    pub window_seconds: f64,
    /// What the checks found.
    pub figures: Vec<Figure>,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The check's name.
    pub check: String,
    /// `pass`, `fail`, `no_data` or `error`.
    pub verdict: String,
    /// What was measured, in the check's own unit.
    pub value: Option<f64>,
    /// What it is compared with, in the same unit.
    pub limit: Option<f64>,
    /// The canary's requests that the value is about.
    pub samples: u64,
    /// All of it, for a person.
    pub sentence: String,
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
pub struct Receiver {
    /// Its name; unique.
    pub name: Name,
    /// Where it is.
    pub kind: Kind,
    /// What it is told of.
    pub on: Vec<Transition>,
}

/// Where a receiver is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An incoming webhook of Slack, or of whatever understands the same.
    Slack {
        /// The file with the webhook's URL, which is a secret.
        url_file: Arc<Path>,
    },
    /// PagerDuty's Events API v2.
    PagerDuty {
        /// The file with the routing key.
        routing_key_file: Arc<Path>,
        /// Another address than PagerDuty's own one in the United States.
        url: Option<Arc<str>>,
    },
    /// CloudEvents 1.0 as structured JSON.
    Webhook {
        /// Where to.
        url: Arc<str>,
        /// The file with the key that signs the calls, if they are signed.
        secret_file: Option<Arc<Path>>,
    },
}

impl Receiver {
    /// Whether it is told of a transition: if it asked for it, and if it must end an incident that it began.
    #[must_use]
    pub fn wants(&self, transition: Transition) -> bool {
        self.on.contains(&transition)
            || (transition == Transition::Succeeded
                && matches!(self.kind, Kind::PagerDuty { .. })
                && !self.on.is_empty())
    }
}

#[cfg(test)]
mod tests;
