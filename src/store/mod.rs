//! Durable facts of one machine: keys and bytes that survive a crash, each with its place in the order of writes.
//!
//! The engine is redb rather than SQLite: both are ACID and sync before they answer, but redb is pure Rust, one
//! file without a C library, and the few kilobytes of shifts and rollout states need no query language. Its
//! checksums are verified whenever the file is opened, which for a file of this size costs nothing.
//!
//! ```text
//! get, list ─► memory ◄─ load at open ─┐
//!                 ▲                    ▼
//! put, delete ────┴──── commit ─► weir.redb   (weir.lock: one process; weir.redb.damaged-<n>: set aside)
//! put_copy ───────────────────► weir.copy   (what must be known when the rest is lost)
//! ```
//!
//! All facts are also held in memory, bounded by [`MAX_TOTAL_BYTES`]. So reading cannot fail or wait: with a
//! full, vanished or damaged disk Weir still knows what it had decided, and only refuses to decide anew. After a
//! failed write the file is opened and verified again by the next write; nothing has to be restarted.
//!
//! Calls that write block on the disk; on a runtime they belong into `spawn_blocking`.
//!
//! Invariant: what a write has acknowledged is on the disk. What it refused with [`StoreError::Unavailable`] may
//! be as well, if the disk failed after the data and before the answer; it then shows after the next opening.
//!
//! Invariant: revisions only grow, across deletions and restarts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::Database;

mod copy;
mod disk;
mod error;
mod folder;
#[cfg(test)]
mod tests;

pub use copy::{MAX_COPY_BYTES, read_copy};
use disk::{Change, Disk};
pub use error::StoreError;
use folder::{Folder, Lock};

/// The longest key.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest value.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// All keys and values together.
pub const MAX_TOTAL_BYTES: usize = 8 * 1024 * 1024;

/// The place of a fact in the order of all writes to its store; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
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
    pub value: Arc<[u8]>,
    /// When, in the order of writes.
    pub revision: Revision,
}

/// What was found damaged and moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Where the damaged file is now.
    pub to: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// The durable facts in one directory, held by one process.
pub struct Store {
    folder: Folder,
    disk: Disk,
    /// Contended by writers only, who have to wait for each other's sync anyway.
    writer: Mutex<Writer>,
    /// Written for the moment that a committed change takes to apply.
    facts: RwLock<Facts>,
    /// Apart from the writer, so that asking does not wait for a sync.
    last_error: Mutex<Option<StoreError>>,
}

/// What writing needs; the database is dropped first, and its lock after it.
struct Writer {
    database: Option<Database>,
    lock: Option<Lock>,
}

/// The content of the file, as of the last commit.
#[derive(Debug, Default)]
struct Facts {
    by_key: BTreeMap<Arc<str>, Fact>,
    revision: Revision,
}

