//! The small values of the configuration file: lengths of time, amounts of bytes, networks, names.
//!
//! Each is parsed once, when the file is read, and carries its proof from then on. They print the way a
//! person writes them in the file.
//!
//! Invariant: [`Period`] and [`Bytes`] have a unit in the file. `timeout: 30` is refused, because half of its
//! readers take it for seconds and half for milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::schema::{SchemaBound, text};
use crate::model::{Address, Weight};

/// A length of time, written `250ms`, `1s`, `5m`, `1h30m` or `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Period(Duration);

impl Period {
    /// No time at all.
    pub(crate) const ZERO: Self = Self::from_secs(0);
    /// A second.
    pub(crate) const SECOND: Self = Self::from_secs(1);
    /// An hour.
    pub(crate) const HOUR: Self = Self::from_secs(3_600);
    /// A day.
    pub(crate) const DAY: Self = Self::from_secs(86_400);
    /// A week.
    pub(crate) const WEEK: Self = Self::from_secs(7 * 86_400);

    /// A period of whole seconds.
    #[must_use]
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A period of whole milliseconds.
    #[must_use]
    pub(crate) const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The period as the standard library has it.
    #[must_use]
    pub(crate) const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

/// Why a text is not a value of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub(crate) struct NotAValue {
    /// What is allowed, as a noun phrase with an example.
    pub(crate) expected: &'static str,
    /// What to do about it, where more can be said.
    pub(crate) help: Option<&'static str>,
}

impl NotAValue {
    const fn new(expected: &'static str) -> Self {
        Self { expected, help: None }
    }

    const fn because(expected: &'static str, help: &'static str) -> Self {
        Self { expected, help: Some(help) }
    }
}

