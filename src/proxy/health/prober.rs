//! Active checks of all endpoints: which are due, which are under way, and who learns what they found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::{self, Verdict};
use super::questions::Questions;
use crate::algorithm::random::random;
use crate::health::schedule::{Difference, Recurring, Schedule};
use crate::model::EndpointState;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::tls::TlsConnectors;
use crate::snapshot::live::EndpointLive;
use crate::snapshot::{HealthCheck, Snapshot};

/// Checks that are under way at once: each is a connection. Where more are due they wait, the oldest first.
const MAX_CHECKS: usize = 256;

/// Checks endpoints.
pub(super) struct Prober {
    tls: Arc<TlsConnectors>,
    schedule: Schedule<Check>,
    /// The snapshot that the schedule is of.
    revision: Option<u64>,
    pub(super) under_way: Questions<Run, Verdict>,
}

/// How one endpoint is checked.
#[derive(Clone)]
struct Check {
    endpoint: Arc<EndpointLive>,
    to: Destination,
    how: Arc<HealthCheck>,
}

/// A check that is under way.
pub(super) struct Run {
    check: Check,
    number: u64,
    began: Instant,
}

impl Recurring for Check {
    fn id(&self) -> u64 {
        self.endpoint.id
    }

    fn interval(&self) -> Duration {
        self.how.interval
    }

    fn is_same(&self, other: &Self) -> bool {
        self.how.asks_the_same(&other.how) && self.to.is_spoken_to_alike(&other.to)
    }
}

impl Prober {
    pub(super) fn new(tls: Arc<TlsConnectors>) -> Self {
        Self { tls, schedule: Schedule::default(), revision: None, under_way: Questions::default() }
    }

    /// Brings the checks to what `snapshot` says, if it is another one.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        if self.revision.replace(snapshot.revision) == Some(snapshot.revision) {
            return;
        }
        let mut wanted = Vec::new();
        for service in &snapshot.services {
            for version in &service.versions {
                let Some(how) = &version.check else { continue };
                wanted.extend(version.endpoints.iter().map(|endpoint| Check {
                    endpoint: Arc::clone(&endpoint.live),
                    to: Destination::for_check(endpoint, service, how),
                    how: Arc::clone(how),
                }));
            }
        }
        let Difference { gone, changed } = self.schedule.follow(&wanted, now);
        gone.iter().for_each(|check| check.endpoint.is_unchecked());
        changed.iter().for_each(|check| check.endpoint.is_checked_anew());
    }

    /// When the next check begins; none while as many as may are under way.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.schedule.next_due().filter(|_| self.under_way.len() < MAX_CHECKS)
    }

    /// Begins a check that is due.
    pub(super) fn begin(&mut self, now: Instant) {
        let Some((check, number)) = self.schedule.begin(now) else { return };
        if check.endpoint.state.get() == EndpointState::Maint {
            // It is looked at again when the next one would begin.
            self.schedule.finish(check.endpoint.id, number, now, random());
            return;
        }
        let (to, how, tls) = (check.to.clone(), Arc::clone(&check.how), Arc::clone(&self.tls));
        self.under_way.ask(Run { check, number, began: now }, async move { check::check(&to, &tls, &how).await });
    }

    /// A check is over. One that broke off found nothing.
    pub(super) fn finish(&mut self, run: Run, verdict: Option<Verdict>) {
        let Run { check: Check { endpoint, how, .. }, number, began } = run;
        if !self.schedule.finish(endpoint.id, number, began, random()) {
            return;
        }
        let failure = match verdict {
            Some(Verdict::Passes) => None,
            Some(Verdict::Fails(why)) => Some(why),
            Some(Verdict::Unknown) | None => return,
        };
        endpoint.checked(failure, how.thresholds, (began, Instant::now()));
    }
}
