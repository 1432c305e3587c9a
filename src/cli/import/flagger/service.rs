//! A Canary's `service`: where it is reached, versions, timeouts, affinity and routes.

use super::super::field::{Wrong, bounded, duration, flag, left, list, place, printed, text, whole_number};
use super::super::page::{Page, quoted};
use super::super::resource::Resource;
use super::super::site;
use crate::config::{ImportedValue, Period};

/// What one Canary says about its service.
pub(super) struct Service<'f> {
    pub(super) canary: Resource<'f>,
    /// The Kubernetes service.
    pub(super) apex: &'f str,
    /// What is rolled out.
    pub(super) target: &'f str,
    pub(super) port: u16,
    pub(super) spec: &'f ImportedValue,
    pub(super) analysis: Option<&'f ImportedValue>,
    service: Option<&'f ImportedValue>,
}

impl<'f> Service<'f> {
    pub(super) fn of(canary: Resource<'f>) -> Result<Self, Wrong> {
        let spec = canary.spec()?;
        let service = spec.get("service");
        let target = spec.get("targetRef").map(|target| text(target, "name")).transpose()?.flatten();
        let own = service.map(|service| text(service, "name")).transpose()?.flatten();
        let port = service.map(|service| whole_number(service, "port", u16::MAX.into())).transpose()?.flatten();
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(80);
        let target = target.unwrap_or(canary.name);
        let analysis = spec.get("analysis").or_else(|| spec.get("canaryAnalysis"));
        Ok(Self { canary, apex: own.unwrap_or(target), target, port, spec, analysis, service })
    }

    /// The name of what a field of `spec` refers to; without it that of the target, as Flagger does.
    pub(super) fn reference(&self, field: &str) -> &'f str {
        let named = self.spec.get(field).and_then(|reference| reference.get("name")).and_then(ImportedValue::text);
        named.unwrap_or(self.target)
    }
}

/// Fields of `spec` that Weir has no equal for, with why.
const UNEQUAL: [(&str, &str); 9] = [
    ("autoscalerRef", "has no equal: Weir scales nothing, so scale both versions before the rollout"),
    ("ingressRef", "has no equal: Weir is the entry itself, so let its listener take the traffic"),
    ("routeRef", "has no equal: Weir is the entry itself, so let its listener take the traffic"),
    ("progressDeadlineSeconds", "has no equal: Weir waits for health, and for data as long as `max_hold` says"),
    ("revertOnDeletion", "has no equal: nothing of Kubernetes is changed, so nothing is reverted"),
    ("suspend", "has no equal: use `weir rollout pause`"),
    ("upstreamRef", "has no equal: endpoints are written in this file"),
    ("provider", "has no equal: Weir carries the traffic itself"),
    ("metricsServer", "has no equal: Weir counts requests itself, and each check names the server that it asks"),
];

/// Writes what comes before the rollout.
pub(super) fn write_versions<'f>(page: &mut Page<'f>, service: &Service<'f>) -> Result<(), Wrong> {
    let Service { canary, spec, .. } = service;
    page.cite(canary.node);
    let reference = spec.get("targetRef");
    let of = |field| reference.map_or(Ok(None), |reference| text(reference, field));
    let (kind, version) = (of("kind")?.unwrap_or("workload"), of("apiVersion")?);
    let version = version.map(|version| format!(" ({})", printed(version))).unwrap_or_default();
    let workload = format!("{} {}{version}", printed(kind), printed(service.target));
    page.comment(2, &format!("{}, of the {workload}.", canary.place()));
    for (field, why) in UNEQUAL {
        if let Some(value) = spec.get(field) {
            page.comment(2, &left(value, why));
        }
    }
    page.comment(2, "DECIDE: the addresses. A Canary names Kubernetes services; these are their names.");
    let target_port = service.service.and_then(|service| service.get("targetPort"));
    if let Some(port) = target_port.and_then(|value| Some((place(value), value.text()?))) {
        let (place, port) = port;
        let why = "the services listen on `port`, and the pods, if you name them instead, on this";
        page.comment(2, &format!("{place} is {}: {why}.", printed(port)));
    }
    page.cite(service.service.unwrap_or(canary.node));
    page.line(2, "versions:");
    for version in ["primary", "canary"] {
        let address = site::address(&format!("{}-{version}", service.apex), canary.namespace, service.port);
        page.line(3, &format!("{version}: {{ endpoints: [{}] }}", quoted(&address)));
    }
    page.comment(
        2,
        "Set this to canary to start a rollout. Flagger then copies the canary over the primary; with Weir the",
    );
    page.comment(2, "canary is the stable version from then on, and the next release goes into the other one.");
    page.line(2, "release: primary");
    page.comment(
        2,
        "What serves where no state is known: a new replica, an empty volume. After a rollout, name the other.",
    );
    page.line(2, "stable: primary");
    Ok(())
}

