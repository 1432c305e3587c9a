//! The database of one directory, held by one process.
//!
//! ```text
//! get, list ─► memory ◄─ load at open ─┐
//!                 ▲                    ▼
//! commit ─────────┴──────────────► weir.redb   (weir.lock: one process; weir.redb.damaged-<n>: quarantined)
//! ```
//!
//! All facts are also held in memory, bounded by [`MAX_TOTAL_BYTES`](crate::store::MAX_TOTAL_BYTES). So reading cannot
//! fail or wait: with a full, vanished or damaged disk Weir still knows what it had decided, and only refuses to
//! decide anew. After a failed write the file is opened and verified again by the next write; nothing has to be
//! restarted.
//!
//! Invariant: what a write has acknowledged is on the disk. What it refused with [`StoreError::Unavailable`] may
//! be as well, if the disk failed after the data and before the answer; it then shows after the next opening.

use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::Database;

use super::disk::{self, Disk};
use super::error::StoreError;
use super::facts::Facts;
use super::folder::{Folder, Lock};
use crate::store::{Fact, Revision, Transaction, Write};

/// What was found damaged and moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantined {
    /// Where the damaged file is now.
    pub(crate) to: PathBuf,
    /// What was wrong with it.
    pub(crate) reason: String,
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

    pub(super) fn open_on(dir: &Path, disk: Disk) -> Result<Self, StoreError> {
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
    /// one takes its place. The last few damaged files are kept for an operator to look at.
    ///
    /// # Errors
    /// As for [`Store::open`]; `Corrupt` only if the fresh file is damaged at once. A store that another process
    /// holds, that a newer Weir wrote or that cannot be reached is left as it is.
    pub(crate) fn quarantine(dir: &Path) -> Result<(Self, Option<Quarantined>), StoreError> {
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
    pub(crate) fn get(&self, key: &str) -> Option<Fact> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).by_key.get(key).cloned()
    }

    /// The facts whose keys begin with `prefix`, in the order of their keys. Does not touch the disk.
    #[must_use]
    pub(crate) fn list(&self, prefix: &str) -> Vec<(Arc<str>, Fact)> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts
            .by_key
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, fact)| (Arc::clone(key), fact.clone()))
            .collect()
    }

    /// As [`Store::list`], after the file was opened again if the last write lost it; as long as that fails, what was
    /// known before.
    #[must_use]
    pub(crate) fn read(&self, prefix: &str) -> Vec<(Arc<str>, Fact)> {
        let mut writer = self.writer();
        if let Err(error) = self.reopen(&mut writer) {
            tracing::debug!(%error, "the store is not read again");
        }
        drop(writer);
        self.list(prefix)
    }

    /// The revision of the last write.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn revision(&self) -> Revision {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).revision
    }

    /// Why the last write failed, or why the store was opened for reading only; `None` once a write succeeds.
    #[must_use]
    pub(crate) fn last_error(&self) -> Option<StoreError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes all of `transaction`, if its conditions hold. It is on the disk when this returns.
    ///
    /// # Errors
    /// Nothing is changed: `Conflict`, `TooLarge`, `Unavailable`, `Corrupt`, or `Locked` if the store was lost and
    /// another process has it.
    pub(crate) fn commit(&self, transaction: &Transaction) -> Result<Revision, StoreError> {
        let mut writer = self.writer();
        self.reopen(&mut writer)?;
        let (writes, revision) = {
            let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
            facts.fits(&transaction.writes)?;
            facts.meets(&transaction.conditions)?;
            let changes = |write: &&Write| write.value.is_some() || facts.by_key.contains_key(write.key.as_str());
            let writes: Vec<&Write> = transaction.writes.iter().filter(changes).collect();
            if writes.is_empty() {
                return Ok(facts.revision);
            }
            (writes, facts.revision.next())
        };
        let Some(database) = &writer.database else {
            return Err(StoreError::Unavailable { path: self.folder.database(), reason: "it is closed".to_owned() });
        };
        match disk::commit(database, &writes, revision) {
            Ok(()) => {
                self.note_error(None);
                self.facts.write().unwrap_or_else(PoisonError::into_inner).apply(&writes, revision);
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
