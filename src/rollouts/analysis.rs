//! One service's looks: what is remembered each second, asked before a look, and found by it.
//!
//! Invariant: an answer counts only for what would be asked now. One about other versions, or to another query, says
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Ask, Errand};
use super::roles::Roles;
use super::service::Driven;
use super::view::View;
use crate::model::Name;
use crate::rollout::judge;
use crate::rollout::plan::{Check, Measure, Provider};
use crate::rollout::reading::Reading;
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// How often it is seen whether it is time for something.
const SECOND: Duration = Duration::from_secs(1);
/// A look or a tick may come this early: timers are not exact.
const EARLY: Duration = Duration::from_millis(100);

impl Driven {
    /// What the checks find now.
    pub(super) fn judge(&mut self, now: Duration) -> Vec<Verdict> {
        let Some(ring) = self.ring.clone() else { return Vec::new() };
        let external = |check: &Check| self.readings.remove(&check.name).map(|(_, reading)| reading);
        judge::analyze(&self.plan, &ring.totals(now), |span| ring.window(span, now), external, &mut self.record.memory)
    }

    /// A second has passed: remembers the counters. What has held for its whole time, if something has.
    pub(super) fn watch(&mut self, now: Duration) -> Option<String> {
        let ring = Arc::make_mut(self.ring.as_mut()?);
        ring.keep(now);
        if self.watches.is_empty() {
            return None;
        }
        let pair = ring.window(self.plan.window, now);
        let looks =
            self.watches.iter_mut().map(|watch| watch.observe(&pair.canary, &pair.stable, self.plan.min_requests, now));
        // Where stable is as bad, the canary is not to blame; what to do about that the checks decide.
        let breached: Vec<String> =
            looks.filter(|look| look.breached && !look.stable_fails_too).map(|look| look.sentence).collect();
        breached.into_iter().next()
    }

    /// The verdicts of a look, if it is time for one, and what else is to be said of them.
    pub(super) fn look(&mut self, view: &View<'_>) -> Option<(Vec<Verdict>, Vec<Errand>)> {
        if self.ring.is_none() || view.now + EARLY < self.next_look {
            return None;
        }
        // Late looks do not pile up.
        let behind = view.now.saturating_sub(self.next_look) >= self.plan.interval;
        self.next_look = if behind { view.now } else { self.next_look }.saturating_add(self.plan.interval);
        self.asked = false;
        let verdicts = self.judge(view.now);
        for verdict in &verdicts {
            *self.tallies.checks.entry((verdict.check.clone(), verdict.outcome.as_str())).or_default() += 1;
        }
        Some((verdicts.clone(), self.provider_trouble(&verdicts, view)))
    }

    fn provider_trouble(&mut self, verdicts: &[Verdict], view: &View<'_>) -> Vec<Errand> {
        let external = |name: &Name| {
            self.plan.checks.iter().any(|c| c.name == *name && matches!(c.measure, Measure::External { .. }))
        };
        let failed = verdicts.iter().find(|v| v.outcome == CheckOutcome::Error && external(&v.check));
        let told = std::mem::replace(&mut self.told_provider, failed.is_some());
        let Some((failed, roles)) = failed.filter(|_| !told).zip(Roles::of(&self.record.state)) else {
            return Vec::new();
        };
        self.about(&roles, self.record.state.weight, view).tell_provider(failed).into_iter().collect()
    }

    /// Questions that must be asked now to be answered by the next look: a second later would be too late.
    pub(super) fn questions(&mut self, now: Duration) -> Vec<Errand> {
        if self.ring.is_none() || self.asked {
            return Vec::new();
        }
        let asks = self.asks();
        let longest = asks.iter().map(|ask| timeout(&ask.provider)).max().unwrap_or_default();
        if now.saturating_add(SECOND).saturating_add(longest).saturating_add(EARLY) < self.next_look {
            return Vec::new();
        }
        self.asked = true;
        asks.into_iter().map(|ask| Errand::Ask(Box::new(ask))).collect()
    }

    /// What the plan asks of providers about the versions as they are.
    fn asks(&self) -> Vec<Ask> {
        let Some(roles) = Roles::of(&self.record.state).filter(|_| self.ring.is_some()) else { return Vec::new() };
        let ask = |check: &Check| {
            let Measure::External { provider, .. } = &check.measure else { return None };
            Some(Ask {
                service: self.service.clone(),
                check: check.name.clone(),
                provider: provider.clone(),
                roles: roles.clone(),
                window: check.window.unwrap_or(self.plan.window),
            })
        };
        self.plan.checks.iter().filter_map(ask).collect()
    }

    /// A provider answered.
    pub(super) fn read(&mut self, ask: Ask, reading: Reading) {
        if self.asks().contains(&ask) {
            self.readings.insert(ask.check.clone(), (ask, reading));
        }
    }

    /// Another plan looks as often as it says from now on, and has its own questions.
    pub(super) fn look_by_another_plan(&mut self, now: Duration) {
        let asks = self.asks();
        self.readings.retain(|_, (ask, _)| asks.contains(ask));
        self.asked = false;
        self.next_look = self.next_look.min(now.saturating_add(self.plan.interval));
    }
}

fn timeout(provider: &Provider) -> Duration {
    match provider {
        Provider::Prometheus { timeout, .. } | Provider::Webhook { timeout, .. } => *timeout,
    }
}
