//! The owner's part in rollouts: what happens to them, and that each decision is in effect before the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::{Owner, describe, find_name, may_be_lost, reason};
use crate::config::Config;
use crate::control::resolve::Resolved;
use crate::control::{Ack, Attribution, ProposalResult, Rejection, Shift};
use crate::model::{Name, Split, Weight};
use crate::rollouts::dispatch::{Completion, Dispatcher};
use crate::rollouts::{self, Command, RecordedEntry, Rollouts, View};
use crate::snapshot::compile::States;
use crate::snapshot::live::{CircuitBreaker, FaultInjection};
use crate::store::JournalWriter;
use crate::telemetry::Recorder;

/// Fault injection as it is asked for.
#[derive(Clone, Debug)]
pub struct FaultRequest {
    /// The service.
    pub service: String,
    /// The version, or `canary` or `stable` for the one in that role.
    pub version: String,
    /// The share of requests that fail.
    pub errors: Weight,
    /// How long every request waits.
    pub delay: Duration,
    /// How long it goes on. Without errors and without a delay, a drill that goes on ends.
    pub lasting: Duration,
}

/// The moment as rollouts see it, over a file that is in effect or may be.
pub(super) fn view<'a>(
    (config, states, resolved): (&'a Config, &'a States, &'a Resolved),
    (recorder, journal): (&'a Recorder, &'a JournalWriter),
    epoch: Instant,
) -> View<'a> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    View { config, states, resolved, recorder, store: journal, now: epoch.elapsed(), at_ms }
}

/// The splits over the file's: an operator's, and of what is rolled out.
pub(super) fn splits(shifts: &BTreeMap<Name, Shift>, rollouts: &Rollouts) -> BTreeMap<Name, Split> {
    let manual = shifts.iter().map(|(service, shift)| (service.clone(), shift.split.clone()));
    let pending_changed = rollouts.splits().map(|(service, split, ..)| (service.clone(), split));
    manual.chain(pending_changed).collect()
}

impl Owner {
    /// Lets rollouts decide something over the file in effect.
    fn decide<T>(&mut self, decide: impl FnOnce(&mut Rollouts, &View<'_>) -> T) -> T {
        let mut rollouts = std::mem::take(&mut self.rollouts);
        let file = (&self.config, &self.states, &self.inputs.resolved);
        let decided = decide(&mut rollouts, &view(file, (&self.recorder, &self.journal), self.epoch));
        self.rollouts = rollouts;
        decided
    }

    /// What rollouts decided takes effect: the splits at once, then the actions.
    pub(super) fn apply_decisions(&mut self) {
        let (shifts, breakers) = (splits(&self.shifts, &self.rollouts), self.rollouts.breakers());
        if shifts != self.inputs.shifts || !same(&breakers, &self.inputs.breakers) {
            (self.inputs.shifts, self.inputs.breakers) = (shifts, breakers);
            self.publish_inputs();
        }
        self.dispatch_actions();
        self.publish_status();
    }

    /// Dispatches hooks, queries and alerts. Before there is a dispatcher they wait.
    pub(super) fn dispatch_actions(&mut self) {
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.run(self.rollouts.take_actions());
        }
    }

    /// Starts the dispatcher, on the runtime that this task is on.
    pub(super) fn start_dispatcher(&mut self) -> mpsc::Receiver<Completion> {
        let (dispatcher, completions) = Dispatcher::new(&self.config, rollouts::read_pending(&self.journal));
        self.dispatcher = Some(dispatcher);
        self.dispatch_actions();
        completions
    }

    /// Alerts were raised or delivered: what is left of them survives a restart.
    pub(super) fn save_pending_alerts(&self) {
        let Some(dispatcher) = &self.dispatcher else { return };
        if let Err(error) = rollouts::save_pending(&dispatcher.pending(), &self.journal) {
            tracing::warn!(%error, "alerts that are still to be delivered would not survive a restart");
        }
    }

    /// A second has passed.
    pub(super) fn second(&mut self) {
        let now = Instant::now();
        self.publisher.free();
        self.recorder.tick(now);
        self.retry_unwritten();
        self.uses.second(&self.current.peek(), &self.journal, now);
        let before = self.inputs.faults.len();
        self.inputs.faults.retain(|(service, version), drill| {
            let goes_on = drill.until() > now;
            if !goes_on {
                tracing::info!(%service, %version, "the drill is over");
            }
            goes_on
        });
        if self.inputs.faults.len() != before {
            self.publish_inputs();
        }
        if !self.rollouts.is_empty() {
            self.decide(Rollouts::second);
            self.apply_decisions();
        }
    }

