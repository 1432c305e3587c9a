//! Puts limits of concurrency into effect where a snapshot brings, changes or ends them: for those who wait, and for the
//! connections that are open.

use super::live::Limit;
use super::service::{Service, Version};

/// A service is published as `after`; it was as `before`.
pub(super) fn follow(before: Option<&Service>, after: Option<&Service>) {
    let find = |service: Option<&Service>, version: &Version| -> (Option<Limit>, Option<Limit>) {
        let found = service.and_then(|service| service.versions.iter().find(|known| known.name == version.name));
        found.map(|version| (version.limit.clone(), connections(version).cloned())).unwrap_or_default()
    };
    // A version that is gone has no connections that a limit would be for.
    for version in before.into_iter().flat_map(|service| &service.versions) {
        let (requests, sockets) = find(after, version);
        ended(version.limit.as_ref(), requests.as_ref());
        ended(connections(version), sockets.as_ref());
    }
    for version in after.into_iter().flat_map(|service| &service.versions) {
        let (_, sockets) = find(before, version);
        if let Some(limit) = &version.limit {
            limit.limiter.set_most(limit.bound.most);
        }
        if let Some(limit) = connections(version) {
            limit.limiter.set_most(limit.bound.most);
            limit_connections(version, limit, sockets.is_none());
        }
    }
}

/// The limit of a version's connections, which its endpoints have in common.
fn connections(version: &Version) -> Option<&Limit> {
    version.endpoints.first()?.upstream.connections.as_ref()
}

/// Who waits at a limit that there is no longer comes in.
fn ended(before: Option<&Limit>, after: Option<&Limit>) {
    if let Some(limit) = before.filter(|_| after.is_none()) {
        limit.limiter.open();
    }
}

/// `is_new`: the connections that are open have no place, and so give way to others that have; those in use when their work
/// ends. What is idle beyond a lower limit closes.
fn limit_connections(version: &Version, limit: &Limit, is_new: bool) {
    for endpoint in &version.endpoints {
        if is_new {
            endpoint.live.close_connections();
        }
        while limit.limiter.used() > limit.bound.most && endpoint.live.make_way() {}
    }
}
