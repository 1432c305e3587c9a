//! Flagger's Canary resources (`flagger.app/v1beta1`) as services with rollouts.
//!
//! ```text
//! Canary ─┬─ service ──► versions, timeouts, routes                       here
//!         ├─ analysis ─► steps, checks, failures                          analysis.rs
//!         └─ webhooks, alerts ─► hooks, receivers                         calls.rs
//! ```
//!
//! Flagger's meanings and defaults: `pkg/apis/flagger/v1beta1/canary.go` and `pkg/controller/scheduler*.go` of
//! fluxcd/flagger. A Canary knows Kubernetes services and no addresses, so those are placeholders.

mod analysis;
mod calls;

use super::page::{Page, name, quoted};
use crate::config::{ImportedValue, Period};

/// Why a file cannot be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where, from 1.
    pub(super) line: u32,
    /// What, and what to do.
    pub(super) what: String,
}

impl Wrong {
    fn at(node: &ImportedValue, what: impl Into<String>) -> Self {
        Self { line: node.line, what: what.into() }
    }
}

/// The resources of a file, by what they are here.
#[derive(Default)]
struct Resources<'f> {
    canaries: Vec<&'f ImportedValue>,
    templates: Vec<&'f ImportedValue>,
    /// Of which nothing is taken: kind and name.
    others: Vec<String>,
}

/// The Weir configuration of what `documents` hold.
pub(super) fn convert(documents: &[ImportedValue]) -> Result<String, Wrong> {
    let mut found = Resources::default();
    for document in documents {
        sort(document, &mut found)?;
    }
    if found.canaries.is_empty() {
        let line = documents.first().map_or(1, |document| document.line);
        let what = "there is no Canary in this file; it has a line `kind: Canary`".to_owned();
        return Err(Wrong { line, what });
    }
    let mut services = found.canaries.iter().map(|canary| Service::of(canary)).collect::<Result<Vec<_>, _>>()?;
    services.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some([_, twin]) = services.array_windows().find(|[one, other]| one.name == other.name) {
        return Err(Wrong::at(twin.canary, format!("a second Canary leads to a service named {}", quoted(&twin.name))));
    }
    page(&services, &found)
}

/// Puts a document where it belongs; a List is its items, as `kubectl get -o yaml` prints them.
fn sort<'f>(document: &'f ImportedValue, found: &mut Resources<'f>) -> Result<(), Wrong> {
    let Some(kind) = text(document, "kind")? else {
        return Err(Wrong::at(document, "this is no Kubernetes resource: it has no `kind`"));
    };
    match kind {
        "Canary" => {
            let version = text(document, "apiVersion")?.unwrap_or_default();
            if version != "flagger.app/v1beta1" {
                let what = format!("a Canary of {}; only flagger.app/v1beta1 is known", quoted(version));
                return Err(Wrong::at(document, what));
            }
            found.canaries.push(document);
        }
        "MetricTemplate" => found.templates.push(document),
        "List" => {
            for item in list(document, "items")? {
                // One level: a List inside a List is nothing that Kubernetes prints.
                if text(item, "kind")? == Some("List") {
                    return Err(Wrong::at(item, "a List inside a List"));
                }
                sort(item, found)?;
            }
        }
        other => found.others.push(format!("{}/{}", printed(other), printed(title(document)))),
    }
    Ok(())
}

/// The `metadata.name` of a resource.
fn title(document: &ImportedValue) -> &str {
    document.get("metadata").and_then(|data| data.get("name")).and_then(ImportedValue::text).unwrap_or("?")
}

/// A name of the imported file in a comment.
fn printed(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// What one Canary says about its service.
struct Service<'f> {
    canary: &'f ImportedValue,
    name: String,
    namespace: String,
    port: u16,
    target_port: u16,
    service: Option<&'f ImportedValue>,
    analysis: Option<&'f ImportedValue>,
    spec: &'f ImportedValue,
}

