//! A service: its versions, the base split between them, and how requests are sent to them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::affinity::{Affinity, AffinityKey, Override};
use super::cohort::{Cohort, MAX_COHORTS, check_cohorts, check_rollout_of_cohort, read_cohorts};
use super::concurrency::Concurrency;
use super::health::{OutlierDetection, PERCENT};
use super::health_check::HealthCheck;
use super::limits;
use super::mirror::{Mirror, check_mirror};
use super::retry::Retry;
use super::rollout::{default_plan, duration_limits};
use super::split::{check_release, check_rollout, check_stable, make_split, read_weights};
use super::upstream::{Balance, Drain, HostHeader, Pool, Protocol, Timeouts, UpstreamTls};
use super::version::{MAX_VERSIONS, Version};
use super::version_headers::VersionHeaders;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read as _, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{self, Bytes, Period};
use crate::model::{Name, Split, Weight};
use crate::rollout::plan::Plan;

section! {
    /// What a client thinks it talks to.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Service {
        /// The releases of the service, 1 to 64, in the order of the file.
        pub(crate) versions: Map<Version> = required_with(read_versions),
        /// The base: each version's percentage, 100 in all. A version that is not named gets nothing. It may be
        /// left out when there is exactly one version.
        pub(crate) split: Split as Map<Weight> = with(read_weights),
        /// The version that should serve; instead of `split`. A change of it starts a rollout of that version, which
        /// shifts the traffic from the stable version to it. A service's only version just serves.
        pub(crate) release: Option<Name> as Option<values::Name> = optional(),
        /// The version that serves where no state is known: a new replica, an empty volume, a lost directory. `release` is
        /// then rolled out from the first step, unless it is the same. With a known state, the state decides. Name it as
        /// soon as there are several versions: without it, a Weir that knows no state does not start.
        pub(crate) stable: Option<Name> as Option<values::Name> = optional(),
        /// How a version is rolled out. With `release` the default is `{}`, which is careful; without, no rollout.
        pub(crate) rollout: Option<Plan> = optional(),
        /// How long each stage of a request may take.
        pub(crate) timeouts: Timeouts = section(),
        /// What is tried again when an attempt on an endpoint fails.
        pub(crate) retry: Retry = section(),
        /// How long work in flight may take to finish once its endpoint or version goes away.
        pub(crate) drain: Drain = section(),
        /// Clients that are split by weights of their own, 32 at most; a request is of the first that it fits. A shift and a
        /// rollout move the service's own split and leave these as they are, unless they are of a cohort themselves.
        pub(crate) cohorts: Vec<Cohort> = list(0..=MAX_COHORTS, read_cohorts),
        /// Keeps one client on one version; default: every request is split by itself.
        pub(crate) affinity: Option<Affinity> = optional(),
        /// Lets a request name its version; default: it cannot.
        pub(crate) overrides as "override": Option<Override> = optional(),
        /// Copies requests for another version, whose responses nobody gets; default: none is copied.
        pub(crate) mirror: Option<Mirror> = optional(),
        /// Who is told which version a request got.
        pub(crate) version_headers: VersionHeaders = section(),
        /// Which endpoint of the chosen version gets the request.
        pub(crate) balance: Balance = or(Balance::LeastRequests),
        /// Asks endpoints whether they are well; default: nothing is asked.
        pub(crate) health: Option<HealthCheck> = optional(),
        /// Takes endpoints out for what happens to requests.
        pub(crate) outlier_detection: OutlierDetection = section(),
        /// Below this percentage of available endpoints, 0 to 100, a version's requests go to all of its endpoints that
        /// are ready, whatever their health: few would not bear what all did. 0: never.
        pub(crate) panic_threshold: u32 = bounded(25, PERCENT),
        /// Whether the share of a version without an available endpoint goes to the others at once, as their weights are
        /// to one another. With `false` its own endpoints are tried all the same, and where none is ready the answer is 503.
        pub(crate) failover: bool = or(true),
        /// How long an endpoint takes to get its whole share that comes to a version that serves, or is ready again:
        /// `1s` to `1h`. It begins with a tenth; default: the whole share at once. Clients that keep their endpoint have no part in it.
        pub(crate) slow_start: Option<Period> = within(SLOW_START),
        /// The protocol that the endpoints speak.
        pub(crate) protocol: Protocol = or(Protocol::Http1),
        /// TLS to the endpoints; default: plain text.
        pub(crate) tls: Option<UpstreamTls> = optional(),
        /// The `Host` that endpoints see: `preserve` keeps the client's, anything else is sent as it stands.
        pub(crate) host: HostHeader = or(HostHeader::Preserve),
        /// How much of each version is in use at once; default: any number.
        pub(crate) concurrency: Option<Concurrency> = optional(),
        /// Connections kept open to each endpoint.
        pub(crate) pool: Pool = section(),
        /// The protocols a client may upgrade to, 16 at most.
        pub(crate) upgrades: Vec<String> = list_or(default_upgrades(), default_upgrades(), 0..=MAX_UPGRADES, read_upgrades),
        /// Size of a request's body; default: the file's `limits.body_bytes`.
        pub(crate) max_body: Option<Bytes> = within(limits::BODY),
    }
    and pub(crate) flag: FlagOf
    rules(fields) {
        let release = check_release(&mut fields, release);
        let split = make_split(&mut fields, versions.as_ref(), release.as_ref(), split);
        let cohort = rollout.as_ref().and_then(|plan: &Option<Plan>| plan.as_ref()?.cohort.as_ref());
        match cohort {
            None => check_rollout(&mut fields, split.as_ref()),
            Some(cohort) => check_rollout_of_cohort(&mut fields, cohort, cohorts.as_ref()),
        }
        check_cohorts(&mut fields, cohorts.as_ref(), versions.as_ref());
        check_mirror(&mut fields, mirror.as_ref());
        check_stable(&mut fields, stable.as_ref(), versions.as_ref(), split.as_ref());
        check_grpc(&mut fields, health.as_ref().and_then(Option::as_ref), versions.as_ref(), protocol);
        let released = matches!(release, Some(Some(_)));
        let rollout = rollout.map(|plan| plan.or_else(|| released.then(default_plan)));
    }
}

