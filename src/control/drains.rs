//! Endpoints that take no new work: who drains since when, and what is due.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::DrainingEndpoint;
use crate::drain::{Cut, Notifier};
use crate::snapshot::{Endpoint, Service, ServiceChange, Version};

/// A request that began on the snapshot before may still choose an endpoint that has just left, also for its
/// second attempt; until then the endpoint is not forgotten, so that such work is seen and cut like any other.
const LATE_REQUEST_GRACE: Duration = Duration::from_secs(2);

/// Follows every drain from its beginning to its end.
pub(super) struct Drains {
    list: Vec<DrainingEndpoint>,
    notifier: Notifier,
}

impl Drains {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self { list: Vec::new(), notifier }
    }

    pub(super) fn list(&self) -> &[DrainingEndpoint] {
        &self.list
    }

    /// Looks at what changed services took out of use and what they brought back.
    pub(super) fn published(&mut self, changes: &[ServiceChange<'_>], now: Instant) {
        for (before, after) in changes {
            self.service_changed(before.map(|before| &**before), after.map(|after| &**after), now);
        }
        self.forget_empty(now);
    }

    fn service_changed(&mut self, before: Option<&Service>, after: Option<&Service>, now: Instant) {
        let mut present = HashSet::new();
        for (service, version, endpoint) in after.into_iter().flat_map(endpoints) {
            present.insert(endpoint.live.id);
            if endpoint.live.is_ready() {
                self.list.retain(|draining| draining.live.id != endpoint.live.id);
                endpoint.live.ledger.set_cut(Cut::Nothing);
                endpoint.live.set_accepting(true);
            } else {
                self.begin(service, version, endpoint, false, now);
            }
        }
        for (service, version, endpoint) in before.into_iter().flat_map(endpoints) {
            if !present.contains(&endpoint.live.id) {
                self.begin(service, version, endpoint, true, now);
            }
        }
        let name = before.or(after).map(|service| &service.name);
        for draining in self.list.iter_mut().filter(|draining| Some(&draining.service) == name) {
            draining.removed = !present.contains(&draining.live.id);
        }
    }

    fn begin(&mut self, service: &Service, version: &Version, endpoint: &Endpoint, removed: bool, now: Instant) {
        endpoint.live.set_accepting(false);
        if let Some(known) = self.list.iter_mut().find(|known| known.live.id == endpoint.live.id) {
            known.times = service.drain;
            return;
        }
        self.list.push(DrainingEndpoint {
            service: service.name.clone(),
            version: version.name.clone(),
            endpoint: endpoint.name.clone(),
            removed,
            since: now,
            times: service.drain,
            live: Arc::clone(&endpoint.live),
            series: Arc::clone(&version.series),
        });
    }

    /// Cuts what is due. Whether the list changed.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let mut due = false;
        for draining in &self.list {
            let cut = draining.times.due(now.saturating_duration_since(draining.since));
            draining.live.ledger.set_cut(cut);
            due |= cut > Cut::Nothing && draining.live.ledger.in_flight() > 0;
        }
        if due {
            self.notifier.notify();
        }
        self.forget_empty(now)
    }

    /// Endpoints that left the file are forgotten when their last work has ended; those that an operator
    /// drains stay, so that operators see that they are empty.
    fn forget_empty(&mut self, now: Instant) -> bool {
        let before = self.list.len();
        self.list.retain(|draining| {
            !draining.removed
                || draining.live.ledger.in_flight() > 0
                || now.saturating_duration_since(draining.since) < LATE_REQUEST_GRACE
        });
        self.list.len() != before
    }

    /// Whether there is something to look at again soon.
    pub(super) fn is_busy(&self) -> bool {
        self.list.iter().any(|draining| draining.removed || draining.live.ledger.in_flight() > 0)
    }
}

fn endpoints(service: &Service) -> impl Iterator<Item = (&Service, &Version, &Endpoint)> {
    let versions = service.versions.iter();
    versions.flat_map(move |version| version.endpoints.iter().map(move |endpoint| (service, version, endpoint)))
}
