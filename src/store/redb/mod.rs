//! The journal of one machine: a redb file, written by a thread of its own.
//!
//! The engine is redb rather than SQLite: both are ACID and sync before they answer, but redb is pure Rust, one
//! file without a C library, and the few kilobytes of shifts and rollout states need no query language. Its
//! checksums are verified whenever the file is opened, which for a file of this size costs nothing.
//!
//! ```text
//! commit ─► queue ─► thread ─► Store ─► weir.redb   fsync, one at a time, in order
//! read ───┘                      └─► memory: what is stored, as far as the disk lets it be known
//! ```
//!
//! A disk that hangs stops the thread; the queue fills, and commits beyond it are refused at once.

mod database;
mod disk;
mod error;
mod facts;
mod folder;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::ready;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

pub use self::database::Store;
pub(crate) use self::error::StoreError;
use super::{Answer, Change, Fact, Journal, JournalError, Lease, MAX_WATCH_BACKLOG, Revision, Transaction, lease};

/// Commits that may wait for the disk.
const MAX_WAITING_COMMITS: usize = 64;

/// A [`Store`] as a journal.
pub struct RedbJournal {
    shared: Arc<Shared>,
    /// None only while it is dropped: the thread ends when it is gone.
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// What the journal and its thread share.
struct Shared {
    store: Store,
    watchers: Mutex<Vec<Watcher>>,
}

struct Watcher {
    prefix: String,
    changes: mpsc::Sender<Change>,
}

/// What the thread does, in order.
enum Request {
    Commit { transaction: Transaction, answer: oneshot::Sender<Result<Revision, JournalError>> },
    Read { prefix: String, answer: oneshot::Sender<Vec<(Arc<str>, Fact)>> },
}

impl RedbJournal {
    /// The journal of `store`, with its thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(store: Store) -> io::Result<Self> {
        let shared = Arc::new(Shared { store, watchers: Mutex::new(Vec::new()) });
        let (requests, waiting) = sync_channel(MAX_WAITING_COMMITS);
        let writing = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("weir-store".to_owned()).spawn(move || writing.serve(&waiting))?;
        Ok(Self { shared, requests: Some(requests), thread: Some(thread) })
    }

    fn send(&self, request: Request) -> Result<(), JournalError> {
        let requests = self.requests.as_ref().ok_or_else(closed)?;
        requests
            .try_send(request)
            .map_err(|_| JournalError::Unavailable("too many writes wait for the disk".to_owned()))
    }
}

impl Journal for RedbJournal {
    fn read(&self, prefix: &str) -> Answer<Vec<(Arc<str>, Fact)>> {
        let (answer, result) = oneshot::channel();
        let sent = self.send(Request::Read { prefix: prefix.to_owned(), answer });
        Box::pin(async move {
            sent?;
            result.await.map_err(|_| closed())
        })
    }

    fn commit(&self, transaction: Transaction) -> Answer<Revision> {
        let (answer, result) = oneshot::channel();
        let sent = self.send(Request::Commit { transaction, answer });
        Box::pin(async move {
            sent?;
            result.await.map_err(|_| closed())?
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Answer<mpsc::Receiver<Change>> {
        Box::pin(ready(Ok(self.shared.watch(prefix, after))))
    }

    fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Answer<Lease> {
        let found = self.shared.store.get(&lease::key(name));
        let claimed = lease::claim(name, holder, ttl, found.as_ref(), SystemTime::now());
        let holder = holder.to_owned();
        let committed = claimed.map(|(transaction, until)| (self.commit(transaction), until));
        Box::pin(async move {
            let (commit, until) = committed?;
            Ok(Lease { holder, until, revision: commit.await? })
        })
    }
}

impl Shared {
    fn serve(&self, requests: &Receiver<Request>) {
        // Whoever asked may have given it up.
        while let Ok(request) = requests.recv() {
            match request {
                Request::Read { prefix, answer } => drop(answer.send(self.store.read(&prefix))),
                Request::Commit { transaction, answer } => {
                    let committed = self.store.commit(&transaction);
                    if let Ok(revision) = committed {
                        self.notify(&transaction, revision);
                    }
                    drop(answer.send(committed.map_err(JournalError::from)));
                }
            }
        }
    }

    fn notify(&self, transaction: &Transaction, revision: Revision) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| {
            transaction.writes.iter().filter(|write| write.key.starts_with(&watcher.prefix)).all(|write| {
                let change =
                    Change { key: write.key.as_str().into(), value: write.value.as_deref().map(Into::into), revision };
                watcher.changes.try_send(change).is_ok()
            })
        });
    }

    fn watch(&self, prefix: &str, after: Revision) -> mpsc::Receiver<Change> {
        let (changes, receiver) = mpsc::channel(MAX_WATCH_BACKLOG);
        // The lock is taken before the facts are listed, so that no commit falls in between; one may be told twice.
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missed: Vec<(Arc<str>, Fact)> = self.store.list(prefix);
        missed.retain(|(_, fact)| fact.revision > after);
        missed.sort_by_key(|(_, fact)| fact.revision);
        let told = missed.into_iter().all(|(key, fact)| {
            changes.try_send(Change { key, value: Some(fact.value), revision: fact.revision }).is_ok()
        });
        if told {
            watchers.push(Watcher { prefix: prefix.to_owned(), changes });
        }
        receiver
    }
}

impl Drop for RedbJournal {
    fn drop(&mut self) {
        self.requests = None;
        // The store is closed, and its lock released, when this returns.
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for RedbJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbJournal").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(conflict) => Self::Conflict(conflict),
            error @ StoreError::Corrupt { .. } => Self::Corrupt(error.to_string()),
            error @ (StoreError::Locked { .. }
            | StoreError::Newer { .. }
            | StoreError::Unavailable { .. }
            | StoreError::TooLarge { .. }) => Self::Unavailable(error.to_string()),
        }
    }
}

fn closed() -> JournalError {
    JournalError::Unavailable("the store is closed".to_owned())
}
