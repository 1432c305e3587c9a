//! Lookups of DNS names, by how they ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::label::LookupResult;

/// Lookups of names of endpoints. Obtained from [`Recorder::lookups`](super::Recorder::lookups).
#[derive(Debug, Default)]
pub(crate) struct LookupSeries([AtomicU64; LookupResult::ALL.len()]);

impl LookupSeries {
    /// A lookup ended.
    pub(crate) fn ended(&self, result: LookupResult) {
        if let Some(count) = self.0.get(result.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, result: LookupResult) -> u64 {
        self.0.get(result.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
