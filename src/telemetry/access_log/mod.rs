//! The access log: one JSON line per request, or off.
//!
//! ```text
//! request ── JSON ──►[ its thread's buffer ]──► writer: one write for many lines ──► stdout, stderr, file
//!                full: drop and count
//! ```
//!
//! A request leaves its line in its thread's buffer and goes on. A thread of its own writes: the first line after a
//! quiet time at once, else what came together in 100 ms, or 64 KiB if that is sooner. Waking that thread for each
//! line cost more than half of what a request costs. What the buffers have no room for is dropped and counted
//! (`weir_access_log_dropped_total`). A pipe that nobody reads costs lines, never requests.
//!
//! Invariants: [`AccessLog::log`] never waits for the output; the buffers and each line in them are bounded; lines of
//! one thread stay in order; every line given to it before the end is either written whole or counted as dropped.

mod buffers;
mod line;
mod sink;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, Thread};
use std::time::Duration;

pub(crate) use line::{Line, LogText};

use buffers::{Appended, LineBuffers};
use sink::Sink;

/// Lines that wait at most on each thread, unless said otherwise: 100 ms of 80,000 requests/s.
pub(crate) const MAX_QUEUED_LINES: usize = 8_192;

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogOutput {
    /// Nowhere; lines are not even built.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
    /// To the end of this file, which is made if there is none (mode 0640).
    File(PathBuf),
}

/// Where requests leave their lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    /// None if the log is off.
    writer: Option<Arc<WriterHandle>>,
    shared: Arc<LogShared>,
}

/// The thread that writes. Dropping it leaves the thread to end by itself, when the last [`AccessLog`] is
/// gone and all lines are written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: AccessLog,
    done: Option<Receiver<()>>,
}

/// What requests and the thread that writes share.
#[derive(Debug)]
struct LogShared {
    buffers: LineBuffers,
    reopen: AtomicBool,
    stop: AtomicBool,
    dropped: Arc<AtomicU64>,
}

/// Wakes the thread that writes, and ends it when nobody can log any more.
#[derive(Debug)]
struct WriterHandle {
    thread: Thread,
    shared: Arc<LogShared>,
}

impl WriterHandle {
    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether all lines were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "lines may be lost"]
pub(crate) enum Flushed {
    /// Every line was written, or counted as dropped because writing it failed.
    All,
    /// Whoever reads the log did not take the lines in time; some are lost and not counted.
    TimedOut,
}

impl AccessLog {
    /// Starts the log with room for `capacity` waiting lines of each thread (at least one). Lines that are not written are
    /// counted in `dropped`; see [`Recorder::lines_dropped`](crate::telemetry::Recorder::lines_dropped).
    ///
    /// # Errors
    /// If the file cannot be opened or the thread cannot be started.
    pub(crate) fn start(output: LogOutput, capacity: usize, dropped: Arc<AtomicU64>) -> io::Result<(Self, LogWriter)> {
        match output {
            LogOutput::Off => Ok(Self::off(1, dropped)),
            LogOutput::Stdout => Self::with(sink::LogFile::stdout()?, capacity, dropped),
            LogOutput::Stderr => Self::with(sink::LogFile::stderr()?, capacity, dropped),
            LogOutput::File(path) => {
                let what = format!("cannot open the access log `{}`", path.display());
                let file = sink::LogFile::file(path)
                    .map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))?;
                Self::with(file, capacity, dropped)
            }
        }
    }

    fn off(capacity: usize, dropped: Arc<AtomicU64>) -> (Self, LogWriter) {
        let (reopen, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = LogShared { buffers: LineBuffers::new(capacity), reopen, stop, dropped };
        let log = Self { writer: None, shared: Arc::new(shared) };
        (log.clone(), LogWriter { log, done: None })
    }

    fn with(sink: impl Sink, capacity: usize, dropped: Arc<AtomicU64>) -> io::Result<(Self, LogWriter)> {
        let (mut log, _) = Self::off(capacity, dropped);
        let (ending, done) = sync_channel(1);
        let shared = Arc::clone(&log.shared);
        let started = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer::run(&shared, sink);
            drop(ending);
        })?;
        let handle = WriterHandle { thread: started.thread().clone(), shared: Arc::clone(&log.shared) };
        log.writer = Some(Arc::new(handle));
        Ok((log.clone(), LogWriter { log, done: Some(done) }))
    }

    /// Whether lines go anywhere; if not, there is no need to build one.
    #[inline]
    #[must_use]
    pub(crate) const fn enabled(&self) -> bool {
        self.writer.is_some()
    }

    /// Leaves a line to be written. It never waits for the output: what there is no room for is dropped and counted.
    pub(crate) fn log(&self, line: &Line<'_>) {
        let Some(writer) = &self.writer else { return };
        match self.shared.buffers.append(line) {
            Appended::Quietly => {}
            Appended::Wake => writer.thread.unpark(),
            Appended::Refused => {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Opens the file anew, after somebody moved it away. Lines that wait already go to the new one. If it
    /// cannot be opened, the old one stays in use and a warning says so. For the other outputs it does nothing.
    pub(crate) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        if let Some(writer) = &self.writer {
            writer.thread.unpark();
        }
    }

    /// Lines that were dropped so far.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl LogWriter {
    /// Ends the log: writes the lines that wait and waits for that, for at most `limit` (a second is
    /// sensible). It blocks the calling thread. Lines that come later are dropped; to be called when requests
    /// are over.
    pub(crate) fn finish(self, limit: Duration) -> Flushed {
        let Some(done) = self.done else { return Flushed::All };
        if let Some(writer) = &self.log.writer {
            writer.stop();
        }
        match done.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => Flushed::TimedOut,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Flushed::All,
        }
    }
}

#[cfg(test)]
mod tests;
