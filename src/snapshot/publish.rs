//! Publishing: one store replaces the snapshot, and what was replaced is freed apart from requests.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::compiled::{Snapshot, changed_services};
use super::limits;
use super::live::States;
use crate::coop::drop_in_pieces;

/// The snapshot that requests read now.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Snapshot>>);

impl Current {
    /// The snapshot of this moment, to be held for as long as a request needs it.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The snapshot of this moment, for a short look.
    #[must_use]
    pub(crate) fn peek(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }
}

/// The one means to replace the snapshot.
///
/// It keeps those that were replaced until nobody else does: to free 10,000 routes takes milliseconds, which must not be
/// a worker's.
pub struct Publisher {
    cell: Arc<ArcSwap<Snapshot>>,
    /// Replaced, and still used by a request or a worker.
    replaced: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// Publishes the first snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> (Self, Current) {
        first.services.iter().for_each(|service| service.follow_health());
        first.services.iter().for_each(|service| limits::apply(service));
        let cell = Arc::new(ArcSwap::from_pointee(first));
        (Self { cell: Arc::clone(&cell), replaced: Vec::new() }, Current(cell))
    }

    /// Replaces the snapshot with one atomic store; requests in flight keep the one they began with. `states` are those
    /// it was compiled with.
    pub fn publish(&mut self, next: Snapshot, states: &States) {
        let next = Arc::new(next);
        let before = self.cell.load_full();
        let both = changed_services(&before, &next);
        let changed: Vec<_> = both.iter().filter_map(|(_, after)| *after).collect();
        changed.iter().for_each(|service| service.set_states(states));
        changed.iter().for_each(|service| limits::apply(service));
        self.cell.store(Arc::clone(&next));
        // Who follows health told the services before of what changed meanwhile.
        changed.iter().for_each(|service| service.follow_health());
        for (before, after) in both.iter().filter_map(|(before, after)| Some(((*before)?, after))) {
            limits::follow(before, after.map(|after| &**after));
        }
        // Other endpoints may be to be checked, or otherwise.
        next.health.wake();
        self.replaced.push(before);
        self.free();
    }

    /// Whether nothing that was replaced is still held.
    #[cfg(test)]
    pub(super) const fn is_all_freed(&self) -> bool {
        self.replaced.is_empty()
    }

    /// Frees replaced snapshots that nobody uses any more.
    pub(crate) fn free(&mut self) {
        for snapshot in self.replaced.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1) {
            if let Some(snapshot) = Arc::into_inner(snapshot) {
                if let Some(table) = Arc::into_inner(snapshot.table) {
                    drop_in_pieces(table.into_targets());
                }
                drop_in_pieces(snapshot.services);
            }
        }
    }
}
