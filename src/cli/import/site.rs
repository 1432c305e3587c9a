//! The whole file that is written: what both importers put around their services.

use std::collections::HashMap;

use super::field::{Wrong, place, printed, text, unknown};
use super::page::{Page, name, quoted};
use super::resource::Resource;
use crate::config::ImportedValue;

/// One service of the file.
pub(super) struct Section<'f> {
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
    let mut times: HashMap<String, usize> = HashMap::new();
    for (_, wanted) in called {
        *times.entry(name(wanted)).or_default() += 1;
    }
    let mut names = Vec::with_capacity(called.len());
    let mut taken: HashMap<String, &ImportedValue> = HashMap::new();
    for (resource, wanted) in called {
        let mut own = name(wanted);
        if times.get(&own).is_some_and(|times| *times > 1) {
            own = format!("{own}.{}", name(resource.namespace.unwrap_or("default")));
        }
        if let Some(first) = taken.insert(own.clone(), resource.node) {
            let kind = printed(resource.kind);
            let first = format!("{}:{}", printed(first.file()), first.line);
            let what = format!("a second {kind} leads to a service named {}; the first is at {first}", quoted(&own));
            return Err(Wrong::at(resource.node, what));
        }
        names.push(own);
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

/// Where a Kubernetes service listens, as far as its namespace is known.
pub(super) fn address(service: &str, namespace: Option<&str>, port: u16) -> String {
    let namespace = namespace.map(|namespace| format!(".{}", name(namespace))).unwrap_or_default();
    format!("{}{namespace}:{port}", name(service))
}

/// The condition on the host of a route to the Kubernetes service, which is called `own` here.
pub(super) fn host(own: &str, service: &str, namespace: Option<&str>) -> String {
    let service = name(service);
    let Some(namespace) = namespace.map(name) else { return format!("host: {service}, ") };
    // Its bare name may be that of another one as well, in another namespace.
    let bare = if own == service { format!("{service}, ") } else { String::new() };
    format!("host: [{bare}{service}.{namespace}, {service}.{namespace}.svc.cluster.local], ")
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
