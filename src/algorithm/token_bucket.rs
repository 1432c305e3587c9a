//! A bucket of tokens: so many at once, and so many a second come back.
//!
//! It counts what was taken, in billionths, so that what comes back in a nanosecond counts as well and nothing is rounded
//! away however often somebody looks. A bucket that is full does not look at the clock.
//!
//! Invariant: of a bucket nobody takes more than the burst, what came back with time, and what was given back.

use std::time::{Duration, Instant};

/// What was taken of a bucket and did not come back yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    /// In billionths of a token.
    taken: u64,
    /// Up to when what came back is reckoned; none while the bucket is full.
    since: Option<Instant>,
}

impl TokenBucket {
    /// A full one.
    pub(crate) const fn full() -> Self {
        Self { taken: 0, since: None }
    }

    /// Takes so many tokens of a bucket that holds `burst`. False, and nothing is taken, if there are not so many.
    #[inline]
    #[must_use]
    pub(crate) fn take(&mut self, tokens: u32, burst: u32) -> bool {
        if self.taken == 0 {
            self.since = None;
        }
        let taken = self.taken + billionths(tokens);
        let there = taken <= billionths(burst);
        if there {
            self.taken = taken;
        }
        there
    }

    /// Gives tokens back.
    pub(crate) fn give(&mut self, tokens: u32) {
        self.taken = self.taken.saturating_sub(billionths(tokens));
    }

    /// Gives back what came since it was last called. The first time nothing came yet.
    pub(crate) fn refill(&mut self, now: Instant, per_second: u32) {
        let since = self.since.replace(now);
        let passed = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.taken = self.taken.saturating_sub(passed.saturating_mul(per_second.into()));
    }
}

fn billionths(tokens: u32) -> u64 {
    u64::from(tokens) * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a bucket.
    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        Give(u32),
        /// So many nanoseconds pass, and it is looked at.
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_u32..12).prop_map(Step::Take),
            1 => (0_u32..5).prop_map(Step::Give),
            2 => (0_u64..2_000_000_000).prop_map(Step::Pass),
            1 => (0_u64..1_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// The naive one counts what is left, with numbers of any size.
        #[test]
        fn it_gives_what_a_naive_bucket_gives(
            burst in 0_u32..30,
            per_second in 0_u32..2_000,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut bucket = TokenBucket::full();
            let start = Instant::now();
            let (mut now, mut looked) = (0_u64, None);
            let full = u128::from(burst) * 1_000_000_000;
            let mut left = full;
            for step in steps {
                match step {
                    Step::Take(tokens) => {
                        if left == full {
                            looked = None;
                        }
                        let wanted = u128::from(tokens) * 1_000_000_000;
                        prop_assert_eq!(bucket.take(tokens, burst), wanted <= left);
                        left -= if wanted <= left { wanted } else { 0 };
                    }
                    Step::Give(tokens) => {
                        bucket.give(tokens);
                        left = full.min(left + u128::from(tokens) * 1_000_000_000);
                    }
                    Step::Pass(nanoseconds) => {
                        now += nanoseconds;
                        bucket.refill(start + Duration::from_nanos(now), per_second);
                        let came = u128::from(now - looked.replace(now).unwrap_or(now)) * u128::from(per_second);
                        left = full.min(left + came);
                    }
                }
            }
        }

        #[test]
        fn often_looked_at_it_gives_as_much(pauses in prop::collection::vec(1_u64..50_000_000, 1..100), rate in 1_u32..100) {
            let start = Instant::now();
            let (mut often, mut once) = (TokenBucket::full(), TokenBucket::full());
            for bucket in [&mut often, &mut once] {
                assert!(bucket.take(1_000, 1_000));
                bucket.refill(start, rate);
            }
            let mut now = start;
            for pause in pauses {
                now += Duration::from_nanos(pause);
                often.refill(now, rate);
            }
            once.refill(now, rate);
            prop_assert_eq!(often.taken, once.taken);
        }
    }

    #[test]
    fn time_does_not_pay_ahead_and_a_long_time_fills_it() {
        let mut bucket = TokenBucket::full();
        let start = Instant::now();
        bucket.refill(start, 100);
        bucket.refill(start + Duration::from_secs(86_400 * 365), u32::MAX);
        assert!(bucket.take(10, 10) && !bucket.take(1, 10));
        bucket.refill(start + Duration::from_secs(86_400 * 366), u32::MAX);
        assert!(!bucket.take(1, 10), "a full bucket begins to reckon when it is looked at");
        bucket.refill(start + Duration::from_secs(86_400 * 1_000), u32::MAX);
        assert!(bucket.take(10, 10) && !bucket.take(1, 10));
    }
}
