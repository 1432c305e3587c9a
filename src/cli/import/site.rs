//! The whole file that is written: what both importers put around their services.

use std::collections::HashMap;

use super::field::{Wrong, place, printed, text, unknown};
use super::page::{Page, free_name, name, quoted};
use super::resource::Resource;
use crate::config::ImportedValue;

/// One service of the file.
pub(super) struct Section<'f> {
    /// The resource that it comes from.
    pub(super) from: &'f ImportedValue,
    /// Its name, which no other has.
    pub(super) name: String,
    /// On which port clients reach it.
    pub(super) port: u16,
    /// What stands below its name, at level 2.
    pub(super) service: Page<'f>,
    /// Its routes, at level 1.
    pub(super) routes: Page<'f>,
}

/// The file with these services. `left` are resources that were not read, `end` comments at its end.
pub(super) fn write<'f>(
    from: &str,
    left: &[&Resource<'f>],
    sections: Vec<Section<'f>>,
    alerts: Page<'f>,
    end: Page<'f>,
) -> Page<'f> {
    let mut page = Page::default();
    page.comment(0, &format!("Imported from {from}. Lines with DECIDE need a decision; the others say what differs."));
    for resource in left {
        resource.node.name_all();
        page.comment(0, &format!("Left out: {}.", resource.place()));
    }
    page.line(0, "version: 1");
    page.line(0, "");
    let mut ports: Vec<u16> = sections.iter().map(|section| section.port).collect();
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
    let mut routes = Page::default();
    for section in sections {
        page.cite(section.from);
        page.line(1, &format!("{}:", section.name));
        page.append(section.service);
        routes.append(section.routes);
    }
    page.line(0, "");
    if !alerts.text().is_empty() {
        page.line(0, "alerts:");
        page.append(alerts);
        page.line(0, "");
    }
    page.line(0, "routes:");
    page.append(routes);
    page.append(end);
    page
}

/// The names of the services of these resources, which are called so: with the namespace where two are called the same.
pub(super) fn names(called: &[(Resource<'_>, &str)]) -> Result<Vec<String>, Wrong> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    let mut first: HashMap<(&str, Option<&str>), &ImportedValue> = HashMap::new();
    for (resource, wanted) in called {
        *times.entry(wanted).or_default() += 1;
        if let Some(first) = first.insert((wanted, resource.namespace), resource.node) {
            let (kind, first) = (printed(resource.kind), format!("{}:{}", printed(first.file()), first.line));
            let name = quoted(wanted);
            let what = format!("a second {kind} leads to a service named {name}; the first is at {first}");
            return Err(Wrong::at(resource.node, what));
        }
    }
    let mut taken = HashMap::new();
    let mut names = Vec::with_capacity(called.len());
    for (resource, wanted) in called {
        let several = times.get(wanted).is_some_and(|times| *times > 1);
        let namespace = several.then(|| format!(".{}", name(resource.namespace.unwrap_or("default"))));
        names.push(free_name(&format!("{}{}", name(wanted), namespace.unwrap_or_default()), &mut taken));
    }
    Ok(names)
}

/// Names what nobody asked for in a resource that others refer to.
pub(super) fn write_rest(page: &mut Page<'_>, resource: &Resource<'_>) {
    let spec = resource.node.get("spec");
    if spec.is_none_or(|spec| spec.unseen().iter().any(|value| std::ptr::eq(*value, spec))) {
        resource.node.name_all();
        page.comment(0, &format!("Left out: {}: nothing here refers to it.", resource.place()));
    } else if let Some(rest) = unknown(resource.node) {
        page.comment(0, &format!("{}: {rest}", resource.place()));
    }
}

/// Where a Kubernetes service listens, as far as its namespace is known; not quoted.
pub(super) fn address(service: &str, namespace: Option<&str>, port: u16) -> String {
    let namespace = namespace.map(|namespace| format!(".{namespace}")).unwrap_or_default();
    format!("{service}{namespace}:{port}")
}

/// The condition on the host of a route to the Kubernetes service, which is called `own` here.
pub(super) fn host(own: &str, service: &str, namespace: Option<&str>) -> String {
    let mut hosts = Vec::new();
    // Its bare name may be that of another one as well, in another namespace.
    if own == service || namespace.is_none() {
        hosts.push(quoted(service));
    }
    if let Some(namespace) = namespace {
        let full = format!("{service}.{namespace}");
        hosts.extend([quoted(&full), quoted(&format!("{full}.svc.cluster.local"))]);
    }
    format!("host: [{}], ", hosts.join(", "))
}

/// The protocol, which Kubernetes and the meshes tell from the port's name or from `appProtocol`.
pub(super) fn write_protocol<'f>(page: &mut Page<'f>, fields: &'f ImportedValue, named: &[&str]) -> Result<(), Wrong> {
    for field in named {
        let (Some(written), Some(value)) = (text(fields, field)?, fields.get(field)) else { continue };
        let first = written.split_once('-').map_or(written, |(first, _)| first);
        match (first, written) {
            ("grpc" | "http2" | "h2c" | "h2", _) | (_, "kubernetes.io/h2c") => {
                page.cite(value);
                page.line(2, &format!("protocol: h2 # {field}: {}", printed(written)));
                return Ok(());
            }
            ("https" | "tls", _) => {
                let what = format!("DECIDE: {} is {}: add `tls:`", place(value), printed(written));
                page.comment(2, &format!("{what} with what verifies the endpoints, if they speak TLS."));
            }
            _ => page.comment(2, &format!("{} is {}; the endpoints speak HTTP/1.1.", place(value), printed(written))),
        }
    }
    Ok(())
}
