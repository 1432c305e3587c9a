//! One service of the file → one compiled service.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, OnceLock};

use http::HeaderName;

use super::health;
use super::inputs::Inputs;
use super::{clients, cohorts, mirror};
use crate::config::{self, Balance, Concurrency, EndpointAddress, FlagSettings, HostHeader, Protocol, RetryOn};
use crate::model::{Address, EndpointState, Name, ResolvedAddress, Weight};
use crate::snapshot::live::{Capacity, EndpointRegistry, HealthChanges, Limit, Limited, StateCell, desired};
use crate::snapshot::retry::{RetryConditions, RetryPolicy};
use crate::snapshot::{
    DrainTimes, Endpoint, FlagSwitch, Service, Timeouts, Upstream, UpstreamTls, VERSION_HEADER, Version,
};
use crate::telemetry::Recorder;
use crate::traffic::balance::{Algorithm, Balancer};
use crate::traffic::split::{BreakerFlag, Chooser, Schedules, VersionShare};

/// What the header of a flag begins with; its name follows.
pub(crate) const FLAG_HEADER: &str = "x-weir-flag-";

/// Compiles services, and finds again what outlives them.
pub(super) struct ServiceCompiler {
    endpoints: EndpointRegistry,
    recorder: Arc<Recorder>,
}

/// Whether `service`, compiled from the same section of the file, is what these inputs make of it. States of endpoints
/// are live, so they change nothing here.
pub(super) fn is_same(service: &Service, file: &config::Service, inputs: &Inputs) -> bool {
    let split = inputs.split(&service.name, None, &file.split);
    clients::are_same(service, file, inputs)
        && cohorts::are_same(service, file, inputs)
        && service.versions.iter().zip(file.versions.iter()).all(|(version, (_, spec))| {
            version.configured == split.weight(&version.name)
                && same_arc(&version.breaker, by_version(&inputs.breakers, &service.name, &version.name))
                && same_arc(&version.faults, by_version(&inputs.faults, &service.name, &version.name))
                && same_tls(version, file, spec, inputs)
                && same_addresses(version, spec, inputs)
        })
}

fn by_version<'a, T>(all: &'a BTreeMap<(Name, Name), Arc<T>>, service: &Name, version: &Name) -> Option<&'a Arc<T>> {
    if all.is_empty() { None } else { all.get(&(service.clone(), version.clone())) }
}

fn same_arc<T>(one: &Option<Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn same_tls(version: &Version, file: &config::Service, spec: &config::Version, inputs: &Inputs) -> bool {
    let wanted = upstream_tls(file, spec, inputs);
    version.endpoints.first().is_none_or(|endpoint| endpoint.upstream.tls.as_ref() == wanted)
}

/// Whether the addresses behind the version's DNS names are the same, if it has such names.
fn same_addresses(version: &Version, spec: &config::Version, inputs: &Inputs) -> bool {
    let is_name =
        |endpoint: &config::Endpoint| matches!(endpoint.address, EndpointAddress::Dns { .. } | EndpointAddress::Srv(_));
    if !spec.endpoints.iter().any(is_name) {
        return true;
    }
    let found = spec.endpoints.iter().flat_map(|endpoint| {
        let spelled: Name = endpoint.address.to_string().into();
        addresses(endpoint, &spelled, &inputs.resolved)
    });
    found.eq(version.endpoints.iter().map(|one| (one.name.clone(), one.address.clone(), one.weight)))
}

fn upstream_tls<'a>(file: &config::Service, spec: &config::Version, inputs: &'a Inputs) -> Option<&'a UpstreamTls> {
    let wanted = spec.tls.as_ref().or(file.tls.as_ref())?;
    inputs.upstream_tls.iter().find(|(known, _)| known == wanted).map(|(_, loaded)| loaded)
}

impl ServiceCompiler {
    /// A compiler that resolves counters in `recorder`.
    pub(super) fn new(recorder: Arc<Recorder>) -> Self {
        Self { endpoints: EndpointRegistry::default(), recorder }
    }

    /// Endpoints whose health changed.
    pub(super) fn health_changes(&self) -> &Arc<HealthChanges> {
        self.endpoints.changes()
    }

