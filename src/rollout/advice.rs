//! What can be said of a plan before it runs: whether the traffic gives its steps the requests that they are judged by.
//!
//! A step of weight `w` gives the canary `w` of the service's requests, and a check with too few of them holds the step.

use std::time::Duration;

use super::format;
use super::plan::{Measure, NoData, Plan, Step};
use crate::model::Weight;

/// A rate that each step of a plan has its requests at, within its hold, and the step that decides it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NeededRate {
    /// Requests a second, of the service.
    pub(crate) rate: f64,
    /// The weight of the step that needs it.
    pub(crate) weight: Weight,
}

/// A step that lasts longer than it is held, for want of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SlowStep {
    /// Its weight.
    pub(crate) weight: Weight,
    /// How many requests of the canary it is judged by.
    pub(crate) requests: u64,
    /// How long they take; none: they never come.
    pub(crate) takes: Option<Duration>,
    /// The rollout pauses before they have come.
    pub(crate) pauses: bool,
}

/// The lowest rate at which no step of `plan` waits for requests; none if nothing waits for any.
pub(crate) fn needed_rate(plan: &Plan) -> Option<NeededRate> {
    let requests = requests(plan)?;
    let rates = plan.steps.iter().map(|step| NeededRate {
        rate: requests as f64 / (share(step.weight) * held(plan, step).as_secs_f64()),
        weight: step.weight,
    });
    rates.max_by(|one, other| one.rate.total_cmp(&other.rate).then(other.weight.cmp(&one.weight)))
}

/// The steps of `plan` that wait for requests where the service gets `rate` of them a second.
pub(crate) fn slow_steps(plan: &Plan, rate: f64) -> Vec<SlowStep> {
    let Some(requests) = requests(plan) else { return Vec::new() };
    let slow = plan.steps.iter().filter_map(|step| {
        let takes = Duration::try_from_secs_f64(requests as f64 / (rate * share(step.weight))).ok();
        let is_slow = takes.is_none_or(|takes| takes > held(plan, step));
        let pauses = takes.is_none_or(|takes| takes > plan.max_hold);
        is_slow.then_some(SlowStep { weight: step.weight, requests, takes, pauses })
    });
    slow.collect()
}

/// How many requests of the canary all checks have enough with that hold a step; none if none does.
fn requests(plan: &Plan) -> Option<u64> {
    let holding =
        plan.checks.iter().filter(|check| !check.dry_run && check.no_data.unwrap_or(plan.no_data) != NoData::Pass);
    let needed = holding.filter_map(|check| match check.measure {
        // Their numbers are not shares of requests, so the plan's number is not theirs.
        Measure::External { .. } | Measure::Requests { .. } => check.min_requests,
        Measure::SuccessRate { .. }
        | Measure::ErrorRate { .. }
        | Measure::Duration { .. }
        | Measure::Abandoned { .. }
        | Measure::Compare { .. } => Some(check.min_requests.unwrap_or(plan.min_requests)),
    });
    needed.max()
}

/// How long a step lasts at least: it is left by an analysis run, of which the first comes after an interval.
fn held(plan: &Plan, step: &Step) -> Duration {
    step.hold.max(plan.interval)
}

fn share(weight: Weight) -> f64 {
    f64::from(weight.basis_points()) / 10_000.0
}

impl std::fmt::Display for NeededRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests/s for {} %", rounded_up(self.rate), self.weight)
    }
}

/// A rate as a person says it, and no lower: whole, or with two decimals where it is small.
fn rounded_up(rate: f64) -> String {
    // 100 / (0.01 × 100 s) is a hair above 100, for want of an exact 0.01.
    let rate = rate * (1.0 - 1e-9);
    format::number(if rate > 10.0 { rate.ceil() } else { (rate * 100.0).ceil() / 100.0 })
}

impl SlowStep {
    /// What comes of it at this rate, in a sentence.
    pub(crate) fn at(&self, rate: f64, plan: &Plan) -> String {
        let Self { weight, requests, .. } = self;
        let (requests, rate) = (format::requests(*requests), format::number(rate));
        let step = format!("step {weight} %: {requests}");
        let max_hold = format::duration(plan.max_hold);
        match self.takes.map(format::duration) {
            None => format!("{step} never come at {rate} requests/s; the rollout pauses after {max_hold} (`max_hold`)"),
            Some(takes) if self.pauses => {
                format!("{step} take {takes} at {rate} requests/s; the rollout pauses after {max_hold} (`max_hold`)")
            }
            Some(takes) => format!("{step} take {takes} at {rate} requests/s; the step lasts that long"),
        }
    }
}

#[cfg(test)]
mod tests;
