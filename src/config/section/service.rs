//! A service: its versions, the base split between them, and how requests are sent to them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::affinity::{self, Affinity, Override};
use super::rollout::{self, default_plan};
use super::split::{check_rollout, read_release, read_split};
use crate::config::stable::read_stable;
use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader, Step};
use crate::config::syntax::scalar;
use crate::config::syntax::values::{self, Bytes, EndpointAddress, Period};
use crate::config::syntax::yaml::{Node, Value};
use crate::model::{EndpointState, Name, Split};
use crate::rollout::plan::Plan;

/// What a client thinks it talks to.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Service {
    /// The releases of the service, 1 to 64, in the order of the file.
    pub versions: Map<Version>,
    /// The base: each version's percentage, 100 in all. A version that is not named gets nothing. It may be
    /// left out when there is exactly one version.
    #[schemars(with = "Option<Map<values::Weight>>")]
    pub split: Split,
    /// The version that should serve; instead of `split`. A change of it starts a rollout of that version, which
    /// shifts the traffic from the stable version to it. A service's only version just serves.
    #[schemars(with = "Option<values::Name>")]
    pub release: Option<Name>,
    /// The version that serves where no state is known: a new replica, an empty volume, a lost directory. `release` is
    /// then rolled out from the first step, unless it is the same. With a known state, the state decides. Name it as
    /// soon as there are several versions: without it, a Weir that knows no state does not start.
    #[schemars(with = "Option<values::Name>")]
    pub stable: Option<Name>,
    /// How a version is rolled out. With `release` the default is `{}`, which is careful; without, no rollout.
    #[schemars(with = "Option<super::rollout::Rollout>")]
    pub rollout: Option<Plan>,
    /// How long each stage of a request may take.
    #[schemars(default)]
    pub timeouts: Timeouts,
    /// How long work in flight may take to finish once its endpoint or version goes away.
    #[schemars(default)]
    pub drain: Drain,
    /// Keeps one client on one version; default: every request is split by itself.
    #[schemars(with = "Option<affinity::shape::Affinity>")]
    pub affinity: Option<Affinity>,
    /// Lets a request name its version; default: it cannot.
    #[schemars(with = "Option<affinity::shape::Override>", rename = "override")]
    pub overrides: Option<Override>,
    /// Which endpoint of the chosen version gets the request.
    #[schemars(default)]
    pub balance: Balance,
    /// The protocol that the endpoints speak.
    #[schemars(default)]
    pub protocol: Protocol,
    /// TLS to the endpoints; default: plain text.
    pub tls: Option<UpstreamTls>,
    /// The `Host` that endpoints see: `preserve` keeps the client's, anything else is sent as it stands.
    #[schemars(default, with = "String", extend("default" = "preserve", "examples" = ["preserve", "shop.internal"]))]
    pub host: HostHeader,
    /// Connections kept open to each endpoint.
    #[schemars(default)]
    pub pool: Pool,
    /// The protocols a client may upgrade to, 16 at most.
    #[schemars(default = "default_upgrades", length(max = 16))]
    pub upgrades: Vec<String>,
    /// Size of a request's body; default: the file's `limits.body_bytes`.
    pub max_body: Option<Bytes>,
}

impl Service {
    /// The durations that the rollout's checks compare with, each once, rising; at most 13. Each must be an edge of
    /// the histograms of all versions, or "how many were slower" has no exact answer.
    #[must_use]
    pub fn duration_limits(&self) -> Vec<Duration> {
        self.rollout.as_ref().map_or_else(Vec::new, rollout::duration_limits)
    }
}

/// WebSocket is what browsers ask for; anything else is worth a decision.
pub(crate) fn default_upgrades() -> Vec<String> {
    vec!["websocket".to_owned()]
}

