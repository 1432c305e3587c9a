//! What is on its way to the store, and what waits for it.
//!
//! ```text
//! proposal, completion ─┬─► decided ─► commit ─► done ────► in effect, answered
//!                       └─► the queue of its service, while that has a commit in flight
//! ```
//!
//! Of one service one commit is in flight, so that each decision sees the one before it; services do not wait for each
//! other. A reload is about all of them: it begins when nothing is in flight, and while it is, they wait for it. While it
//! waits itself, a few proposals may overtake it, so that one commit that hangs makes no other service wait.
//!
//! Invariant: all of it is bounded. Commits by their time and their number, queues by their length; a second that has
//! passed is due once, however often it passes meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::control::settings::{SettingChange, SettingKey};
use crate::control::{Proposal, ProposalResult, Rejection, Shift};
use crate::model::{Name, SplitKey};
use crate::rollouts::dispatch::Completion;
use crate::rollouts::{Decision, Rollouts};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Inputs, States};
use crate::store::JournalError;

/// Where a proposer is answered.
pub(super) type Reply = oneshot::Sender<ProposalResult>;

/// Commits of services in flight at once: fewer than the store's queue takes, so that others find room.
const MAX_IN_FLIGHT: usize = 48;
/// Proposals that may wait for one service, and reloads that may wait for what is in flight.
pub(super) const MAX_WAITING: usize = 16;

/// Commits that may begin while a reload waits.
const MAX_OVERTAKING: usize = 64;

/// Something that is done when its service has nothing in flight.
pub(super) enum Work {
    /// What somebody asks for.
    Proposal(Proposal),
    /// What a call or a query came to. There are no more of them than calls under way.
    Completion(Completion),
    /// A second has passed.
    Tick,
}

/// What a commit of one service is for.
pub(super) enum PendingCommit {
    Decision {
        decision: Box<Decision>,
        reply: Option<Reply>,
    },
    Setting {
        change: SettingChange,
        reply: Reply,
    },
    /// What is in effect is written anew.
    Rewrite(Vec<SettingKey>),
    /// What is stored of a rollout that is gone is removed.
    Forget,
}

/// A commit that ended, and what became of it.
pub(super) enum CommitDone {
    Service(Name, Result<(), JournalError>),
    /// Each service's writes of a reload.
    Reload(Vec<(Name, Result<(), JournalError>)>),
    Uses(Result<(), JournalError>),
    Alerts(Result<(), JournalError>),
    Copy(Result<(), JournalError>),
}

/// What a reload was asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trigger {
    /// A file changed, or may have.
    Change,
    /// An operator or a program asks for it.
    Request,
    /// Whoever asks wants it even if versions are left with too few ready endpoints.
    Force,
}

/// Those who asked for a reload; one answers all that asked before it began.
pub(super) struct ReloadRequest {
    pub(super) trigger: Trigger,
    pub(super) replies: Vec<Reply>,
    /// Commits that began while it waited.
    overtaken: usize,
}

/// A file that is compiled, and takes effect when its decisions are written.
pub(super) struct PreparedReload {
    pub(super) config: Config,
    pub(super) inputs: Inputs,
    pub(super) shifts: BTreeMap<SplitKey, Shift>,
    pub(super) states: States,
    pub(super) rollouts: Rollouts,
    pub(super) next: Snapshot,
    /// What is stored and applies no more.
    pub(super) outdated: BTreeSet<SettingKey>,
    pub(super) changes: Vec<String>,
}

/// A reload whose decisions are being written.
pub(super) struct PendingReload {
    pub(super) prepared: PreparedReload,
    pub(super) request: ReloadRequest,
    /// What was wrong with certificates before.
    pub(super) known_faults: Vec<String>,
}

/// What is in flight, and what waits.
#[derive(Default)]
pub(super) struct PendingCommits {
    commits: FuturesUnordered<BoxFuture<'static, CommitDone>>,
    services: BTreeMap<Name, PendingCommit>,
    reload: Option<Box<PendingReload>>,
    waiting: BTreeMap<Name, VecDeque<Work>>,
    waiting_reload: Option<ReloadRequest>,
    /// Services for which a second has passed.
    due: BTreeSet<Name>,
}

impl PendingCommits {
    /// Whether nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The next commit that ends; none when none is in flight.
    pub(super) async fn next(&mut self) -> Option<CommitDone> {
        self.commits.next().await
    }