    /// Compiles a service; `before` is the one in effect.
    pub(super) fn compile(
        &mut self,
        (name, file): (&Name, &config::Service),
        inputs: &Inputs,
        before: Option<&Service>,
        schedules: &mut Schedules,
    ) -> Service {
        let split = inputs.split(name, None, &file.split);
        let first_new = self.endpoints.next_id();
        let versions: Vec<(Version, VersionShare)> = file
            .versions
            .iter()
            .map(|(version, spec)| self.version((name, file), (version, spec), split.weight(version), inputs))
            .collect();
        let (mut versions, shares): (Vec<Version>, Vec<VersionShare>) = versions.into_iter().unzip();
        if file.retry.rescue {
            name_rescuers(&mut versions);
        }
        versions.iter().for_each(|version| begin_slow_starts(version, first_new));
        let chooser = Chooser::compile(
            &shares,
            cohorts::compile((name, file), inputs),
            clients::options(name, file, inputs),
            before.map(|before| &before.chooser),
            schedules,
        );
        Service {
            name: name.clone(),
            flag: file.flag.as_ref().and_then(|flag| self.flag_switch(name, flag, &versions)),
            chooser,
            cohorts: cohorts::counted((name, file), inputs, &self.recorder),
            mirror: mirror::compile((name, file), &versions, &mut self.endpoints, &self.recorder),
            speaks_http1: !versions.iter().flat_map(|version| &version.endpoints).any(|one| one.upstream.http2),
            versions,
            timeouts: Timeouts {
                connect: file.timeouts.connect.get(),
                first_byte: file.timeouts.first_byte.get(),
                idle: file.timeouts.idle.get(),
                request: file.timeouts.request.map(config::Period::get),
                pool_idle: file.pool.idle_timeout.get(),
            },
            drain: DrainTimes { requests: file.drain.requests.get(), streams: file.drain.streams.get() },
            affinity_cookie: clients::cookie(file),
            hashes_addresses: file.balance == Balance::Hash && file.affinity.is_none(),
            tells_clients: file.version_headers.response,
            host: match &file.host {
                HostHeader::Preserve => None,
                HostHeader::Fixed(host) => Some(host.as_str().into()),
            },
            upgrades: file.upgrades.iter().map(|token| token.to_ascii_lowercase().into()).collect(),
            body_bytes: file.max_body.map(config::Bytes::get),
            panic_threshold: health::percent(file.panic_threshold),
            changing: Mutex::default(),
        }
    }

    /// What makes a service a flag. Its name was checked to be part of a header's.
    fn flag_switch(&self, service: &Name, flag: &FlagSettings, versions: &[Version]) -> Option<FlagSwitch> {
        let header = HeaderName::from_bytes(format!("{FLAG_HEADER}{}", flag.name).as_bytes()).ok()?;
        let [off, on] = versions else { return None };
        let series = [off, on].map(|version| self.recorder.route(service, &version.name, service));
        Some(FlagSwitch { header, series })
    }

    /// The limit of what of a version, if there is one.
    fn limit(
        &mut self,
        (service, version): (&Name, &Name),
        limited: Limited,
        file: Option<&Concurrency>,
    ) -> Option<Limit> {
        let file = file?;
        let most = match limited {
            Limited::Requests => file.requests,
            Limited::Connections => file.connections,
        }?;
        let places = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let capacity = Capacity { most: places(most), queue: places(file.queue), timeout: file.queue_timeout.get() };
        Some(Limit { capacity, limiter: self.endpoints.limiter(service, version, limited) })
    }

    fn version(
        &mut self,
        (service, file): (&Name, &config::Service),
        (name, spec): (&Name, &config::Version),
        configured: Weight,
        inputs: &Inputs,
    ) -> (Version, VersionShare) {
        let state = desired(&inputs.states, (service, name), None, spec.state);
        let concurrency = spec.concurrency.as_ref().or(file.concurrency.as_ref());
        let upstream = Arc::new(Upstream {
            http2: spec.protocol.unwrap_or(file.protocol) == Protocol::H2,
            tls: upstream_tls(file, spec, inputs).cloned(),
            max_idle: usize::from(file.pool.max_idle),
            connections: self.limit((service, name), Limited::Connections, concurrency),
        });
        // Limits of checks become edges, so that "slower than the limit" is counted exactly. A version that
        // is counted already keeps the edges it has until it is gone, for a histogram whose edges move cannot
        // be subtracted from itself; who judges by a limit that is no edge (`Edges::has`) must say so.
        let series = self.recorder.version_with(service, name, &file.duration_limits());
        let of_version = self.endpoints.version(service, name);
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        let mut available = file.flag.is_some() && state == EndpointState::Ready;
        for endpoint in &spec.endpoints {
            let spelled: Name = endpoint.address.to_string().into();
            let own = desired(&inputs.states, (service, name), Some(&spelled), endpoint.state).stricter(state);
            for (label, address, weight) in addresses(endpoint, &spelled, &inputs.resolved) {
                let live = self.endpoints.endpoint(&of_version, &address, own);
                live.count_in(&series);
                available |= own == EndpointState::Ready;
                endpoints.push(Endpoint {
                    name: label,
                    spelled: spelled.clone(),
                    address,
                    weight,
                    declared: endpoint.state,
                    upstream: Arc::clone(&upstream),
                    live,
                    tls_hash: OnceLock::new(),
                });
            }
        }
        let check = spec.health.as_ref().or(file.health.as_ref());
        let check = check.map(|check| Arc::new(health::check(check, &file.host)));
        endpoints.iter().for_each(|endpoint| endpoint.live.starts(check.as_deref()));
        of_version.set(&health::outliers(&file.outlier_detection), endpoints.iter().map(|endpoint| &endpoint.live));
        let algorithm = algorithm(file.balance);
        let breaker = by_version(&inputs.breakers, service, name).cloned();
        if let Some(breaker) = &breaker {
            breaker.set_endpoints(endpoints.iter().map(|endpoint| (&endpoint.name, &endpoint.live)));
        }
        let share = VersionShare {
            name: name.clone(),
            weight: configured,
            available,
            breaker: breaker
                .as_ref()
                .map(|breaker| BreakerFlag { tripped: Arc::clone(&breaker.tripped), stable: breaker.stable.clone() }),
        };
        let version = Version {
            name: name.clone(),
            declared: spec.state,
            told: file.version_headers.request.then(|| format!("{VERSION_HEADER}: {name}\r\n").into()),
            state: StateCell::new(state),
            configured,
            balancer: Balancer::new(endpoints.iter().map(|endpoint| (&*endpoint.name, endpoint.weight)), algorithm),
            endpoints,
            slow_start: file.slow_start.map(config::Period::get),
            min_ready: usize::from(spec.min_ready),
            series,
            retry: retry_policy(file),
            rescuer: None,
            retries: self.endpoints.retries(service, name),
            limit: self.limit((service, name), Limited::Requests, concurrency),
            breaker,
            faults: by_version(&inputs.faults, service, name).cloned(),
            check,
            health: of_version,
            panic: AtomicU8::default(),
        };
        (version, share)
    }
}

