//! The handles that a request counts with: one series per route of a version, one per version.
//!
//! A handle is found once, when a snapshot is compiled, and held by it; a request follows pointers from
//! there. A series without traffic is small (there may be 100,000 routes): its counters are allocated when
//! the first request comes, outside of any lock.
//!
//! What a request costs at its end is three relaxed additions on lines that only its thread writes: one to
//! the code of its route, one to its version's bucket, and one to the sum of durations. The bucket is one of
//! class × duration, so the totals by class cost no addition of their own.
//!
//! ```text
//! counters of a version, one copy per thread
//!   0        sum of durations, µs             19   upstream errors by kind
//!   1        sum of upstream durations, µs    27   drain cuts by kind
//!   2        in flight                        32   injected faults by kind
//!   3        streams open by kind             34   gRPC failures
//!   7        decisions by reason              35   connections made
//!   11       retries by reason                36   retries beyond the budget
//!                                             37   rescued requests
//!                                             38   upstream duration by bucket
//!                                             38 + n, + 2 n …   duration by bucket, class 1xx, 2xx …
//!                                             behind these      given up before the first byte, by bucket
//! ```
//!
//! Sums are whole microseconds, rounded to the nearest: nanoseconds would overflow after three weeks of
//! 10,000 requests at a time, and a float would lose small additions to a large sum.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Name;

use super::client_groups::ClientGroups;
use super::code::Codes;
use super::histogram::Edges;
use super::label::{Class, CutKind, DecisionReason, InjectedFault, Outcome, RetryReason, StreamKind, UpstreamError};
use super::last_use::{LastUse, UseTracker};
use super::registry::SeriesRegistry;
use super::sharded::Sharded;
use super::window::{Totals, Window, WindowStats};

const SUM: usize = 0;
const UPSTREAM_SUM: usize = 1;
const IN_FLIGHT: usize = 2;
const STREAMS: usize = 3;
const DECISIONS: usize = STREAMS + StreamKind::ALL.len();
const RETRIES: usize = DECISIONS + DecisionReason::ALL.len();
const ERRORS: usize = RETRIES + RetryReason::ALL.len();
const CUTS: usize = ERRORS + UpstreamError::ALL.len();
const INJECTED: usize = CUTS + CutKind::ALL.len();
const GRPC: usize = INJECTED + InjectedFault::ALL.len();
const CONNECTS: usize = GRPC + 1;
const OVERFLOWS: usize = CONNECTS + 1;
const RESCUED: usize = OVERFLOWS + 1;
const BUCKETS: usize = RESCUED + 1;

/// What one version of a service did. Obtained from [`Recorder::version`](super::Recorder::version).
#[derive(Debug)]
pub struct VersionSeries {
    service: Name,
    version: Name,
    shards: usize,
    edges: Arc<Edges>,
    counters: OnceLock<Sharded>,
    /// Only where clients have affinity keys.
    clients: OnceLock<Box<ClientGroups>>,
    routes: SeriesRegistry<Name, RouteSeries>,
    /// A tick writes and whoever asks for the last minute reads; no request comes here.
    window: Mutex<Window>,
    /// As rarely locked.
    uses: Mutex<UseTracker>,
}

impl VersionSeries {
    /// A series with everything at zero at `born`.
    pub(super) fn new(service: Name, version: Name, shards: usize, edges: Arc<Edges>, born: Instant) -> Self {
        Self {
            service,
            version,
            shards,
            edges,
            counters: OnceLock::new(),
            clients: OnceLock::new(),
            routes: SeriesRegistry::new(),
            window: Mutex::new(Window::new(born)),
            uses: Mutex::default(),
        }
    }

    /// The service's name.
    #[must_use]
    pub(crate) const fn service(&self) -> &Name {
        &self.service
    }

    /// The version's name.
    #[must_use]
    pub(crate) const fn version(&self) -> &Name {
        &self.version
    }

    /// The edges of this version's histograms.
    #[must_use]
    pub(crate) const fn edges(&self) -> &Arc<Edges> {
        &self.edges
    }

    /// The series of `route` on this version: the same one for as long as somebody holds it. It keeps this
    /// series alive. For compile time; it takes a lock.
    #[must_use]
    pub fn route(self: &Arc<Self>, route: &Name) -> Arc<RouteSeries> {
        self.routes.resolve(route.clone(), || RouteSeries {
            version: Arc::clone(self),
            route: route.clone(),
            codes: OnceLock::new(),
        })
    }

    /// A request began: it is in flight until the returned value is dropped.
    pub fn enter(self: &Arc<Self>) -> OpenGuard {
        OpenGuard::new(Arc::clone(self), IN_FLIGHT)
    }

