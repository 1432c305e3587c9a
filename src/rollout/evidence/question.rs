//! What is asked of each request: the property whose share is judged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sample::{Sample, Tally};
use crate::rollout::plan::{Check, Compared, Errors, Measure, Plan, RollbackCondition};

/// A property that a request has or has not, bad where it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// It was an error.
    Errors(Errors),
    /// It took longer than this.
    Slower(Duration),
    /// Its client went away before the first byte of the response.
    Abandoned,
}

impl Question {
    /// How many of a sample's requests have it.
    pub(crate) fn tally(self, sample: &Sample) -> Tally {
        match self {
            Self::Errors(errors) => sample.errors(errors),
            Self::Slower(limit) => sample.slower(limit),
            Self::Abandoned => sample.abandoned(),
        }
    }

    /// The duration that it is about.
    pub(crate) const fn edge(self) -> Option<Duration> {
        match self {
            Self::Slower(limit) => Some(limit),
            Self::Errors(_) | Self::Abandoned => None,
        }
    }

    /// What a check asks, if it is about shares of requests.
    pub(crate) const fn of(check: &Check) -> Option<Self> {
        match check.measure {
            Measure::SuccessRate { errors, .. } | Measure::ErrorRate { errors, .. } => Some(Self::Errors(errors)),
            Measure::Duration { max, .. } => Some(Self::Slower(max)),
            Measure::Abandoned { .. } => Some(Self::Abandoned),
            Measure::Compare { metric, errors, .. } => Some(Self::compared(metric, errors)),
            Measure::Requests { .. } | Measure::External { .. } => None,
        }
    }

    /// What a comparison asks.
    pub(crate) const fn compared(metric: Compared, errors: Errors) -> Self {
        match metric {
            Compared::ErrorRate => Self::Errors(errors),
            Compared::Slower(limit) => Self::Slower(limit),
        }
    }

    /// All that a plan asks, each once.
    pub(crate) fn all(plan: &Plan) -> Vec<Self> {
        let watched = plan.rollback_when.iter().filter_map(|condition| match condition {
            RollbackCondition::ErrorRate { errors, .. } => Some(Self::Errors(*errors)),
            RollbackCondition::InARow { .. } | RollbackCondition::Within { .. } => None,
        });
        let mut all: Vec<Self> = Vec::new();
        for question in plan.checks.iter().filter_map(Self::of).chain(watched) {
            if !all.contains(&question) {
                all.push(question);
            }
        }
        all
    }
}
