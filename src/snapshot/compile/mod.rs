//! Configuration, shifts, states and what was read from files → one [`Snapshot`].
//!
//! All that can be decided before a request comes is decided here: names become indices, labels become
//! counters, weights become a schedule, states become lists of endpoints. Compiling never fails half-way: it
//! gives a snapshot, or the reasons why there is none.
//!
//! Invariant: compiling the same input twice gives the same decisions, and what outlives a snapshot (work in
//! flight, counters, split positions) is found again by identity, so a reload disturbs nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use super::live::{CircuitBreaker, FaultInjection, Registry};
use super::{
    AffinityCookie, ClientLimits, DrainTimes, Endpoint, ListenerTls, Route, Service, Snapshot, Timeouts, Upstream,
    UpstreamTls, Version,
};
use crate::config::{self, AffinityKey, Balance, Config, EndpointAddress, HostHeader, OverrideFrom, Protocol};
use crate::coop::in_pieces;
use crate::model::{Address, EndpointState, Name, Split, Weight};
use crate::telemetry::Recorder;
use crate::traffic::balance::{Algorithm, Balancer};
use crate::traffic::route::{HeaderMatch, HeaderTest, HostPattern, PathPattern, Rule, Table};
use crate::traffic::split::{self, Chooser, KeySource, Schedules};
use crate::traffic::validate::Limits;
use crate::traffic::validate::spelling::{Backslash, EncodedSlash, NonAscii, Paths, Underscore};

/// What is compiled besides the file itself.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Splits over the file's, by service.
    pub shifts: BTreeMap<Name, Split>,
    /// States over the file's.
    pub states: States,
    /// Certificates and keys, by listener.
    pub certificates: HashMap<Name, ListenerTls>,
    /// TLS towards endpoints, by what the file says of it.
    pub upstream_tls: Vec<(config::UpstreamTls, UpstreamTls)>,
    /// The addresses behind DNS names, by `name:port`.
    pub resolved: HashMap<String, Vec<SocketAddr>>,
    /// Circuit breakers of canaries, by service and version.
    pub breakers: BTreeMap<(Name, Name), Arc<CircuitBreaker>>,
    /// Faults that are injected, by service and version.
    pub faults: BTreeMap<(Name, Name), Arc<FaultInjection>>,
}

/// States that operators put over the file's: by service, version and, for one endpoint, its name.
pub type States = BTreeMap<(Name, Name, Option<Name>), EndpointState>;

/// Compiles snapshots, one after the other.
pub struct Compiler {
    registry: Registry,
    recorder: Arc<Recorder>,
    revision: u64,
}

impl Compiler {
    /// A compiler that resolves counters in `recorder`.
    #[must_use]
    pub fn new(recorder: Arc<Recorder>) -> Self {
        Self { registry: Registry::default(), recorder, revision: 0 }
    }

