//! Slow start: since when an endpoint is new, and which part of its share it gets meanwhile.
//!
//! Envoy's `slow_start_config`: an endpoint counts with its weight × max(10 %, elapsed / window). An endpoint is new where
//! it comes to a version that has others, or is ready again. Where all of a version's came together none is new: there is
//! nobody to take the rest.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::traffic::balance::WHOLE;

/// When an endpoint became new, if it is.
#[derive(Debug, Default)]
pub(crate) struct Newcomer {
    /// Milliseconds of the process's clock, and 1; 0 where it is not new.
    since: AtomicU64,
}

/// The part of its share that an endpoint begins with, in thousandths.
const LEAST: u32 = WHOLE / 10;

impl Newcomer {
    /// It is new from now on.
    pub(crate) fn begin(&self) {
        self.since.store(clock().saturating_add(1), Ordering::Relaxed);
    }

    /// The part of its share that it gets now, in thousandths.
    #[inline]
    pub(crate) fn part(&self, window: Duration) -> u32 {
        match self.since.load(Ordering::Relaxed) {
            0 => WHOLE,
            since => self.part_at(since, clock().saturating_add(1), window),
        }
    }

    fn part_at(&self, since: u64, now: u64, window: Duration) -> u32 {
        let part = part(Duration::from_millis(now.saturating_sub(since)), window);
        if part == WHOLE {
            // Unless it became new again meanwhile; then the next pick sees that.
            let _ = self.since.compare_exchange(since, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        part
    }
}

/// The part of its share after so much of the window, in thousandths.
fn part(elapsed: Duration, window: Duration) -> u32 {
    if elapsed >= window {
        return WHOLE;
    }
    let part = elapsed.as_millis() * u128::from(WHOLE) / window.as_millis().max(1);
    u32::try_from(part).unwrap_or(WHOLE).clamp(LEAST, WHOLE)
}

/// Milliseconds since the process first asked.
fn clock() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomers_part_grows_from_a_tenth_to_the_whole() {
        let window = Duration::from_secs(30);
        let after = |millis| part(Duration::from_millis(millis), window);
        assert_eq!(
            [0, 1, 3_000, 6_000, 15_000, 29_999, 30_000, 90_000].map(after),
            [100, 100, 100, 200, 500, 999, WHOLE, WHOLE]
        );
        assert_eq!(part(Duration::ZERO, Duration::ZERO), WHOLE);
    }

    #[test]
    fn it_is_new_once_until_the_window_is_over() {
        let window = Duration::from_secs(30);
        let newcomer = Newcomer::default();
        assert_eq!(newcomer.part(window), WHOLE);
        newcomer.begin();
        assert_eq!(newcomer.part(window), LEAST);
        let since = newcomer.since.load(Ordering::Relaxed);
        assert_eq!(newcomer.part_at(since, since + 15_000, window), 500);
        assert_eq!(newcomer.part_at(since, since + 30_000, window), WHOLE);
        assert_eq!(newcomer.since.load(Ordering::Relaxed), 0, "no clock is read for it any more");
    }
}
