//! Why a store cannot be opened or written, and what to do about it.

use std::path::PathBuf;

use crate::store::Conflict;

/// What a store refuses with. Nothing has been changed then, except as `Unavailable` says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store {} is in use by another process; stop that one, or give each its own directory", .path.display())]
    Locked {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The file's content is not what was written.
    #[error(
        "the store {} is damaged: {reason}; move the file away to begin with an empty one, or restore a copy",
        .path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later version of Weir wrote it in a form that this one does not know.
    #[error(
        "the store {} has format {found}, and this version of weir knows formats up to {known}; \
         run the newer version, or move the file away to begin with an empty one",
        .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that is known here.
        known: u64,
    },
    /// The disk or the directory does not take it: full, read-only, gone, not permitted. If it was a write, the
    /// store still answers reads, the fact may or may not be on the disk, and the next write tries again.
    #[error(
        "the store {} cannot be used: {reason}; check that the directory exists, is writable by this user and \
         that the disk has space",
        .path.display()
    )]
    Unavailable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The fact is not the one that the writer had read.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A bound of the store.
    #[error("`{key}` is not stored: {what} would have {bytes} bytes, and {limit} are allowed")]
    TooLarge {
        /// The beginning of the key.
        key: String,
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}
