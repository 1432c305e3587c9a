//! A version's circuit breaker: finished requests count on it, and the one error too many takes the version out at
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::model::Name;
use crate::rollout::breaker::ErrorCounter;

/// Watches the finished requests of one version of a rollout. Handed to each snapshot that has the version.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    /// What is too many.
    pub(crate) trip: ErrorCounter,
    /// The version is out: it gets no requests by weight or affinity. Shared with the choosers that read it.
    pub(crate) tripped: Arc<AtomicBool>,
    /// Notified once, by the request that tripped the breaker.
    pub(crate) on_trip: Arc<Notify>,
    /// Who gets the version's requests where nobody else has a weight.
    pub(crate) stable: Name,
    /// Times are counted from here.
    epoch: Instant,
}

impl CircuitBreaker {
    /// A breaker that trips as `trip` says, sends traffic to `stable` and notifies `on_trip`. `now` is any moment before the
    /// first request.
    #[must_use]
    pub(crate) fn new(trip: ErrorCounter, stable: Name, on_trip: Arc<Notify>, now: Instant) -> Self {
        Self { trip, tripped: Arc::default(), on_trip, stable, epoch: now }
    }

    /// Whether the version is out.
    #[must_use]
    pub(crate) fn is_tripped(&self) -> bool {
        self.tripped.load(Ordering::Acquire)
    }

    /// A request of the version finished; `now` is asked for only if it failed. Returns whether it is the one that
    /// tripped the breaker.
    pub(crate) fn observe(&self, is_error: bool, now: impl FnOnce() -> Instant) -> bool {
        let millis = if is_error { now().saturating_duration_since(self.epoch).as_millis() } else { 0 };
        let trips = self.trip.observe(is_error, u64::try_from(millis).unwrap_or(u64::MAX));
        if trips {
            self.tripped.store(true, Ordering::Release);
            // One permit is kept if nobody waits at this moment.
            self.on_trip.notify_one();
        }
        trips
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_request_that_is_one_too_many_takes_the_version_out_and_notifies_once() {
        let (on_trip, now): (Arc<Notify>, _) = (Arc::default(), Instant::now());
        let breaker = CircuitBreaker::new(ErrorCounter::new(Some(3), None), "v1".into(), Arc::clone(&on_trip), now);
        let error = || breaker.observe(true, || now);
        let success = || breaker.observe(false, || panic!("a success needs no clock"));
        assert!(!error() && !error() && !success() && !error() && !error() && !breaker.is_tripped());
        assert!(error() && breaker.is_tripped());
        assert!(!error(), "it tripped already");
        on_trip.notified().await;
        assert!(tokio::time::timeout(Duration::ZERO, on_trip.notified()).await.is_err(), "notified once");
    }

    #[test]
    fn errors_within_a_time_are_told_apart_by_the_time_given() {
        let epoch = Instant::now();
        let within = Some((2, Duration::from_secs(1)));
        let breaker = CircuitBreaker::new(ErrorCounter::new(None, within), "v1".into(), Arc::default(), epoch);
        let at = |millis| breaker.observe(true, || epoch + Duration::from_millis(millis));
        assert!(!at(0) && !at(1_500) && !at(3_000) && at(4_000));
    }
}
