//! The store's directory: its mode, the lock that keeps a second process out, and damaged files set aside.
//!
//! The lock is a file of its own, because the database file is replaced: it is created under another name and
//! renamed, so that a crash in between never leaves half a database, and it is renamed when it is damaged.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// A directory that exists.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

/// Held while the process owns the store; released when dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not read")] File);

impl Folder {
    /// The directory, created for this user alone if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let folder = Self(dir.to_owned());
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(|error| unavailable(dir, &error))?;
        Ok(folder)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join(DATABASE)
    }

    /// Where a database is made before it takes its place.
    pub(super) fn temporary(&self) -> PathBuf {
        self.0.join(TEMPORARY)
    }

    /// Takes the lock, or says `Locked` at once.
    pub(super) fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.0.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| unavailable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: self.database() }),
            Err(TryLockError::Error(error)) => Err(unavailable(&path, &error)),
        }
    }

    /// Makes renames in the directory durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// Renames the database to the next free `damaged-<n>` and removes all but the last [`MAX_DAMAGED`] of these.
    pub(super) fn quarantine(&self) -> Result<PathBuf, StoreError> {
        let database = self.database();
        self.rename_quarantined(&database).map_err(|error| unavailable(&database, &error))
    }

    fn rename_quarantined(&self, database: &Path) -> io::Result<PathBuf> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(DAMAGED)?.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        let path = |number: u64| self.0.join(format!("{DAMAGED}{number}"));
        fs::rename(database, path(next))?;
        let superfluous = (numbers.len() + 1).saturating_sub(MAX_DAMAGED);
        for number in numbers.into_iter().take(superfluous) {
            fs::remove_file(path(number))?;
        }
        self.sync()?;
        Ok(path(next))
    }
}

pub(super) fn unavailable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable { path: path.to_owned(), reason: error.to_string() }
}

const DATABASE: &str = "weir.redb";
const TEMPORARY: &str = "weir.redb.new";
const LOCK: &str = "weir.lock";
const DAMAGED: &str = "weir.redb.damaged-";

/// Damaged files that stay for an operator to look at.
const MAX_DAMAGED: usize = 3;