/// Writes what comes after the rollout.
pub(super) fn write_transport<'f>(page: &mut Page<'f>, service: &Service<'f>) -> Result<(), Wrong> {
    if let Some(fields) = service.service {
        site::write_protocol(page, fields, &["portName", "appProtocol"])?;
        if let (Some(limit), Some(value)) = (duration(fields, "timeout")?, fields.get("timeout")) {
            let (limit, comment) = bounded(value, limit, FIRST_BYTE);
            comment.into_iter().for_each(|comment| page.comment(2, &comment));
            page.comment(2, "`service.timeout` is for the whole request; this is for the answer's first byte.");
            page.cite(value);
            page.line(2, &format!("timeouts: {{ first_byte: {limit} }}"));
        }
    }
    match service.analysis.and_then(|analysis| analysis.get("sessionAffinity")) {
        Some(affinity) => write_affinity(page, affinity),
        None => Ok(()),
    }
}

/// What Weir takes for the wait for an answer.
const FIRST_BYTE: (Period, Period) = (Period::from_millis(1), Period::from_secs(86_400));

/// How long Weir's cookie may live.
const TTL: (Period, Period) = (Period::SECOND, Period::from_secs(365 * 86_400));
/// How long Flagger's does.
const MAX_AGE: u32 = 86_400;

fn write_affinity<'f>(page: &mut Page<'f>, affinity: &'f ImportedValue) -> Result<(), Wrong> {
    let Some(cookie) = text(affinity, "cookieName")? else {
        return Err(Wrong::at(affinity, "`sessionAffinity` has no `cookieName`"));
    };
    let age = Period::from_secs(whole_number(affinity, "maxAge", u32::MAX)?.unwrap_or(MAX_AGE).into());
    page.comment(
        2,
        "With Flagger only those whom the canary has answered stay on it, so its share of users climbs past the",
    );
    page.comment(2, "weight. Here the cookie keeps each client on its version, and the share is the weight.");
    if let Some(value) = affinity.get("primaryCookieName") {
        page.comment(2, &left(value, "has no equal: one cookie does for both versions"));
    }
    for (field, own) in [
        ("domain", "no Domain: it is for the host that set it"),
        ("path", "Path=/"),
        ("httpOnly", "HttpOnly"),
        ("secure", "Secure where the client came by TLS"),
        ("sameSite", "SameSite=Lax"),
        ("partitioned", "no Partitioned"),
    ] {
        if let (Some(value), Some(written)) = (affinity.get(field), text(affinity, field)?) {
            page.comment(2, &format!("{} is {}: Weir's cookie has {own}.", place(value), printed(written)));
        }
    }
    let (age, comment) = bounded(affinity.get("maxAge").unwrap_or(affinity), age, TTL);
    comment.into_iter().for_each(|comment| page.comment(2, &comment));
    page.cite(affinity);
    page.line(2, &format!("affinity: {{ cookie: {}, ttl: {age} }}", quoted(cookie)));
    Ok(())
}

/// Fields of `spec.service` that Weir has no equal for, with why.
const SERVICE_UNEQUAL: [(&str, &str); 9] = [
    ("apex", "has no equal: Weir makes no Kubernetes services"),
    ("primary", "has no equal: Weir makes no Kubernetes services"),
    ("canary", "has no equal: Weir makes no Kubernetes services"),
    ("unmanagedMetadata", "has no equal: Weir makes no Kubernetes services"),
    ("portDiscovery", "has no equal: each port is a listener of its own"),
    ("gateways", "has no equal: Weir is the gateway itself"),
    ("gatewayRefs", "has no equal: Weir is the gateway itself"),
    ("meshName", "has no equal: there is no mesh"),
    ("backends", "has no equal: there is no mesh"),
];

