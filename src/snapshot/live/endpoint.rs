//! One endpoint across snapshots: its state, its work in flight, its open connections.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::health::EndpointHealth;
use super::slow_start::Newcomer;
use super::state::StateCell;
use super::version_health::VersionHealth;
use crate::drain::Ledger;
use crate::model::EndpointState;
use crate::rollout::evidence::Tally;
use crate::telemetry::{UpstreamError, VersionSeries};

/// An open upstream connection, as the owner of a drain sees it.
pub(crate) trait UpstreamConnection: Send + Sync {
    /// Closes the connection unless it is in use; one in use closes when its work ends.
    fn close_idle(&self);
    /// Closes the connection for another one, unless it is in use; whether it did.
    fn give_way(&self) -> bool;
}

/// One endpoint across snapshots.
pub(crate) struct EndpointLive {
    /// Unique in the process, never used again: keeps upstream connections of one endpoint apart.
    pub(crate) id: u64,
    /// What is wanted of it now.
    pub(crate) state: StateCell,
    /// Since when it is new, if it is.
    pub(crate) newcomer: Newcomer,
    /// The work in flight on it.
    pub(crate) ledger: Arc<Ledger>,
    /// Open upstream connections without work.
    pub(crate) idle: AtomicUsize,
    /// Its finished requests, while its version is judged.
    pub(crate) judged: JudgedRequests,
    /// What happened on it.
    pub(crate) health: EndpointHealth<Self>,
    accepting: AtomicBool,
    /// Where its version is counted.
    series: OnceLock<Arc<VersionSeries>>,
    /// Locked when a connection opens or closes and when a drain begins, never by a request.
    connections: Mutex<Vec<Weak<dyn UpstreamConnection>>>,
}

/// Finished requests, and those of them that failed.
#[derive(Debug, Default)]
pub(crate) struct JudgedRequests {
    finished: AtomicU64,
    failed: AtomicU64,
}

impl JudgedRequests {
    #[inline]
    pub(super) fn count(&self, failed: bool) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many that did not fail.
    #[cfg(test)]
    pub(crate) fn count_many(&self, finished: u64) {
        self.finished.fetch_add(finished, Ordering::Relaxed);
    }

    pub(super) fn tally(&self) -> Tally {
        // In this order, so that no more have failed than finished.
        let bad = self.failed.load(Ordering::Relaxed);
        Tally { requests: self.finished.load(Ordering::Relaxed).max(bad), bad }
    }
}

impl EndpointLive {
    pub(super) fn new(id: u64, state: EndpointState, of_version: Arc<VersionHealth<Self>>) -> Self {
        Self {
            id,
            state: StateCell::new(state),
            newcomer: Newcomer::default(),
            ledger: Arc::default(),
            idle: AtomicUsize::new(0),
            judged: JudgedRequests::default(),
            health: EndpointHealth::new(of_version),
            accepting: AtomicBool::new(true),
            series: OnceLock::new(),
            connections: Mutex::new(Vec::new()),
        }
    }

    /// Says where its version is counted; the first word stands.
    pub(crate) fn count_in(&self, series: &Arc<VersionSeries>) {
        self.series.get_or_init(|| Arc::clone(series));
    }

    /// Counts a connection on which something came though no request was on it.
    pub(crate) fn unsolicited(&self) {
        if let Some(series) = self.series.get() {
            series.upstream_error(UpstreamError::Unsolicited);
        }
    }

    /// Whether it takes new requests: it is wanted, and nothing stands against it.
    #[inline]
    #[must_use]
    pub(crate) fn is_available(&self) -> bool {
        self.state.is_available()
    }

    /// Whether it is wanted, whatever its health.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.state.get() == EndpointState::Ready
    }

    /// Whether connections to the endpoint may be kept and reused.
    #[must_use]
    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// Says whether new work is accepted. When it no longer is, idle connections close at once.
    pub(crate) fn set_accepting(&self, accepting: bool) {
        if self.accepting.swap(accepting, Ordering::AcqRel) && !accepting {
            self.close_connections();
        }
    }

    /// Closes an idle connection of the version's, so that another one can be made: of this endpoint, or else of another.
    /// Whether there was one.
    pub(crate) fn make_way(&self) -> bool {
        let closes = |endpoint: &Self| {
            let connections = endpoint.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
            connections.iter().filter_map(Weak::upgrade).any(|connection| connection.give_way())
        };
        closes(self) || self.health.of_version.endpoints().iter().any(|other| closes(other))
    }

    /// Closes the idle connections, and those in use when their work ends.
    pub(crate) fn close_connections(&self) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connections.iter().filter_map(Weak::upgrade).for_each(|connection| connection.close_idle());
    }

    /// Remembers an open connection, so that a drain can close it.
    pub(crate) fn opened(&self, connection: Weak<dyn UpstreamConnection>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.len() == connections.capacity() {
            connections.retain(|known| known.strong_count() > 0);
        }
        connections.push(connection);
    }
}

impl fmt::Debug for EndpointLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointLive").field("id", &self.id).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Probe(AtomicBool);

    impl UpstreamConnection for Probe {
        fn close_idle(&self) {
            self.0.store(true, Ordering::Release);
        }

        fn give_way(&self) -> bool {
            !self.0.swap(true, Ordering::AcqRel)
        }
    }

    #[test]
    fn idle_connections_close_when_new_work_is_no_longer_accepted() {
        let version = VersionHealth::new("shop".into(), "v1".into(), Arc::default(), std::time::Instant::now());
        let live = EndpointLive::new(0, EndpointState::Ready, Arc::new(version));
        let probe: Arc<Probe> = Arc::default();
        let weak: Weak<dyn UpstreamConnection> = Arc::<Probe>::downgrade(&probe);
        live.opened(weak);
        live.set_accepting(true);
        assert!(!probe.0.load(Ordering::Acquire));
        live.set_accepting(false);
        assert!(probe.0.load(Ordering::Acquire));
    }
}
