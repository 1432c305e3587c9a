//! A file that takes effect: read, compiled beside the one before it, and published when its decisions are written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;

use super::Owner;
use super::commits::{PendingCommit, PendingReload, PreparedReload, ReloadRequest, Trigger};
use super::rollouts::{same, splits, view};
use crate::config::{self, Config, Diagnostics, NotStartable};
use crate::control::files::{self, Loaded, NoCertificates};
use crate::control::resolve::{self, Discovery, Resolved};
use crate::control::settings::{self, SettingKey};
use crate::control::{Ack, ProposalResult, Rejection, Shift, changes, min_ready};
use crate::coop::drop_in_pieces;
use crate::model::{Name, Split, SplitKey};
use crate::rollouts::{Rollouts, StableUnknown};
use crate::snapshot::compile::{Inputs, InvalidRoutes, Previous, States};
use crate::snapshot::live::FaultInjection;
use crate::store::{JournalError, JournalWriter, Write};
use crate::telemetry::Recorder;

/// Why a configuration cannot be used, though it is valid.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotUsable {
    /// Certificates and keys leave nothing to serve with.
    #[error(transparent)]
    Certificates(#[from] NoCertificates),
    /// Routes cannot be compiled.
    #[error(transparent)]
    Routes(#[from] InvalidRoutes),
    /// Nothing tells which versions are stable.
    #[error("{0}")]
    StableUnknown(Diagnostics),
}

impl NotUsable {
    /// The reasons, one line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Certificates(error) => error.0.clone(),
            Self::Routes(error) => error.lines(),
            Self::StableUnknown(diagnostics) => vec![diagnostics.to_string()],
        }
    }
}

impl From<NotUsable> for Rejection {
    fn from(error: NotUsable) -> Self {
        match error {
            NotUsable::StableUnknown(diagnostics) => Self::Invalid(diagnostics),
            error => Self::Unusable(error.lines()),
        }
    }
}

/// The faults that drills inject into versions, by service and version.
type Injected = BTreeMap<(Name, Name), Arc<FaultInjection>>;

/// What the first file makes of what is stored.
pub(super) struct First {
    pub(super) inputs: Inputs,
    pub(super) shifts: BTreeMap<SplitKey, Shift>,
    pub(super) states: States,
    pub(super) rollouts: Rollouts,
    /// What is wrong with certificates.
    pub(super) certificate_faults: Vec<String>,
    /// What is stored and applies no more.
    pub(super) outdated: BTreeSet<SettingKey>,
}

/// Reads what the first file needs, and writes what it decides.
pub(super) async fn first(
    config: &Config,
    recorder: &Recorder,
    journal: &JournalWriter,
    (epoch, discovery): (Instant, &Discovery),
) -> Result<First, NotUsable> {
    let loaded = files::load(config, None, SystemTime::now())?;
    let (mut shifts, mut states, unread) = settings::read(journal);
    for line in unread {
        tracing::warn!("{line}");
    }
    let served = served(&shifts);
    let outdated = Outdated::remove(config, &mut shifts, &mut states);
    for ended in outdated.lines {
        tracing::info!("{ended}");
    }
    let resolved = discovery.resolve(config).await;
    let read = Rollouts::read(&served, &view((config, &states, &resolved), (recorder, journal), epoch));
    let mut rollouts = read.map_err(|unknown| stable_unknown(config, &unknown))?;
    match rollouts.writes(config) {
        Ok(writes) => {
            for (service, stored) in store_all(journal.clone(), writes).await {
                match stored {
                    Ok(()) => rollouts.written(&service, Ok(())),
                    Err(why) => {
                        rollouts.read_unwritten(
                            &service,
                            served.get(&rollouts.split_key(&service)),
                            why,
                            &view((config, &states, &resolved), (recorder, journal), epoch),
                        );
                    }
                }
            }
        }
        Err(error) => tracing::error!(%error, "the rollouts' states cannot be written down"),
    }
    if let Some(copy) = rollouts.new_copy()
        && let Err(error) = journal.submit_copy(copy).await
    {
        tracing::warn!(%error, "the copy of which versions are stable could not be written");
    }
    for line in &loaded.certificate_faults {
        tracing::error!("{line}");
    }
    recorder.certificates_faulty(loaded.certificate_faults.len());
    let certificate_faults = loaded.certificate_faults.clone();
    let inputs = inputs(loaded, (&shifts, &states, &rollouts), resolved, Injected::new());
    Ok(First { inputs, shifts, states, rollouts, certificate_faults, outdated: outdated.keys })
}

/// How soon a file is tried again that left versions too few ready endpoints.
const READY_INTERVAL: Duration = Duration::from_secs(2);

