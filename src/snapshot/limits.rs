//! Puts limits of concurrency into effect where a snapshot brings, changes or ends them: for those who wait, and for the
//! connections that are open.

use super::live::Limit;
use super::service::{Service, Version};

/// Gives the limits of a service their places. Before it is published: a limit that is new has none.
pub(super) fn apply(service: &Service) {
    let both = |version: &Version| [version.limit.clone(), version.connection_limit().cloned()];
    service.versions.iter().flat_map(both).flatten().for_each(|limit| limit.apply());
}

/// A service was published as `after`; it was as `before`.
pub(super) fn follow(before: &Service, after: Option<&Service>) {
    for version in &before.versions {
        let now = after.and_then(|after| after.versions.iter().find(|now| now.name == version.name));
        ended(version.limit.as_ref(), now.and_then(|now| now.limit.as_ref()));
        ended(version.connection_limit(), now.and_then(Version::connection_limit));
        if let Some((now, limit)) = now.and_then(|now| Some((now, now.connection_limit()?))) {
            limit_connections(now, limit, version.connection_limit().is_none());
        }
    }
}

/// Who waits at a limit that there is no longer comes in.
fn ended(before: Option<&Limit>, after: Option<&Limit>) {
    if let Some(limit) = before.filter(|_| after.is_none()) {
        limit.limiter.open();
    }
}

/// `is_new`: the connections that are open have no permit, and so give way to others that have; those in use when their work
/// ends. What is idle beyond a lower limit closes.
fn limit_connections(version: &Version, limit: &Limit, is_new: bool) {
    for endpoint in &version.endpoints {
        if is_new {
            endpoint.live.close_connections();
        }
        while limit.is_exceeded() && endpoint.live.make_way() {}
    }
}
