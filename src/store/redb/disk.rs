//! The database file: the only place that knows redb.
//!
//! redb verifies the whole file when it is opened and reports damage as an error, but does not promise to never
//! panic over a file that changes under it. So every call into it is contained: a panic becomes `Corrupt`, and
//! the database that it came from is not used again. Damage to the last commit alone cannot be told from a crash
//! in the middle of it; redb then goes back to the commit before.
//!
//! ```text
//! meta   "format" → 1, "revision" → the last one
//! facts  key → (revision, bytes)
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use super::error::StoreError;
use super::facts::Facts;
use super::folder::{Folder, unavailable};
use crate::store::{Fact, Revision, Write};

/// How a file becomes a database; tests put a failing disk in between.
type Engine = Box<dyn Fn(File) -> Result<Database, DatabaseError> + Send + Sync>;

/// Opens databases.
pub(super) struct Disk {
    engine: Engine,
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(Box::new(|file| builder().create_with_backend(FileBackend::new(file)?)))
    }
}

impl Disk {
    pub(super) const fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Opens and verifies the database, and reads all of it. One that is not there is created.
    pub(super) fn open_or_create(&self, folder: &Folder) -> Result<(Database, Facts), StoreError> {
        let path = folder.database();
        if !path.try_exists().map_err(|error| unavailable(&path, &error))? {
            self.create(folder)?;
        }
        self.open(folder)
    }

    /// Opens and verifies a database that must be there: what has vanished is not replaced by an empty one.
    pub(super) fn open(&self, folder: &Folder) -> Result<(Database, Facts), StoreError> {
        let path = folder.database();
        let file = existing(&path, OpenOptions::new().read(true).write(true))?;
        let opened = contained(|| {
            let database = (self.engine)(file)?;
            let facts = load(&database)?;
            Ok((database, facts))
        });
        opened.map_err(|fault| fault.at(&path))
    }

    /// Reads a database that cannot be written, without changing it.
    ///
    /// redb's own way of reading refuses a file whose last process did not close it, which is every one that was killed.
    /// So the file is copied into memory, where redb can verify and repair it as usual.
    pub(super) fn read(&self, folder: &Folder) -> Result<Facts, StoreError> {
        let path = folder.database();
        let file = existing(&path, OpenOptions::new().read(true))?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Fault::Locked.at(&path)),
            // Not every file system has locks, and one that cannot be written has no other writer here.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "the store is read without a lock"),
        }
        let mut bytes = Vec::new();
        let read = (&file).take(MAX_READ_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| unavailable(&path, &error))?;
        if bytes.len() as u64 > MAX_READ_BYTES {
            return Err(unavailable(&path, &io::Error::from(ErrorKind::FileTooLarge)));
        }
        let loaded = contained(|| {
            let memory = InMemoryBackend::new();
            memory.set_len(bytes.len() as u64)?;
            memory.write(0, &bytes)?;
            drop(bytes);
            load(&builder().create_with_backend(memory)?)
        });
        loaded.map_err(|fault| fault.at(&path))
    }

    /// Makes an empty database under another name and renames it, so that it is there whole or not at all.
    fn create(&self, folder: &Folder) -> Result<(), StoreError> {
        let path = folder.temporary();
        self.create_at(&path)?;
        let renamed = fs::rename(&path, folder.database()).and_then(|()| folder.sync());
        renamed.map_err(|error| unavailable(&path, &error))
    }

    fn create_at(&self, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unavailable(path, &error)),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| unavailable(path, &error))?;
        let made = contained(|| {
            let database = (self.engine)(file)?;
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert(FORMAT_KEY, FORMAT)?;
                meta.insert(REVISION_KEY, 0)?;
                transaction.open_table(FACTS)?;
            }
            transaction.commit()?;
            Ok(database.close()?)
        });
        made.map_err(|fault| fault.at(path))
    }
}

