//! The one place where all series are: resolved when a snapshot is compiled, read when somebody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use super::registry::Registry;
use super::series::{ListenerSeries, RouteSeries, VersionSeries};
use super::sharded::shards_for;
use crate::model::{EndpointState, Name, Weight};

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The crate's version.
    pub version: &'static str,
    /// The source revision.
    pub revision: &'static str,
}

/// What the snapshot in effect says of itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Hash of the configuration.
    pub hash: String,
    /// All versions.
    pub versions: Vec<VersionFact>,
}

/// One version in the snapshot in effect.
#[derive(Clone, Debug)]
pub struct VersionFact {
    /// Its service.
    pub service: Name,
    /// Its name.
    pub version: Name,
    /// Its share by the file or a shift.
    pub configured: Weight,
    /// Its share in effect.
    pub effective: Weight,
    /// Its endpoints.
    pub endpoints: Vec<EndpointFact>,
}

/// One endpoint in the snapshot in effect.
#[derive(Clone, Debug)]
pub struct EndpointFact {
    /// Its name.
    pub endpoint: Name,
    /// Its state.
    pub state: EndpointState,
    /// Whether it gets requests.
    pub up: bool,
}

/// All counters of the process.
#[derive(Debug)]
pub struct Recorder {
    pub(super) versions: Registry<(Name, Name), VersionSeries>,
    pub(super) routes: Registry<(Name, Name, Name), RouteSeries>,
    pub(super) listeners: Registry<Name, ListenerSeries>,
    unmatched: Arc<RouteSeries>,
    pub(super) facts: ArcSwap<Facts>,
    pub(super) reloads: Reloads,
    pub(super) log_dropped: AtomicU64,
    pub(super) build: Build,
    shards: usize,
}

/// Outcomes of reloads.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) success: AtomicU64,
    pub(super) failure: AtomicU64,
    pub(super) last_successful: AtomicU64,
    /// Seconds since the Unix epoch.
    pub(super) last_success: AtomicU64,
}

impl Recorder {
    /// A recorder for `threads` threads that count.
    #[must_use]
    pub fn new(threads: usize, build: Build) -> Self {
        let shards = shards_for(threads);
        let none: Name = "".into();
        Self {
            versions: Registry::new(),
            routes: Registry::new(),
            listeners: Registry::new(),
            unmatched: Arc::new(RouteSeries::new(none.clone(), none.clone(), none, shards)),
            facts: ArcSwap::from_pointee(Facts::default()),
            reloads: Reloads::default(),
            log_dropped: AtomicU64::new(0),
            build,
            shards,
        }
    }

    /// The series of a version, the same one for as long as somebody holds it.
    pub fn version(&self, service: &Name, version: &Name) -> Arc<VersionSeries> {
        let make = || VersionSeries::new(service.clone(), version.clone(), self.shards, Instant::now());
        self.versions.resolve((service.clone(), version.clone()), make)
    }

    /// The series of a route's requests to a version.
    pub fn route(&self, service: &Name, version: &Name, route: &Name) -> Arc<RouteSeries> {
        let make = || RouteSeries::new(service.clone(), version.clone(), route.clone(), self.shards);
        self.routes.resolve((service.clone(), version.clone(), route.clone()), make)
    }

    /// The series of a listener's connections.
    pub fn listener(&self, name: &Name) -> Arc<ListenerSeries> {
        self.listeners.resolve(name.clone(), || ListenerSeries::new(name.clone(), self.shards))
    }

    /// Requests that matched no route, or were refused before: their labels are empty.
    #[must_use]
    pub fn unmatched(&self) -> &Arc<RouteSeries> {
        &self.unmatched
    }

    /// All metrics as text, of media type [`super::CONTENT_TYPE`].
    #[must_use]
    pub fn exposition(self: &Arc<Self>) -> Vec<u8> {
        super::exposition(self)
    }

    /// Moves the windows of all versions on. Call it about once a second.
    pub fn tick(&self, now: Instant) {
        for series in self.versions.live(|_| true) {
            series.tick(now);
        }
    }

    /// Puts the facts of a new snapshot on `/metrics`.
    pub fn publish(&self, facts: Facts) {
        self.facts.store(Arc::new(facts));
    }

    /// Counts a reload.
    pub fn reloaded(&self, success: bool, now: SystemTime) {
        if success {
            self.reloads.success.fetch_add(1, Ordering::Relaxed);
            let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            self.reloads.last_success.store(seconds, Ordering::Relaxed);
        } else {
            self.reloads.failure.fetch_add(1, Ordering::Relaxed);
        }
        self.reloads.last_successful.store(u64::from(success), Ordering::Relaxed);
    }

    /// Counts access log lines that were dropped because nobody took them in time.
    pub(super) fn log_dropped(&self, lines: u64) {
        self.log_dropped.fetch_add(lines, Ordering::Relaxed);
    }
}
