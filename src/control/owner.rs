//! The task that owns what requests read: each proposal whole or not at all.

mod commits;
mod operators;
mod reload;
mod rollouts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::reload::NotUsable;
pub use self::rollouts::FaultRequest;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::commits::{CommitDone, PendingCommits, Trigger, Work};
use super::drains::Drains;
use super::facts::CurrentFacts;
use super::resolve::{self, Discovery};
use super::settings::SettingKey;
use super::uses::VersionUses;
use super::{Ack, Attribution, Control, MAX_PROPOSALS, Proposal, ProposalResult, Rejection, Shift, Status, files};
use crate::algorithm::nearest::nearest;
use crate::config::watch::Watch;
use crate::config::{self, Config, Environment};
use crate::drain::Notifier;
use crate::model::{Name, Split, SplitKey};
use crate::rollouts::Rollouts;
use crate::rollouts::dispatch::Dispatcher;
use crate::snapshot::compile::{Compiler, Inputs, Previous, States};
use crate::snapshot::{Current, Publisher, Snapshot, all_services, changed_services};
use crate::store::JournalWriter;
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
    shifts: BTreeMap<SplitKey, Shift>,
    states: States,
    journal: JournalWriter,
    compiler: Compiler,
    publisher: Publisher,
    current: Current,
    drains: Drains,
    rollouts: Rollouts,
    /// None until [`Owner::run`], and where files cannot be watched.
    watch: Option<Watch>,
    /// None until [`Owner::run`]: it needs the runtime of that.
    dispatcher: Option<Dispatcher>,
    discovery: Discovery,
    uses: VersionUses,
    /// The moment that rollouts count time from.
    epoch: std::time::Instant,
    recorder: Arc<Recorder>,
    status: Arc<ArcSwap<Status>>,
    /// Why the newest file was refused, if it was.
    errors: Option<String>,
    /// When a file is tried again that was refused because versions had too few ready endpoints.
    try_again: Option<Instant>,
    /// What is wrong with listeners' certificates, as of the last reading.
    certificate_faults: Vec<String>,
    /// What is stored otherwise than it is in effect, or may be.
    unwritten: BTreeSet<SettingKey>,
    commits: PendingCommits,
    /// Whether the pending alerts are stored.
    alerts: Kept,
    /// The copy of which versions are stable is being written.
    copying: bool,
    /// The held service that was last written again.
    retried: Option<Name>,
    proposals: mpsc::Receiver<Proposal>,
}

/// Where the storing of something is that has no proposal of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    /// What is stored is so.
    #[default]
    Stored,
    /// It is not, and is to be stored; `failed`: the store did not take it.
    Behind { failed: bool },
    /// It is on its way; `again`: it has changed since.
    InFlight { again: bool, failed: bool },
}

/// How often drains are looked at.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);
/// How often the recorder's windows move on.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

impl Owner {
    /// Compiles and publishes the first snapshot.
    ///
    /// # Errors
    /// Why the configuration cannot be used.
    pub async fn new(parts: Parts) -> Result<(Self, Control, Current), NotUsable> {
        let Parts { path, config, environment, recorder, journal, notifier } = parts;
        let epoch = std::time::Instant::now();
        let discovery = Discovery::start(Arc::clone(&recorder));
        let first = reload::first(&config, &recorder, &journal, (epoch, &discovery)).await?;
        let mut compiler = Compiler::new(Arc::clone(&recorder));
        let snapshot = compiler.compile(&config, &first.inputs, None)?;
        let mut drains = Drains::new(notifier);
        drains.published(&all_services(&snapshot), Instant::now());
        let uses = VersionUses::read(&snapshot, &journal, std::time::Instant::now());
        let (publisher, current) = Publisher::new(snapshot);
        let status = Arc::new(ArcSwap::from_pointee(Status::default()));
        let (sender, proposals) = mpsc::channel(MAX_PROPOSALS);
        let control = Control { proposals: sender, status: Arc::clone(&status), names: discovery.names() };
        let owner = Self {
            path,
            environment,
            config,
            inputs: first.inputs,
            shifts: first.shifts,
            states: first.states,
            journal,
            compiler,
            publisher,
            current: current.clone(),
            drains,
            rollouts: first.rollouts,
            watch: None,
            dispatcher: None,
            discovery,
            uses,
            epoch,
            recorder,
            status,
            errors: None,
            try_again: None,
            certificate_faults: first.certificate_faults,
            unwritten: first.outdated,
            commits: PendingCommits::default(),
            alerts: Kept::Behind { failed: false },
            copying: false,
            retried: None,
            proposals,
        };
        owner.recorder.set_facts(CurrentFacts {
            current: current.clone(),
            status: Arc::clone(&owner.status),
            names: owner.discovery.names(),
        });
        owner.recorder.config_loaded(SystemTime::now());
        owner.publish_status();
        Ok((owner, control, current))
    }

