//! Where a service's rollout is, for operators and for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Rollouts;
use super::record::RecordedEntry;
use super::refusal::Refusal;
use super::service::ServiceRollout;
use crate::model::{Name, Split, SplitKey};
use crate::rollout::engine::{Phase, RolloutState};
use crate::rollout::plan::Plan;
use crate::snapshot::live::CircuitBreaker;
use crate::telemetry::RolloutFact;

/// Where a service's rollout is, for operators.
#[derive(Clone, Debug)]
pub(crate) struct RolloutStatus {
    /// How it is rolled out.
    pub(crate) plan: Arc<Plan>,
    /// Where it is.
    pub(crate) state: RolloutState,
    /// The last lines of its history, oldest first.
    pub(crate) entries: Vec<Arc<RecordedEntry>>,
    /// Why decisions cannot be written down, if so.
    pub(crate) unwritable: Option<String>,
    /// Requests of the canary and of both versions since the weights last changed, while a rollout is under way.
    pub(crate) requests: Option<(u64, u64)>,
    /// How old [`Self::state`]'s times are, as of when the status was published.
    pub(crate) age: Duration,
    /// What the file should say of the stable version, where it does not.
    pub(crate) behind: Option<String>,
    /// The last command that was refused, if none was accepted since.
    pub(crate) refusal: Option<Refusal>,
}

/// Entries of the history in a status.
const STATUS_ENTRIES: usize = 10;

impl ServiceRollout {
    /// What operators see of it `now`, in time since the owner's epoch.
    pub(super) fn status(&self, now: Duration) -> RolloutStatus {
        RolloutStatus {
            plan: Arc::clone(&self.plan),
            state: self.state().clone(),
            entries: self.record.history.last(STATUS_ENTRIES),
            unwritable: self.held.as_ref().map(ToString::to_string),
            behind: self.behind(),
            refusal: self.refusal.clone(),
            requests: self.evidence.as_ref().map(|evidence| {
                let seen = evidence.of_step();
                (seen.canary.requests(), seen.canary.requests() + seen.stable.requests())
            }),
            age: self.state().times.clock.map_or(Duration::ZERO, |clock| now.saturating_sub(clock)),
        }
    }

    /// What metrics say of it.
    pub(super) fn fact(&self) -> RolloutFact {
        let checks = self.tallies.checks.iter();
        let transitions = self.tallies.transitions.iter();
        RolloutFact {
            service: self.service.clone(),
            phase: self.state().phase().as_str(),
            phases: Phase::WORDS,
            step: u64::try_from(self.state().taken).unwrap_or(u64::MAX),
            checks: checks.map(|((name, outcome), count)| (name.clone(), *outcome, *count)).collect(),
            transitions: transitions.map(|((to, by), count)| (*to, *by, *count)).collect(),
        }
    }
}

/// What others read of all rollouts.
impl Rollouts {
    /// The version in a role: `stable` or `canary`.
    pub(crate) fn role(&self, service: &str, role: &str) -> Option<Name> {
        let state = self.services.get(service)?.state();
        let target = match role {
            "stable" => state.stable.as_ref(),
            "canary" => state.canary.as_ref().filter(|_| state.is_under_way()),
            _ => None,
        };
        target.map(|target| target.version.clone())
    }

    /// The splits in effect, why, and since when (milliseconds since the Unix epoch).
    pub(crate) fn splits(&self) -> impl Iterator<Item = (SplitKey, Split, &str, u64)> {
        self.services.iter().filter_map(|(service, rollout)| {
            let of = SplitKey { service: service.clone(), cohort: rollout.plan.cohort.clone() };
            Some((of, rollout.split()?, rollout.state().reason.as_str(), rollout.since_ms))
        })
    }

    /// The breakers of canaries.
    pub(crate) fn breakers(&self) -> BTreeMap<(Name, Name), Arc<CircuitBreaker>> {
        let breaker = |rollout: &ServiceRollout| {
            let canary = rollout.state().canary.as_ref()?.version.clone();
            Some(((rollout.service.clone(), canary), Arc::clone(rollout.breaker.as_ref()?)))
        };
        self.services.values().filter_map(breaker).collect()
    }

    /// The canaries of rollouts that go forward, or wait to, by service.
    pub(crate) fn canaries(&self) -> BTreeMap<Name, Name> {
        let canary = |rollout: &ServiceRollout| {
            let state = rollout.state();
            let goes_on = state.is_under_way() && state.phase() != Phase::RollingBack;
            Some((rollout.service.clone(), state.canary.as_ref().filter(|_| goes_on)?.version.clone()))
        };
        self.services.values().filter_map(canary).collect()
    }

    /// What metrics say.
    pub(crate) fn facts(&self) -> Vec<RolloutFact> {
        self.services.values().map(ServiceRollout::fact).collect()
    }

    /// Where each one is.
    pub(crate) fn statuses(&self, now: Duration) -> BTreeMap<Name, Arc<RolloutStatus>> {
        self.services.iter().map(|(service, rollout)| (service.clone(), Arc::new(rollout.status(now)))).collect()
    }

    /// The newest `limit` entries of the service's history, oldest first; none where it has no rollout.
    pub(crate) fn history(&self, service: &str, limit: usize) -> Option<Vec<Arc<RecordedEntry>>> {
        self.services.get(service).map(|rollout| rollout.record.history.last(limit))
    }
}
