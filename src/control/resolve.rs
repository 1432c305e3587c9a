//! DNS names of endpoints → addresses. The last good answer stays while a resolver fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, EndpointAddress};

/// A resolver that does not answer must not hold a reload up for long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names looked up at the same time.
const AT_ONCE: usize = 32;
/// Addresses taken of one name.
const MAX_ADDRESSES: usize = 256;

fn names(config: &Config) -> impl Iterator<Item = (&str, u16)> {
    config.services.iter().flat_map(|(_, service)| service.versions.iter()).flat_map(|(_, version)| {
        version.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Dns { host, port } => Some((host.as_str(), *port)),
            EndpointAddress::Inet(_) | EndpointAddress::Unix(_) => None,
        })
    })
}

/// Whether any endpoint is a DNS name.
pub(super) fn has_names(config: &Config) -> bool {
    names(config).next().is_some()
}

/// Resolves every name; one that does not resolve now keeps its addresses of `before`.
pub(super) async fn all(
    config: &Config,
    before: &HashMap<String, Vec<SocketAddr>>,
) -> HashMap<String, Vec<SocketAddr>> {
    let mut wanted: Vec<(String, u16)> = names(config).map(|(host, port)| (host.to_owned(), port)).collect();
    wanted.sort();
    wanted.dedup();
    let mut resolved = HashMap::with_capacity(wanted.len());
    for batch in wanted.chunks(AT_ONCE) {
        let lookups = batch.iter().map(|(host, port)| async move {
            let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), *port))).await;
            let mut addresses: Vec<SocketAddr> = match found {
                Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            addresses.sort();
            addresses.dedup();
            (format!("{host}:{port}"), addresses)
        });
        for (name, addresses) in futures_util::future::join_all(lookups).await {
            let known = before.get(&name);
            if addresses.is_empty() {
                tracing::warn!(%name, "the name does not resolve{}", if known.is_some() { "; its last addresses stay" } else { "" });
            }
            let kept = if addresses.is_empty() { known.cloned().unwrap_or_default() } else { addresses };
            resolved.insert(name, kept);
        }
    }
    resolved
}
