//! Waits until Weir has nothing left to do, so that each request takes the same way through it.
//!
//! Without this, whether a read finds the answer already there or has to wait for it depends on the machine's other
//! work, and the figures move by a percent. With it, each wait of Weir's is one: the client sends and the origin
//! answers only while the workers sleep.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long Weir may be busy with one message; a fault otherwise, also on a machine with a lot of other work.
const PATIENCE: Duration = Duration::from_secs(600);

/// Between two looks. Without a pause those who look take the processors from Weir, which they wait for.
const PAUSE: Duration = Duration::from_micros(200);

/// How the threads that carry requests are called.
const WORKER: &str = " (weir-traffic";

/// Whose turn it is: the client's, while it sends a round of requests, or Weir's, or the origins', once Weir sleeps.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Whether anybody waits.
    settles: bool,
    process: AtomicU32,
    sending: AtomicBool,
    /// One looks at a time, on behalf of all connections.
    looking: Mutex<()>,
}

impl Turn {
    /// Has clients and origins wait for Weir, or not.
    pub(crate) fn new(settles: bool) -> Self {
        Self { settles, ..Self::default() }
    }

    /// The process that is waited for, known once it was started.
    pub(crate) fn of(&self, process: u32) {
        self.process.store(process, Ordering::Relaxed);
    }

    /// Returns once all workers of Weir sleep.
    pub(crate) fn settle(&self) {
        if !self.settles {
            return;
        }
        let _one = self.looking.lock().expect("nobody gave up");
        let process = self.process.load(Ordering::Relaxed);
        let began = Instant::now();
        // Twice in a row: one look takes the threads one after the other, and work may pass from one to the next.
        let mut seen = 0;
        while seen < 2 {
            // A client that is slow at its round must not look like a Weir that has nothing to do.
            let quiet = !self.sending.load(Ordering::Acquire) && asleep(process);
            seen = if quiet { seen + 1 } else { 0 };
            if !quiet {
                assert!(began.elapsed() < PATIENCE, "Weir is busy without end");
                thread::park_timeout(PAUSE);
            }
        }
    }

    /// Sends a round while Weir sleeps; no origin answers before the whole round was sent.
    pub(crate) fn round(&self, send: impl FnOnce()) {
        self.settle();
        self.sending.store(true, Ordering::Release);
        send();
        self.sending.store(false, Ordering::Release);
    }
}

/// Whether all workers sleep. The other threads work by the clock, and on a busy machine one of them is always due.
fn asleep(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        // `ID (NAME) STATE …`, where the name may have anything in it; a thread that has just ended sleeps well.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        !stat.contains(WORKER) || stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    })
}
