//! A second copy of the little that must be known when the store itself is lost: one small file beside it.
//!
//! It is not a part of the store: a damaged database says nothing about it, and it is readable where a newer Weir's
//! database is not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Store;

const COPY: &str = "weir.copy";
const TEMPORARY: &str = "weir.copy.new";

/// The largest copy.
pub const MAX_COPY_BYTES: usize = 256 * 1024;

/// The copy in `dir`; none if there is none, or nothing that could be one.
#[must_use]
pub fn read_copy(dir: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(dir.join(COPY)).ok()?;
    file.take(MAX_COPY_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= MAX_COPY_BYTES).then_some(bytes)
}

impl Store {
    /// The copy beside this store; none if there is none, or nothing that could be one.
    #[must_use]
    pub fn copy(&self) -> Option<Vec<u8>> {
        read_copy(self.folder.path())
    }

    /// Replaces the copy, whole or not at all. It is on the disk when this returns.
    ///
    /// # Errors
    /// What the disk says; or that it is larger than [`MAX_COPY_BYTES`].
    pub fn put_copy(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > MAX_COPY_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the copy is too large"));
        }
        let dir = self.folder.path();
        let temporary = dir.join(TEMPORARY);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(COPY))?;
        self.folder.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_outlives_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.copy(), None);
        store.put_copy(b"one").unwrap();
        store.put_copy(b"two").unwrap();
        assert!(store.put_copy(&vec![0; MAX_COPY_BYTES + 1]).is_err());
        drop(store);
        fs::write(dir.path().join("weir.redb"), b"no database").unwrap();
        assert!(Store::open(dir.path()).is_err());
        assert_eq!(read_copy(dir.path()).as_deref(), Some(&b"two"[..]));
        assert_eq!(Store::quarantine(dir.path()).unwrap().0.copy().as_deref(), Some(&b"two"[..]));
    }
}