impl<'f> Service<'f> {
    fn of(canary: &'f ImportedValue) -> Result<Self, Wrong> {
        let spec = canary.get("spec").ok_or_else(|| Wrong::at(canary, "this Canary has no `spec`"))?;
        let service = spec.get("service");
        let target = spec.get("targetRef").map(|target| text(target, "name")).transpose()?.flatten();
        let own = service.map(|service| text(service, "name")).transpose()?.flatten();
        let called = own.or(target).unwrap_or_else(|| title(canary));
        let namespace = canary.get("metadata").map(|data| text(data, "namespace")).transpose()?.flatten();
        let port = service.map(|service| whole_number(service, "port", u16::MAX.into())).transpose()?.flatten();
        let port = port.and_then(|(port, _)| u16::try_from(port).ok()).unwrap_or(80);
        // A target port may be a name, which only Kubernetes can look up.
        let target_port = service.and_then(|service| service.get("targetPort")).and_then(ImportedValue::text);
        let target_port = target_port.and_then(|port| port.parse().ok()).filter(|port| *port > 0).unwrap_or(port);
        Ok(Self {
            canary,
            name: name(called),
            namespace: name(namespace.unwrap_or("default")),
            port,
            target_port,
            service,
            analysis: spec.get("analysis").or_else(|| spec.get("canaryAnalysis")),
            spec,
        })
    }

    fn hosts(&self) -> Result<Vec<&'f str>, Wrong> {
        let Some(service) = self.service else { return Ok(Vec::new()) };
        let hosts = list(service, "hosts")?.iter();
        let hosts = hosts.map(|host| host.text().ok_or_else(|| Wrong::at(host, "a host is a text")));
        let hosts: Vec<&str> = hosts.collect::<Result<_, _>>()?;
        Ok(if hosts.contains(&"*") { Vec::new() } else { hosts })
    }
}