/// One release of a service.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Version {
    /// The addresses that serve it, 1024 at most. None only with a weight of 0.
    #[schemars(with = "Vec<shape::Endpoint>", length(max = 1024))]
    pub endpoints: Vec<Endpoint>,
    /// What is wanted of all its endpoints.
    #[schemars(default)]
    pub state: EndpointState,
    /// Replaces the service's `protocol`.
    pub protocol: Option<Protocol>,
    /// Replaces the service's `tls`, whole.
    pub tls: Option<UpstreamTls>,
}

/// One address that serves a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// What is wanted of it.
    pub state: EndpointState,
}

/// How long each stage of a request may take.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Connecting to an endpoint, TLS handshake included: `10ms` to `5m`.
    pub connect: Period,
    /// From the request's last byte to the answer's first: `10ms` to `24h`.
    pub first_byte: Period,
    /// Between two bytes of the answer: `10ms` to `24h`. Upgraded connections and event streams have no
    /// such limit.
    pub idle: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // A second covers one lost SYN inside a region; longer only holds the client up before the retry.
            connect: Period::from_secs(1),
            // Where most clients and load balancers give up.
            first_byte: Period::from_secs(30),
            idle: Period::from_secs(60),
        }
    }
}

/// How long work in flight may take to finish once its endpoint or version goes away.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Drain {
    /// Requests: `0s` to `24h`.
    pub requests: Period,
    /// Upgraded and streaming connections: `0s` to `7d`.
    pub streams: Period,
}

impl Default for Drain {
    fn default() -> Self {
        // As long as a request may wait for its first byte; and a few minutes in which a stream's client can
        // be expected to reconnect by itself.
        Self { requests: Period::from_secs(30), streams: Period::from_secs(300) }
    }
}

/// Which endpoint of the chosen version gets a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The endpoint with fewer requests in flight of two picked at random.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
}

/// The protocol that endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge (h2c) in plain text, by ALPN under TLS. What gRPC needs.
    H2,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// The name that is sent as SNI and verified; default: the endpoint's host.
    pub sni: Option<String>,
    /// The authorities to trust instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// The certificate that Weir shows, a PEM file; needs `key`.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`, a PEM file.
    pub key: Option<PathBuf>,
    /// Whether the endpoint's certificate is verified. `false` accepts an impostor: for tests only.
    pub verify: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { sni: None, ca: None, cert: None, key: None, verify: true }
    }
}

/// The `Host` that endpoints see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's own.
    #[default]
    Preserve,
    /// This one.
    Fixed(String),
}

/// Connections kept open to each endpoint.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Pool {
    /// Idle connections kept, 0 to 65535; 0 keeps none.
    pub max_idle: u16,
    /// How long one may be idle: `100ms` to `1h`. Keep it below the endpoint's own limit.
    pub idle_timeout: Period,
}

impl Default for Pool {
    fn default() -> Self {
        // Below the 60 s to 75 s after which common origins close, so that Weir closes first and no request
        // meets a connection that is being closed.
        Self { max_idle: 128, idle_timeout: Period::from_secs(30) }
    }
}

impl Read for Service {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let known = &[
            "versions", "split", "release", "stable", "rollout", "timeouts", "drain", "affinity", "override",
            "balance", "protocol", "tls", "host", "pool", "upgrades", "max_body",
        ];
        let mut fields = reader.fields(node, known)?;
        let versions = fields.required_with("versions", |reader, node| {
            reader.map(node, MAX_VERSIONS, |reader, node| Version::read(node, reader))
        });
        let release = read_release(&mut fields);
        let split = read_split(&mut fields, versions.as_ref(), &release);
        let rollout = fields.optional("rollout");
        if let Some(split) = &split {
            check_rollout(&mut fields, split);
        }
        let stable = read_stable(&mut fields, versions.as_ref(), split.as_ref());
        let timeouts = fields.or("timeouts", Timeouts::default());
        let drain = fields.or("drain", Drain::default());
        let affinity = fields.optional("affinity");
        let overrides = fields.optional("override");
        let balance = fields.or("balance", Balance::default());
        let protocol = fields.or("protocol", Protocol::default());
        let tls = fields.optional("tls");
        let host = fields.or("host", HostHeader::default());
        let pool = fields.or("pool", Pool::default());
        let upgrades = fields.with("upgrades", read_upgrades);
        let max_body = fields.within("max_body", super::limits::BODY);
        fields.done()?;
        Some(Self {
            versions: versions?,
            split: split?,
            rollout: rollout?.or_else(|| release.as_ref()?.as_ref().map(|_| default_plan())),
            release: release?,
            stable: stable?,
            timeouts: timeouts?,
            drain: drain?,
            affinity: affinity?,
            overrides: overrides?,
            balance: balance?,
            protocol: protocol?,
            tls: tls?,
            host: host?,
            pool: pool?,
            upgrades: upgrades?.unwrap_or_else(default_upgrades),
            max_body: max_body?,
        })
    }
}

