//! Providers: whoever measures for a check what Weir does not measure itself.
//!
//! A question is asked once. An answer that does not come is an outcome of its own, and the judge asks anew at its
//! next look.

use std::time::Duration;

use super::client::{Client, NoAnswer};
use super::{prometheus, webhook};
use crate::rollout::plan::Provider;
use crate::rollout::reading::Reading;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
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

/// Asks a provider. It takes at most the provider's timeout.
pub async fn read(client: &Client, provider: &Provider, question: &Question<'_>) -> Reading {
    match provider {
        Provider::Prometheus { url, query, timeout } => {
            prometheus::read(client, url, &prometheus::fill(query, question), *timeout).await
        }
        Provider::Webhook { url, timeout } => webhook::read(client, url, question, *timeout).await,
    }
}

/// What is read of a question that got no answer.
pub(super) fn unanswered(error: &NoAnswer) -> Reading {
    match error {
        NoAnswer::Late { .. } => Reading::Timeout,
        other => Reading::Failed(other.to_string()),
    }
}