/// The whole file.
fn page(services: &[Service<'_>], found: &Resources<'_>) -> Result<String, Wrong> {
    let mut page = Page::default();
    page.comment(0, "Imported from Flagger. Lines with DECIDE need a decision; the others say what differs.");
    for other in &found.others {
        page.comment(0, &format!("Left out: {other}."));
    }
    page.line(0, "version: 1");
    page.line(0, "");
    let mut ports: Vec<u16> = services.iter().map(|service| service.port).collect();
    ports.sort_unstable();
    ports.dedup();
    page.line(0, "listeners:");
    for port in ports {
        page.line(1, &format!("- {{ name: web-{port}, address: \"0.0.0.0:{port}\" }}"));
    }
    page.comment(0, "DECIDE: with a directory that outlives the process, what a rollout decided survives a restart.");
    page.comment(0, "state: { directory: /var/lib/weir }");
    page.line(0, "");
    page.line(0, "services:");
    let mut receivers = Vec::new();
    for service in services {
        write_service(&mut page, service, &found.templates, &mut receivers)?;
    }
    page.line(0, "");
    if !receivers.is_empty() {
        page.line(0, "alerts:");
        receivers.iter().for_each(|receiver| receiver.write(&mut page));
        page.line(0, "");
    }
    page.line(0, "routes:");
    for service in services {
        write_routes(&mut page, service, services.len() == 1)?;
    }
    Ok(page.finish())
}

/// Fields of a Canary's `spec` and `spec.service` that Weir has no equal for, with why.
const UNEQUAL: [(&str, &str); 8] = [
    ("autoscalerRef", "Weir scales nothing: scale both versions before the rollout"),
    ("ingressRef", "Weir is the entry itself: let its listener take the traffic"),
    ("routeRef", "Weir is the entry itself: let its listener take the traffic"),
    ("progressDeadlineSeconds", "Weir waits for health, and holds for want of data for `max_hold`"),
    ("revertOnDeletion", "nothing of Kubernetes is changed, so nothing is reverted"),
    ("suspend", "use `weir rollout pause`"),
    ("upstreamRef", "endpoints are written in this file"),
    ("provider", "Weir carries the traffic itself"),
];

/// Fields of `spec.service` that are read here.
const SERVICE_KNOWN: [&str; 8] =
    ["name", "port", "targetPort", "portName", "hosts", "match", "timeout", "portDiscovery"];

fn write_service<'f>(
    page: &mut Page,
    service: &Service<'f>,
    templates: &[&'f ImportedValue],
    receivers: &mut Vec<calls::AlertSection>,
) -> Result<(), Wrong> {
    let Service { name, target_port, .. } = service;
    page.comment(1, &format!("Canary {}/{}.", service.namespace, printed(title(service.canary))));
    for (field, why) in UNEQUAL.iter().filter(|(field, _)| service.spec.get(field).is_some()) {
        page.comment(1, &format!("`{field}` has no equal: {why}."));
    }
    let others = service.service.into_iter().flat_map(ImportedValue::entries);
    for (field, _) in others.filter(|(field, value)| !SERVICE_KNOWN.contains(&&**field) && !value.is_null()) {
        page.comment(1, &format!("DECIDE: `service.{}` has no equal and was left out.", printed(field)));
    }
    page.line(1, &format!("{name}:"));
    page.comment(2, "DECIDE: the addresses. A Canary names Kubernetes services; these are their names.");
    page.line(2, "versions:");
    for version in ["primary", "canary"] {
        page.line(3, &format!("{version}: {{ endpoints: [\"{name}-{version}:{target_port}\"] }}"));
    }
    page.comment(
        2,
        "Set this to canary to start a rollout. Flagger then copies the canary over the primary; with Weir the",
    );
    page.comment(2, "canary is the stable version from then on, and the next release goes into the other one.");
    page.line(2, "release: primary");
    page.comment(
        2,
        "What serves where no state is known: a new replica, an empty volume. After a rollout, name the other one.",
    );
    page.line(2, "stable: primary");
    let hook_alerts = calls::collect(service, receivers)?;
    analysis::write(page, service, templates, &hook_alerts)?;
    if let Some(limit) = service.service.map(|service| duration(service, "timeout")).transpose()?.flatten() {
        page.comment(
            2,
            "`service.timeout` limits the whole request; this limits the wait for the answer's first byte.",
        );
        page.line(2, &format!("timeouts: {{ first_byte: {limit} }}"));
    }
    if let Some(affinity) = service.analysis.and_then(|analysis| analysis.get("sessionAffinity")) {
        write_affinity(page, affinity)?;
    }
    Ok(())
}

fn write_affinity(page: &mut Page, affinity: &ImportedValue) -> Result<(), Wrong> {
    let Some(cookie) = text(affinity, "cookieName")? else {
        return Err(Wrong::at(affinity, "`sessionAffinity` has no `cookieName`"));
    };
    let age = whole_number(affinity, "maxAge", u32::MAX)?.map_or(86_400, |(age, _)| age.clamp(1, 365 * 86_400));
    page.comment(
        2,
        "With Flagger only those whom the canary has answered stay on it, so its share of users climbs past the",
    );
    page.comment(2, "weight. Here the cookie keeps each client on its version, and the share is the weight.");
    if affinity.get("primaryCookieName").is_some() {
        page.comment(2, "`primaryCookieName` has no equal: one cookie does for both versions.");
    }
    page.line(2, &format!("affinity: {{ cookie: {}, ttl: {} }}", quoted(cookie), Period::from_secs(age.into())));
    Ok(())
}

fn write_routes(page: &mut Page, service: &Service<'_>, only: bool) -> Result<(), Wrong> {
    let hosts = service.hosts()?;
    let host = if hosts.is_empty() && only {
        String::new()
    } else if hosts.is_empty() {
        let Service { name, namespace, .. } = service;
        page.comment(1, "DECIDE: the hosts by which clients reach it; these are the names that Kubernetes gives.");
        format!("host: [{name}, {name}.{namespace}, {name}.{namespace}.svc.cluster.local], ")
    } else {
        format!("host: [{}], ", hosts.iter().map(|host| quoted(host)).collect::<Vec<_>>().join(", "))
    };
    let matches = service.service.map_or(Ok([].as_slice()), |service| list(service, "match"))?;
    if matches.is_empty() {
        page.line(1, &format!("- {{ match: {{ {host}path: / }}, service: {} }}", service.name));
    }
    for condition in matches {
        let (tests, left) = conditions(condition)?;
        // Only a prefix has this field; Istio's is one of the text.
        if tests.starts_with("path: \"") && !tests.starts_with("path: \"/\"") {
            page.comment(1, "A path is a prefix of whole segments here: /api does not match /apix.");
        }
        for field in left {
            page.comment(1, &format!("DECIDE: `match.{}` has no equal and was left out.", printed(&field)));
        }
        page.line(1, &format!("- {{ match: {{ {host}{tests} }}, service: {} }}", service.name));
    }
    Ok(())
}

/// One entry of `service.match` (Istio's HTTPMatchRequest) as fields of a route's match, and what has no equal.
fn conditions(condition: &ImportedValue) -> Result<(String, Vec<String>), Wrong> {
    let (mut fields, mut left) = (Vec::new(), Vec::new());
    let mut path = "path: /".to_owned();
    for (field, value) in condition.entries().iter().filter(|(_, value)| !value.is_null()) {
        match field.as_str() {
            "name" => {}
            "uri" => path = uri(value)?,
            "method" => match text(value, "exact")? {
                Some(method) => fields.push(format!("method: [{}]", quoted(method))),
                None => left.push("method".to_owned()),
            },
            "headers" => {
                let headers = value.entries().iter().map(|(header, test)| Ok((header, string_match(test)?)));
                let headers: Vec<(&String, (&str, &str))> = headers.collect::<Result<_, Wrong>>()?;
                let tests = headers.iter().map(|(header, (how, value))| match *how {
                    "exact" => format!("{}: {}", quoted(header), quoted(value)),
                    how => format!("{}: {{ {how}: {} }}", quoted(header), quoted(value)),
                });
                fields.push(format!("headers: {{ {} }}", tests.collect::<Vec<_>>().join(", ")));
            }
            other => left.push(other.to_owned()),
        }
    }
    fields.insert(0, path);
    Ok((fields.join(", "), left))
}

fn uri(value: &ImportedValue) -> Result<String, Wrong> {
    Ok(match string_match(value)? {
        ("exact", path) => format!("exact: {}", quoted(path)),
        ("regex", pattern) => format!("regex: {}", quoted(pattern)),
        // A prefix of Weir ends at a segment; Istio's does not, except where it ends in a slash.
        (_, prefix) => format!("path: {}", quoted(prefix)),
    })
}

/// How a text is compared, and with what.
fn string_match(value: &ImportedValue) -> Result<(&'static str, &str), Wrong> {
    for how in ["exact", "prefix", "regex"] {
        if let Some(text) = text(value, how)? {
            return Ok((how, text));
        }
    }
    Err(Wrong::at(value, "expected one of `exact`, `prefix` and `regex`"))
}

/// A field that is a single value, if it is there.
fn text<'f>(node: &'f ImportedValue, field: &str) -> Result<Option<&'f str>, Wrong> {
    let wrong = |value: &ImportedValue| Wrong::at(value, format!("`{field}` is not a single value"));
    node.get(field).map(|value| value.text().ok_or_else(|| wrong(value))).transpose()
}