    /// Requests opened a breaker: the canary is at 0 already, and this makes it lasting.
    pub(super) fn tripped(&mut self) {
        self.decide(Rollouts::take_trips);
        self.apply_decisions();
    }

    /// An action completed.
    pub(super) fn completed(&mut self, completions: Completion) {
        match completions {
            Completion::Hook { service, id, accepted, text } => {
                self.decide(|rollouts, view| rollouts.hook_answered(&service, (id, accepted, text), view));
            }
            Completion::Provider { query, reading } => self.rollouts.provider_answered(*query, reading),
        }
        self.apply_decisions();
    }

    /// An operator's command.
    pub(super) fn command(&mut self, service: &str, command: &Command, by: Attribution) -> ProposalResult {
        let (name, file) = self.find_service(service)?;
        if !self.rollouts.has(&name) {
            return Err(Rejection::NoRollout(name.to_string()));
        }
        let version = match &command.version {
            Some(version) => Some(find_name("version", version, file.versions.names())?),
            None => file.release.clone(),
        };
        let command = Command { verb: command.verb, version };
        let said = self.decide(|rollouts, view| rollouts.command(&name, &command, (by.author, by.reason), view));
        let lines = said.unwrap_or_else(|| Ok(Vec::new()))?;
        self.apply_decisions();
        let revision = self.current.peek().revision;
        Ok(Ack {
            revision,
            changes: lines.into_iter().map(|line| format!("{name}: {line}")).collect(),
            warnings: self.rollouts.unwritable().map(may_be_lost).into_iter().collect(),
        })
    }

    /// The newest `limit` entries of a service's history, oldest first.
    pub(super) fn history(&self, service: &str, limit: usize) -> Result<Vec<Arc<RecordedEntry>>, Rejection> {
        let (name, _) = self.find_service(service)?;
        self.rollouts.history(&name, limit).ok_or_else(|| Rejection::NoRollout(name.to_string()))
    }

    /// Begins to inject faults into a version, or ends that.
    pub(super) fn drill(&mut self, order: &FaultRequest, by: &Attribution) -> ProposalResult {
        let (service, file) = self.find_service(&order.service)?;
        let version = match self.rollouts.role(&service, &order.version) {
            Some(version) => version,
            None => find_name("version", &order.version, file.versions.names())?,
        };
        let key = (service, version);
        let what = format!("drill on {}/{}", key.0, key.1);
        let line = if order.errors == Weight::ZERO && order.delay.is_zero() {
            if self.inputs.faults.remove(&key).is_none() {
                return Ok(Ack { revision: self.current.peek().revision, changes: Vec::new(), warnings: Vec::new() });
            }
            format!("{what} ended by {}{}", by.author, reason(by))
        } else {
            let until = Instant::now() + order.lasting;
            self.inputs.faults.insert(key, Arc::new(FaultInjection::new(order.errors, order.delay, until)));
            let errors = (order.errors > Weight::ZERO).then(|| format!("{} % errors", order.errors));
            let delay = (!order.delay.is_zero()).then(|| format!("{:?} delay", order.delay));
            let faults = errors.into_iter().chain(delay).collect::<Vec<_>>().join(" and ");
            format!("{what}: {faults} for {:?}, by {}{}", order.lasting, by.author, reason(by))
        };
        self.recompile(line)
    }

    /// Everything that lies over the file's splits, for the status.
    pub(super) fn status_shifts(&self) -> BTreeMap<Name, Shift> {
        let mut shown = self.shifts.clone();
        for (service, split, reason, since_ms) in self.rollouts.splits() {
            let Some(base) = self.config.services.get(service).map(|file| file.split.clone()) else { continue };
            if describe(&base) != describe(&split) {
                let by = Attribution { author: "rollout".to_owned(), reason: reason.to_owned() };
                let at = SystemTime::UNIX_EPOCH + Duration::from_millis(since_ms);
                shown.insert(service.clone(), Shift { split, base, by, at });
            }
        }
        shown
    }
}

type Breakers = BTreeMap<(Name, Name), Arc<CircuitBreaker>>;

fn same(a: &Breakers, b: &Breakers) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}
