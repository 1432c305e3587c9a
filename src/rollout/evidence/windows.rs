//! Totals of both versions, as far back as checks look: up to an hour.
//!
//! ```text
//! begin ······ one copy per 30 s, the last hour ······ one copy per second, the last two minutes ── now
//! ```
//!
//! So a window up to two minutes is exact to a second, a longer one to 30 s; it is then longer than was asked, and
//! [`Sample::covered`](super::Sample::covered) says so. Copies are totals, not differences: a late or missed tick makes
//! a window longer, never wrong.
//!
//! Invariants: at most [`MAX_FINE`] + [`MAX_COARSE`] copies, and one of the beginning.

use std::sync::Arc;
use std::time::Duration;

use super::sample::Samples;
use crate::algorithm::ring::SampleRing;

/// Copies a second apart.
const MAX_FINE: usize = 122;
/// Copies [`COARSE_INTERVAL_MS`] apart: an hour, and one to reach back to.
const MAX_COARSE: usize = 122;
const COARSE_INTERVAL_MS: u64 = 30_000;
/// A tick sooner than this after another is left out, so that a burst of late ones cannot push two minutes out.
const FINE_INTERVAL_MS: u64 = 900;

/// Copies of the totals.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    fine: SampleRing<Arc<Samples>, MAX_FINE, FINE_INTERVAL_MS>,
    coarse: SampleRing<Arc<Samples>, MAX_COARSE, COARSE_INTERVAL_MS>,
}

impl Windows {
    /// Remembers the totals as of `now`, if that is long enough after the last.
    pub(super) fn record(&mut self, now: Duration, totals: &Samples) {
        let coarse = self.coarse.is_due(now);
        if !coarse && !self.fine.is_due(now) {
            return;
        }
        let copy = Arc::new(totals.clone());
        if coarse {
            self.coarse.push(now, |_| Arc::clone(&copy));
        }
        self.fine.push(now, |_| copy);
    }

    /// The totals at `begin` or the last before it, with their moment; the oldest where there are none so old.
    pub(super) fn at(&self, begin: Duration) -> Option<(&Duration, &Samples)> {
        let found = self.fine.at(begin).or_else(|| self.coarse.at(begin)).or_else(|| self.coarse.oldest());
        found.map(|(at, samples)| (at, &**samples))
    }
}
