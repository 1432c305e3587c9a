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
//! Of a canary with many requests a few errors within a second are nothing: n errors must also be a share of the requests
//! that finished between the first and the last of them. And where most of them are of one endpoint of several, they say
//! something of that endpoint: then they must be three of four requests, or those of the others a large share too. So it is
//! with errors in a row: one of three endpoints has ten in a row once in a while. If fewer than a quarter of a row are of
//! others, it takes four times as many.
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

/// What a request that failed says beside that it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailedRequest {
    /// When, in milliseconds since any fixed moment of a monotonic clock.
    pub(crate) at_ms: u64,
    /// How many requests of the canary have finished, this one among them.
    pub(crate) finished: u64,
    /// The number of the endpoint that it was sent to; 0 if there was none.
    pub(crate) endpoint: u64,
    /// The canary has so many endpoints that one of them is not the version.
    pub(crate) several: bool,
}

/// So many errors within a time, where they are more than a share of the requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ErrorBurst {
    /// How many; 0 counts as 1, and more than [`MAX_WITHIN`] as that many.
    pub(crate) errors: u32,
    /// From the first to the last.
    pub(crate) within: Duration,
    /// Of the requests that finished from the first to the last, in percent.
    pub(crate) share: f64,
}

/// Counts the errors of one canary and says when they are too many. Shared by all threads.
#[derive(Debug)]
pub(crate) struct ErrorCounter {
    tripped: AtomicBool,
    in_a_row: Option<u32>,
    /// Counted only if `in_a_row` asks for it.
    row: ErrorRow,
    within: Option<RecentErrors>,
}

/// The errors since the last success.
#[derive(Debug, Default)]
struct ErrorRow {
    streak: AtomicU32,
    /// The endpoint of the first.
    first: AtomicU64,
    /// How many are of other endpoints.
    others: AtomicU32,
}

/// The last errors.
#[derive(Debug)]
struct RecentErrors {
    within_ms: u64,
    /// A ratio.
    share: f64,
    /// The position of the next error.
    next: AtomicU64,
    /// At least one.
    slots: Box<[Slot]>,
}

/// One error.
#[derive(Debug, Default)]
struct Slot {
    /// Position plus one in the upper bits, milliseconds in the lower; zero is empty. Written last.
    stamp: AtomicU64,
    finished: AtomicU64,
    endpoint: AtomicU64,
}

/// The share that errors of one endpoint of several must have, as a ratio: more than one of three can have by chance, and
/// less than one that fails fast draws from the others.
const ONE_ENDPOINT: f64 = 0.75;

impl ErrorCounter {
    /// A breaker that trips at `in_a_row` errors without a success between them (0 counts as 1), or at the errors of
    /// `within`. With neither it never trips.
    #[must_use]
    pub(crate) fn new(in_a_row: Option<u32>, within: Option<ErrorBurst>) -> Self {
        Self {
            tripped: AtomicBool::new(false),
            in_a_row: in_a_row.map(|errors| errors.max(1)),
            row: ErrorRow::default(),
            within: within.map(RecentErrors::new),
        }
    }

    /// Counts a request of the canary that did not fail.
    #[inline]
    pub(crate) fn succeeded(&self) {
        // A store by every request would have all threads fight for one cache line; while all is well they share it.
        if self.row.streak.load(Ordering::Relaxed) != 0 {
            self.row.streak.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a request of the canary that failed. Returns true for exactly one request: the one that trips the breaker.
    /// After that nothing is counted.
    pub(crate) fn failed(&self, request: FailedRequest) -> bool {
        if self.tripped.load(Ordering::Acquire) {
            return false;
        }
        let in_a_row = self.in_a_row.is_some_and(|limit| self.row.add(request, limit));
        let within = self.within.as_ref().is_some_and(|ring| ring.write(ring.take(), request));
        (in_a_row || within) && !self.tripped.swap(true, Ordering::AcqRel)
    }
}

/// A row of errors that are all of one endpoint of several is so many times as long.
const ONE_ENDPOINT_ROW: u32 = 4;

impl ErrorRow {
    /// Counts an error; whether the row is one of `limit` now. Threads that write meanwhile may make the errors of others a
    /// few too few.
    fn add(&self, request: FailedRequest, limit: u32) -> bool {
        // Cannot overflow: the breaker is tripped long before, and then nothing is counted.
        let before = self.streak.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.first.store(request.endpoint, Ordering::Relaxed);
            self.others.store(0, Ordering::Relaxed);
        } else if self.first.load(Ordering::Relaxed) != request.endpoint {
            self.others.fetch_add(1, Ordering::Relaxed);
        }
        let length = before.saturating_add(1);
        let of_one = request.several && self.others.load(Ordering::Relaxed) < limit / ONE_ENDPOINT_ROW;
        length >= if of_one { limit.saturating_mul(ONE_ENDPOINT_ROW) } else { limit }
    }
}

impl RecentErrors {
    fn new(burst: ErrorBurst) -> Self {
        Self {
            within_ms: u64::try_from(burst.within.as_millis()).unwrap_or(u64::MAX),
            share: burst.share / 100.0,
            next: AtomicU64::new(0),
            slots: (0..burst.errors.clamp(1, MAX_WITHIN)).map(|_| Slot::default()).collect(),
        }
    }

    /// The place of an error in the order of all.
    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes the error at `position`; whether it completes as many as the ring has slots within the time.
    fn write(&self, position: u64, request: FailedRequest) -> bool {
        let now = request.at_ms & TIME_MASK;
        let Some(slot) = self.slot(position) else { return false };
        slot.finished.store(request.finished, Ordering::Relaxed);
        slot.endpoint.store(request.endpoint, Ordering::Relaxed);
        slot.stamp.store(tag(position) | now, Ordering::SeqCst);
        let apart = self.slots.len() as u64 - 1;
        // The other end of the stretch that ends here, and of the one that begins here: its error may have been
        // written before this one.
        [position.checked_sub(apart), position.checked_add(apart)].into_iter().flatten().any(|other| {
            let Some(other_slot) = self.slot(other) else { return false };
            let seen = other_slot.stamp.load(Ordering::SeqCst);
            let close = seen & !TIME_MASK == tag(other) && (seen & TIME_MASK).abs_diff(now) <= self.within_ms;
            close && self.is_large(request, other_slot.finished.load(Ordering::Relaxed))
        })
    }

    /// Whether as many errors as there are slots are a large enough share of what finished from the error with so many
    /// finished to the other.
    fn is_large(&self, request: FailedRequest, finished: u64) -> bool {
        let requests = request.finished.abs_diff(finished).saturating_add(1);
        let share = |errors: usize| errors as f64 / requests as f64;
        let all = share(self.slots.len());
        all >= self.share
            && (all >= ONE_ENDPOINT || !request.several || share(self.beside(request.endpoint)) >= self.share)
    }

    /// How many of the errors are not of the endpoint that has the most, where that may be `last`. Threads that write
    /// meanwhile may make it a few too many or too few.
    fn beside(&self, last: u64) -> usize {
        let of = |slot: &Slot| slot.endpoint.load(Ordering::Relaxed);
        let errors = |endpoint: u64| self.slots.iter().filter(|slot| of(slot) == endpoint).count();
        // The endpoint with most of the errors is among any three of them, or there is no such endpoint.
        let some = self.slots.iter().step_by(self.slots.len().div_ceil(8)).map(of).chain([last]);
        self.slots.len() - some.map(errors).max().unwrap_or_default()
    }

    fn slot(&self, position: u64) -> Option<&Slot> {
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
