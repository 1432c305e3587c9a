//! File descriptors: traffic gets most of them, and what operates the process always has some left.
//!
//! ```text
//! 0 ┤ clients and endpoints │ endpoints only │ reserve: telemetry, admin, files, calls out ├ RLIMIT_NOFILE
//! ```
//!
//! The system gives the lowest number that is free (POSIX, `open`), so the number alone tells how many are in use: nothing
//! is counted, and nothing can be counted wrong. Traffic gives back what it gets from another's part.
//!
//! Invariant: clients alone cannot take what is needed to reach an endpoint, and traffic cannot take the reserve.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};

/// How the numbers are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Division {
    /// Connections that telemetry and admin have at most, each.
    pub(crate) operator_connections: usize,
    /// Clients get numbers below this.
    clients: i32,
    /// Connections to endpoints get numbers below this.
    endpoints: i32,
}

/// Connections of telemetry, and of admin: people, probes and scrapers are few.
const MAX_OPERATOR_CONNECTIONS: u64 = 256;
/// Descriptors beside those connections: files that are read or written, calls out, look-ups of names.
const RESERVED_FILES: u64 = 32;

impl Division {
    /// The division of `limit` descriptors; none is no limit.
    fn of(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX).min(i32::MAX.unsigned_abs().into());
        // Where there are few, telemetry and admin take a sixteenth each, and the reserve is never more than half.
        let operators = (limit / 16).clamp(4, MAX_OPERATOR_CONNECTIONS);
        let reserve = (2 * operators + RESERVED_FILES).min(limit / 2);
        let endpoints = limit - reserve;
        let number = |at: u64| i32::try_from(at).unwrap_or(i32::MAX);
        // A client needs two more to get an answer, but most are idle.
        let operator_connections = usize::try_from(operators).unwrap_or(usize::MAX);
        Self { operator_connections, clients: number(endpoints - endpoints / 4), endpoints: number(endpoints) }
    }

    /// The division that the system's limit makes now.
    #[must_use]
    pub(crate) fn now() -> Self {
        Self::of(getrlimit(Resource::Nofile).current)
    }

    /// Makes it the one that traffic keeps to from now on.
    pub(crate) fn apply(self) {
        CLIENTS.store(self.clients, Ordering::Relaxed);
        ENDPOINTS.store(self.endpoints, Ordering::Relaxed);
    }
}

static CLIENTS: AtomicI32 = AtomicI32::new(i32::MAX);
static ENDPOINTS: AtomicI32 = AtomicI32::new(i32::MAX);

/// Whether there is room for another client, where the last one got the number `last`.
///
/// # Errors
/// The system's, if there is no descriptor at all.
pub(crate) fn has_room(last: i32, any: impl AsFd) -> io::Result<bool> {
    let limit = CLIENTS.load(Ordering::Relaxed);
    // Far from the limit it is not asked: that would be two system calls for each connection.
    if last < limit - limit / 4 {
        return Ok(true);
    }
    let lowest = rustix::io::fcntl_dupfd_cloexec(any, 0)?;
    Ok(lowest.as_raw_fd() < limit)
}

/// Whether a new connection may stay: that of a client at the moment when another worker took the last place.
pub(crate) fn may_stay(number: i32) -> bool {
    number < ENDPOINTS.load(Ordering::Relaxed)
}

/// Whether a connection to an endpoint may be made with these.
///
/// # Errors
/// As if the system had none left.
pub(crate) fn for_endpoint(one: &impl AsRawFd, other: &impl AsRawFd) -> io::Result<()> {
    if may_stay(one.as_raw_fd()) && may_stay(other.as_raw_fd()) {
        return Ok(());
    }
    Err(rustix::io::Errno::MFILE.into())
}

/// Seconds between two log lines about the same lack: it lasts, and comes once for each connection.
const LOG_INTERVAL_SECONDS: u64 = 10;

/// Whether a log line about a lack that lasts is due; `last` is when one kind of line was last written.
pub(crate) fn is_log_due(last: &AtomicU64) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec.unsigned_abs();
    let before = last.load(Ordering::Relaxed);
    (before == 0 || now >= before + LOG_INTERVAL_SECONDS)
        && last.compare_exchange(before, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operates_the_process_has_its_part_of_any_limit() {
        for (limit, expected) in [
            (64, (4, 24, 32)),
            (256, (16, 144, 192)),
            (1_024, (64, 648, 864)),
            (1_048_576, (256, 786_024, 1_048_032)),
            (u64::MAX, (256, 1_610_612_328, 2_147_483_103)),
        ] {
            let Division { operator_connections, clients, endpoints } = Division::of(Some(limit));
            assert_eq!((operator_connections, clients, endpoints), expected, "{limit}");
        }
        assert_eq!(Division::of(None), Division::of(Some(u64::MAX)));
    }

    #[test]
    fn a_lack_that_lasts_is_logged_once() {
        let last = AtomicU64::new(0);
        assert!(is_log_due(&last));
        assert!(!is_log_due(&last));
    }
}
