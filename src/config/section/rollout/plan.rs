//! The section `rollout` as a whole.

use std::ops::RangeInclusive;

use serde_json::json;

use super::evidence::Significance;
use super::steps::{Given, default_weights, read_steps, read_weight, read_weights};
use super::{checks, evidence, rollback, steps as step, windows};
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read, Reader};
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{self, Period};
use crate::model::{Name, Weight};
use crate::rollout::plan::{Check, Failures, Hook, NoData, Plan, Rollback, RollbackCondition, WarmUp};

const INTERVAL: Period = Period::from_secs(10);
const WINDOW: Period = Period::from_secs(60);
const BAKE: Period = Period::from_secs(600);
const MAX_HOLD: Period = Period::from_secs(1_800);
/// Below this a single error fails a check for 99 %.
const MIN_REQUESTS: u32 = 100;
/// What a service may be expected to get: from about one request in a quarter of an hour.
const RATE: RangeInclusive<f64> = 0.001..=1e9;
/// How many checks a rollout may have.
const MAX_CHECKS: usize = 32;
/// How many conditions a rollout may have; the data path looks at its trip wires after each request.
const MAX_CONDITIONS: usize = 16;
/// How many hooks a rollout may have.
const MAX_HOOKS: usize = 32;
/// How many receivers a rollout may tell.
const MAX_ALERTS: usize = 16;

section! {
    /// How a service is rolled out. `rollout: {}` is a careful rollout with the defaults below.
    impl Plan as "Rollout" {
        /// One of the service's `cohorts`: its split is moved, and the service's own stays as `split` says. The version that
        /// the cohort's `split` names is what is rolled out to it. Default: the service's own split is moved.
        cohort: Option<Name> as Option<values::Name> = optional(),
        /// How often the judge decides: `1s` to `1h`.
        interval: Period = bounded(INTERVAL, Period::SECOND..=Period::HOUR),
        /// What each check looks back on: `interval` to `1h`. Default: `1m`, or `interval` where that is longer.
        window: Option<Period> = within(Period::SECOND..=Period::HOUR),
        /// The canary's weights, 1 to 1000, which never fall. Instead of the short form `step_weight`, `step_weights`
        /// and `max_weight`. The last may be below 100: then the promotion comes after it.
        steps: Vec<step::StepFields> = list(1..=step::MAX_STEPS, read_steps),
        /// Short form: so much more with each step, 0.1 to 100, clamped to `max_weight`.
        step_weight: Option<Weight> = with(step::read_step_weight),
        /// Short form: the weight of each step, clamped to `max_weight`.
        step_weights: Vec<Weight> = list_or(default_weights(), step::WEIGHTS, 1..=step::MAX_STEPS, read_weights),
        /// Short form: the last step's weight.
        max_weight: Weight = with_or(Weight::FULL, 100, read_weight),
        /// How long a step is held, at least, that does not say it itself: `0s` to `7d`. Default: `window`; and nothing
        /// at 100 %, where `bake` follows.
        hold: Option<Period> = within(Period::ZERO..=Period::WEEK),
        /// How long the old version stays warm at 100 % while the same checks can still roll back: `0s` to `7d`.
        bake: Period = bounded(BAKE, Period::ZERO..=Period::WEEK),
        /// Requests a check needs in its window, 1 to 100000000; with fewer it has no data.
        min_requests: u32 = bounded(MIN_REQUESTS, 1..=checks::MAX_MIN_REQUESTS),
        /// Requests per second that the service usually gets. Nothing is decided by it: `weir check` warns where a step
        /// would wait for `min_requests` at that rate. Default: not known.
        expected_rate: Option<f64> = within(RATE),
        /// What a check without data means: `hold` waits, `pass` and `fail` count as if it had passed or failed.
        no_data: NoData = with_or(NoData::Hold, "hold", read_no_data),
        /// How likely chance alone may be where a check on a share of requests fails: 0.01 to 10 percent, or `off`, so that
        /// whatever is above the limit fails. What is above it by less is `suspect`: it holds, and is no failure.
        significance: Significance = with_or(evidence::DEFAULT_SIGNIFICANCE, 1, read_significance),
        /// What the canary does before it is judged: a time, `1s` to `1h`, or `{ requests: N }`. Measured and shown, and on
        /// the trip wire. Default: nothing.
        warmup: Option<WarmUp> = optional(),
        /// How long a rollout may hold for want of data before it pauses: `1s` to `7d`.
        max_hold: Period = bounded(MAX_HOLD, Period::SECOND..=Period::WEEK),
        /// What is measured at each analysis run, 32 at most.
        checks: Vec<Check> = list_or(
            checks::default(),
            json!([
                { "name": "success", "success_rate": { "min": 99 } },
                { "name": "latency", "duration": { "quantile": 0.99, "max": "500ms" } },
                { "name": "not-worse", "compare": { "metric": "error_rate", "margin": 0.5, "confidence": 99 } }
            ]),
            0..=MAX_CHECKS,
            checks::read
        ),
        /// How many failed analysis runs are too many. One fails when a check of it fails.
        failures: Failures = with_or(rollback::default_failures(), json!({ "total": 5 }), rollback::read_failures),
        /// What sends all traffic back without waiting for failed analysis runs to add up, 16 at most; one at most with
        /// `in_a_row`, and one with `within`.
        rollback_when: Vec<RollbackCondition> = list_or(
            rollback::default_conditions(),
            json!([
                { "error_rate": 1, "for": "2m" },
                { "errors": 10, "in_a_row": true },
                { "errors": 20, "within": "1s" }
            ]),
            0..=MAX_CONDITIONS,
            rollback::read_conditions
        ),
        /// How traffic goes back.
        rollback: Rollback = with_or(Rollback::Immediate, "immediate", rollback::read_rollback),
        /// Calls out, 32 at most; default: none.
        hooks: Vec<Hook> = list(0..=MAX_HOOKS, Reader::list::<Hook>),
        /// Who is told: names under the file's `alerts`, 16 at most; default: nobody.
        alerts: Vec<Name> as Vec<values::Name> = list(0..=MAX_ALERTS, read_alerts),
    }
    rules(fields) {
        step::check_forms(&mut fields);
        if let Some(interval) = interval {
            windows::check(&mut fields, interval, window.flatten(), checks.as_deref().unwrap_or_default());
        }
        evidence::check_warm_up(&mut fields, warmup.flatten(), max_hold);
    }
    => {
        let window = window.unwrap_or(interval.max(WINDOW));
        let given = Given { steps, step_weight, step_weights, max_weight, hold };
        Plan {
            cohort,
            interval: interval.get(),
            window: window.get(),
            steps: step::steps(given, window),
            bake: bake.get(),
            min_requests: min_requests.into(),
            expected_rate,
            no_data,
            significance: significance.0,
            warm_up: warmup,
            max_hold: max_hold.get(),
            checks,
            failures,
            rollback_when,
            rollback,
            hooks,
            alerts,
        }
    }
}

