//! Finds what outlives a snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::endpoint::EndpointLive;
use super::health_changes::HealthChanges;
use super::retry::RetryCount;
use super::version_health::VersionHealth;
use crate::model::{Address, EndpointState, Name};

/// Which endpoint it is: service, version, address.
type EndpointIdentity = (Name, Name, Address);

/// Finds what outlives a snapshot. Used while compiling, by one owner.
#[derive(Debug, Default)]
pub(crate) struct EndpointRegistry {
    endpoints: HashMap<EndpointIdentity, Weak<EndpointLive>>,
    /// By service and version.
    retries: HashMap<(Name, Name), Weak<RetryCount>>,
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
        if let Some(health) = self.versions.get(&identity).and_then(Weak::upgrade) {
            return health;
        }
        // Those that nobody holds any more make room.
        if self.versions.len() == self.versions.capacity() {
            self.versions.retain(|_, health| health.strong_count() > 0);
        }
        let (service, version, changes) = (service.clone(), version.clone(), Arc::clone(&self.changes));
        let health = Arc::new(VersionHealth::new(service, version, changes, Instant::now()));
        self.versions.insert(identity, Arc::downgrade(&health));
        health
    }

    /// The endpoint of this identity: the one that is still held somewhere, or a new one in this state.
    pub(crate) fn endpoint(
        &mut self,
        version: &Arc<VersionHealth<EndpointLive>>,
        address: &Address,
        state: EndpointState,
    ) -> Arc<EndpointLive> {
        let identity = (version.service.clone(), version.version.clone(), address.clone());
        if let Some(live) = self.endpoints.get(&identity).and_then(Weak::upgrade) {
            return live;
        }
        // Those that nobody holds any more make room.
        if self.endpoints.len() == self.endpoints.capacity() {
            self.endpoints.retain(|_, live| live.strong_count() > 0);
        }
        let live = Arc::new(EndpointLive::new(self.next_id, state, Arc::clone(version)));
        self.next_id += 1;
        self.endpoints.insert(identity, Arc::downgrade(&live));
        live
    }

    /// The retries of this version that are under way: the count that is still held somewhere, or a new one.
    pub(crate) fn retries(&mut self, service: &Name, version: &Name) -> Arc<RetryCount> {
        let identity = (service.clone(), version.clone());
        if let Some(count) = self.retries.get(&identity).and_then(Weak::upgrade) {
            return count;
        }
        if self.retries.len() == self.retries.capacity() {
            self.retries.retain(|_, count| count.strong_count() > 0);
        }
        let count = Arc::default();
        self.retries.insert(identity, Arc::downgrade(&count));
        count
    }
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