/// The units of a [`Period`], largest first, in milliseconds.
const PERIOD_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Period {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        const EXPECTED: &str = "a length of time with its unit, such as `250ms`, `30s`, `5m` or `1h30m`";
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(NotAValue::because(EXPECTED, "a bare number does not say its unit: add `ms`, `s`, `m` or `h`"));
        }
        let wrong = NotAValue::new(EXPECTED);
        let (mut rest, mut total, mut next_unit) = (text, 0_u64, 0);
        while !rest.is_empty() {
            let (digits, tail) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
            let (unit, tail) = tail.split_at(tail.bytes().take_while(u8::is_ascii_alphabetic).count());
            let at = PERIOD_UNITS.iter().position(|(name, _)| *name == unit).ok_or(wrong)?;
            let milliseconds = PERIOD_UNITS.get(at).map_or(0, |(_, milliseconds)| *milliseconds);
            if at < next_unit {
                return Err(NotAValue::because(EXPECTED, "write the larger unit first, and each unit once"));
            }
            let count: u64 = digits.parse().map_err(|_| wrong)?;
            total = count.checked_mul(milliseconds).and_then(|part| total.checked_add(part)).ok_or(wrong)?;
            next_unit = at + 1;
            rest = tail;
        }
        if text.is_empty() { Err(wrong) } else { Ok(Self::from_millis(total)) }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, milliseconds) in PERIOD_UNITS {
            let count = rest / milliseconds;
            rest %= milliseconds;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// An amount of bytes, written `512B`, `32KiB`, `1MiB`, `2GiB` (powers of 1024) or `10KB`, `1MB` (of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bytes(u64);

impl Bytes {
    /// That many bytes.
    #[must_use]
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many times 1024 bytes.
    #[must_use]
    pub(crate) const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// The amount in bytes.
    #[must_use]
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// The amount in bytes as a length in memory; on a machine that cannot address it, the largest length.
    #[must_use]
    pub(crate) fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The units of [`Bytes`]; for printing, the first that divides the amount is taken.
const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        const EXPECTED: &str = "an amount of bytes with its unit, such as `512B`, `32KiB` or `1MiB`";
        let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        if unit.is_empty() && !digits.is_empty() {
            return Err(NotAValue::because(EXPECTED, "a bare number does not say its unit: add `B`, `KiB` or `MiB`"));
        }
        let wrong = NotAValue::new(EXPECTED);
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(wrong)?;
        let count: u64 = digits.parse().map_err(|_| wrong)?;
        count.checked_mul(*factor).map(Self).ok_or(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match BYTE_UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A network of client or peer addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cidr(IpNet);

impl Cidr {
    /// The network as the `ipnet` crate has it.
    #[must_use]
    pub(crate) const fn get(self) -> IpNet {
        self.0
    }
}

impl FromStr for Cidr {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        const EXPECTED: &str = "a network or an address, such as `10.0.0.0/8`, `fd00::/8` or `192.0.2.7`";
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let network: IpNet = text.parse().map_err(|_| NotAValue::new(EXPECTED))?;
        if network.addr() == network.network() {
            Ok(Self(network))
        } else {
            Err(NotAValue::because(
                EXPECTED,
                "the address has bits beyond its prefix length: write the network's first address, or a longer prefix",
            ))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an endpoint is: an internet address, a unix socket, or a DNS name that is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EndpointAddress {
    /// `10.0.0.1:8080` or `[fd00::1]:8080`.
    Inet(SocketAddr),
    /// `unix:/run/app.sock`.
    Unix(PathBuf),
    /// `app.example.com:8080`.
    Dns {
        /// The name, in lower case. With a dot at its end it is absolute: no search domain is appended.
        host: String,
        /// The port, 1 to 65535.
        port: u16,
    },
    /// `srv:_http._tcp.app.example.com`: SRV records (RFC 2782) say hosts and ports.
    Srv(String),
}

impl FromStr for EndpointAddress {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        const EXPECTED: &str =
            "an endpoint: `IP:PORT`, `[IPv6]:PORT`, `name:PORT`, `srv:_service._proto.name` or `unix:/absolute/path`";
        let wrong = NotAValue::new(EXPECTED);
        if text.contains("://") {
            return Err(NotAValue::because(
                EXPECTED,
                "leave out the scheme: TLS is the service's `tls`, HTTP/2 its `protocol: h2`",
            ));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let wrong =
                NotAValue::because(EXPECTED, "the path of a unix socket begins with `/` and has 107 bytes at most");
            return unix_path(path).map(Self::Unix).ok_or(wrong);
        }
        if let Some(name) = text.strip_prefix("srv:") {
            let wrong = NotAValue::because(EXPECTED, "SRV records say the port: write the name alone");
            return domain_name(name).map(Self::Srv).ok_or(wrong);
        }
        let port_zero = NotAValue::because(EXPECTED, "an endpoint has a port from 1 to 65535");
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(port_zero) } else { Ok(Self::Inet(address)) };
        }
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(NotAValue::because(EXPECTED, "the port is missing; an IPv6 address needs brackets around it"));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(NotAValue::because(EXPECTED, "the port is missing"));
        };
        let all_digits = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
        let host = domain_name(host).ok_or(wrong)?;
        if host.trim_end_matches('.').rsplit('.').next().is_some_and(all_digits) {
            return Err(wrong);
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(port_zero),
            Ok(port) => Ok(Self::Dns { host, port }),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Dns { host, port } => write!(f, "{host}:{port}"),
            Self::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

/// The longest path of a unix socket that every kernel takes (`sun_path` has 108 bytes, one of them a zero).
pub(crate) const MAX_UNIX_PATH: usize = 107;

/// A unix socket's path, if `path` is absolute, without zero bytes and short enough.
pub(crate) fn unix_path(path: &str) -> Option<PathBuf> {
    let fits = path.starts_with('/') && path.len() > 1 && path.len() <= MAX_UNIX_PATH && !path.contains('\0');
    fits.then(|| PathBuf::from(path))
}

/// `text` as a host name in lower case without its last dot, if it is one: labels of letters, digits, `-` and
/// `_`, each at most 63 bytes, 253 in all (RFC 1035 section 2.3.4, with the underscore that real names have).
pub(crate) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b != b'-');
        label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && edge(label.bytes().next())
            && edge(label.bytes().next_back())
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

/// `text` as a [`host_name`], with its last dot if it has one.
fn domain_name(text: &str) -> Option<String> {
    let name = host_name(text)?;
    Some(if text.ends_with('.') { name + "." } else { name })
}

/// The longest name of a listener, service, version or route: it is a metric label and part of the API's paths.
pub(crate) const MAX_NAME: usize = 63;

/// Whether `text` may name a listener, service, version or route.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// What a name looks like, for help.
pub(crate) const NAME_EXPECTED: &str = "a name of 1 to 63 letters, digits, `.`, `_` and `-`";

/// Gives a value that prints and parses as text its JSON Schema and its serde form.
macro_rules! text_value {
    ($type:ty, $name:literal, $pattern:literal, $description:literal, [$($example:literal),+]) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text($pattern, $description, &[$($example),+])
            }
        }
    };
}