impl Owner {
    /// Asks for a reload if one is to be tried again now.
    pub(super) fn try_again(&mut self) {
        if self.try_again.take_if(|at| *at <= tokio::time::Instant::now()).is_some() {
            self.commits.ask_reload(Trigger::Change, None);
        }
    }

    /// Reads the file again. What it changes is in effect, or on its way to the store, when this returns.
    pub(super) async fn reload(&mut self, request: ReloadRequest) {
        let known_faults = self.certificate_faults.clone();
        let outcome = match self.prepare(request.trigger).await {
            Ok(Prepared::Unchanged(ack)) => Ok(ack),
            Ok(Prepared::Changed(mut prepared)) => match prepared.rollouts.writes(&prepared.config) {
                Ok(writes) if writes.is_empty() => self.take_effect(*prepared, Vec::new()),
                Ok(writes) => {
                    let reload = PendingReload { prepared: *prepared, request, known_faults };
                    self.commits.begin_reload(reload, store_all(self.journal.clone(), writes));
                    return;
                }
                Err(error) => Err(Rejection::Store(error)),
            },
            Err(rejection) => Err(rejection),
        };
        self.reloaded(request, &known_faults, &outcome);
    }

    /// What a reload decided was written, or could not be.
    pub(super) fn finish_reload(&mut self, stored: Vec<(Name, Result<(), JournalError>)>) {
        let Some(PendingReload { prepared, request, known_faults }) = self.commits.take_reload() else { return };
        let outcome = self.take_effect(prepared, stored);
        self.reloaded(request, &known_faults, &outcome);
        self.tripped();
    }

    /// Says what became of a reload, and answers it.
    fn reloaded(&mut self, request: ReloadRequest, known_faults: &[String], outcome: &ProposalResult) {
        let requested = request.trigger >= Trigger::Request;
        let refused = outcome.as_ref().err().map(Rejection::explain);
        let repaired = self.errors.is_some() && refused.is_none();
        let again = refused.is_some() && refused == self.errors && !requested;
        self.errors = refused;
        // What is not ready now may be soon, and nothing else would tell.
        let waits = matches!(outcome, Err(Rejection::BelowMinReady(_)));
        self.try_again = waits.then(|| tokio::time::Instant::now() + READY_INTERVAL);
        match outcome {
            Ok(ack) => {
                if repaired && ack.changes.is_empty() {
                    tracing::info!(revision = ack.revision, "reload: the file is as what is in effect");
                }
                for line in &ack.changes {
                    tracing::info!(revision = ack.revision, "reload: {line}");
                }
                // What is known to be wrong is not said again by each look at the files.
                for line in ack.warnings.iter().filter(|line| requested || !known_faults.contains(line)) {
                    tracing::error!(revision = ack.revision, "reload: {line}");
                }
            }
            Err(_) if again => {}
            Err(rejection) => tracing::error!("reload refused: {}", rejection.explain()),
        }
        // A look at files that turned out not to have changed is no reload.
        let same = |ack: &Ack| ack.changes.is_empty() && ack.warnings.iter().all(|line| known_faults.contains(line));
        let nothing = outcome.as_ref().is_ok_and(same);
        if requested || repaired || !(nothing || again) {
            match outcome {
                Ok(_) => self.recorder.reload_succeeded(SystemTime::now()),
                Err(_) => self.recorder.reload_failed(),
            }
        }
        self.discovery.keep(&self.config);
        self.publish_status();
        for reply in request.replies {
            // Whoever asked may have gone; the change stands all the same.
            drop(reply.send(outcome.clone()));
        }
    }

