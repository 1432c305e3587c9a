//! The counters of one version, one route and one listener: what a request writes, and how it is read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::code::Codes;
use super::histogram::Edges;
use super::label::{Class, ConnectionRefusal, CutKind, DecisionReason, Outcome, RetryReason, StreamKind, UpstreamError};
use super::sharded::Sharded;
use super::window::{Totals, Window, WindowStats};
use crate::model::Name;

/// Requests of one route to one version, by code.
#[derive(Debug)]
pub struct RouteSeries {
    pub(super) service: Name,
    pub(super) version: Name,
    pub(super) route: Name,
    pub(super) codes: Codes,
}

impl RouteSeries {
    pub(super) fn new(service: Name, version: Name, route: Name, shards: usize) -> Self {
        Self { service, version, route, codes: Codes::new(shards) }
    }

    /// Counts a finished request.
    pub fn finished(&self, outcome: Outcome) {
        self.codes.count(outcome);
    }
}

/// Slots of the rare events of a version, one after the other.
mod rare {
    use super::{CutKind, DecisionReason, RetryReason, StreamKind, UpstreamError};

    pub(super) const STREAMS: usize = 0;
    pub(super) const ERRORS: usize = STREAMS + StreamKind::ALL.len();
    pub(super) const RETRIES: usize = ERRORS + UpstreamError::ALL.len();
    pub(super) const CUTS: usize = RETRIES + RetryReason::ALL.len();
    pub(super) const DECISIONS: usize = CUTS + CutKind::ALL.len();
    pub(super) const IN_FLIGHT: usize = DECISIONS + DecisionReason::ALL.len();
    pub(super) const WIDTH: usize = IN_FLIGHT + 1;
}

/// Everything that is counted of one version. Writing is a few relaxed additions on the thread's own lines.
#[derive(Debug)]
pub struct VersionSeries {
    pub(super) service: Name,
    pub(super) version: Name,
    pub(super) edges: Arc<Edges>,
    events: Sharded,
    /// Classes, then the buckets of the request duration, then its sum in microseconds.
    requests: Sharded,
    /// The buckets of the upstream duration, then its sum in microseconds.
    upstream: Sharded,
    /// Written by the ticking task and read by people, never by a request.
    window: Mutex<Window>,
}

impl VersionSeries {
    pub(super) fn new(service: Name, version: Name, shards: usize, born: Instant) -> Self {
        let edges = Arc::new(Edges::standard());
        let buckets = edges.buckets();
        Self {
            service,
            version,
            edges,
            events: Sharded::new(shards, rare::WIDTH),
            requests: Sharded::new(shards, Class::ALL.len() + buckets + 1),
            upstream: Sharded::new(shards, buckets + 1),
            window: Mutex::new(Window::new(born)),
        }
    }

    /// A request goes to this version, for `reason`; it is in flight until [`VersionSeries::finished`].
    pub fn entered(&self, reason: DecisionReason) {
        self.events.add(rare::DECISIONS + reason.index(), 1);
        self.events.add(rare::IN_FLIGHT, 1);
    }

    /// A request is over, `duration` after it came.
    pub fn finished(&self, outcome: Outcome, duration: Duration) {
        let buckets = Class::ALL.len();
        self.requests.add(outcome.class().index(), 1);
        self.requests.add(buckets + self.edges.bucket(duration), 1);
        self.requests.add(buckets + self.edges.buckets(), micros(duration));
        self.events.sub_one(rare::IN_FLIGHT);
    }

    /// An endpoint sent its first byte, `duration` after it was asked.
    pub fn upstream(&self, duration: Duration) {
        self.upstream.add(self.edges.bucket(duration), 1);
        self.upstream.add(self.edges.buckets(), micros(duration));
    }

    /// A request became a stream, until [`VersionSeries::stream_closed`].
    pub fn stream_opened(&self, kind: StreamKind) {
        self.events.add(rare::STREAMS + kind.index(), 1);
    }

    /// A stream is over.
    pub fn stream_closed(&self, kind: StreamKind) {
        self.events.sub_one(rare::STREAMS + kind.index());
    }

