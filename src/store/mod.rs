//! Durable facts behind a port: keys and bytes that survive a crash, each with the revision that wrote it.
//!
//! ```text
//! control, rollouts ─► JournalWriter ─► Journal ─┬─ redb: one file of one machine
//!                      revisions, bounds         └─ in memory, with scripted faults: tests of everything above
//! ```
//!
//! [`Journal`] is what a store must be able to do: read, commit several keys at once if their revisions are still those
//! that were read, watch, and lease. It is asynchronous, because a disk or a peer may take its time; nothing here waits
//! for one longer than [`COMMIT_TIMEOUT`](writer::COMMIT_TIMEOUT). The [`JournalWriter`] is the one client of a journal in
//! this process: it remembers revisions and what became of the last write of each key.
//!
//! Nothing calls watch and lease yet: they are for replicas that decide as one. Until then the writer takes it that nobody
//! else writes. It reads all facts at the start, and a key again only after one of its own writes of it failed.
//!
//! Beside the journal lies a copy of the little that must be known when all of it is lost ([`CopyFile`]).
//!
//! Invariant: what a commit has acknowledged is durable. What it refused as [`JournalError::Unavailable`] may be as well,
//! so that its keys are not written again before their revisions were read.
//!
//! Invariant: revisions only grow, across deletions and restarts.

mod copy;
mod lease;
#[cfg(test)]
pub(crate) mod memory;
pub mod redb;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

pub(crate) use self::copy::CopyFile;
pub(crate) use self::lease::Lease;
pub use self::writer::JournalWriter;

/// The longest key.
pub(crate) const MAX_KEY_BYTES: usize = 512;

/// The largest value.
pub(crate) const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// All keys and values together.
pub(crate) const MAX_TOTAL_BYTES: usize = 8 * 1024 * 1024;

/// Changes that a watcher may be behind. One that is further behind is ended; it reads everything and watches anew.
pub(crate) const MAX_WATCH_BACKLOG: usize = 1024;

/// What a journal will answer. Dropping it does not take back what was asked.
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send>>;

/// What durable facts are kept in.
///
/// A key stands for at most one value. A commit gives all keys that it writes one revision, later than any before:
/// etcd's `mod_revision`, or the `resourceVersion` of the object in which Kubernetes keeps all of them.
pub trait Journal: fmt::Debug + Send + Sync {
    /// The facts whose keys begin with `prefix`, in the order of their keys.
    fn read(&self, prefix: &str) -> Answer<Vec<(Arc<str>, Fact)>>;

    /// Writes all of `transaction` if all its conditions hold, and nothing of it else. Commits that were asked for in an
    /// order are carried out in that order.
    fn commit(&self, transaction: Transaction) -> Answer<Revision>;

    /// What is committed under `prefix` after the revision `after`, in order. A deletion before the call is not told
    /// again. The receiver ends if it is more than [`MAX_WATCH_BACKLOG`] changes behind.
    fn watch(&self, prefix: &str, after: Revision) -> Answer<mpsc::Receiver<Change>>;

    /// Takes the lease `name` for `holder`, or renews it: until `ttl` has passed nobody else gets it.
    /// [`JournalError::Conflict`]: somebody else has it.
    fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Answer<Lease>;
}

/// The place of a commit in the order of all commits; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The number.
    #[must_use]
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    const fn from_number(number: u64) -> Self {
        Self(number)
    }

    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key stands for; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The bytes that were put.
    pub(crate) value: Arc<[u8]>,
    /// The commit that put them.
    pub(crate) revision: Revision,
}

/// One key of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// The key.
    pub(crate) key: String,
    /// What it stands for from now on; none removes it.
    pub(crate) value: Option<Vec<u8>>,
}

impl Write {
    /// Puts `value` as JSON.
    ///
    /// # Errors
    /// `value` cannot be written as JSON.
    pub(crate) fn json(key: String, value: &impl Serialize) -> Result<Self, JournalError> {
        let bytes = serde_json::to_vec(value).map_err(|error| JournalError::Unavailable(error.to_string()))?;
        Ok(Self { key, value: Some(bytes) })
    }

    /// Removes `key`.
    #[must_use]
    pub(crate) const fn remove(key: String) -> Self {
        Self { key, value: None }
    }
}

/// Writes that are committed together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The revision that each of these keys must still have; none: the key must not exist.
    pub(crate) conditions: Vec<(String, Option<Revision>)>,
    /// What is written, each key once.
    pub(crate) writes: Vec<Write>,
}

/// What a commit did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub(crate) key: Arc<str>,
    /// What it stands for now; none: it was removed.
    pub(crate) value: Option<Arc<[u8]>>,
    /// The commit.
    pub(crate) revision: Revision,
}

/// A key is not as the writer had read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{key}` has changed since it was read: revision {} was expected, {} is there; read it again",
    described(*.expected),
    described(*.found)
)]
pub struct Conflict {
    /// The key.
    pub(crate) key: String,
    /// The revision that the writer had read.
    pub(crate) expected: Option<Revision>,
    /// The one that is there.
    pub(crate) found: Option<Revision>,
}

impl Conflict {
    /// Whether all `conditions` hold, where `found` says the revision of a key.
    ///
    /// # Errors
    /// The first that does not.
    fn check(conditions: &[(String, Option<Revision>)], found: impl Fn(&str) -> Option<Revision>) -> Result<(), Self> {
        for (key, expected) in conditions {
            let (key, expected, found) = (key.clone(), *expected, found(key));
            if found != expected {
                return Err(Self { key, expected, found });
            }
        }
        Ok(())
    }
}

/// Why a journal refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A condition does not hold. Nothing was written.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// It does not take the write, or does not answer. Whether something was written is not known.
    #[error("{0}")]
    Unavailable(String),
    /// What it holds is not what was written.
    #[error("{0}")]
    Corrupt(String),
}

fn described(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "none".to_owned(), |revision| revision.to_string())
}
