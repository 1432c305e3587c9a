//! What a snapshot says of itself on `/metrics`.

use crate::model::EndpointState;
use crate::snapshot::Snapshot;
use crate::telemetry::{EndpointFact, Facts, VersionFact};

/// The facts of a snapshot.
pub(super) fn of(snapshot: &Snapshot) -> Facts {
    let versions = snapshot
        .services
        .iter()
        .flat_map(|service| {
            service.versions.iter().map(|version| VersionFact {
                service: service.name.clone(),
                version: version.name.clone(),
                configured: version.configured,
                effective: version.effective,
                endpoints: version
                    .endpoints
                    .iter()
                    .map(|endpoint| EndpointFact {
                        endpoint: endpoint.name.clone(),
                        state: endpoint.state,
                        up: endpoint.state == EndpointState::Ready,
                    })
                    .collect(),
            })
        })
        .collect();
    Facts { hash: snapshot.hash.clone(), versions }
}
