//! What `weir check` warns of in rollouts that are valid: a bake that nothing judges, and steps that wait for requests. What
//! is hardly meant is in [`lint`](super::lint).

use std::collections::HashMap;

use super::file::{Config, ServiceMark};
use super::section::service::Service;
use super::syntax::diagnostic::Diagnostic;
use super::syntax::map::Map;
use super::syntax::mark::Mark;
use super::syntax::tree::Node;
use crate::coop::in_pieces;
use crate::model::Name;
use crate::rollout::advice::{SlowStep, needed_rate, slow_steps};
use crate::rollout::plan::Plan;

/// The requests a second that services get.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    /// What a running Weir sees, by service; what the file expects holds for the others.
    pub(crate) observed: HashMap<Name, f64>,
}

impl Rates {
    /// What the service gets, as far as it is known.
    pub(crate) fn of(&self, service: &str, plan: &Plan) -> Option<f64> {
        self.observed.get(service).copied().or(plan.expected_rate)
    }
}

/// Where a rollout says `bake` and nothing judges.
pub(super) fn unjudged_bakes(services: &Map<Service>, root: &Node<'_>, source: &str) -> Vec<ServiceMark> {
    ServiceMark::find(services, (root, source), "rollout.bake", |service, _, node| {
        let plan = service.rollout.as_ref()?;
        let (_, bake) = node.field("rollout")?.1.field("bake")?;
        let unjudged = !plan.bake.is_zero() && plan.checks.iter().all(|check| check.dry_run);
        unjudged.then_some(bake.place)
    })
}

/// Where the rollouts stand that are judged by a number of requests. One by the default plan stands at its `release`.
pub(super) fn judged_rollouts(services: &Map<Service>, root: &Node<'_>, source: &str) -> Vec<ServiceMark> {
    ServiceMark::find(services, (root, source), "rollout", |service, name, node| {
        service.rollout.as_ref().and_then(needed_rate)?;
        let written = node.field("rollout").or(node.field("release"));
        Some(written.map_or(name, |(key, _)| key.place))
    })
}

impl Config {
    /// Where `bake` has nothing to judge by. `limit` of them at most, and how many more there are.
    #[must_use]
    pub(crate) fn unjudged_bakes(&self, limit: usize) -> (Vec<Diagnostic>, usize) {
        let all = &self.origin.unjudged_bakes;
        let warnings = all.iter().take(limit).map(|bake| {
            let conditions = self.services.get(&bake.service).and_then(|service| service.rollout.as_ref());
            let back = match conditions.is_some_and(|plan| !plan.rollback_when.is_empty()) {
                true => "only `rollback_when` can go back",
                false => "nothing can go back by itself",
            };
            let message = format!("`bake` without checks: while the old version stays warm, {back}");
            let help = "add `checks` that decide, or remove `bake`";
            bake.mark.diagnostic(&self.origin.file, &message, help)
        });
        (warnings.collect(), all.len().saturating_sub(limit))
    }

    /// Which rollouts wait for requests at these rates. `limit` of them at most, and how many more there are.
    #[must_use]
    pub(crate) fn short_of_requests(&self, rates: &Rates, limit: usize) -> (Vec<Diagnostic>, usize) {
        let mut warnings = Vec::new();
        let mut more = 0;
        for ServiceMark { service: name, mark } in in_pieces(&self.origin.judged_rollouts) {
            let Some(plan) = self.services.get(name).and_then(|service| service.rollout.as_ref()) else { continue };
            let Some(rate) = rates.of(name, plan) else { continue };
            let slow = slow_steps(plan, rate);
            let Some(worst) = slow.iter().find(|step| step.pauses).or(slow.first()) else { continue };
            if warnings.len() == limit {
                more += 1;
                continue;
            }
            warnings.push(self.short(mark, plan, rate, worst, slow.len() - 1));
        }
        (warnings, more)
    }

    fn short(&self, mark: &Mark, plan: &Plan, rate: f64, worst: &SlowStep, others: usize) -> Diagnostic {
        let others = match others {
            0 => String::new(),
            1 => "; one more step waits too".to_owned(),
            _ => format!("; {others} more steps wait too"),
        };
        let needed = needed_rate(plan).map_or_else(String::new, |needed| format!("; this plan needs {needed}"));
        let help = format!("begin with a higher weight, hold it longer, or write a lower `min_requests`{needed}");
        let message = format!("{}{others}", worst.at(rate, plan));
        mark.diagnostic(&self.origin.file, &message, &help)
    }
}