    /// Like [`Self::enter`], for one who borrows the series all the while: it saves counting a reference that all
    /// threads share.
    pub(crate) fn enter_borrowed(&self) -> OpenGuard<&Self> {
        OpenGuard::new(self, IN_FLIGHT)
    }

    /// Like [`Self::stream`], for one who borrows the series all the while.
    pub(crate) fn stream_borrowed(&self, kind: StreamKind) -> OpenGuard<&Self> {
        OpenGuard::new(self, STREAMS + kind.index())
    }

    /// A request turned out to be a stream: it is open until the returned value is dropped. It also stays in
    /// flight.
    pub(crate) fn stream(self: &Arc<Self>, kind: StreamKind) -> OpenGuard {
        OpenGuard::new(Arc::clone(self), STREAMS + kind.index())
    }

    /// A request was given to this version for `reason`.
    #[inline]
    pub fn decided(&self, reason: DecisionReason) {
        self.counters().add(DECISIONS + reason.index(), 1);
    }

    /// An attempt of this version failed in this way; every attempt counts, also those that are repeated.
    #[inline]
    pub(crate) fn upstream_error(&self, kind: UpstreamError) {
        self.counters().add(ERRORS + kind.index(), 1);
    }

    /// An attempt was repeated for `reason`.
    #[inline]
    pub(crate) fn retried(&self, reason: RetryReason) {
        self.counters().add(RETRIES + reason.index(), 1);
    }

    /// A retry was not made because the version's budget had no room for it.
    #[inline]
    pub(crate) fn retry_overflowed(&self) {
        self.counters().add(OVERFLOWS, 1);
    }

    /// A request that failed here was answered by stable, without an error.
    #[inline]
    pub(crate) fn rescued(&self) {
        self.counters().add(RESCUED, 1);
    }

    /// So many connections were made to endpoints.
    #[inline]
    pub(crate) fn upstream_connected(&self, connections: u64) {
        if connections > 0 {
            self.counters().add(CONNECTS, connections);
        }
    }

    /// A drain cut work of this `kind`.
    #[inline]
    pub(crate) fn cut(&self, kind: CutKind) {
        self.counters().add(CUTS + kind.index(), 1);
    }

    /// A finished request, whose HTTP status is no error, has a gRPC status that blames the server.
    #[inline]
    pub(crate) fn grpc_failed(&self) {
        self.counters().add(GRPC, 1);
    }

    /// The client of a finished request went away before the first byte of the response, after `waited`.
    #[inline]
    pub(crate) fn abandoned(&self, waited: Duration) {
        self.counters().add(self.abandoned_slot(self.edges.bucket(waited)), 1);
    }

    /// A finished request came from the client whose affinity key has this hash. `failed` says whether it was an error.
    #[inline]
    pub(crate) fn of_client(&self, key: u64, failed: bool) {
        get_or_make(&self.clients, || Box::new(ClientGroups::new(self.shards))).count(key, failed);
    }

    /// Requests and errors by groups of clients; none where no client had a key.
    pub(crate) fn client_groups(&self) -> Option<Vec<(u64, u64)>> {
        self.clients.get().map(|groups| groups.totals())
    }

    /// A fault injection put this fault into a request.
    #[inline]
    pub(crate) fn fault_injected(&self, fault: InjectedFault) {
        self.counters().add(INJECTED + fault.index(), 1);
    }

    /// An endpoint sent the first byte of its response `after` the request was sent to it.
    #[inline]
    pub fn upstream_answered(&self, after: Duration) {
        let counters = self.counters();
        counters.add(BUCKETS + self.edges.bucket(after), 1);
        counters.add(UPSTREAM_SUM, micros(after));
    }

    /// Requests finished since the series is known.
    #[must_use]
    pub(crate) fn requests_total(&self) -> u64 {
        self.totals().by_class.iter().sum()
    }

