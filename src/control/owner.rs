//! The task that owns what requests read: one proposal at a time, whole or not at all.

mod operators;
mod rollouts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::rollouts::FaultRequest;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::drains::Drains;
use super::facts::CurrentFacts;
use super::overrides;
use super::resolve::Resolved;
use super::uses::VersionUses;
use super::{
    Ack, Attribution, Control, MAX_PROPOSALS, Proposal, ProposalResult, Rejection, Shift, Status, changes, files,
    resolve,
};
use crate::algorithm::nearest::nearest;
use crate::config::watch::Watch;
use crate::config::{self, Config, Diagnostics, Environment};
use crate::coop::drop_in_pieces;
use crate::drain::Notifier;
use crate::model::{Name, Split};
use crate::rollouts::dispatch::Dispatcher;
use crate::rollouts::{Rollouts, StableUnknown};
use crate::snapshot::compile::{Compiler, Inputs, Previous, States};
use crate::snapshot::{Current, Publisher, Snapshot, all_services, changed_services};
use crate::store::{JournalError, JournalWriter, Write};
use crate::telemetry::Recorder;

/// What the owner is built from.
pub struct Parts {
    /// The configuration file.
    pub path: PathBuf,
    /// The configuration that was read from it.
    pub config: Config,
    /// Where `${NAME}` comes from.
    pub environment: Box<dyn Environment + Send>,
    /// Where counters are resolved.
    pub recorder: Arc<Recorder>,
    /// Where durable facts are kept.
    pub journal: JournalWriter,
    /// Notified when drains pass deadlines.
    pub notifier: Notifier,
}

/// The owner of what requests read, ready to [`Owner::run`].
pub struct Owner {
    path: PathBuf,
    environment: Box<dyn Environment + Send>,
    config: Config,
    inputs: Inputs,
    shifts: BTreeMap<Name, Shift>,
    states: States,
    journal: JournalWriter,
    compiler: Compiler,
    publisher: Publisher,
    current: Current,
    drains: Drains,
    rollouts: Rollouts,
    /// None until [`Owner::run`]: it needs the runtime of that.
    dispatcher: Option<Dispatcher>,
    uses: VersionUses,
    /// The moment that rollouts count time from.
    epoch: std::time::Instant,
    recorder: Arc<Recorder>,
    status: Arc<ArcSwap<Status>>,
    /// Why the newest file was refused, if it was.
    errors: Option<String>,
    /// What is wrong with listeners' certificates, as of the last reading.
    faults: Vec<String>,
    /// Something that leads back is in effect and not on the disk.
    unwritten: bool,
    proposals: mpsc::Receiver<Proposal>,
}

/// What a reload was asked for by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// A file changed, or may have.
    Change,
    /// An operator or program.
    Order,
}

/// How often drains and windows are looked at.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);
/// How often the recorder's windows move on.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// How often DNS names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);

