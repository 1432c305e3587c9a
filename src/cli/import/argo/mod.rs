//! Rollout resources of Argo Rollouts (`argoproj.io/v1alpha1`) as services with rollouts.
//!
//! ```text
//! Rollout ─┬─ services, Service ─────────────► versions, routes            service.rs
//!          ├─ canary.steps ──────────────────► steps, gates, override      steps.rs
//!          ├─ analyses, AnalysisTemplates ───► metrics with arguments      analysis.rs
//!          └─ metrics ─► conditions ─────────► checks, failures            metrics.rs, condition.rs
//! ```
//!
//! Argo's meanings and defaults: `pkg/apis/rollouts/v1alpha1/{types,analysis_types}.go` and `utils/defaults/defaults.go` of
//! argoproj/argo-rollouts.
//!
//! Invariant: what is in a Rollout, and in what it refers to, is carried over or named; [`unknown`] names the rest.

mod analysis;
mod condition;
mod metrics;
mod service;
mod steps;
mod strategy;

use self::analysis::Templates;
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
    if found.rollouts.is_empty() {
        return Err(Wrong::nothing(documents, "Rollout"));
    }
    write(documents, &found)
}

/// The version whose fields are known.
const ARGO: &str = "argoproj.io/v1alpha1";

/// The resources of the files, by what they are here.
#[derive(Default)]
struct Found<'f> {
    rollouts: Vec<Resource<'f>>,
    templates: Templates<'f>,
    services: Vec<Resource<'f>>,
    /// Of which nothing is taken.
    others: Vec<Resource<'f>>,
}

impl<'f> Found<'f> {
    fn sort(&mut self, resource: Resource<'f>) -> Result<(), Wrong> {
        let (list, known) = match resource.kind {
            "Rollout" => (&mut self.rollouts, ARGO),
            "AnalysisTemplate" => (&mut self.templates.own, ARGO),
            "ClusterAnalysisTemplate" => (&mut self.templates.cluster, ARGO),
            "Service" => (&mut self.services, "v1"),
            _ => {
                self.others.push(resource);
                return Ok(());
            }
        };
        resource.check_version(&[known])?;
        list.push(resource);
        Ok(())
    }
}

fn write<'f>(documents: &'f [ImportedValue], found: &Found<'f>) -> Result<Page<'f>, Wrong> {
    let services = found.rollouts.iter().map(|rollout| Service::of(*rollout, &found.services));
    let services = services.collect::<Result<Vec<_>, _>>()?;
    let called: Vec<_> = services.iter().map(|service| (service.rollout, service.rollout.name)).collect();
    let mut services: Vec<_> = site::names(&called)?.into_iter().zip(services).collect();
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    let alone = services.len() == 1;
    let mut sections = Vec::with_capacity(services.len());
    for (name, service) in services {
        let (mut lines, mut routes) = (Page::default(), Page::default());
        service::write_versions(&mut lines, &service);
        strategy::write(&mut lines, &service, &found.templates)?;
        service::write_transport(&mut lines, &service)?;
        service::write_route(&mut routes, &name, &service, alone);
        if let Some(rest) = unknown(service.rollout.node) {
            lines.comment(2, &rest);
        }
        sections.push(Section { from: service.rollout.node, name, port: service.ports[0], service: lines, routes });
    }
    let mut end = Page::default();
    for resource in found.templates.own.iter().chain(&found.templates.cluster) {
        site::write_rest(&mut end, resource);
    }
    for service in &found.services {
        service.node.name_all();
        end.comment(0, &format!("Left out: all but the first port of {}.", service.place()));
    }
    let others: Vec<&Resource<'f>> = found.others.iter().collect();
    let mut page = site::write("Argo Rollouts", &others, sections, Page::default(), end);
    documents.iter().filter_map(unknown).for_each(|rest| page.comment(0, &rest));
    Ok(page)
}

#[cfg(test)]
mod tests;
