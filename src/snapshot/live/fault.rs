//! Fault injection: faults that are put into a version's responses on purpose, for a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::Weight;

/// The longest delay of a request.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(60);

/// Faults for one version's requests, until a moment. Handed to each snapshot that has the version.
///
/// Invariant: of any number of requests that asked, the share that fails is exact to within one; after
/// [`Self::until`] none fails and none waits.
#[derive(Debug)]
pub(crate) struct FaultInjection {
    errors: Weight,
    delay: Duration,
    until: Instant,
    /// The sum of shares of the requests so far, in basis points: each time it passes a whole request, one fails.
    seen: AtomicU64,
}

/// What is done to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How long it waits before anything else; zero for not at all.
    pub(crate) delay: Duration,
    /// Whether it then fails instead of being sent to an endpoint.
    pub(crate) fails: bool,
}

impl FaultInjection {
    /// An injection that fails the share `errors` of all requests and delays every request by `delay` (at most
    /// [`MAX_DELAY`]), until `until`.
    #[must_use]
    pub(crate) fn new(errors: Weight, delay: Duration, until: Instant) -> Self {
        Self { errors, delay: delay.min(MAX_DELAY), until, seen: AtomicU64::new(0) }
    }

    /// The share of requests that fail.
    #[must_use]
    pub(crate) const fn errors(&self) -> Weight {
        self.errors
    }

    /// How long every request waits.
    #[must_use]
    pub(crate) const fn delay(&self) -> Duration {
        self.delay
    }

    /// When it ends.
    #[must_use]
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    /// What happens to a request that begins at `now`; none once the injection is over. A delay does not reach beyond the
    /// injection's end.
    #[must_use]
    pub(crate) fn fault(&self, now: Instant) -> Option<Fault> {
        let left = self.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let (share, whole) = (u64::from(self.errors.basis_points()), u64::from(Weight::FULL.basis_points()));
        let sum = self.seen.fetch_add(share, Ordering::Relaxed);
        Some(Fault { delay: self.delay.min(left), fails: sum % whole + share >= whole })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn share(basis_points: u16) -> Weight {
        Weight::from_basis_points(basis_points).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_share_that_fails_is_exact_in_every_prefix(basis_points in 0..=10_000_u16) {
            let now = Instant::now();
            let faults = FaultInjection::new(share(basis_points), Duration::ZERO, now + SECOND);
            let mut failed = 0_u64;
            for requests in 1..=3_000_u64 {
                failed += u64::from(faults.fault(now).unwrap().fails);
                prop_assert_eq!(failed, requests * u64::from(basis_points) / 10_000);
            }
        }
    }

    #[test]
    fn threads_together_fail_the_share() {
        let now = Instant::now();
        let faults = FaultInjection::new(share(333), Duration::ZERO, now + SECOND);
        let work = || (0..10_000).filter(|_| faults.fault(now).unwrap().fails).count();
        let failed: usize = std::thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work), scope.spawn(work)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(failed, 30_000 * 333 / 10_000);
    }

    #[test]
    fn it_ends_by_itself_and_no_delay_reaches_beyond_its_end() {
        let now = Instant::now();
        let faults = FaultInjection::new(Weight::FULL, 3 * SECOND, now + 10 * SECOND);
        let at = |seconds| faults.fault(now + seconds * SECOND).map(|fault| fault.delay);
        assert_eq!([at(0), at(7), at(9)], [Some(3 * SECOND), Some(3 * SECOND), Some(SECOND)]);
        assert_eq!([at(10), at(11)], [None, None]);
        assert_eq!(at(1_000_000_000), None, "a clock that jumps far");
        // A thread that read its clock before the end may ask after it.
        assert_eq!(at(9), Some(SECOND));
    }

    #[test]
    fn requests_after_the_end_take_no_turn_and_delays_have_a_bound() {
        let now = Instant::now();
        let faults = FaultInjection::new(share(5_000), Duration::MAX, now + 1_000 * SECOND);
        assert_eq!(faults.fault(now), Some(Fault { delay: MAX_DELAY, fails: false }));
        assert_eq!(faults.fault(now + 1_000 * SECOND), None);
        assert!(faults.fault(now).unwrap().fails, "it was the second one's turn");
    }
}