    /// Requests in flight, streams included.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u64 {
        self.gauge(IN_FLIGHT)
    }

    /// Open streams of `kind`.
    #[must_use]
    pub(crate) fn streams_open(&self, kind: StreamKind) -> u64 {
        self.gauge(STREAMS + kind.index())
    }

    /// Requests given to this version for `reason`.
    #[must_use]
    pub(crate) fn decisions(&self, reason: DecisionReason) -> u64 {
        self.sum(DECISIONS + reason.index())
    }

    /// Failed attempts of `kind`.
    #[must_use]
    pub(crate) fn upstream_errors(&self, kind: UpstreamError) -> u64 {
        self.sum(ERRORS + kind.index())
    }

    /// Repeated attempts for `reason`.
    #[must_use]
    pub(crate) fn retries(&self, reason: RetryReason) -> u64 {
        self.sum(RETRIES + reason.index())
    }

    /// Retries that were not made because the budget had no room for them.
    #[must_use]
    pub(crate) fn retry_overflows(&self) -> u64 {
        self.sum(OVERFLOWS)
    }

    /// Requests that failed here and that stable answered, without an error.
    #[must_use]
    pub(crate) fn rescues(&self) -> u64 {
        self.sum(RESCUED)
    }

    /// Connections made to endpoints for requests.
    #[must_use]
    pub(crate) fn upstream_connects(&self) -> u64 {
        self.sum(CONNECTS)
    }

    /// Work of `kind` that drains cut.
    #[must_use]
    pub(crate) fn cuts(&self, kind: CutKind) -> u64 {
        self.sum(CUTS + kind.index())
    }

    /// Finished requests whose HTTP status is no error and whose gRPC status blames the server.
    #[must_use]
    pub(crate) fn grpc_failures(&self) -> u64 {
        self.sum(GRPC)
    }

    /// Finished requests whose client went away before the first byte, by the bucket of how long it waited.
    #[must_use]
    pub(crate) fn abandoned_by_bucket(&self) -> Vec<u64> {
        (0..self.edges.buckets()).map(|bucket| self.sum(self.abandoned_slot(bucket))).collect()
    }

    fn abandoned_slot(&self, bucket: usize) -> usize {
        BUCKETS + (1 + Class::COUNT) * self.edges.buckets() + bucket
    }

    /// Injected faults of this kind.
    #[must_use]
    pub(crate) fn injected_faults(&self, fault: InjectedFault) -> u64 {
        self.sum(INJECTED + fault.index())
    }

    /// When this version was in use last, as of `now`, streams included. Exact to the second: what ended between two
    /// ticks counts as having ended at the later one.
    #[must_use]
    pub(crate) fn last_use(&self, now: Instant) -> LastUse {
        let watched = self.lock_window().age(now);
        let mut uses = self.lock_uses();
        self.observe(&mut uses, now);
        uses.last(now, watched, self.in_flight())
    }

    /// What an earlier process knew: that the version was in use `idle` before `now`. The later use counts.
    pub(crate) fn remember_use(&self, idle: Duration, now: Instant) {
        self.lock_uses().remember(idle, now);
    }

    /// Notes a use if there was one since the last observation.
    fn observe(&self, uses: &mut UseTracker, now: Instant) {
        // Finished is read after what is open: a request that ends in between is seen in one of them.
        let open = self.in_flight();
        uses.observe(now, open, self.requests_total());
    }

    /// What happened in the last `span` before `now`. A minute is remembered, in steps of a second; see
    /// [`WindowStats::covered`].
    #[must_use]
    pub(crate) fn window(&self, span: Duration, now: Instant) -> WindowStats {
        // The lock first: totals that are read before it could be older than the newest copy.
        let window = self.lock_window();
        window.stats(now, span, &self.totals(), Arc::clone(&self.edges))
    }

    /// Remembers the totals as of `now`.
    pub(super) fn tick(&self, now: Instant) {
        if !self.has_traffic() {
            return;
        }
        self.observe(&mut self.lock_uses(), now);
        let mut window = self.lock_window();
        if window.is_due(now) {
            window.keep(now, &self.totals());
        }
    }

    /// Whether anything was ever counted here.
    pub(super) fn has_traffic(&self) -> bool {
        self.counters.get().is_some()
    }

    /// The routes of this version on which requests finished, in order of their names.
    pub(super) fn routes_with_traffic(&self) -> Vec<Arc<RouteSeries>> {
        let mut routes = self.routes.live(|route| route.codes.get().is_some());
        routes.sort_unstable_by(|a, b| a.route.cmp(&b.route));
        routes
    }

    /// The histogram of durations: counts by bucket and the sum in microseconds.
    pub(super) fn durations(&self) -> (Vec<u64>, u64) {
        (self.totals().buckets, self.sum(SUM))
    }

    /// The histogram of upstream durations: counts by bucket and the sum in microseconds.
    pub(super) fn upstream_durations(&self) -> (Vec<u64>, u64) {
        let buckets = (0..self.edges.buckets()).map(|bucket| self.sum(BUCKETS + bucket));
        (buckets.collect(), self.sum(UPSTREAM_SUM))
    }

    /// Finished requests by class and by bucket. Both are sums of the same counters, so they always agree.
    #[must_use]
    pub(crate) fn totals(&self) -> Totals {
        let buckets = self.edges.buckets();
        let mut totals =
            Totals { by_class: [0; Class::COUNT], buckets: vec![0; buckets], grpc_failures: self.sum(GRPC) };
        for (class, by_class) in totals.by_class.iter_mut().enumerate() {
            for (bucket, by_bucket) in totals.buckets.iter_mut().enumerate() {
                let count = self.sum(BUCKETS + (class + 1) * buckets + bucket);
                *by_class += count;
                *by_bucket += count;
            }
        }
        totals
    }

    /// So many requests of clients of one group, of which so many failed.
    #[cfg(test)]
    pub(crate) fn of_clients(&self, group: usize, requests: u64, failed: u64) {
        get_or_make(&self.clients, || Box::new(ClientGroups::new(self.shards))).count_many(group, requests, failed);
    }

    /// So many requests finished alike.
    #[cfg(test)]
    pub(crate) fn finish_many(&self, class: Class, duration: Duration, requests: u64) {
        let bucket = (class.index() + 1) * self.edges.buckets() + self.edges.bucket(duration);
        self.counters().add(BUCKETS + bucket, requests);
    }

    #[inline]
    fn finish(&self, class: Class, duration: Duration) {
        let counters = self.counters();
        let bucket = (class.index() + 1) * self.edges.buckets() + self.edges.bucket(duration);
        counters.add(BUCKETS + bucket, 1);
        counters.add(SUM, micros(duration));
    }

    #[inline]
    fn counters(&self) -> &Sharded {
        let width = || BUCKETS + (2 + Class::COUNT) * self.edges.buckets();
        get_or_make(&self.counters, || Sharded::new(self.shards, width()))
    }

    fn sum(&self, slot: usize) -> u64 {
        self.counters.get().map_or(0, |counters| counters.sum(slot))
    }

    fn gauge(&self, slot: usize) -> u64 {
        self.counters.get().map_or(0, |counters| counters.gauge(slot))
    }

    fn lock_uses(&self) -> MutexGuard<'_, UseTracker> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one route did on one version. Obtained from [`VersionSeries::route`] or
