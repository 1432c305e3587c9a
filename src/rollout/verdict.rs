//! What a check found.

use crate::model::Name;

/// What a check found at one analysis run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The check's name.
    pub check: Name,
    /// Good, bad, or why neither.
    pub outcome: CheckOutcome,
    /// The check reports without deciding.
    pub dry_run: bool,
    /// What was measured, if anything was; in the check's own unit (percent, seconds, requests per second).
    pub value: Option<f64>,
    /// What it is compared with, in the same unit.
    pub limit: Option<f64>,
    /// The canary's requests that the value is about.
    pub samples: u64,
    /// The stable version fails the same check: not the canary is to blame.
    pub stable_fails_too: bool,
    /// One sentence that an operator can act on, with figures and limits.
    pub sentence: String,
}

/// Whether what was measured is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// Good.
    Pass,
    /// Bad.
    Fail,
    /// Too few requests to say; what that means is the plan's decision, made by the engine.
    NoData,
    /// It could not be measured. That says nothing about the canary.
    Error,
}

impl CheckOutcome {
    /// The word in metrics, the API and the history.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NoData => "no_data",
            Self::Error => "error",
        }
    }
}
