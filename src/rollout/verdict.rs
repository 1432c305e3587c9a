//! What a check found, as it is judged, written down and shown.

use serde::{Deserialize, Serialize};

use crate::model::Name;

/// What a check found at one analysis run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The check's name.
    #[serde(with = "name")]
    pub(crate) check: Name,
    /// Good, bad, or why neither.
    pub outcome: CheckOutcome,
    /// The check reports without deciding.
    pub(crate) dry_run: bool,
    /// What was measured, if anything was: a finite number in the check's own unit (percent, seconds, requests per
    /// second).
    pub(crate) value: Option<f64>,
    /// What it is compared with, in the same unit.
    pub(crate) limit: Option<f64>,
    /// The canary's requests that the value is about.
    pub(crate) samples: u64,
    /// The stable version fails the same check: not the canary is to blame.
    #[serde(default)]
    pub(crate) stable_fails_too: bool,
    /// The evidence is about the whole rollout, and enough by itself: no other failed analysis run is waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) conclusive: bool,
    /// One sentence that an operator can act on, with figures and limits.
    pub sentence: String,
}

/// Whether what was measured is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// Good.
    Pass,
    /// Bad.
    Fail,
    /// Above the limit, and it may be chance, or the fault of one endpoint: nothing moves forward, and it is no failure.
    Suspect,
    /// The canary is not judged yet.
    WarmingUp,
    /// Too few requests to say; what that means is the plan's decision, made by the engine.
    #[default]
    NoData,
    /// It could not be measured. That says nothing about the canary.
    Error,
}

impl CheckOutcome {
    /// The word in metrics, the API and the history.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Suspect => "suspect",
            Self::WarmingUp => "warming_up",
            Self::NoData => "no_data",
            Self::Error => "error",
        }
    }
}

/// Names as plain strings.
pub(super) mod name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Name;

    pub(in crate::rollout) fn serialize<S: Serializer>(name: &Name, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name)
    }

    pub(in crate::rollout) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        String::deserialize(from).map(Name::from)
    }
}
