//! Compiled services: versions, endpoints, and how endpoints are spoken to.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderName;

use crate::drain::Cut;
use crate::health::panic::{self, Panic, Standing};
use crate::model::{Address, EndpointState, Name, Weight};
use crate::snapshot::HealthCheck;
use crate::snapshot::live::{
    CircuitBreaker, EndpointLive, FaultInjection, Limit, RetryCount, StateCell, States, VersionHealth, desired,
};
use crate::snapshot::mirror::Mirror;
use crate::snapshot::retry::RetryPolicy;
use crate::telemetry::{CohortSeries, RouteSeries, StreamKind, VersionSeries};
use crate::traffic::balance::{Balancer, Endpoints, Tried, WHOLE};
use crate::traffic::split::Chooser;

/// One compiled service.
pub struct Service {
    /// Its name.
    pub(crate) name: Name,
    /// Which version a request gets, and why.
    pub(crate) chooser: Chooser,
    /// The cohorts that are split by weights of their own, in the file's order.
    pub(crate) cohorts: Vec<ServiceCohort>,
    /// Its versions, in the file's order.
    pub(crate) versions: Vec<Version>,
    /// Which of its requests are copied, if any.
    pub(crate) mirror: Option<Arc<Mirror>>,
    /// How long its endpoints may take.
    pub(crate) timeouts: Timeouts,
    /// How long work in flight may go on in a drain.
    pub(crate) drain: DrainTimes,
    /// The cookie that carries a generated affinity key, if Weir is to set one.
    pub(crate) affinity_cookie: Option<AffinityCookie>,
    /// Whether clients, which have no affinity key, keep their endpoints by their addresses.
    pub(crate) hashes_addresses: bool,
    /// Whether clients are told which version a request got.
    pub(crate) tells_clients: bool,
    /// The `Host` sent to endpoints instead of the client's.
    pub(crate) host: Option<Box<str>>,
    /// Upgrade tokens that are passed on, in lower case.
    pub(crate) upgrades: Vec<Box<str>>,
    /// The largest request body passed on, in bytes.
    pub(crate) body_bytes: Option<u64>,
    /// Whether all of its endpoints speak HTTP/1.1.
    pub(crate) speaks_http1: bool,
    /// Below this percentage of available endpoints health is ignored; 0 for never.
    pub(crate) panic_threshold: u8,
    /// Held by whoever changes what is available, so that the last word is the newest. Never by a request.
    pub(crate) changing: Mutex<()>,
    /// What it is a flag by, if it is one and no service of the file.
    pub(crate) flag: Option<FlagSwitch>,
}

/// What makes a service a feature flag: nothing goes to its versions, which are `off` and `on`.
pub(crate) struct FlagSwitch {
    /// The header that tells endpoints.
    pub(crate) header: HeaderName,
    /// Where requests are counted, by version.
    pub(crate) series: [Arc<RouteSeries>; 2],
}

impl FlagSwitch {
    /// The index of the version `on`.
    pub(crate) const ON: usize = 1;
}

/// A cohort, as others than the choice need it.
pub(crate) struct ServiceCohort {
    /// Its name: a metric label.
    pub(crate) name: Name,
    /// What its split gives each version, by index.
    pub(crate) weights: Vec<Weight>,
    /// Where its requests are counted, by index of their version.
    pub(crate) series: Vec<Arc<CohortSeries>>,
}

/// How the affinity cookie is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AffinityCookie {
    /// Its name.
    pub(crate) name: Box<str>,
    /// How long the client keeps it.
    pub(crate) max_age: Duration,
    /// When it is sent over TLS only.
    pub(crate) secure: CookieSecure,
    /// The value of its `SameSite`.
    pub(crate) same_site: &'static str,
}

/// When a cookie is `Secure`: sent over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieSecure {
    /// If its client came over TLS.
    Auto,
    Always,
    Never,
}

/// The header that says which version a request got, by name.
pub(crate) const VERSION_HEADER: &str = "weir-version";