/// What `rollout: {}` means.
pub(crate) fn default_plan() -> Plan {
    Plan {
        cohort: None,
        interval: INTERVAL.get(),
        window: WINDOW.get(),
        steps: step::steps(Given::default(), WINDOW),
        bake: BAKE.get(),
        min_requests: MIN_REQUESTS.into(),
        expected_rate: None,
        no_data: NoData::default(),
        significance: evidence::DEFAULT_SIGNIFICANCE.0,
        warm_up: None,
        max_hold: MAX_HOLD.get(),
        checks: checks::default(),
        failures: rollback::default_failures(),
        rollback_when: rollback::default_conditions(),
        rollback: Rollback::default(),
        hooks: Vec::new(),
        alerts: Vec::new(),
    }
}

words! {
    /// What a check without enough requests means.
    impl NoData as "NoData" {
        /// The rollout holds where it is.
        Hold = "hold",
        /// As if it had passed.
        Pass = "pass",
        /// As if it had failed.
        Fail = "fail",
    }
}

fn read_no_data<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<NoData> {
    NoData::read(node, reader)
}

fn read_significance<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Significance> {
    Significance::read(node, reader)
}

/// Names of receivers, each once. Whether they exist, the whole file decides.
fn read_alerts<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<Name>> {
    let items = reader.items(node, "a list of names under `alerts`", |reader, node| Name::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let mut unique = true;
    for (position, (at, node, name)) in items.good.iter().enumerate() {
        if items.good.iter().take(position).any(|(_, _, earlier)| earlier == name) {
            unique = false;
            reader.below(PathStep::Item(*at), node.place, |reader| {
                reader.note(Problem::new(node.place, format!("`{name}` stands twice")).help("remove one"));
            });
        }
    }
    if unique { items.all() } else { None }
}
