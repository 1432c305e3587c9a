//! A version's retries under way, across snapshots: what its budget is counted on.

use std::sync::atomic::{AtomicU64, Ordering};

/// The retries of one version that are under way now. Handed to each snapshot that has the version.
///
/// Invariant: there are never more than the limit that each of them was admitted with, however many threads ask.
#[derive(Debug, Default)]
pub(crate) struct RetryCount(AtomicU64);

impl RetryCount {
    /// How many are under way.
    #[must_use]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Admits one more, if there are fewer than `most`; whoever is admitted leaves once.
    #[must_use]
    pub(crate) fn try_enter(&self, most: u64) -> bool {
        let one_more = |now| (now < most).then_some(now + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// One of them is over.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_admitted_however_many_ask() {
        let (count, most_seen) = (RetryCount::default(), AtomicU64::new(0));
        let work = || {
            let mut entered = 0_u64;
            for _ in 0..20_000 {
                if count.try_enter(2) {
                    entered += 1;
                    most_seen.fetch_max(count.now(), Ordering::Relaxed);
                    count.leave();
                }
            }
            entered
        };
        let entered: u64 = std::thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work), scope.spawn(work), scope.spawn(work)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(entered > 0 && most_seen.into_inner() <= 2);
        assert_eq!(count.now(), 0);
        assert!(!count.try_enter(0));
    }
}
