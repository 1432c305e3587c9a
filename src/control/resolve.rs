//! DNS names of endpoints → addresses. The last good answer stays while a resolver fails.
//!
//! Names that are known are looked up again beside the owner, which decides every second and must not wait for a
//! resolver; only for a new name does a reload wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, EndpointAddress};

/// A resolver that does not answer must not hold a reload up for long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Names looked up at the same time.
const MAX_LOOKUPS: usize = 32;
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

/// The addresses behind DNS names, by `name:port`.
pub(super) type Resolved = HashMap<String, Vec<SocketAddr>>;

/// The addresses of every name of `config`: those of `before` where there are any, those of a resolver for the rest.
pub(super) async fn new_names(config: &Config, before: &Resolved) -> Resolved {
    let (known, new): (Vec<_>, Vec<_>) =
        wanted(config).into_iter().partition(|name| before.get(&key(name)).is_some_and(|known| !known.is_empty()));
    let known = known.iter().map(key).filter_map(|key| Some((key.clone(), before.get(&key)?.clone())));
    let known: Resolved = known.collect();
    known.into_iter().chain(look_up(new, &Resolved::new()).await).collect()
}

/// Looks every name of `config` up again; one that does not resolve now keeps its addresses of `before`. It needs
/// neither of them any more.
pub(super) fn resolve_again(config: &Config, before: &Resolved) -> impl Future<Output = Resolved> + use<> {
    let (wanted, before) = (wanted(config), before.clone());
    async move { look_up(wanted, &before).await }
}

fn wanted(config: &Config) -> Vec<(String, u16)> {
    let mut wanted: Vec<(String, u16)> = names(config).map(|(host, port)| (host.to_owned(), port)).collect();
    wanted.sort();
    wanted.dedup();
    wanted
}

fn key((host, port): &(String, u16)) -> String {
    format!("{host}:{port}")
}

async fn look_up(wanted: Vec<(String, u16)>, before: &Resolved) -> Resolved {
    let mut resolved = HashMap::with_capacity(wanted.len());
    for batch in wanted.chunks(MAX_LOOKUPS) {
        let lookups = batch.iter().map(|wanted| async move {
            let (host, port) = wanted;
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host.as_str(), *port))).await;
            let mut addresses: Vec<SocketAddr> = match found {
                Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            addresses.sort();
            addresses.dedup();
            (key(wanted), addresses)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hosts: &[&str]) -> Config {
        let endpoints = hosts.iter().map(|host| format!("\"{host}:80\"")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  shop:\n    versions:\n      \
             v1: {{ endpoints: [{endpoints}] }}\n    split: {{ v1: 100 }}\n\
             routes: [{{ match: {{ path: / }}, service: shop }}]\n"
        );
        crate::config::parse(std::path::Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None).unwrap()
    }

    #[tokio::test]
    async fn a_reload_asks_for_new_names_only_and_a_failure_keeps_what_was_known() {
        let known: Vec<SocketAddr> = vec!["192.0.2.1:80".parse().unwrap()];
        // Nobody can resolve it (RFC 6761 §6.4): asking would lose it.
        let before =
            Resolved::from([("known.invalid:80".to_owned(), known.clone()), ("gone.invalid:80".to_owned(), known)]);
        let config = config(&["known.invalid", "localhost"]);
        let resolved = new_names(&config, &before).await;
        assert_eq!(resolved["known.invalid:80"], before["known.invalid:80"]);
        assert!(resolved["localhost:80"].iter().all(|address| address.ip().is_loopback()));
        assert!(!resolved["localhost:80"].is_empty() && !resolved.contains_key("gone.invalid:80"));
        assert_eq!(resolve_again(&config, &resolved).await, resolved);
    }
}
