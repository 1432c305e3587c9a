//! What a reload changed, in lines for an operator.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, Service};
use crate::model::Name;
use crate::snapshot::ListenerTls;

/// Lines shown of one kind of change; more are counted.
const MAX_LINES: usize = 20;

/// What differs between two configurations, in effect.
pub(super) fn between(before: &Config, after: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, service) in after.services.iter() {
        match before.services.get(name) {
            None => lines.push(format!("{name}: new service")),
            Some(old) if old != service => lines.extend(service_changes(name, old, service)),
            Some(_) => {}
        }
    }
    lines.extend(
        before
            .services
            .names()
            .filter(|name| after.services.get(name).is_none())
            .map(|name| format!("{name}: removed")),
    );
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more changes of services"));
    }
    if before.routes != after.routes {
        lines.push(format!("routes: {} before, {} now", before.routes.len(), after.routes.len()));
    }
    if before.limits != after.limits {
        lines.push("limits".to_owned());
    }
    if before.dns != after.dns {
        lines.push("dns".to_owned());
    }
    if before.trusted_proxies != after.trusted_proxies {
        lines.push("trusted_proxies".to_owned());
    }
    if lines.is_empty() && before.hash() != after.hash() {
        lines.push("settings".to_owned());
    }
    lines
}

fn service_changes(name: &Name, before: &Service, after: &Service) -> Vec<String> {
    let mut lines = Vec::new();
    for version in after.versions.names().filter(|version| before.versions.get(version).is_none()) {
        lines.push(format!("{name}/{version}: new version"));
    }
    for version in before.versions.names().filter(|version| after.versions.get(version).is_none()) {
        lines.push(format!("{name}/{version}: removed, drains"));
    }
    for (version, spec) in after.versions.iter() {
        if let Some(old) = before.versions.get(version).filter(|old| old.endpoints != spec.endpoints) {
            let count = |list: &[crate::config::Endpoint]| list.len();
            lines.push(format!(
                "{name}/{version}: endpoints ({} before, {} now)",
                count(&old.endpoints),
                count(&spec.endpoints)
            ));
        }
    }
    let release = after.release.as_ref().filter(|_| after.rollout.is_some());
    if let Some(release) = release.filter(|_| before.split != after.split) {
        // What the file's split says is where the rollout ends, and not what comes now.
        lines.push(format!("{name}: release {release} (rolled out step by step)"));
    } else if before.split != after.split {
        let weights: Vec<String> = after.split.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
        lines.push(format!("{name}: split {}", weights.join(" ")));
    }
    if let Some(stable) = after.stable.as_ref().filter(|_| before.stable != after.stable) {
        lines.push(format!("{name}: stable {stable}, where no state is known"));
    }
    if lines.is_empty() {
        lines.push(format!("{name}: settings"));
    }
    lines
}

/// The certificates that a listener shows, each with those that lead from it to a root, one after the other.
fn chains(tls: &ListenerTls) -> impl Iterator<Item = &[u8]> {
    tls.certificates.iter().flat_map(|certificate| certificate.key().cert.iter().map(AsRef::as_ref))
}

/// Which listeners have other certificates.
pub(super) fn certificates(before: &HashMap<Name, ListenerTls>, after: &HashMap<Name, ListenerTls>) -> Vec<String> {
    let mut lines: Vec<String> = after
        .iter()
        .filter(|(name, tls)| {
            before.get(*name).is_none_or(|old| {
                let same = Arc::ptr_eq(&old.certificates, &tls.certificates) || chains(old).eq(chains(tls));
                !same || old.client_roots != tls.client_roots
            })
        })
        .map(|(name, _)| format!("listener {name}: certificates"))
        .collect();
    lines.sort();
    lines
}
