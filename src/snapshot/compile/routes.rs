//! Routes → the table that finds them.

use std::collections::HashMap;
use std::sync::Arc;

use super::inputs::Previous;
use super::limits::{every_spelling, underscore};
use crate::config::{self, Config};
use crate::coop::in_pieces;
use crate::model::Name;
use crate::snapshot::{Route, Service};
use crate::telemetry::Recorder;
use crate::traffic::route::{HeaderMatch, HeaderTest, HostPattern, PathPattern, RouteError, Rule, Table};

/// Routes that cannot be compiled, each with why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines().join("\n"))]
pub struct InvalidRoutes(Vec<RouteError>);

impl InvalidRoutes {
    /// One line for each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// The table of a file's routes to these services, which are in the file's order.
///
/// # Errors
/// Why routes cannot be compiled.
pub(super) fn compile(
    config: &Config,
    services: &[Arc<Service>],
    recorder: &Recorder,
) -> Result<Table<Arc<Route>>, InvalidRoutes> {
    let by_name: HashMap<&str, (usize, &Arc<Service>)> =
        services.iter().enumerate().map(|(at, service)| (&*service.name, (at, service))).collect();
    let mut rules = Vec::with_capacity(config.routes.len());
    for route in in_pieces(&config.routes) {
        let Some(&(at, service)) = by_name.get(&*route.service) else { continue };
        let name = route.name.clone().unwrap_or_else(|| route_name(&route.matches));
        let series = service.versions.iter().map(|v| recorder.route(&service.name, &v.name, &name)).collect();
        let underscore = route.headers.underscore.map(underscore);
        rules.push(rule(&route.matches, Arc::new(Route { name, service: at, series, probe: route.probe, underscore })));
    }
    Table::build_for(rules, every_spelling(config)).map_err(InvalidRoutes)
}

/// Whether the table in effect is that of these routes and services: routes count by the versions of their service,
/// whose place they hold.
pub(super) fn can_keep(config: &Config, services: &[Arc<Service>], before: Previous<'_>) -> bool {
    let same_routes = std::ptr::eq(config, before.config)
        || (config.routes == before.config.routes && every_spelling(config) == every_spelling(before.config));
    let old = &before.snapshot.services;
    same_routes && old.len() == services.len() && old.iter().zip(services).all(|(old, new)| counts_alike(old, new))
}

/// Whether routes to these services count by the same names.
fn counts_alike(old: &Arc<Service>, new: &Arc<Service>) -> bool {
    let same_versions = || old.versions.iter().map(|one| &one.name).eq(new.versions.iter().map(|one| &one.name));
    Arc::ptr_eq(old, new) || (old.name == new.name && same_versions())
}

/// What a route without a name is called: its first host and its path.
fn route_name(matches: &config::Match) -> Name {
    let host = match matches.hosts.first() {
        None => "*".to_owned(),
        Some(config::HostMatch::Exact(host)) => host.clone(),
        Some(config::HostMatch::Wildcard(suffix)) => format!("*.{suffix}"),
    };
    let path = match &matches.path {
        None => "/",
        Some(config::PathMatch::Prefix(path) | config::PathMatch::Exact(path) | config::PathMatch::Regex(path)) => path,
    };
    format!("{host}{path}").into()
}

fn rule(matches: &config::Match, target: Arc<Route>) -> Rule<Arc<Route>> {
    let hosts = if matches.hosts.is_empty() {
        vec![HostPattern::Any]
    } else {
        matches.hosts.iter().map(host_pattern).collect()
    };
    let path = match &matches.path {
        None => PathPattern::Prefix("/".to_owned()),
        Some(config::PathMatch::Prefix(path)) => PathPattern::Prefix(path.clone()),
        Some(config::PathMatch::Exact(path)) => PathPattern::Exact(path.clone()),
        Some(config::PathMatch::Regex(pattern)) => PathPattern::Regex(pattern.clone()),
    };
    Rule {
        hosts,
        path,
        methods: matches.methods.clone(),
        headers: matches.headers.iter().map(|(name, test)| header_match(name, test)).collect(),
        target,
    }
}

fn host_pattern(host: &config::HostMatch) -> HostPattern {
    match host {
        config::HostMatch::Exact(host) => HostPattern::Exact(host.clone()),
        config::HostMatch::Wildcard(suffix) => HostPattern::Wildcard(suffix.clone()),
    }
}

fn header_match(name: &http::HeaderName, test: &config::HeaderMatch) -> HeaderMatch {
    HeaderMatch { name: name.as_str().to_owned(), test: header_test(test) }
}

/// What a value must be.
pub(super) fn header_test(test: &config::HeaderMatch) -> HeaderTest {
    match test {
        config::HeaderMatch::Exact(value) => HeaderTest::Exact(value.clone()),
        config::HeaderMatch::Prefix(value) => HeaderTest::Prefix(value.clone()),
        config::HeaderMatch::Regex(value) => HeaderTest::Regex(value.clone()),
        config::HeaderMatch::Present(true) => HeaderTest::Present,
        config::HeaderMatch::Present(false) => HeaderTest::Absent,
    }
}
