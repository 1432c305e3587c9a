//! What outlives a snapshot, found again by identity: (service, version, address).
//!
//! | fact | who writes | who reads |
//! |---|---|---|
//! | work in flight ([`crate::drain::Ledger`]) | requests | balance, drain, status |
//! | whether it accepts new work | control | the data plane, before it reuses a connection |
//! | open upstream connections | the data plane | control, to close idle ones when a drain begins |
//! | a canary's errors ([`CircuitBreaker`]) | finished requests | the split, control |
//! | how many requests a fault injection has seen ([`FaultInjection`]) | requests | the injection itself |
//!
//! Invariant: an endpoint that leaves the file and comes back while it still drains is the same one.

mod breaker;
mod fault;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

pub use self::breaker::CircuitBreaker;
pub use self::fault::{Fault, FaultInjection, MAX_DELAY};
use crate::drain::Ledger;
use crate::model::{Address, Name};
use crate::telemetry::{UpstreamError, VersionSeries};

/// An open upstream connection, as the owner of a drain sees it.
pub trait UpstreamConnection: Send + Sync {
    /// Closes the connection unless it is in use; one in use closes when its work ends.
    fn close_idle(&self);
}

/// One endpoint across snapshots.
pub struct EndpointLive {
    /// Unique in the process, never used again: keeps upstream connections of one endpoint apart.
    pub id: u64,
    /// The work in flight on it.
    pub ledger: Arc<Ledger>,
    /// Open upstream connections without work.
    pub idle: AtomicUsize,
    accepting: AtomicBool,
    /// Where its version is counted.
    series: OnceLock<Arc<VersionSeries>>,
    /// Locked when a connection opens or closes and when a drain begins, never by a request.
    connections: Mutex<Vec<Weak<dyn UpstreamConnection>>>,
}

impl EndpointLive {
    fn new(id: u64) -> Self {
        Self {
            id,
            ledger: Arc::default(),
            idle: AtomicUsize::new(0),
            accepting: AtomicBool::new(true),
            series: OnceLock::new(),
            connections: Mutex::new(Vec::new()),
        }
    }

    /// Says where its version is counted; the first word stands.
    pub fn count_in(&self, series: &Arc<VersionSeries>) {
        self.series.get_or_init(|| Arc::clone(series));
    }

    /// Counts a connection on which something came though no request was on it.
    pub fn unsolicited(&self) {
        if let Some(series) = self.series.get() {
            series.upstream_error(UpstreamError::Unsolicited);
        }
    }

    /// Whether connections to the endpoint may be kept and reused.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// Says whether new work is accepted. When it no longer is, idle connections close at once.
    pub fn set_accepting(&self, accepting: bool) {
        if self.accepting.swap(accepting, Ordering::AcqRel) && !accepting {
            let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for connection in connections.iter().filter_map(Weak::upgrade) {
                connection.close_idle();
            }
        }
    }

    /// Remembers an open connection, so that a drain can close it.
    pub fn opened(&self, connection: Weak<dyn UpstreamConnection>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.len() == connections.capacity() {
            connections.retain(|known| known.strong_count() > 0);
        }
        connections.push(connection);
    }

    /// Upstream connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().filter(|known| known.strong_count() > 0).count()
    }
}

impl fmt::Debug for EndpointLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointLive").field("id", &self.id).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// Which endpoint it is.
pub type Identity = (Name, Name, Address);

/// Finds what outlives a snapshot. Used while compiling, by one owner.
#[derive(Debug, Default)]
pub struct Registry {
    endpoints: HashMap<Identity, Weak<EndpointLive>>,
    next_id: AtomicU64,
}

impl Registry {
    /// The endpoint of this identity: the one that is still held somewhere, or a new one.
    pub fn endpoint(&mut self, service: &Name, version: &Name, address: &Address) -> Arc<EndpointLive> {
        let identity = (service.clone(), version.clone(), address.clone());
        if let Some(live) = self.endpoints.get(&identity).and_then(Weak::upgrade) {
            return live;
        }
        let live = Arc::new(EndpointLive::new(self.next_id.fetch_add(1, Ordering::Relaxed)));
        self.endpoints.insert(identity, Arc::downgrade(&live));
        live
    }

    /// Forgets endpoints that nobody holds any more.
    pub fn forget_gone(&mut self) {
        self.endpoints.retain(|_, live| live.strong_count() > 0);
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
    }

    fn names() -> (Name, Name, Address) {
        ("shop".into(), "v1".into(), "127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn an_endpoint_is_the_same_while_somebody_holds_it() {
        let (service, version, address) = names();
        let mut registry = Registry::default();
        let first = registry.endpoint(&service, &version, &address);
        let again = registry.endpoint(&service, &version, &address);
        assert!(Arc::ptr_eq(&first, &again));
        let id = first.id;
        drop((first, again));
        registry.forget_gone();
        assert_ne!(registry.endpoint(&service, &version, &address).id, id, "ids are never used again");
    }

    #[test]
    fn idle_connections_close_when_new_work_is_no_longer_accepted() {
        let (service, version, address) = names();
        let live = Registry::default().endpoint(&service, &version, &address);
        let probe: Arc<Probe> = Arc::default();
        let weak: Weak<dyn UpstreamConnection> = Arc::<Probe>::downgrade(&probe);
        live.opened(weak);
        assert_eq!(live.open_connections(), 1);
        live.set_accepting(true);
        assert!(!probe.0.load(Ordering::Acquire));
        live.set_accepting(false);
        assert!(probe.0.load(Ordering::Acquire));
    }
}
