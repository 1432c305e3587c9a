//! The compiled configuration as a whole, and the routes in it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::live::HealthChanges;
use super::service::Service;
use crate::model::Name;
use crate::telemetry::RouteSeries;
use crate::tls::{Certificates, ClientRoots};
use crate::traffic::route::Table;
use crate::traffic::validate::Limits;
use crate::traffic::validate::spelling::Underscore;

/// The compiled configuration.
pub struct Snapshot {
    /// Order number; each publish raises it.
    pub(crate) revision: u64,
    /// Hash of the configuration it was compiled from.
    pub(crate) hash: String,
    /// What request validation lets pass.
    pub(crate) limits: Limits,
    /// What it lets pass on listeners that say something of their own; few, if any.
    pub(crate) listener_limits: Vec<(Name, Limits)>,
    /// How long clients may take, and how much they may have open.
    pub(crate) client: ClientLimits,
    /// Whose forwarded headers are believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Certificates by listener, read at each handshake.
    pub(crate) certificates: HashMap<Name, ListenerTls>,
    /// Endpoints whose health changed; the same in each snapshot.
    pub(crate) health: Arc<HealthChanges>,
    /// Host, path, method and headers to a route.
    pub(crate) table: Arc<Table<Arc<Route>>>,
    /// All services, in the file's order, and behind them the flags.
    pub(crate) services: Vec<Arc<Service>>,
    /// The flags that requests carry, by index of their service; empty where there are none.
    pub(crate) flags: Vec<Box<[Arc<Service>]>>,
}

/// What a listener's TLS handshakes use.
#[derive(Clone, Debug)]
pub(crate) struct ListenerTls {
    /// The certificates, by SNI.
    pub(crate) certificates: Arc<Certificates>,
    /// The authorities that sign clients' certificates, if they are asked for one.
    pub(crate) client_roots: Option<Arc<ClientRoots>>,
}

/// How long clients may take, and how much they may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientLimits {
    /// From the first byte of a head to its end.
    pub(crate) head_timeout: Duration,
    /// From accept to the end of the TLS handshake.
    pub(crate) handshake_timeout: Duration,
    /// Without a request on an open connection.
    pub(crate) keepalive: Duration,
    /// For one write to be taken by the client.
    pub(crate) write_timeout: Duration,
    /// What may be held for clients that do not read, all of them together, in bytes.
    pub(crate) unread_bytes: u64,
    /// HTTP/2 streams at once on one connection.
    pub(crate) h2_streams: u32,
    /// Size of an HTTP/2 header list, in bytes.
    pub(crate) header_bytes: u32,
}

/// One compiled route: where it leads and where it is counted.
pub(crate) struct Route {
    /// Its name: a metric label.
    pub(crate) name: Name,
    /// The service it leads to, as an index into [`Snapshot::services`].
    pub(crate) service: usize,
    /// Counters by version index of the service.
    pub(crate) series: Vec<Arc<RouteSeries>>,
    /// Its requests are health probes, which say nothing about a version.
    pub(crate) probe: bool,
    /// What becomes of header names with an underscore, instead of what its listener says.
    pub(crate) underscore: Option<Underscore>,
}

impl Snapshot {
    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| &*service.name == name)
    }

    /// The service that `route`, one of this snapshot's, leads to.
    #[must_use]
    pub(crate) fn service_of(&self, route: &Route) -> Option<&Arc<Service>> {
        self.services.get(route.service)
    }

    /// The flags that requests to a service, an index, carry.
    #[inline]
    #[must_use]
    pub(crate) fn flags_of(&self, service: usize) -> &[Arc<Service>] {
        self.flags.get(service).map_or(&[], |flags| &**flags)
    }

    /// What request validation lets pass on `listener`.
    #[inline]
    #[must_use]
    pub(crate) fn limits_of(&self, listener: &str) -> &Limits {
        let own = self.listener_limits.iter().find(|(name, _)| &**name == listener);
        own.map_or(&self.limits, |(_, limits)| limits)
    }

    /// Whether a peer's forwarded headers are believed.
    #[must_use]
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_some_and(|peer| self.trusted_proxies.iter().any(|net| net.contains(&peer)))
    }
}

/// A service before a snapshot was replaced, and after.
pub(crate) type ServiceChange<'a> = (Option<&'a Arc<Service>>, Option<&'a Arc<Service>>);

/// All services of a snapshot that nothing was before.
#[must_use]
pub(crate) fn all_services(first: &Snapshot) -> Vec<ServiceChange<'_>> {
    first.services.iter().map(|service| (None, Some(service))).collect()
}

/// The services that two snapshots do not share.
#[must_use]
pub(crate) fn changed_services<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<ServiceChange<'a>> {
    let (old, new) = (&before.services, &after.services);
    if old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new) || old.name == new.name) {
        let pairs = old.iter().zip(new).filter(|(old, new)| !Arc::ptr_eq(old, new));
        return pairs.map(|(old, new)| (Some(old), Some(new))).collect();
    }
    let mut by_name: HashMap<&str, &Arc<Service>> = old.iter().map(|service| (&*service.name, service)).collect();
    let mut changes: Vec<ServiceChange<'a>> = Vec::new();
    for service in new {
        match by_name.remove(&*service.name) {
            Some(old) if Arc::ptr_eq(old, service) => {}
            old => changes.push((old, Some(service))),
        }
    }
    changes.extend(old.iter().filter(|old| by_name.contains_key(&*old.name)).map(|old| (Some(old), None)));
    changes
}
