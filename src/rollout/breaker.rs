//! The count behind a canary's trip wire: so many of its errors in a row, or so many within a time, seen by the very
//! request that is one too many.
//!
//! The judge runs every few seconds; a canary that fails every request would hurt hundreds of users until then. So
//! the data path itself counts, and the request that sees the breaker trip sends all traffic back to stable.
//!
//! ```text
//! success ─► streak = 0 (only if it is not)
//! error ───► streak + 1 ≥ n?  ─┐
//!       └──► ring[i mod n] = (i, now); is the error n − 1 before, or after, this one close enough? ─► tripped, once
//! ```
//!
//! The ring holds the last n errors, each with its position in the order in which errors came, so that a slot that
//! was not written yet differs from one that was. n errors within a time are a pair, n − 1 positions apart, whose
//! times lie close together. Each writer looks for both pairs it is part of, after it wrote: whoever of a pair
//! writes last sees the other (both are sequentially consistent), so no pair goes unseen, however threads interleave.
//! Only if a thread sleeps between taking its position and writing while n others pass can a time be overwritten by
//! an older one; then the breaker may trip one error later. And a request is as old as its caller says: one that
//! reports its error long after it read the clock counts for that moment.
//!
//! Invariants: nothing waits, nothing is allocated after creation; a success costs one load while there is no
//! streak; it trips at most once.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The most errors that [`ErrorCounter::new`] keeps the times of.
pub(crate) const MAX_WITHIN: u32 = 1_024;

/// Bits of a slot that hold a time in milliseconds: 34 years.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Counts the errors of one canary and says when they are too many. Shared by all threads.
#[derive(Debug)]
pub(crate) struct ErrorCounter {
    tripped: AtomicBool,
    in_a_row: Option<u32>,
    /// Errors since the last success. Counted only if `in_a_row` asks for it.
    streak: AtomicU32,
    within: Option<RecentErrors>,
}

/// The last errors and their times.
#[derive(Debug)]
struct RecentErrors {
    within_ms: u64,
    /// The position of the next error.
    next: AtomicU64,
    /// At least one. Position plus one in the upper bits, milliseconds in the lower; zero is empty.
    slots: Box<[AtomicU64]>,
}

impl ErrorCounter {
    /// A breaker that trips at `in_a_row` errors without a success between them, or at `within.0` errors of which the
    /// last came no later than `within.1` after the first. A number of 0 counts as 1; of errors within a time there
    /// are at most [`MAX_WITHIN`]. With neither it never trips.
    #[must_use]
    pub(crate) fn new(in_a_row: Option<u32>, within: Option<(u32, Duration)>) -> Self {
        Self {
            tripped: AtomicBool::new(false),
            in_a_row: in_a_row.map(|errors| errors.max(1)),
            streak: AtomicU32::new(0),
            within: within.map(|(errors, time)| RecentErrors::new(errors, time)),
        }
    }

    /// Counts one finished request of the canary at `now_ms`, milliseconds since any fixed moment of a monotonic
    /// clock. Returns true for exactly one request: the one that trips the breaker. After that nothing is
    /// counted.
    #[inline]
    pub(crate) fn observe(&self, is_error: bool, now_ms: u64) -> bool {
        if is_error {
            return self.error(now_ms);
        }
        // A store by every request would have all threads fight for one cache line; while all is well they share it.
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        false
    }

    fn error(&self, now_ms: u64) -> bool {
        if self.tripped.load(Ordering::Acquire) {
            return false;
        }
        let in_a_row = self.in_a_row.is_some_and(|limit| {
            // Cannot overflow: the breaker is tripped long before, and then nothing is counted.
            self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= limit
        });
        let within = self.within.as_ref().is_some_and(|ring| ring.write(ring.take(), now_ms));
        (in_a_row || within) && !self.tripped.swap(true, Ordering::AcqRel)
    }
}

impl RecentErrors {
    fn new(errors: u32, time: Duration) -> Self {
        Self {
            within_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            next: AtomicU64::new(0),
            slots: (0..errors.clamp(1, MAX_WITHIN)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The place of an error in the order of all.
    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes the time of the error at `position`; whether it completes as many as the ring has slots within the time.
    fn write(&self, position: u64, now_ms: u64) -> bool {
        let now = now_ms & TIME_MASK;
        let Some(slot) = self.slot(position) else { return false };
        slot.store(tag(position) | now, Ordering::SeqCst);
        let apart = self.slots.len() as u64 - 1;
        // The other end of the stretch that ends here, and of the one that begins here: its error may have been
        // written before this one.
        [position.checked_sub(apart), position.checked_add(apart)].into_iter().flatten().any(|other| {
            let seen = self.slot(other).map_or(0, |slot| slot.load(Ordering::SeqCst));
            seen & !TIME_MASK == tag(other) && (seen & TIME_MASK).abs_diff(now) <= self.within_ms
        })
    }

    fn slot(&self, position: u64) -> Option<&AtomicU64> {
        // The remainder is below the length, which is at most 1,024.
        usize::try_from(position % self.slots.len() as u64).ok().and_then(|at| self.slots.get(at))
    }
}

/// What marks a slot as that of `position`. It repeats only after 2²⁴ errors; a slot is used again after 1,024.
const fn tag(position: u64) -> u64 {
    position.wrapping_add(1) << TIME_BITS
}

#[cfg(test)]
mod tests;
