//! Active health checks: what endpoints are asked, how often, and what their answers make of them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::Period;

section! {
    /// Asks each endpoint whether it is well, over a connection of its own, with the `protocol` and `tls` of its version.
    /// Exactly one of `http`, `tcp` and `grpc` is set.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct HealthCheck {
        /// A GET that must be answered with a status that passes.
        pub(crate) http: Option<HttpCheck> = optional(),
        /// `true`: a connection must be accepted, TLS included.
        pub(crate) tcp: Option<bool> = with(scalar::only_true),
        /// A call of gRPC's health service that must be answered with `SERVING`; needs `protocol: h2`.
        pub(crate) grpc: Option<GrpcCheck> = optional(),
        /// The port that is asked, 1 to 65535, instead of the endpoint's own; a unix socket has none.
        pub(crate) port: Option<u16> = within(1..=u16::MAX),
        /// From the beginning of one check to the next, a tenth more or less: `100ms` to `1h`.
        pub(crate) interval: Period = bounded(Period::from_secs(5), Period::from_millis(100)..=Period::HOUR),
        /// How long a check may take, connecting included: `10ms` to `1m`.
        pub(crate) timeout: Period = bounded(Period::SECOND, Period::from_millis(10)..=Period::from_secs(60)),
        /// Failed checks in a row that take an endpoint out, 1 to 100.
        pub(crate) unhealthy_after: u32 = bounded(3, IN_A_ROW),
        /// Passed checks in a row that bring it back, 1 to 100.
        pub(crate) healthy_after: u32 = bounded(2, IN_A_ROW),
        /// What a new endpoint is until its first check, which decides alone.
        pub(crate) start: StartHealth = or(StartHealth::Healthy),
    }
    rules(fields) {
        fields.one_of(&["http", "tcp", "grpc"], "what is asked");
    }
}

section! {
    /// An HTTP check.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct HttpCheck {
        /// What is asked for, with a query if need be.
        pub(crate) path: String = with_or("/".to_owned(), "/", read_target),
        /// The `Host` that is sent; default: the service's `host` if it is fixed, or else the endpoint's own.
        pub(crate) host: Option<String> = with(scalar::host_value),
        /// Statuses that pass, each alone or as `200-299`; 1 to 16 of them.
        pub(crate) status: Vec<Statuses> = list_or(success(), success(), 1..=16, read_statuses),
    }
}

section! {
    /// A check by gRPC's health checking protocol.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct GrpcCheck {
        /// The service that is asked about; default: the server as a whole.
        pub(crate) service: Option<String> = with(read_service),
    }
    default
}

words! {
    /// What an endpoint is before it was checked.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum StartHealth {
        /// It takes requests.
        #[default]
        Healthy = "healthy",
        /// It takes none.
        Unhealthy = "unhealthy",
    }
}

/// How many answers in a row may be waited for.
const IN_A_ROW: RangeInclusive<u32> = 1..=100;
/// The longest target and the longest name of a service.
const MAX_TEXT: usize = 1_024;

/// Statuses from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statuses {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Statuses {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
        let (first, last) = (status(first)?, status(last)?);
        (first <= last).then_some(Self { first, last })
    }
}

impl Read for Statuses {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a status such as `200`, or several such as `200-299`";
        let text = reader.text(node, EXPECTED)?;
        Self::parse(text).or_else(|| reader.wrong(node, EXPECTED, None))
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            return serializer.serialize_u16(self.first);
        }
        serializer.serialize_str(&format!("{}-{}", self.first, self.last))
    }
}

impl JsonSchema for Statuses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "examples": [200, "200-299"] })
    }
}

fn success() -> Vec<Statuses> {
    vec![Statuses { first: 200, last: 299 }]
}

fn read_statuses<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Statuses>> {
    let items = reader.items(node, "a list", |reader, node| Statuses::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    items.all()
}

fn read_target<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "a path such as `/healthz`, with a query if need be";
    let text = reader.text(node, EXPECTED)?;
    let fits =
        text.starts_with('/') && text.len() <= MAX_TEXT && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if fits { Some(text.to_owned()) } else { reader.wrong(node, EXPECTED, None) }
}

fn read_service<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "the name of a gRPC service, such as `shop.v1.Prices`";
    let text = reader.text(node, EXPECTED)?;
    let fits = text.len() <= MAX_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Some(text.to_owned()) } else { reader.wrong(node, EXPECTED, None) }
}