    /// Reads and compiles the file, beside what is in effect.
    async fn prepare(&mut self, trigger: Trigger) -> Result<Prepared, Rejection> {
        let config = config::load(&self.path, &*self.environment).map_err(Rejection::Invalid)?;
        let restart = self.config.restart_needed(&config);
        if !restart.is_empty() {
            return Err(Rejection::Restart(restart));
        }
        let before = self.current.load();
        let loaded = files::load(&config, Some(&before.certificates), SystemTime::now()).map_err(NotUsable::from)?;
        let resolved = self.discovery.resolve(&config).await;
        let (mut shifts, mut states) = (self.shifts.clone(), self.states.clone());
        let outdated = Outdated::remove(&config, &mut shifts, &mut states);
        let mut rollouts = self.rollouts.clone();
        let seen = view((&config, &states, &resolved), (&self.recorder, &self.journal), self.epoch);
        let decided = rollouts.take_in(&self.config, &served(&self.shifts), &seen);
        let decided = decided.map_err(|unknown| stable_unknown(&config, &unknown))?;
        let rotated = changes::certificates(&self.inputs.certificates, &loaded.certificates);
        let certificate_faults = self.note_certificates(&loaded, rotated.len());
        let inputs = inputs(loaded, (&shifts, &states, &rollouts), resolved, self.injected_into(&config));
        let mut changes = changes::between(&self.config, &config);
        changes.extend(rotated);
        changes.extend(resolve::differences(&self.inputs.resolved, &inputs.resolved));
        if inputs.upstream_tls != self.inputs.upstream_tls {
            changes.push("certificates towards endpoints".to_owned());
        }
        if inputs.signing_keys != self.inputs.signing_keys {
            changes.push("keys that sign what clients say".to_owned());
        }
        changes.extend(outdated.lines);
        let outdated = outdated.keys;
        changes.extend(decided);
        if changes.is_empty() && config.hash() == self.config.hash() {
            let ack = Ack { warnings: certificate_faults, ..Ack::new(before.revision, changes) };
            return Ok(Prepared::Unchanged(ack));
        }
        let previous = Previous { config: &self.config, snapshot: &before };
        let next = self.compiler.compile(&config, &inputs, Some(previous)).map_err(NotUsable::from)?;
        let short = min_ready::by_file((&before, &self.states), (&next, &states));
        if trigger != Trigger::Force && !short.is_empty() {
            return Err(Rejection::BelowMinReady(short));
        }
        Ok(Prepared::Changed(Box::new(PreparedReload {
            config,
            inputs,
            shifts,
            states,
            rollouts,
            next,
            outdated,
            changes,
        })))
    }

    /// Notes how many listeners have other certificates, and what is wrong with certificates.
    fn note_certificates(&mut self, loaded: &Loaded, rotated: usize) -> Vec<String> {
        let failed = loaded.certificate_faults.iter().filter(|line| !self.certificate_faults.contains(line)).count();
        self.recorder.certificates_reloaded(rotated, failed);
        self.recorder.certificates_faulty(loaded.certificate_faults.len());
        self.certificate_faults.clone_from(&loaded.certificate_faults);
        loaded.certificate_faults.clone()
    }

    /// The faults that are injected now into versions that `config` has.
    fn injected_into(&self, config: &Config) -> Injected {
        let mut injected = self.inputs.faults.clone();
        injected.retain(|(service, version), _| {
            config.services.get(service).is_some_and(|file| file.versions.get(version).is_some())
        });
        injected
    }

    /// Brings a file into effect. `stored` is what became of its decisions: where one that gives a canary more could not
    /// be written, the file is refused; what takes weight away is in effect all the same.
    fn take_effect(&mut self, reload: PreparedReload, stored: Vec<(Name, Result<(), JournalError>)>) -> ProposalResult {
        let PreparedReload { config, mut inputs, shifts, states, mut rollouts, mut next, outdated, changes } = reload;
        let failed = || stored.iter().filter_map(|(service, stored)| Some((service, stored.as_ref().err()?)));
        let why = failed().next().map(|(_, why)| why.clone());
        if let Some(why) = &why
            && rollouts.raises(&self.rollouts, failed().map(|(service, _)| service))
        {
            self.rollouts.rewrite(&rollouts, stored.iter().map(|(service, _)| service));
            return Err(Rejection::Store(why.clone()));
        }
        for (service, stored) in stored {
            rollouts.written(&service, stored);
        }
        // Faults may have been injected, or have ended, and breakers may have opened, while the decisions were written.
        // What was published meanwhile, even if it is over, has a later revision, and revisions only grow.
        let (injected, opened) = (self.injected_into(&config), rollouts.keep_tripped(&self.rollouts));
        let overtaken = next.revision < self.current.load().revision;
        if opened || overtaken || !same(&injected, &inputs.faults) {
            (inputs.faults, inputs.breakers, inputs.canaries) = (injected, rollouts.breakers(), rollouts.canaries());
            let previous = Previous { config: &config, snapshot: &next };
            next = self.compiler.compile(&config, &inputs, Some(previous)).map_err(NotUsable::from)?;
        }
        self.unwritten.extend(outdated);
        drop_in_pieces(std::mem::replace(&mut self.config, config).routes);
        (self.shifts, self.states, self.inputs, self.rollouts) = (shifts, states, inputs, rollouts);
        let revision = self.publish(next);
        if let Some(watch) = &self.watch {
            watch.set_paths(files::watched(&self.config));
        }
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.take_in(&self.config);
        }
        self.dispatch_actions();
        self.forget_others();
        let ack = Ack { warnings: self.certificate_faults.clone(), ..Ack::new(revision, changes) };
        Ok(match &why {
            Some(why) => ack.not_durable(why),
            None => ack,
        })
    }

    /// Removes what is stored of rollouts that are gone.
    pub(super) fn forget_others(&mut self) {
        let forgotten = self.rollouts.forgotten(&self.journal);
        let Some((service, _)) = forgotten.first() else { return };
        let service = service.clone();
        let commit = self.journal.submit(forgotten.into_iter().flat_map(|(_, writes)| writes).collect());
        self.commits.begin(service, PendingCommit::Forget, commit);
    }
}

