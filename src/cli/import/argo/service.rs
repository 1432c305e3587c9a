//! A Rollout's services: where its versions are reached, and how clients get there.

use super::super::field::{Wrong, left, place, text, whole_number};
use super::super::page::{LONGEST_BASE, Page, name, quoted};
use super::super::resource::{Resource, find};
use super::super::site;
use crate::config::ImportedValue;

/// What one Rollout is to Weir.
pub(super) struct Service<'f> {
    pub(super) rollout: Resource<'f>,
    pub(super) spec: &'f ImportedValue,
    pub(super) strategy: Strategy<'f>,
    /// The Kubernetes services of the stable version and of the canary, as far as they are said.
    pub(super) stable: Option<&'f str>,
    pub(super) canary: Option<&'f str>,
    /// Where the stable version listens, and the canary.
    pub(super) ports: [u16; 2],
    /// The Service of the stable version.
    listed: Option<Resource<'f>>,
    /// Where its port is said, for a person.
    from: String,
}

/// How a Rollout shifts traffic.
#[derive(Clone, Copy)]
pub(super) enum Strategy<'f> {
    Canary(&'f ImportedValue),
    BlueGreen(&'f ImportedValue),
}

impl<'f> Service<'f> {
    pub(super) fn of(rollout: Resource<'f>, services: &[Resource<'f>]) -> Result<Self, Wrong> {
        let spec = rollout.spec()?;
        let strategy = spec.get("strategy");
        let strategy = match strategy.map(|strategy| (strategy.get("canary"), strategy.get("blueGreen"))) {
            Some((Some(canary), _)) => Strategy::Canary(canary),
            Some((None, Some(blue_green))) => Strategy::BlueGreen(blue_green),
            Some((None, None)) | None => {
                return Err(Wrong::at(spec, "the `strategy` of this Rollout is neither `canary` nor `blueGreen`"));
            }
        };
        let (stable, canary) = match strategy {
            Strategy::Canary(node) => {
                let pair = node.get("pingPong");
                let of = |field| pair.map_or(Ok(None), |pair| text(pair, field));
                let (ping, pong) = (of("pingService")?, of("pongService")?);
                (text(node, "stableService")?.or(ping), text(node, "canaryService")?.or(pong))
            }
            Strategy::BlueGreen(node) => (text(node, "activeService")?, text(node, "previewService")?),
        };
        let service = |name: Option<&str>| find(services, name?, rollout.namespace).copied();
        let (listed, other) = (service(stable.or(Some(rollout.name))), service(canary));
        let of_service = |service: Resource<'f>| first_port(service.node.get("spec"), "port");
        let mut port = listed.map(of_service).transpose()?.flatten();
        let mut from = listed.map_or_else(String::new, |listed| format!("that of {}", listed.place()));
        if port.is_none() {
            let pods = spec.get("template").and_then(|template| template.get("spec"));
            port = first_port(pods.and_then(|pods| pods.get("containers")?.items()?.first()), "containerPort")?;
            from = if port.is_some() { "that of the first container" } else { "a guess" }.to_owned();
        }
        let port = port.unwrap_or(80);
        let of_canary = other.map(of_service).transpose()?.flatten().unwrap_or(port);
        Ok(Self { rollout, spec, strategy, stable, canary, ports: [port, of_canary], listed, from })
    }

    /// By what name clients reach it.
    pub(super) fn entry(&self) -> &'f str {
        self.stable.unwrap_or(self.rollout.name)
    }
}

fn first_port(node: Option<&ImportedValue>, port: &str) -> Result<Option<u16>, Wrong> {
    let first = node.and_then(|node| node.get("ports")?.items()?.first());
    let port = first.map(|first| whole_number(first, port, u16::MAX.into())).transpose()?.flatten();
    Ok(port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0))
}

