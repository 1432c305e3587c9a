//! The task that owns what requests read: one proposal at a time, whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::departures::Departures;
use super::durable::Durable;
use super::{
    Ack, Board, By, Control, Outcome, Proposal, QUEUE, Rejection, Shift, Target, changes, facts, files, resolve,
};
use crate::config::watch::Watch;
use crate::config::{self, Config, Environment};
use crate::drain::Bell;
use crate::model::{EndpointState, Name, Split, Weight};
use crate::snapshot::compile::{Compiler, Inputs, States};
use crate::snapshot::{Current, Publisher, Snapshot};
use crate::store::Store;
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
    /// Durable facts, or why there are none.
    pub store: Result<Store, String>,
    /// Rings when drains pass deadlines.
    pub bell: Bell,
}

/// The owner of what requests read, ready to [`Owner::run`].
pub struct Owner {
    path: PathBuf,
    environment: Box<dyn Environment + Send>,
    config: Config,
    inputs: Inputs,
    shifts: BTreeMap<Name, Shift>,
    states: States,
    durable: Durable,
    compiler: Compiler,
    publisher: Publisher,
    current: Current,
    departures: Departures,
    recorder: Arc<Recorder>,
    board: Arc<ArcSwap<Board>>,
    errors: Option<String>,
    proposals: mpsc::Receiver<Proposal>,
}

/// What a reload was asked for by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// A file changed, or may have.
    Change,
    /// A person or program.
    Order,
}

/// How often drains and windows are looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often the recorder's windows move on.
const SECOND: Duration = Duration::from_secs(1);
/// How often DNS names are resolved again.
const RESOLVE: Duration = Duration::from_secs(10);

impl Owner {
    /// Compiles and publishes the first snapshot.
    ///
    /// # Errors
    /// Why the configuration cannot be used, one line each.
    pub async fn new(parts: Parts) -> Result<(Self, Control, Current), Vec<String>> {
        let Parts { path, config, environment, recorder, store, bell } = parts;
        let loaded = files::load(&config, None, SystemTime::now())?;
        let durable = store.map_or_else(Durable::Missing, Durable::Kept);
        let (mut shifts, mut states, unread) = durable.read();
        for line in unread {
            tracing::warn!("{line}");
        }
        let kept = (shifts.clone(), states.clone());
        for ended in drop_outdated(&config, &mut shifts, &mut states) {
            tracing::info!("{ended}");
        }
        forget_outdated(&durable, (&kept.0, &kept.1), (&shifts, &states));
        let inputs = Inputs {
            shifts: splits(&shifts),
            states: states.clone(),
            certificates: loaded.certificates,
            upstream_tls: loaded.upstream_tls,
            resolved: resolve::all(&config, &HashMap::new()).await,
            ..Inputs::default()
        };
        let mut compiler = Compiler::new(Arc::clone(&recorder));
        let first = compiler.compile(&config, &inputs, None)?;
        let mut departures = Departures::new(bell);
        departures.published(None, &first, Instant::now());
        let (publisher, current) = Publisher::new(first);
        let board = Arc::new(ArcSwap::from_pointee(Board::default()));
        let (sender, proposals) = mpsc::channel(QUEUE);
        let control = Control { proposals: sender, board: Arc::clone(&board) };
        let owner = Self {
            path,
            environment,
            config,
            inputs,
            shifts,
            states,
            durable,
            compiler,
            publisher,
            current: current.clone(),
            departures,
            recorder,
            board,
            errors: None,
            proposals,
        };
        owner.recorder.config_loaded(SystemTime::now());
        owner.tell();
        Ok((owner, control, current))
    }

