//! The lines that wait to be written: one buffer for each thread that logs.
//!
//! A thread appends to its own buffer; the writer takes the whole buffer and leaves an empty one. The lock of a buffer
//! is held to append one line or to swap, and only the writer, or a thread beyond the 64th, contends for it.
//!
//! Waking the writer costs a system call and a switch of threads, so a line does it only where nothing else will: when
//! it fills the buffer to [`BATCH_BYTES`], and when the writer has gone to sleep because there was nothing to write.
//!
//! Invariants: a buffer holds at most as many lines as was said, and [`MAX_BUFFERED_BYTES`] and one line; a line is
//! appended whole or refused; once closed, a buffer refuses all.

use std::array;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use super::line::Line;
use crate::telemetry::sharded::{MAX_SHARDS, thread_index};

/// The writer is woken when so much waits in one buffer: as much as one write takes well.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// A buffer takes no more lines when it has so much: the usual 8,192 lines fit, and as many of the longest do not.
const MAX_BUFFERED_BYTES: usize = 4 * 1024 * 1024;

/// The waiting lines of all threads.
#[derive(Debug)]
pub(super) struct LineBuffers {
    shards: [CachePadded<Mutex<LineBuffer>>; MAX_SHARDS],
    /// Lines that one buffer holds at most.
    capacity: usize,
    /// The writer waits without a limit of time, and the next line wakes it.
    asleep: AtomicBool,
}

#[derive(Debug, Default)]
struct LineBuffer {
    bytes: Vec<u8>,
    lines: usize,
    closed: bool,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It waits, and the writer comes for it by itself.
    Quietly,
    /// It waits, and the writer must be woken.
    Wake,
    /// There was no room for it.
    Refused,
}

impl LineBuffers {
    /// Room for `capacity` lines of each thread, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: array::from_fn(|_| CachePadded::default()),
            capacity: capacity.max(1),
            asleep: AtomicBool::new(false),
        }
    }

    /// Appends a line to the calling thread's buffer.
    pub(super) fn append(&self, line: &Line<'_>) -> Appended {
        let Some(shard) = self.shards.get(thread_index() % MAX_SHARDS) else { return Appended::Refused };
        let mut buffer = lock(shard);
        let before = buffer.bytes.len();
        if buffer.closed || buffer.lines >= self.capacity || before >= MAX_BUFFERED_BYTES {
            return Appended::Refused;
        }
        line.write_to(&mut buffer.bytes);
        buffer.lines += 1;
        let filled = before < BATCH_BYTES && buffer.bytes.len() >= BATCH_BYTES;
        drop(buffer);
        // The writer falls asleep before it looks into the buffers for the last time: had it looked into this one
        // already, the lock made its sleep visible here.
        let asleep = self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed);
        if filled || asleep { Appended::Wake } else { Appended::Quietly }
    }

    /// The writer will wait for as long as it takes. To be called before it looks into the buffers for the last time.
    pub(super) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// The writer is awake.
    pub(super) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// How many buffers there are.
    pub(super) const fn len(&self) -> usize {
        MAX_SHARDS
    }

    /// Takes what waits in the buffer `at` into `taken`, whose (empty) memory the buffer goes on with.
    pub(super) fn take(&self, at: usize, taken: &mut Vec<u8>) {
        if let Some(shard) = self.shards.get(at) {
            let mut buffer = lock(shard);
            if buffer.lines > 0 {
                mem::swap(&mut buffer.bytes, taken);
                buffer.lines = 0;
            }
        }
    }

    /// No buffer takes a line any more. What waits can still be taken.
    pub(super) fn close(&self) {
        for shard in &self.shards {
            lock(shard).closed = true;
        }
    }
}

/// A thread that panicked while it appended left a part of a line at worst.
fn lock(shard: &Mutex<LineBuffer>) -> MutexGuard<'_, LineBuffer> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