text_value!(
    Period,
    "Period",
    "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    "A length of time with its unit; the larger unit first.",
    ["250ms", "30s", "5m", "1h30m"]
);
text_value!(
    Bytes,
    "Bytes",
    "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$",
    "An amount of bytes with its unit; KiB, MiB and GiB are powers of 1024.",
    ["512B", "32KiB", "1MiB"]
);
text_value!(
    Cidr,
    "Cidr",
    "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$",
    "A network, or one address.",
    ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
);
text_value!(
    EndpointAddress,
    "EndpointAddress",
    "^(unix:/.+|srv:[A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.%]+\\]:[0-9]{1,5}|[A-Za-z0-9._-]+:[0-9]{1,5})$",
    "Where an endpoint is: an IP address or a DNS name with its port, the name of SRV records, or a unix socket.",
    ["10.0.1.10:8080", "[fd00::1]:8080", "app.internal:8080", "srv:_http._tcp.app.internal", "unix:/run/app.sock"]
);

/// The JSON Schema of a type that stands elsewhere.
macro_rules! schema_of {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema_of!(
    Address,
    "Address",
    text(
        "^(unix:/.+|\\[[0-9A-Fa-f:.%]+\\]:[0-9]{1,5}|[0-9.]+:[0-9]{1,5})$",
        "An address to listen on: an IP address with its port (0 lets the system choose), or a unix socket.",
        &["0.0.0.0:8080", "[::]:8080", "unix:/run/weir/web.sock"]
    )
);
schema_of!(
    Weight,
    "Weight",
    json_schema!({
        "description": "A percentage with at most two decimals. The weights of a service sum to 100.",
        "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.01 },
            { "type": "string", "pattern": "^(100(\\.0{1,2})?|[0-9]{1,2}(\\.[0-9]{1,2})?)$" }
        ]
    })
);

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A name of the schema whose value has no type of its own. Never built.
macro_rules! schema_only {
    ($(#[$doc:meta])* $type:ident, $schema:expr) => {
        $(#[$doc])*
        pub(crate) enum $type {}

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
pub(crate) use schema_only;

schema_only!(
    /// The schema of [`crate::model::Name`].
    Name,
    text("^[A-Za-z0-9._-]{1,63}$", "1 to 63 letters, digits, `.`, `_` and `-`.", &["web"])
);
schema_only!(
    /// The name of an HTTP header; the type that holds one is another crate's.
    HeaderName,
    text("^[!#$%&'*+.^_`|~A-Za-z0-9-]{1,128}$", "The name of an HTTP header; case does not matter.", &["x-user-id"])
);

impl SchemaBound for Period {
    fn number(&self) -> Option<serde_json::Value> {
        None
    }
}

impl SchemaBound for Bytes {
    fn number(&self) -> Option<serde_json::Value> {
        None
    }
}
