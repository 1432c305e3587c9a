//! Which of a connection's streams have something to do: each has a place, and each place a waker that sets a bit.
//!
//! One task serves the connection and all its streams. A waker that is called says which of them is to be polled, so a
//! turn costs what the streams cost in which something happened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

/// Bits of a word.
const WORD: usize = 64;

/// A set of places.
#[derive(Debug, Default)]
pub(super) struct PlaceSet(Vec<u64>);

/// The places whose wakers were called since they were looked at.
#[derive(Debug)]
pub(super) struct Woken {
    words: Box<[AtomicU64]>,
    /// Wakes the connection's task, which is one for all its life.
    task: OnceLock<Waker>,
}

/// Wakes the connection on behalf of one place.
struct PlaceWaker {
    woken: Arc<Woken>,
    at: usize,
}

impl PlaceSet {
    /// An empty set of up to so many places.
    pub(super) fn new(places: usize) -> Self {
        Self(vec![0; places.div_ceil(WORD)])
    }

    pub(super) fn insert(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / WORD) {
            *word |= 1 << (at % WORD);
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / WORD) {
            *word &= !(1 << (at % WORD));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes the first place at or after `from`, in a circle.
    pub(super) fn pop(&mut self, from: usize) -> Option<usize> {
        let (first, bit) = (from / WORD, from % WORD);
        for step in 0..=self.0.len() {
            let at = (first + step) % self.0.len();
            let mask = match step {
                0 => u64::MAX << bit,
                last if last == self.0.len() => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let word = self.0.get_mut(at)?;
            let found = *word & mask;
            if found != 0 {
                let place = found.trailing_zeros();
                *word &= !(1 << place);
                return Some(at * WORD + place as usize);
            }
        }
        None
    }

    /// Adds all places of another set of the same size and empties that.
    pub(super) fn take_all(&mut self, other: &mut Self) {
        for (word, more) in self.0.iter_mut().zip(&mut other.0) {
            *word |= std::mem::take(more);
        }
    }

    /// Adds the places whose wakers were called.
    pub(super) fn take_woken(&mut self, woken: &Woken) {
        for (word, bits) in self.0.iter_mut().zip(&woken.words) {
            if bits.load(Ordering::Relaxed) != 0 {
                *word |= bits.swap(0, Ordering::AcqRel);
            }
        }
    }
}

impl Woken {
    /// For up to so many places.
    pub(super) fn new(places: usize) -> Arc<Self> {
        let words = (0..places.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { words, task: OnceLock::new() })
    }

    /// Names the task that is woken: the one that calls, for as long as the connection lives.
    pub(super) fn settle(&self, task: &Waker) {
        let _ = self.task.set(task.clone());
    }

    /// Whether any waker was called.
    pub(super) fn any(&self) -> bool {
        self.words.iter().any(|bits| bits.load(Ordering::Relaxed) != 0)
    }

    /// Has a place polled.
    pub(super) fn wake(&self, at: usize) {
        let Some(bits) = self.words.get(at / WORD) else { return };
        if bits.fetch_or(1 << (at % WORD), Ordering::AcqRel) == 0
            && let Some(task) = self.task.get()
        {
            task.wake_by_ref();
        }
    }

    /// The waker of a place.
    pub(super) fn waker(self: &Arc<Self>, at: usize) -> Waker {
        Arc::new(PlaceWaker { woken: Arc::clone(self), at }).into()
    }
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_taken_in_a_circle(places in prop::collection::btree_set(0_usize..200, 0..40), from in 0_usize..200) {
            let mut set = PlaceSet::new(200);
            places.iter().for_each(|at| set.insert(*at));
            let after: Vec<usize> = places.range(from..).chain(places.range(..from)).copied().collect();
            let mut turn = from;
            let mut taken = Vec::new();
            while let Some(at) = set.pop(turn) {
                turn = at + 1;
                taken.push(at);
            }
            prop_assert_eq!(taken, after);
            prop_assert!(set.is_empty());
        }
    }

    #[test]
    fn who_is_woken_is_found() {
        let woken = Woken::new(130);
        let wakers: BTreeSet<usize> = [0, 63, 64, 129].into();
        for at in &wakers {
            woken.waker(*at).wake();
        }
        let mut set = PlaceSet::new(130);
        assert!(woken.any());
        set.take_woken(&woken);
        assert!(!woken.any());
        let found: BTreeSet<usize> = std::iter::from_fn(|| set.pop(0)).collect();
        assert_eq!(found, wakers);
    }
}
