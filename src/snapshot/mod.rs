//! What requests read: the configuration in compiled form, replaced whole and never edited.
//!
//! ```text
//! config + shifts + states + live ── compile ──► Snapshot ── Publisher ──► Current ──► every request, once
//! ```
//!
//! A request loads [`Current`] once and finishes on what it got. What must outlive a snapshot (work in
//! flight, counters, positions) is in [`live`] and [`crate::telemetry`], found again by identity.
//!
//! Invariant: [`Publisher`] is not `Clone`; only the control owner holds it, so nothing else can change what
//! requests read.

pub mod compile;
pub mod live;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;

use crate::coop::drop_in_pieces;
use crate::drain::Cut;
use crate::model::{Address, EndpointState, Name, Weight};
use crate::snapshot::live::{CircuitBreaker, EndpointLive, FaultInjection};
use crate::telemetry::{RouteSeries, VersionSeries};
use crate::tls::{Certificates, ClientRoots};
use crate::traffic::balance::Balancer;
use crate::traffic::route::Table;
use crate::traffic::split::Chooser;
use crate::traffic::validate::Limits;
use crate::traffic::validate::spelling::Underscore;

/// The compiled configuration.
pub struct Snapshot {
    /// Order number; each publish raises it.
    pub revision: u64,
    /// Hash of the configuration it was compiled from.
    pub hash: String,
    /// What request validation lets pass.
    pub limits: Limits,
    /// What it lets pass on listeners that say something of their own; few, if any.
    pub listener_limits: Vec<(Name, Limits)>,
    /// How long clients may take, and how much they may have open.
    pub client: ClientLimits,
    /// Whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Certificates by listener, read at each handshake.
    pub certificates: HashMap<Name, ListenerTls>,
    /// Host, path, method and headers to a route.
    pub table: Table<Arc<Route>>,
    /// All services, in the file's order.
    pub services: Vec<Arc<Service>>,
}

/// What a listener's TLS handshakes use.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// The certificates, by SNI.
    pub certificates: Arc<Certificates>,
    /// The authorities that sign clients' certificates, if they are asked for one.
    pub client_roots: Option<Arc<ClientRoots>>,
}

/// How long clients may take, and how much they may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Without a request on an open connection.
    pub keepalive: Duration,
    /// For one write to be taken by the client.
    pub write_timeout: Duration,
    /// What may be held for clients that do not read, all of them together, in bytes.
    pub unread_bytes: u64,
    /// HTTP/2 streams at once on one connection.
    pub h2_streams: u32,
    /// Size of an HTTP/2 header list, in bytes.
    pub header_bytes: u32,
}

/// One compiled route: where it leads and where it is counted.
pub struct Route {
    /// Its name: a metric label.
    pub name: Name,
    /// The service it leads to, as an index into [`Snapshot::services`].
    pub service: usize,
    /// Counters by version index of the service.
    pub series: Vec<Arc<RouteSeries>>,
    /// Its requests are health probes, which say nothing about a version.
    pub probe: bool,
    /// What becomes of header names with an underscore, instead of what its listener says.
    pub underscore: Option<Underscore>,
}

/// One compiled service.
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Which version a request gets, and why.
    pub chooser: Chooser,
    /// Its versions, in the file's order.
    pub versions: Vec<Version>,
    /// How long its endpoints may take.
    pub timeouts: Timeouts,
    /// How long work in flight may go on in a drain.
    pub drain: DrainTimes,
    /// The cookie that carries a generated affinity key, if Weir is to set one.
    pub affinity_cookie: Option<AffinityCookie>,
    /// The `Host` sent to endpoints instead of the client's.
    pub host: Option<Box<str>>,
    /// Upgrade tokens that are passed on, in lower case.
    pub upgrades: Vec<Box<str>>,
    /// The largest request body passed on, in bytes.
    pub body_bytes: Option<u64>,
    /// Whether all of its endpoints speak HTTP/1.1.
    pub speaks_http1: bool,
}

/// How the affinity cookie is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinityCookie {
    /// Its name.
    pub name: Box<str>,
    /// How long the client keeps it.
    pub max_age: Duration,
}

/// How long an endpoint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept a connection, TLS handshake included.
    pub connect: Duration,
    /// From the last byte of the request to the first byte of the response.
    pub first_byte: Duration,
    /// Silence in a request or response body; streams have none.
    pub idle: Duration,
    /// How long an unused upstream connection is kept.
    pub pool_idle: Duration,
}

/// How long work in flight may go on in a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTimes {
    /// Requests.
    pub requests: Duration,
    /// Streams.
    pub streams: Duration,
}

