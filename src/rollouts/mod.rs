//! Rollouts of all services: the one place that drives the engine.
//!
//! ```text
//! file, commands, completions, trips, ticks ─► Rollouts ─┬─► store   first
//!                                               engine   ├─► splits, breakers ─► the owner's next snapshot
//!                                               judge    └─► actions ─► dispatcher: hooks, providers, alerts
//! ```
//!
//! The owner holds this, so a decision, its record and its snapshot are one step. The split of a service whose versions
//! are rolled out is a function of the engine's state: stable has everything that the canary has not, whatever version
//! the file names. So the publish that takes in a new `release` gives it no more than its first step.
//!
//! Where the disk refuses, what would give a canary more is decided anew with that known, and the engine holds or
//! refuses; what takes weight away is done all the same, and written as soon as the disk takes it.
//!
//! Invariant: a canary's weight that is in effect, if it was raised, was on the disk before.

mod action;
mod analysis;
pub(crate) mod dispatch;
pub mod labels;
mod record;
mod roles;
mod samples;
mod service;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub(crate) use self::action::{Action, HookCall, Query};
pub use self::record::RecordedEntry;
pub(crate) use self::service::StableUnknown;
pub(crate) use self::view::View;

use self::record::Record;
use self::service::{ServiceRollout, raised};
use crate::config::Config;
use crate::model::{Name, Split};
use crate::outbound::alert::Pending;
use crate::rollout::engine::{CommandRefused, Event, Phase, RolloutState, Verb};
use crate::rollout::plan::Plan;
use crate::rollout::reading::Reading;
use crate::rollout::verdict::Verdict;
use crate::snapshot::live::CircuitBreaker;
use crate::store::{JournalError, JournalWriter};
use crate::telemetry::RolloutFact;

/// What an operator asks of a service's rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What is to be done.
    pub verb: Verb,
    /// What [`Verb::Start`] rolls out.
    pub version: Option<Name>,
}

/// Where a service's rollout is, for operators.
#[derive(Clone, Debug)]
pub struct RolloutStatus {
    /// How it is rolled out.
    pub plan: Arc<Plan>,
    /// Where it is.
    pub state: RolloutState,
    /// The last lines of its history, oldest first.
    pub entries: Vec<Arc<RecordedEntry>>,
    /// Why decisions cannot be written down, if so.
    pub unwritable: Option<String>,
    /// How old [`Self::state`]'s times are, as of when the status was published.
    pub age: Duration,
    /// What the file should say of the stable version, where it does not.
    pub behind: Option<String>,
}

/// Entries of the history in a status.
const STATUS_ENTRIES: usize = 10;

/// All rollouts.
#[derive(Clone, Default)]
pub(crate) struct Rollouts {
    services: BTreeMap<Name, ServiceRollout>,
    /// Why the last write failed, if it did.
    unwritable: Option<JournalError>,
    /// Notified by requests that open a breaker.
    notify: Arc<Notify>,
    actions: Vec<Action>,
    /// What the copy beside the store says.
    copied: record::Stable,
}

impl Rollouts {
    /// Restores what is stored of the services of the file, and deletes what is stored of others.
    ///
    /// # Errors
    /// The services of which nothing tells which version is stable, each with why.
    pub(crate) fn restore(view: &View<'_>) -> Result<Self, Vec<(Name, StableUnknown)>> {
        let mut rollouts = Self { copied: record::read_stable(view.store), ..Self::default() };
        let mut unknown = Vec::new();
        for (service, file) in view.config.services.iter() {
            let Some(plan) = &file.rollout else { continue };
            let (record, damage) = rollouts.kept(service, view).unwrap_or_default();
            let was = record.state.stable.is_some();
            let mut rollout = ServiceRollout::new(service.clone(), Arc::new(plan.clone()), record, view.at_ms);
            if let Some(why) = damage {
                rollout.damaged(&why, file, view.at_ms);
            }
            rollouts.services.insert(service.clone(), rollout);
            let events = if was { vec![Event::Restored] } else { Vec::new() };
            if let Err(why) = rollouts.file(service, events, view) {
                unknown.push((service.clone(), why));
            }
        }
        if !unknown.is_empty() {
            return Err(unknown);
        }
        rollouts.forget_others(view);
        rollouts.save_or_note(view);
        Ok(rollouts)
    }

