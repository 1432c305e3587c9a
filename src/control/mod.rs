//! The one owner of what requests read.
//!
//! Configuration reloads, operators and background tasks *propose*; this task decides alone, one proposal of a service at
//! a time: it decides, makes durable what must survive, compiles a new snapshot from the file, the shifts and the states,
//! publishes, and answers. While it waits for the store it goes on with other services. Whatever is refused leaves
//! everything as it was.
//!
//! ```text
//! Control (cheap handles) ──Proposal──► decide ─► store ─► compile ──► Publisher
//!                          ◄──Ack/Rejection──┘                └──► Status (what operators read)
//! ```

mod changes;
mod drains;
mod facts;
mod files;
mod min_ready;
mod owner;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod uses;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::min_ready::BelowMinReady;
pub use self::owner::{FaultRequest, NotUsable, Owner, Parts};
pub(crate) use self::resolve::NameState;
use self::resolve::Names;
use crate::rollouts::{Command, RecordedEntry, RolloutStatus};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::{Diagnostic, Diagnostics};
use crate::model::{EndpointState, Name, NotASplit, Split, SplitKey, Weight};
use crate::rollout::engine::CommandRefused;
use crate::snapshot::DrainTimes;
use crate::snapshot::live::EndpointLive;
use crate::store::JournalError;
use crate::telemetry::{RolloutFact, VersionSeries};

/// A handle with which changes are proposed; cheap to clone.
#[derive(Clone)]
pub struct Control {
    proposals: mpsc::Sender<Proposal>,
    status: Arc<ArcSwap<Status>>,
    names: Arc<Names>,
}

/// Proposals that may wait; more than that and a proposer is told that Weir is busy.
const MAX_PROPOSALS: usize = 64;

enum Proposal {
    Reload {
        force: bool,
        answer: oneshot::Sender<ProposalResult>,
    },
    SetWeights {
        service: String,
        cohort: Option<String>,
        weights: Vec<(String, Weight)>,
        by: Attribution,
        answer: oneshot::Sender<ProposalResult>,
    },
    ResetWeights {
        service: String,
        cohort: Option<String>,
        by: Attribution,
        answer: oneshot::Sender<ProposalResult>,
    },
    SetState {
        change: StateChange,
        by: Attribution,
        answer: oneshot::Sender<ProposalResult>,
    },
    Command {
        service: String,
        command: Command,
        by: Attribution,
        answer: oneshot::Sender<ProposalResult>,
    },
    Drill {
        order: FaultRequest,
        by: Attribution,
        answer: oneshot::Sender<ProposalResult>,
    },
    History {
        service: String,
        limit: usize,
        answer: oneshot::Sender<Result<Vec<Arc<RecordedEntry>>, Rejection>>,
    },
    Stop {
        answer: oneshot::Sender<Result<(), Rejection>>,
    },
}

impl Proposal {
    /// The service that it is about, if it is about one.
    fn service(&self) -> Option<&str> {
        match self {
            Self::SetWeights { service, .. }
            | Self::ResetWeights { service, .. }
            | Self::Command { service, .. }
            | Self::History { service, .. } => Some(service),
            Self::SetState { change, .. } => Some(&change.target.service),
            Self::Drill { order, .. } => Some(&order.service),
            Self::Reload { .. } | Self::Stop { .. } => None,
        }
    }

    /// Answers that it is refused. Whoever asked may have gone.
    fn reject(self, why: Rejection) {
        match self {
            Self::Reload { answer, .. }
            | Self::SetWeights { answer, .. }
            | Self::ResetWeights { answer, .. }
            | Self::SetState { answer, .. }
            | Self::Command { answer, .. }
            | Self::Drill { answer, .. } => drop(answer.send(Err(why))),
            Self::History { answer, .. } => drop(answer.send(Err(why))),
            Self::Stop { answer } => drop(answer.send(Err(why))),
        }
    }
}