/// How long an endpoint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// To accept a connection, TLS handshake included.
    pub(crate) connect: Duration,
    /// From the last byte of the request to the first byte of the response.
    pub(crate) first_byte: Duration,
    /// Silence in a request or response body; streams have none.
    pub(crate) idle: Duration,
    /// The whole request with all its tries; none for no limit.
    pub(crate) request: Option<Duration>,
    /// How long an unused upstream connection is kept.
    pub(crate) pool_idle: Duration,
}

/// How long work in flight may go on in a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainTimes {
    /// Requests.
    pub(crate) requests: Duration,
    /// Streams.
    pub(crate) streams: Duration,
}

impl DrainTimes {
    /// What is due after a drain has gone on for `elapsed`.
    #[must_use]
    pub(crate) fn due(&self, elapsed: Duration) -> Cut {
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
pub(crate) struct Version {
    /// Its name.
    pub(crate) name: Name,
    /// What the file wants of it.
    pub(crate) declared: EndpointState,
    /// The line of [`VERSION_HEADER`] that its endpoints get with each request, if they are told.
    pub(crate) told: Option<Box<str>>,
    /// What the file or an operator wants of it now.
    pub(crate) state: StateCell,
    /// Its share by the file or by a shift over it.
    pub(crate) configured: Weight,
    /// Which of its endpoints a request gets.
    pub(crate) balancer: Balancer,
    /// Its endpoints, in the file's order.
    pub(crate) endpoints: Vec<Endpoint>,
    /// How long an endpoint that is new takes to get its whole share; none: no time.
    pub(crate) slow_start: Option<Duration>,
    /// How many of them are to stay ready, whatever is asked for.
    pub(crate) min_ready: usize,
    /// Where its requests are counted.
    pub(crate) series: Arc<VersionSeries>,
    /// What of its requests is tried again.
    pub(crate) retry: RetryPolicy,
    /// Where a request is tried once that failed here: the index of stable, if this is the canary of a rollout.
    pub(crate) rescuer: Option<usize>,
    /// Its retries under way, which the budget is counted on.
    pub(crate) retries: Arc<RetryCount>,
    /// How many of its requests are in flight at once, if that is limited.
    pub(crate) limit: Option<Limit>,
    /// Its circuit breaker, which its finished requests count on, if it has one.
    pub(crate) breaker: Option<Arc<CircuitBreaker>>,
    /// Faults that are injected into its requests, if any.
    pub(crate) faults: Option<Arc<FaultInjection>>,
    /// How its endpoints are checked, if they are.
    pub(crate) check: Option<Arc<HealthCheck>>,
    /// What its endpoints have in common where health is concerned.
    pub(crate) health: Arc<VersionHealth>,
    /// Whose health is ignored, as few endpoints are left: a [`Panic`].
    pub(crate) panic: AtomicU8,
}

/// One compiled endpoint.
pub(crate) struct Endpoint {
    /// A metric label: its address as the file spells it, or for a DNS name with several addresses the address.
    pub(crate) name: Name,
    /// Its address as the file spells it.
    pub(crate) spelled: Name,
    /// Where to connect to.
    pub(crate) address: Address,
    /// How many requests it gets beside the others of its version.
    pub(crate) weight: u32,
    /// What the file wants of it.
    pub(crate) declared: EndpointState,
    /// How to speak to it.
    pub(crate) upstream: Arc<Upstream>,
    /// What outlives this snapshot.
    pub(crate) live: Arc<EndpointLive>,
    /// A hash of its settings of TLS, for the data plane: which connections to it are alike. Made when first needed.
    pub(crate) tls_hash: OnceLock<u64>,
}

/// How to speak to the endpoints of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// Whether HTTP/2 is spoken, by prior knowledge or by ALPN.
    pub(crate) http2: bool,
    /// TLS towards the endpoint.
    pub(crate) tls: Option<UpstreamTls>,
    /// Connections kept open without use.
    pub(crate) max_idle: usize,
    /// How many connections the version's endpoints have at once, if that is limited.
    pub(crate) connections: Option<Limit>,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamTls {
    /// The name to ask for and to verify; the request's host if none.
    pub(crate) sni: Option<Box<str>>,
    /// Whether the certificate is verified.
    pub(crate) verify: bool,
    /// The authorities that are believed, as DER; the system's if none.
    pub(crate) ca: Option<Vec<Vec<u8>>>,
    /// The client certificate chain and key shown to the endpoint, as DER.
    pub(crate) client: Option<ClientPair>,
}

/// A client certificate chain and its private key, as DER.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientPair {
    /// The chain, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The key.
    pub(crate) key: Vec<u8>,
}

impl std::fmt::Debug for ClientPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientPair").finish_non_exhaustive()
    }
}

