//! The owner's part in rollouts: what happens to them, and that each decision is in effect before the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::commits::{CommitDone, PendingCommit, Reply, Work};
use super::{Kept, Owner, describe, find_name, reason};
use crate::config::Config;
use crate::control::resolve::Resolved;
use crate::control::{Ack, Attribution, ProposalResult, Rejection, Shift};
use crate::model::{Name, Split, SplitKey, Weight};
use crate::rollout::engine::{CommandRefused, Event};
use crate::rollouts::dispatch::{Completion, Dispatcher};
use crate::rollouts::{self, Cause, Command, Decision, RecordedEntry, Rollouts, View};
use crate::snapshot::compile::States;
use crate::snapshot::live::FaultInjection;
use crate::store::{JournalError, JournalWriter, Write};
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
    View { config, states, resolved, in_effect: None, recorder, store: journal, now: epoch.elapsed(), at_ms }
}

/// The splits over the file's: an operator's, and of what is rolled out.
pub(super) fn splits(shifts: &BTreeMap<SplitKey, Shift>, rollouts: &Rollouts) -> BTreeMap<SplitKey, Split> {
    let manual = shifts.iter().map(|(of, shift)| (of.clone(), shift.split.clone()));
    let rolled_out = rollouts.splits().map(|(of, split, ..)| (of, split));
    manual.chain(rolled_out).collect()
}

impl Owner {
    /// Lets rollouts decide something over the file in effect.
    fn with_rollouts<T>(&mut self, decide: impl FnOnce(&mut Rollouts, &View<'_>) -> T) -> T {
        let mut rollouts = std::mem::take(&mut self.rollouts);
        let file = (&self.config, &self.states, &self.inputs.resolved);
        let current = self.current.load();
        let seen = view(file, (&self.recorder, &self.journal), self.epoch);
        let decided = decide(&mut rollouts, &View { in_effect: Some(&current), ..seen });
        self.rollouts = rollouts;
        decided
    }

    /// What rollouts decided takes effect: the splits at once, then the actions.
    fn apply_decisions(&mut self) {
        let (shifts, breakers) = (splits(&self.shifts, &self.rollouts), self.rollouts.breakers());
        let canaries = self.rollouts.canaries();
        let inputs = &mut self.inputs;
        if shifts != inputs.shifts || canaries != inputs.canaries || !same(&breakers, &inputs.breakers) {
            (inputs.shifts, inputs.breakers, inputs.canaries) = (shifts, breakers, canaries);
            self.publish_inputs();
        }
        self.dispatch_actions();
    }

    /// Dispatches hooks, queries and alerts. Before there is a dispatcher they wait.
    pub(super) fn dispatch_actions(&mut self) {
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.run(self.rollouts.take_actions());
        }
    }

    /// Starts the dispatcher, on the runtime that this task is on.
    pub(super) fn start_dispatcher(&mut self) -> mpsc::Receiver<Completion> {
        let (dispatcher, completions) = Dispatcher::new(&self.config, rollouts::read_alerts(&self.journal));
        self.dispatcher = Some(dispatcher);
        self.dispatch_actions();
        completions
    }

    /// A commit of these writes.
    pub(super) fn commit(
        &self,
        writes: Result<Vec<Write>, JournalError>,
    ) -> impl Future<Output = Result<(), JournalError>> + Send + use<> {
        let commit = writes.map(|writes| self.journal.submit(writes));
        async move { commit?.await }
    }

    /// Alerts were raised or delivered: what is left of them survives a restart.
    pub(super) fn keep_alerts(&mut self) {
        let Some(dispatcher) = &self.dispatcher else { return };
        let failed = match &mut self.alerts {
            Kept::InFlight { again, .. } => {
                *again = true;
                return;
            }
            Kept::Behind { failed } => *failed,
            Kept::Stored => false,
        };
        let writes = rollouts::change_alerts(&dispatcher.pending(), &self.journal);
        self.alerts = if writes.as_ref().is_ok_and(Vec::is_empty) {
            Kept::Stored
        } else {
            self.commits.follow(self.commit(writes).map(CommitDone::Alerts));
            Kept::InFlight { again: false, failed }
        };
    }

