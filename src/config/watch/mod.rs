//! Reports that the configuration, or a file it names, may have changed. What has changed is for the reader to find.
//!
//! ```text
//! inotify on each directory ─► an entry on the way to a file ─┐
//! poll, each second: size, times, inode, link of each entry ──┼─► debounce ─► one slot ─► reader
//! set_paths: a path that was not watched before ──────────────┘
//! ```
//!
//! The directory is watched and not the file, because editors and deployments replace files: a watch on the file
//! would follow the old one into its grave. On the way to a file lie links, as in a Kubernetes volume, where
//! `weir.yaml` → `..data/weir.yaml` and `..data` → `..2026_11_01/`; every one of them is an *entry*, and its
//! directory is watched.
//!
//! Events make it quick and the poll makes it right: inotify may be missing, out of watches, over its queue, or
//! blind on a network file system, and a directory that is itself replaced takes its watch along. Events are not
//! compared with anything, so that a write is noticed which keeps size and times; reading a file is no event.
//!
//! It runs on a thread of its own, since a scan of a file may hang with its file system. The thread ends when the
//! [`Watch`] is dropped.
//!
//! Invariant: a change after [`Watch::start`] or [`Watch::set_paths`] has returned leads to a [`FilesChanged`] after it.
//!
//! Invariant: nothing is opened, so that a FIFO or a device at a path cannot block.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventHandler, EventKind};
use tokio::sync::mpsc;

mod file_state;
mod inotify;
#[cfg(test)]
mod tests;

use file_state::FileState;
use inotify::{InotifyError, InotifyWatcher};

/// Something may have changed since the last one was taken. Several changes are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilesChanged;

/// When to scan, and when to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchOptions {
    /// A change is reported when nothing has changed for this long, so that a file is not read half-written.
    pub(crate) quiet: Duration,
    /// It is reported at the latest this long after the first change, though changes go on.
    pub(crate) longest: Duration,
    /// How often every path is scanned.
    pub(crate) poll: Duration,
    /// Whether to listen for events as well.
    pub(crate) events: Events,
}

/// Whether inotify is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Events {
    /// As far as there are any.
    #[default]
    Listen,
    /// Only the poll.
    #[cfg_attr(not(test), expect(dead_code, reason = "what the poll does alone is tested alone"))]
    Ignore,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            longest: Duration::from_millis(500),
            poll: Duration::from_secs(1),
            events: Events::Listen,
        }
    }
}

/// A set of paths that is watched for as long as this lives.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub(crate) struct Watch {
    shared: Arc<WatchState>,
}

impl Watch {
    /// Watches `paths`, which need not exist. Start it before reading them: what changes in between is reported.
    ///
    /// The receiver has one slot: whoever takes the [`FilesChanged`] from it and then reads the files has read every
    /// change that came before. It ends when the watch is dropped.
    ///
    /// # Errors
    /// The system has no thread to spare. Without inotify it works all the same, and logs that.
    pub(crate) fn start(
        paths: Vec<PathBuf>,
        options: WatchOptions,
    ) -> io::Result<(Self, mpsc::Receiver<FilesChanged>)> {
        Self::start_with(paths, options, |handler| match options.events {
            Events::Listen => InotifyWatcher::open(handler),
            Events::Ignore => InotifyWatcher::closed(),
        })
    }

    fn start_with(
        paths: Vec<PathBuf>,
        options: WatchOptions,
        open: impl FnOnce(InotifyHandler) -> InotifyWatcher,
    ) -> io::Result<(Self, mpsc::Receiver<FilesChanged>)> {
        let shared = Arc::new(WatchState::default());
        let (slot, receiver) = mpsc::channel(1);
        let mut worker = WatchWorker {
            options,
            inotify: open(InotifyHandler(Arc::clone(&shared))),
            paths: absolute(paths),
            state: FileState::default(),
            shared: Arc::clone(&shared),
            slot,
        };
        worker.scan();
        thread::Builder::new().name("weir-watch".to_owned()).spawn(move || worker.run())?;
        Ok((Self { shared }, receiver))
    }

    /// Watches these paths from now on, in place of the former. Does not wait.
    ///
    /// A path that was not watched before may have changed since it was read, so it is reported as [`FilesChanged`] once.
    pub(crate) fn set_paths(&self, paths: Vec<PathBuf>) {
        self.shared.update(|pending| pending.paths = Some(paths));
    }

    /// How often all paths have been scanned because of the poll.
    #[cfg(test)]
    fn polls(&self) -> u64 {
        self.shared.lock().polls
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.update(|pending| pending.stop = true);
    }
}