/// Caches and compilers of an endpoint are warm after some minutes at the latest.
const SLOW_START: RangeInclusive<Period> = Period::SECOND..=Period::HOUR;

/// What a service is of a flag's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlagSettings {
    /// The flag's name.
    pub(crate) name: Name,
    /// The services whose requests carry it.
    pub(crate) services: Vec<Name>,
}

/// The flag that a service is, if it is one.
pub(crate) type FlagOf = Option<FlagSettings>;

impl Service {
    /// The files with keys that sign what its clients say, each with its field.
    pub(crate) fn signing_key_files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let of_cookie = match self.affinity.as_ref().map(|affinity| &affinity.key) {
            Some(AffinityKey::Cookie { made: Some(made), .. }) => made.secret_file.as_ref(),
            _ => None,
        };
        let of_override = self.overrides.as_ref().and_then(|overrides| overrides.secret_file.as_ref());
        let cookie = of_cookie.map(|file| ("affinity.secret_file", file));
        cookie.into_iter().chain(of_override.map(|file| ("override.secret_file", file)))
    }

    /// The split that the file states for a cohort, or for the service itself where none is named. None: there is no such
    /// cohort.
    #[must_use]
    pub(crate) fn split_of(&self, cohort: Option<&Name>) -> Option<&Split> {
        let Some(name) = cohort else { return Some(&self.split) };
        self.cohorts.iter().find(|cohort| cohort.name == *name).map(|cohort| &cohort.split)
    }

    /// Which split is rolled out: that of a cohort, or inside none the service's own. None: there is no rollout.
    #[must_use]
    pub(crate) fn rollout_cohort(&self) -> Option<Option<&Name>> {
        self.rollout.as_ref().map(|plan| plan.cohort.as_ref())
    }

    /// The durations that the rollout's checks compare with, each once, rising; at most 13. Each must be an edge of
    /// the histograms of all versions, or "how many were slower" has no exact answer.
    #[must_use]
    pub(crate) fn duration_limits(&self) -> Vec<Duration> {
        self.rollout.as_ref().map_or_else(Vec::new, duration_limits)
    }
}

fn read_versions<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Map<Version>> {
    reader.map(node, MAX_VERSIONS, |reader, node| Version::read(node, reader))
}

/// Notes a gRPC check of endpoints that speak HTTP/1.1.
fn check_grpc(
    fields: &mut Fields<'_, '_>,
    of_service: Option<&HealthCheck>,
    versions: Option<&Map<Version>>,
    protocol: Option<Protocol>,
) {
    let (Some(versions), Some(protocol)) = (versions, protocol) else { return };
    let speaks_http1 = |version: &Version| {
        let check = version.health.as_ref().or(of_service);
        check.is_some_and(|check| check.grpc.is_some()) && version.protocol.unwrap_or(protocol) != Protocol::H2
    };
    if let Some((name, _)) = versions.iter().find(|(_, version)| speaks_http1(version)) {
        let at = if fields.get("health").is_some() { "health" } else { "versions" };
        fields.fault_at(at, |place| {
            Problem::new(place, format!("version `{name}` is checked by gRPC and speaks HTTP/1.1"))
                .help("gRPC needs HTTP/2: add `protocol: h2`, or check by `http` or `tcp`")
        });
    }
}

/// WebSocket is what browsers ask for; anything else is worth a decision.
fn default_upgrades() -> Vec<String> {
    vec!["websocket".to_owned()]
}

/// How many protocols a client may upgrade to.
const MAX_UPGRADES: usize = 16;

fn read_upgrades<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<String>> {
    let items = reader.items(node, "a list", |reader, node| {
        const EXPECTED: &str = "the name of a protocol, such as `websocket`";
        let text = reader.text(node, EXPECTED)?;
        if scalar::is_token(text) { Some(text.to_ascii_lowercase()) } else { reader.wrong(node, EXPECTED, None) }
    })?;
    reader.count(items.total, &bounds, node.place)?;
    items.all()
}