/// Writes the routes of the service. `alone`: the file has no other service.
pub(super) fn write_routes<'f>(
    page: &mut Page<'f>,
    name: &str,
    service: &Service<'f>,
    alone: bool,
) -> Result<(), Wrong> {
    let Some(fields) = service.service else { return write_plain_route(page, name, service, alone) };
    page.cite(fields);
    for (field, why) in SERVICE_UNEQUAL {
        if let Some(value) = fields.get(field) {
            page.comment(1, &left(value, why));
        }
    }
    for field in ["rewrite", "retries", "headers", "corsPolicy", "trafficPolicy", "mirror", "backendTimeout"] {
        if let Some(value) = fields.get(field) {
            page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out")));
        }
    }
    for field in ["delegation", "headless"] {
        if let (Some(value), Some(true)) = (fields.get(field), flag(fields, field)?) {
            page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out")));
        } else if let Some(value) = fields.get(field) {
            page.comment(1, &left(value, "is off"));
        }
    }
    let hosts = list(fields, "hosts")?.iter();
    let hosts = hosts.map(|host| host.text().ok_or_else(|| Wrong::at(host, "a host is a text")));
    let hosts: Vec<&str> = hosts.collect::<Result<_, _>>()?;
    let matches = list(fields, "match")?;
    if hosts.is_empty() && matches.is_empty() {
        return write_plain_route(page, name, service, alone);
    }
    let host = if hosts.contains(&"*") {
        page.comment(1, "The host `*` is every host.");
        String::new()
    } else if hosts.is_empty() {
        plain_host(page, name, service, alone)
    } else {
        format!("host: [{}], ", hosts.iter().map(|host| quoted(host)).collect::<Vec<_>>().join(", "))
    };
    if matches.is_empty() {
        page.cite(fields.get("hosts").unwrap_or(fields));
        page.line(1, &format!("- {{ match: {{ {host}path: / }}, service: {name} }}"));
    }
    for condition in matches {
        let (own, tests) = conditions(page, condition)?;
        let host = own.as_ref().unwrap_or(&host);
        // Only a prefix has this field; Istio's is one of the text.
        if tests.starts_with("path: \"") && !tests.starts_with("path: \"/\"") {
            page.comment(1, "A path is a prefix of whole segments here: /api does not match /apix.");
        }
        page.cite(condition);
        page.line(1, &format!("- {{ match: {{ {host}{tests} }}, service: {name} }}"));
    }
    Ok(())
}

fn write_plain_route<'f>(page: &mut Page<'f>, name: &str, service: &Service<'f>, alone: bool) -> Result<(), Wrong> {
    page.cite(service.canary.node);
    let host = plain_host(page, name, service, alone);
    page.line(1, &format!("- {{ match: {{ {host}path: / }}, service: {name} }}"));
    Ok(())
}

fn plain_host(page: &mut Page<'_>, name: &str, service: &Service<'_>, alone: bool) -> String {
    if alone {
        return String::new();
    }
    let host = site::host(name, service.apex, service.canary.namespace);
    page.comment(1, "DECIDE: the hosts by which clients reach it; these are the names that Kubernetes gives.");
    host
}

/// One entry of `service.match` (Istio's HTTPMatchRequest) as fields of a route's match, with a host of its own before them if
/// it says one; what has no equal is named.
fn conditions<'f>(page: &mut Page<'f>, condition: &'f ImportedValue) -> Result<(Option<String>, String), Wrong> {
    let (mut host, mut fields) = (None, Vec::new());
    let mut path = "path: /".to_owned();
    for (field, value) in condition.entries().iter().filter(|(_, value)| !value.is_null()) {
        match field.as_str() {
            "name" => page.comment(1, &left(value, "is the name of this match")),
            "uri" => match string_match(value)? {
                Some(("exact", text)) => path = format!("exact: {}", quoted(text)),
                Some(("regex", text)) => path = format!("regex: {}", quoted(text)),
                // A prefix of Weir ends at a segment; Istio's does not, except where it ends in a slash.
                Some((_, text)) => path = format!("path: {}", quoted(text)),
                None => page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out"))),
            },
            "method" => match string_match(value)? {
                Some(("exact", method)) => fields.push(format!("method: [{}]", quoted(method))),
                _ => page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out"))),
            },
            "authority" => match string_match(value)? {
                Some(("exact", authority)) => host = Some(format!("host: {}, ", quoted(authority))),
                _ => page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out"))),
            },
            "headers" => fields.extend(header_tests(page, value)?),
            _ => page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out"))),
        }
    }
    fields.insert(0, path);
    Ok((host, fields.join(", ")))
}

fn header_tests<'f>(page: &mut Page<'f>, headers: &'f ImportedValue) -> Result<Option<String>, Wrong> {
    let mut tests = Vec::new();
    for (header, value) in headers.entries() {
        match string_match(value)? {
            Some(("exact", text)) => tests.push(format!("{}: {}", quoted(header), quoted(text))),
            Some((how, text)) => tests.push(format!("{}: {{ {how}: {} }}", quoted(header), quoted(text))),
            None => page.comment(1, &format!("DECIDE: {}", left(value, "has no equal and was left out"))),
        }
    }
    Ok((!tests.is_empty()).then(|| format!("headers: {{ {} }}", tests.join(", "))))
}

/// How a text is compared, and with what, if Weir can do so.
fn string_match(value: &ImportedValue) -> Result<Option<(&'static str, &str)>, Wrong> {
    for how in ["exact", "prefix", "regex"] {
        if let Some(text) = text(value, how)? {
            return Ok(Some((how, text)));
        }
    }
    Ok(None)
}