/// The states that operators' states over the file's make of a version and its endpoints.
struct DesiredStates {
    version: EndpointState,
    endpoints: Vec<EndpointState>,
}

impl Version {
    /// Whether its endpoints speak HTTP/2.
    #[must_use]
    pub(crate) fn speaks_http2(&self) -> bool {
        // How to speak to them, all of a version share.
        self.endpoints.first().is_none_or(|endpoint| endpoint.upstream.http2)
    }

    /// The endpoint for a request with this affinity key: available, and not tried yet.
    #[must_use]
    pub(crate) fn pick(&self, tried: &Tried, key: Option<u64>) -> Option<usize> {
        self.balancer.pick(self, tried, key)
    }

    /// How many of its endpoints these states of operators over the file's let be ready. One that is to be ready and is
    /// known to take no requests is none.
    #[must_use]
    pub(crate) fn ready_under(&self, service: &Name, states: &States) -> usize {
        let usable = |endpoint: &Endpoint| endpoint.state() != EndpointState::Ready || endpoint.live.is_available();
        let wanted = self.desired(service, states).endpoints;
        let pairs = self.endpoints.iter().zip(wanted);
        pairs.filter(|(endpoint, state)| *state == EndpointState::Ready && usable(endpoint)).count()
    }

    /// Whether an endpoint that is not among these is ready.
    #[must_use]
    pub(crate) fn has_ready(&self, tried: &Tried) -> bool {
        (0..self.endpoints.len()).any(|at| self.is_available(at) && !tried.contains(at))
    }

    /// How many connections its endpoints have at once, if that is limited.
    pub(crate) fn connection_limit(&self) -> Option<&Limit> {
        self.endpoints.first()?.upstream.connections.as_ref()
    }

    /// Admits one more retry, if the version's budget has room for it; whoever is admitted leaves [`Self::retries`].
    #[must_use]
    pub(crate) fn admits_retry(&self) -> bool {
        // Streams are open for long and load no endpoint as requests do.
        let streams: u64 = StreamKind::ALL.iter().map(|kind| self.series.streams_open(*kind)).sum();
        let others = streams + self.retries.now();
        let first_tries = self.series.in_flight().saturating_sub(others);
        self.retries.try_enter(self.retry.most_retries(first_tries))
    }

    /// Whether an endpoint gets requests although it is out, because too few are not.
    #[cold]
    fn is_panicking(&self, endpoint: &Endpoint) -> bool {
        let panic = self.panic.load(Ordering::Relaxed);
        panic != Panic::Calm as u8
            && endpoint.live.is_ready()
            && (panic == Panic::All as u8 || endpoint.live.is_reachable())
    }

    /// Whether health is ignored, as few endpoints are left.
    #[must_use]
    pub(crate) fn panics(&self) -> bool {
        self.panic.load(Ordering::Relaxed) != Panic::Calm as u8
    }

    /// What is wanted of it now, as its endpoints' states say.
    fn in_effect(&self) -> DesiredStates {
        DesiredStates { version: self.state.get(), endpoints: self.endpoints.iter().map(Endpoint::state).collect() }
    }

    fn desired(&self, service: &Name, states: &States) -> DesiredStates {
        let version = desired(states, (service, &self.name), None, self.declared);
        let of_endpoint = |endpoint: &Endpoint| {
            desired(states, (service, &self.name), Some(&endpoint.spelled), endpoint.declared).stricter(version)
        };
        DesiredStates { version, endpoints: self.endpoints.iter().map(of_endpoint).collect() }
    }
}

impl DesiredStates {
    /// How a version stands whose endpoints are wanted so.
    fn standing(&self, version: &Version) -> Standing {
        let mut standing = Standing::default();
        for (endpoint, _) in
            version.endpoints.iter().zip(&self.endpoints).filter(|(_, state)| **state == EndpointState::Ready)
        {
            standing.ready += 1;
            standing.reachable += usize::from(endpoint.live.is_reachable());
            standing.available += usize::from(endpoint.live.is_available());
        }
        standing
    }