impl Owner {
    /// Compiles and publishes the first snapshot.
    ///
    /// # Errors
    /// Why the configuration cannot be used, one line each.
    pub async fn new(parts: Parts) -> Result<(Self, Control, Current), Vec<String>> {
        let Parts { path, config, environment, recorder, journal, notifier } = parts;
        let loaded = files::load(&config, None, SystemTime::now())?;
        let (mut shifts, mut states, unread) = overrides::read(&journal);
        for line in unread {
            tracing::warn!("{line}");
        }
        let kept = (shifts.clone(), states.clone());
        for ended in remove_outdated(&config, &mut shifts, &mut states) {
            tracing::info!("{ended}");
        }
        let resolved = resolve::new_names(&config, &Resolved::new()).await;
        let epoch = std::time::Instant::now();
        let rollouts = Rollouts::restore(&rollouts::view((&config, &states, &resolved), (&recorder, &journal), epoch));
        let rollouts = rollouts.map_err(|unknown| vec![stable_unknown(&config, &unknown).to_string()])?;
        delete_outdated(&journal, (&kept.0, &kept.1), (&shifts, &states));
        let faults = loaded.faults;
        for line in &faults {
            tracing::error!("{line}");
        }
        recorder.certificates_faulty(faults.len());
        let inputs = Inputs {
            shifts: rollouts::splits(&shifts, &rollouts),
            states: states.clone(),
            certificates: loaded.certificates,
            upstream_tls: loaded.upstream_tls,
            resolved,
            breakers: rollouts.breakers(),
            ..Inputs::default()
        };
        let mut compiler = Compiler::new(Arc::clone(&recorder));
        let first = compiler.compile(&config, &inputs, None)?;
        let mut drains = Drains::new(notifier);
        drains.published(&all_services(&first), Instant::now());
        let uses = VersionUses::read(&first, &journal, std::time::Instant::now());
        let (publisher, current) = Publisher::new(first);
        let status = Arc::new(ArcSwap::from_pointee(Status::default()));
        let (sender, proposals) = mpsc::channel(MAX_PROPOSALS);
        let control = Control { proposals: sender, status: Arc::clone(&status) };
        let owner = Self {
            path,
            environment,
            config,
            inputs,
            shifts,
            states,
            journal,
            compiler,
            publisher,
            current: current.clone(),
            drains,
            rollouts,
            dispatcher: None,
            uses,
            epoch,
            recorder,
            status,
            errors: None,
            faults,
            unwritten: false,
            proposals,
        };
        owner.recorder.set_facts(CurrentFacts { current: current.clone(), status: Arc::clone(&owner.status) });
        owner.recorder.config_loaded(SystemTime::now());
        owner.publish_status();
        Ok((owner, control, current))
    }

    /// Serves proposals until every [`Control`] is gone.
    pub async fn run(mut self) {
        let started = Watch::start(files::watched(&self.config), config::watch::WatchOptions::default());
        let (watch, mut changed) = match started {
            Ok((watch, changed)) => (Some(watch), changed),
            Err(error) => {
                tracing::error!(%error, "the configuration is not watched; reload it by SIGHUP or `weir reload`");
                (None, mpsc::channel(1).1)
            }
        };
        let mut completions = self.start_dispatcher();
        let (breaker_opened, pending_changed) =
            (self.rollouts.notify(), self.dispatcher.as_ref().map(Dispatcher::pending_changed).unwrap_or_default());
        // What changed between the first reading and the watch is not missed.
        drop(self.reload(Trigger::Change).await);
        let mut tick = interval(DRAIN_INTERVAL);
        let mut second = interval(TICK_INTERVAL);
        let mut resolve = interval(RESOLVE_INTERVAL);
        let mut resolving = JoinSet::new();
        for timer in [&mut tick, &mut second, &mut resolve] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        resolve.tick().await;
        loop {
            tokio::select! {
                proposal = self.proposals.recv() => match proposal {
                    Some(proposal) => self.serve(proposal).await,
                    None => return,
                },
                Some(_) = changed.recv() => drop(self.reload(Trigger::Change).await),
                () = breaker_opened.notified() => self.tripped(),
                Some(completions) = completions.recv() => self.completed(completions),
                () = pending_changed.notified() => self.save_pending_alerts(),
                _ = second.tick() => self.second(),
                _ = tick.tick(), if self.drains.is_busy() => {
                    if self.drains.tick(Instant::now()) {
                        self.publish_status();
                    }
                    continue;
                }
                _ = resolve.tick(), if resolving.is_empty() && resolve::has_names(&self.config) => {
                    resolving.spawn(resolve::resolve_again(&self.config, &self.inputs.resolved));
                    continue;
                }
                Some(found) = resolving.join_next() => self.resolved(found.unwrap_or_default()),
            }
            if let Some(watch) = &watch {
                watch.set_paths(files::watched(&self.config));
            }
        }
    }

