//! What is tried again when an attempt on an endpoint fails, as compiled.

use std::time::Duration;

use crate::model::Weight;

/// What is tried again, how often, and within which budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Tries of a request in all, the first one included.
    pub(crate) attempts: u8,
    /// After what.
    pub(crate) on: RetryConditions,
    /// How long one try may take to its response's first byte, where it may be tried again; none for all of the timeout.
    pub(crate) per_try: Option<Duration>,
    /// Retries under way at once, as a share of the version's requests that are on their first try.
    pub(crate) budget: Weight,
    /// Retries under way at once whatever the share is.
    pub(crate) min_retries: u16,
    /// The longest wait before an endpoint is tried again for the first time.
    pub(crate) backoff: Duration,
    /// The largest body that is kept to be sent again, in bytes.
    pub(crate) max_body: u64,
}

/// After what a request is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryConditions {
    /// No connection came about.
    pub(crate) connect: bool,
    /// The connection ended, or carried something else than HTTP.
    pub(crate) reset: bool,
    /// A try took too long.
    pub(crate) timeout: bool,
    /// The endpoint answered with one of these.
    pub(crate) bad_gateway: bool,
    pub(crate) unavailable: bool,
    pub(crate) gateway_timeout: bool,
}

impl RetryConditions {
    /// Whether a request may be tried again that was answered with this status; `later`: the answer says when to come again.
    #[inline]
    #[must_use]
    pub(crate) fn has_answer(&self, status: u16, later: bool) -> bool {
        let named = match status {
            502 => self.bad_gateway,
            503 => self.unavailable,
            504 => self.gateway_timeout,
            _ => false,
        };
        named && !later
    }
}

impl RetryPolicy {
    /// How many retries may be under way at once beside so many requests on their first try.
    #[must_use]
    pub(crate) fn most_retries(&self, first_tries: u64) -> u64 {
        let share = u128::from(first_tries) * u128::from(self.budget.basis_points());
        let share = share / u128::from(Weight::FULL.basis_points());
        u64::try_from(share).unwrap_or(u64::MAX).max(self.min_retries.into())
    }

    /// How long to wait before the `times`th try of an endpoint that was tried already; `random` is any number. Full
    /// jitter over a range that doubles, as Envoy has it.
    #[must_use]
    pub(crate) fn pause(&self, times: u8, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(times.into()).unwrap_or(u32::MAX).saturating_sub(1);
        let most = self.backoff * doubled.min(MOST_BACKOFFS);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(random % micros.saturating_add(1))
    }
}

/// The longest wait, in times of the first one.
const MOST_BACKOFFS: u32 = 10;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a service has that says nothing about retries.
    pub(crate) fn default_policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 3,
            on: RetryConditions { connect: true, reset: true, timeout: true, ..RetryConditions::default() },
            per_try: None,
            budget: Weight::from_basis_points(2_000).unwrap(),
            min_retries: 3,
            backoff: Duration::from_millis(25),
            max_body: 65_536,
        }
    }

    #[test]
    fn a_budget_is_a_share_and_never_less_than_its_least() {
        let policy = default_policy();
        for (first_tries, most) in [(0, 3), (15, 3), (20, 4), (24, 4), (1_000, 200), (u64::MAX, u64::MAX / 5)] {
            assert_eq!(policy.most_retries(first_tries), most, "{first_tries}");
        }
        let none = RetryPolicy { budget: Weight::ZERO, min_retries: 0, ..policy };
        assert_eq!(none.most_retries(1_000_000), 0);
    }

    #[test]
    fn pauses_double_up_to_ten_times_the_first() {
        let policy = default_policy();
        let longest = |times| (0..250_001).map(|random| policy.pause(times, random)).max().unwrap();
        let longest: Vec<_> = [0, 1, 2, 3, 4, 255].map(|times| longest(times).as_millis()).into();
        assert_eq!(longest, [0, 25, 75, 175, 250, 250]);
        assert_eq!(policy.pause(1, 0), Duration::ZERO);
        assert_eq!(RetryPolicy { backoff: Duration::ZERO, ..policy }.pause(3, 7), Duration::ZERO);
    }
}