    /// Whether nothing of `service` may begin now.
    pub(super) fn is_busy(&self, service: &Name) -> bool {
        self.services.contains_key(service)
            || self.services.len() >= MAX_IN_FLIGHT
            || self.waiting.contains_key(service)
            || self.is_closed()
    }

    /// Whether nothing may begin, because a reload is in flight or was overtaken often enough.
    fn is_closed(&self) -> bool {
        let waits_long = |request: &ReloadRequest| request.overtaken >= MAX_OVERTAKING;
        self.reload.is_some() || self.waiting_reload.as_ref().is_some_and(waits_long)
    }

    /// Whether a reload is in flight, or waits for what is.
    pub(super) const fn is_reloading(&self) -> bool {
        self.reload.is_some() || self.waiting_reload.is_some()
    }

    /// Lets `work` wait for `service`.
    pub(super) fn wait(&mut self, service: Name, work: Work) {
        let proposals = |queue: &VecDeque<Work>| queue.iter().filter(|work| matches!(work, Work::Proposal(_))).count();
        let queue = self.waiting.entry(service).or_default();
        match work {
            Work::Proposal(proposal) if proposals(queue) >= MAX_WAITING => {
                let service = proposal.service().unwrap_or_default().to_owned();
                proposal.reject(Rejection::ServiceBusy(service));
            }
            work => queue.push_back(work),
        }
    }

    /// A second has passed for these.
    pub(super) fn tick<'a>(&mut self, services: impl Iterator<Item = &'a Name>) {
        self.due.extend(services.cloned());
    }

    /// What can be done now.
    pub(super) fn next_work(&mut self) -> Option<(Name, Work)> {
        if self.is_closed() || self.services.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let free = |service: &&Name| !self.services.contains_key(*service);
        if let Some(service) = self.waiting.keys().find(free).cloned() {
            let queue = self.waiting.get_mut(&service)?;
            let work = queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&service);
            }
            return Some((service, work?));
        }
        // A second can wait for a reload.
        let service = self.due.iter().find(free).filter(|_| self.waiting_reload.is_none()).cloned()?;
        self.due.remove(&service);
        Some((service, Work::Tick))
    }

    /// A commit of a service is on its way.
    pub(super) fn begin(
        &mut self,
        service: Name,
        pending: PendingCommit,
        commit: impl Future<Output = Result<(), JournalError>> + Send + 'static,
    ) {
        if let Some(request) = &mut self.waiting_reload {
            request.overtaken += 1;
        }
        self.services.insert(service.clone(), pending);
        self.follow(commit.map(|stored| CommitDone::Service(service, stored)));
    }

    /// The commits of a reload are on their way.
    pub(super) fn begin_reload(
        &mut self,
        reload: PendingReload,
        commits: impl Future<Output = Vec<(Name, Result<(), JournalError>)>> + Send + 'static,
    ) {
        self.reload = Some(Box::new(reload));
        self.follow(commits.map(CommitDone::Reload));
    }

    /// Something else is on its way to the store.
    pub(super) fn follow(&self, done: impl Future<Output = CommitDone> + Send + 'static) {
        self.commits.push(done.boxed());
    }

    /// Takes out the commit of a service, which ended.
    pub(super) fn take(&mut self, service: &Name) -> Option<PendingCommit> {
        self.services.remove(service)
    }

    /// Takes out the reload whose commits ended.
    pub(super) fn take_reload(&mut self) -> Option<PendingReload> {
        self.reload.take().map(|reload| *reload)
    }

    /// Asks for a reload.
    pub(super) fn ask_reload(&mut self, trigger: Trigger, reply: Option<Reply>) {
        let empty = ReloadRequest { trigger, replies: Vec::new(), overtaken: 0 };
        let request = self.waiting_reload.get_or_insert(empty);
        request.trigger = request.trigger.max(trigger);
        match reply {
            Some(reply) if request.replies.len() >= MAX_WAITING => drop(reply.send(Err(Rejection::Busy))),
            reply => request.replies.extend(reply),
        }
    }

    /// The reload that can begin now.
    pub(super) fn next_reload(&mut self) -> Option<ReloadRequest> {
        self.waiting_reload.take_if(|_| self.services.is_empty() && self.reload.is_none())
    }

    /// Lets go of everything that is not in flight.
    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.due.clear();
        self.waiting_reload = None;
    }
}
