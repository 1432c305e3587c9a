//! How long to wait before trying again: twice as long after each failure, with jitter, up to a limit.
//!
//! The jitter takes up to half of it away, so that many that failed together do not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The pauses between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    /// After the first failure, at most.
    pub(super) initial: Duration,
    /// After any failure, at most.
    pub(super) max: Duration,
}

impl Backoff {
    /// How long to wait after this many failures in a row (at least one).
    pub(super) fn delay(self, failures: u32) -> Duration {
        // Each of std's hashers is keyed anew; that is random enough to keep callers apart.
        self.jittered(failures, RandomState::new().hash_one(failures))
    }

    /// Between half of the full time and all of it, as `random` says.
    fn jittered(self, failures: u32, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.initial.saturating_mul(doubled).min(self.max);
        let share = u32::from(random.to_le_bytes()[0]);
        full / 2 + full / 2 * share / u32::from(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn it_doubles_up_to_the_limit() {
        let longest = |failures| BACKOFF.jittered(failures, u64::MAX).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 32, 33, u32::MAX].map(longest), [1, 2, 4, 32, 60, 60, 60, 60]);
        assert_eq!(BACKOFF.jittered(3, 0), Duration::from_secs(2), "and never less than half");
    }

    #[test]
    fn waits_differ() {
        let waits: std::collections::BTreeSet<_> = (0..32).map(|_| BACKOFF.delay(5)).collect();
        assert!(waits.len() > 1, "32 waits are all {waits:?}");
    }
}