    async fn serve(&mut self, proposal: Proposal) {
        // Whoever asked may have gone; the change stands all the same.
        match proposal {
            Proposal::Reload { answer } => drop(answer.send(self.reload(Trigger::Order).await)),
            Proposal::SetWeights { service, weights, by, answer } => {
                drop(answer.send(self.set_weights(&service, &weights, by)));
            }
            Proposal::ResetWeights { service, by, answer } => drop(answer.send(self.reset_weights(&service, &by))),
            Proposal::SetState { target, state, by, answer } => drop(answer.send(self.set_state(&target, state, &by))),
            Proposal::Command { service, command, by, answer } => {
                drop(answer.send(self.command(&service, &command, by)))
            }
            Proposal::Drill { order, by, answer } => drop(answer.send(self.drill(&order, &by))),
            Proposal::History { service, limit, answer } => drop(answer.send(self.history(&service, limit))),
        }
    }

    async fn reload(&mut self, trigger: Trigger) -> ProposalResult {
        let known = self.faults.clone();
        let outcome = self.try_reload().await;
        let refused = outcome.as_ref().err().map(Rejection::explain);
        let repaired = self.errors.is_some() && refused.is_none();
        self.errors = refused;
        match &outcome {
            Ok(ack) => {
                if repaired && ack.changes.is_empty() {
                    tracing::info!(revision = ack.revision, "reload: the file is as what is in effect");
                }
                for line in &ack.changes {
                    tracing::info!(revision = ack.revision, "reload: {line}");
                }
                // What is known to be wrong is not said again by each look at the files.
                for line in ack.warnings.iter().filter(|line| trigger == Trigger::Order || !known.contains(*line)) {
                    tracing::error!(revision = ack.revision, "reload: {line}");
                }
            }
            Err(rejection) => tracing::error!("reload refused: {}", rejection.explain()),
        }
        // A look at files that turned out not to have changed is no reload.
        let same = |ack: &Ack| ack.changes.is_empty() && ack.warnings.iter().all(|line| known.contains(line));
        let nothing = outcome.as_ref().is_ok_and(same);
        if trigger == Trigger::Order || repaired || !nothing {
            match &outcome {
                Ok(_) => self.recorder.reload_succeeded(SystemTime::now()),
                Err(_) => self.recorder.reload_failed(),
            }
        }
        self.publish_status();
        outcome
    }

