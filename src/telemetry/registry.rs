//! Series by identity: the same name gives the same series for as long as somebody holds it.
//!
//! The registry holds only [`Weak`] references. What keeps a series alive is its use: the snapshot, a request
//! in flight, the tracker of a drain. So a series survives reloads with its counts, a version that left the
//! file stays on `/metrics` until its drain is over, and then it is gone without anybody removing it.
//!
//! Invariant: the number of dead entries is bounded by the number of live ones at the last observation, plus 64.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Dead entries are first looked for when there are so many entries.
const FIRST_PRUNE: usize = 64;

/// A map from identities to series.
#[derive(Debug)]
pub(super) struct SeriesRegistry<K, S>(Mutex<Entries<K, S>>);

#[derive(Debug)]
struct Entries<K, S> {
    by_key: HashMap<K, Weak<S>, ahash::RandomState>,
    prune_at: usize,
}

impl<K: Eq + Hash, S> SeriesRegistry<K, S> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Entries { by_key: HashMap::default(), prune_at: FIRST_PRUNE }))
    }

    /// The series of `key`; `make` makes it if nobody holds one.
    pub(super) fn resolve(&self, key: K, make: impl FnOnce() -> S) -> Arc<S> {
        let mut entries = self.lock();
        if let Some(series) = entries.by_key.get(&key).and_then(Weak::upgrade) {
            return series;
        }
        if entries.by_key.len() >= entries.prune_at {
            entries.by_key.retain(|_, series| series.strong_count() > 0);
            entries.prune_at = FIRST_PRUNE.max(entries.by_key.len() * 2);
        }
        let series = Arc::new(make());
        entries.by_key.insert(key, Arc::downgrade(&series));
        series
    }

    /// The series that somebody holds and that are `wanted`, in no order. Entries of others are forgotten.
    pub(super) fn live(&self, wanted: impl Fn(&S) -> bool) -> Vec<Arc<S>> {
        let mut live = Vec::new();
        self.lock().by_key.retain(|_, series| {
            let Some(series) = series.upgrade() else { return false };
            if wanted(&series) {
                live.push(series);
            }
            true
        });
        live
    }

    /// Never contended by requests: configuration compiles, scrapes and ticks meet here.
    fn lock(&self) -> MutexGuard<'_, Entries<K, S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_gives_the_same_series_while_somebody_holds_it() {
        let registry = SeriesRegistry::new();
        let first = registry.resolve("a", || 1);
        assert_eq!(*registry.resolve("a", || 2), 1);
        drop(first);
        assert_eq!(*registry.resolve("a", || 3), 3);
    }

    #[test]
    fn entries_of_dropped_series_do_not_pile_up() {
        let registry = SeriesRegistry::new();
        let held = registry.resolve(0, || 0);
        for n in 1..10_000 {
            drop(registry.resolve(n, || n));
        }
        assert!(registry.lock().by_key.len() <= FIRST_PRUNE);
        assert_eq!(registry.live(|_| true), [held]);
        assert_eq!(registry.lock().by_key.len(), 1);
    }
}
