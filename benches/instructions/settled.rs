//! Waits until Weir has nothing left to do, so that each request takes the same way through it.
//!
//! Without this, whether a read finds the answer already there or has to wait for it depends on the machine's other
//! work, and the figures move by a percent. With it, each wait of Weir's is one: the client sends and the origin
//! answers only while all threads of Weir sleep.

use std::fs;
use std::time::{Duration, Instant};

/// How long Weir may be busy with one message; a fault otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns once all threads of this process sleep.
pub(crate) fn settled(process: u32) {
    let began = Instant::now();
    // Twice in a row: one look takes the threads one after the other, and work may pass from one to the next.
    let mut seen = 0;
    while seen < 2 {
        seen = if asleep(process) { seen + 1 } else { 0 };
        assert!(began.elapsed() < PATIENCE, "Weir is busy without end");
    }
}

fn asleep(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        // `ID (NAME) STATE …`, where the name may have anything in it; a thread that has just ended sleeps well.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    })
}