/// What became of a proposal.
pub(crate) type ProposalResult = Result<Ack, Rejection>;

/// Who proposes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// An operator or a program.
    pub author: String,
    /// In their words.
    pub reason: String,
}

/// The change is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The revision of the snapshot that has it.
    pub(crate) revision: u64,
    /// What changed, one line each; empty when nothing did.
    pub(crate) changes: Vec<String>,
    /// What could not be used while what was before it stays in effect, or could not be written.
    pub(crate) warnings: Vec<String>,
    /// Whether a restart keeps it, as far as it has to survive one.
    pub(crate) durable: bool,
}

impl Ack {
    /// The change is in effect and durable.
    pub(crate) const fn new(revision: u64, changes: Vec<String>) -> Self {
        Self { revision, changes, warnings: Vec::new(), durable: true }
    }

    /// It is in effect, and could not be written.
    fn not_durable(mut self, why: &JournalError) -> Self {
        self.warnings.push(format!("it is in effect, and lost with a restart before the disk takes it: {why}"));
        self.durable = false;
        self
    }
}

/// Why a proposal was refused; nothing changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejection {
    /// The configuration file is not valid.
    #[error("the configuration is not valid; the one before it stays in effect")]
    Invalid(Diagnostics),
    /// The file changes what needs a restart.
    #[error("the configuration changes what needs a restart; nothing of it is in effect")]
    Restart(Vec<Diagnostic>),
    /// What the configuration names cannot be used.
    #[error("the configuration cannot be used; the one before it stays in effect")]
    Unusable(Vec<String>),
    /// There is no such service, version or endpoint.
    #[error("there is no {what} `{found}`{}", instead(.nearest.as_deref(), .exist))]
    Unknown {
        /// `service`, `version` or `endpoint`.
        what: &'static str,
        /// The name that was given.
        found: String,
        /// The nearest name that exists.
        nearest: Option<String>,
        /// Names that exist, a few of them.
        exist: Vec<String>,
    },
    /// A command that makes no sense in the phase of the rollout.
    #[error("{0}")]
    Refused(#[from] CommandRefused),
    /// The service has no rollout.
    #[error("service `{0}` has no rollout: give it `rollout:` and `release:` in the configuration file")]
    NoRollout(String),
    /// The canary of the service is meant, and there is none.
    #[error("no rollout of `{0}` is under way, so no version is its canary")]
    NoCanary(String),
    /// The service's weights are moved by its rollout.
    #[error("the weights of {0} are its rollout's: `weir rollout promote`, `pause`, `abort` or `undo` move them")]
    RolledOut(String),
    /// Versions would have fewer ready endpoints than their `min_ready`.
    #[error("{}; wait until others are ready, or force it (--force)", listed(.0))]
    BelowMinReady(Vec<BelowMinReady>),
    /// The weights are not a split.
    #[error("{0}")]
    Split(#[from] NotASplit),
    /// The change could not be made durable.
    #[error("the change could not be made durable, so it was not made: {0}")]
    Store(JournalError),
    /// Too many proposals wait for the store, all of one service.
    #[error("too many changes of service `{0}` wait for the store; try again")]
    ServiceBusy(String),
    /// Too many proposals wait, or Weir is stopping.
    #[error("too many changes wait, or Weir is stopping; try again")]
    Busy,
}

/// The first of them, and how many more there are.
fn listed(short: &[BelowMinReady]) -> String {
    let first = short.first().map(ToString::to_string).unwrap_or_default();
    match short.len() {
        0 | 1 => first,
        several => format!("{first}, and so for {} more", several - 1),
    }
}

/// What may have been meant by a name that does not exist.
fn instead(nearest: Option<&str>, exist: &[String]) -> String {
    match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None if exist.is_empty() => String::new(),
        None => {
            let verb = if exist.len() == 1 { "is only" } else { "are" };
            let names: Vec<_> = exist.iter().map(|name| format!("`{name}`")).collect();
            format!("; there {verb} {}", names.join(", "))
        }
    }
}