    async fn try_reload(&mut self) -> ProposalResult {
        let config = config::load(&self.path, &*self.environment).map_err(Rejection::Invalid)?;
        let restart = self.config.restart_needed(&config);
        if !restart.is_empty() {
            return Err(Rejection::Restart(restart));
        }
        let before = self.current.load();
        let loaded =
            files::load(&config, Some(&before.certificates), SystemTime::now()).map_err(Rejection::Unusable)?;
        let resolved = resolve::new_names(&config, &self.inputs.resolved).await;
        let (mut shifts, mut states) = (self.shifts.clone(), self.states.clone());
        let ended = remove_outdated(&config, &mut shifts, &mut states);
        let mut rollouts = self.rollouts.clone();
        let seen = rollouts::view((&config, &states, &resolved), (&self.recorder, &self.journal), self.epoch);
        let served = self.shifts.iter().map(|(service, shift)| (service.clone(), shift.split.clone())).collect();
        let decided = rollouts.take_in(&self.config, &served, &seen);
        let decided = decided.map_err(|unknown| Rejection::Invalid(stable_unknown(&config, &unknown)))?;
        let mut faults = self.inputs.faults.clone();
        faults.retain(|(service, version), _| {
            config.services.get(service).is_some_and(|file| file.versions.get(version).is_some())
        });
        let inputs = Inputs {
            shifts: rollouts::splits(&shifts, &rollouts),
            states: states.clone(),
            certificates: loaded.certificates,
            upstream_tls: loaded.upstream_tls,
            resolved,
            breakers: rollouts.breakers(),
            faults,
        };
        let mut changes = changes::between(&self.config, &config);
        let rotated = changes::certificates(&self.inputs.certificates, &inputs.certificates);
        let failed = loaded.faults.iter().filter(|line| !self.faults.contains(line)).count();
        self.recorder.certificates_reloaded(rotated.len(), failed);
        self.recorder.certificates_faulty(loaded.faults.len());
        self.faults.clone_from(&loaded.faults);
        changes.extend(rotated);
        if inputs.resolved != self.inputs.resolved {
            changes.push("addresses of DNS names".to_owned());
        }
        if inputs.upstream_tls != self.inputs.upstream_tls {
            changes.push("certificates towards endpoints".to_owned());
        }
        changes.extend(ended);
        changes.extend(decided);
        if changes.is_empty() && config.hash() == self.config.hash() {
            return Ok(Ack { revision: before.revision, changes, warnings: loaded.faults });
        }
        let previous = Previous { config: &self.config, snapshot: &before };
        let next = self.compiler.compile(&config, &inputs, Some(previous)).map_err(Rejection::Unusable)?;
        let seen = rollouts::view((&config, &states, &inputs.resolved), (&self.recorder, &self.journal), self.epoch);
        if let Err(why) = rollouts.save(&seen) {
            if rollouts.raises(&self.rollouts) {
                self.rollouts.rewrite_all();
                return Err(Rejection::Store(why));
            }
            rollouts.set_unwritable(why);
        }
        rollouts.forget_others(&seen);
        delete_outdated(&self.journal, (&self.shifts, &self.states), (&shifts, &states));
        drop_in_pieces(std::mem::replace(&mut self.config, config).routes);
        (self.shifts, self.states, self.inputs) = (shifts, states, inputs);
        self.rollouts = rollouts;
        let revision = self.publish(next);
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.take_in(&self.config);
        }
        self.dispatch_actions();
        Ok(Ack { revision, changes, warnings: loaded.faults })
    }

    fn recompile(&mut self, line: String) -> ProposalResult {
        self.inputs.shifts = rollouts::splits(&self.shifts, &self.rollouts);
        self.inputs.states = self.states.clone();
        let before = self.current.load();
        let previous = Previous { config: &self.config, snapshot: &before };
        let next = self.compiler.compile(&self.config, &self.inputs, Some(previous)).map_err(Rejection::Unusable)?;
        let revision = self.publish(next);
        tracing::info!(revision, "{line}");
        Ok(Ack { revision, changes: vec![line], warnings: Vec::new() })
    }

    /// Brings the endpoints of a service to the states of now. They are live: no snapshot is compiled for them.
    fn publish_states(&mut self, service: &str, line: String) -> Ack {
        self.inputs.states = self.states.clone();
        let current = self.current.load();
        if let Some(service) = current.service(service) {
            service.set_states(&self.states);
            self.drains.published(&[(Some(service), Some(service))], Instant::now());
        }
        self.publish_status();
        tracing::info!(revision = current.revision, "{line}");
        Ack { revision: current.revision, changes: vec![line], warnings: Vec::new() }
    }

    /// Publishes the inputs over the file that is in effect: it was compiled before, so that it can be again.
    fn publish_inputs(&mut self) {
        let before = self.current.load();
        let previous = Previous { config: &self.config, snapshot: &before };
        match self.compiler.compile(&self.config, &self.inputs, Some(previous)) {
            Ok(next) => drop(self.publish(next)),
            Err(lines) => tracing::error!("what is in effect stays as it is: {}", lines.join("; ")),
        }
    }

    /// Names were looked up again. The file may be another by now: only its names count.
    fn resolved(&mut self, found: Resolved) {
        let mut resolved = self.inputs.resolved.clone();
        resolved.extend(found.into_iter().filter(|(name, _)| self.inputs.resolved.contains_key(name)));
        if resolved != self.inputs.resolved {
            self.inputs.resolved = resolved;
            if let Err(rejection) = self.recompile("addresses of DNS names changed".to_owned()) {
                tracing::error!("{}", rejection.explain());
            }
        }
    }

    fn publish(&mut self, next: Snapshot) -> u64 {
        let before = self.current.load();
        let revision = next.revision;
        self.publisher.publish(next, &self.inputs.states);
        let now_in_effect = self.current.load();
        self.drains.published(&changed_services(&before, &now_in_effect), Instant::now());
        self.publish_status();
        revision
    }

    /// Publishes the status and the metrics.
    fn publish_status(&self) {
        self.status.store(Arc::new(Status {
            path: self.path.clone(),
            errors: self.errors.clone(),
            faults: self.faults.clone(),
            shifts: self.status_shifts(),
            drains: self.drains.list().to_vec(),
            rollouts: self.rollouts.statuses(self.epoch.elapsed()),
            rollout_facts: self.rollouts.facts(),
            uses_since: self.uses.since(),
        }));
    }

    fn find_service(&self, service: &str) -> Result<(Name, &config::Service), Rejection> {
        // Names are compared for a likeness only where there is none of that name: there may be many.
        if let Some(file) = self.config.services.get(service) {
            return Ok((service.into(), file));
        }
        let name = find_name("service", service, self.config.services.names())?;
        let file = self.config.services.get(&name).ok_or(Rejection::Busy)?;
        Ok((name, file))
    }
}

