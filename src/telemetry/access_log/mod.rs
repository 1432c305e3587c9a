//! The access log: one JSON line per request, or off.
//!
//! ```text
//! request ── Box<Line> ──►[ bounded queue ]──► thread: JSON, in batches ──► stdout, stderr, file
//!                full: drop and count
//! ```
//!
//! A request gives its line away and goes on: rendering and writing happen on a thread of their own, and what
//! that thread cannot take is dropped and counted (`weir_access_log_dropped_total`). A pipe that nobody reads
//! costs lines, never requests.
//!
//! Invariants: [`AccessLog::log`] never waits; the queue and each line in it are bounded; every line given to
//! it before the end is either written whole or counted as dropped.

mod line;
mod sink;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

pub(crate) use line::{Line, LogText};

use sink::Sink;

/// Lines that wait at most, unless the configuration says otherwise: a second of 8,000 requests/s.
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
    queue: Option<SyncSender<Message>>,
    signals: Arc<WriterSignals>,
}

/// The thread that writes. Dropping it leaves the thread to end by itself, when the last [`AccessLog`] is
/// gone and all lines are written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: AccessLog,
    done: Option<Receiver<()>>,
}

/// Signals to the thread beside the queue, so that a full queue cannot hold them up.
#[derive(Debug)]
struct WriterSignals {
    reopen: AtomicBool,
    stop: AtomicBool,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    /// Boxed: the queue's memory is allocated at once.
    Line(Box<Line>),
    /// Look at the signals.
    Wake,
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
    /// Starts the log with room for `capacity` waiting lines (at least one). Lines that are not written are
    /// counted in `dropped`; see [`Recorder::lines_dropped`](crate::telemetry::Recorder::lines_dropped).
    ///
    /// # Errors
    /// If the file cannot be opened or the thread cannot be started.
    pub(crate) fn start(output: LogOutput, capacity: usize, dropped: Arc<AtomicU64>) -> io::Result<(Self, LogWriter)> {
        match output {
            LogOutput::Off => Ok(Self::off(dropped)),
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

    fn off(dropped: Arc<AtomicU64>) -> (Self, LogWriter) {
        let signals = WriterSignals { reopen: AtomicBool::new(false), stop: AtomicBool::new(false), dropped };
        let log = Self { queue: None, signals: Arc::new(signals) };
        (log.clone(), LogWriter { log, done: None })
    }

    fn with(sink: impl Sink, capacity: usize, dropped: Arc<AtomicU64>) -> io::Result<(Self, LogWriter)> {
        let (mut log, _) = Self::off(dropped);
        let (queue, lines) = sync_channel(capacity.max(1));
        let (ending, done) = sync_channel(1);
        let signals = Arc::clone(&log.signals);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            worker::run(&lines, sink, &signals);
            drop(ending);
        })?;
        log.queue = Some(queue);
        Ok((log.clone(), LogWriter { log, done: Some(done) }))
    }

    /// Whether lines go anywhere; if not, there is no need to build one.
    #[inline]
    #[must_use]
    pub(crate) const fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Gives a line away. It never waits: what the queue has no room for is dropped and counted.
    pub(crate) fn log(&self, line: Line) {
        if let Some(queue) = &self.queue
            && queue.try_send(Message::Line(Box::new(line))).is_err()
        {
            self.signals.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, after somebody moved it away. Lines that wait already go to the new one. If it
    /// cannot be opened, the old one stays in use and a warning says so. For the other outputs it does nothing.
    pub(crate) fn reopen(&self) {
        self.signals.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Lines that were dropped so far.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.signals.dropped.load(Ordering::Relaxed)
    }

    /// The queue being full is no loss: then the thread is awake.
    fn wake(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Message::Wake);
        }
    }
}

impl LogWriter {
    /// Ends the log: writes the lines that wait and waits for that, for at most `limit` (a second is
    /// sensible). It blocks the calling thread. Lines that come later are dropped; to be called when requests
    /// are over.
    pub(crate) fn finish(self, limit: Duration) -> Flushed {
        let Some(done) = self.done else { return Flushed::All };
        self.log.signals.stop.store(true, Ordering::Release);
        self.log.wake();
        match done.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => Flushed::TimedOut,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Flushed::All,
        }
    }
}

#[cfg(test)]
mod tests;