/// What a drain, maint or ready command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTarget {
    /// The service.
    pub service: String,
    /// The version; all of the service's if none.
    pub version: Option<String>,
    /// The endpoint, as the file spells it; all of the version's if none.
    pub endpoint: Option<String>,
}

/// A state that an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Of what.
    pub target: StateTarget,
    /// Which.
    pub state: EndpointState,
    /// Even if it leaves a version fewer ready endpoints than its `min_ready`.
    pub force: bool,
}

/// The status of control's work, for operators.
#[derive(Clone, Default)]
pub(crate) struct Status {
    /// The configuration file.
    pub(crate) path: PathBuf,
    /// The revision that the rest is of.
    pub(crate) revision: u64,
    /// The hash of the configuration that the rest is of.
    pub(crate) hash: String,
    /// Why the newest content of the file is not in effect, if it is not.
    pub(crate) errors: Option<String>,
    /// What is wrong with listeners' certificates and authorities, and what is done instead; one line each.
    pub(crate) faults: Vec<String>,
    /// Shifts over the file's splits.
    pub(crate) shifts: BTreeMap<SplitKey, Shift>,
    /// Endpoints that drain.
    pub(crate) drains: Vec<DrainingEndpoint>,
    /// Where rollouts are, by service.
    pub(crate) rollouts: BTreeMap<Name, Arc<RolloutStatus>>,
    /// Where rollouts are, for metrics.
    pub(crate) rollout_facts: Vec<RolloutFact>,
    /// Since when the uses of versions are known, by `SERVICE/VERSION`.
    pub(crate) uses_since: Arc<BTreeMap<String, SystemTime>>,
}

/// Weights over the file's split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    /// The weights.
    pub(crate) split: Split,
    /// The file's split that they were put over.
    pub(crate) base: Split,
    /// Who, and why.
    pub(crate) by: Attribution,
    /// When.
    pub(crate) at: SystemTime,
}

/// An endpoint that takes no new work and waits for its work in flight.
#[derive(Clone)]
pub(crate) struct DrainingEndpoint {
    /// Its service.
    pub(crate) service: Name,
    /// Its version.
    pub(crate) version: Name,
    /// Its address as the file spells it.
    pub(crate) endpoint: Name,
    /// Whether it left the file; otherwise its state is `drain` or `maint`.
    pub(crate) removed: bool,
    /// When the drain began.
    pub(crate) since: Instant,
    /// How long work may go on.
    pub(crate) times: DrainTimes,
    /// The work in flight, and what was cut.
    pub(crate) live: Arc<EndpointLive>,
    /// Keeps the version's metrics until the drain is over.
    pub(crate) series: Arc<VersionSeries>,
}

impl DrainingEndpoint {
    /// Time left until work of each kind is cut: requests, streams.
    #[must_use]
    pub(crate) fn left(&self, now: Instant) -> (Duration, Duration) {
        let gone = now.saturating_duration_since(self.since);
        (self.times.requests.saturating_sub(gone), self.times.streams.saturating_sub(gone))
    }
}

impl Rejection {
    /// The whole explanation, in lines.
    #[must_use]
    pub(crate) fn explain(&self) -> String {
        let detail = match self {
            Self::Invalid(diagnostics) => diagnostics.to_string(),
            Self::Restart(diagnostics) => diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Self::Unusable(lines) => lines.join("\n"),
            _ => return self.to_string(),
        };
        format!("{self}\n{detail}")
    }
}

impl fmt::Display for StateTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)?;
        for part in [&self.version, &self.endpoint].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

impl Control {
    /// The status now.
    #[must_use]
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// The DNS names of endpoints, and what is known of them.
    #[must_use]
    pub(crate) fn names(&self) -> Vec<NameState> {
        self.names.list()
    }

