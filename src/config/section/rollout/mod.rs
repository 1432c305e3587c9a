//! How a service is rolled out, as the file says it.
//!
//! ```text
//! release: v2      the version that should serve
//! rollout:         ─► Plan ─┬─ steps       which weights, how long, behind which gate      steps.rs
//!                           ├─ checks      what is measured at each look, and its limit    checks.rs
//!                           ├─ way back    what sends the traffic back, and how            back.rs
//!                           └─ hooks       who is called                                   hooks.rs
//! ```
//!
//! Every field has a default, so `rollout: {}` is a careful rollout, and `release` without `rollout` is the same:
//! a change of `release` never moves all traffic unjudged.
//!
//! Invariant: a [`Plan`] that was read is valid: steps are not empty and do not fall, names are unique, every
//! number is in its range, and the limits of its checks fit into a histogram as edges.

mod back;
mod checks;
mod hooks;
mod shape;
mod steps;

use std::time::Duration;

use self::steps::Shape;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Fields, Read, Reader, Step};
use crate::config::syntax::values::Period;
use crate::config::syntax::yaml::{Node, Value};
use crate::model::Name;
use crate::rollout::plan::{Check, Compared, Measure, NoData, Plan, Rollback};

pub(crate) use self::shape::Rollout;

const SECOND: Period = Period::from_secs(1);
const HOUR: Period = Period::from_secs(3_600);
const WEEK: Period = Period::from_secs(7 * 86_400);

const INTERVAL: Period = Period::from_secs(10);
const WINDOW: Period = Period::from_secs(60);
const BAKE: Period = Period::from_secs(600);
const MAX_HOLD: Period = Period::from_secs(1_800);
/// Below this a single error fails a check for 99 %.
const MIN_REQUESTS: u32 = 100;
/// How many requests a check may ask for.
const MAX_MIN_REQUESTS: u32 = 100_000_000;
/// How many receivers a rollout may tell.
const MAX_ALERTS: usize = 16;
/// How many durations may be limits of one service: each becomes an edge of its histograms.
pub(crate) const MAX_LIMITS: usize = 13;

impl Read for Plan {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let known = &[
            "interval",
            "window",
            "steps",
            "step_weight",
            "step_weights",
            "max_weight",
            "hold",
            "bake",
            "min_requests",
            "no_data",
            "max_hold",
            "checks",
            "failures",
            "rollback_when",
            "rollback",
            "hooks",
            "alerts",
        ];
        let mut fields = reader.fields(node, known)?;
        let interval = fields.bounded("interval", INTERVAL, SECOND..=HOUR);
        let window = fields.bounded("window", WINDOW, SECOND..=HOUR);
        let steps = steps::read(&mut fields, window.unwrap_or(WINDOW));
        let bake = fields.bounded("bake", BAKE, Period::from_secs(0)..=WEEK);
        let min_requests = fields.bounded("min_requests", MIN_REQUESTS, 1..=MAX_MIN_REQUESTS);
        let no_data = fields.or("no_data", NoData::default());
        let max_hold = fields.bounded("max_hold", MAX_HOLD, SECOND..=WEEK);
        let checks = fields.with("checks", checks::read);
        let failures = fields.with("failures", back::read_failures);
        let rollback_when = fields.with("rollback_when", back::read_conditions);
        let rollback = fields.with("rollback", back::read_rollback);
        let hooks = fields.with("hooks", hooks::read);
        let alerts = fields.with("alerts", read_alerts);
        fields.done()?;
        Some(Self {
            interval: interval?.get(),
            window: window?.get(),
            steps: steps?,
            bake: bake?.get(),
            min_requests: min_requests?.into(),
            no_data: no_data?,
            max_hold: max_hold?.get(),
            checks: checks?.unwrap_or_else(checks::default),
            failures: failures?.unwrap_or_else(back::default_failures),
            rollback_when: rollback_when?.unwrap_or_else(back::default_conditions),
            rollback: rollback?.unwrap_or_default(),
            hooks: hooks?.unwrap_or_default(),
            alerts: alerts?.unwrap_or_default(),
        })
    }
}

/// What `rollout: {}` means.
pub(crate) fn default_plan() -> Plan {
    Plan {
        interval: INTERVAL.get(),
        window: WINDOW.get(),
        steps: Shape::default().steps(WINDOW),
        bake: BAKE.get(),
        min_requests: MIN_REQUESTS.into(),
        no_data: NoData::default(),
        max_hold: MAX_HOLD.get(),
        checks: checks::default(),
        failures: back::default_failures(),
        rollback_when: back::default_conditions(),
        rollback: Rollback::default(),
        hooks: Vec::new(),
        alerts: Vec::new(),
    }
}

/// The durations that the checks of `plan` compare with, each once, rising.
pub(crate) fn duration_limits(plan: &Plan) -> Vec<Duration> {
    let mut limits: Vec<Duration> = plan.checks.iter().filter_map(limit).collect();
    limits.sort_unstable();
    limits.dedup();
    limits
}

/// The duration that a check compares with.
fn limit(check: &Check) -> Option<Duration> {
    match check.measure {
        Measure::Duration { max, .. } => Some(max),
        Measure::Compare { metric: Compared::Slower(limit), .. } => Some(limit),
        Measure::SuccessRate { .. }
        | Measure::ErrorRate { .. }
        | Measure::Requests { .. }
        | Measure::Compare { metric: Compared::ErrorRate, .. }
        | Measure::External { .. } => None,
    }
}

impl Read for NoData {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(node, &[("hold", Self::Hold), ("pass", Self::Pass), ("fail", Self::Fail)])
    }
}

/// Names of receivers, each once. Whether they exist, the whole file decides.
fn read_alerts<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Name>> {
    let items = reader.items(node, "a list of names under `alerts`", |reader, node| Name::read(node, reader))?;
    reader.count(items.total, &(0..=MAX_ALERTS), node.place)?;
    let mut unique = true;
    for (position, (at, node, name)) in items.good.iter().enumerate() {
        if items.good.iter().take(position).any(|(_, _, earlier)| earlier == name) {
            unique = false;
            reader.below(Step::Item(*at), node.place, |reader| {
                reader.note(Problem::new(node.place, format!("`{name}` stands twice")).help("remove one"));
            });
        }
    }
    if unique { items.all() } else { None }
}

/// Which of the fields `names` are there, when exactly one of them must be. `what` it is that they say, such as
/// `what is measured`.
fn one_of(fields: &mut Fields<'_, '_>, names: &[&'static str], what: &str) -> Option<&'static str> {
    let set: Vec<&'static str> = names.iter().copied().filter(|name| fields.get(name).is_some()).collect();
    match set.as_slice() {
        [one] => Some(one),
        [] if names.len() == 1 => {
            fields.fault_here(&format!("{what} is missing"), &format!("add `{}`", names.concat()));
            None
        }
        [] => {
            let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            fields.fault_here(&format!("{what} is missing"), &format!("add one of {}", all.join(", ")));
            None
        }
        [first, second, ..] => {
            let message = format!("`{first}` and `{second}` together");
            fields.fault_at(second, |place| Problem::new(place, message).help("keep one of them"));
            None
        }
    }
}

/// Whether two bounds are in order; the upper one is to blame if not.
fn in_order(fields: &mut Fields<'_, '_>, min: Option<f64>, max: Option<f64>) {
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        fields.fault_at("max", |place| Problem::new(place, "`max` is below `min`").expected(format!("{min} or more")));
    }
}

/// Whether `node` has fields of its own, so that it is the long form of something.
const fn has_fields(node: &Node<'_>) -> bool {
    matches!(node.value, Value::Map(_))
}