/// Fields of `spec` that Weir has no equal for, with why.
const UNEQUAL: [(&str, &str); 12] = [
    ("replicas", "has no equal: Weir scales nothing"),
    ("selector", "has no equal: endpoints are written in this file"),
    ("template", "has no equal: Weir starts no pods"),
    ("workloadRef", "has no equal: Weir starts no pods"),
    ("minReadySeconds", "has no equal: a version with a ready endpoint can have traffic"),
    ("revisionHistoryLimit", "has no equal: `weir rollout history` has the last 200 decisions"),
    ("analysis", "has no equal: `weir rollout history` has the last 400 analysis runs"),
    ("paused", "has no equal: use `weir rollout pause`"),
    ("progressDeadlineSeconds", "has no equal: Weir waits for health, and for data as long as `max_hold` says"),
    ("progressDeadlineAbort", "has no equal: Weir waits for health"),
    ("restartAt", "has no equal: Weir starts no pods"),
    ("rollbackWindow", "has no equal: `weir rollout undo` goes back to the version before at once"),
];

/// Writes what comes before the rollout.
pub(super) fn write_versions<'f>(page: &mut Page<'f>, service: &Service<'f>) {
    let Service { rollout, spec, .. } = service;
    page.cite(rollout.node);
    page.comment(2, &format!("{}.", rollout.place()));
    for (field, why) in UNEQUAL {
        if let Some(value) = spec.get(field) {
            page.comment(2, &left(value, why));
        }
    }
    let from = &service.from;
    page.comment(2, &format!("DECIDE: the addresses. A Rollout names Kubernetes services; the port is {from}."));
    page.line(2, "versions:");
    // No service is said: what stands there has the form of an address, whatever the Rollout's name is.
    let base: String = name(rollout.name).chars().take(LONGEST_BASE).collect();
    let placeholder = |version: &str| format!("{base}-{version}");
    let versions = [("stable", service.stable), ("canary", service.canary)];
    for ((version, said), port) in versions.into_iter().zip(service.ports) {
        let named = said.map_or_else(|| placeholder(version), str::to_owned);
        let address = site::address(&named, rollout.namespace, port);
        page.line(3, &format!("{version}: {{ endpoints: [{}] }}", quoted(&address)));
    }
    page.comment(
        2,
        "Set this to canary to start a rollout. Argo then makes the canary's pods the stable ones; with Weir the",
    );
    page.comment(2, "canary is the stable version from then on, and the next release goes into the other one.");
    page.line(2, "release: stable");
    page.comment(
        2,
        "What serves where no state is known: a new replica, an empty volume. After a rollout, name the other.",
    );
    page.line(2, "stable: stable");
}

/// Writes what comes after the rollout.
pub(super) fn write_transport<'f>(page: &mut Page<'f>, service: &Service<'f>) -> Result<(), Wrong> {
    let ports = service.listed.and_then(|listed| listed.node.get("spec")?.get("ports"));
    let Some(port) = ports.and_then(|ports| ports.items()?.first()) else { return Ok(()) };
    site::write_protocol(page, port, &["appProtocol", "name"])
}

/// Writes the route of the service, which is called `own`. `alone`: the file has no other service.
pub(super) fn write_route<'f>(page: &mut Page<'f>, own: &str, service: &Service<'f>, alone: bool) {
    page.cite(service.rollout.node);
    let host = if alone {
        String::new()
    } else {
        page.comment(1, "DECIDE: the hosts by which clients reach it; these are the names that Kubernetes gives.");
        site::host(own, service.entry(), service.rollout.namespace)
    };
    page.line(1, &format!("- {{ match: {{ {host}path: / }}, service: {own} }}"));
}

/// Writes a comment for each of these fields that is there.
pub(super) fn write_left<'f>(page: &mut Page<'f>, node: &'f ImportedValue, fields: &[(&str, &str)]) {
    for (field, why) in fields {
        if let Some(value) = node.get(field) {
            page.comment(3, &left(value, why));
        }
    }
}

/// How long the version before stays warm: what is said, or Argo's own.
pub(super) fn bake<'f>(page: &mut Page<'f>, node: &'f ImportedValue, own: u32) -> Result<u32, Wrong> {
    let stated = whole_number(node, "scaleDownDelaySeconds", 7 * 86_400)?;
    if let Some(value) = node.get("scaleDownDelaySeconds") {
        page.comment(3, &format!("{} is `bake`: in that time the checks can still roll back.", place(value)));
        page.cite(value);
    }
    Ok(stated.unwrap_or(own))
}
