//! One service's analyses: what is sampled each second, queried before an analysis, and found by it.
//!
//! Invariant: an answer counts only for what would be asked now. One about other versions, or to another query, says
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Query};
use super::roles::Roles;
use super::service::ServiceRollout;
use super::view::View;
use crate::model::{Name, Weight};
use crate::rollout::evidence::{Question, RecordedCounts};
use crate::rollout::judge::{self, AnalysisInput, sustained};
use crate::rollout::plan::{Check, Measure, Provider};
use crate::rollout::reading::Reading;
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// How often the owner ticks.
const SECOND: Duration = Duration::from_secs(1);
/// An analysis or a tick may come this early: timers are not exact.
const TIMER_SLACK: Duration = Duration::from_millis(100);

/// How long providers must have been well before it is news that one is not: so many intervals, and at least this long.
const WELL_INTERVALS: u32 = 10;
const WELL: Duration = Duration::from_mins(5);

impl ServiceRollout {
    /// What the checks find now.
    pub(super) fn judge(&mut self, view: &View<'_>) -> Vec<Verdict> {
        self.observe(view.now);
        let Some(evidence) = &mut self.evidence else { return Vec::new() };
        let run = AnalysisInput {
            plan: &self.plan,
            evidence,
            baseline: &**self.baseline.blocks(),
            canary_has_all: self.record.state.weight == Weight::FULL,
            shared_failure: self.others_fail.as_deref(),
        };
        let external = |check: &Check| self.readings.remove(&check.name).map(|(_, reading)| reading);
        let verdicts = judge::analyze(&run, external, &mut self.record.memory);
        Arc::make_mut(evidence).analyzed(judge::has_failed(&verdicts));
        verdicts
    }

    /// What was counted since the last line of the history, for the next one; none where nothing is counted.
    pub(super) fn take_counts(&mut self) -> Option<RecordedCounts> {
        let evidence = self.evidence.as_mut()?;
        let seen = evidence.unrecorded();
        if seen.canary.covered.is_zero() {
            return None;
        }
        Arc::make_mut(evidence).recorded();
        let questions = Question::all(&self.plan);
        Some(RecordedCounts::of(&seen, &questions, &**self.baseline.blocks(), self.others_fail.clone()))
    }

    /// A second has passed: remembers the counters. What has held for its whole time, if something has.
    pub(super) fn watch(&mut self, view: &View<'_>) -> Option<String> {
        let now = view.now;
        self.observe(now);
        self.tripped_at = if self.is_tripped() { self.tripped_at.or(Some(now)) } else { None };
        self.watch_others(view);
        let evidence = self.evidence.as_ref().filter(|evidence| evidence.warm_up_left().is_none())?;
        let breach = sustained::breach(&mut self.error_watches, &self.plan, evidence, &**self.baseline.blocks(), now);
        breach.filter(|_| self.others_fail.is_none())
    }

    /// Whether it is time for an analysis.
    pub(super) fn analysis_is_due(&self, now: Duration) -> bool {
        self.evidence.is_some() && now + TIMER_SLACK >= self.next_analysis
    }

    /// The verdicts of an analysis, if it is time for one, and the alerts about them.
    pub(super) fn analyze(&mut self, view: &View<'_>) -> Option<(Vec<Verdict>, Vec<Action>)> {
        if !self.analysis_is_due(view.now) {
            return None;
        }
        // Late analyses do not pile up.
        let behind = view.now.saturating_sub(self.next_analysis) >= self.plan.interval;
        self.next_analysis = if behind { view.now } else { self.next_analysis }.saturating_add(self.plan.interval);
        self.queried = false;
        let verdicts = self.judge(view);
        for verdict in &verdicts {
            *self.tallies.checks.entry((verdict.check.clone(), verdict.outcome.as_str())).or_default() += 1;
        }
        Some((verdicts.clone(), self.provider_failure(&verdicts, view)))
    }

    /// The alert that a provider cannot be queried: once, until all of them were well for a while. One that comes and goes
    /// would tell somebody every minute.
    fn provider_failure(&mut self, verdicts: &[Verdict], view: &View<'_>) -> Vec<Action> {
        let external = |name: &Name| {
            self.plan.checks.iter().any(|c| c.name == *name && matches!(c.measure, Measure::External { .. }))
        };
        let failed = verdicts.iter().find(|v| v.outcome == CheckOutcome::Error && external(&v.check));
        let Some((failed, roles)) = failed.zip(Roles::of(&self.record.state)) else { return Vec::new() };
        let well = self.plan.interval.saturating_mul(WELL_INTERVALS).max(WELL);
        let before = self.provider_failed.replace(view.now);
        if before.is_some_and(|before| view.now.saturating_sub(before) <= well) {
            return Vec::new();
        }
        self.alert_context(&roles, self.record.state.weight, view).provider_alert(failed).into_iter().collect()
    }

    /// Queries that must be sent now to be answered by the next analysis: a second later would be too late.
    pub(super) fn queries(&mut self, now: Duration) -> Vec<Action> {
        if self.evidence.is_none() || self.queried {
            return Vec::new();
        }
        let planned_queries = self.planned_queries();
        let longest = planned_queries.iter().map(|query| timeout(&query.provider)).max().unwrap_or_default();
        if now.saturating_add(SECOND).saturating_add(longest).saturating_add(TIMER_SLACK) < self.next_analysis {
            return Vec::new();
        }
        self.queried = true;
        planned_queries.into_iter().map(|query| Action::Query(Box::new(query))).collect()
    }

    /// The queries of the plan about the versions as they are.
    fn planned_queries(&self) -> Vec<Query> {
        let Some(roles) = Roles::of(&self.record.state).filter(|_| self.evidence.is_some()) else { return Vec::new() };
        let query = |check: &Check| {
            let Measure::External { provider, .. } = &check.measure else { return None };
            Some(Query {
                service: self.service.clone(),
                check: check.name.clone(),
                provider: provider.clone(),
                roles: roles.clone(),
                window: check.window.unwrap_or(self.plan.window),
            })
        };
        self.plan.checks.iter().filter_map(query).collect()
    }

    /// A provider answered.
    pub(super) fn provider_answered(&mut self, query: Query, reading: Reading) {
        if self.planned_queries().contains(&query) {
            self.readings.insert(query.check.clone(), (query, reading));
        }
    }

    /// Another plan is analyzed as often as it says from now on, and has its own queries.
    pub(super) fn replan_analysis(&mut self, now: Duration) {
        let planned_queries = self.planned_queries();
        self.readings.retain(|_, (query, _)| planned_queries.contains(query));
        self.queried = false;
        self.next_analysis = self.next_analysis.min(now.saturating_add(self.plan.interval));
    }
}

fn timeout(provider: &Provider) -> Duration {
    match provider {
        Provider::Prometheus { timeout, .. } | Provider::Webhook { timeout, .. } => *timeout,
    }
}
