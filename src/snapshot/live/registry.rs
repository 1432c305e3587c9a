//! Finds what outlives a snapshot.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::endpoint::EndpointLive;
use super::health_changes::HealthChanges;
use super::limiter::Limiter;
use super::mirror::MirrorLive;
use super::retry::RetryCount;
use super::version_health::VersionHealth;
use crate::model::{Address, EndpointState, Name};
use crate::telemetry::MirrorSeries;

/// Which endpoint it is: service, version, address.
type EndpointIdentity = (Name, Name, Address);

/// What of a version is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Limited {
    Requests,
    Connections,
}

/// Finds what outlives a snapshot. Used while compiling, by one owner.
#[derive(Debug, Default)]
pub(crate) struct EndpointRegistry {
    endpoints: HashMap<EndpointIdentity, Weak<EndpointLive>>,
    /// By service and version.
    retries: HashMap<(Name, Name), Weak<RetryCount>>,
    limiters: HashMap<(Name, Name, Limited), Weak<Limiter>>,
    /// By service, and the version that gets the copies.
    mirrors: HashMap<(Name, Name), Weak<MirrorLive>>,
    versions: HashMap<(Name, Name), Weak<VersionHealth<EndpointLive>>>,
    changes: Arc<HealthChanges<EndpointLive>>,
    next_id: u64,
}

impl EndpointRegistry {
    /// Who is told of changes of health.
    pub(crate) fn changes(&self) -> &Arc<HealthChanges<EndpointLive>> {
        &self.changes
    }

    /// What the endpoints of a version have in common: that which is still held somewhere, or new.
    pub(crate) fn version(&mut self, service: &Name, version: &Name) -> Arc<VersionHealth<EndpointLive>> {
        let identity = (service.clone(), version.clone());
        let changes = &self.changes;
        find_or_make(&mut self.versions, identity, |(service, version)| {
            VersionHealth::new(service.clone(), version.clone(), Arc::clone(changes), Instant::now())
        })
    }

    /// The id of the next endpoint that is new; that of all others is less.
    pub(crate) const fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The endpoint of this identity: the one that is still held somewhere, or a new one in this state.
    pub(crate) fn endpoint(
        &mut self,
        version: &Arc<VersionHealth<EndpointLive>>,
        address: &Address,
        state: EndpointState,
    ) -> Arc<EndpointLive> {
        let identity = (version.service.clone(), version.version.clone(), address.clone());
        let next_id = &mut self.next_id;
        find_or_make(&mut self.endpoints, identity, |_| {
            let id = *next_id;
            *next_id += 1;
            EndpointLive::new(id, state, Arc::clone(version))
        })
    }

    /// Who is inside a limit of this version: the limiter that is still held somewhere, or a new one.
    pub(crate) fn limiter(&mut self, service: &Name, version: &Name, limited: Limited) -> Arc<Limiter> {
        find_or_make(&mut self.limiters, (service.clone(), version.clone(), limited), |_| Limiter::default())
    }

    /// The retries of this version that are under way: the count that is still held somewhere, or a new one.
    pub(crate) fn retries(&mut self, service: &Name, version: &Name) -> Arc<RetryCount> {
        find_or_make(&mut self.retries, (service.clone(), version.clone()), |_| RetryCount::default())
    }

    /// The copies of a service's requests for this version: those that are still known somewhere, or none so far.
    pub(crate) fn mirror(&mut self, service: &Name, version: &Name, series: Arc<MirrorSeries>) -> Arc<MirrorLive> {
        find_or_make(&mut self.mirrors, (service.clone(), version.clone()), |_| MirrorLive::new(series))
    }
}

/// What is known by `identity` while somebody holds it, or else what `make` makes.
fn find_or_make<K: Eq + Hash, V>(known: &mut HashMap<K, Weak<V>>, identity: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
    if let Some(found) = known.get(&identity).and_then(Weak::upgrade) {
        return found;
    }
    // Those that nobody holds any more make room.
    if known.len() == known.capacity() {
        known.retain(|_, held| held.strong_count() > 0);
    }
    let made = Arc::new(make(&identity));
    known.insert(identity, Arc::downgrade(&made));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_same_while_somebody_holds_it() {
        let address: Address = "127.0.0.1:1".parse().unwrap();
        let mut registry = EndpointRegistry::default();
        let version = registry.version(&"shop".into(), &"v1".into());
        let mut endpoint = || registry.endpoint(&version, &address, EndpointState::Ready);
        let (first, again) = (endpoint(), endpoint());
        assert!(Arc::ptr_eq(&first, &again));
        let id = first.id;
        drop((first, again));
        assert_ne!(endpoint().id, id, "ids are never used again");
    }

    #[test]
    fn a_version_keeps_its_count_of_retries_while_somebody_holds_it() {
        let mut registry = EndpointRegistry::default();
        let mut retries = |version: &str| registry.retries(&"shop".into(), &version.into());
        let (first, again, other) = (retries("v1"), retries("v1"), retries("v2"));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        for at in 0..10_000 {
            drop(registry.retries(&"shop".into(), &format!("v{at}").into()));
        }
        assert!(registry.retries.capacity() < 100, "{}", registry.retries.capacity());
    }

    #[test]
    fn endpoints_that_come_and_go_take_no_room() {
        let mut registry = EndpointRegistry::default();
        let version = registry.version(&"shop".into(), &"v1".into());
        for port in 1..10_000_u16 {
            let address = Address::Inet(([127, 0, 0, 1], port).into());
            drop(registry.endpoint(&version, &address, EndpointState::Ready));
        }
        assert!(registry.endpoints.capacity() < 100, "{}", registry.endpoints.capacity());
    }
}
