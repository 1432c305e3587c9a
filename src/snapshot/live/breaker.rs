//! A version's circuit breaker: finished requests count on it, and the one error too many takes the version out at
//! once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::endpoint::EndpointLive;
use crate::model::Name;
use crate::rollout::breaker::{ErrorCounter, FailedRequest};
use crate::rollout::evidence::{EndpointTally, MIN_ENDPOINTS};

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
    /// The version's endpoints in the newest snapshot. Locked when one is compiled and by the judge, never by a request.
    endpoints: Mutex<Vec<(Name, Weak<EndpointLive>)>>,
    /// They are so many that one of them is not the version.
    several: AtomicBool,
}

impl CircuitBreaker {
    /// A breaker that trips as `trip` says, sends traffic to `stable` and notifies `on_trip`. `now` is any moment before the
    /// first request.
    #[must_use]
    pub(crate) fn new(trip: ErrorCounter, stable: Name, on_trip: Arc<Notify>, now: Instant) -> Self {
        Self {
            trip,
            tripped: Arc::default(),
            on_trip,
            stable,
            epoch: now,
            endpoints: Mutex::default(),
            several: AtomicBool::new(false),
        }
    }

    /// Whether the version is out.
    #[must_use]
    pub(crate) fn is_tripped(&self) -> bool {
        self.tripped.load(Ordering::Acquire)
    }

    /// The version has these endpoints now, each by its address.
    pub(crate) fn set_endpoints<'a>(&self, endpoints: impl Iterator<Item = (&'a Name, &'a Arc<EndpointLive>)>) {
        let endpoints: Vec<_> = endpoints.map(|(name, live)| (name.clone(), Arc::downgrade(live))).collect();
        self.several.store(endpoints.len() >= MIN_ENDPOINTS, Ordering::Relaxed);
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    /// What each of its endpoints did.
    pub(crate) fn endpoints(&self) -> Vec<EndpointTally> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = |(name, live): &(Name, Weak<EndpointLive>)| {
            let live = live.upgrade()?;
            Some(EndpointTally { id: live.id, name: name.clone(), tally: live.judged.tally() })
        };
        endpoints.iter().filter_map(tally).collect()
    }

    /// A request of the version finished on `endpoint`, and did not fail.
    #[inline]
    pub(crate) fn succeeded(&self, endpoint: Option<&EndpointLive>) {
        if let Some(endpoint) = endpoint {
            endpoint.judged.count(false);
        }
        self.trip.succeeded();
    }

    /// A request of the version failed at `now` on `endpoint`, as the one of so many that have finished. Returns whether it
    /// is the one that tripped the breaker.
    pub(crate) fn failed(&self, endpoint: Option<&EndpointLive>, finished: u64, now: Instant) -> bool {
        if let Some(endpoint) = endpoint {
            endpoint.judged.count(true);
        }
        let at = now.saturating_duration_since(self.epoch).as_millis();
        let trips = self.trip.failed(FailedRequest {
            at_ms: u64::try_from(at).unwrap_or(u64::MAX),
            finished,
            endpoint: endpoint.map_or(0, |endpoint| endpoint.id.saturating_add(1)),
            several: self.several.load(Ordering::Relaxed),
        });
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
    use crate::rollout::breaker::ErrorBurst;

    #[tokio::test]
    async fn the_request_that_is_one_too_many_takes_the_version_out_and_notifies_once() {
        let (on_trip, now): (Arc<Notify>, _) = (Arc::default(), Instant::now());
        let breaker = CircuitBreaker::new(ErrorCounter::new(Some(3), None), "v1".into(), Arc::clone(&on_trip), now);
        let error = || breaker.failed(None, 0, now);
        assert!(!error() && !error());
        breaker.succeeded(None);
        assert!(!error() && !error() && !breaker.is_tripped());
        assert!(error() && breaker.is_tripped());
        assert!(!error(), "it tripped already");
        on_trip.notified().await;
        assert!(tokio::time::timeout(Duration::ZERO, on_trip.notified()).await.is_err(), "notified once");
    }

    #[test]
    fn errors_within_a_time_are_told_apart_by_the_time_given() {
        let epoch = Instant::now();
        let within = Some(ErrorBurst { errors: 2, within: Duration::from_secs(1), share: 0.0 });
        let breaker = CircuitBreaker::new(ErrorCounter::new(None, within), "v1".into(), Arc::default(), epoch);
        let at = |millis| breaker.failed(None, 0, epoch + Duration::from_millis(millis));
        assert!(!at(0) && !at(1_500) && !at(3_000) && at(4_000));
    }
}
