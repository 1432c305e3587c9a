//! Why a request got its version, as it is counted and told.

use crate::telemetry::DecisionReason;
use crate::traffic::split::Reason;

/// The word for a reason.
pub(crate) fn decision(reason: Reason) -> DecisionReason {
    match reason {
        Reason::Override => DecisionReason::Override,
        Reason::Affinity => DecisionReason::Affinity,
        Reason::Weight => DecisionReason::Weight,
        Reason::Failover => DecisionReason::Failover,
    }
}