    /// What is stored of a service, or what the copy says of it; and what is wrong with it, if anything is.
    fn kept(&self, service: &Name, view: &View<'_>) -> Option<(Record, Option<String>)> {
        let copied = self.copied.get(&**service);
        match (Record::read(service, view.store), copied) {
            (Some((record, Some(why))), Some(stable)) if record.state.stable.is_none() => {
                Some((Record { state: Record::lost(stable).state, ..record }, Some(why)))
            }
            (None, Some(stable)) => {
                tracing::error!(%service, %stable, "the store of the rollout is lost; of its copy the stable version is known");
                Some((Record::lost(stable), Some("it is lost".to_owned())))
            }
            (kept, _) => kept,
        }
    }

    /// Takes in the file of `view`, in memory: nothing is written, so that the whole can be dropped again. Call
    /// [`Self::save`] before it takes effect. Returns a line for each rollout that ended.
    ///
    /// Where a service gets a rollout with this file, what it names as stable is, or what served everything by the file
    /// `before` and the `shifts` over it.
    ///
    /// # Errors
    /// The services of which nothing tells which version is stable, each with why. Drop this then.
    pub(crate) fn take_in(
        &mut self,
        before: &Config,
        shifts: &BTreeMap<Name, Split>,
        view: &View<'_>,
    ) -> Result<Vec<String>, Vec<(Name, StableUnknown)>> {
        let (mut lines, mut unknown) = (Vec::new(), Vec::new());
        self.services.retain(|service, _| {
            let kept = view.config.services.get(service).is_some_and(|file| file.rollout.is_some());
            if !kept {
                lines.push(format!("{service}: the file has no rollout any more; its split applies"));
            }
            kept
        });
        for (service, file) in view.config.services.iter() {
            let Some(plan) = &file.rollout else { continue };
            let mut events = Vec::new();
            if !self.services.contains_key(service) {
                let record = Record::default();
                let mut rollout = ServiceRollout::new(service.clone(), Arc::new(plan.clone()), record, view.at_ms);
                let served = before.services.get(service).filter(|_| file.stable.is_none());
                events.extend(served.and_then(|served| rollout.served(served, shifts.get(service), file)));
                self.services.insert(service.clone(), rollout);
            }
            let next = self.services.get(service).map(|rollout| rollout.record.history.next());
            if let Err(why) = self.file(service, events, view) {
                unknown.push((service.clone(), why));
                continue;
            }
            let Some(rollout) = self.services.get(service) else { continue };
            if next != Some(rollout.record.history.next()) {
                lines.push(format!("{service}: {}", rollout.state().reason));
            }
        }
        if unknown.is_empty() { Ok(lines) } else { Err(unknown) }
    }

    /// What the file says of one service, after `events`.
    ///
    /// # Errors
    /// Why nothing tells which version is stable.
    fn file(&mut self, service: &Name, mut events: Vec<Event>, view: &View<'_>) -> Result<(), StableUnknown> {
        let (unwritable, notify) = (self.unwritable.is_some(), Arc::clone(&self.notify));
        let (Some(rollout), Some(file)) = (self.services.get_mut(service), view.config.services.get(service)) else {
            return Ok(());
        };
        if !events.iter().any(|event| matches!(event, Event::Release(_))) {
            events.extend(rollout.choose_stable(file)?);
        }
        events.extend(rollout.take_config(file));
        events.push(Event::Tick);
        match rollout.apply(events, None, unwritable, view, &notify) {
            Ok(actions) => self.actions.extend(actions),
            Err(refused) => tracing::error!(%service, "{refused}"),
        }
        Ok(())
    }

    /// Forgets what is kept of services that are not rolled out.
    pub(crate) fn forget_others(&self, view: &View<'_>) {
        for service in Record::services(view.store).iter().filter(|name| !self.services.contains_key(name.as_str())) {
            if let Err(error) = Record::forget(service, view.store) {
                tracing::warn!(%service, %error, "the rollout of a service that has none any more could not be forgotten");
            }
        }
    }

