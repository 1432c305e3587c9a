//! The whole file as one section.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::rules::{self, MAX_LISTENERS, MAX_ROUTES, MAX_SERVICES};
use super::section::alerts::{self, Alert};
use super::section::dns::Dns;
use super::section::flag::{self, Flag};
use super::section::limits::Limits;
use super::section::listener::{Listener, MAX_NETWORKS};
use super::section::normalization::{Headers, Paths};
use super::section::process::{AccessLog, Admin, Runtime, Shutdown, State, Telemetry};
use super::section::route::Route;
use super::section::service::Service;
use super::syntax::fields::Fields;
use super::syntax::map::Map;
use super::syntax::mark::{Mark, marked};
use super::syntax::problem::Place;
use super::syntax::read::{Read, Reader};
use super::syntax::section::section;
use super::syntax::tree::{Node, Value};
use super::syntax::values::Cidr;
use crate::coop::in_pieces;
use crate::model::Name;

section! {
    /// The whole configuration file, valid.
    #[derive(Clone, Debug)]
    pub struct Config {
        /// The format of the file.
        pub version: Format = required(),
        /// Where clients connect, 1 to 256.
        pub(crate) listeners: Vec<Listener> = required_list(1..=MAX_LISTENERS, rules::read_listeners),
        /// The listener for `/metrics`, `/livez` and `/readyz`; default: none.
        pub(crate) telemetry: Option<Telemetry> = optional(),
        /// The control API.
        pub(crate) admin: Admin = section(),
        /// The runtime that carries the traffic.
        pub(crate) runtime: Runtime = section(),
        /// How the process ends after SIGTERM.
        pub(crate) shutdown: Shutdown = section(),
        /// Where durable state is kept.
        pub(crate) state: State = section(),
        /// The access log.
        pub(crate) access_log: AccessLog = section(),
        /// What a client may ask of Weir before it is refused.
        pub(crate) limits: Limits = section(),
        /// What becomes of paths that servers read in different ways. A listener may say it of its own.
        pub(crate) paths: Paths = section(),
        /// What becomes of headers whose names servers read in different ways. A listener may say it of its own.
        pub(crate) headers: Headers = section(),
        /// How DNS names of endpoints are looked up.
        pub(crate) dns: Dns = section(),
        /// Proxies whose `X-Forwarded-*` and request id headers are believed; default: none.
        pub(crate) trusted_proxies: Vec<Cidr> = list(0..=MAX_NETWORKS, Reader::list::<Cidr>),
        /// The services, 100000 at most, in the order of the file.
        pub(crate) services: Map<Service> = section_with(read_services),
        /// Feature flags that requests carry to endpoints, 256 at most.
        pub(crate) flags: Map<Flag> = section_with(flag::read),
        /// Who is told about rollouts, 64 at most, by the name that rollouts use.
        pub(crate) alerts: Map<Alert> = section_with(alerts::read),
        /// Which requests go to which service, 200000 at most.
        pub(crate) routes: Vec<Route> = list(0..=MAX_ROUTES, rules::read_routes),
    }
    and pub(super) origin: Origin
    rules(fields) {
        for section in ["services", "flags"] {
            rules::check_receivers(&mut fields, section);
        }
        rules::check_flags(&mut fields);
        check_addresses(&mut fields, listeners.as_deref(), telemetry.as_ref(), admin.as_ref());
    }
}

fn check_addresses(
    fields: &mut Fields<'_, '_>,
    listeners: Option<&[Listener]>,
    telemetry: Option<&Option<Telemetry>>,
    admin: Option<&Admin>,
) {
    let telemetry = telemetry.and_then(Option::as_ref).map(|telemetry| &telemetry.address);
    let sections = [("telemetry", telemetry), ("admin", admin.map(|admin| &admin.address))];
    rules::check_addresses(fields, listeners.unwrap_or_default(), sections);
}

fn read_services<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Map<Service>> {
    reader.map(node, MAX_SERVICES, |reader, node| Service::read(node, reader))
}

/// The format of the file. There is one so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `version: 1`.
    #[default]
    V1,
}

impl JsonSchema for Format {
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1, "description": "The format of the file." })
    }
}

impl Read for Format {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        match reader.text(node, "`1`")? {
            "1" => Some(Self::V1),
            _ => {
                reader.wrong(node, "`1`", Some("this is the version of the file's format, and this Weir knows only 1"))
            }
        }
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) file: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) hash: u64,
    /// The sections that are fixed at the start.
    pub(super) marks: Vec<Mark>,
    /// Where a service that is rolled out and has several versions does not say which one is stable.
    pub(super) missing_stable: Vec<ServiceMark>,
    /// Where a rollout that nothing judges says `bake`.
    pub(super) unjudged_bakes: Vec<ServiceMark>,
    /// Where rollouts stand that are judged by a number of requests.
    pub(super) judged_rollouts: Vec<ServiceMark>,
    /// What is hardly meant.
    pub(super) lint: Lint,
}

/// A place in a service that something may have to be said of.
#[derive(Clone, Debug)]
pub(super) struct ServiceMark {
    pub(super) service: Name,
    pub(super) mark: Mark,
}

impl ServiceMark {
    /// Marks `field` of those services for which `place_of` says where it stands, or should: of a service, the place of its
    /// name and its node. In the order of the file.
    pub(super) fn find(
        services: &Map<Service>,
        (root, source): (&Node<'_>, &str),
        field: &str,
        place_of: impl Fn(&Service, Place, &Node<'_>) -> Option<Place>,
    ) -> Vec<Self> {
        let Some(Value::Map(nodes)) = root.field("services").map(|(_, node)| &node.value) else { return Vec::new() };
        let mut found = Vec::new();
        for ((key, node), (name, service)) in in_pieces(nodes.iter().zip(services.iter())) {
            found.extend(place_of(service, key.place, node).map(|place| (name.clone(), place)));
        }
        found.sort_by_key(|(_, place)| place.line);
        let places = found.iter().map(|(name, place)| (format!("services.{name}.{field}"), *place)).collect();
        let marks = marked(places, source);
        found.into_iter().zip(marks).map(|((service, _), mark)| Self { service, mark }).collect()
    }
}

/// What is hardly meant, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Lint {
    pub(super) kept: Vec<LintWarning>,
    /// How many were not kept.
    pub(super) more: usize,
}

/// One thing that is hardly meant.
#[derive(Clone, Debug)]
pub(super) struct LintWarning {
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) help: String,
}

impl Config {
    /// The file that this was read from, as it was named.
    #[must_use]
    pub(crate) fn file(&self) -> &Path {
        &self.origin.file
    }

    /// A hash of what the file says after substitution, as 16 hexadecimal digits. Comments and layout do not
    /// count. Stable across processes, machines and releases of Weir; not a protection against forgery.
    #[must_use]
    pub(crate) fn hash(&self) -> String {
        format!("{:016x}", self.origin.hash)
    }
}
