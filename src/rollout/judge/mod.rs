//! The judge: what happened to requests in, verdicts out, each with the sentence that explains it.
//!
//! ```text
//!                  ┌ window(…) ──► errors, success, latency, requests ─┐
//! analyze(plan) ───┼ totals ─────► compare (memory carried on) ────────┼─► one Verdict per check, in the plan's order
//!                  └ external(…) ► prometheus, webhook ────────────────┘
//! once a second ► sustained::ErrorWatch      each canary request ► rollout::breaker
//! ```
//!
//! How the outcomes are given:
//! * Below the check's minimum of requests (its own, or the plan's) it is `no_data`, and the sentence says how many are
//!   missing. `requests` counts requests, so too few of them are its finding and not want of data; it and external
//!   checks have a minimum only if the check itself states one.
//! * `error` says that nothing could be measured: an external source failed, or the histogram has no edge at the limit.
//!   It never says anything about the canary.
//! * [`Verdict::stable_fails_too`] is set where a check on errors, success or latency fails and stable, with the same
//!   minimum of requests, fails the same limit. It is never set for `compare`, whose very finding is that the canary is
//!   worse than stable, nor for `requests` (stable has another weight) and external checks (nobody asked about stable).
//!
//! Invariant: an analysis run changes nothing but the memory, and that only for `compare`.

mod checks;
mod compare;
mod external;
mod format;
mod sample;
pub(crate) mod sustained;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::sample::{Sample, Samples};

use self::checks::ErrorBound;
use self::compare::SequentialTest;
use super::plan::{Check, Measure, Plan};
use super::reading::Reading;
use super::verdict::Verdict;

/// What the judge carries from analysis run to analysis run of one rollout: the state of its sequential tests, by
/// check.
///
/// One memory is for one rollout, all of its steps: the tests' confidence is about the whole of it. A new try of the
/// same target is a new rollout with a new memory. It can be stored and read back; call [`Self::resume`] then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    compares: BTreeMap<String, Remembered>,
}

/// One check's test, and what it tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Remembered {
    question: String,
    test: SequentialTest,
}

impl Memory {
    /// The recorder's totals begin at zero again, as after a restart: the next analysis run is where counting goes
    /// on. What was found before stays found.
    pub(crate) fn resume(&mut self) {
        self.compares.values_mut().for_each(|remembered| remembered.test.resume());
    }

    /// The test of `check`. A check whose question changed (another margin, say) begins anew.
    fn test(&mut self, check: &Check, question: &str, margin: f64) -> &mut SequentialTest {
        let new = || Remembered { question: question.to_owned(), test: SequentialTest::new(margin) };
        let remembered = self.compares.entry(check.name.to_string()).or_insert_with(new);
        if remembered.question != question {
            *remembered = new();
        }
        &mut remembered.test
    }
}

/// An analysis run: evaluates every check of `plan`.
///
/// * `totals` are all requests since the recorder began to count, and only grow. The first analysis run of a rollout
///   is where its sequential tests begin to count, so run it once when it starts.
/// * `window` gives what happened in so long a time before now; it is asked once per distinct window.
/// * `external` gives what was measured for a check of [`Measure::External`] since the last analysis run, if there is
///   anything.
pub(crate) fn analyze(
    plan: &Plan,
    totals: &Samples,
    mut window: impl FnMut(Duration) -> Samples,
    mut external: impl FnMut(&Check) -> Option<Reading>,
    memory: &mut Memory,
) -> Vec<Verdict> {
    memory.compares.retain(|name, _| plan.checks.iter().any(|check| *check.name == **name));
    let mut windows: BTreeMap<Duration, Samples> = BTreeMap::new();
    let mut verdicts = Vec::with_capacity(plan.checks.len());
    for check in &plan.checks {
        let span = check.window.unwrap_or(plan.window);
        let seen = &*windows.entry(span).or_insert_with(|| window(span));
        let min_requests = check.min_requests.unwrap_or(plan.min_requests);
        let verdict = match &check.measure {
            Measure::SuccessRate { min, errors } => {
                checks::rate(check, seen, ErrorBound::Successes { min: *min }, *errors, min_requests)
            }
            Measure::ErrorRate { max, errors } => {
                checks::rate(check, seen, ErrorBound::Errors { max: *max }, *errors, min_requests)
            }
            Measure::Duration { quantile, max } => checks::duration(check, seen, *quantile, *max, min_requests),
            Measure::Requests { min, max } => checks::requests(check, &seen.canary, *min, *max),
            Measure::Compare { metric, margin, confidence, errors } => {
                let question = format!("{metric:?}, {errors:?}, margin {margin}");
                let test = memory.test(check, &question, *margin);
                let parameters = checks::CompareParameters {
                    metric: *metric,
                    errors: *errors,
                    margin: *margin,
                    confidence: *confidence,
                };
                checks::compare(check, totals, &parameters, test, min_requests)
            }
            Measure::External { provider, min, max } => {
                external::judge(check, provider, external(check), *min, *max, seen.canary.requests())
            }
        };
        verdicts.push(verdict);
    }
    verdicts
}

#[cfg(test)]
mod tests;
