//! What becomes of a request whose attempt failed, and what that counts as.

use crate::snapshot::Version;
use crate::telemetry::RetryReason;

/// What becomes of a request whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryVerdict {
    GiveUp,
    /// It would be tried again, if the version's budget had room.
    OverBudget,
    /// It is tried again; what that is counted as, if it is.
    Retry(Option<RetryReason>),
}

impl RetryVerdict {
    /// Counts a retry, or that there was no room for one; whether it is one.
    pub(super) fn count(self, version: &Version) -> bool {
        match self {
            Self::GiveUp => false,
            Self::OverBudget => {
                version.series.retry_overflowed();
                false
            }
            Self::Retry(reason) => {
                if let Some(reason) = reason {
                    version.series.retried(reason);
                }
                true
            }
        }
    }
}
