//! Cohorts: clients that are split by weights of their own.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use http::HeaderName;

use super::listener::MAX_NETWORKS;
use super::route::{HeaderMatch, read_headers};
use super::split::{declared, read_weights};
use super::version::Version;
use crate::config::syntax::diagnostic::quoted;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read as _, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::section::section;
use crate::config::syntax::tree::{Node, Value};
use crate::config::syntax::values::{self, Cidr};
use crate::model::{Name, Split, Weight};

/// How many cohorts a service may have: each request is held against one after the other.
pub(crate) const MAX_COHORTS: usize = 32;

section! {
    /// Clients that are split by weights of their own. A request is of the first cohort that it fits.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Cohort {
        /// Its name: a metric label, unique in the service.
        pub(crate) name: Name as values::Name = required(),
        /// Who is in it: who meets all that is set, and something is set.
        pub(crate) matches as "match": CohortMatch = required(),
        /// Each version's percentage of its requests, 100 in all. A version that is not named gets nothing.
        pub(crate) split: Split as Map<Weight> = required_with(read_split),
    }
}

/// Who is in a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CohortMatch {
    /// Headers that must fit, sorted by name.
    pub(crate) headers: Vec<(HeaderName, HeaderMatch)>,
    /// Cookies that must fit.
    pub(crate) cookies: Vec<(String, HeaderMatch)>,
    /// The client is in one of these networks.
    pub(crate) from: Option<Vec<Cidr>>,
}

section! {
    /// Who is in a cohort: who meets all that is set. At least one condition is set.
    impl CohortMatch as "CohortMatch" {
        /// Conditions on headers, by name, as a route has them: the exact value, or `exact`, `prefix`, `regex` or `present`.
        headers: Vec<(HeaderName, HeaderMatch)> as BTreeMap<String, HeaderMatch> = section_with(read_headers),
        /// The same on cookies, by name.
        cookies: Vec<(String, HeaderMatch)> as BTreeMap<String, HeaderMatch> = section_with(read_cookies),
        /// The client is in one of these networks.
        from: Option<Vec<Cidr>> = with(read_networks),
    }
    rules(fields) {
        if fields.names().next().is_none() {
            fields.fault_here(
                "a cohort of everybody",
                "add `headers`, `cookies` or `from`; what is in no cohort goes by the service's own `split`",
            );
        }
    }
    => CohortMatch { headers, cookies, from }
}

/// How many conditions on cookies one cohort may have.
const MAX_COOKIES: usize = 32;

fn read_cookies<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<(String, HeaderMatch)>> {
    let Value::Map(entries) = &node.value else {
        return reader.wrong(node, "fields: `cookie-name: value`", None);
    };
    reader.count(entries.len(), &(0..=MAX_COOKIES), node.place)?;
    let mut cookies = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        reader.below(PathStep::Field(&key.text), key.place, |reader| {
            let condition = HeaderMatch::read(value, reader);
            if scalar::is_token(&key.text) {
                cookies.extend(condition.map(|condition| (key.text.to_string(), condition)));
            } else {
                reader.note(Problem::new(key.place, "not the name of a cookie"));
            }
        });
    }
    (cookies.len() == entries.len()).then_some(cookies)
}

fn read_networks<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Cidr>> {
    reader.list(node, 1..=MAX_NETWORKS)
}

fn read_split<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Split> {
    let weights = read_weights(reader, node)?;
    let weights = weights.iter().map(|(name, weight)| (name.clone(), *weight)).collect();
    match Split::new(weights) {
        Ok(split) => Some(split),
        Err(fault) => {
            let problem = Problem::new(node.place, fault.to_string());
            reader.note(problem.help("say who gets what, 100 in all: `split: { v1: 90, v2: 10 }`"));
            None
        }
    }
}

/// The cohorts of a service, each with a name of its own.
pub(crate) fn read_cohorts<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Cohort>> {
    let items = reader.items(node, "a list", |reader, node| Cohort::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let mut unique = true;
    for (position, (at, item, cohort)) in items.good.iter().enumerate() {
        if items.good.iter().take(position).any(|(_, _, other)| other.name == cohort.name) {
            unique = false;
            reader.below(PathStep::Item(*at), item.place, |reader| {
                let problem = Problem::new(item.place, format!("another cohort is called `{}`", cohort.name));
                reader.note(problem.help("names are metric labels: give each its own"));
            });
        }
    }
    if unique { items.all() } else { None }
}

/// Notes when the cohort that a rollout moves does not exist, is split between versions, or has a `release` beside it.
pub(crate) fn check_rollout_of_cohort(fields: &mut Fields<'_, '_>, name: &Name, cohorts: Option<&Vec<Cohort>>) {
    if fields.get("release").is_some() {
        fields.fault_at("release", |place| {
            Problem::new(place, "`release` beside a rollout of a cohort")
                .help("say with `split` what everybody else gets; what the cohort gets, its own `split` says")
        });
    }
    let Some(cohorts) = cohorts else { return };
    let Some(cohort) = cohorts.iter().find(|cohort| cohort.name == *name) else {
        let known: Vec<&str> = cohorts.iter().map(|cohort| &*cohort.name).collect();
        let near = fields.reader.nearest(name, known.iter().copied());
        return fields.fault_at("rollout", |place| {
            let problem = Problem::new(place, format!("no cohort is called `{name}`")).nearest(near);
            if known.is_empty() { problem } else { problem.expected(format!("one of: {}", known.join(", "))) }
        });
    };
    if !cohort.split.iter().any(|(_, weight)| weight == Weight::FULL) {
        fields.fault_at("rollout", |place| {
            Problem::new(place, format!("the rollout moves `{name}`, whose split is between versions"))
                .help("a rollout begins where one version has everything: give one 100 in the cohort's `split`")
        });
    }
}

/// Notes when the split of a cohort names a version that the service does not have, or one without endpoints.
pub(crate) fn check_cohorts(
    fields: &mut Fields<'_, '_>,
    cohorts: Option<&Vec<Cohort>>,
    versions: Option<&Map<Version>>,
) {
    let names = declared(fields);
    let Some((section, Node { value: Value::List(items), .. })) = fields.get("cohorts") else { return };
    for (at, item) in items.iter().enumerate() {
        let Some((split, Node { value: Value::Map(entries), .. })) = item.field("split") else { continue };
        for (key, _) in entries {
            let problem = if !names.contains(&&*key.text) {
                let near = fields.reader.nearest(&key.text, names.iter().copied());
                Problem::new(key.place, format!("no version {}", quoted(&key.text)))
                    .expected(format!("a version of this service: {}", names.join(", ")))
                    .nearest(near)
            } else if is_empty(versions, &key.text) && has_weight(cohorts, at, &key.text) {
                Problem::new(key.place, format!("version `{}` has a weight and no endpoints", key.text))
                    .help("add endpoints, or give it the weight 0")
            } else {
                continue;
            };
            let way = [
                (PathStep::Field(&section.text), section.place),
                (PathStep::Item(at), item.place),
                (PathStep::Field(&split.text), split.place),
                (PathStep::Field(&key.text), key.place),
            ];
            fields.note_below(&way, problem);
        }
    }
}

fn is_empty(versions: Option<&Map<Version>>, name: &str) -> bool {
    versions.and_then(|versions| versions.get(name)).is_some_and(|version| version.endpoints.is_empty())
}

fn has_weight(cohorts: Option<&Vec<Cohort>>, at: usize, version: &str) -> bool {
    cohorts.and_then(|cohorts| cohorts.get(at)).is_some_and(|cohort| cohort.split.weight(version) > Weight::ZERO)
}