    /// What is left of the alerts was stored, or could not be; then it is tried again with the next second.
    pub(super) fn alerts_kept(&mut self, stored: Result<(), JournalError>) {
        let Kept::InFlight { again, failed } = self.alerts else { return };
        self.alerts = Kept::Stored;
        match stored {
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "alerts that are still to be delivered would not survive a restart");
                }
                self.alerts = Kept::Behind { failed: true };
            }
            Ok(()) if again => self.keep_alerts(),
            Ok(()) => {}
        }
    }

    /// The copy of which versions are stable is to say what is so.
    pub(super) fn keep_copy(&mut self) {
        if !self.copying
            && let Some(copy) = self.rollouts.new_copy()
        {
            self.copying = true;
            self.commits.follow(self.journal.submit_copy(copy).map(CommitDone::Copy));
        }
    }

    /// A second has passed.
    pub(super) fn second(&mut self) {
        let now = Instant::now();
        self.publisher.free();
        self.recorder.tick(now);
        if let Some(write) = self.uses.second(&self.current.peek(), now) {
            self.commits.follow(self.journal.submit(vec![write]).map(CommitDone::Uses));
        }
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
        if matches!(self.alerts, Kept::Behind { .. }) {
            self.keep_alerts();
        }
        self.retry_unwritten();
        self.retry_held();
        self.try_again();
        self.with_rollouts(|rollouts, view| rollouts.record_baselines(view));
        self.commits.tick(self.rollouts.under_way());
        if !self.rollouts.is_empty() {
            self.publish_status();
        }
    }

    /// Writes anew what is in effect of one service that is held, each time another one.
    fn retry_held(&mut self) {
        let after = |service: &&Name| self.retried.as_ref().is_none_or(|retried| *service > retried);
        let next = self.rollouts.unwritten().find(after).or_else(|| self.rollouts.unwritten().next()).cloned();
        self.retried.clone_from(&next);
        if let Some(service) = next.filter(|service| !self.commits.is_busy(service)) {
            self.decide(service, Cause::Unwritten, None);
        }
    }

    /// A second has passed for a service.
    pub(super) fn service_tick(&mut self, service: Name) {
        match self.with_rollouts(|rollouts, view| rollouts.sample(&service, view)) {
            Some(cause) => self.decide(service, cause, None),
            None => self.dispatch_actions(),
        }
    }

    /// Requests opened a breaker: the canary is at 0 already, and this makes it lasting. Where something is in flight, it
    /// is made so right after that.
    pub(super) fn tripped(&mut self) {
        let services: Vec<Name> = self.rollouts.tripped().cloned().collect();
        for service in services {
            if !self.commits.is_busy(&service) {
                self.decide(service, Cause::Tripped, None);
            }
        }
    }

    /// An action completed.
    pub(super) fn completed(&mut self, completion: Completion) {
        self.begin(completion.service().clone(), Work::Completion(completion));
    }

    pub(super) fn take_completion(&mut self, service: Name, completion: Completion) {
        match completion {
            Completion::Hook { id, accepted, text, .. } => {
                let answered = Event::HookAnswered { id, accepted, text };
                self.decide(service, Cause::Events(vec![answered]), None);
            }
            Completion::Connect { question, why } => {
                let news = self.with_rollouts(|rollouts, view| rollouts.connected(*question, why, view));
                if let Some(cause) = news {
                    self.decide(service, cause, None);
                }
            }
            Completion::Provider { query, reading } => self.rollouts.provider_answered(*query, reading),
        }
    }

    /// An operator's command.
    pub(super) fn command(&mut self, service: Name, command: &Command, by: Attribution, reply: Reply) {
        match self.command_cause(&service, command, by) {
            Ok(cause) => self.decide(service, cause, Some(reply)),
            // Whoever asked may have gone.
            Err(rejection) => drop(reply.send(Err(rejection))),
        }
    }

    fn command_cause(&self, service: &Name, command: &Command, by: Attribution) -> Result<Cause, Rejection> {
        let no_rollout = || Rejection::NoRollout(service.to_string());
        let (_, file) = self.find_service(service)?;
        if !self.rollouts.has(service) {
            return Err(no_rollout());
        }
        let version = match &command.version {
            Some(version) => Some(find_name("version", version, file.versions.names())?),
            None => file.release.clone(),
        };
        let command = Command { verb: command.verb, version };
        self.rollouts.cause_of(service, &command, by.author, by.reason).ok_or_else(no_rollout)
    }

    /// Decides something of a service, of which nothing is in flight, and hands it to the store.
    fn decide(&mut self, service: Name, cause: Cause, reply: Option<Reply>) {
        let decided = self.with_rollouts(|rollouts, view| rollouts.decide(&service, cause, view));
        match decided {
            Ok(Some(decision)) if !decision.is_to_be_written() => self.finish_decision(decision, None, reply),
            Ok(Some(mut decision)) => {
                let commit = self.commit(self.rollouts.writes_of(&mut decision, &self.config));
                let decision = Box::new(decision);
                self.commits.begin(service, PendingCommit::Decision { decision, reply }, commit);
            }
            Ok(None) => answer(reply, Err(Rejection::NoRollout(service.to_string()))),
            Err(refused) => {
                self.publish_status();
                refuse(&service, reply, refused);
            }
        }
    }

    /// Brings a decision into effect, or what is left of it where it could not be written.
    fn finish_decision(&mut self, decision: Decision, stored: Option<Result<(), JournalError>>, reply: Option<Reply>) {
        let service = decision.service().clone();
        let done = self.with_rollouts(|rollouts, view| rollouts.finish(decision, stored, view));
        self.apply_decisions();
        // The last one that ends shows what all did.
        if reply.is_some() || self.commits.is_empty() {
            self.publish_status();
        }
        match done {
            Ok(lines) => {
                let changes = lines.into_iter().map(|line| format!("{service}: {line}")).collect();
                let ack = Ack::new(self.current.peek().revision, changes);
                answer(
                    reply,
                    Ok(match self.rollouts.held(&service) {
                        Some(why) => ack.not_durable(why),
                        None => ack,
                    }),
                );
            }
            Err(refused) => refuse(&service, reply, refused),
        }
    }

    /// A commit of a service ended.
    pub(super) fn finish_commit(&mut self, service: &Name, stored: Result<(), JournalError>) {
        match self.commits.take(service) {
            Some(PendingCommit::Decision { decision, reply }) => {
                let written_anew = decision.is_written_anew() && stored.is_ok();
                self.finish_decision(*decision, Some(stored), reply);
                if written_anew {
                    self.retry_held();
                }
            }
            Some(PendingCommit::Setting { change, reply }) => {
                // Whoever asked may have gone; the change stands all the same.
                drop(reply.send(self.finish_setting(change, &stored)));
            }
            Some(PendingCommit::Rewrite(keys)) => self.note_written(keys, stored.is_ok()),
            Some(PendingCommit::Forget) => {
                if let Err(error) = stored {
                    tracing::warn!(%error, "rollouts of services that have none any more could not be forgotten");
                }
            }
            None => {}
        }
        self.tripped();
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
            None if order.version == "canary" && file.versions.names().all(|name| **name != *"canary") => {
                return Err(Rejection::NoCanary(service.to_string()));
            }
            None => find_name("version", &order.version, file.versions.names())?,
        };
        let key = (service, version);
        let what = format!("drill on {}/{}", key.0, key.1);
        let line = if order.errors == Weight::ZERO && order.delay.is_zero() {
            if self.inputs.faults.remove(&key).is_none() {
                return Ok(Ack::new(self.current.peek().revision, Vec::new()));
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
    pub(super) fn status_shifts(&self) -> BTreeMap<SplitKey, Shift> {
        let mut shown = self.shifts.clone();
        for (of, split, reason, since_ms) in self.rollouts.splits() {
            let file = self.config.services.get(&of.service);
            let Some(base) = file.and_then(|file| file.split_of(of.cohort.as_ref())).cloned() else { continue };
            if describe(&base) != describe(&split) {
                let by = Attribution { author: "rollout".to_owned(), reason: reason.to_owned() };
                let at = SystemTime::UNIX_EPOCH + Duration::from_millis(since_ms);
                shown.insert(of, Shift { split, base, by, at });
            }
        }
        shown
    }
}

/// Whether these are the same ones, for the same versions.
pub(super) fn same<T>(a: &BTreeMap<(Name, Name), Arc<T>>, b: &BTreeMap<(Name, Name), Arc<T>>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}

/// Answers whoever asked, who may have gone; a decision may have been nobody's wish.
fn answer(reply: Option<Reply>, answer: ProposalResult) {
    if let Some(reply) = reply {
        drop(reply.send(answer));
    }
}

/// What no operator asked for cannot be refused.
fn refuse(service: &Name, reply: Option<Reply>, refused: CommandRefused) {
    if reply.is_none() {
        tracing::error!(%service, "{refused}");
    }
    answer(reply, Err(Rejection::Refused(refused)));
}