    /// Serves proposals until it is told to stop, or every [`Control`] is gone. What is on its way to the store then is
    /// waited for within its bound.
    pub async fn run(mut self) {
        let started = Watch::start(files::watched(&self.config), config::watch::WatchOptions::default());
        let mut changed = match started {
            Ok((watch, changed)) => {
                self.watch = Some(watch);
                changed
            }
            Err(error) => {
                tracing::error!(%error, "the configuration is not watched; reload it by SIGHUP or `weir reload`");
                mpsc::channel(1).1
            }
        };
        let mut completions = self.start_dispatcher();
        let (breaker_opened, pending_changed) =
            (self.rollouts.notify(), self.dispatcher.as_ref().map(Dispatcher::pending_changed).unwrap_or_default());
        self.forget_others();
        // What changed between the first reading and the watch is not missed.
        self.commits.ask_reload(Trigger::Change, None);
        let mut tick = interval(DRAIN_INTERVAL);
        let mut second = interval(TICK_INTERVAL);
        for timer in [&mut tick, &mut second] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let stopped = loop {
            self.advance().await;
            tokio::select! {
                proposal = self.proposals.recv() => match proposal {
                    Some(Proposal::Stop { answer }) => break Some(answer),
                    Some(proposal) => self.serve(proposal),
                    None => break None,
                },
                Some(done) = self.commits.next() => self.commit_done(done),
                Some(_) = changed.recv() => self.commits.ask_reload(Trigger::Change, None),
                () = breaker_opened.notified() => self.tripped(),
                Some(completion) = completions.recv() => self.completed(completion),
                () = pending_changed.notified() => self.keep_alerts(),
                _ = second.tick() => self.second(),
                _ = tick.tick(), if self.drains.is_busy() => {
                    if self.drains.tick(Instant::now()) {
                        self.publish_status();
                    }
                }
                () = self.discovery.changed(), if !self.commits.is_reloading() => self.addresses_changed(),
            }
        };
        self.commits.drop_waiting();
        while let Some(done) = self.commits.next().await {
            self.commit_done(done);
        }
        // Whoever asked may have gone.
        stopped.map(|answer| answer.send(Ok(())));
    }

    /// Serves a proposal, or lets it wait for what is in flight.
    fn serve(&mut self, proposal: Proposal) {
        // Whoever asked may have gone; the change stands all the same.
        match proposal {
            Proposal::Reload { force, answer } => {
                let trigger = if force { Trigger::Force } else { Trigger::Request };
                self.commits.ask_reload(trigger, Some(answer));
            }
            Proposal::Drill { order, by, answer } => drop(answer.send(self.drill(&order, &by))),
            Proposal::History { service, limit, answer } => drop(answer.send(self.history(&service, limit))),
            proposal => match self.find_service(proposal.service().unwrap_or_default()) {
                Ok((service, _)) => self.begin(service, Work::Proposal(proposal)),
                Err(rejection) => proposal.reject(rejection),
            },
        }
    }

