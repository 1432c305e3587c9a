//! `error_rate above 1 % for 2m`: a condition that holds all the time, looked at once a second.
//!
//! ```text
//! observed   ✗ ✗ ✗ · ✗ ✗ ✗ ✗      ✗ ✗ ✗ ✗ …     ✗ above, · not above or too few requests
//! stretch    0 1 2   0 1 2 3  gap  0 1 2 3 …     seconds that count
//! ```
//!
//! Time that nobody looked at counts as nothing: after a gap (late ticks, a machine that slept) the stretch begins
//! again, at the observation that ends the gap. So does it when there are too few requests to say: "above" is a
//! claim, and a claim needs its minimum of requests. A canary that nobody asks hurts nobody, and what to do about no
//! data is the checks' business.
//!
//! Above for all its time is not yet more than chance: that is asked of all requests of the stretch together.
//!
//! Invariant: the stretch is never longer than the time since the last observation that was not above.

use std::time::Duration;

use super::input::significance_of;
use super::significance::Excess;
use crate::rollout::evidence::{Evidence, Limit, Question, Sample, StablePast};
use crate::rollout::format;
use crate::rollout::plan::{Errors, Plan, RollbackCondition};

/// Observations come once a second. On a busy machine some may be missed, and the windows lose nothing by it; what is
/// farther apart is a gap.
pub(crate) const MAX_GAP: Duration = Duration::from_secs(5);

/// So many independent looks at it a rollout may have: half an hour is looked at 1,800 times, and stretches begin where
/// chance was against the canary.
const LOOKS: f64 = 100.0;

/// Since when something has been true without a break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The first and the last observation at which it was true, if it was at the last.
    observations: Option<(Duration, Duration)>,
}

impl Stretch {
    /// Takes what an observation found at `now`, and returns for how long it has been true without a break. One that is
    /// earlier than the last one begins anew.
    pub(crate) fn observe(&mut self, is_true: bool, now: Duration) -> Duration {
        let since = match self.observations {
            Some((since, last)) if now.checked_sub(last).is_some_and(|gap| gap <= MAX_GAP) => since,
            _ => now,
        };
        self.observations = is_true.then_some((since, now));
        self.observations.map_or(Duration::ZERO, |(since, _)| now.saturating_sub(since))
    }
}

/// The condition [`RollbackCondition::ErrorRate`] and how long it has held.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ErrorWatch {
    above: f64,
    sustained: Duration,
    errors: Errors,
    stretch: Stretch,
}

/// The watches over a plan's conditions.
pub(crate) fn watches(plan: &Plan) -> Vec<ErrorWatch> {
    plan.rollback_when.iter().filter_map(ErrorWatch::new).collect()
}

/// What has held for its whole time at `now`, in words, if something has and the canary is to blame: where stable is as
/// bad, the checks decide.
pub(crate) fn breach(
    watches: &mut [ErrorWatch],
    plan: &Plan,
    evidence: &Evidence,
    baseline: &dyn StablePast,
    now: Duration,
) -> Option<String> {
    let looks = watches.iter_mut().map(|watch| watch.observe(plan, evidence, baseline, now));
    let breached: Vec<String> =
        looks.filter(|look| look.breached && !look.stable_fails_too).map(|look| look.sentence).collect();
    breached.into_iter().next()
}

/// What an observation of an [`ErrorWatch`] found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Watched {
    /// The condition has held for its time: all traffic has to go back.
    pub(crate) breached: bool,
    /// How long the rate has been above the limit without a break.
    pub(crate) lasted: Duration,
    /// The stable version is above the limit too, with enough requests, and about as bad: not the canary is to blame.
    pub(crate) stable_fails_too: bool,
    /// What was seen, up to the limit: `errors: canary 14 of 820 (1.71 %) over 60 s, stable 31 of 16,410 (0.19 %),
    /// limit 1 % for 2m00s`.
    pub(crate) sentence: String,
}

impl ErrorWatch {
    /// The watch over a condition, if it is one of this kind.
    #[must_use]
    pub(crate) const fn new(condition: &RollbackCondition) -> Option<Self> {
        match *condition {
            RollbackCondition::ErrorRate { above, sustained, errors } => {
                Some(Self { above, sustained, errors, stretch: Stretch { observations: None } })
            }
            RollbackCondition::InARow { .. } | RollbackCondition::Within { .. } => None,
        }
    }

    /// Observes both versions at `now`. To be called once a second; see [`MAX_GAP`].
    pub(crate) fn observe(
        &mut self,
        plan: &Plan,
        evidence: &Evidence,
        baseline: &dyn StablePast,
        now: Duration,
    ) -> Watched {
        let seen = evidence.last(plan.window);
        let is_above = self.is_above(&seen.canary, plan.min_requests);
        let stable_fails_too = self.is_above(&seen.stable, plan.min_requests)
            && significance_of(plan.significance, baseline, Question::Errors(self.errors), &seen.canary)
                .as_bad(seen.canary.errors(self.errors), seen.stable.errors(self.errors));
        let lasted = self.stretch.observe(is_above, now);
        let breached = is_above && lasted >= self.sustained && self.is_sure(plan, evidence, baseline, lasted);
        Watched {
            breached,
            lasted,
            stable_fails_too,
            sentence: format!(
                "errors: canary {} over {}, stable {}, limit {} for {}",
                seen.canary.errors_in_words(self.errors),
                format::duration(seen.canary.covered),
                seen.stable.errors_in_words(self.errors),
                format::percent(self.above),
                format::duration(self.sustained),
            ),
        }
    }

    fn is_above(&self, sample: &Sample, min_requests: u64) -> bool {
        let tally = sample.errors(self.errors);
        tally.requests >= min_requests && tally.above(Limit::percent(self.above))
    }

    /// Whether all requests since the stretch began, and in the window before, are above the limit by more than chance.
    fn is_sure(&self, plan: &Plan, evidence: &Evidence, baseline: &dyn StablePast, lasted: Duration) -> bool {
        let all = evidence.last(lasted.saturating_add(plan.window)).canary;
        // It is asked each second, and of a stretch that was chosen because it is above.
        let level = plan.significance.map(|level| level / LOOKS);
        let significance = significance_of(level, baseline, Question::Errors(self.errors), &all);
        significance.excess(all.errors(self.errors), Limit::percent(self.above)) == Excess::Sure
    }
}

#[cfg(test)]
mod tests;
