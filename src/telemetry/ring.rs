//! Samples of counters that only grow: what happened in a window is the counters now minus the sample from its
//! beginning.
//!
//! Samples are totals rather than differences, so a late tick, a missed one or a stalled machine makes a window longer
//! than was asked but never wrong: no request is counted twice or lost.
//!
//! Invariant: at most as many samples as the ring has room for; time is a parameter.

use std::collections::VecDeque;
use std::time::Duration;

/// The newest samples, each with its moment: the time since one that is fixed for the ring.
#[derive(Clone, Debug)]
pub struct SampleRing<T> {
    capacity: usize,
    min_gap: Duration,
    samples: VecDeque<(Duration, T)>,
}

impl<T> SampleRing<T> {
    /// A ring with room for `capacity` samples. What would follow another sooner than `min_gap` is not due, so that a
    /// burst of late ticks cannot push the oldest out.
    #[must_use]
    pub const fn new(capacity: usize, min_gap: Duration) -> Self {
        Self { capacity, min_gap, samples: VecDeque::new() }
    }

    /// Whether `now` is far enough from the last sample that another is worth keeping.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        self.samples.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= self.min_gap)
    }

    /// Keeps a sample as of `now`. `make` gets the oldest one if there is no more room, to use its memory again.
    pub fn push(&mut self, now: Duration, make: impl FnOnce(Option<T>) -> T) {
        let oldest = if self.is_full() { self.samples.pop_front() } else { None };
        self.samples.push_back((now, make(oldest.map(|(_, sample)| sample))));
    }

    /// The newest sample that was taken at `moment` or before.
    #[must_use]
    pub fn at(&self, moment: Duration) -> Option<&(Duration, T)> {
        let after = self.samples.partition_point(|(at, _)| *at <= moment);
        self.samples.get(after.checked_sub(1)?)
    }

    /// The oldest sample that is kept.
    #[must_use]
    pub fn oldest(&self) -> Option<&(Duration, T)> {
        self.samples.front()
    }

    /// How many samples are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// Whether the next sample pushes the oldest out.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.samples.len() >= self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_newest_samples_are_kept_and_the_oldest_is_used_again() {
        let mut ring = SampleRing::new(3, SECOND);
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