    /// Whether another endpoint of the version, at the same address, is to be ready. Two DNS names may have one address.
    fn keeps_ready(&self, version: &Version, live: &Arc<EndpointLive>) -> bool {
        let mut all = version.endpoints.iter().zip(&self.endpoints);
        all.any(|(endpoint, state)| *state == EndpointState::Ready && Arc::ptr_eq(&endpoint.live, live))
    }
}

impl Endpoints for Version {
    #[inline]
    fn is_available(&self, at: usize) -> bool {
        self.endpoints.get(at).is_some_and(|endpoint| endpoint.live.is_available() || self.is_panicking(endpoint))
    }

    fn is_ready(&self, at: usize) -> bool {
        self.endpoints.get(at).is_some_and(|endpoint| endpoint.live.is_ready())
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.endpoints.get(at).map_or(u64::MAX, |endpoint| endpoint.live.ledger.in_flight())
    }

    #[inline]
    fn part(&self, at: usize) -> u32 {
        let Some(window) = self.slow_start else { return WHOLE };
        self.endpoints.get(at).map_or(WHOLE, |endpoint| endpoint.live.newcomer.part(window))
    }
}

impl Endpoint {
    /// What the file or an operator wants of it now, its version's state included.
    #[must_use]
    pub(crate) fn state(&self) -> EndpointState {
        self.live.state.get()
    }
}

impl Service {
    /// The version of this name.
    #[cfg(test)]
    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| &*version.name == name)
    }

    /// The name of the cohort at this place.
    pub(crate) fn cohort_name(&self, at: Option<usize>) -> Option<&Name> {
        self.cohorts.get(at?).map(|cohort| &cohort.name)
    }

    /// Brings the states of versions and endpoints to what operators' `states` over the file's make them, in effect from
    /// the next choice on.
    ///
    /// Endpoints become ready before choices count on them, and drain after choices do not any more.
    pub fn set_states(&self, states: &States) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<DesiredStates> =
            self.versions.iter().map(|version| version.desired(&self.name, states)).collect();
        for (version, wanted) in self.versions.iter().zip(&wanted) {
            version.state.set(wanted.version);
            let serves = version.endpoints.iter().any(|endpoint| endpoint.live.is_available());
            for (endpoint, state) in version.endpoints.iter().zip(&wanted.endpoints) {
                if *state == EndpointState::Ready {
                    if serves && endpoint.state() != EndpointState::Ready {
                        endpoint.live.newcomer.begin();
                    }
                    endpoint.live.state.set(*state);
                }
            }
        }
        self.count_on(&wanted);
        for (version, wanted) in self.versions.iter().zip(&wanted) {
            for (endpoint, state) in version.endpoints.iter().zip(&wanted.endpoints) {
                if *state != EndpointState::Ready && !wanted.keeps_ready(version, &endpoint.live) {
                    endpoint.live.state.set(*state);
                }
            }
        }
    }

    /// Brings what choices count on to the health of this moment.
    pub(crate) fn follow_health(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<DesiredStates> = self.versions.iter().map(Version::in_effect).collect();
        self.count_on(&wanted);
    }

    /// Says which versions take requests, and which of them ignore health.
    fn count_on(&self, wanted: &[DesiredStates]) {
        let standings: Vec<Standing> =
            self.versions.iter().zip(wanted).map(|(version, wanted)| wanted.standing(version)).collect();
        for (version, standing) in self.versions.iter().zip(&standings) {
            version.panic.store(panic::panic(*standing, self.panic_threshold) as u8, Ordering::Relaxed);
        }
        // Nothing is sent to a flag's values: their state alone counts.
        let of_flag = |at: usize| wanted.get(at).is_some_and(|wanted| wanted.version == EndpointState::Ready);
        let has_available = |at: usize| standings.get(at).is_some_and(|standing| standing.available > 0);
        self.chooser.set_available(|at| if self.flag.is_some() { of_flag(at) } else { has_available(at) });
    }
}
