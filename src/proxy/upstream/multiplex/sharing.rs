//! What the connections to one endpoint have in common.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What the connections to one endpoint have in common.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Rings when requests may join a connection, or must not any more.
    changed: Notify,
    /// So many requests a connection may carry in all, as far as is known.
    allowance: AtomicU64,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { changed: Notify::new(), allowance: AtomicU64::new(u64::MAX) }
    }
}

impl Sharing {
    /// Requests may join a connection, or must not any more.
    pub(super) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// Waits for that.
    pub(super) fn wait(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn allowance(&self) -> u64 {
        self.allowance.load(Ordering::Acquire)
    }

    /// An endpoint that ends connections after so many requests will do so again. Who knows it sends no more on one, and
    /// nobody is turned away.
    pub(super) fn learn(&self, total: u64) {
        self.allowance.store(total.max(1), Ordering::Release);
    }

    /// A connection carried all it may, and the endpoint did not end it: that was not why it ended another.
    pub(super) fn unlearn(&self, carried: u64) {
        self.allowance.fetch_max(carried.saturating_mul(2), Ordering::AcqRel);
    }
}
