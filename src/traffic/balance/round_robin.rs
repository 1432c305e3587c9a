//! One endpoint after the other.

use std::sync::atomic::{AtomicU64, Ordering};

/// The open endpoint, of `count`, whose turn it is. The turn of one that is not open passes to the next, so that those
/// that are open share its turns evenly.
pub(super) fn pick(count: usize, is_open: impl Fn(usize) -> bool, turn: &AtomicU64) -> Option<usize> {
    let total = u64::try_from(count).ok().filter(|total| *total > 0)?;
    for _ in 0..count {
        let at = usize::try_from(turn.fetch_add(1, Ordering::Relaxed) % total).ok()?;
        if is_open(at) {
            return Some(at);
        }
    }
    // Other threads took the turns of those that are open.
    (0..count).find(|at| is_open(*at))
}
