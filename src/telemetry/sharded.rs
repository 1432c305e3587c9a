//! Counters that many threads add to without meeting: one copy per thread, summed when somebody reads.
//!
//! One atomic that two threads add to costs them a cache miss per addition. Here every thread has its own
//! copy of a small array of counters, on cache lines of its own, so an addition is one uncontended relaxed
//! `fetch_add`. Two threads that share a copy (more threads than copies) are slower, never wrong.
//!
//! ```text
//!            slot 0 … 15        slot 16 … 31
//! shard 0   [ line 0 ]         [ line 1 ]        ← thread 0, 2, …
//! shard 1   [ line 2 ]         [ line 3 ]        ← thread 1, 3, …
//! ```
//!
//! Invariants: an addition never locks, allocates or fails; nothing that was added is lost; a sum that is
//! read later is not smaller than one that was read before, as long as nothing is subtracted.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// Counters on one cache line (two of 64 bytes, which is what the adjacent-line prefetcher fetches).
pub(super) const LINE: usize = 16;

/// More copies than this cost more memory than contention between the threads that share one.
pub(super) const MAX_SHARDS: usize = 64;

type Line = CachePadded<[AtomicU64; LINE]>;

/// How many copies serve `threads` threads: the next power of two, at most 64.
pub(super) fn shards_for(threads: usize) -> usize {
    threads.clamp(1, MAX_SHARDS).next_power_of_two()
}

/// An array of counters with one copy per shard.
#[derive(Debug)]
pub(super) struct Sharded {
    lines: Box<[Line]>,
    lines_per_shard: usize,
    mask: usize,
}

impl Sharded {
    /// `width` counters at zero in `shards` copies; `shards` is a power of two (see [`shards_for`]).
    pub(super) fn new(shards: usize, width: usize) -> Self {
        debug_assert!(shards.is_power_of_two(), "the shard of a thread is found by a mask");
        let lines_per_shard = width.div_ceil(LINE).max(1);
        let lines = (0..shards.max(1) * lines_per_shard).map(|_| Line::default()).collect();
        Self { lines, lines_per_shard, mask: shards.max(1) - 1 }
    }

