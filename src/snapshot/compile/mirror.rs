//! The mirror of a service, as requests read it.

use std::sync::Arc;

use crate::config;
use crate::model::Name;
use crate::snapshot::live::EndpointRegistry;
use crate::snapshot::{Mirror, Version};
use crate::telemetry::Recorder;

/// Compiles the mirror of a service with these versions, if it has one.
pub(super) fn compile(
    (service, file): (&Name, &config::Service),
    versions: &[Version],
    registry: &mut EndpointRegistry,
    recorder: &Recorder,
) -> Option<Arc<Mirror>> {
    let config::Mirror { to, from, share, methods, strip, max_body, compare, compare_headers, max_in_flight, timeout } =
        file.mirror.as_ref()?;
    let index = |name: &Name| versions.iter().position(|version| version.name == *name);
    Some(Arc::new(Mirror {
        service: service.clone(),
        to: to.clone(),
        to_at: index(to)?,
        from: from.as_ref().and_then(index),
        share: *share,
        methods: methods.iter().map(|method| method.as_str().into()).collect(),
        strip: strip.iter().map(|name| name.as_str().into()).collect(),
        compare: compare.then(|| compare_headers.iter().map(|name| name.as_str().into()).collect()),
        max_body: usize::try_from(max_body.get()).unwrap_or(usize::MAX),
        max_in_flight: u64::from(*max_in_flight),
        timeout: timeout.get(),
        live: registry.mirror(service, to, recorder.mirror(service, to)),
    }))
}
