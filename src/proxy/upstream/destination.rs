//! An endpoint as connections to it see it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Address, Name};
use crate::snapshot::live::EndpointLive;
use crate::snapshot::{Endpoint, HealthCheck, Service, Timeouts, Upstream, UpstreamTls};

/// What connections to one endpoint, made under the same settings of TLS, have in common: any of them serves any of its
/// requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey(u64);

impl PoolKey {
    /// The key of the connections to an endpoint. Whom a connection trusted when it was made is part of it: what was
    /// verified against authorities that are no longer believed must not be used again.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match &endpoint.upstream.tls {
            None => Self(endpoint.live.id),
            // Ids count up from 0; hashes fill the rest of the numbers.
            Some(tls) => Self(*endpoint.tls_hash.get_or_init(|| hash(endpoint, tls)) | 1 << 63),
        }
    }

    /// The key as a number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

fn hash(endpoint: &Endpoint, tls: &UpstreamTls) -> u64 {
    let UpstreamTls { sni, verify, ca, client } = tls;
    let client = client.as_ref().map(|pair| (&pair.chain, &pair.key));
    let mut hasher = DefaultHasher::new();
    (endpoint.live.id, endpoint.upstream.http2, &endpoint.spelled, sni, verify, ca, client).hash(&mut hasher);
    hasher.finish()
}

/// An endpoint to connect to, apart from the snapshot that it was found in.
#[derive(Clone)]
pub(crate) struct Destination {
    /// The key of its connections.
    pub(crate) key: PoolKey,
    /// As the file spells it.
    pub(super) spelled: Name,
    pub(super) address: Address,
    pub(super) upstream: Arc<Upstream>,
    pub(super) live: Arc<EndpointLive>,
    /// For a new connection, TLS included.
    pub(super) connect_timeout: Duration,
    /// A connection may be idle for so long.
    pub(crate) idle_timeout: Duration,
}

impl Destination {
    /// An endpoint of a service with these timeouts.
    pub(crate) fn of(endpoint: &Endpoint, timeouts: &Timeouts) -> Self {
        Self {
            key: PoolKey::of(endpoint),
            spelled: endpoint.spelled.clone(),
            address: endpoint.address.clone(),
            upstream: Arc::clone(&endpoint.upstream),
            live: Arc::clone(&endpoint.live),
            connect_timeout: timeouts.connect,
            idle_timeout: timeouts.pool_idle,
        }
    }

    /// An endpoint as it is checked.
    pub(crate) fn for_check(endpoint: &Endpoint, service: &Service, check: &HealthCheck) -> Self {
        let mut to = Self { connect_timeout: check.timeout, ..Self::of(endpoint, &service.timeouts) };
        if let (Address::Inet(address), Some(port)) = (&mut to.address, check.port) {
            address.set_port(port);
        }
        to
    }

    /// The same for connections that take no place among those of the version.
    pub(crate) fn without_limit(mut self) -> Self {
        if self.upstream.connections.is_some() {
            Arc::make_mut(&mut self.upstream).connections = None;
        }
        self
    }

    /// Whether the same endpoint is connected to in the same way.
    pub(crate) fn is_spoken_to_alike(&self, other: &Self) -> bool {
        let (one, two) = (&self.upstream, &other.upstream);
        self.address == other.address && one.http2 == two.http2 && one.tls == two.tls
    }

    /// The host and port of a request about the endpoint itself.
    pub(crate) fn authority(&self) -> String {
        match &self.address {
            Address::Unix(_) => "localhost".to_owned(),
            Address::Inet(address) => {
                // A name of SRV is none of a host.
                let host = self.spelled.rsplit_once(':').filter(|(host, _)| *host != "srv").map(|(host, _)| host);
                host.map_or_else(|| address.to_string(), |host| format!("{host}:{}", address.port()))
            }
        }
    }

    /// Whether HTTP/2 is spoken with it.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.upstream.http2
    }

    /// Whether TLS is spoken with it.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.upstream.tls.is_some()
    }
}
