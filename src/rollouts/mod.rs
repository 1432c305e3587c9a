//! Rollouts of all services: the one place that drives the engine.
//!
//! ```text
//! commands, completions, ─► decide ─► Decision ─► writes ─► finish ─┬─► splits, breakers ─► the owner's next snapshot
//! trips, seconds            engine    a value     the owner's       └─► actions ─► dispatcher: hooks, providers, alerts
//!                           judge                 journal
//! ```
//!
//! The owner holds this. A decision is a value until it is finished: the owner has its writes stored meanwhile, and serves
//! other services. Of one service there is one decision at a time. The split of a service whose versions
//! are rolled out is a function of the engine's state: stable has everything that the canary has not, whatever version
//! the file names. So the publish that takes in a new `release` gives it no more than its first step.
//!
//! Where the disk refuses, the service is *held*: what would give its canary more is decided anew with that known, and the
//! engine holds or refuses; what takes weight away is done all the same, and written as soon as the disk takes it.
//!
//! Invariant: a canary's weight that is in effect, if it was raised, was on the disk before.

mod action;
mod adopt;
mod analysis;
mod baseline;
mod connect;
mod decision;
pub(crate) mod dispatch;
mod file;
pub(crate) mod labels;
mod listening;
mod record;
mod refusal;
mod roles;
mod samples;
mod service;
mod shared_failure;
#[cfg(test)]
mod simulation;
mod status;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

pub(crate) use self::action::{Action, HookCall, Query};
pub(crate) use self::connect::ConnectQuestion;
pub(crate) use self::decision::{Cause, Decision};
pub(crate) use self::record::{RecordedEntry, change_alerts, read_alerts};
pub(crate) use self::refusal::Refusal;
pub(crate) use self::status::RolloutStatus;
pub(crate) use self::view::{StableUnknown, View};

use self::record::Record;
use self::service::{ServiceRollout, raised};
use crate::config::{self, Config};
use crate::model::{Name, Split, SplitKey};
use crate::rollout::engine::{CommandRefused, Event, Phase, RolloutState, Verb};
use crate::rollout::reading::Reading;
use crate::store::{JournalError, JournalWriter, Write};

/// What an operator asks of a service's rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// What is to be done.
    pub(crate) verb: Verb,
    /// What [`Verb::Start`] rolls out.
    pub(crate) version: Option<Name>,
}

/// All rollouts.
#[derive(Clone, Default)]
pub(crate) struct Rollouts {
    services: BTreeMap<Name, ServiceRollout>,
    /// Notified by requests that open a breaker.
    notify: Arc<Notify>,
    actions: Vec<Action>,
    /// What the copy beside the store says.
    copied: record::Stable,
}

impl Rollouts {
    /// What is stored of the services of the file, in memory: what is new of it is among [`Self::writes`]. `shares`: what is
    /// stored of weights over a service's split, which served a service that has a rollout only now.
    ///
    /// # Errors
    /// The services of which nothing tells which version is stable, each with why.
    pub(crate) fn read(
        shares: &BTreeMap<SplitKey, Split>,
        view: &View<'_>,
    ) -> Result<Self, Vec<(Name, StableUnknown)>> {
        let mut rollouts = Self { copied: record::read_stable(view.store), ..Self::default() };
        let mut unknown = Vec::new();
        for service in view.config.services.names() {
            let shares = shares.get(&view::split_key(service, view.config));
            if let Err(why) = rollouts.read_one(service, shares, None, view) {
                unknown.push((service.clone(), why));
            }
        }
        if unknown.is_empty() { Ok(rollouts) } else { Err(unknown) }
    }

    /// What is stored of one service, if it is rolled out. `unwritable`: why nothing of it can be written.
    fn read_one(
        &mut self,
        service: &Name,
        shares: Option<&Split>,
        unwritable: Option<JournalError>,
        view: &View<'_>,
    ) -> Result<(), StableUnknown> {
        let Some(file) = view.config.services.get(service) else { return Ok(()) };
        let Some(plan) = &file.rollout else { return Ok(()) };
        let kept = self.kept(service, view);
        let cohort = plan.cohort.as_ref();
        let shares = shares.filter(|_| kept.as_ref().is_none_or(|(record, _)| record.cohort.as_ref() != cohort));
        let (record, damage) = kept.unwrap_or_default();
        let record = record.of_split(cohort);
        let was = record.state.stable.is_some();
        let mut rollout = ServiceRollout::new(service.clone(), plan, record, view);
        if let Some(why) = unwritable {
            rollout.hold(why);
        }
        if let Some(why) = damage {
            rollout.damaged(&why, file, view.at_ms);
        }
        let mut events = if was { vec![Event::Restored] } else { Vec::new() };
        if let Some(shares) = shares {
            events.extend(rollout.adopt(shares, file)?);
        }
        self.services.insert(service.clone(), rollout);
        self.file(service, events, None, view)
    }

