//! A service: its versions, the base split between them, and how requests are sent to them.

use std::path::PathBuf;

use http::HeaderName;
use schemars::JsonSchema;

use super::map::Map;
use super::values::{self, Bytes, Cidr, EndpointAddress, Period};
use crate::model::{EndpointState, Split};

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
    /// How long each stage of a request may take.
    #[schemars(default)]
    pub timeouts: Timeouts,
    /// How long work in flight may take to finish once its endpoint or version goes away.
    #[schemars(default)]
    pub drain: Drain,
    /// Keeps one client on one version; default: every request is split by itself.
    #[schemars(with = "Option<shape::Affinity>")]
    pub affinity: Option<Affinity>,
    /// Lets a request name its version; default: it cannot.
    #[schemars(with = "Option<shape::Override>", rename = "override")]
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
    #[schemars(with = "String", extend("default" = "preserve", "examples" = ["preserve", "shop.internal"]))]
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

/// WebSocket is what browsers ask for; anything else is worth a decision.
pub(super) fn default_upgrades() -> Vec<String> {
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

/// Keeps one client on one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// What tells clients apart.
    pub key: AffinityKey,
    /// Makes this service's choice independent of other services'; default: the service's name.
    pub salt: Option<String>,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinityKey {
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie {
        /// The cookie's name.
        name: String,
        /// With it, Weir sets the cookie for that long on clients that have none; without, the application
        /// sets it.
        ttl: Option<Period>,
    },
    /// The client's address.
    Address,
}

/// Lets a request name its version. At least one of `header` and `cookie` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The request header whose value is a version's name.
    pub header: Option<HeaderName>,
    /// The cookie whose value is a version's name.
    pub cookie: Option<String>,
    /// Who may do so.
    pub from: OverrideFrom,
}

/// Who may name a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideFrom {
    /// Every client.
    Anyone,
    /// Clients at these addresses. Never empty.
    Addresses(Vec<Cidr>),
}

/// Which endpoint of the chosen version gets a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Balance {
    /// The endpoint with fewer requests in flight of two picked at random.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
}

/// The protocol that endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
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

/// What the file says where the type says it in another shape.
mod shape {
    use super::{Cidr, EndpointAddress, EndpointState, JsonSchema, Period, values};

    /// One address that serves a version.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) enum Endpoint {
        /// The address alone.
        Address(EndpointAddress),
        /// The address with its state.
        Full(FullEndpoint),
    }

    /// One address that serves a version, with its state.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) struct FullEndpoint {
        /// Where it is.
        address: EndpointAddress,
        /// What is wanted of it.
        #[schemars(default)]
        state: EndpointState,
    }

    /// Keeps one client on one version. Exactly one of `header`, `cookie` and `address` is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) struct Affinity {
        /// The request header whose value tells clients apart.
        header: Option<values::HeaderName>,
        /// The cookie whose value tells clients apart.
        cookie: Option<String>,
        /// `true`: the client's address tells clients apart.
        address: Option<bool>,
        /// With `cookie`: Weir sets the cookie for that long on clients that have none, `1s` to `365d`.
        ttl: Option<Period>,
        /// Makes this service's choice independent of other services'; default: the service's name.
        salt: Option<String>,
    }

    /// Lets a request name its version. At least one of `header` and `cookie` is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) struct Override {
        /// The request header whose value is a version's name.
        header: Option<values::HeaderName>,
        /// The cookie whose value is a version's name.
        cookie: Option<String>,
        /// Who may do so: `anyone`, or a list of networks.
        from: From,
    }

    /// Who may name a version.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) enum From {
        /// Every client.
        Anyone(Anyone),
        /// Clients at these addresses.
        Addresses(Vec<Cidr>),
    }

    /// The word `anyone`.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(super) enum Anyone {
        /// Every client.
        Anyone,
    }
}