/// How many versions a service may have: a split walks them, and each is a set of metric series.
pub(crate) const MAX_VERSIONS: usize = 64;
/// How many endpoints a version may have.
const MAX_ENDPOINTS: usize = 1_024;

/// How many protocols a client may upgrade to.
const MAX_UPGRADES: usize = 16;

fn read_upgrades<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<String>> {
    let items = reader.items(node, "a list", |reader, node| {
        const EXPECTED: &str = "the name of a protocol, such as `websocket`";
        let text = reader.text(node, EXPECTED)?;
        if scalar::is_token(text) { Some(text.to_ascii_lowercase()) } else { reader.wrong(node, EXPECTED, None) }
    })?;
    reader.count(items.total, &(0..=MAX_UPGRADES), node.place)?;
    items.all()
}

impl Read for Version {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["endpoints", "state", "protocol", "tls"])?;
        let endpoints = fields.required_with("endpoints", read_endpoints);
        let state = fields.or("state", EndpointState::default());
        let protocol = fields.optional("protocol");
        let tls = fields.optional("tls");
        fields.done()?;
        Some(Self { endpoints: endpoints?, state: state?, protocol: protocol?, tls: tls? })
    }
}

fn read_endpoints<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Endpoint>> {
    let items = reader.items(node, "a list", |reader, node| Endpoint::read(node, reader))?;
    reader.count(items.total, &(0..=MAX_ENDPOINTS), node.place)?;
    let mut seen = HashSet::with_capacity(items.good.len());
    let mut unique = true;
    for (at, item, endpoint) in &items.good {
        if !seen.insert(&endpoint.address) {
            unique = false;
            reader.below(Step::Item(*at), item.place, |reader| {
                let problem = Problem::new(item.place, "this endpoint is in the list already");
                reader.note(problem.help("each endpoint stands once in a version: remove one"));
            });
        }
    }
    if unique { items.all() } else { None }
}

impl Read for Endpoint {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let address = EndpointAddress::read(node, reader)?;
            return Some(Self { address, state: EndpointState::default() });
        }
        let mut fields = reader.fields(node, &["address", "state"])?;
        let address = fields.required("address");
        let state = fields.or("state", EndpointState::default());
        fields.done()?;
        Some(Self { address: address?, state: state? })
    }
}

const ZERO: Period = Period::from_secs(0);
const DAY: Period = Period::from_secs(86_400);
const WEEK: Period = Period::from_secs(7 * 86_400);
/// Shorter than this, a timeout is a slip of the unit: no network answers reliably in less.
const SHORTEST_TIMEOUT: Period = Period::from_millis(10);

impl Read for Timeouts {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let default = Self::default();
        let mut fields = reader.fields(node, &["connect", "first_byte", "idle"])?;
        let connect = fields.bounded("connect", default.connect, SHORTEST_TIMEOUT..=Period::from_secs(300));
        let first_byte = fields.bounded("first_byte", default.first_byte, SHORTEST_TIMEOUT..=DAY);
        let idle = fields.bounded("idle", default.idle, SHORTEST_TIMEOUT..=DAY);
        fields.done()?;
        Some(Self { connect: connect?, first_byte: first_byte?, idle: idle? })
    }
}

