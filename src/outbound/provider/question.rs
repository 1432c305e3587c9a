//! What a provider is asked, and what is read of a question that got no answer.

use std::time::Duration;

use crate::http_client::HttpError;
use crate::rollout::reading::Reading;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricQuery<'a> {
    /// The check's name.
    pub check: &'a str,
    /// The service.
    pub service: &'a str,
    /// The version that traffic goes back to.
    pub stable: &'a str,
    /// The version that is judged.
    pub canary: &'a str,
    /// What the check looks back on.
    pub window: Duration,
}

/// What is read of a question that got no answer.
pub(super) fn unanswered(error: &HttpError) -> Reading {
    match error {
        HttpError::TimedOut { .. } => Reading::Timeout,
        other => Reading::Failed(other.to_string()),
    }
}
