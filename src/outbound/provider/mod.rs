//! Providers: whoever measures for a check what Weir does not measure itself.
//!
//! A question is asked once. An answer that does not come is an outcome of its own, and the judge asks anew at its
//! next look.

mod prometheus;
mod question;
mod webhook;

pub use self::question::MetricQuery;
use crate::http_client::Client;
use crate::rollout::plan::Provider;
use crate::rollout::reading::Reading;

/// Asks a provider. It takes at most the provider's timeout.
pub async fn read(client: &Client, provider: &Provider, question: &MetricQuery<'_>) -> Reading {
    match provider {
        Provider::Prometheus { url, query, timeout } => {
            prometheus::read(client, url, &prometheus::expand(query, question), *timeout).await
        }
        Provider::Webhook { url, timeout } => webhook::read(client, url, question, *timeout).await,
    }
}
