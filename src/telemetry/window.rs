//! The last minute of one version: how many requests, how many of each class, how long they took.
//!
//! The counters themselves only ever grow. Once a second a copy of the totals goes to a [`SampleRing`], and what happened
//! in a window is the totals now minus the copy from its beginning ([`WindowStats::covered`] says when that was).
//!
//! Copies hold the low 32 bits of each total. Their difference is exact as long as fewer than 2³² requests
//! of one class or bucket fall into a window.
//!
//! Invariants: at most [`KEPT`] copies; time is a parameter; a request never touches this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::histogram::Edges;
use super::label::Class;
use crate::algorithm::ring::SampleRing;

/// Copies of the totals that are kept: a minute of seconds and some for ticks that come a little early.
const KEPT: usize = 66;

/// A tick that follows another sooner than this, in milliseconds, is left out.
const MIN_GAP_MS: u64 = 950;

/// What a version's counters say at one moment: everything since the series began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Finished requests by class, in the order of [`Class`].
    pub(crate) by_class: [u64; Class::COUNT],
    /// Finished requests by bucket of their duration.
    pub(crate) buckets: Vec<u64>,
    /// Those of them whose HTTP status is no error and whose gRPC status blames the server.
    pub(crate) grpc_failures: u64,
}

/// Totals of the last minute, about one copy per second.
#[derive(Debug)]
pub(super) struct Window {
    /// When every total was zero.
    born: Instant,
    /// By class, then by bucket, then gRPC failures; low 32 bits.
    copies: SampleRing<Box<[u32]>, KEPT, MIN_GAP_MS>,
}

impl Window {
    /// The window of a version whose totals were all zero at `born`.
    pub(super) const fn new(born: Instant) -> Self {
        Self { born, copies: SampleRing::new() }
    }

    /// Whether `now` is far enough from the last copy that another is worth keeping.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.copies.is_due(self.age(now))
    }

    /// Keeps a copy of `totals` as they are `now`.
    pub(super) fn keep(&mut self, now: Instant, totals: &Totals) {
        let low =
            totals.by_class.iter().chain(&totals.buckets).chain([&totals.grpc_failures]).map(|total| low_bits(*total));
        self.copies.push(self.age(now), |oldest| match oldest {
            // In the long run a tick does not allocate.
            Some(mut copy) => {
                copy.iter_mut().zip(low).for_each(|(slot, total)| *slot = total);
                copy
            }
            None => low.collect(),
        });
    }

    /// What happened in the last `span` before `now`, given that the totals are `totals` now.
    pub(super) fn stats(&self, now: Instant, span: Duration, totals: &Totals, edges: Arc<Edges>) -> WindowStats {
        let now = self.age(now);
        // The newest copy that is not inside the window; without one, the oldest there is, unless nothing was
        // forgotten yet: then the window reaches back to the birth, when all totals were zero.
        let outside = now.checked_sub(span).and_then(|begin| self.copies.at(begin));
        let base = outside.or_else(|| self.copies.oldest().filter(|_| self.copies.is_full()));
        let since = |at: usize, total: u64| match base {
            Some((_, copy)) => u64::from(low_bits(total).wrapping_sub(copy.get(at).copied().unwrap_or_default())),
            None => total,
        };
        let mut by_class = totals.by_class;
        by_class.iter_mut().enumerate().for_each(|(at, total)| *total = since(at, *total));
        let buckets = totals.buckets.iter().enumerate().map(|(at, total)| since(by_class.len() + at, *total));
        WindowStats {
            covered: now.saturating_sub(base.map_or(Duration::ZERO, |(at, _)| *at)),
            by_class,
            buckets: buckets.collect(),
            grpc_failures: since(by_class.len() + totals.buckets.len(), totals.grpc_failures),
            edges,
        }
    }

    /// How long it has been watched.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
const fn low_bits(total: u64) -> u32 {
    total as u32
}

/// What happened to one version's requests in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowStats {
    /// The time that these numbers are about. It may be longer than was asked (to the next whole tick, or to
    /// the last tick before a stall), and shorter where the version or the memory of it is younger.
    pub(crate) covered: Duration,
    /// Finished requests by class, in the order of [`Class`].
    pub(crate) by_class: [u64; Class::COUNT],
    /// Finished requests by bucket of their duration; see [`Self::edges`].
    pub(crate) buckets: Vec<u64>,
    /// Finished requests whose HTTP status is no error and whose gRPC status blames the server.
    pub(crate) grpc_failures: u64,
    /// The edges of the buckets.
    pub(crate) edges: Arc<Edges>,
}

impl WindowStats {
    /// Finished requests.
    #[must_use]
    pub(crate) fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Finished requests of one class.
    #[must_use]
    pub(crate) fn of_class(&self, class: Class) -> u64 {
        self.by_class.get(class.index()).copied().unwrap_or_default()
    }

    /// Finished requests per second; 0 where no time has passed.
    #[must_use]
    pub(crate) fn requests_per_second(&self) -> f64 {
        let seconds = self.covered.as_secs_f64();
        if seconds > 0.0 { self.requests() as f64 / seconds } else { 0.0 }
    }

    /// The share (0 to 1) of errors among the responses, or `None` without responses: 5xx, and gRPC failures under a status
    /// that is none. A request whose client went away had no response and says nothing about the version.
    #[must_use]
    pub(crate) fn error_ratio(&self) -> Option<f64> {
        let responses = self.requests().saturating_sub(self.of_class(Class::ClientClosed));
        let server_errors = self.of_class(Class::ServerError);
        // A client may have gone away from a response whose gRPC status was read already.
        let bad = server_errors + self.grpc_failures.min(responses.saturating_sub(server_errors));
        (responses > 0).then(|| bad as f64 / responses as f64)
    }

    /// The duration below which a share `q` (0 to 1) of the requests lay, or `None` without requests.
    /// Interpolated as [`Edges::quantile`] says.
    #[must_use]
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        self.edges.quantile(&self.buckets, q)
    }
}

#[cfg(test)]
mod tests;
