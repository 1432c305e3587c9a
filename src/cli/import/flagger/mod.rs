//! Flagger's Canary resources (`flagger.app/v1beta1`) as services with rollouts.
//!
//! ```text
//! Canary ─┬─ service ──► versions, timeouts, affinity, routes             service.rs
//!         ├─ analysis ─► steps, failures                                  analysis.rs
//!         ├─ metrics, MetricTemplates ─► checks                           metrics.rs
//!         └─ webhooks, alerts, AlertProviders ─► hooks, receivers         calls.rs
//! ```
//!
//! Flagger's meanings and defaults: `pkg/apis/flagger/v1beta1/canary.go` and `pkg/controller/scheduler*.go` of
//! fluxcd/flagger. A Canary knows Kubernetes services and no addresses, so those are placeholders.
//!
//! Invariant: what is in a Canary, and in what it refers to, is carried over or named; [`unknown`] names the rest.

mod analysis;
mod calls;
mod metrics;
mod service;

use self::calls::Receivers;
use self::service::Service;
use super::field::{Wrong, unknown};
use super::page::Page;
use super::resource::{Resource, resources};
use super::site::{self, Section};
use crate::config::ImportedValue;

/// The Weir configuration of what `documents` hold.
pub(super) fn convert(documents: &[ImportedValue]) -> Result<Page<'_>, Wrong> {
    let mut found = Found::default();
    for resource in resources(documents)? {
        found.sort(resource)?;
    }
    if found.canaries.is_empty() {
        return Err(Wrong::nothing(documents, "Canary"));
    }
    write(documents, &found)
}

/// The resources of the files, by what they are here.
#[derive(Default)]
struct Found<'f> {
    canaries: Vec<Resource<'f>>,
    templates: Vec<Resource<'f>>,
    providers: Vec<Resource<'f>>,
    /// Of which nothing is taken.
    others: Vec<Resource<'f>>,
}

impl<'f> Found<'f> {
    fn sort(&mut self, resource: Resource<'f>) -> Result<(), Wrong> {
        let (list, known): (_, &[&str]) = match resource.kind {
            "Canary" => (&mut self.canaries, &["flagger.app/v1beta1"]),
            "MetricTemplate" => (&mut self.templates, &["flagger.app/v1beta1", "flagger.app/v1alpha1"]),
            "AlertProvider" => (&mut self.providers, &["flagger.app/v1beta1", "flagger.app/v1alpha1"]),
            _ => {
                self.others.push(resource);
                return Ok(());
            }
        };
        resource.check_version(known)?;
        list.push(resource);
        Ok(())
    }
}

fn write<'f>(documents: &'f [ImportedValue], found: &Found<'f>) -> Result<Page<'f>, Wrong> {
    let services = found.canaries.iter().map(|canary| Service::of(*canary)).collect::<Result<Vec<_>, _>>()?;
    let called: Vec<_> = services.iter().map(|service| (service.canary, service.apex)).collect();
    let mut services: Vec<_> = site::names(&called)?.into_iter().zip(services).collect();
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    let alone = services.len() == 1;
    let mut receivers = Receivers::default();
    let mut sections = Vec::with_capacity(services.len());
    for (name, service) in services {
        let (mut lines, mut routes) = (Page::default(), Page::default());
        service::write_versions(&mut lines, &service)?;
        let calls = calls::collect(&name, &service, &found.providers, &mut receivers)?;
        analysis::write(&mut lines, &service, &found.templates, calls)?;
        service::write_transport(&mut lines, &service)?;
        service::write_routes(&mut routes, &name, &service, alone)?;
        if let Some(rest) = unknown(service.canary.node) {
            lines.comment(2, &rest);
        }
        sections.push(Section { from: service.canary.node, name, port: service.port, service: lines, routes });
    }
    let mut end = Page::default();
    for resource in found.templates.iter().chain(&found.providers) {
        site::write_rest(&mut end, resource);
    }
    let others: Vec<&Resource<'f>> = found.others.iter().collect();
    let mut page = site::write("Flagger", &others, sections, receivers.page, end);
    documents.iter().filter_map(unknown).for_each(|rest| page.comment(0, &rest));
    Ok(page)
}

#[cfg(test)]
mod tests;