/// A field that is a list; none if it is not there.
fn list<'f>(node: &'f ImportedValue, field: &str) -> Result<&'f [ImportedValue], Wrong> {
    let wrong = |value: &ImportedValue| Wrong::at(value, format!("`{field}` is not a list"));
    node.get(field).map_or(Ok(&[]), |value| value.items().ok_or_else(|| wrong(value)))
}

/// A field that is a number, with its node.
fn number<'f>(node: &'f ImportedValue, field: &str) -> Result<Option<(f64, &'f ImportedValue)>, Wrong> {
    let (Some(written), Some(value)) = (text(node, field)?, node.get(field)) else { return Ok(None) };
    match written.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some((number, value))),
        _ => Err(Wrong::at(value, format!("`{field}` is {}, which is no number", quoted(written)))),
    }
}

/// A field that is a whole number from 0 on, with its node.
fn whole_number<'f>(
    node: &'f ImportedValue,
    field: &str,
    most: u32,
) -> Result<Option<(u32, &'f ImportedValue)>, Wrong> {
    let Some((found, value)) = number(node, field)? else { return Ok(None) };
    let fitting = value.text().and_then(|text| text.parse().ok()).filter(|number| *number <= most);
    let wrong = || Wrong::at(value, format!("`{field}` is {found}; a whole number from 0 to {most} is expected"));
    fitting.map(|number| Some((number, value))).ok_or_else(wrong)
}

/// A field that is a length of time as Go writes it, such as `30s` or `1m0s`.
fn duration(node: &ImportedValue, field: &str) -> Result<Option<Period>, Wrong> {
    let (Some(written), Some(value)) = (text(node, field)?, node.get(field)) else { return Ok(None) };
    let wrong = |_| Wrong::at(value, format!("`{field}` is {}; expected a time such as 30s or 1m", quoted(written)));
    written.parse().map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests;