    /// An attempt failed.
    pub fn upstream_error(&self, kind: UpstreamError) {
        self.events.add(rare::ERRORS + kind.index(), 1);
    }

    /// An attempt is repeated.
    pub fn retried(&self, reason: RetryReason) {
        self.events.add(rare::RETRIES + reason.index(), 1);
    }

    /// A drain, or the end of the process, cut a request or stream.
    pub fn cut(&self, kind: CutKind) {
        self.events.add(rare::CUTS + kind.index(), 1);
    }

    /// Requests in flight, streams included.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.events.gauge(rare::IN_FLIGHT)
    }

    /// Open streams of one kind.
    #[must_use]
    pub fn streams_open(&self, kind: StreamKind) -> u64 {
        self.events.gauge(rare::STREAMS + kind.index())
    }

    /// Attempts that failed.
    #[must_use]
    pub fn upstream_errors(&self, kind: UpstreamError) -> u64 {
        self.events.sum(rare::ERRORS + kind.index())
    }

    /// Attempts that were repeated.
    #[must_use]
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.events.sum(rare::RETRIES + reason.index())
    }

    /// Requests by why they went here.
    #[must_use]
    pub fn decisions(&self, reason: DecisionReason) -> u64 {
        self.events.sum(rare::DECISIONS + reason.index())
    }

    /// What drains cut.
    #[must_use]
    pub fn cuts(&self, kind: CutKind) -> u64 {
        self.events.sum(rare::CUTS + kind.index())
    }

    /// Requests finished.
    #[must_use]
    pub fn requests_total(&self) -> u64 {
        Class::ALL.iter().map(|class| self.requests.sum(class.index())).sum()
    }

    /// What happened in the last `span` before `now`.
    #[must_use]
    pub fn window(&self, span: Duration, now: Instant) -> WindowStats {
        let totals = self.totals();
        self.window.lock().unwrap_or_else(PoisonError::into_inner).stats(now, span, &totals, Arc::clone(&self.edges))
    }

    pub(super) fn tick(&self, now: Instant) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.is_due(now) {
            window.keep(now, &self.totals());
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        totals.by_class.iter_mut().enumerate().for_each(|(at, total)| *total = self.requests.sum(at));
        totals.buckets = self.request_buckets().0;
        totals
    }

    /// Counts by bucket, and the sum in seconds.
    pub(super) fn request_buckets(&self) -> (Vec<u64>, f64) {
        let first = Class::ALL.len();
        let buckets = (0..self.edges.buckets()).map(|at| self.requests.sum(first + at)).collect();
        (buckets, seconds(self.requests.sum(first + self.edges.buckets())))
    }

    /// Counts by bucket, and the sum in seconds.
    pub(super) fn upstream_buckets(&self) -> (Vec<u64>, f64) {
        let buckets = (0..self.edges.buckets()).map(|at| self.upstream.sum(at)).collect();
        (buckets, seconds(self.upstream.sum(self.edges.buckets())))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a sum of seconds on a metric needs no more than 53 bits")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// The connections of one listener.
#[derive(Debug)]
pub struct ListenerSeries {
    pub(super) name: Name,
    counts: Sharded,
}

const OPEN: usize = 0;
const REFUSED: usize = 1;

impl ListenerSeries {
    pub(super) fn new(name: Name, shards: usize) -> Self {
        Self { name, counts: Sharded::new(shards, REFUSED + ConnectionRefusal::ALL.len()) }
    }

    /// A connection was accepted; it is open until [`ListenerSeries::closed`].
    pub fn opened(&self) {
        self.counts.add(OPEN, 1);
    }

    /// A connection is closed.
    pub fn closed(&self) {
        self.counts.sub_one(OPEN);
    }

    /// A connection was closed before it carried a request.
    pub fn refused(&self, why: ConnectionRefusal) {
        self.counts.add(REFUSED + why.index(), 1);
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.gauge(OPEN)
    }

    /// Connections refused.
    #[must_use]
    pub fn refusals(&self, why: ConnectionRefusal) -> u64 {
        self.counts.sum(REFUSED + why.index())
    }
}
