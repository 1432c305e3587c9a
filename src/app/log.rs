//! The log: what happens, as lines on standard error, which may be a pipe that nobody reads.
//!
//! ```text
//! event ─► text ─►[ bounded queue ]─► thread ─► standard error
//!              full: drop and count
//! ```
//!
//! Invariant: who logs never waits for whoever reads the log. What the queue cannot take is dropped and counted
//! (`weir_log_dropped_total`), a line says how much once there is room again, and at the end [`FLUSH_TIMEOUT`] is all
//! that the last lines get.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Lines that wait at most: a burst of refused reloads and endpoints that go is some hundred.
const MAX_QUEUED_LINES: usize = 4_096;
/// Bytes of lines that wait at most, since a line may name every fault of a file.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// How long the last lines may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait for an output that refuses instead of blocking, before asking again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The running log. Dropping it lets the last lines out, for [`FLUSH_TIMEOUT`] at most.
pub(super) struct Log {
    queue: LogQueue,
    done: Receiver<()>,
}

/// Where lines are left; cheap to clone.
#[derive(Clone)]
struct LogQueue {
    lines: SyncSender<Vec<u8>>,
    shared: Arc<LogState>,
}

#[derive(Default)]
struct LogState {
    /// Bytes in the queue.
    waiting: AtomicUsize,
    stop: AtomicBool,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Starts the log of the process: events, and panics. The engine's own events are off: it logs each failed request,
    /// which ours counts.
    ///
    /// # Errors
    /// The system's, if there is no thread or no descriptor for it.
    pub(super) fn start() -> io::Result<Self> {
        let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let log = Self::to(output)?;
        let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| {
            let engine = "pingora=off,pingora_core=off,pingora_proxy=off,pingora_pool=off,pingora_http=off,h2=off";
            EnvFilter::new(format!("info,{engine}"))
        });
        let queue = log.queue.clone();
        let colours = io::stderr().is_terminal();
        // A second start in one process (tests) keeps the first log.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || queue.clone())
            .with_ansi(colours)
            .try_init();
        let queue = log.queue.clone();
        // The standard hook would wait for a reader, with the lock of standard error held.
        std::panic::set_hook(Box::new(move |panic| queue.push(report(panic))));
        Ok(log)
    }

    fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(MAX_QUEUED_LINES);
        let (ending, done) = sync_channel(1);
        let queue = LogQueue { lines, shared: Arc::default() };
        let shared = Arc::clone(&queue.shared);
        thread::Builder::new().name("weir-log".to_owned()).spawn(move || {
            write(&waiting, output, &shared);
            drop(ending);
        })?;
        Ok(Self { queue, done })
    }

    /// The counter of lines that were dropped.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.queue.shared.dropped)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.shared.stop.store(true, Ordering::Release);
        // Wakes the thread. A full queue is no loss: then it does not sleep.
        let _ = self.queue.lines.try_send(Vec::new());
        // Whoever does not read by now is not waited for.
        let _ = self.done.recv_timeout(FLUSH_TIMEOUT);
    }
}

impl LogQueue {
    fn push(&self, line: Vec<u8>) {
        let LogState { waiting, dropped, .. } = &*self.shared;
        let len = line.len();
        let fits = waiting.fetch_add(len, Ordering::Relaxed).saturating_add(len) <= MAX_QUEUED_BYTES;
        if !fits || self.lines.try_send(line).is_err() {
            waiting.fetch_sub(len, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Each write is one whole line: the subscriber renders an event before it writes it.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines until the log stops and none waits.
fn write(lines: &Receiver<Vec<u8>>, mut output: impl Write, shared: &LogState) {
    let mut reported = 0;
    loop {
        // Looked at before every wait: whoever sets it sends a wake-up after, or finds the queue full.
        let stop = shared.stop.load(Ordering::Acquire);
        let line = if stop { lines.try_recv().ok() } else { lines.recv().ok() };
        let Some(line) = line else { return };
        let left = shared.waiting.fetch_sub(line.len(), Ordering::Relaxed).saturating_sub(line.len());
        if write_all(&mut output, &line).is_err() {
            // There is nowhere to say why.
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if left == 0 && dropped > reported {
            tracing::warn!("{} messages were dropped: standard error was not read in time", dropped - reported);
            reported = dropped;
        }
    }
}

/// Like [`Write::write_all`], for an output that somebody else may have made non-blocking.
fn write_all(output: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match output.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(RETRY_INTERVAL),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the standard hook would say.
fn report(panic: &std::panic::PanicHookInfo<'_>) -> Vec<u8> {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let mut text = format!("\nthread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("{backtrace}\n"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;

    #[test]
    fn every_line_is_written_in_order_or_counted() {
        let (mut reader, writer) = pipe().unwrap();
        let log = Log::to(writer).unwrap();
        let (queue, dropped) = (log.queue.clone(), log.dropped());
        let line = |n: usize| format!("{n:0>999}\n").into_bytes();
        // More than the pipe and the queue take, and nobody reads.
        (0..3_000).for_each(|n| queue.push(line(n)));
        let lost = dropped.load(Ordering::Relaxed);
        assert!((1_500..3_000).contains(&lost), "{lost}: at most {MAX_QUEUED_BYTES} bytes wait");
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        drop((log, queue));
        let text = reading.join().unwrap();
        let written: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(written.len() as u64 + lost, 3_000);
        assert!(written.is_sorted());
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_does_not_read() {
        let (reader, writer) = pipe().unwrap();
        let log = Log::to(writer).unwrap();
        log.queue.push(vec![b'x'; MAX_QUEUED_BYTES]);
        drop(log); // returns although nothing is read
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let log = Log::to(writer).unwrap();
        let dropped = log.dropped();
        log.queue.push(b"a line\n".to_vec());
        drop(log);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}