    /// Adds `n` to the counter `slot`. A `slot` beyond the width is ignored.
    #[inline]
    pub(super) fn add(&self, slot: usize, n: u64) {
        let line = (thread_index() & self.mask) * self.lines_per_shard + slot / LINE;
        if let Some(counter) = self.lines.get(line).and_then(|line| line.get(slot % LINE)) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Subtracts one from the counter `slot`, wrapping: a gauge may rise on one thread and fall on another,
    /// so a single copy may be "negative" and only the sum has a meaning.
    #[inline]
    pub(super) fn sub_one(&self, slot: usize) {
        self.add(slot, u64::MAX);
    }

    /// The first line of the calling thread's copy.
    #[inline]
    pub(super) fn own_line(&self) -> Option<&[AtomicU64; LINE]> {
        self.lines.get((thread_index() & self.mask) * self.lines_per_shard).map(|line| &**line)
    }

    /// The first line of every copy.
    pub(super) fn first_lines(&self) -> impl Iterator<Item = &[AtomicU64; LINE]> {
        self.lines.iter().step_by(self.lines_per_shard).map(|line| &**line)
    }

    /// The sum of the counter `slot` over all copies.
    pub(super) fn sum(&self, slot: usize) -> u64 {
        self.lines
            .iter()
            .skip(slot / LINE)
            .step_by(self.lines_per_shard)
            .filter_map(|line| line.get(slot % LINE))
            .fold(0, |sum, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
    }

    /// The sum of a gauge: like [`Self::sum`], and never below zero. Copies are read one after another, so a
    /// reader may see a fall whose rise it has passed already.
    pub(super) fn gauge(&self, slot: usize) -> u64 {
        self.sum(slot).cast_signed().max(0).cast_unsigned()
    }
}

/// Gives the calling thread its copy of all counters now rather than when it first counts something.
///
/// There are as many copies as threads that carry traffic. Those threads call this when they start, so that
/// none of them has to share a copy because another thread counted something earlier.
pub(crate) fn enlist_thread() {
    thread_index();
}

/// The calling thread's number: the lowest that no living thread has.
#[inline]
pub(super) fn thread_index() -> usize {
    INDEX.with(|index| if index.get() == UNKNOWN { number_thread(index) } else { index.get() })
}

const UNKNOWN: usize = usize::MAX;

thread_local! {
    /// Apart from the claim because a value without a destructor is read without a check.
    static INDEX: Cell<usize> = const { Cell::new(UNKNOWN) };
    static CLAIM: Cell<Option<Claim>> = const { Cell::new(None) };
}

#[cold]
fn number_thread(index: &Cell<usize>) -> usize {
    /// Threads beyond the 64th share copies, in turn.
    static SURPLUS: AtomicUsize = AtomicUsize::new(0);
    if let Some(claim) = Claim::lowest() {
        index.set(claim.0);
        // A thread that counts for the first time while it ends keeps the number without the claim.
        let _ = CLAIM.try_with(|kept| kept.set(Some(claim)));
    } else {
        index.set(SURPLUS.fetch_add(1, Ordering::Relaxed) % MAX_SHARDS);
    }
    index.get()
}

/// A number that no other thread has while this one lives.
struct Claim(usize);

/// One bit per number in use.
static CLAIMED: AtomicU64 = AtomicU64::new(0);

impl Claim {
    fn lowest() -> Option<Self> {
        let claim = |claimed: u64| Some(claimed | 1_u64.checked_shl(claimed.trailing_ones())?);
        let before = CLAIMED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).ok()?;
        usize::try_from(before.trailing_ones()).ok().map(Self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.fetch_and(!(1 << self.0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_shard_for_each_thread_up_to_sixty_four() {
        let table = [(0, 1), (1, 1), (2, 2), (3, 4), (8, 8), (33, 64), (64, 64), (1_000, 64)];
        for (threads, shards) in table {
            assert_eq!(shards_for(threads), shards, "{threads} threads");
        }
    }

    #[test]
    fn every_slot_is_its_own_counter() {
        let sharded = Sharded::new(4, 40);
        for slot in 0..40 {
            sharded.add(slot, slot as u64 + 1);
        }
        for slot in 0..40 {
            assert_eq!(sharded.sum(slot), slot as u64 + 1, "slot {slot}");
        }
    }

    #[test]
    fn nothing_is_lost_when_more_threads_than_shards_add() {
        let sharded = Sharded::new(2, 20);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|n| sharded.add(n % 20, 1)));
            }
        });
        for slot in 0..20 {
            assert_eq!(sharded.sum(slot), 4_000, "slot {slot}");
        }
    }

    #[test]
    fn a_gauge_that_falls_on_another_thread_sums_to_what_is_left_and_never_below_zero() {
        let sharded = Sharded::new(64, 1);
        sharded.add(0, 2);
        std::thread::scope(|scope| {
            scope.spawn(|| sharded.sub_one(0));
        });
        assert_eq!(sharded.gauge(0), 1);
        sharded.sub_one(0);
        sharded.sub_one(0);
        assert_eq!(sharded.gauge(0), 0);
    }

    #[test]
    fn threads_that_live_at_once_have_different_numbers_and_give_them_back() {
        for _ in 0..100 {
            let barrier = std::sync::Barrier::new(2);
            let number = || {
                let number = thread_index();
                barrier.wait();
                number
            };
            let (one, other) = std::thread::scope(|scope| {
                let (one, other) = (scope.spawn(number), scope.spawn(number));
                (one.join().unwrap(), other.join().unwrap())
            });
            assert_ne!(one, other);
        }
        assert!(Claim::lowest().is_some(), "200 threads have ended");
    }

    #[test]
    fn shards_do_not_share_cache_lines() {
        let sharded = Sharded::new(2, 1);
        let starts: Vec<usize> = sharded.first_lines().map(|line| line.as_ptr() as usize).collect();
        assert_eq!(starts.len(), 2);
        assert!(starts[1] - starts[0] >= 128 && starts[0].is_multiple_of(64), "{starts:?}");
    }
}