/// [`Recorder::route`](super::Recorder::route).
#[derive(Debug)]
pub struct RouteSeries {
    version: Arc<VersionSeries>,
    route: Name,
    codes: OnceLock<Box<Codes>>,
}

impl RouteSeries {
    /// The version that this route's requests went to.
    #[must_use]
    pub const fn version(&self) -> &Arc<VersionSeries> {
        &self.version
    }

    /// The route's name.
    #[must_use]
    pub(crate) const fn route(&self) -> &Name {
        &self.route
    }

    /// A request finished: the one call at its end. Three relaxed additions.
    ///
    /// `duration` is what the client saw: from the first byte of the request to the last of the response,
    /// and for upgraded connections and event streams to the first byte of the response.
    #[inline]
    pub fn finish(&self, outcome: Outcome, duration: Duration) {
        self.count(outcome);
        self.version.finish(outcome.class(), duration);
    }

    /// A request finished that says nothing about the version: it is counted by its code and not otherwise.
    #[inline]
    pub(crate) fn count(&self, outcome: Outcome) {
        get_or_make(&self.codes, || Box::new(Codes::new(self.version.shards))).count(outcome);
    }

    /// How often each code was answered: the label and the count.
    #[must_use]
    pub(crate) fn requests_by_code(&self) -> Vec<(String, u64)> {
        let totals = self.codes.get().map(|codes| codes.totals()).unwrap_or_default();
        totals.into_iter().map(|(code, count)| (code.label(), count)).collect()
    }
}

/// Something that is open on a version: a request in flight or a stream. Dropping it closes it, so a request
/// that is cancelled at any point leaves nothing behind.
#[derive(Debug)]
#[must_use = "what is dropped is no longer open"]
pub struct OpenGuard<S: Deref<Target = VersionSeries> = Arc<VersionSeries>> {
    series: S,
    slot: usize,
}

impl<S: Deref<Target = VersionSeries>> OpenGuard<S> {
    fn new(series: S, slot: usize) -> Self {
        series.counters().add(slot, 1);
        Self { series, slot }
    }
}

impl<S: Deref<Target = VersionSeries>> Drop for OpenGuard<S> {
    fn drop(&mut self) {
        self.series.counters().sub_one(self.slot);
    }
}

/// The value of `cell`; made and put there if there is none. Making it happens outside of the cell: threads
/// that come at once may each make one, and none waits for another's allocation.
#[inline]
fn get_or_make<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    match cell.get() {
        Some(value) => value,
        None => {
            let made = make();
            cell.get_or_init(|| made)
        }
    }
}

/// Whole microseconds, rounded to the nearest.
fn micros(duration: Duration) -> u64 {
    u64::try_from((duration.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
