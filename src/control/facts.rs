//! What a snapshot says of itself on `/metrics`.

use crate::model::EndpointState;
use crate::snapshot::Snapshot;
use crate::telemetry::{EndpointFact, SnapshotFacts, WeightFact};

/// The facts of a snapshot.
pub(super) fn of(snapshot: &Snapshot) -> SnapshotFacts {
    let mut facts = SnapshotFacts { config_hash: snapshot.hash.clone(), ..SnapshotFacts::default() };
    for service in &snapshot.services {
        for version in &service.versions {
            facts.weights.push(WeightFact {
                service: service.name.clone(),
                version: version.name.clone(),
                configured: version.configured,
                effective: version.effective.ratio(),
            });
            facts.endpoints.extend(version.endpoints.iter().map(|endpoint| EndpointFact {
                service: service.name.clone(),
                version: version.name.clone(),
                endpoint: endpoint.name.clone(),
                up: endpoint.state == EndpointState::Ready,
                state: endpoint.state,
            }));
        }
    }
    facts
}
