//! What the snapshot in effect and the rollouts say of themselves on `/metrics`, put together at each scrape.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Status;
use super::resolve::Names;
use crate::snapshot::live::Limit;
use crate::snapshot::{Current, Version};
use crate::telemetry::{EndpointCounts, EndpointFact, FactSource, LimitFact, SnapshotFacts, WeightFact};

/// Reads the facts of the moment.
pub(super) struct CurrentFacts {
    pub(super) current: Current,
    pub(super) status: Arc<ArcSwap<Status>>,
    pub(super) names: Arc<Names>,
}

impl FactSource for CurrentFacts {
    fn facts(&self) -> SnapshotFacts {
        let snapshot = self.current.load();
        let rollouts = self.status.load().rollout_facts.clone();
        let mut facts = SnapshotFacts {
            config_hash: snapshot.hash.clone(),
            rollouts,
            names: self.names.facts(),
            ..SnapshotFacts::default()
        };
        for service in &snapshot.services {
            for (version, effective) in service.versions.iter().zip(service.chooser.effective()) {
                facts.weights.push(WeightFact {
                    service: service.name.clone(),
                    version: version.name.clone(),
                    configured: version.configured,
                    effective: effective.ratio(),
                    panics: version.panics(),
                    limits: limits(version),
                });
                facts.endpoints.extend(version.endpoints.iter().map(|endpoint| EndpointFact {
                    service: service.name.clone(),
                    version: version.name.clone(),
                    endpoint: endpoint.name.clone(),
                    up: endpoint.live.is_available(),
                    state: endpoint.state(),
                    counts: EndpointCounts {
                        connects: endpoint.live.health.connects(),
                        failures: endpoint.live.health.failures().collect(),
                        checks: endpoint.live.health.checks().collect(),
                        ejections: endpoint.live.health.ejections().collect(),
                    },
                }));
            }
        }
        facts
    }
}

/// The limits of a version, each with what is in use and what waits.
fn limits(version: &Version) -> Vec<LimitFact> {
    let limits = [("requests", version.limit.as_ref()), ("connections", version.connection_limit())];
    let fact = |(limited, limit): (&'static str, Option<&Limit>)| {
        let Limit { limiter, .. } = limit?;
        Some(LimitFact { limited, used: limiter.used(), waiting: limiter.waiting() })
    };
    limits.into_iter().filter_map(fact).collect()
}