    /// Does what is to be done for a service, now or when what it waits for is stored.
    fn begin(&mut self, service: Name, work: Work) {
        if self.commits.is_busy(&service) {
            self.commits.wait(service, work);
        } else {
            self.perform(service, work);
        }
    }

    fn perform(&mut self, service: Name, work: Work) {
        match work {
            Work::Tick => self.service_tick(service),
            Work::Completion(completion) => self.take_completion(service, completion),
            Work::Proposal(proposal) => match proposal {
                Proposal::SetWeights { cohort, weights, by, answer, .. } => {
                    self.change_setting(self.new_shift(service, cohort.as_deref(), &weights, by), answer);
                }
                Proposal::ResetWeights { cohort, by, answer, .. } => {
                    self.change_setting(self.no_shift(service, cohort.as_deref(), &by), answer);
                }
                Proposal::SetState { change, by, answer } => {
                    self.change_setting(self.new_states(&change, &by), answer);
                }
                Proposal::Command { command, by, answer, .. } => self.command(service, &command, by, answer),
                others => self.serve(others),
            },
        }
    }

    /// Begins what can begin: a reload when nothing is in flight, then what waits for services.
    async fn advance(&mut self) {
        loop {
            if let Some(request) = self.commits.next_reload() {
                self.reload(request).await;
            } else if let Some((service, work)) = self.commits.next_work() {
                self.perform(service, work);
            } else {
                return;
            }
        }
    }

    /// A commit ended.
    fn commit_done(&mut self, done: CommitDone) {
        match done {
            CommitDone::Service(service, stored) => self.finish_commit(&service, stored),
            CommitDone::Reload(stored) => self.finish_reload(stored),
            CommitDone::Uses(stored) => self.uses.written(stored),
            CommitDone::Alerts(stored) => self.alerts_kept(stored),
            CommitDone::Copy(stored) => {
                self.copying = false;
                if let Err(error) = stored {
                    tracing::warn!(%error, "the copy of which versions are stable could not be written");
                }
            }
        }
        if self.commits.is_empty() {
            self.keep_copy();
        }
    }

    fn recompile(&mut self, line: String) -> ProposalResult {
        self.inputs.shifts = rollouts::splits(&self.shifts, &self.rollouts);
        self.inputs.states = self.states.clone();
        let revision = self.compile_inputs()?;
        tracing::info!(revision, "{line}");
        Ok(Ack::new(revision, vec![line]))
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
        Ack::new(current.revision, vec![line])
    }

    /// Publishes the inputs over the file that is in effect: it was compiled before, so that it can be again.
    fn publish_inputs(&mut self) {
        if let Err(error) = self.compile_inputs() {
            tracing::error!("what is in effect stays as it is: {error}");
        }
    }

    /// Compiles the inputs over the file that is in effect, and publishes that; its revision.
    fn compile_inputs(&mut self) -> Result<u64, NotUsable> {
        let before = self.current.load();
        let previous = Previous { config: &self.config, snapshot: &before };
        let next = self.compiler.compile(&self.config, &self.inputs, Some(previous))?;
        Ok(self.publish(next))
    }

    /// Names have other addresses than before. Those that the file does not have any more do not count.
    fn addresses_changed(&mut self) {
        let resolved = self.discovery.resolved(&self.config);
        let lines = resolve::differences(&self.inputs.resolved, &resolved);
        if !lines.is_empty() {
            self.inputs.resolved = resolved;
            if let Err(rejection) = self.recompile(lines.join("; ")) {
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
        let current = self.current.peek();
        self.status.store(Arc::new(Status {
            path: self.path.clone(),
            revision: current.revision,
            hash: current.hash.clone(),
            errors: self.errors.clone(),
            faults: self.certificate_faults.clone(),
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

fn describe(split: &Split) -> String {
    split.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

fn reason(by: &Attribution) -> String {
    if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) }
}
