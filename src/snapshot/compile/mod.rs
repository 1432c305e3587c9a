//! Configuration, shifts, states and what was read from files → one [`Snapshot`].
//!
//! All that can be decided before a request comes is decided here: names become indices, labels become
//! counters, weights become a schedule. Compiling never fails half-way: it gives a snapshot, or the reasons why there
//! is none.
//!
//! It is incremental: a service of which nothing changed is shared with the snapshot before, and so is the route table
//! while neither routes nor the names of versions that they count by have changed.
//!
//! Invariant: compiling the same input twice gives the same decisions, whatever was shared, and what outlives a
//! snapshot (availability, work in flight, counters, split positions) is found again by identity, so a reload disturbs
//! nothing.

mod clients;
mod cohorts;
mod health;
mod inputs;
mod limits;
mod mirror;
mod routes;
mod service;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::inputs::{Inputs, Previous};
pub use self::routes::InvalidRoutes;
pub(crate) use self::service::FLAG_HEADER;
use self::service::ServiceCompiler;
use super::compiled::Snapshot;
pub use super::live::States;
use super::service::Service;
use crate::config::Config;
use crate::coop::in_pieces;
use crate::telemetry::Recorder;
use crate::traffic::split::Schedules;

/// Compiles snapshots, one after the other.
pub struct Compiler {
    services: ServiceCompiler,
    recorder: Arc<Recorder>,
    revision: u64,
}

impl Compiler {
    /// A compiler that resolves counters in `recorder`.
    #[must_use]
    pub fn new(recorder: Arc<Recorder>) -> Self {
        Self { services: ServiceCompiler::new(Arc::clone(&recorder)), recorder, revision: 0 }
    }

    /// Compiles the next snapshot. What it can share with `previous` it shares.
    ///
    /// # Errors
    /// Why routes cannot be compiled.
    pub fn compile(
        &mut self,
        config: &Config,
        inputs: &Inputs,
        previous: Option<Previous<'_>>,
    ) -> Result<Snapshot, InvalidRoutes> {
        let services = self.compile_services(config, inputs, previous);
        let kept = previous.filter(|before| routes::can_keep(config, &services, *before));
        let table = match kept {
            Some(before) => Arc::clone(&before.snapshot.table),
            None => Arc::new(routes::compile(config, &services, &self.recorder)?),
        };
        self.revision += 1;
        Ok(Snapshot {
            revision: self.revision,
            hash: config.hash(),
            limits: limits::of_file(config),
            listener_limits: limits::of_listeners(config),
            client: limits::of_clients(&config.limits),
            trusted_proxies: config.trusted_proxies.iter().map(|cidr| cidr.get()).collect(),
            certificates: inputs.certificates.clone(),
            health: Arc::clone(self.services.health_changes()),
            table,
            flags: flags(config, &services),
            services,
        })
    }

    fn compile_services(
        &mut self,
        config: &Config,
        inputs: &Inputs,
        previous: Option<Previous<'_>>,
    ) -> Vec<Arc<Service>> {
        let same_file = previous.is_some_and(|before| std::ptr::eq(before.config, config));
        let before = previous.map(|before| &*before.snapshot.services).unwrap_or_default();
        let by_name: HashMap<&str, &Arc<Service>> =
            if same_file { HashMap::new() } else { before.iter().map(|service| (&*service.name, service)).collect() };
        // Of this compile only: splits that are kept hold theirs, and deficits make nearly each one another.
        let mut schedules = Schedules::default();
        let mut services = Vec::with_capacity(config.services.len());
        for (at, (name, file)) in in_pieces(config.services.iter().enumerate()) {
            // Of the same file services have the same places.
            let before = if same_file { before.get(at) } else { by_name.get(&**name).copied() };
            let same = before.filter(|before| {
                let same_section = same_file
                    || previous.and_then(|previous| previous.config.services.get(name)).is_some_and(|old| old == file);
                same_section && service::is_same(before, file, inputs)
            });
            services.push(match same {
                Some(service) => Arc::clone(service),
                None => Arc::new(self.services.compile(
                    (name, file),
                    inputs,
                    before.map(|before| &**before),
                    &mut schedules,
                )),
            });
        }
        services
    }
}

/// The flags of each service, in the order of the file; nothing at all where the file has no flag.
fn flags(config: &Config, services: &[Arc<Service>]) -> Vec<Box<[Arc<Service>]>> {
    if config.flags.is_empty() {
        return Vec::new();
    }
    let places: HashMap<&str, usize> = services.iter().enumerate().map(|(at, service)| (&*service.name, at)).collect();
    let mut flags = vec![Vec::new(); services.len()];
    for (name, file) in config.services.iter() {
        let Some((settings, &at)) = file.flag.as_ref().zip(places.get(&**name)) else { continue };
        let Some(flag) = services.get(at) else { continue };
        for service in &settings.services {
            if let Some(of) = places.get(&**service).and_then(|at| flags.get_mut(*at)) {
                of.push(Arc::clone(flag));
            }
        }
    }
    flags.into_iter().map(Vec::into_boxed_slice).collect()
}

#[cfg(test)]
mod tests;
