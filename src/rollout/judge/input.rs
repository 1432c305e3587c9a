//! What the judge looks at: in an analysis run, and for one check of it.

use super::significance::Significance;
use crate::rollout::evidence::{ClientTallies, Evidence, Question, Sample, Samples, StablePast};
use crate::rollout::plan::{Check, Plan};

/// What an analysis run looks at.
pub(crate) struct AnalysisInput<'a> {
    pub(crate) plan: &'a Plan,
    /// What was counted of both versions.
    pub(crate) evidence: &'a Evidence,
    /// How stable's requests came, also before the rollout.
    pub(crate) baseline: &'a dyn StablePast,
    /// All traffic is the canary's: no stable version shows at the same time what is usual.
    pub(crate) canary_has_all: bool,
    /// Other services fail at this moment too, in words, if they do and all traffic is the canary's.
    pub(crate) shared_failure: Option<&'a str>,
}

/// What one check looks at.
pub(super) struct CheckInput<'a> {
    pub(super) check: &'a Check,
    pub(super) seen: &'a Samples,
    pub(super) min_requests: u64,
    pub(super) level: Option<f64>,
    pub(super) baseline: &'a dyn StablePast,
    pub(super) shared_failure: Option<&'a str>,
}

impl CheckInput<'_> {
    /// How sure a finding about the canary has to be.
    pub(super) fn significance(&self, question: Question) -> Significance {
        significance_of(self.level, self.baseline, question, &self.seen.canary)
    }
}

/// How sure a finding about `sample` has to be, where chance may be so likely, in percent.
pub(super) fn significance_of(
    level: Option<f64>,
    baseline: &dyn StablePast,
    question: Question,
    sample: &Sample,
) -> Significance {
    let asked = question.tally(sample);
    let design_effect = match level {
        Some(_) => {
            let dispersion = baseline.dispersion(question).of_version(ClientTallies::of(sample, asked.bad));
            dispersion.design_effect(asked.requests as f64, sample.covered)
        }
        None => 1.0,
    };
    Significance { level: level.map(|percent| percent / 100.0), design_effect }
}
