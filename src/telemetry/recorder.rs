//! The one place that knows all series of the process.
//!
//! ```text
//! compile ── version, route, listener ──► handles ──► requests count with them
//! control ── set_facts, reload_* ───────► facts          │ sharded counters
//! ticker  ── tick ──────────────────────► windows        ▼
//!                                         exposition, weir status, the judge
//! ```
//!
//! Invariants: requests never come here, they hold handles; label values are names of the configuration or
//! words of a closed set; what nobody holds any more is not exposed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use prometheus::process_collector::ProcessCollector;

use crate::model::Name;

use super::cohort::CohortSeries;
use super::facts::{FactSource, SnapshotFacts};
use super::histogram::Edges;
use super::lane::{H2AbuseSeries, LaneSeries, Unread};
use super::listener::ListenerSeries;
use super::lookups::LookupSeries;
use super::mirror::MirrorSeries;
use super::registry::SeriesRegistry;
use super::series::{RouteSeries, VersionSeries};
use super::sharded::shards_for;

/// What a [`Recorder`] must know at its start.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Threads that carry traffic; counters have one copy for each (up to 64).
    pub threads: usize,
    /// Weir's version, for `weir_build_info`.
    pub version: &'static str,
    /// The source revision, for `weir_build_info`; `unknown` where the build does not know.
    pub revision: &'static str,
    /// When the process started.
    pub started: Instant,
}

/// All counters, gauges and histograms of the process. One per process, shared.
pub struct Recorder {
    options: RecorderOptions,
    standard_edges: Arc<Edges>,
    versions: SeriesRegistry<(Name, Name), VersionSeries>,
    cohorts: SeriesRegistry<[Name; 3], CohortSeries>,
    mirrors: SeriesRegistry<(Name, Name), MirrorSeries>,
    listeners: SeriesRegistry<Name, ListenerSeries>,
    lanes: LaneSeries,
    unread: Unread,
    h2_abuse: H2AbuseSeries,
    lookups: LookupSeries,
    unmatched: Arc<RouteSeries>,
    facts: ArcSwap<Box<dyn FactSource>>,
    reloads: Reloads,
    certificates: CertificateCounters,
    lines_dropped: Arc<AtomicU64>,
    /// The log is there before the recorder, so that it counts itself.
    log_dropped: OnceLock<Arc<AtomicU64>>,
    /// Only tick and the resolving of new versions come here.
    last_tick: Mutex<Instant>,
    process: ProcessCollector,
}

/// How reloads of the configuration went.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) succeeded: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) last_succeeded: AtomicBool,
    /// Milliseconds since the Unix epoch; 0 before the first.
    pub(super) last_success_ms: AtomicU64,
}

/// How it went with listeners' certificates.
#[derive(Debug, Default)]
pub(super) struct CertificateCounters {
    pub(super) replaced: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) faulty: AtomicU64,
}

impl Recorder {
    /// A recorder with nothing counted.
    #[must_use]
    pub fn new(options: RecorderOptions) -> Arc<Self> {
        let standard_edges = Arc::new(Edges::standard());
        let versions = SeriesRegistry::new();
        let nobody = || Name::from("");
        let (shards, started) = (shards_for(options.threads), options.started);
        let unmatched = versions.resolve((nobody(), nobody()), || {
            VersionSeries::new(nobody(), nobody(), shards, Arc::clone(&standard_edges), started)
        });
        Arc::new(Self {
            standard_edges,
            unmatched: unmatched.route(&nobody()),
            versions,
            cohorts: SeriesRegistry::new(),
            mirrors: SeriesRegistry::new(),
            listeners: SeriesRegistry::new(),
            lanes: LaneSeries::new(shards),
            unread: Unread::default(),
            h2_abuse: H2AbuseSeries::default(),
            lookups: LookupSeries::default(),
            facts: ArcSwap::from_pointee(Box::new(SnapshotFacts::default())),
            reloads: Reloads::default(),
            certificates: CertificateCounters::default(),
            lines_dropped: Arc::default(),
            log_dropped: OnceLock::new(),
            last_tick: Mutex::new(started),
            process: ProcessCollector::for_self(),
            options,
        })
    }

    /// The series of a version: the same one for as long as somebody holds it or one of its routes. For
    /// compile time; it takes a lock.
    #[must_use]
    pub fn version(&self, service: &Name, version: &Name) -> Arc<VersionSeries> {
        self.version_with(service, version, &[])
    }

