//! What one worker thread has for itself: everything else that requests read is [`Shared`].
//!
//! A worker is a thread with a runtime of its own: a connection, what it waits for and the upstream connections that it
//! may use stay on one processor. So the locks here are never contended: only the worker's own thread takes them, and
//! never across an `await`. They are locks only because the engine wants futures that could move between threads.

use std::sync::{Arc, Mutex, PoisonError};

use super::io::wakers::Wakers;
use super::shared::Shared;
use super::unread::Unread;
use super::upstream::Pools;
use crate::snapshot::Snapshot;

/// One worker's own state.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    /// Connections that are to look up when drains and the shutdown go on.
    pub(crate) wakers: Wakers,
    /// Its connections to endpoints.
    pub(crate) pools: Arc<Pools>,
    /// What it holds for those who do not read.
    pub(crate) unread: Unread,
    newest: Mutex<Option<Arc<Read>>>,
}

/// A task's place among those that are woken; left by dropping it.
pub(crate) struct Registered {
    worker: Arc<Worker>,
    number: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.wakers.remove(self.number);
    }
}

/// The snapshot that a worker's requests read, counted inside the worker only: counting references to the snapshot
/// itself would make all workers write to one place.
pub(crate) struct Read {
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            wakers: Wakers::default(),
            pools: Arc::default(),
            unread: Unread::default(),
            newest: Mutex::default(),
        }
    }

    /// Registers the task that calls among those that are woken.
    pub(crate) async fn register(self: &Arc<Self>) -> Registered {
        Registered { number: self.wakers.register().await, worker: Arc::clone(self) }
    }

    /// The snapshot of this moment, to be held for as long as a request needs it.
    pub(crate) fn snapshot(&self) -> Arc<Read> {
        let newest = self.shared.current.peek();
        let mut kept = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(read) if Arc::ptr_eq(&read.snapshot, &newest) => Arc::clone(read),
            _ => Arc::clone(kept.insert(Arc::new(Read { snapshot: Arc::clone(&newest) }))),
        }
    }

    /// Lets go of a snapshot that was replaced, also where no request comes.
    pub(crate) fn forget_replaced(&self) {
        let newest = self.shared.current.peek();
        let mut kept = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take_if(|read| !Arc::ptr_eq(&read.snapshot, &newest));
    }
}