    /// What is new of one service could not be written after [`Self::read`]: nothing of it gives a canary more. What
    /// else it says takes effect.
    pub(crate) fn read_unwritten(
        &mut self,
        service: &Name,
        shares: Option<&Split>,
        why: JournalError,
        view: &View<'_>,
    ) {
        if self.held(service).is_none() {
            self.actions.retain(|action| action.service() != &**service);
            // Which version is stable was known before.
            drop(self.read_one(service, shares, Some(why.clone()), view));
        }
        self.written(service, Err(why));
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

    /// Takes in the file of `view`, in memory: nothing is written, so that the whole can be dropped again. Write
    /// [`Self::writes`] before it takes effect. Returns a line for each rollout that ended.
    ///
    /// Where a service gets a rollout with this file, it goes on from what served by the file `before` and the `shifts` over
    /// it.
    ///
    /// # Errors
    /// The services of which nothing tells where they start, each with why. Drop this then.
    pub(crate) fn take_in(
        &mut self,
        before: &Config,
        shifts: &BTreeMap<SplitKey, Split>,
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
            let known = self.services.get(service);
            if known.is_none_or(|known| known.record.cohort != plan.cohort) {
                let record = known.map(|known| known.record.clone()).unwrap_or_default();
                let mut rollout =
                    ServiceRollout::new(service.clone(), plan, record.of_split(plan.cohort.as_ref()), view);
                rollout.dirty = true;
                let split = before.services.get(service).map(|before| adopt::served(service, before, plan, shifts));
                match split.map(|split| rollout.adopt(split, file)).transpose() {
                    Ok(event) => events.extend(event.flatten()),
                    Err(why) => {
                        unknown.push((service.clone(), why));
                        continue;
                    }
                }
                self.services.insert(service.clone(), rollout);
            }
            let next = self.services.get(service).map(|rollout| rollout.record.history.next());
            if let Err(why) = self.file(service, events, before.services.get(service), view) {
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

    /// What the file says of one service, after `events`; `before` is what it said, where that is known.
    ///
    /// # Errors
    /// Why nothing tells which version is stable.
    fn file(
        &mut self,
        service: &Name,
        mut events: Vec<Event>,
        before: Option<&config::Service>,
        view: &View<'_>,
    ) -> Result<(), StableUnknown> {
        let notify = Arc::clone(&self.notify);
        let (Some(rollout), Some(file)) = (self.services.get_mut(service), view.config.services.get(service)) else {
            return Ok(());
        };
        let starts = |event: &Event| matches!(event, Event::Release(_) | Event::Adopted { .. });
        if !events.iter().any(starts) {
            events.extend(rollout.choose_stable(file)?);
        }
        events.extend(rollout.take_config(file, before));
        events.push(Event::Tick);
        match rollout.apply(events, None, view, &notify) {
            Ok(actions) => self.actions.extend(actions),
            Err(refused) => tracing::error!(%service, "{refused}"),
        }
        Ok(())
    }

    /// What is kept of services that are not rolled out, and what forgets it.
    pub(crate) fn forgotten(&self, store: &JournalWriter) -> Vec<(Name, Vec<Write>)> {
        let mut others = Record::services(store);
        others.retain(|service| !self.services.contains_key(service.as_str()));
        let forget = |service: String| (Name::from(&*service), Record::forget(&service, store));
        others.into_iter().map(forget).collect()
    }

    /// What is new, for each service that has something.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn writes(&mut self, config: &Config) -> Result<Vec<(Name, Vec<Write>)>, JournalError> {
        let count = self.services.len();
        let mut all = Vec::new();
        for (service, rollout) in self.services.iter_mut().filter(|(_, rollout)| rollout.dirty) {
            let actions = self.actions.iter().filter(|action| action.service() == &**service);
            all.push((service.clone(), rollout_writes(rollout, count, actions, config)?));
        }
        Ok(all)
    }

    /// Whether what could not be written of these gives a canary more than in `before`.
    pub(crate) fn raises<'a>(&self, before: &Self, mut unwritten: impl Iterator<Item = &'a Name>) -> bool {
        unwritten.any(|service| {
            let none = RolloutState::default();
            let old = before.services.get(service).map_or(&none, ServiceRollout::state);
            self.services.get(service).is_some_and(|new| raised(old, new.state()))
        })
    }

    /// What became of [`Self::writes`] of one service, which take effect.
    pub(crate) fn written(&mut self, service: &Name, stored: Result<(), JournalError>) {
        let Some(rollout) = self.services.get_mut(service) else { return };
        if let Err(why) = stored.and_then(|()| rollout.saved()) {
            rollout.hold(why);
            action::note_unwritten(&mut self.actions, service);
        }
        rollout.log_new();
    }

    /// What was written of these services is in `dropped`, and not in effect: what is in effect is to be written anew.
    pub(crate) fn rewrite<'a>(&mut self, dropped: &Self, services: impl Iterator<Item = &'a Name>) {
        for service in services {
            let Some((kept, dropped)) = self.services.get_mut(service).zip(dropped.services.get(service)) else {
                continue;
            };
            kept.record.replace(&dropped.record);
            kept.dirty = true;
        }
    }