    /// Like [`Self::version`], with `limits` as edges of its histograms beside the standard ones, so that
    /// "slower than the limit" is counted exactly. A series that exists keeps the edges that it has: give all
    /// versions of a service the same limits.
    #[must_use]
    pub(crate) fn version_with(&self, service: &Name, version: &Name, limits: &[Duration]) -> Arc<VersionSeries> {
        let born = *self.last_tick.lock().unwrap_or_else(PoisonError::into_inner);
        self.versions.resolve((service.clone(), version.clone()), || {
            let edges = if limits.is_empty() { Arc::clone(&self.standard_edges) } else { Edges::with(limits).into() };
            VersionSeries::new(service.clone(), version.clone(), self.shards(), edges, born)
        })
    }

    /// The series of a route on a version: the same one for as long as somebody holds it. For compile time;
    /// who resolves many routes of a version uses [`VersionSeries::route`].
    #[must_use]
    pub(crate) fn route(&self, service: &Name, version: &Name, route: &Name) -> Arc<RouteSeries> {
        self.version(service, version).route(route)
    }

    /// The series of a cohort on a version of its service: the same one for as long as somebody holds it.
    #[must_use]
    pub(crate) fn cohort(&self, service: &Name, cohort: &Name, version: &Name) -> Arc<CohortSeries> {
        let labels = [service, cohort, version].map(Name::clone);
        self.cohorts.resolve(labels.clone(), || CohortSeries::new(labels, self.shards()))
    }

    /// The series of a version that gets copies of its service's requests: the same one for as long as somebody holds it.
    #[must_use]
    pub(crate) fn mirror(&self, service: &Name, version: &Name) -> Arc<MirrorSeries> {
        let names = (service.clone(), version.clone());
        self.mirrors.resolve(names.clone(), || MirrorSeries::new(names))
    }

    /// The series of a listener: the same one for as long as somebody holds it.
    #[must_use]
    pub(crate) fn listener(&self, listener: &Name) -> Arc<ListenerSeries> {
        self.listeners.resolve(listener.clone(), || ListenerSeries::new(listener.clone(), self.shards()))
    }

    /// What the lanes of the data plane carry.
    #[must_use]
    pub(crate) const fn lanes(&self) -> &LaneSeries {
        &self.lanes
    }

    /// What is held for clients that do not read.
    #[must_use]
    pub(crate) const fn unread(&self) -> &Unread {
        &self.unread
    }

    /// HTTP/2 connections that were ended for what their clients did.
    #[must_use]
    pub(crate) const fn h2_abuse(&self) -> &H2AbuseSeries {
        &self.h2_abuse
    }

    /// Lookups of DNS names.
    #[must_use]
    pub(crate) const fn lookups(&self) -> &LookupSeries {
        &self.lookups
    }

    /// The series of requests that no version was chosen for: refused by request validation or matched by no route.
    /// Its service, version and route are empty.
    #[must_use]
    pub(crate) const fn unmatched(&self) -> &Arc<RouteSeries> {
        &self.unmatched
    }

    /// Remembers every version's totals as of `now`. To be called once a second; a late or missed call makes
    /// windows longer, not wrong.
    pub fn tick(&self, now: Instant) {
        {
            let mut last = self.last_tick.lock().unwrap_or_else(PoisonError::into_inner);
            *last = now.max(*last);
        }
        for version in self.versions.live(VersionSeries::has_traffic) {
            version.tick(now);
        }
    }

    /// Says who is asked, at each scrape, what the snapshot says about itself.
    pub(crate) fn set_facts(&self, source: impl FactSource + 'static) {
        self.facts.store(Arc::new(Box::new(source)));
    }

    /// The configuration of the start is in effect. It counts as the last success and not as a reload.
    pub(crate) fn config_loaded(&self, at: SystemTime) {
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        self.reloads.last_success_ms.store(millis, Ordering::Relaxed);
        self.reloads.last_succeeded.store(true, Ordering::Relaxed);
    }

    /// A reload took effect, or found that what is in effect is current.
    pub(crate) fn reload_succeeded(&self, at: SystemTime) {
        self.config_loaded(at);
        self.reloads.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// A reload was refused; what was in effect stays.
    pub(crate) fn reload_failed(&self) {
        self.reloads.last_succeeded.store(false, Ordering::Relaxed);
        self.reloads.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Certificates were read again: those of `replaced` listeners are new, and `failed` files turned out not to be
    /// usable.
    pub(crate) fn certificates_reloaded(&self, replaced: usize, failed: usize) {
        self.certificates.replaced.fetch_add(replaced as u64, Ordering::Relaxed);
        self.certificates.failed.fetch_add(failed as u64, Ordering::Relaxed);
    }

    /// So many certificates and authorities cannot be used, or are out of their time, as of now.
    pub(crate) fn certificates_faulty(&self, faulty: usize) {
        self.certificates.faulty.store(faulty as u64, Ordering::Relaxed);
    }

    pub(super) const fn certificates(&self) -> &CertificateCounters {
        &self.certificates
    }

    /// Shows this count of log messages that were dropped; the first one that is given stays.
    pub(crate) fn count_log_drops(&self, dropped: Arc<AtomicU64>) {
        let _ = self.log_dropped.set(dropped);
    }

    /// Log messages that were dropped.
    pub(super) fn log_drops(&self) -> u64 {
        self.log_dropped.get().map_or(0, |dropped| dropped.load(Ordering::Relaxed))
    }

    /// The counter of access log lines that were dropped, to be given to the log.
    #[must_use]
    pub(crate) fn lines_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lines_dropped)
    }

