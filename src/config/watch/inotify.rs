//! The kernel's events on a set of directories, as far as they can be had.
//!
//! Whatever fails here is logged once and left to the poll; each scan tries again, so that it heals when watches
//! are free again. The library below answers for its own thread with panics; they are contained.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use notify::{ErrorKind, EventHandler, RecursiveMode, Watcher};

/// Why events are incomplete.
#[derive(Debug, thiserror::Error)]
pub(super) enum InotifyError {
    /// More happened than the kernel keeps.
    #[error("the queue of events was full")]
    Overflowed,
    /// What inotify, or the library above it, says.
    #[error(transparent)]
    Notify(#[from] notify::Error),
    /// This directory cannot be watched.
    #[error("{}: {why}", .path.display())]
    Directory { path: PathBuf, why: Box<Self> },
    /// The library's thread is gone.
    #[error("the watcher's thread has ended")]
    ThreadEnded,
}

/// The directories that are watched.
pub(super) struct InotifyWatcher {
    watcher: Option<Box<dyn Watcher + Send>>,
    watched: BTreeMap<PathBuf, Identity>,
    /// Whether the failure has been logged.
    warned: bool,
}

/// Device, inode and birth: another directory under the same path needs another watch, and inodes are used again.
type Identity = (u64, u64, Option<SystemTime>);

impl InotifyWatcher {
    /// Events go to `handler`. Without inotify there are none.
    pub(super) fn open(handler: impl EventHandler) -> Self {
        let opened = contained(|| notify::recommended_watcher(handler));
        match opened {
            Ok(watcher) => Self::on(Some(Box::new(watcher))),
            Err(why) => {
                let mut inotify = Self::closed();
                inotify.warn_once(&why);
                inotify
            }
        }
    }

    /// No events at all.
    pub(super) fn closed() -> Self {
        Self::on(None)
    }

    pub(super) fn on(watcher: Option<Box<dyn Watcher + Send>>) -> Self {
        Self { watcher, watched: BTreeMap::new(), warned: false }
    }

    /// Watches these directories and no others. `overflowed` is why events were lost since the last time.
    pub(super) fn direct(&mut self, directories: BTreeSet<PathBuf>, overflowed: Option<InotifyError>) {
        if self.watcher.is_none() {
            return;
        }
        let gone: Vec<_> = self.watched.keys().filter(|path| !directories.contains(*path)).cloned().collect();
        for path in gone {
            self.unwatch(&path);
        }
        let mut failure = overflowed;
        for path in directories {
            if let Err(why) = self.watch(path) {
                failure = Some(why);
            }
        }
        if let Some(why) = failure {
            self.warn_once(&why);
        }
    }

    fn watch(&mut self, path: PathBuf) -> Result<(), InotifyError> {
        // The identity is taken first: should the directory be replaced in between, the next scan corrects it.
        let Ok(metadata) = path.metadata() else {
            self.unwatch(&path);
            return Ok(()); // What is not there is for the reader to report, and for the poll to find again.
        };
        let identity = (metadata.dev(), metadata.ino(), metadata.created().ok());
        if self.watched.get(&path) == Some(&identity) {
            return Ok(());
        }
        self.unwatch(&path);
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        let tried = contained(|| watcher.watch(&path, RecursiveMode::NonRecursive).map(|()| true).or_else(missing));
        if tried.map_err(|why| InotifyError::Directory { path: path.clone(), why: Box::new(why) })? {
            self.watched.insert(path, identity);
        }
        Ok(())
    }

    fn unwatch(&mut self, path: &Path) {
        if self.watched.remove(path).is_none() {
            return;
        }
        if let Some(watcher) = &mut self.watcher {
            // The kernel may have ended the watch together with its directory.
            drop(contained(|| watcher.unwatch(path)));
        }
    }

    fn warn_once(&mut self, why: &InotifyError) {
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                %why,
                "the kernel's events on the configuration are incomplete, and its changes are found by looking each \
                 second; check fs.inotify.max_user_watches, max_user_instances and max_queued_events"
            );
        }
    }
}

impl Drop for InotifyWatcher {
    fn drop(&mut self) {
        let watcher = self.watcher.take();
        drop(contained(|| {
            drop(watcher);
            Ok(())
        }));
    }
}

/// A directory that vanished between the scan and the watch is not watched, which is no failure.
fn missing(error: notify::Error) -> notify::Result<bool> {
    match &error.kind {
        ErrorKind::PathNotFound => Ok(false),
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound => Ok(false),
        _ => Err(error),
    }
}

fn contained<T>(call: impl FnOnce() -> notify::Result<T>) -> Result<T, InotifyError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(done) => done.map_err(InotifyError::Notify),
        Err(_) => Err(InotifyError::ThreadEnded),
    }
}