/// What the worker has to do, set by the owner of the watch and by events.
///
/// Contended by those three, each for a moment.
#[derive(Debug, Default)]
struct WatchState {
    pending: Mutex<PendingWork>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct PendingWork {
    stop: bool,
    paths: Option<Vec<PathBuf>>,
    unreported: Option<Unreported>,
    /// Why events were lost.
    overflowed: Option<InotifyError>,
    /// The entries whose events count.
    entries: HashSet<PathBuf>,
    #[cfg(test)]
    polls: u64,
}

/// Changes that have not been reported yet.
#[derive(Clone, Copy, Debug)]
struct Unreported {
    first: Instant,
    last: Instant,
}

impl Unreported {
    fn due(self, options: &WatchOptions) -> Instant {
        (self.last + options.quiet).min(self.first + options.longest)
    }
}

impl PendingWork {
    fn touch(&mut self) {
        let now = Instant::now();
        let first = self.unreported.map_or(now, |unreported| unreported.first);
        self.unreported = Some(Unreported { first, last: now });
    }
}

impl WatchState {
    fn lock(&self) -> MutexGuard<'_, PendingWork> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut PendingWork)) {
        change(&mut self.lock());
        self.woken.notify_one();
    }
}

/// Hears the events of the watched directories.
struct InotifyHandler(Arc<WatchState>);

impl EventHandler for InotifyHandler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.0.update(|pending| {
                pending.overflowed = Some(InotifyError::Overflowed);
                pending.touch();
            }),
            Ok(event) if !changes(event.kind) => {}
            Ok(event) => {
                let mut pending = self.0.lock();
                if event.paths.iter().any(|path| pending.entries.contains(path)) {
                    pending.touch();
                    self.0.woken.notify_one();
                }
            }
            Err(error) => self.0.update(|pending| {
                pending.overflowed = Some(error.into());
                pending.touch();
            }),
        }
    }
}

/// Reading is no change: the reader of the configuration would wake itself forever.
const fn changes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => matches!(kind, AccessKind::Close(AccessMode::Write)),
        _ => true,
    }
}

/// What is to be done next.
enum Due {
    Stop,
    Paths(Vec<PathBuf>),
    Notify,
    Poll,
}

struct WatchWorker {
    options: WatchOptions,
    inotify: InotifyWatcher,
    paths: Vec<PathBuf>,
    state: FileState,
    shared: Arc<WatchState>,
    slot: mpsc::Sender<FilesChanged>,
}

impl WatchWorker {
    fn run(mut self) {
        let mut next_poll = Instant::now() + self.options.poll;
        loop {
            match self.wait(next_poll) {
                Due::Stop => return,
                Due::Paths(paths) => self.replace(absolute(paths)),
                Due::Notify => {
                    // Scanned before it is reported: a change from here on is reported again.
                    self.scan();
                    if let Err(mpsc::error::TrySendError::Closed(_)) = self.slot.try_send(FilesChanged) {
                        return;
                    }
                }
                Due::Poll => {
                    if self.scan() {
                        self.shared.lock().touch();
                    }
                    next_poll = Instant::now() + self.options.poll;
                    #[cfg(test)]
                    self.shared.update(|pending| pending.polls += 1);
                }
            }
        }
    }

    fn wait(&self, next_poll: Instant) -> Due {
        let mut pending = self.shared.lock();
        loop {
            if pending.stop {
                return Due::Stop;
            }
            if let Some(paths) = pending.paths.take() {
                return Due::Paths(paths);
            }
            let now = Instant::now();
            let due = pending.unreported.map(|unreported| unreported.due(&self.options));
            if due.is_some_and(|due| due <= now) {
                pending.unreported = None;
                return Due::Notify;
            }
            if next_poll <= now {
                return Due::Poll;
            }
            let until = due.map_or(next_poll, |due| due.min(next_poll));
            let woken = self.shared.woken.wait_timeout(pending, until.saturating_duration_since(now));
            pending = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn replace(&mut self, paths: Vec<PathBuf>) {
        self.paths = paths;
        if self.scan() {
            self.shared.lock().touch();
        }
    }

    /// Scans all paths and directs the events to the entries on the way to them. Whether anything is other
    /// than at the last scan, or was not there.
    ///
    /// The events come first: what changes between the two is reported by them.
    fn scan(&mut self) -> bool {
        let before = FileState::of(&self.paths);
        let overflowed = {
            let mut pending = self.shared.lock();
            pending.entries = before.entries().map(Path::to_owned).collect();
            pending.overflowed.take()
        };
        self.inotify.direct(before.directories(), overflowed);
        let after = FileState::of(&self.paths);
        let differs = after.differs_from(&self.state);
        // A way that turned while the events were directed is walked again with the next scan.
        self.state = if before.entries().eq(after.entries()) { after } else { before };
        differs
    }
}

/// The paths as they are meant here and now, should the process change its directory.
fn absolute(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.into_iter().map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
}