    /// All versions that somebody holds, in order of their names.
    pub(super) fn live_versions(&self) -> Vec<Arc<VersionSeries>> {
        let mut versions = self.versions.live(|_| true);
        versions.sort_unstable_by(|a, b| (a.service(), a.version()).cmp(&(b.service(), b.version())));
        versions
    }

    /// All cohorts that somebody holds, in order of their names.
    pub(super) fn live_cohorts(&self) -> Vec<Arc<CohortSeries>> {
        let mut cohorts = self.cohorts.live(|_| true);
        cohorts.sort_unstable_by(|a, b| a.labels().cmp(&b.labels()));
        cohorts
    }

    /// All versions that get copies, in order of their names.
    pub(super) fn live_mirrors(&self) -> Vec<Arc<MirrorSeries>> {
        let mut mirrors = self.mirrors.live(|_| true);
        mirrors.sort_unstable_by(|a, b| a.labels().cmp(&b.labels()));
        mirrors
    }

    /// All listeners that somebody holds, in order of their names.
    pub(super) fn live_listeners(&self) -> Vec<Arc<ListenerSeries>> {
        let mut listeners = self.listeners.live(|_| true);
        listeners.sort_unstable_by(|a, b| a.listener().cmp(b.listener()));
        listeners
    }

    pub(super) fn facts(&self) -> SnapshotFacts {
        self.facts.load().facts().in_order()
    }

    pub(super) const fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    pub(super) const fn options(&self) -> &RecorderOptions {
        &self.options
    }

    pub(super) const fn process(&self) -> &ProcessCollector {
        &self.process
    }

    fn shards(&self) -> usize {
        shards_for(self.options.threads)
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::label::Outcome;

    const MS: Duration = Duration::from_millis(1);

    fn recorder() -> Arc<Recorder> {
        Recorder::new(RecorderOptions { threads: 2, version: "1.2.3", revision: "abc", started: Instant::now() })
    }

    #[test]
    fn a_series_keeps_its_counts_while_anything_of_it_is_held() {
        let recorder = recorder();
        let names: [Name; 3] = ["shop".into(), "v1".into(), "checkout".into()];
        let [service, version, route] = &names;
        let held = recorder.route(service, version, route);
        held.finish(Outcome::Status(200), MS);
        // A reload: the new snapshot resolves before the old one goes.
        let next = recorder.route(service, version, route);
        assert!(Arc::ptr_eq(&held, &next));
        drop(held);
        assert_eq!(next.version().requests_total(), 1);
        assert_eq!(recorder.live_versions().len(), 2, "the version and the unmatched");
        drop(next);
        assert_eq!(recorder.live_versions().len(), 1);
        assert_eq!(recorder.route(service, version, route).version().requests_total(), 0);
    }

    #[test]
    fn limits_become_edges_of_a_new_series_and_leave_an_old_one_alone() {
        let recorder = recorder();
        let with = recorder.version_with(&"a".into(), &"v".into(), &[250 * MS]);
        assert!(with.edges().seconds().any(|edge| edge == 0.25));
        assert!(Arc::ptr_eq(&with, &recorder.version(&"a".into(), &"v".into())));
        assert!(recorder.version(&"b".into(), &"v".into()).edges().seconds().all(|edge| edge != 0.25));
    }

    #[test]
    fn a_tick_reaches_every_version_and_a_late_born_one_is_not_older_than_it_is() {
        let started = Instant::now();
        let recorder = Recorder::new(RecorderOptions { threads: 1, version: "", revision: "", started });
        let at = |seconds| started + Duration::from_secs(seconds);
        (1..=100).for_each(|second| recorder.tick(at(second)));
        recorder.tick(at(50)); // time that goes back is ignored
        let route = recorder.route(&"s".into(), &"v".into(), &"r".into());
        route.finish(Outcome::Status(200), MS);
        recorder.tick(at(101));
        route.finish(Outcome::Status(200), MS);
        let stats = route.version().window(Duration::from_secs(60), at(102));
        assert_eq!((stats.requests(), stats.covered), (2, Duration::from_secs(2)));
        let stats = route.version().window(Duration::from_secs(1), at(102));
        assert_eq!((stats.requests(), stats.covered), (1, Duration::from_secs(1)));
    }
}