    /// Whether any canary has more than in `before`.
    pub(crate) fn raises(&self, before: &Self) -> bool {
        self.services.iter().any(|(service, rollout)| {
            before.services.get(service).is_some_and(|old| raised(old.state(), rollout.state()))
        })
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// Why it could not be written. What was not is tried again with the next.
    pub(crate) fn save(&mut self, view: &View<'_>) -> Result<(), JournalError> {
        let count = self.services.len();
        // Where the disk is known to refuse, something is written to see whether it still does.
        if view.store.last_error().is_some()
            && let Some(rollout) = self.services.values_mut().next()
        {
            rollout.dirty = true;
        }
        for (service, rollout) in self.services.iter_mut().filter(|(_, rollout)| rollout.dirty) {
            rollout.record.save(service, count, view.store)?;
            rollout.dirty = false;
        }
        let stable = |rollout: &ServiceRollout| {
            Some((rollout.service.to_string(), rollout.state().stable.as_ref()?.version.to_string()))
        };
        let stable: record::Stable = self.services.values().filter_map(stable).collect();
        if stable != self.copied {
            // The store has it: only if that is lost is the copy wanted.
            if let Err(error) = record::save_stable(&stable, view.store) {
                tracing::warn!(%error, "the copy of which versions are stable could not be written");
            }
            self.copied = stable;
        }
        self.unwritable = None;
        Ok(())
    }

    /// What a reload wrote was dropped again: what is in effect is to be written anew.
    pub(crate) fn rewrite_all(&mut self) {
        self.services.values_mut().for_each(|rollout| rollout.dirty = true);
    }

    /// Why decisions cannot be written, if so.
    pub(crate) const fn unwritable(&self) -> Option<&JournalError> {
        self.unwritable.as_ref()
    }

    /// The disk refuses: what is decided from now on knows that.
    pub(crate) fn set_unwritable(&mut self, why: JournalError) {
        if self.unwritable.is_none() {
            tracing::error!("the rollouts' decisions cannot be written, so nothing moves forward: {why}");
        }
        self.unwritable = Some(why);
    }

    fn save_or_note(&mut self, view: &View<'_>) {
        if let Err(why) = self.save(view) {
            self.set_unwritable(why);
        }
    }

    /// One service's events: applied, written down, and only then in effect.
    fn decide(
        &mut self,
        service: &Name,
        events: &[Event],
        verdicts: Option<&[Verdict]>,
        view: &View<'_>,
    ) -> Result<(), CommandRefused> {
        let Some(mut before) = self.services.get(service).cloned() else { return Ok(()) };
        let mut actions = self.apply(service, events, verdicts, view)?;
        if let Err(why) = self.save(view) {
            self.set_unwritable(why);
            let after = self.services.get(service).map(ServiceRollout::state);
            if after.is_some_and(|after| raised(before.state(), after)) {
                // A part of it may be on the disk.
                before.dirty = true;
                self.services.insert(service.clone(), before);
                actions = self.apply(service, events, verdicts, view)?;
            }
        }
        self.actions.extend(actions);
        Ok(())
    }

    fn apply(
        &mut self,
        service: &Name,
        events: &[Event],
        verdicts: Option<&[Verdict]>,
        view: &View<'_>,
    ) -> Result<Vec<Action>, CommandRefused> {
        let (unwritable, notify) = (self.unwritable.is_some(), Arc::clone(&self.notify));
        let Some(rollout) = self.services.get_mut(service) else { return Ok(Vec::new()) };
        rollout.apply(events.to_vec(), verdicts, unwritable, view, &notify)
    }

    /// Applies events that no operator asked for, so that none can be refused.
    fn observe(&mut self, service: &Name, events: &[Event], verdicts: Option<&[Verdict]>, view: &View<'_>) {
        if let Err(refused) = self.decide(service, events, verdicts, view) {
            tracing::error!(%service, "{refused}");
        }
    }

    /// A second has passed: conditions, ramps, analyses, queries; and what could not be written is tried again.
    pub(crate) fn second(&mut self, view: &View<'_>) {
        self.take_trips(view);
        let under_way = |rollout: &&ServiceRollout| rollout.state().is_under_way();
        let services: Vec<Name> =
            self.services.values().filter(under_way).map(|rollout| rollout.service.clone()).collect();
        for service in services {
            let Some(rollout) = self.services.get_mut(&service) else { continue };
            let sustained = rollout.watch(view.now);
            if let Some(sentence) = sustained {
                self.observe(&service, &[Event::Sustained { sentence }, Event::Tick], None, view);
            } else if self.phase(&service) == Some(Phase::RollingBack) {
                self.observe(&service, &[Event::Tick], None, view);
            }
            let look = self.services.get_mut(&service).and_then(|rollout| rollout.analyse(view));
            if let Some((verdicts, actions)) = look {
                self.actions.extend(actions);
                self.observe(&service, &[Event::Tick], Some(&verdicts), view);
            }
            let queries = self.services.get_mut(&service).map(|rollout| rollout.queries(view.now));
            self.actions.extend(queries.unwrap_or_default());
        }
        if self.unwritable.is_some() || self.services.values().any(|rollout| rollout.dirty) {
            self.save_or_note(view);
        }
    }

    fn phase(&self, service: &Name) -> Option<Phase> {
        self.services.get(service).map(|rollout| rollout.state().phase())
    }

    /// Makes lasting what breakers did that requests opened.
    pub(crate) fn take_trips(&mut self, view: &View<'_>) {
        let tripped = |rollout: &ServiceRollout| Some((rollout.service.clone(), rollout.tripped(view.now)?));
        let tripped: Vec<(Name, Event)> = self.services.values().filter_map(tripped).collect();
        for (service, event) in tripped {
            self.observe(&service, &[event, Event::Tick], None, view);
        }
    }

    /// Notified when a request opened a breaker.
    pub(crate) fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.notify)
    }

    /// Applies an operator's command. Returns what was decided by it, in lines; none where the service has no rollout.
    ///
    /// # Errors
    /// [`CommandRefused`] if it makes no sense now; then nothing changed.
    pub(crate) fn command(
        &mut self,
        service: &Name,
        command: &Command,
        (by, reason): (String, String),
        view: &View<'_>,
    ) -> Option<Result<Vec<String>, CommandRefused>> {
        let rollout = self.services.get(service)?;
        let first = rollout.record.history.next();
        let event = match &command.version {
            Some(version) if command.verb == Verb::Start => {
                Event::Start { target: rollout.target(version.clone()), by, reason }
            }
            _ => Event::Verb { verb: command.verb, by, reason },
        };
        Some(self.decide(service, &[event, Event::Tick], None, view).map(|()| {
            let lines = self.history(service, STATUS_ENTRIES).unwrap_or_default();
            lines.iter().filter(|line| line.number >= first).map(|line| line.entry.why.clone()).collect()
        }))
    }

    /// A hook answered, or the call failed.
    pub(crate) fn hook_answered(&mut self, service: &Name, answer: (u64, bool, String), view: &View<'_>) {
        let (id, accepted, text) = answer;
        self.observe(service, &[Event::HookAnswered { id, accepted, text }, Event::Tick], None, view);
    }

    /// A provider answered.
    pub(crate) fn provider_answered(&mut self, query: Query, reading: Reading) {
        if let Some(rollout) = self.services.get_mut(&query.service) {
            rollout.provider_answered(query, reading);
        }
    }

    /// The actions to dispatch, in order; each once.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether no service's versions are rolled out.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether the service's versions are rolled out.
    pub(crate) fn has(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

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
    pub(crate) fn splits(&self) -> impl Iterator<Item = (&Name, Split, &str, u64)> {
        self.services.iter().filter_map(|(service, rollout)| {
            Some((service, rollout.split()?, rollout.state().reason.as_str(), rollout.since_ms))
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

    /// What metrics say.
    pub(crate) fn facts(&self) -> Vec<RolloutFact> {
        let fact = |rollout: &ServiceRollout| RolloutFact {
            service: rollout.service.clone(),
            phase: rollout.state().phase().as_str(),
            phases: Phase::WORDS,
            step: u64::try_from(rollout.state().taken).unwrap_or(u64::MAX),
            checks: rollout
                .tallies
                .checks
                .iter()
                .map(|((name, command), count)| (name.clone(), *command, *count))
                .collect(),
            transitions: rollout.tallies.transitions.iter().map(|((to, by), count)| (*to, *by, *count)).collect(),
        };
        self.services.values().map(fact).collect()
    }

    /// Where each one is.
    pub(crate) fn statuses(&self, now: Duration) -> BTreeMap<Name, Arc<RolloutStatus>> {
        let status = |rollout: &ServiceRollout| RolloutStatus {
            plan: Arc::clone(&rollout.plan),
            state: rollout.state().clone(),
            entries: rollout.record.history.last(STATUS_ENTRIES),
            unwritable: self.unwritable.as_ref().map(ToString::to_string),
            behind: rollout.behind(),
            age: rollout.state().times.clock.map_or(Duration::ZERO, |clock| now.saturating_sub(clock)),
        };
        self.services.iter().map(|(service, rollout)| (service.clone(), Arc::new(status(rollout)))).collect()
    }

    /// The newest `limit` entries of the service's history, oldest first; none where it has no rollout.
    pub(crate) fn history(&self, service: &str, limit: usize) -> Option<Vec<Arc<RecordedEntry>>> {
        self.services.get(service).map(|rollout| rollout.record.history.last(limit))
    }
}

/// Keeps alerts that are still to be delivered.
///
/// # Errors
/// Why they could not be written.
pub(crate) fn save_pending(pending: &[Pending], store: &JournalWriter) -> Result<(), JournalError> {
    record::save_pending(pending, store)
}

/// Alerts that were still to be delivered.
pub(crate) fn read_pending(store: &JournalWriter) -> Vec<Pending> {
    record::read_pending(store)
}