    /// Compiles the next snapshot. `previous` is the one in effect.
    ///
    /// # Errors
    /// Why routes cannot be compiled, one line each.
    pub fn compile(
        &mut self,
        config: &Config,
        inputs: &Inputs,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Vec<String>> {
        let before: HashMap<&str, &Arc<Service>> =
            previous.iter().flat_map(|snapshot| &snapshot.services).map(|service| (&*service.name, service)).collect();
        // Of this compile only: splits that are kept hold theirs, and deficits make nearly each one another.
        let mut schedules = Schedules::default();
        let services: Vec<Arc<Service>> = config
            .services
            .iter()
            .map(|(name, file)| {
                Arc::new(self.service((name, file), inputs, before.get(&**name).copied(), &mut schedules))
            })
            .collect();
        let table = self.routes(config, &services)?;
        self.registry.forget_gone();
        self.revision += 1;
        let own = config.listeners.iter().filter(|listener| has_own_limits(listener));
        Ok(Snapshot {
            revision: self.revision,
            hash: config.hash(),
            limits: limits(config, config.paths, config.headers),
            listener_limits: own.map(|listener| (listener.name.clone(), limits_of(config, listener))).collect(),
            client: client_limits(&config.limits),
            trusted_proxies: config.trusted_proxies.iter().map(|cidr| cidr.get()).collect(),
            certificates: inputs.certificates.clone(),
            table,
            services,
        })
    }

    fn service(
        &mut self,
        (name, file): (&Name, &config::Service),
        inputs: &Inputs,
        before: Option<&Arc<Service>>,
        schedules: &mut Schedules,
    ) -> Service {
        let split = inputs.shifts.get(name).unwrap_or(&file.split);
        let mut versions: Vec<Version> = file
            .versions
            .iter()
            .map(|(version, spec)| self.version(name, file, (version, spec), split.weight(version), inputs))
            .collect();
        let weights: Vec<split::Share> = versions
            .iter()
            .map(|version| split::Share {
                name: version.name.clone(),
                weight: version.configured,
                available: version.is_available(),
                breaker: version.breaker.as_ref().map(|breaker| split::Breaker {
                    tripped: Arc::clone(&breaker.tripped),
                    stable: breaker.stable.clone(),
                }),
            })
            .collect();
        let options = chooser_options(name, file);
        let chooser = Chooser::compile(&weights, options, before.map(|service| &service.chooser), schedules);
        for (version, effective) in versions.iter_mut().zip(chooser.effective()) {
            version.effective = effective;
        }
        let affinity_cookie = match file.affinity.as_ref().map(|affinity| &affinity.key) {
            Some(AffinityKey::Cookie { name, ttl: Some(ttl) }) => {
                Some(AffinityCookie { name: name.as_str().into(), max_age: ttl.get() })
            }
            _ => None,
        };
        let http2 = |version: &Version| version.endpoints.iter().any(|endpoint| endpoint.upstream.http2);
        Service {
            name: name.clone(),
            chooser,
            speaks_http1: !versions.iter().any(http2),
            versions,
            timeouts: Timeouts {
                connect: file.timeouts.connect.get(),
                first_byte: file.timeouts.first_byte.get(),
                idle: file.timeouts.idle.get(),
                pool_idle: file.pool.idle_timeout.get(),
            },
            drain: DrainTimes { requests: file.drain.requests.get(), streams: file.drain.streams.get() },
            affinity_cookie,
            host: match &file.host {
                HostHeader::Preserve => None,
                HostHeader::Fixed(host) => Some(host.as_str().into()),
            },
            upgrades: file.upgrades.iter().map(|token| token.to_ascii_lowercase().into()).collect(),
            body_bytes: file.max_body.map(config::Bytes::get),
        }
    }

    fn version(
        &mut self,
        service: &Name,
        file: &config::Service,
        (name, spec): (&Name, &config::Version),
        configured: Weight,
        inputs: &Inputs,
    ) -> Version {
        let over =
            |endpoint: Option<&Name>| inputs.states.get(&(service.clone(), name.clone(), endpoint.cloned())).copied();
        let state = over(None).unwrap_or(spec.state);
        let protocol = spec.protocol.unwrap_or(file.protocol);
        let tls = spec.tls.as_ref().or(file.tls.as_ref());
        let upstream = Arc::new(Upstream {
            http2: protocol == Protocol::H2,
            tls: tls.and_then(|wanted| {
                inputs.upstream_tls.iter().find(|(known, _)| known == wanted).map(|(_, loaded)| loaded.clone())
            }),
            max_idle: usize::from(file.pool.max_idle),
        });
        // Limits of checks become edges, so that "slower than the limit" is counted exactly. A version that
        // is counted already keeps the edges it has until it is gone, for a histogram whose edges move cannot
        // be subtracted from itself; who judges by a limit that is no edge (`Edges::has`) must say so.
        let series = self.recorder.version_with(service, name, &file.duration_limits());
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        for endpoint in &spec.endpoints {
            let spelled: Name = endpoint.address.to_string().into();
            let wanted = over(Some(&spelled)).unwrap_or(endpoint.state);
            for (label, address) in addresses(&endpoint.address, &spelled, &inputs.resolved) {
                let live = self.registry.endpoint(service, name, &address);
                live.count_in(&series);
                endpoints.push(Endpoint {
                    name: label,
                    spelled: spelled.clone(),
                    address,
                    state: stricter(state, wanted),
                    upstream: Arc::clone(&upstream),
                    live,
                    tls_hash: OnceLock::new(),
                });
            }
        }
        let ready = endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.state == EndpointState::Ready);
        let balancer = Balancer::new(
            ready.map(|(at, endpoint)| (at, &*endpoint.name)),
            match file.balance {
                Balance::LeastRequests => Algorithm::LeastRequests,
                Balance::RoundRobin => Algorithm::RoundRobin,
            },
        );
        let identity = (service.clone(), name.clone());
        Version {
            name: name.clone(),
            state,
            configured,
            effective: configured,
            balancer,
            endpoints,
            series,
            breaker: inputs.breakers.get(&identity).cloned(),
            faults: inputs.faults.get(&identity).cloned(),
        }
    }

