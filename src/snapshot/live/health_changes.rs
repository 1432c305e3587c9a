//! Endpoints whose health changed and whom nobody looked at yet.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Endpoints whose health changed. Each stands here once, so they are never more than there are endpoints.
#[derive(Debug)]
pub(crate) struct HealthChanges<E> {
    /// Locked by a request whose failure takes an endpoint out, and by whoever follows health.
    changed: Mutex<Vec<Arc<E>>>,
    notify: Notify,
}

/// What can stand among the changes.
pub(crate) trait Queued {
    /// Whether it stands there.
    fn is_queued(&self) -> &AtomicBool;
}

impl<E> Default for HealthChanges<E> {
    fn default() -> Self {
        Self { changed: Mutex::new(Vec::new()), notify: Notify::new() }
    }
}

impl<E: Queued> HealthChanges<E> {
    pub(super) fn push(&self, endpoint: &Arc<E>) {
        if !endpoint.is_queued().swap(true, Ordering::AcqRel) {
            self.changed.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(endpoint));
            self.notify.notify_one();
        }
    }

    /// Wakes whoever waits, for another reason than a change of health: what there is to follow may be different.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits for changes, or to be woken; what came before is not missed.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// The endpoints that changed since this was asked last.
    pub(crate) fn take(&self) -> Vec<Arc<E>> {
        let changed = mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        // What changes from here on is a change of its own.
        changed.iter().for_each(|endpoint| endpoint.is_queued().store(false, Ordering::Release));
        changed
    }
}
