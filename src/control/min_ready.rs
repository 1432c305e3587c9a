//! Disruption budgets: no command and no file takes a version's ready endpoints below its `min_ready`, unless it is
//! forced.
//!
//! A version that has fewer already may change as long as it does not lose another one.

use std::fmt;

use crate::model::Name;
use crate::snapshot::compile::States;
use crate::snapshot::{Service, Snapshot, Version};

/// A version that a change would leave too few ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BelowMinReady {
    service: Name,
    version: Name,
    ready: usize,
    min_ready: usize,
}

impl fmt::Display for BelowMinReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, version, ready, min_ready } = self;
        let endpoints = if *ready == 1 { "endpoint" } else { "endpoints" };
        write!(f, "{service}/{version} would have {ready} ready {endpoints}; its min_ready is {min_ready}")
    }
}

/// The versions of a service that `after`, states of operators in place of `before`, would leave too few endpoints.
pub(super) fn by_states(service: &Service, before: &States, after: &States) -> Vec<BelowMinReady> {
    let ready = |version: &Version, states| version.ready_under(&service.name, states);
    let short = service
        .versions
        .iter()
        .filter_map(|version| below((&service.name, version), ready(version, before), ready(version, after)));
    short.collect()
}

/// The versions that a file would leave too few endpoints: `after` and its states in place of `before`.
pub(super) fn by_file(
    (before, states_before): (&Snapshot, &States),
    (after, states_after): (&Snapshot, &States),
) -> Vec<BelowMinReady> {
    let mut short = Vec::new();
    for service in &after.services {
        if service.versions.iter().all(|version| version.min_ready == 0) {
            continue;
        }
        let old = before.service(&service.name);
        for version in &service.versions {
            let old = old.and_then(|old| old.versions.iter().find(|old| old.name == version.name));
            let had = old.map_or(0, |old| old.ready_under(&service.name, states_before));
            let has = version.ready_under(&service.name, states_after);
            short.extend(below((&service.name, version), had, has));
        }
    }
    short
}

fn below((service, version): (&Name, &Version), before: usize, after: usize) -> Option<BelowMinReady> {
    (after < version.min_ready && after < before).then(|| BelowMinReady {
        service: service.clone(),
        version: version.name.clone(),
        ready: after,
        min_ready: version.min_ready,
    })
}