    fn routes(&self, config: &Config, services: &[Arc<Service>]) -> Result<Table<Arc<Route>>, Vec<String>> {
        let by_name: HashMap<&str, (usize, &Arc<Service>)> =
            services.iter().enumerate().map(|(at, service)| (&*service.name, (at, service))).collect();
        let mut rules = Vec::with_capacity(config.routes.len());
        for route in in_pieces(&config.routes) {
            let Some(&(at, service)) = by_name.get(&*route.service) else { continue };
            let name = route.name.clone().unwrap_or_else(|| route_name(&route.matches));
            let series = service.versions.iter().map(|v| self.recorder.route(&service.name, &v.name, &name)).collect();
            let underscore = route.headers.underscore.map(underscore);
            let route_of = Route { name, service: at, series, probe: route.probe, underscore };
            rules.push(rule(&route.matches, Arc::new(route_of)));
        }
        Table::build_for(rules, every_spelling(config))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }
}

impl Version {
    /// Whether a request can go to one of its endpoints.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.state == EndpointState::Ready && self.endpoints.iter().any(|e| e.state == EndpointState::Ready)
    }
}

fn has_own_limits(listener: &config::Listener) -> bool {
    (listener.paths, listener.headers) != Default::default()
}

/// What request validation lets pass on `listener`.
fn limits_of(config: &Config, listener: &config::Listener) -> Limits {
    limits(config, listener.paths.over(config.paths), listener.headers.over(config.headers))
}

fn limits(config: &Config, paths: config::Paths, headers: config::Headers) -> Limits {
    let limits = &config.limits;
    let default = Paths::default();
    Limits {
        method_bytes: usize::from(limits.method_bytes),
        target_bytes: limits.uri_bytes.as_len(),
        fields: usize::from(limits.header_fields),
        header_bytes: limits.header_bytes.as_len(),
        body_bytes: limits.body_bytes.map(config::Bytes::get),
        paths: Paths {
            encoded_slash: paths.encoded_slash.map_or(default.encoded_slash, |choice| match choice {
                config::EncodedSlash::Refuse => EncodedSlash::Refuse,
                config::EncodedSlash::Keep => EncodedSlash::Keep,
                config::EncodedSlash::Decode => EncodedSlash::Decode,
            }),
            backslash: paths.backslash.map_or(default.backslash, |choice| match choice {
                config::Backslash::Refuse => Backslash::Refuse,
                config::Backslash::Keep => Backslash::Keep,
            }),
            merge_slashes: paths.merge_slashes.unwrap_or(default.merge_slashes),
            non_ascii: paths.non_ascii.map_or(default.non_ascii, |choice| match choice {
                config::NonAscii::Refuse => NonAscii::Refuse,
                config::NonAscii::Encode => NonAscii::Encode,
                config::NonAscii::Keep => NonAscii::Keep,
            }),
        },
        underscore: headers.underscore.map_or(Underscore::default(), underscore),
    }
}

fn underscore(choice: config::Underscore) -> Underscore {
    match choice {
        config::Underscore::Refuse => Underscore::Refuse,
        config::Underscore::Drop => Underscore::Drop,
        config::Underscore::Allow => Underscore::Allow,
    }
}

/// The spellings in which a path may come in by some listener, so that only routes that none can reach are refused.
fn every_spelling(config: &Config) -> Paths {
    let all: Vec<Paths> = config.listeners.iter().map(|listener| limits_of(config, listener).paths).collect();
    let any = |is: fn(&Paths) -> bool| all.iter().any(is);
    Paths {
        encoded_slash: if any(|paths| paths.encoded_slash == EncodedSlash::Keep) {
            EncodedSlash::Keep
        } else if any(|paths| paths.encoded_slash == EncodedSlash::Decode) {
            EncodedSlash::Decode
        } else {
            EncodedSlash::Refuse
        },
        backslash: if any(|paths| paths.backslash == Backslash::Keep) { Backslash::Keep } else { Backslash::Refuse },
        merge_slashes: !any(|paths| !paths.merge_slashes),
        // A route says it in triplets, and is matched so, whatever comes.
        non_ascii: NonAscii::Refuse,
    }
}

fn client_limits(limits: &config::Limits) -> ClientLimits {
    ClientLimits {
        head_timeout: limits.header_timeout.get(),
        handshake_timeout: limits.handshake_timeout.get(),
        keepalive: limits.keepalive.get(),
        write_timeout: limits.write_timeout.get(),
        unread_bytes: limits.unread_bytes.get(),
        h2_streams: limits.h2_streams,
        header_bytes: u32::try_from(limits.header_bytes.get()).unwrap_or(u32::MAX),
    }
}

