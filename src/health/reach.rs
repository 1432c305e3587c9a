//! When an endpoint that accepts no connections is asked again, and when it is back.
//!
//! ```text
//! reachable ── failures in a row ──► lost ── asked: accepts ──► reachable
//!                                     └── asked: does not; waits longer
//! ```
//!
//! It is asked once a second at first and more rarely then. One that flaps, as a process does that is started again
//! and again, accepts now and then: each time it is lost soon after it came back, it is asked later.

use std::time::{Duration, Instant};

/// The wait for the first question.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a question that was not answered: a restarted endpoint is not to wait long.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest wait of one that flaps.
const LONGEST_FLAPPING: Duration = Duration::from_secs(30);
/// Who is lost this soon after it came back flaps.
const STEADY: Duration = Duration::from_secs(60);

/// Whether an endpoint can be reached, as connects found it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    lost: Option<Lost>,
    /// When it came back last.
    back: Option<Instant>,
    /// How often it was lost soon after it had come back.
    relapses: u32,
}

/// An endpoint that cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) since: Instant,
    /// When it is to be asked again.
    pub(crate) due: Instant,
    unanswered: u32,
}

impl Reach {
    /// Connects failed, one after the other.
    pub(crate) fn lose(&mut self, now: Instant) {
        if self.lost.is_some() {
            return;
        }
        let soon = self.back.is_some_and(|back| now.saturating_duration_since(back) < STEADY);
        self.relapses = if soon { self.relapses.saturating_add(1) } else { 0 };
        self.lost = Some(Lost { since: now, due: after(now, self.wait(0)), unanswered: 0 });
    }

    /// Asked, it did not accept.
    pub(crate) fn unanswered(&mut self, now: Instant) {
        if let Some(mut lost) = self.lost {
            lost.unanswered = lost.unanswered.saturating_add(1);
            lost.due = after(now, self.wait(lost.unanswered));
            self.lost = Some(lost);
        }
    }

    /// It accepted.
    pub(crate) fn found(&mut self, now: Instant) {
        if self.lost.take().is_some() {
            self.back = Some(now);
        }
    }

    /// Since when it is lost, if it is, and when it is to be asked.
    pub(crate) fn lost(&self) -> Option<Lost> {
        self.lost
    }

    fn wait(&self, unanswered: u32) -> Duration {
        doubled(unanswered).min(LONGEST).max(doubled(self.relapses).min(LONGEST_FLAPPING))
    }
}

fn doubled(times: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(times))
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(reach: &Reach, now: Instant) -> u64 {
        (reach.lost().unwrap().due - now).as_secs()
    }

    #[test]
    fn one_that_stays_away_is_asked_each_five_seconds_in_the_end() {
        let (mut reach, mut now) = (Reach::default(), Instant::now());
        reach.lose(now);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(wait(&reach, now));
            now = reach.lost().unwrap().due;
            reach.unanswered(now);
        }
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        reach.found(now);
        assert_eq!(reach.lost(), None);
    }

    #[test]
    fn one_that_flaps_is_asked_more_rarely_until_it_is_steady() {
        let (mut reach, mut now) = (Reach::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..7 {
            reach.lose(now);
            waits.push(wait(&reach, now));
            now = reach.lost().unwrap().due;
            reach.found(now);
            now += SECOND;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        now += STEADY;
        reach.lose(now);
        assert_eq!(wait(&reach, now), 1);
    }

    #[test]
    fn it_is_lost_once_and_what_comes_late_changes_nothing() {
        let (mut reach, now) = (Reach::default(), Instant::now());
        reach.unanswered(now);
        reach.found(now);
        assert_eq!(reach.lost(), None);
        reach.lose(now);
        let lost = reach.lost();
        reach.lose(now + SECOND);
        assert_eq!(reach.lost(), lost);
    }
}