    /// Reads the file again, now. `force`: it takes effect even if it leaves a version fewer ready endpoints than its
    /// `min_ready`.
    ///
    /// # Errors
    /// [`Rejection::Invalid`] with every mistake in the file; [`Rejection::BelowMinReady`]; [`Rejection::Busy`].
    pub async fn reload(&self, force: bool) -> ProposalResult {
        self.propose(|answer| Proposal::Reload { force, answer }).await
    }

    /// Shifts a service's weights, or those of a cohort of it, over the file's split. Versions left out get 0.
    ///
    /// # Errors
    /// [`Rejection::Unknown`], [`Rejection::Split`], [`Rejection::Store`], [`Rejection::ServiceBusy`], [`Rejection::Busy`].
    pub async fn set_weights(
        &self,
        service: String,
        cohort: Option<String>,
        weights: Vec<(String, Weight)>,
        by: Attribution,
    ) -> ProposalResult {
        self.propose(|answer| Proposal::SetWeights { service, cohort, weights, by, answer }).await
    }

    /// Ends the shift of a service, or of a cohort of it: the file's split is in effect again.
    ///
    /// # Errors
    /// [`Rejection::Unknown`], [`Rejection::Store`], [`Rejection::Busy`].
    pub(crate) async fn reset_weights(
        &self,
        service: String,
        cohort: Option<String>,
        by: Attribution,
    ) -> ProposalResult {
        self.propose(|answer| Proposal::ResetWeights { service, cohort, by, answer }).await
    }

    /// Sets the state of a version or an endpoint, over the file's.
    ///
    /// # Errors
    /// [`Rejection::Unknown`], [`Rejection::BelowMinReady`], [`Rejection::Store`], [`Rejection::Busy`].
    pub async fn set_state(&self, change: StateChange, by: Attribution) -> ProposalResult {
        self.propose(|answer| Proposal::SetState { change, by, answer }).await
    }

    /// Sends a command to a service's rollout.
    ///
    /// # Errors
    /// [`Rejection::Unknown`], [`Rejection::NoRollout`], [`Rejection::Refused`], [`Rejection::Busy`].
    pub(crate) async fn command(&self, service: String, command: Command, by: Attribution) -> ProposalResult {
        self.propose(|answer| Proposal::Command { service, command, by, answer }).await
    }

    /// Puts faults into a version's responses for a time, or ends that.
    ///
    /// # Errors
    /// [`Rejection::Unknown`], [`Rejection::NoCanary`], [`Rejection::Busy`].
    pub async fn drill(&self, order: FaultRequest, by: Attribution) -> ProposalResult {
        self.propose(|answer| Proposal::Drill { order, by, answer }).await
    }

    /// The newest `limit` decisions of a service's rollout, oldest first.
    ///
    /// # Errors
    /// [`Rejection::Unknown`], [`Rejection::NoRollout`], [`Rejection::Busy`].
    pub(crate) async fn history(&self, service: String, limit: usize) -> Result<Vec<Arc<RecordedEntry>>, Rejection> {
        self.propose(|answer| Proposal::History { service, limit, answer }).await
    }

    /// Ends the owner: nothing more is decided, and what is on its way to the store is waited for within its bound.
    pub async fn stop(&self) {
        // An owner that is gone has stopped.
        drop(self.propose(|answer| Proposal::Stop { answer }).await);
    }

    /// When a version was in use last can be told since this moment.
    #[must_use]
    pub(crate) fn uses_since(&self, service: &Name, version: &Name) -> Option<SystemTime> {
        self.status().uses_since.get(&uses::key(service, version)).copied()
    }

    async fn propose<T>(
        &self,
        proposal: impl FnOnce(oneshot::Sender<Result<T, Rejection>>) -> Proposal,
    ) -> Result<T, Rejection> {
        let (answer, outcome) = oneshot::channel();
        self.proposals.try_send(proposal(answer)).map_err(|_| Rejection::Busy)?;
        outcome.await.unwrap_or(Err(Rejection::Busy))
    }
}
