//! A version of a service: the addresses that serve it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::concurrency::Concurrency;
use super::health_check::HealthCheck;
use super::upstream::{Protocol, UpstreamTls};
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read, Reader};
use crate::config::syntax::schema;
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::EndpointAddress;
use crate::model::EndpointState;

/// How many versions a service may have: a split walks them, and each is a set of metric series.
pub(crate) const MAX_VERSIONS: usize = 64;
/// How many endpoints a version may have.
const MAX_ENDPOINTS: usize = 1_024;
/// The largest weight of an endpoint: more than machines differ.
const MAX_WEIGHT: u16 = 256;

section! {
    /// One release of a service.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Version {
        /// The addresses that serve it, 1024 at most. None only with a weight of 0.
        pub(crate) endpoints: Vec<Endpoint> = required_list(0..=MAX_ENDPOINTS, read_endpoints),
        /// What is wanted of all its endpoints.
        pub(crate) state: EndpointState = or(EndpointState::Ready),
        /// Replaces the service's `protocol`.
        pub(crate) protocol: Option<Protocol> = optional(),
        /// Replaces the service's `tls`, whole.
        pub(crate) tls: Option<UpstreamTls> = optional(),
        /// Replaces the service's `health`, whole.
        pub(crate) health: Option<HealthCheck> = optional(),
        /// Replaces the service's `concurrency`, whole.
        pub(crate) concurrency: Option<Concurrency> = optional(),
        /// The version's disruption budget: no command and no file may leave it fewer endpoints that are ready, unless it
        /// is forced. 0 to 1024; 0 is no budget.
        pub(crate) min_ready: u16 = bounded(0, 0..=MAX_MIN_READY),
    }
    rules(fields) {
        check_min_ready(&mut fields, endpoints.as_deref(), min_ready);
    }
}

impl Version {
    /// A value of a flag: nothing is sent to it.
    pub(crate) const fn of_flag() -> Self {
        Self {
            endpoints: Vec::new(),
            state: EndpointState::Ready,
            protocol: None,
            tls: None,
            health: None,
            concurrency: None,
            min_ready: 0,
        }
    }
}

/// The largest budget: as many as a version has endpoints at most.
const MAX_MIN_READY: u16 = 1_024;

/// A budget that the file itself does not keep. How many addresses a DNS name has, the file does not say.
fn check_min_ready(fields: &mut Fields<'_, '_>, endpoints: Option<&[Endpoint]>, min_ready: Option<u16>) {
    let (Some(endpoints), Some(min_ready)) = (endpoints, min_ready) else { return };
    if endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Dns { .. })) {
        return;
    }
    let ready = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready).count();
    if ready < usize::from(min_ready) {
        fields.fault_at("min_ready", |place| {
            Problem::new(place, format!("`min_ready: {min_ready}`, and {ready} of the endpoints are to be ready"))
                .help("list more endpoints, or lower `min_ready`")
        });
    }
}

/// One address that serves a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Where it is.
    pub(crate) address: EndpointAddress,
    /// How many requests it gets, beside the other endpoints of its version.
    pub(crate) weight: u16,
    /// What is wanted of it.
    pub(crate) state: EndpointState,
}

section! {
    /// One address that serves a version, with its weight and state.
    #[derive(Clone)]
    struct FullEndpoint {
        /// Where it is.
        address: EndpointAddress = required(),
        /// How many requests it gets, beside the other endpoints of its version: 1 to 256. Each address behind a DNS name
        /// has it; of SRV records, times the weight that they give.
        weight: u16 = bounded(1, 1..=MAX_WEIGHT),
        /// What is wanted of it.
        state: EndpointState = or(EndpointState::Ready),
    }
}

impl Read for Endpoint {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        if node.has_fields() {
            let FullEndpoint { address, weight, state } = FullEndpoint::read(node, reader)?;
            return Some(Self { address, weight, state });
        }
        let address = EndpointAddress::read(node, reader)?;
        Some(Self { address, weight: 1, state: EndpointState::Ready })
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<EndpointAddress>(generator, "The address alone."),
            schema::described::<FullEndpoint>(generator, "The address with its weight and state."),
        ];
        schema::any_of("One address that serves a version.", &ways)
    }
}

fn read_endpoints<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Endpoint>> {
    let items = reader.items(node, "a list", |reader, node| Endpoint::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let mut seen = HashSet::with_capacity(items.good.len());
    let mut unique = true;
    for (at, item, endpoint) in &items.good {
        if !seen.insert(&endpoint.address) {
            unique = false;
            reader.below(PathStep::Item(*at), item.place, |reader| {
                let problem = Problem::new(item.place, "this endpoint is in the list already");
                reader.note(problem.help("each endpoint stands once in a version: remove one"));
            });
        }
    }
    if unique { items.all() } else { None }
}