impl Store {
    /// Opens the store in `dir`, which is created with mode 0700 if it is not there, and verifies all of it.
    ///
    /// A store that can be read but not written opens, and tells why by [`Store::last_error`].
    ///
    /// # Errors
    /// Any [`StoreError`] but `Conflict` and `TooLarge`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_on(dir, Disk::default())
    }

    fn open_on(dir: &Path, disk: Disk) -> Result<Self, StoreError> {
        let folder = Folder::open(dir)?;
        let lock = match folder.lock() {
            Err(StoreError::Unavailable { reason, .. }) => return Self::open_to_read(folder, disk, &reason),
            lock => lock?,
        };
        let opened = disk.open_or_create(&folder);
        Self::new(folder, disk, lock, opened)
    }

    fn new(
        folder: Folder,
        disk: Disk,
        lock: Lock,
        opened: Result<(Database, Facts), StoreError>,
    ) -> Result<Self, StoreError> {
        match opened {
            Ok((database, facts)) => {
                let writer = Mutex::new(Writer { database: Some(database), lock: Some(lock) });
                Ok(Self { folder, disk, writer, facts: RwLock::new(facts), last_error: Mutex::new(None) })
            }
            Err(StoreError::Unavailable { reason, .. }) => Self::open_to_read(folder, disk, &reason),
            Err(error) => Err(error),
        }
    }

    /// The last resort: nothing can be written, but what was is known. The lock is not kept, so that a process
    /// that can write may; it is taken again before the first write.
    fn open_to_read(folder: Folder, disk: Disk, reason: &str) -> Result<Self, StoreError> {
        let last_error = StoreError::Unavailable { path: folder.database(), reason: reason.to_owned() };
        match disk.read(&folder) {
            Ok(facts) => {
                let writer = Mutex::new(Writer { database: None, lock: None });
                Ok(Self { folder, disk, writer, facts: RwLock::new(facts), last_error: Mutex::new(Some(last_error)) })
            }
            Err(StoreError::Unavailable { .. }) => Err(last_error),
            Err(error) => Err(error),
        }
    }

    /// Opens the store in `dir`; one that is damaged is renamed to `weir.redb.damaged-<n>` first, and an empty
    /// one takes its place. The last few damaged files are kept for a person to look at.
    ///
    /// # Errors
    /// As for [`Store::open`]; `Corrupt` only if the fresh file is damaged at once. A store that another process
    /// holds, that a newer Weir wrote or that cannot be reached is left as it is.
    pub fn quarantine(dir: &Path) -> Result<(Self, Option<Quarantined>), StoreError> {
        let folder = Folder::open(dir)?;
        let lock = folder.lock()?;
        let disk = Disk::default();
        match disk.open_or_create(&folder) {
            Err(StoreError::Corrupt { reason, .. }) => {
                let to = folder.quarantine()?;
                let fresh = disk.open_or_create(&folder);
                Ok((Self::new(folder, disk, lock, fresh)?, Some(Quarantined { to, reason })))
            }
            opened => Ok((Self::new(folder, disk, lock, opened)?, None)),
        }
    }

    /// The fact of `key`, as of the last write. Does not touch the disk.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Fact> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).by_key.get(key).cloned()
    }

    /// The facts whose keys begin with `prefix`, in the order of their keys. Does not touch the disk.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Vec<(Arc<str>, Fact)> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts
            .by_key
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, fact)| (Arc::clone(key), fact.clone()))
            .collect()
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).revision
    }

    /// Why the last write failed, or why the store was opened for reading only; `None` once a write succeeds.
    #[must_use]
    pub fn last_error(&self) -> Option<StoreError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts `value` under `key`, whatever is there. It is on the disk when this returns.
    ///
    /// # Errors
    /// Nothing is changed: `TooLarge`, `Unavailable`, `Corrupt`, or `Locked` if the store was lost and another
    /// process has it.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        self.write(key, Some(value), |_| Ok(()))
    }

    /// Puts `value` under `key` if the fact there still has the revision `expected`; `None` means that there is
    /// no such fact.
    ///
    /// # Errors
    /// `Conflict` if it has another; else as for [`Store::put`].
    pub fn put_if(&self, key: &str, value: &[u8], expected: Option<Revision>) -> Result<Revision, StoreError> {
        self.write(key, Some(value), |found| {
            let found = found.map(|fact| fact.revision);
            if found == expected {
                return Ok(());
            }
            Err(StoreError::Conflict { key: key.to_owned(), expected, found })
        })
    }

    /// Removes the fact of `key`, if there is one, and returns it. That is on the disk when this returns.
    ///
    /// # Errors
    /// As for [`Store::put`].
    pub fn delete(&self, key: &str) -> Result<Option<Fact>, StoreError> {
        let mut removed = None;
        self.write(key, None, |found| {
            removed = found.cloned();
            Ok(())
        })?;
        Ok(removed)
    }

    fn write(
        &self,
        key: &str,
        value: Option<&[u8]>,
        mut admit: impl FnMut(Option<&Fact>) -> Result<(), StoreError>,
    ) -> Result<Revision, StoreError> {
        let mut writer = self.writer();
        self.reopen(&mut writer)?;
        let revision = {
            let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
            facts.fits(key, value)?;
            let found = facts.by_key.get(key);
            admit(found)?;
            if value.is_none() && found.is_none() {
                return Ok(facts.revision);
            }
            facts.revision.next()
        };
        let Some(database) = &writer.database else {
            return Err(StoreError::Unavailable { path: self.folder.database(), reason: "it is closed".to_owned() });
        };
        match disk::commit(database, &Change { key, value, revision }) {
            Ok(()) => {
                self.note_error(None);
                self.facts.write().unwrap_or_else(PoisonError::into_inner).apply(key, value, revision);
                Ok(revision)
            }
            Err(fault) => {
                let error = fault.at(&self.folder.database());
                writer.close();
                self.note_error(Some(error.clone()));
                Err(error)
            }
        }
    }

    /// Opens the file again if the last write lost it.
    fn reopen(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.database.is_some() {
            return Ok(());
        }
        let opened = match writer.lock.take().map_or_else(|| self.folder.lock(), Ok) {
            Ok(lock) => {
                writer.lock = Some(lock);
                self.disk.open(&self.folder)
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok((database, facts)) => {
                writer.database = Some(database);
                *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
                Ok(())
            }
            Err(error) => {
                self.note_error(Some(error.clone()));
                Err(error)
            }
        }
    }

    fn note_error(&self, last_error: Option<StoreError>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = last_error;
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Writer {
    fn close(&mut self) {
        if let Some(database) = self.database.take() {
            disk::close(database);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Facts {
    fn fits(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        let within = |what, bytes, limit| {
            if bytes <= limit { Ok(()) } else { Err(StoreError::TooLarge { key: excerpt(key), what, bytes, limit }) }
        };
        within("its key", key.len(), MAX_KEY_BYTES)?;
        let Some(value) = value else {
            return Ok(());
        };
        within("its value", value.len(), MAX_VALUE_BYTES)?;
        let others = self.by_key.iter().filter(|(other, _)| &***other != key);
        let others: usize = others.map(|(key, fact)| key.len() + fact.value.len()).sum();
        within("everything in the store", others + key.len() + value.len(), MAX_TOTAL_BYTES)
    }

    fn apply(&mut self, key: &str, value: Option<&[u8]>, revision: Revision) {
        self.revision = revision;
        match value {
            Some(value) => drop(self.by_key.insert(key.into(), Fact { value: value.into(), revision })),
            None => drop(self.by_key.remove(key)),
        }
    }
}

/// A key for a message, not longer than a line.
fn excerpt(key: &str) -> String {
    const SHOWN: usize = 60;
    key.chars().take(SHOWN).collect()
}
