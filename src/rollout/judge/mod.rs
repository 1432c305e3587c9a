//! The judge: what happened to requests in, verdicts out, each with the sentence that explains it.
//!
//! ```text
//!           ┌ a window ───────────────► errors, success, latency, abandoned, requests ─┐
//! evidence ─┼ since the last run ─────► compare (memory carried on) ───────────────────┼─► one Verdict per check, in
//! baseline  └ what others measured ───► prometheus, webhook ───────────────────────────┘   the plan's order
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
//!   minimum of requests, fails the same limit and is about as bad. It is never set for `compare`, whose very finding is
//!   that the canary is worse than stable, nor for `requests` (stable has another weight) and external checks (nobody asked
//!   about stable).
//!
//! Invariant: an analysis run changes nothing but the memory, and that only for `compare`.

mod checks;
mod compare;
mod external;
mod input;
mod significance;
pub(crate) mod sustained;

pub(crate) use self::input::AnalysisInput;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::checks::ErrorBound;
use self::compare::SequentialTest;
use self::input::CheckInput;
use super::evidence::{Samples, WarmUpLeft};
use super::format;
use super::plan::{Check, Measure};
use super::reading::Reading;
use super::verdict::{CheckOutcome, Verdict};

/// What the judge carries from analysis run to analysis run of one rollout: the state of its sequential tests, by
/// check.
///
/// One memory is for one rollout, all of its steps: the tests' confidence is about the whole of it. A new try of the
/// same target is a new rollout with a new memory. It can be stored and read back.
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

/// An analysis run: evaluates every check of the plan.
///
/// `external` gives what was measured for a check of [`Measure::External`] since the last analysis run, if there is
/// anything.
pub(crate) fn analyze(
    run: &AnalysisInput<'_>,
    mut external: impl FnMut(&Check) -> Option<Reading>,
    memory: &mut Memory,
) -> Vec<Verdict> {
    let plan = run.plan;
    memory.compares.retain(|name, _| plan.checks.iter().any(|check| *check.name == **name));
    if let Some(left) = run.evidence.warm_up_left() {
        return plan.checks.iter().map(|check| warming_up(check, left)).collect();
    }
    let mut windows: BTreeMap<(Duration, u64), Samples> = BTreeMap::new();
    let mut verdicts = Vec::with_capacity(plan.checks.len());
    for check in &plan.checks {
        let span = check.window.unwrap_or(plan.window);
        let min_requests = check.min_requests.unwrap_or(plan.min_requests);
        let seen = &*windows.entry((span, min_requests)).or_insert_with(|| run.evidence.window(span, min_requests));
        let input = CheckInput {
            check,
            seen,
            min_requests,
            level: plan.significance,
            baseline: run.baseline,
            shared_failure: run.shared_failure,
        };
        let verdict = match &check.measure {
            Measure::SuccessRate { min, errors } => checks::rate(&input, ErrorBound::Successes { min: *min }, *errors),
            Measure::ErrorRate { max, errors } => checks::rate(&input, ErrorBound::Errors { max: *max }, *errors),
            Measure::Duration { quantile, max } => checks::duration(&input, *quantile, *max),
            Measure::Abandoned { max } => checks::abandoned(&input, *max),
            Measure::Requests { min, max } => checks::requests(check, &run.evidence.last(span).canary, *min, *max),
            Measure::Compare { metric, margin, confidence, errors } => {
                let question = format!("{metric:?}, {errors:?}, margin {margin}");
                let test = memory.test(check, &question, *margin);
                let parameters = checks::CompareParameters {
                    metric: *metric,
                    errors: *errors,
                    margin: *margin,
                    confidence: *confidence,
                };
                checks::compare(&input, run, &parameters, test)
            }
            Measure::External { provider, min, max } => {
                external::judge(check, provider, external(check), *min, *max, seen.canary.requests())
            }
        };
        verdicts.push(verdict);
    }
    verdicts
}

/// The verdict on a canary that is not judged yet.
fn warming_up(check: &Check, left: WarmUpLeft) -> Verdict {
    let left = match left {
        WarmUpLeft::Time(left) => format!("{} more", format::duration(left)),
        WarmUpLeft::Requests(left) => format!("{} more", format::requests(left)),
    };
    let sentence = checks::sentence(check, "warm-up", &format!("the canary warms up, {left}"));
    Verdict { outcome: CheckOutcome::WarmingUp, sentence, ..checks::verdict(check) }
}

/// Whether an analysis run with these verdicts fails: a check that decides does.
pub(crate) fn has_failed(verdicts: &[Verdict]) -> bool {
    verdicts
        .iter()
        .any(|verdict| verdict.outcome == CheckOutcome::Fail && !verdict.dry_run && !verdict.stable_fails_too)
}

#[cfg(test)]
mod tests;