    /// Serves proposals until every [`Control`] is gone.
    pub async fn run(mut self) {
        let started = Watch::start(files::watched(&self.config), config::watch::Options::default());
        let (watch, mut changed) = match started {
            Ok((watch, changed)) => (Some(watch), changed),
            Err(error) => {
                tracing::error!(%error, "the configuration is not watched; reload it by SIGHUP or `weir reload`");
                (None, mpsc::channel(1).1)
            }
        };
        // What changed between the first reading and the watch is not missed.
        drop(self.reload(Trigger::Change).await);
        let mut tick = interval(TICK);
        let mut second = interval(SECOND);
        let mut resolve = interval(RESOLVE);
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
                _ = second.tick() => self.recorder.tick(Instant::now().into_std()),
                _ = tick.tick(), if self.departures.is_busy() => {
                    if self.departures.tick(Instant::now()) {
                        self.tell();
                    }
                    continue;
                }
                _ = resolve.tick(), if resolve::has_names(&self.config) => self.resolve_again().await,
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
        }
    }

    async fn reload(&mut self, trigger: Trigger) -> Outcome {
        let outcome = self.try_reload().await;
        self.errors = match &outcome {
            Ok(ack) if ack.warnings.is_empty() => None,
            Ok(ack) => Some(ack.warnings.join("\n")),
            Err(rejection) => Some(rejection.explain()),
        };
        match &outcome {
            Ok(ack) => {
                for line in ack.changes.iter().chain(&ack.warnings) {
                    tracing::info!(revision = ack.revision, "reload: {line}");
                }
            }
            Err(rejection) => tracing::error!("reload refused: {}", rejection.explain()),
        }
        // A look at files that turned out not to have changed is no reload.
        let nothing = matches!(&outcome, Ok(ack) if ack.changes.is_empty() && ack.warnings.is_empty());
        if trigger == Trigger::Order || !nothing {
            match &outcome {
                Ok(_) => self.recorder.reload_succeeded(SystemTime::now()),
                Err(_) => self.recorder.reload_failed(),
            }
        }
        self.tell();
        outcome
    }

    async fn try_reload(&mut self) -> Outcome {
        let config = config::load(&self.path, &*self.environment).map_err(Rejection::Invalid)?;
        let restart = self.config.restart_needed(&config);
        if !restart.is_empty() {
            return Err(Rejection::Restart(restart));
        }
        let before = self.current.load();
        let loaded =
            files::load(&config, Some(&before.certificates), SystemTime::now()).map_err(Rejection::Unusable)?;
        let resolved = resolve::all(&config, &self.inputs.resolved).await;
        let (mut shifts, mut states) = (self.shifts.clone(), self.states.clone());
        let ended = drop_outdated(&config, &mut shifts, &mut states);
        let inputs = Inputs {
            shifts: splits(&shifts),
            states: states.clone(),
            certificates: loaded.certificates,
            upstream_tls: loaded.upstream_tls,
            resolved,
            guards: self.inputs.guards.clone(),
            drills: self.inputs.drills.clone(),
        };
        let mut changes = changes::between(&self.config, &config);
        changes.extend(changes::certificates(&self.inputs.certificates, &inputs.certificates));
        if inputs.resolved != self.inputs.resolved {
            changes.push("addresses of DNS names".to_owned());
        }
        if inputs.upstream_tls != self.inputs.upstream_tls {
            changes.push("certificates towards endpoints".to_owned());
        }
        changes.extend(ended);
        if changes.is_empty() && config.hash() == self.config.hash() {
            return Ok(Ack { revision: before.revision, changes, warnings: loaded.kept });
        }
        let next = self.compiler.compile(&config, &inputs, Some(&before)).map_err(Rejection::Unusable)?;
        forget_outdated(&self.durable, (&self.shifts, &self.states), (&shifts, &states));
        (self.config, self.shifts, self.states, self.inputs) = (config, shifts, states, inputs);
        let revision = self.publish(next);
        Ok(Ack { revision, changes, warnings: loaded.kept })
    }

    fn set_weights(&mut self, service: &str, weights: &[(String, Weight)], by: By) -> Outcome {
        let (name, file) = self.find_service(service)?;
        let base = file.split.clone();
        for (version, _) in weights {
            known("version", version, file.versions.names())?;
        }
        let all = file.versions.names().map(|version| {
            let named = weights.iter().find(|(given, _)| given == &**version);
            (version.clone(), named.map_or(Weight::ZERO, |(_, weight)| *weight))
        });
        let split = Split::new(all.collect())?;
        let shift = Shift { split, base, by, at: SystemTime::now() };
        self.durable.keep_shift(&name, &shift).map_err(Rejection::Store)?;
        let line = format!("{name}: {} by {}{}", describe(&shift.split), shift.by.author, reason(&shift.by));
        self.shifts.insert(name, shift);
        self.recompile(line)
    }

    fn reset_weights(&mut self, service: &str, by: &By) -> Outcome {
        let (name, file) = self.find_service(service)?;
        let base = describe(&file.split);
        if !self.shifts.contains_key(&name) {
            return Ok(Ack { revision: self.current.peek().revision, changes: Vec::new(), warnings: Vec::new() });
        }
        self.durable.forget_shift(&name).map_err(Rejection::Store)?;
        self.shifts.remove(&name);
        self.recompile(format!("{name}: back to the file's {base} by {}{}", by.author, reason(by)))
    }

    fn set_state(&mut self, target: &Target, state: EndpointState, by: &By) -> Outcome {
        let (service, file) = self.find_service(&target.service)?;
        let versions: Vec<Name> = match &target.version {
            Some(version) => vec![known("version", version, file.versions.names())?],
            None => file.versions.names().cloned().collect(),
        };
        let mut wanted = Vec::new();
        for version in versions {
            let Some(spec) = file.versions.get(&version) else { continue };
            let (endpoint, own) = match &target.endpoint {
                None => (None, spec.state),
                Some(found) => {
                    let names: Vec<Name> = spec.endpoints.iter().map(|e| e.address.to_string().into()).collect();
                    let name = known("endpoint", found, names.iter())?;
                    let at = names.iter().position(|known| *known == name);
                    let own = at.and_then(|at| spec.endpoints.get(at)).map_or(EndpointState::Ready, |e| e.state);
                    (Some(name), own)
                }
            };
            wanted.push(((service.clone(), version, endpoint), own));
        }
        let mut states = self.states.clone();
        for (key, own) in wanted {
            let kept = if state == own {
                states.remove(&key);
                self.durable.forget_state(&key)
            } else {
                states.insert(key.clone(), state);
                self.durable.keep_state(&key, state)
            };
            if let Err(error) = kept {
                // Nothing of it is in effect, so nothing of it may come back with a restart.
                self.restore_states(&states);
                return Err(Rejection::Store(error));
            }
        }
        self.states = states;
        self.recompile(format!("{target}: {state} by {}{}", by.author, reason(by)))
    }

    /// Makes durable again what is in effect where `tried` differs from it, as far as the disk lets it.
    fn restore_states(&self, tried: &States) {
        for key in self.states.keys().chain(tried.keys()).filter(|key| self.states.get(*key) != tried.get(*key)) {
            let restored = match self.states.get(key) {
                Some(state) => self.durable.keep_state(key, *state),
                None => self.durable.forget_state(key),
            };
            if let Err(error) = restored {
                tracing::error!(%error, "a state that was refused may come into effect with a restart");
            }
        }
    }

    fn recompile(&mut self, line: String) -> Outcome {
        self.inputs.shifts = splits(&self.shifts);
        self.inputs.states = self.states.clone();
        let before = self.current.load();
        let next = self.compiler.compile(&self.config, &self.inputs, Some(&before)).map_err(Rejection::Unusable)?;
        let revision = self.publish(next);
        tracing::info!(revision, "{line}");
        Ok(Ack { revision, changes: vec![line], warnings: Vec::new() })
    }

    async fn resolve_again(&mut self) {
        let resolved: HashMap<String, Vec<SocketAddr>> = resolve::all(&self.config, &self.inputs.resolved).await;
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
        self.publisher.publish(next);
        let now_in_effect = self.current.load();
        self.departures.published(Some(&before), &now_in_effect, Instant::now());
        self.tell();
        revision
    }

    /// Lets people and metrics see how it is now.
    fn tell(&self) {
        self.recorder.publish(facts::of(&self.current.peek()));
        self.board.store(Arc::new(Board {
            path: self.path.clone(),
            errors: self.errors.clone(),
            shifts: self.shifts.clone(),
            departures: self.departures.list().to_vec(),
        }));
    }

    fn find_service(&self, service: &str) -> Result<(Name, &config::Service), Rejection> {
        let name = known("service", service, self.config.services.names())?;
        let file = self.config.services.get(&name).ok_or(Rejection::Busy)?;
        Ok((name, file))
    }
}