impl Read for Drain {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let default = Self::default();
        let mut fields = reader.fields(node, &["requests", "streams"])?;
        let requests = fields.bounded("requests", default.requests, ZERO..=DAY);
        let streams = fields.bounded("streams", default.streams, ZERO..=WEEK);
        fields.done()?;
        Some(Self { requests: requests?, streams: streams? })
    }
}

impl Read for Balance {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(node, &[("least_requests", Self::LeastRequests), ("round_robin", Self::RoundRobin)])
    }
}

impl Read for Protocol {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        if let Value::Text(text) = &node.value
            && matches!(&*text.text, "h2c" | "http2" | "grpc")
        {
            return reader.wrong(
                node,
                "`http1`, `h2`",
                Some("write `h2`: without `tls` it is h2c, and gRPC needs no more"),
            );
        }
        reader.choose(node, &[("http1", Self::Http1), ("h2", Self::H2)])
    }
}

impl Read for UpstreamTls {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["sni", "ca", "cert", "key", "verify"])?;
        let sni = fields.with("sni", read_host);
        let ca = fields.optional("ca");
        let cert: Option<Option<PathBuf>> = fields.optional("cert");
        let key: Option<Option<PathBuf>> = fields.optional("key");
        let verify = fields.or("verify", true);
        match (&cert, &key) {
            (Some(Some(_)), Some(None)) => fields.half_pair("cert", "key"),
            (Some(None), Some(Some(_))) => fields.half_pair("key", "cert"),
            _ => {}
        }
        if let (Some(Some(_)), Some(false)) = (&ca, verify) {
            fields.fault_at("ca", |place| {
                Problem::new(place, "`ca` has no effect with `verify: false`")
                    .help("remove `verify: false`, so that the authority is used; or remove `ca`")
            });
        }
        fields.done()?;
        Some(Self { sni: sni?, ca: ca?, cert: cert?, key: key?, verify: verify? })
    }
}

fn read_host<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    match scalar::host(reader.text(node, "a host name")?) {
        Ok(host) => Some(host),
        Err(wrong) => reader.wrong(node, wrong.expected, wrong.help),
    }
}

impl Read for HostHeader {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "`preserve`, or a host with or without a port, such as `shop.internal`";
        let text = reader.text(node, EXPECTED)?;
        if text == "preserve" {
            return Some(Self::Preserve);
        }
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        let host = match text.rsplit_once(':') {
            Some((host, port)) if is_port(port) && !text.ends_with(']') => host,
            _ => text,
        };
        match scalar::host(host) {
            Ok(_) => Some(Self::Fixed(text.to_ascii_lowercase())),
            Err(_) => reader.wrong(node, EXPECTED, None),
        }
    }
}

impl Read for Pool {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let default = Self::default();
        let mut fields = reader.fields(node, &["max_idle", "idle_timeout"])?;
        let max_idle = fields.or("max_idle", default.max_idle);
        let idle_timeout =
            fields.bounded("idle_timeout", default.idle_timeout, Period::from_millis(100)..=Period::from_secs(3_600));
        fields.done()?;
        Some(Self { max_idle: max_idle?, idle_timeout: idle_timeout? })
    }
}

/// What the file says where the type says it in another shape.
mod shape {
    use super::{EndpointAddress, EndpointState, JsonSchema};

    /// One address that serves a version.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(crate) enum Endpoint {
        /// The address alone.
        Address(EndpointAddress),
        /// The address with its state.
        Full(FullEndpoint),
    }

    /// One address that serves a version, with its state.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(crate) struct FullEndpoint {
        /// Where it is.
        address: EndpointAddress,
        /// What is wanted of it.
        #[schemars(default)]
        state: EndpointState,
    }
}