/// What reading a file came to.
enum Prepared {
    Unchanged(Ack),
    Changed(Box<PreparedReload>),
}

/// Services that are written at once by a reload.
const BATCH: usize = 16;

/// Stores each service's writes, a few services at once. Once one fails the rest is not tried.
async fn store_all(journal: JournalWriter, writes: Vec<(Name, Vec<Write>)>) -> Vec<(Name, Result<(), JournalError>)> {
    let mut stored: Vec<(Name, Result<(), JournalError>)> = Vec::with_capacity(writes.len());
    let mut failed = None;
    let mut writes = writes.into_iter();
    while writes.len() > 0 {
        let batch = writes.by_ref().take(BATCH);
        if let Some(why) = &failed {
            stored.extend(batch.map(|(service, _)| (service, Err(JournalError::clone(why)))));
            continue;
        }
        let commits: Vec<_> = batch.map(|(service, writes)| (service, journal.submit(writes))).collect();
        let ended = join_all(commits.into_iter().map(|(service, commit)| async { (service, commit.await) })).await;
        failed = ended.iter().find_map(|(_, stored)| stored.as_ref().err().cloned());
        stored.extend(ended);
    }
    stored
}

fn inputs(
    loaded: Loaded,
    (shifts, states, rollouts): (&BTreeMap<SplitKey, Shift>, &States, &Rollouts),
    resolved: Resolved,
    injected: Injected,
) -> Inputs {
    Inputs {
        shifts: splits(shifts, rollouts),
        states: states.clone(),
        certificates: loaded.certificates,
        upstream_tls: loaded.upstream_tls,
        signing_keys: loaded.signing_keys,
        canaries: rollouts.canaries(),
        resolved,
        breakers: rollouts.breakers(),
        faults: injected,
    }
}

/// What the file should say of services of which nothing tells which version is stable, or where their rollouts start.
fn stable_unknown(config: &Config, unknown: &[(Name, StableUnknown)]) -> NotUsable {
    let reason = |(service, why): &(Name, StableUnknown)| {
        let help = if let StableUnknown::Unclear(start) = why { Some(start.help(service)) } else { None };
        NotStartable { service: service.clone(), why: why.to_string(), help }
    };
    NotUsable::StableUnknown(config.stable_unknown(&unknown.iter().map(reason).collect::<Vec<_>>()))
}

/// What served by weights over the file's splits.
fn served(shifts: &BTreeMap<SplitKey, Shift>) -> BTreeMap<SplitKey, Split> {
    shifts.iter().map(|(of, shift)| (of.clone(), shift.split.clone())).collect()
}

/// Shifts and states that a file ended. They apply no more whether or not the disk takes note; a restart must not bring
/// them back.
struct Outdated {
    lines: Vec<String>,
    keys: BTreeSet<SettingKey>,
}

impl Outdated {
    /// Takes away shifts whose base is no longer the file's and states of what is gone.
    fn remove(config: &Config, shifts: &mut BTreeMap<SplitKey, Shift>, states: &mut States) -> Self {
        let (mut lines, mut keys) = (Vec::new(), BTreeSet::new());
        shifts.retain(|of, shift| {
            let file = config.services.get(&of.service);
            let cohort = of.cohort.as_ref();
            let rolled_out = file.is_some_and(|file| file.rollout_cohort() == Some(cohort));
            let base = file.and_then(|file| file.split_of(cohort));
            let kept = base == Some(&shift.base) && !rolled_out;
            if !kept {
                let why = if rolled_out { "it is rolled out" } else { "the file's split changed" };
                lines.push(format!("{of}: the shift ended, because {why}"));
                keys.insert(SettingKey::Shift(of.clone()));
            }
            kept
        });
        states.retain(|key, _| {
            let (service, version, endpoint) = key;
            let spec = config.services.get(service).and_then(|file| file.versions.get(version));
            let kept = match (spec, endpoint) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(spec), Some(endpoint)) => spec.endpoints.iter().any(|e| *e.address.to_string() == **endpoint),
            };
            if !kept {
                keys.insert(SettingKey::State(key.clone()));
            }
            kept
        });
        Self { lines, keys }
    }
}