/// The name among `names` that is spelled so.
fn known<'a>(what: &'static str, found: &str, names: impl Iterator<Item = &'a Name>) -> Result<Name, Rejection> {
    let mut nearest: Option<(f64, &Name)> = None;
    for name in names {
        if &**name == found {
            return Ok(name.clone());
        }
        let likeness = strsim::jaro_winkler(name, found);
        if likeness > 0.75 && nearest.is_none_or(|(best, _)| likeness > best) {
            nearest = Some((likeness, name));
        }
    }
    Err(Rejection::Unknown { what, found: found.to_owned(), nearest: nearest.map(|(_, name)| name.to_string()) })
}

/// Takes away shifts whose base is no longer the file's and states of what is gone; says which.
fn drop_outdated(config: &Config, shifts: &mut BTreeMap<Name, Shift>, states: &mut States) -> Vec<String> {
    let mut ended = Vec::new();
    shifts.retain(|service, shift| {
        let kept = config.services.get(service).is_some_and(|file| file.split == shift.base);
        if !kept {
            ended.push(format!("{service}: the shift ended, because the file's split changed"));
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

/// Takes from the disk what [`drop_outdated`] took away: a restart must not bring it back. It no longer applies
/// whether or not the disk takes note.
fn forget_outdated(
    durable: &Durable,
    before: (&BTreeMap<Name, Shift>, &States),
    after: (&BTreeMap<Name, Shift>, &States),
) {
    for service in before.0.keys().filter(|service| !after.0.contains_key(*service)) {
        if let Err(error) = durable.forget_shift(service) {
            tracing::warn!(%service, %error, "an ended shift could not be forgotten");
        }
    }
    for key in before.1.keys().filter(|key| !after.1.contains_key(*key)) {
        if let Err(error) = durable.forget_state(key) {
            tracing::warn!(service = %key.0, version = %key.1, %error, "a state of what is gone could not be forgotten");
        }
    }
}

fn splits(shifts: &BTreeMap<Name, Shift>) -> BTreeMap<Name, Split> {
    shifts.iter().map(|(service, shift)| (service.clone(), shift.split.clone())).collect()
}

fn describe(split: &Split) -> String {
    split.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

fn reason(by: &By) -> String {
    if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) }
}
