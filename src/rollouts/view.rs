//! What rollouts see of the rest: the file, states over it, resolved names, the health of endpoints, the recorder, the disk
//! and the clocks.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::adopt::{UnclearStart, whole};
use crate::algorithm::fnv::Fnv1a;
use crate::config::{self, Config, EndpointAddress};
use crate::model::{Address, EndpointState, Name, ResolvedAddress, SplitKey};
use crate::snapshot::compile::States;
use crate::snapshot::{Endpoint, Snapshot};
use crate::store::JournalWriter;
use crate::telemetry::Recorder;

/// The moment in which something is decided.
pub(crate) struct View<'a> {
    /// The file as it is, or as it would be.
    pub(crate) config: &'a Config,
    /// States that operators put over it.
    pub(crate) states: &'a States,
    /// The addresses behind DNS names, by the endpoint as the file spells it.
    pub(crate) resolved: &'a HashMap<String, Vec<ResolvedAddress>>,
    /// What is in effect, which knows the health of endpoints; none where nothing is yet.
    pub(crate) in_effect: Option<&'a Snapshot>,
    /// What was counted.
    pub(crate) recorder: &'a Recorder,
    /// Where decisions are kept.
    pub(crate) store: &'a JournalWriter,
    /// Since a fixed moment of this process's monotonic clock.
    pub(crate) now: Duration,
    /// Since the Unix epoch, for people; nothing is decided by it.
    pub(crate) at_ms: u64,
}

/// Where an endpoint is that can take traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadyAddress {
    /// An address, maybe one of those behind a name.
    Inet(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

impl ReadyAddress {
    fn is(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Inet(one), Address::Inet(other)) => one == other,
            (Self::Unix(one), Address::Unix(other)) => one == other,
            (Self::Inet(_), Address::Unix(_)) | (Self::Unix(_), Address::Inet(_)) => false,
        }
    }
}

impl fmt::Display for ReadyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why nothing tells which version of a service is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StableUnknown {
    /// The stable version of its state is no longer in the file.
    #[error("the state knows {0}, which is no longer in the file")]
    Gone(Name),
    /// Nothing is stored of it.
    #[error("no state is known of this service")]
    NoState,
    /// It was served by weights, and goes on from none of them.
    #[error(transparent)]
    Unclear(#[from] UnclearStart),
}

/// What the file says of the stable version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Named {
    /// There is no other: nothing has to be said.
    #[default]
    Only,
    /// This one.
    Version(Name),
    /// Nothing, of several versions.
    Nothing,
}

impl View<'_> {
    /// How many endpoints of a version can take traffic now: they are wanted, and nothing stands against their health.
    pub(super) fn available(&self, service: &Name, version: &Name) -> u32 {
        // Nothing is sent to a flag's values: they are always there.
        if self.config.services.get(service).is_some_and(|file| file.flag.is_some()) {
            return u32::MAX;
        }
        let in_effect = self.in_effect.and_then(|snapshot| snapshot.service(service));
        let version_in_effect =
            in_effect.and_then(|service| service.versions.iter().find(|known| known.name == *version));
        let known = version_in_effect.map_or(&[][..], |version| &version.endpoints);
        let is_out = |address: &ReadyAddress| {
            known.iter().any(|endpoint| address.is(&endpoint.address) && endpoint.live.is_out())
        };
        let available = self.ready(service, version).iter().filter(|address| !is_out(address)).count();
        u32::try_from(available).unwrap_or(u32::MAX)
    }

    /// Why not all endpoints of a version that is checked passed, if so: the first that did not, and how many more.
    pub(super) fn unwell(&self, service: &Name, version: &Name) -> Option<String> {
        let in_effect = self.in_effect.and_then(|snapshot| snapshot.service(service))?;
        let version = in_effect.versions.iter().find(|known| known.name == *version && known.check.is_some())?;
        let ready: Vec<&Endpoint> = version.endpoints.iter().filter(|endpoint| endpoint.live.is_ready()).collect();
        let unwell = |endpoint: &&Endpoint| Some(format!("{} {}", endpoint.name, endpoint.live.health.unwell()?));
        let found: Vec<String> = ready.iter().filter_map(unwell).collect();
        let first = found.first()?;
        let more = match found.len() {
            1 => String::new(),
            count => format!("; {count} of {} are not healthy", ready.len()),
        };
        Some(format!("{first}{more}"))
    }

    /// The endpoints of a version that are wanted now, whatever their health.
    pub(super) fn ready(&self, service: &Name, version: &Name) -> Vec<ReadyAddress> {
        let spec = self.config.services.get(service).and_then(|file| file.versions.get(version));
        let Some(spec) = spec else { return Vec::new() };
        let over = |endpoint: Option<Name>| self.states.get(&(service.clone(), version.clone(), endpoint)).copied();
        if over(None).unwrap_or(spec.state) != EndpointState::Ready {
            return Vec::new();
        }
        let mut ready = Vec::with_capacity(spec.endpoints.len());
        for endpoint in &spec.endpoints {
            if over(Some(endpoint.address.to_string().into())).unwrap_or(endpoint.state) != EndpointState::Ready {
                continue;
            }
            match &endpoint.address {
                EndpointAddress::Inet(address) => ready.push(ReadyAddress::Inet(*address)),
                EndpointAddress::Unix(path) => ready.push(ReadyAddress::Unix(path.clone())),
                name @ (EndpointAddress::Dns { .. } | EndpointAddress::Srv(_)) => {
                    let addresses = self.resolved.get(&name.to_string()).into_iter().flatten();
                    ready.extend(addresses.map(|resolved| ReadyAddress::Inet(resolved.address)));
                }
            }
        }
        ready
    }
}

/// The version that the file wants to serve: its release, or what has everything by the split that the rollout moves.
pub(super) fn wanted(file: &config::Service) -> Option<Name> {
    let cohort = file.rollout_cohort().flatten();
    file.release.clone().or_else(|| whole(file.split_of(cohort)?))
}

/// The split that a service's rollout moves by this file.
pub(super) fn split_key(service: &Name, config: &Config) -> SplitKey {
    let cohort = config.services.get(service).and_then(|file| file.rollout_cohort().flatten()).cloned();
    SplitKey { service: service.clone(), cohort }
}

/// What makes a version another one to roll out: its endpoints, and how they are spoken to.
pub(super) fn describe(version: &config::Version) -> String {
    let mut endpoints: Vec<String> = version.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    endpoints.sort();
    fingerprint(&format!("{} {:?} {:?}", endpoints.join(" "), version.protocol, version.tls))
}

/// Whether a version was only scaled: it got endpoints, or some went away. Where others came in the place of some, or where
/// they are spoken to otherwise, it is not what it was.
pub(super) fn is_scaled(before: &config::Version, now: &config::Version) -> bool {
    let within = |some: &config::Version, all: &config::Version| {
        some.endpoints.iter().all(|one| all.endpoints.iter().any(|other| other.address == one.address))
    };
    before.protocol == now.protocol && before.tls == now.tls && (within(before, now) || within(now, before))
}

/// A short text that is the same for the same text, also in another process. Not against forgery.
pub(super) fn fingerprint(text: &str) -> String {
    let mut hash = Fnv1a::default();
    hash.write(text.as_bytes());
    format!("{:016x}", hash.finish())
}
