//! A copy of the little that must be known when the journal itself is lost: one small file beside it.
//!
//! It is not a part of the journal: a damaged database says nothing about it, and it is readable where a newer Weir's
//! database is not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const NAME: &str = "weir.copy";
const TEMPORARY: &str = "weir.copy.new";

/// The largest copy.
pub(crate) const MAX_COPY_BYTES: usize = 256 * 1024;

/// The copy in a directory.
#[derive(Clone, Debug)]
pub struct CopyFile {
    directory: PathBuf,
}

impl CopyFile {
    /// The copy in `directory`, which need not exist.
    #[must_use]
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What it says; none if there is none, or nothing that could be one.
    #[must_use]
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.directory.join(NAME)).ok()?;
        file.take(MAX_COPY_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() <= MAX_COPY_BYTES).then_some(bytes)
    }

    /// Replaces it, whole or not at all. It is on the disk when this returns.
    ///
    /// # Errors
    /// What the disk says; or that it is larger than [`MAX_COPY_BYTES`].
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > MAX_COPY_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the copy is too large"));
        }
        let temporary = self.directory.join(TEMPORARY);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.directory.join(NAME))?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::super::redb::Store;
    use super::*;

    #[test]
    fn a_copy_outlives_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let copy = CopyFile::new(dir.path().to_owned());
        assert_eq!(copy.read(), None);
        copy.write(b"one").unwrap();
        copy.write(b"two").unwrap();
        assert!(copy.write(&vec![0; MAX_COPY_BYTES + 1]).is_err());
        drop(store);
        fs::write(dir.path().join("weir.redb"), b"no database").unwrap();
        assert!(Store::open(dir.path()).is_err());
        assert_eq!(copy.read().as_deref(), Some(&b"two"[..]));
        Store::quarantine(dir.path()).unwrap();
        assert_eq!(copy.read().as_deref(), Some(&b"two"[..]));
    }
}
