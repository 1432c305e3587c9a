//! How DNS names of endpoints are looked up: whom to ask, how often, and for how long.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::Period;

section! {
    /// How DNS names of endpoints are looked up. What does not resolve keeps the addresses that it had.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Dns {
        /// The servers to ask, 8 at most: `IP` or `IP:PORT`. Default: those of `/etc/resolv.conf`, whose `search` and
        /// `ndots` hold in any case.
        pub(crate) servers: Vec<DnsServer> = list(0..=MAX_SERVERS, Reader::list::<DnsServer>),
        /// Which addresses of a name are used.
        pub(crate) family: AddressFamily = or(AddressFamily::Any),
        // A TTL of 0 is common where addresses move, and would have us ask all the time.
        /// A name is looked up again once its answer's TTL is over, but not before this: `100ms` to `1h`.
        pub(crate) min_ttl: Period = bounded(Period::SECOND, SHORTEST_TTL..=Period::HOUR),
        // Long TTLs are for caches on the way; an address that is gone costs us requests.
        /// A name is looked up again after this at the latest, whatever its TTL: `1s` to `1d`. A tenth is added at
        /// random, so that names do not come at once.
        pub(crate) max_ttl: Period = bounded(Period::from_secs(30), Period::SECOND..=Period::DAY),
        /// How long a lookup may take in all, and how long a start or a reload waits for new names: `100ms` to `30s`.
        pub(crate) timeout: Period = bounded(Period::from_secs(2), SHORTEST_TTL..=Period::from_secs(30)),
    }
    default
    rules(fields) {
        let max_ttl = max_above_min(&mut fields, min_ttl, max_ttl);
    }
}

/// Servers are asked two at a time; more than a few are never reached before the timeout.
const MAX_SERVERS: usize = 8;
/// Shorter than this, a time is a slip of the unit.
const SHORTEST_TTL: Period = Period::from_millis(100);

/// The longest time between lookups. A large `min_ttl` alone takes its default up with it.
fn max_above_min(fields: &mut Fields<'_, '_>, min: Option<Period>, max: Option<Period>) -> Option<Period> {
    let (min, max) = (min?, max?);
    if min > max && fields.get("max_ttl").is_some() {
        fields.fault_at("max_ttl", |place| {
            Problem::new(place, "`max_ttl` is shorter than `min_ttl`")
                .expected(format!("{min} at least"))
                .help("raise `max_ttl` or lower `min_ttl`")
        });
    }
    Some(max.max(min))
}

words! {
    /// Which addresses of a name are used.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum AddressFamily {
        /// All: A and AAAA.
        #[default]
        Any = "any",
        /// IPv4 only: A.
        Ipv4 = "ipv4",
        /// IPv6 only: AAAA.
        Ipv6 = "ipv6",
    }
}

/// A DNS server: it is asked over UDP, and over TCP where an answer does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DnsServer(SocketAddr);

impl DnsServer {
    /// Where it is.
    #[must_use]
    pub(crate) const fn address(self) -> SocketAddr {
        self.0
    }
}

/// The port of DNS (RFC 1035 §4.2).
const PORT: u16 = 53;

impl Read for DnsServer {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a DNS server: `IP`, `IP:PORT` or `[IPv6]:PORT`";
        let text = reader.text(node, EXPECTED)?;
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self(SocketAddr::new(ip, PORT)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Some(Self(address)),
            _ => reader.wrong(node, EXPECTED, Some("a server is named by its address: nobody could look its name up")),
        }
    }
}

impl fmt::Display for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == PORT { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

impl Serialize for DnsServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for DnsServer {
    fn schema_name() -> Cow<'static, str> {
        "DnsServer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A DNS server: its address, with a port if it is not 53.",
            "examples": ["10.0.0.53", "127.0.0.1:5353", "[fd00::53]:53"]
        })
    }
}