/// Lets stable rescue what fails on the canary of its rollout, if both are spoken to alike.
fn name_rescuers(versions: &mut [Version]) {
    let rescuer = |version: &Version| {
        let stable = &version.breaker.as_ref()?.stable;
        let is_stable = |other: &Version| other.name == *stable && other.name != version.name;
        versions.iter().position(|other| is_stable(other) && other.speaks_http2() == version.speaks_http2())
    };
    let rescuers: Vec<Option<usize>> = versions.iter().map(rescuer).collect();
    for (version, rescuer) in versions.iter_mut().zip(rescuers) {
        version.rescuer = rescuer;
    }
}

const fn algorithm(balance: Balance) -> Algorithm {
    match balance {
        // Clients without a key are balanced by what is in flight.
        Balance::LeastRequests | Balance::Hash => Algorithm::LeastRequests,
        Balance::RoundRobin => Algorithm::RoundRobin,
    }
}

fn retry_policy(file: &config::Service) -> RetryPolicy {
    let retry = &file.retry;
    let on = |condition| retry.on.contains(&condition);
    RetryPolicy {
        attempts: u8::try_from(retry.attempts).unwrap_or(u8::MAX),
        on: RetryConditions {
            connect: on(RetryOn::Connect),
            reset: on(RetryOn::Reset),
            timeout: on(RetryOn::Timeout),
            bad_gateway: on(RetryOn::BadGateway),
            unavailable: on(RetryOn::Unavailable),
            gateway_timeout: on(RetryOn::GatewayTimeout),
        },
        per_try: retry.per_try_timeout.map(config::Period::get),
        budget: retry.budget,
        min_retries: retry.min_retries,
        backoff: retry.backoff.get(),
        max_body: retry.max_body.get(),
    }
}

/// Endpoints that are new in a version that has others start slowly. Where all are new there is nobody to take the rest.
fn begin_slow_starts(version: &Version, first_new: u64) {
    let is_new = |endpoint: &&Endpoint| endpoint.live.id >= first_new;
    let serves = |endpoint: &Endpoint| endpoint.live.id < first_new && endpoint.live.is_available();
    if version.endpoints.iter().any(serves) {
        version.endpoints.iter().filter(is_new).for_each(|endpoint| endpoint.live.newcomer.begin());
    }
}

/// The addresses of an endpoint with the label and weight of each. The label is its spelling, or for a DNS name with
/// several addresses each address.
fn addresses(
    endpoint: &config::Endpoint,
    spelled: &Name,
    resolved: &HashMap<String, Vec<ResolvedAddress>>,
) -> Vec<(Name, Address, u32)> {
    let weight = u32::from(endpoint.weight);
    let of = |one: &ResolvedAddress| (Address::Inet(one.address), weight * u32::from(one.weight));
    match &endpoint.address {
        EndpointAddress::Inet(address) => vec![(spelled.clone(), Address::Inet(*address), weight)],
        EndpointAddress::Unix(path) => vec![(spelled.clone(), Address::Unix(path.clone()), weight)],
        EndpointAddress::Dns { .. } | EndpointAddress::Srv(_) => {
            let all = resolved.get(&**spelled).map(Vec::as_slice).unwrap_or_default();
            let label =
                |one: &ResolvedAddress| if all.len() == 1 { spelled.clone() } else { one.address.to_string().into() };
            all.iter().map(|one| (label(one), of(one).0, of(one).1)).collect()
        }
    }
}
