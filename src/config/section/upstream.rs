//! How requests are sent to the endpoints of a service: timeouts, choice, protocol, TLS, connections.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::Period;

section! {
    /// How long each stage of a request may take.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Timeouts {
        // A second covers one lost SYN inside a region; longer only holds the client up before the retry.
        /// Connecting to an endpoint, TLS handshake included: `10ms` to `5m`.
        pub(crate) connect: Period = bounded(Period::SECOND, SHORTEST_TIMEOUT..=Period::from_secs(300)),
        // Where most clients and load balancers give up.
        /// From the request's last byte to the answer's first: `10ms` to `24h`.
        pub(crate) first_byte: Period = bounded(Period::from_secs(30), SHORTEST_TIMEOUT..=Period::DAY),
        /// Between two bytes of the answer: `10ms` to `24h`. Upgraded connections and event streams have no
        /// such limit.
        pub(crate) idle: Period = bounded(Period::from_secs(60), SHORTEST_TIMEOUT..=Period::DAY),
        /// A whole request with all its tries, from its head to the end of its answer, or to the first byte of one that is
        /// a stream: `10ms` to `24h`; default: no limit.
        pub(crate) request: Option<Period> = within(SHORTEST_TIMEOUT..=Period::DAY),
    }
    default
}

/// Shorter than this, a timeout is a slip of the unit: no network answers reliably in less.
const SHORTEST_TIMEOUT: Period = Period::from_millis(10);

section! {
    /// How long work in flight may take to finish once its endpoint or version goes away.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Drain {
        // As long as a request may wait for its first byte; and a few minutes in which a stream's client can
        // be expected to reconnect by itself.
        /// Requests: `0s` to `24h`.
        pub(crate) requests: Period = bounded(Period::from_secs(30), Period::ZERO..=Period::DAY),
        /// Upgraded and streaming connections: `0s` to `7d`.
        pub(crate) streams: Period = bounded(Period::from_secs(300), Period::ZERO..=Period::WEEK),
    }
    default
}

words! {
    /// Which endpoint of the chosen version gets a request.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum Balance {
        /// Of two picked at random by weight, the endpoint with fewer requests in flight for its weight.
        #[default]
        LeastRequests = "least_requests",
        /// One after the other, heavier ones more often.
        RoundRobin = "round_robin",
        /// Each client keeps its endpoint while that is available: by the key of `affinity`, and without `affinity` by its
        /// address. Requests without a key as with `least_requests`.
        Hash = "hash",
    }
}

words! {
    /// The protocol that endpoints speak.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum Protocol {
        /// HTTP/1.1.
        #[default]
        Http1 = "http1",
        /// HTTP/2: by prior knowledge (h2c) in plain text, by ALPN under TLS. What gRPC needs.
        H2 = "h2",
    }
    not "h2c" | "http2" | "grpc" => "write `h2`: without `tls` it is h2c, and gRPC needs no more"
}

section! {
    /// TLS to the endpoints.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct UpstreamTls {
        /// The name that is sent as SNI and verified; default: the endpoint's host.
        pub(crate) sni: Option<String> = with(scalar::host_value),
        /// The authorities to trust instead of the system's, a PEM file.
        pub(crate) ca: Option<PathBuf> = optional(),
        /// The certificate that Weir shows, a PEM file; needs `key`.
        pub(crate) cert: Option<PathBuf> = optional(),
        /// The private key of `cert`, a PEM file.
        pub(crate) key: Option<PathBuf> = optional(),
        /// Whether the endpoint's certificate is verified. `false` accepts an impostor: for tests only.
        pub(crate) verify: bool = or(true),
    }
    default
    rules(fields) {
        fields.check_pair();
        check_verified(&mut fields, verify);
    }
}

fn check_verified(fields: &mut Fields<'_, '_>, verify: Option<bool>) {
    if verify == Some(false) && fields.get("ca").is_some() {
        fields.fault_at("ca", |place| {
            Problem::new(place, "`ca` has no effect with `verify: false`")
                .help("remove `verify: false`, so that the authority is used; or remove `ca`")
        });
    }
}

/// The `Host` that endpoints see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostHeader {
    /// The client's own.
    #[default]
    Preserve,
    /// This one.
    Fixed(String),
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

impl Serialize for HostHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Preserve => "preserve",
            Self::Fixed(host) => host,
        })
    }
}

impl JsonSchema for HostHeader {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HostHeader".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["preserve", "shop.internal"] })
    }
}

section! {
    /// Connections kept open to each endpoint.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Pool {
        // As many as requests come at once: what is closed above it is made again for the next ones, and making a
        // connection costs more than a request. They close after `idle_timeout` all the same.
        /// Idle connections kept, 0 to 65535; 0 keeps none.
        pub(crate) max_idle: u16 = or(1024),
        // Below the 60 s to 75 s after which common origins close, so that Weir closes first and no request
        // meets a connection that is being closed.
        /// How long one may be idle: `100ms` to `1h`. Keep it below the endpoint's own limit.
        pub(crate) idle_timeout: Period = bounded(Period::from_secs(30), Period::from_millis(100)..=Period::HOUR),
    }
    default
}
