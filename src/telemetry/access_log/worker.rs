//! The thread that takes lines from the queue, renders them and writes them in batches.
//!
//! It waits for one line, takes what else waits already, and writes that with one call: a quiet log shows a
//! line at once, a busy one costs few system calls.
//!
//! Invariant: after an output that failed or took half a batch, the next one begins on a line of its own.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use super::sink::Sink;
use super::{Message, WriterSignals};

/// A batch is written when it has so many bytes, or when no more lines wait.
const BATCH_BYTES: usize = 64 * 1024;

/// How long to wait for an output that is set to refuse instead of block, before asking again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Writes lines until the queue has no sender or the log stops and the queue is empty.
pub(super) fn run(lines: &Receiver<Message>, sink: impl Sink, signals: &WriterSignals) {
    let mut writer = BatchWriter { sink, torn: false, failing: false };
    let mut batch = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4);
    loop {
        // Looked at before every wait: whoever sets it sends a wake-up after, or finds the queue full.
        let stop = signals.stop.load(Ordering::Acquire);
        let first = if stop { lines.try_recv().ok() } else { lines.recv().ok() };
        let Some(first) = first else { break };
        let mut next = Some(first);
        while let Some(message) = next {
            if let Message::Line(line) = message {
                line.write_to(&mut batch);
            }
            next = if batch.len() < BATCH_BYTES { lines.try_recv().ok() } else { None };
        }
        if signals.reopen.swap(false, Ordering::AcqRel) {
            writer.reopen();
        }
        let lost = writer.write(&batch);
        signals.dropped.fetch_add(lost, Ordering::Relaxed);
        batch.clear();
    }
}

struct BatchWriter<S> {
    sink: S,
    /// The last thing that arrived was a part of a line.
    torn: bool,
    failing: bool,
}

impl<S: Sink> BatchWriter<S> {
    /// Writes whole lines and says how many of them did not arrive whole.
    fn write(&mut self, batch: &[u8]) -> u64 {
        if batch.is_empty() {
            return 0;
        }
        let result = if self.torn { self.write_all(b"\n").map_err(|(_, error)| (0, error)) } else { Ok(()) };
        let (written, error) = match result.and_then(|()| self.write_all(batch)) {
            Ok(()) => (batch.len(), None),
            Err((written, error)) => (written, Some(error)),
        };
        if let Some(last) = written.checked_sub(1) {
            self.torn = batch.get(last) != Some(&b'\n');
        }
        self.report(error);
        let missing = batch.get(written..).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
        u64::try_from(missing).unwrap_or(u64::MAX)
    }

    /// Like [`io::Write::write_all`], and says how many bytes arrived if not all did.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(0) => return Err((bytes.len() - rest.len(), io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.torn = true;
                    rest = rest.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other end of a pipe or terminal may have made it non-blocking for everybody.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(RETRY_INTERVAL),
                Err(error) => return Err((bytes.len() - rest.len(), error)),
            }
        }
        self.torn = false;
        Ok(())
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => self.torn = false,
            Err(error) => tracing::warn!(%error, "cannot reopen the access log; lines go on to the old file"),
        }
    }

    /// Reports once that writing began to fail, and once that it works again.
    fn report(&mut self, error: Option<io::Error>) {
        match error {
            Some(error) if !self.failing => {
                tracing::warn!(%error, "cannot write the access log; lines are dropped until it works again");
            }
            None if self.failing => tracing::info!("the access log is written again"),
            _ => return,
        }
        self.failing = !self.failing;
    }
}