/// What the file should say of services of which nothing tells which version is stable.
fn stable_unknown(config: &Config, unknown: &[(Name, StableUnknown)]) -> Diagnostics {
    let why: Vec<(Name, String)> = unknown.iter().map(|(service, why)| (service.clone(), why.to_string())).collect();
    config.stable_unknown(&why)
}

/// The name among `names` that is spelled so.
fn find_name<'a>(
    what: &'static str,
    found: &str,
    names: impl Iterator<Item = &'a Name> + Clone,
) -> Result<Name, Rejection> {
    if let Some(name) = names.clone().find(|name| &***name == found) {
        return Ok(name.clone());
    }
    let nearest = nearest(found, names.clone().map(|name| &**name)).map(str::to_owned);
    let mut exist: Vec<String> = names.take(MAX_SUGGESTIONS + 1).map(|name| name.to_string()).collect();
    if let Some(last) = exist.get_mut(MAX_SUGGESTIONS) {
        "…".clone_into(last);
    }
    Err(Rejection::Unknown { what, found: found.to_owned(), nearest, exist })
}

/// How many names are listed to whoever gave none of them.
const MAX_SUGGESTIONS: usize = 10;

/// Takes away shifts whose base is no longer the file's and states of what is gone; says which.
fn remove_outdated(config: &Config, shifts: &mut BTreeMap<Name, Shift>, states: &mut States) -> Vec<String> {
    let mut ended = Vec::new();
    shifts.retain(|service, shift| {
        let file = config.services.get(service);
        let kept = file.is_some_and(|file| file.split == shift.base && file.rollout.is_none());
        if !kept {
            let why = if file.is_some_and(|file| file.rollout.is_some()) {
                "it is rolled out"
            } else {
                "the file's split changed"
            };
            ended.push(format!("{service}: the shift ended, because {why}"));
        }
        kept
    });
    states.retain(|(service, version, endpoint), _| {
        let spec = config.services.get(service).and_then(|file| file.versions.get(version));
        match (spec, endpoint) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(spec), Some(endpoint)) => spec.endpoints.iter().any(|e| *e.address.to_string() == **endpoint),
        }
    });
    ended
}

/// Takes from the disk what [`remove_outdated`] took away: a restart must not bring it back. It no longer applies
/// whether or not the disk takes note.
fn delete_outdated(
    journal: &JournalWriter,
    before: (&BTreeMap<Name, Shift>, &States),
    after: (&BTreeMap<Name, Shift>, &States),
) {
    let ended = before.0.keys().filter(|service| !after.0.contains_key(*service)).map(overrides::remove_shift);
    let gone = before.1.keys().filter(|key| !after.1.contains_key(*key));
    let gone: Result<Vec<Write>, _> = gone.map(|key| overrides::write_state(key, None)).collect();
    if let Err(error) = gone.and_then(|gone| journal.commit(ended.chain(gone).collect())) {
        tracing::warn!(%error, "ended shifts and states of what is gone could not be removed from the store");
    }
}

/// The warning with a change that is in effect and not stored.
fn may_be_lost(error: &JournalError) -> String {
    format!("it is in effect, and lost with a restart before the disk takes it: {error}")
}

fn describe(split: &Split) -> String {
    split.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

fn reason(by: &Attribution) -> String {
    if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) }
}
