//! Taking one endpoint out for its health, and bringing it back.
//!
//! Requests count on the endpoint ([`EndpointHealth`](super::health::EndpointHealth)). A success costs one look; the failure
//! that is one too many takes the endpoint out at once, under the lock of its version, and notifies whoever follows health
//! ([`HealthChanges`](super::health_changes::HealthChanges)): that one brings it back, tells the chooser, and writes the log.
//!
//! Invariants: an endpoint is ejected only while another of its version takes requests; what is out comes back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::endpoint::EndpointLive;
use super::health_changes::Queued;
use super::state::{Out, StateCell};
use super::version_health::{Member, VersionHealth};
use crate::health::outlier::Tally;
use crate::telemetry::{EjectionReason, EndpointFailure};

impl Member for EndpointLive {
    fn state(&self) -> &StateCell {
        &self.state
    }

    fn take_tally(&self) -> Tally {
        self.health.take_tally()
    }
}

impl Queued for EndpointLive {
    fn is_queued(&self) -> &AtomicBool {
        &self.health.is_queued
    }
}

impl VersionHealth<EndpointLive> {
    /// Compares success rates if it is time, and ejects those that are too low.
    pub(crate) fn compare_rates(&self, now: Instant) {
        if self.compares_rates() {
            let outliers = self.lock().outliers(now);
            outliers.iter().for_each(|(endpoint, why)| endpoint.eject(EjectionReason::SuccessRate, why, now));
        }
    }
}

impl EndpointLive {
    /// The final response to a request begins. Returns the errors in a row that it ended, for [`Self::broke_off`].
    #[inline]
    pub(crate) fn answered(self: &Arc<Self>, status: u16) -> u32 {
        if status >= 500 {
            self.failed(EndpointFailure::ServerError);
            return 0;
        }
        let health = &self.health;
        let ended = match health.errors_in_row.load(Ordering::Relaxed) {
            0 => 0,
            _ => health.errors_in_row.swap(0, Ordering::Relaxed),
        };
        if health.of_version.compares_rates() {
            health.answers.fetch_add(1, Ordering::Relaxed);
        }
        ended
    }

    /// A response that had begun failed, so it ended no errors in a row: an endpoint all of whose responses break off has
    /// as many of them as it had requests.
    #[cold]
    pub(crate) fn broke_off(self: &Arc<Self>, ended: u32, cause: EndpointFailure) {
        self.health.errors_in_row.fetch_add(ended, Ordering::Relaxed);
        self.failed(cause);
    }

    /// A request failed on the endpoint, after a connection was made.
    #[cold]
    pub(crate) fn failed(self: &Arc<Self>, cause: EndpointFailure) {
        self.health.note(cause, None);
        if self.health.is_too_many() {
            self.eject(EjectionReason::ConsecutiveErrors, "errors in a row", Instant::now());
        }
    }

    /// A connection to the endpoint was made.
    pub(crate) fn connected(&self) {
        let health = &self.health;
        health.connects.fetch_add(1, Ordering::Relaxed);
        health.connects_failed.store(0, Ordering::Relaxed);
        health.connected_at.store(health.of_version.millis(Instant::now()), Ordering::Relaxed);
    }

    /// No connection to the endpoint came about; `began`: when it was begun. One that began before another succeeded says
    /// nothing new: a burst of connections may lose a few where all others are made.
    #[cold]
    pub(crate) fn connect_failed(self: &Arc<Self>, cause: EndpointFailure, why: String, began: Instant) {
        let health = &self.health;
        if health.of_version.millis(began) < health.connected_at.load(Ordering::Relaxed) {
            return health.note(cause, Some(why));
        }
        let too_many = health.is_too_many();
        let in_row = health.connects_failed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Who accepts connections and cannot speak TLS is there, and like one that answers with errors.
        let is_lost = cause != EndpointFailure::Tls && health.of_version.is_too_many_connects(in_row);
        let now = Instant::now();
        if is_lost {
            self.lose(&why, now);
        } else if too_many {
            self.eject(EjectionReason::ConsecutiveErrors, &format!("errors in a row, the last one: {why}"), now);
        }
        self.health.note(cause, Some(why));
    }

    /// Ejects the endpoint, if its version can do without it.
    pub(super) fn eject(self: &Arc<Self>, reason: EjectionReason, why: &str, now: Instant) {
        let health = &self.health;
        health.errors_in_row.store(0, Ordering::Relaxed);
        let version = Arc::clone(&health.of_version);
        let pool = version.lock();
        if !self.is_available() || !pool.has_room() {
            return;
        }
        {
            let mut detail = health.detail();
            detail.ejections.eject(pool.policy(), now);
            detail.why = Some(why.to_owned());
        }
        self.take_out(Out::Ejected, reason);
    }

    /// The endpoint accepts no connections. Nobody can be served there, so it is out even where it is the last one.
    fn lose(self: &Arc<Self>, why: &str, now: Instant) {
        let version = Arc::clone(&self.health.of_version);
        let _pool = version.lock();
        {
            let mut detail = self.health.detail();
            detail.reach.lose(now);
            detail.why = Some(why.to_owned());
        }
        self.take_out(Out::Unreachable, EjectionReason::Unreachable);
    }

    /// Takes the endpoint out for this. The version is locked, or two could be, each because the other one is there.
    pub(super) fn take_out(self: &Arc<Self>, why: Out, reason: EjectionReason) {
        if !self.state.set_out(why, true) {
            return;
        }
        self.count_out(reason);
    }

    /// Counts that the endpoint is out, and has it looked at.
    pub(super) fn count_out(self: &Arc<Self>, reason: EjectionReason) {
        if let Some(count) = self.health.ejections.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.health.of_version.changes().push(self);
    }

    /// Brings the endpoint back if its ejection is over, or if `at_once`.
    pub(crate) fn readmit(self: &Arc<Self>, at_once: bool, now: Instant) {
        {
            let mut detail = self.health.detail();
            if !at_once && !detail.ejections.is_over(now) {
                return;
            }
            detail.ejections.readmit(now);
        }
        self.bring_back(Out::Ejected);
    }

    /// The endpoint was asked whether it accepts connections.
    pub(crate) fn asked(self: &Arc<Self>, refusal: Option<String>, now: Instant) {
        {
            let mut detail = self.health.detail();
            match refusal {
                Some(why) => {
                    detail.reach.unanswered(now);
                    detail.why = Some(why);
                    return;
                }
                None => detail.reach.found(now),
            }
        }
        self.bring_back(Out::Unreachable);
    }

    pub(super) fn bring_back(self: &Arc<Self>, from: Out) {
        let version = &self.health.of_version;
        // Before it is back, or the first requests would not know. Where no other serves, there is nobody to take the rest.
        if self.state.is_out(from) && version.lock().serves() {
            self.newcomer.begin();
        }
        if self.state.set_out(from, false) {
            self.health.forgive();
            version.changes().push(self);
        }
    }

    /// Whether something stands against it.
    pub(crate) fn is_out(&self) -> bool {
        [Out::Ejected, Out::Unreachable, Out::Unhealthy].into_iter().any(|why| self.state.is_out(why))
    }

    /// Whether it accepts connections, as far as is known.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.state.is_out(Out::Unreachable)
    }
}

#[cfg(test)]
mod tests;
