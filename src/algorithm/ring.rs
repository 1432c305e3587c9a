//! Samples of counters that only grow: what happened in a window is the counters now minus the sample from its
//! beginning.
//!
//! Samples are totals rather than differences, so a late tick, a missed one or a stalled machine makes a window longer
//! than was asked but never wrong: no request is counted twice or lost.
//!
//! Invariant: at most as many samples as the ring has room for; time is a parameter.

use std::collections::VecDeque;
use std::time::Duration;

/// The newest `CAPACITY` samples, each with its moment: the time since one that is fixed for the ring.
///
/// What would follow another sooner than `MIN_GAP_MS` milliseconds is not due, so that a burst of late ticks cannot push
/// the oldest out. Both belong to the type because there may be a ring for each of 10,000 versions.
#[derive(Clone, Debug)]
pub(crate) struct SampleRing<T, const CAPACITY: usize, const MIN_GAP_MS: u64>(VecDeque<(Duration, T)>);

impl<T, const CAPACITY: usize, const MIN_GAP_MS: u64> Default for SampleRing<T, CAPACITY, MIN_GAP_MS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const CAPACITY: usize, const MIN_GAP_MS: u64> SampleRing<T, CAPACITY, MIN_GAP_MS> {
    /// A ring without samples.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Whether `now` is far enough from the last sample that another is worth keeping.
    #[must_use]
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.0.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= Duration::from_millis(MIN_GAP_MS))
    }

    /// Keeps a sample as of `now`. `make` gets the oldest one if there is no more room, to use its memory again.
    pub(crate) fn push(&mut self, now: Duration, make: impl FnOnce(Option<T>) -> T) {
        let oldest = if self.is_full() { self.0.pop_front() } else { None };
        self.0.push_back((now, make(oldest.map(|(_, sample)| sample))));
    }

    /// The newest sample that was taken at `moment` or before.
    #[must_use]
    pub(crate) fn at(&self, moment: Duration) -> Option<&(Duration, T)> {
        let after = self.0.partition_point(|(at, _)| *at <= moment);
        self.0.get(after.checked_sub(1)?)
    }

    /// The oldest sample that is kept.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<&(Duration, T)> {
        self.0.front()
    }

    /// How many samples are kept.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the next sample pushes the oldest out.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_newest_samples_are_kept_and_the_oldest_is_used_again() {
        let mut ring = SampleRing::<u32, 3, 1_000>::new();
        assert!(ring.is_due(Duration::ZERO) && ring.oldest().is_none() && ring.at(SECOND).is_none());
        for second in 1..=5_u32 {
            ring.push(second * SECOND, |oldest| oldest.map_or(0, |count| count + 1));
        }
        assert_eq!((ring.oldest(), ring.is_full()), (Some(&(3 * SECOND, 0)), true));
        assert_eq!(
            [2, 3, 4, 9].map(|at| ring.at(at * SECOND).map(|(_, count)| *count)),
            [None, Some(0), Some(1), Some(1)]
        );
        assert!(!ring.is_due(5 * SECOND) && ring.is_due(6 * SECOND));
    }
}