    /// What the copy beside the store is to say, if that is not what it says.
    pub(crate) fn new_copy(&mut self) -> Option<Vec<u8>> {
        let stable = |rollout: &ServiceRollout| {
            Some((rollout.service.to_string(), rollout.state().stable.as_ref()?.version.to_string()))
        };
        // What is stable for a cohort need not be for everybody.
        let of_all = self.services.values().filter(|rollout| rollout.record.cohort.is_none());
        let stable: record::Stable = of_all.filter_map(stable).collect();
        if stable == self.copied {
            return None;
        }
        self.copied = stable;
        serde_json::to_vec(&self.copied).ok()
    }

    /// What `cause` leads to for `service`; nothing of it is in effect. None: it has no rollout.
    ///
    /// # Errors
    /// [`CommandRefused`] if an operator's command makes no sense now.
    pub(crate) fn decide(
        &mut self,
        service: &Name,
        cause: Cause,
        view: &View<'_>,
    ) -> Result<Option<Decision>, CommandRefused> {
        let before = self.services.get_mut(service);
        before.map(|before| before.decide(cause, view, &self.notify)).transpose()
    }

    /// What is to be written for `decision`: its state, its history and the alerts that it raises, together.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn writes_of(&self, decision: &mut Decision, config: &Config) -> Result<Vec<Write>, JournalError> {
        rollout_writes(&mut decision.after, self.services.len(), decision.actions.iter(), config)
    }

    /// Brings `decision` into effect. `stored` is what became of its writes; none: there were none. Where they are not
    /// stored, what gives the canary more is decided anew with that known.
    ///
    /// Returns what was decided, in lines.
    ///
    /// # Errors
    /// [`CommandRefused`] if a command makes no sense while nothing can be written; then nothing changed.
    pub(crate) fn finish(
        &mut self,
        mut decision: Decision,
        stored: Option<Result<(), JournalError>>,
        view: &View<'_>,
    ) -> Result<Vec<String>, CommandRefused> {
        let service = decision.service.clone();
        let Some(before) = self.services.get_mut(&service) else { return Ok(Vec::new()) };
        if let Some(Err(why)) = stored.map(|stored| stored.and_then(|()| decision.after.saved())) {
            before.hold(why);
            if decision.raises {
                before.record.replace(&decision.after.record);
                decision = before.decide(decision.cause, view, &self.notify)?;
            } else {
                (decision.after.held, decision.after.dirty) = (before.held.clone(), true);
            }
            action::note_unwritten(&mut decision.actions, &service);
        }
        let Decision { cause, mut after, mut actions, first, .. } = decision;
        // It may have gone on while the decision was being stored.
        after.baseline.clone_from(&before.baseline);
        if matches!(cause, Cause::Second { .. }) {
            actions.extend(after.queries(view.now));
        }
        after.log_new();
        let lines = after.record.history.since(first).map(|line| line.entry.why.clone()).collect();
        self.services.insert(service, after);
        self.actions.extend(actions);
        Ok(lines)
    }

    /// A second has passed for `service`: its counters are remembered. What is to be decided, if anything is.
    pub(crate) fn sample(&mut self, service: &Name, view: &View<'_>) -> Option<Cause> {
        let rollout = self.services.get_mut(service).filter(|rollout| rollout.state().is_under_way())?;
        let sustained = rollout.watch(view);
        let due = sustained.is_some()
            || rollout.is_tripped()
            || rollout.state().phase() == Phase::RollingBack
            || rollout.analysis_is_due(view.now);
        if due {
            return Some(Cause::Second { sustained });
        }
        self.actions.extend(rollout.queries(view.now));
        self.actions.extend(rollout.ask_whether_listening(view));
        None
    }

    /// A second has passed: what stable versions usually do is remembered, rollout or not.
    pub(crate) fn record_baselines(&mut self, view: &View<'_>) {
        for (service, rollout) in &mut self.services {
            let stable = rollout.record.state.stable.as_ref().map(|target| target.version.clone());
            rollout.baseline.record(service, stable.as_ref(), &rollout.plan, view);
        }
    }

    /// Why nothing of a service can be written, if so.
    pub(crate) fn held(&self, service: &Name) -> Option<&JournalError> {
        self.services.get(service)?.held.as_ref()
    }

    /// The services whose rollouts are under way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Name> {
        self.services.iter().filter(|(_, rollout)| rollout.state().is_under_way()).map(|(service, _)| service)
    }

    /// The services of which what is in effect is not on the disk, or which are held.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &Name> {
        let unwritten = |rollout: &ServiceRollout| rollout.dirty || rollout.held.is_some();
        self.services.iter().filter(move |(_, rollout)| unwritten(rollout)).map(|(service, _)| service)
    }

    /// The services whose breakers opened, which is not lasting yet.
    pub(crate) fn tripped(&self) -> impl Iterator<Item = &Name> {
        self.services.iter().filter(|(_, rollout)| rollout.is_tripped()).map(|(service, _)| service)
    }

    /// Keeps the breakers that opened in `before` while this was made of it: another plan does not undo that. Whether
    /// there are any.
    pub(crate) fn keep_tripped(&mut self, before: &Self) -> bool {
        let canary = |rollout: &ServiceRollout| rollout.state().canary.as_ref().map(|target| target.version.clone());
        let mut kept = false;
        for service in before.tripped() {
            let Some((old, new)) = before.services.get(service).zip(self.services.get_mut(service)) else { continue };
            let same = new.breaker.as_ref().map(Arc::as_ptr) == old.breaker.as_ref().map(Arc::as_ptr);
            if new.breaker.is_some() && !same && canary(old) == canary(new) {
                new.breaker.clone_from(&old.breaker);
                kept = true;
            }
        }
        kept
    }

    /// What an operator's command is to the engine; none where the service has no rollout.
    pub(crate) fn cause_of(&self, service: &Name, command: &Command, by: String, reason: String) -> Option<Cause> {
        let rollout = self.services.get(service)?;
        Some(Cause::Events(vec![match &command.version {
            Some(version) if command.verb == Verb::Start => {
                Event::Start { target: rollout.target(version.clone()), by, reason }
            }
            _ => Event::Verb { verb: command.verb, by, reason },
        }]))
    }

    /// Notified when a request opened a breaker.
    pub(crate) fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.notify)
    }

    /// A provider answered.
    pub(crate) fn provider_answered(&mut self, query: Query, reading: Reading) {
        if let Some(rollout) = self.services.get_mut(&query.service) {
            rollout.provider_answered(query, reading);
        }
    }

    /// A canary's endpoints were connected to: why not, if they do not accept. What is to be decided, if anything is.
    pub(crate) fn connected(
        &mut self,
        question: ConnectQuestion,
        why: Option<String>,
        view: &View<'_>,
    ) -> Option<Cause> {
        let rollout = self.services.get_mut(&question.service)?;
        rollout.connected(question, why, view).then(|| Cause::Events(Vec::new()))
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

    /// Whether a rollout moves this split.
    pub(crate) fn moves(&self, key: &SplitKey) -> bool {
        self.services.get(&key.service).is_some_and(|rollout| rollout.plan.cohort == key.cohort)
    }

    /// The split that a service's rollout moves, if it has one.
    pub(crate) fn split_key(&self, service: &Name) -> SplitKey {
        let cohort = self.services.get(service).and_then(|rollout| rollout.plan.cohort.clone());
        SplitKey { service: service.clone(), cohort }
    }
}

/// What is to be written of one of `count` services, and of the alerts among `actions`, together.
fn rollout_writes<'a>(
    rollout: &mut ServiceRollout,
    count: usize,
    actions: impl Iterator<Item = &'a Action>,
    config: &Config,
) -> Result<Vec<Write>, JournalError> {
    let mut writes = rollout.writes(count)?;
    writes.extend(record::put_alerts(&dispatch::pending(config, actions))?);
    Ok(writes)
}