fn chooser_options(name: &Name, file: &config::Service) -> split::Options {
    let salt = file.affinity.as_ref().and_then(|affinity| affinity.salt.clone());
    split::Options {
        salt: salt.unwrap_or_else(|| name.to_string()),
        affinity: file.affinity.as_ref().map(|affinity| match &affinity.key {
            AffinityKey::Header(name) => KeySource::Header(name.as_str().into()),
            AffinityKey::Cookie { name, ttl } => KeySource::Cookie { name: name.as_str().into(), make: ttl.is_some() },
            AffinityKey::Address => KeySource::Address,
        }),
        overrides: file.overrides.as_ref().map(|over| split::Override {
            header: over.header.as_ref().map(|name| name.as_str().into()),
            cookie: over.cookie.as_deref().map(Into::into),
            from: match &over.from {
                OverrideFrom::Anyone => None,
                OverrideFrom::Addresses(nets) => Some(nets.iter().map(|cidr| cidr.get()).collect()),
            },
        }),
    }
}

/// What an endpoint is when its version is `version` and itself `own`: the one that takes less.
fn stricter(version: EndpointState, own: EndpointState) -> EndpointState {
    match (version, own) {
        (EndpointState::Maint, _) | (_, EndpointState::Maint) => EndpointState::Maint,
        (EndpointState::Drain, _) | (_, EndpointState::Drain) => EndpointState::Drain,
        (EndpointState::Ready, EndpointState::Ready) => EndpointState::Ready,
    }
}

/// The addresses of an endpoint with the label of each: its spelling, or for a DNS name with several addresses
/// each address.
fn addresses(
    endpoint: &EndpointAddress,
    spelled: &Name,
    resolved: &HashMap<String, Vec<SocketAddr>>,
) -> Vec<(Name, Address)> {
    match endpoint {
        EndpointAddress::Inet(address) => vec![(spelled.clone(), Address::Inet(*address))],
        EndpointAddress::Unix(path) => vec![(spelled.clone(), Address::Unix(path.clone()))],
        EndpointAddress::Dns { .. } => match resolved.get(&**spelled).map(Vec::as_slice) {
            None | Some([]) => Vec::new(),
            Some([one]) => vec![(spelled.clone(), Address::Inet(*one))],
            Some(several) => several.iter().map(|a| (a.to_string().into(), Address::Inet(*a))).collect(),
        },
    }
}

/// What a route without a name is called: its first host and its path.
fn route_name(matches: &config::Match) -> Name {
    let host = match matches.hosts.first() {
        None => "*".to_owned(),
        Some(config::HostMatch::Exact(host)) => host.clone(),
        Some(config::HostMatch::Wildcard(suffix)) => format!("*.{suffix}"),
    };
    let path = match &matches.path {
        None => "/",
        Some(config::PathMatch::Prefix(path) | config::PathMatch::Exact(path) | config::PathMatch::Regex(path)) => path,
    };
    format!("{host}{path}").into()
}

fn rule(matches: &config::Match, target: Arc<Route>) -> Rule<Arc<Route>> {
    let hosts = if matches.hosts.is_empty() {
        vec![HostPattern::Any]
    } else {
        let pattern = |host: &config::HostMatch| match host {
            config::HostMatch::Exact(host) => HostPattern::Exact(host.clone()),
            config::HostMatch::Wildcard(suffix) => HostPattern::Wildcard(suffix.clone()),
        };
        matches.hosts.iter().map(pattern).collect()
    };
    let path = match &matches.path {
        None => PathPattern::Prefix("/".to_owned()),
        Some(config::PathMatch::Prefix(path)) => PathPattern::Prefix(path.clone()),
        Some(config::PathMatch::Exact(path)) => PathPattern::Exact(path.clone()),
        Some(config::PathMatch::Regex(pattern)) => PathPattern::Regex(pattern.clone()),
    };
    let header = |(name, test): &(http::HeaderName, config::HeaderMatch)| HeaderMatch {
        name: name.as_str().to_owned(),
        test: match test {
            config::HeaderMatch::Exact(value) => HeaderTest::Exact(value.clone()),
            config::HeaderMatch::Prefix(value) => HeaderTest::Prefix(value.clone()),
            config::HeaderMatch::Regex(value) => HeaderTest::Regex(value.clone()),
            config::HeaderMatch::Present(true) => HeaderTest::Present,
            config::HeaderMatch::Present(false) => HeaderTest::Absent,
        },
    };
    Rule {
        hosts,
        path,
        methods: matches.methods.clone(),
        headers: matches.headers.iter().map(header).collect(),
        target,
    }
}

#[cfg(test)]
mod tests;
