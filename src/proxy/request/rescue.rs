//! Rescue: an idempotent request that failed on the canary of a rollout is tried once on stable. Its client sees what stable
//! answers; the canary is charged with the failure as if its client had seen that.
//!
//! Invariants: a request is rescued at most once, and within the budget of stable's retries; it counts for the version where
//! it failed once, as failed, and for stable as whatever came of it there. Where stable is limited it has a permit of stable's,
//! and none of the canary's any more.

use std::time::Duration;

use super::attempts::{Attempts, Sent};
use super::context::{Assignment, RequestProgress};
use super::record;
use crate::snapshot::live::Permit;
use crate::traffic::split::Reason;

/// How a request failed on its version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedRequest {
    /// The endpoint's status, or that of the local response that its client would get.
    pub(crate) status: u16,
    /// Why there would be a local response.
    pub(crate) cause: Option<&'static str>,
    pub(crate) sent: Sent,
    /// Since it began.
    pub(crate) duration: Duration,
}

/// Where a request is tried next.
pub(crate) struct Rescued<'s> {
    pub(crate) to: Assignment<'s>,
    /// Its permit there, where requests are limited.
    pub(crate) permit: Option<Permit>,
}

/// Charges the version with the failure and says where the request is tried next, if it is. `replay` prepares to send it from
/// its beginning, if all of it is still here.
#[cold]
pub(crate) fn rescue<'s>(
    from: Assignment<'s>,
    attempts: &mut Attempts,
    failed: FailedRequest,
    replay: impl FnOnce() -> bool,
) -> Option<Rescued<'s>> {
    // Who asks for a version by its name wants to see what it does.
    let at = from.version.rescuer.filter(|_| from.reason != Reason::Override)?;
    let by = from.service.versions.get(at)?;
    // Nobody waits for it: where all places are taken, the failure stands.
    let permit = match &by.limit {
        Some(limit) => Some(limit.try_enter()?),
        None => None,
    };
    let endpoint = attempts.endpoint();
    if failed.status < 500 || !attempts.is_rescued(failed.sent, (from.version, from.version_at), by, replay) {
        return None;
    }
    let mut progress = RequestProgress::new();
    (progress.status, progress.cause, progress.complete) = (Some(failed.status), failed.cause, true);
    record::count(&from, endpoint, &progress, failed.duration);
    // Its client is there for once.
    let to = Assignment { version: by, version_at: at, reason: Reason::Failover, ..from };
    Some(Rescued { to, permit })
}