/// Writes changes that belong together, and syncs them.
pub(super) fn commit(database: &Database, writes: &[&Write], revision: Revision) -> Result<(), Fault> {
    contained(|| {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut facts = transaction.open_table(FACTS)?;
            for Write { key, value } in writes {
                match value {
                    Some(value) => drop(facts.insert(key.as_str(), (revision.number(), value.as_slice()))?),
                    None => drop(facts.remove(key.as_str())?),
                }
            }
            transaction.open_table(META)?.insert(REVISION_KEY, revision.number())?;
        }
        Ok(transaction.commit()?)
    })
}

/// Closes a database, whatever state it is in. What was acknowledged is on the disk already.
pub(super) fn close(database: Database) {
    let closed = contained(|| Ok(database.close()?));
    if let Err(fault) = closed {
        tracing::debug!(?fault, "the store was not closed cleanly, and will be verified when it is opened");
    }
}

/// What a call into redb came to, if not to success.
#[derive(Debug)]
pub(super) enum Fault {
    Locked,
    Corrupt(String),
    Newer(u64),
    Unavailable(String),
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Locked => StoreError::Locked { path },
            Self::Corrupt(reason) => StoreError::Corrupt { path, reason },
            Self::Newer(found) => StoreError::Newer { path, found, known: FORMAT },
            Self::Unavailable(reason) => StoreError::Unavailable { path, reason },
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        use redb::Error;
        match error.into() {
            Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => Self::Locked,
            Error::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Self::Corrupt(error.to_string())
            }
            Error::Io(error) => Self::Unavailable(error.to_string()),
            error @ (Error::Corrupted(_)
            | Error::UpgradeRequired(_)
            | Error::TableTypeMismatch { .. }
            | Error::TypeDefinitionChanged { .. }
            | Error::TableDoesNotExist(_)
            | Error::TableIsMultimap(_)
            | Error::TableIsNotMultimap(_)) => Self::Corrupt(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// Runs a call into redb, and makes a panic in it an error.
///
/// What the call leaves behind is not looked at again: callers drop the database of a call that failed.
fn contained<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Fault::Corrupt(format!("the database engine gave up: {said}")))
    })
}

/// A regular file with something in it. Opening another kind could block, and an empty one would be taken for
/// a new database.
fn existing(path: &Path, how: &OpenOptions) -> Result<File, StoreError> {
    let metadata = fs::metadata(path).map_err(|error| unavailable(path, &error))?;
    if !metadata.is_file() {
        return Err(unavailable(path, &io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")));
    }
    if metadata.len() == 0 {
        return Err(Fault::Corrupt("the file is empty".to_owned()).at(path));
    }
    how.open(path).map_err(|error| unavailable(path, &error))
}

fn load(database: &impl ReadableDatabase) -> Result<Facts, Fault> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |key: &str| match meta.get(key)? {
        Some(number) => Ok(number.value()),
        None => Err(Fault::Corrupt(format!("it has no {key}"))),
    };
    let format = number(FORMAT_KEY)?;
    if format > FORMAT {
        return Err(Fault::Newer(format));
    }
    let mut facts = Facts { revision: Revision::from_number(number(REVISION_KEY)?), ..Facts::default() };
    for entry in transaction.open_table(FACTS)?.iter()? {
        let (key, fact) = entry?;
        let (revision, value) = fact.value();
        facts
            .by_key
            .insert(key.value().into(), Fact { value: value.into(), revision: Revision::from_number(revision) });
    }
    Ok(facts)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// redb's default is 1 GiB. Reads are answered from the facts in memory, so that the cache is for writes only.
const CACHE_BYTES: usize = 1024 * 1024;

/// The largest file that is read into memory where it cannot be written: the facts have 8 MiB, and a database that is
/// written again and again has a few times that.
const MAX_READ_BYTES: u64 = 128 * 1024 * 1024;

/// The newest format that is known here. `meta` keeps its types in all formats, so that each can be told.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FACTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("facts");
const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";
