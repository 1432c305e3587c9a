//! The thread that takes the lines from the buffers and writes them, many with one call.
//!
//! It writes the first line after a quiet time at once, so that a quiet log shows a line when it comes, and then lets
//! lines gather for [`GATHER_TIME`], or until a buffer is full enough. With nothing to write it sleeps until a line
//! wakes it.
//!
//! Invariant: after an output that failed or took half a batch, the next one begins on a line of its own.

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::LogShared;
use super::buffers::BATCH_BYTES;
use super::sink::Sink;

/// How long lines gather at most before they are written.
const GATHER_TIME: Duration = Duration::from_millis(100);

/// Memory that a buffer keeps when what it held is written.
const MAX_KEPT_BYTES: usize = 4 * BATCH_BYTES;

/// How long to wait for an output that is set to refuse instead of block, before asking again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Writes lines until the log stops and the buffers are empty.
pub(super) fn run(shared: &LogShared, sink: impl Sink) {
    let mut writer = BatchWriter { sink, torn: false, failing: false };
    let mut batch = Vec::new();
    loop {
        // Looked at before what waits is taken: a line that comes after it is refused, or taken now.
        let stop = shared.stop.load(Ordering::Acquire);
        if stop {
            shared.buffers.close();
        }
        let mut wrote = write_all_buffers(shared, &mut writer, &mut batch);
        if stop {
            return;
        }
        if !wrote {
            shared.buffers.fall_asleep();
            wrote = write_all_buffers(shared, &mut writer, &mut batch);
            if !wrote {
                thread::park();
            }
            shared.buffers.wake_up();
        }
        if wrote {
            thread::park_timeout(GATHER_TIME);
        }
    }
}

/// Writes what waits, one batch for each thread that logged; whether there was anything.
fn write_all_buffers(shared: &LogShared, writer: &mut BatchWriter<impl Sink>, batch: &mut Vec<u8>) -> bool {
    let mut wrote = false;
    if shared.reopen.swap(false, Ordering::AcqRel) {
        writer.reopen();
    }
    for at in 0..shared.buffers.len() {
        shared.buffers.take(at, batch);
        if batch.is_empty() {
            continue;
        }
        wrote = true;
        let lost = writer.write(batch);
        shared.dropped.fetch_add(lost, Ordering::Relaxed);
        batch.clear();
        batch.shrink_to(MAX_KEPT_BYTES);
    }
    wrote
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