impl DrainTimes {
    /// What is due after a drain has gone on for `elapsed`.
    #[must_use]
    pub fn due(&self, elapsed: Duration) -> Cut {
        if elapsed >= self.streams.max(self.requests) {
            Cut::All
        } else if elapsed >= self.requests {
            Cut::Requests
        } else {
            Cut::Nothing
        }
    }
}

/// One compiled version.
pub struct Version {
    /// Its name.
    pub name: Name,
    /// What the file or an operator wants of it.
    pub state: EndpointState,
    /// Its share by the file or by a shift over it.
    pub configured: Weight,
    /// The share that new requests really get.
    pub effective: Weight,
    /// Which of its endpoints a request gets.
    pub balancer: Balancer,
    /// Its endpoints, in the file's order.
    pub endpoints: Vec<Endpoint>,
    /// Where its requests are counted.
    pub series: Arc<VersionSeries>,
    /// Its circuit breaker, which its finished requests count on, if it has one.
    pub breaker: Option<Arc<CircuitBreaker>>,
    /// Faults that are injected into its requests, if any.
    pub faults: Option<Arc<FaultInjection>>,
}

/// One compiled endpoint.
pub struct Endpoint {
    /// A metric label: its address as the file spells it, or for a DNS name with several addresses the address.
    pub name: Name,
    /// Its address as the file spells it.
    pub spelled: Name,
    /// Where to connect to.
    pub address: Address,
    /// What the file or an operator wants of it, its version's state included.
    pub state: EndpointState,
    /// How to speak to it.
    pub upstream: Arc<Upstream>,
    /// What outlives this snapshot.
    pub live: Arc<EndpointLive>,
    /// A hash of its settings of TLS, for the data plane: which connections to it are alike. Made when first needed.
    pub tls_hash: OnceLock<u64>,
}

/// How to speak to the endpoints of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Whether HTTP/2 is spoken, by prior knowledge or by ALPN.
    pub http2: bool,
    /// TLS towards the endpoint.
    pub tls: Option<UpstreamTls>,
    /// Connections kept open without use.
    pub max_idle: usize,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name to ask for and to verify; the request's host if none.
    pub sni: Option<Box<str>>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// The authorities that are believed, as DER; the system's if none.
    pub ca: Option<Vec<Vec<u8>>>,
    /// The client certificate chain and key shown to the endpoint, as DER.
    pub client: Option<ClientPair>,
}

/// A client certificate chain and its private key, as DER.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientPair {
    /// The chain, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ClientPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientPair").finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| &*service.name == name)
    }

    /// The service that `route`, one of this snapshot's, leads to.
    #[must_use]
    pub fn service_of(&self, route: &Route) -> Option<&Arc<Service>> {
        self.services.get(route.service)
    }

    /// What request validation lets pass on `listener`.
    #[inline]
    #[must_use]
    pub fn limits_of(&self, listener: &str) -> &Limits {
        let own = self.listener_limits.iter().find(|(name, _)| &**name == listener);
        own.map_or(&self.limits, |(_, limits)| limits)
    }

    /// Whether a peer's forwarded headers are believed.
    #[must_use]
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_some_and(|peer| self.trusted_proxies.iter().any(|net| net.contains(&peer)))
    }
}

impl Version {
    /// Whether its endpoints speak HTTP/2.
    #[must_use]
    pub fn speaks_http2(&self) -> bool {
        // How to speak to them, all of a version share.
        self.endpoints.first().is_none_or(|endpoint| endpoint.upstream.http2)
    }
}

impl Service {
    /// The version of this name.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| &*version.name == name)
    }
}

/// The snapshot that requests read now.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Snapshot>>);

impl Current {
    /// The snapshot of this moment, to be held for as long as a request needs it.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The snapshot of this moment, for a short look.
    #[must_use]
    pub fn peek(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }
}

/// The one means to replace the snapshot.
///
/// It keeps those that were replaced until nobody else does: to free 10,000 routes takes milliseconds, which must not be
/// a worker's.
pub struct Publisher {
    cell: Arc<ArcSwap<Snapshot>>,
    /// Replaced, and still used by a request or a worker.
    replaced: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// Publishes the first snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> (Self, Current) {
        let cell = Arc::new(ArcSwap::from_pointee(first));
        (Self { cell: Arc::clone(&cell), replaced: Vec::new() }, Current(cell))
    }

    /// Replaces the snapshot with one atomic store; requests in flight keep the one they began with.
    pub fn publish(&mut self, next: Snapshot) {
        self.replaced.push(self.cell.swap(Arc::new(next)));
        self.free();
    }

    /// Frees replaced snapshots that nobody uses any more.
    pub fn free(&mut self) {
        for snapshot in self.replaced.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1) {
            if let Some(snapshot) = Arc::into_inner(snapshot) {
                drop_in_pieces(snapshot.table.into_targets());
            }
        }
    }
}
