//! What is compiled besides the file, and what was compiled before.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::model::{Name, ResolvedAddress, Split, SplitKey};
use crate::snapshot::live::{CircuitBreaker, FaultInjection, States};
use crate::snapshot::{ListenerTls, Snapshot, UpstreamTls};
use crate::traffic::split::SigningKeys;

/// What is compiled besides the file itself.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Splits over the file's, of services and of their cohorts.
    pub(crate) shifts: BTreeMap<SplitKey, Split>,
    /// States over the file's.
    pub(crate) states: States,
    /// Certificates and keys, by listener.
    pub(crate) certificates: HashMap<Name, ListenerTls>,
    /// TLS towards endpoints, by what the file says of it.
    pub(crate) upstream_tls: Vec<(config::UpstreamTls, UpstreamTls)>,
    /// Keys that sign what clients say, by their file.
    pub(crate) signing_keys: HashMap<PathBuf, SigningKeys>,
    /// The canaries of rollouts that go forward, or wait to, by service.
    pub(crate) canaries: BTreeMap<Name, Name>,
    /// The addresses behind DNS names, by the endpoint as the file spells it.
    pub(crate) resolved: HashMap<String, Vec<ResolvedAddress>>,
    /// Circuit breakers of canaries, by service and version.
    pub(crate) breakers: BTreeMap<(Name, Name), Arc<CircuitBreaker>>,
    /// Faults that are injected, by service and version.
    pub(crate) faults: BTreeMap<(Name, Name), Arc<FaultInjection>>,
}

impl Inputs {
    /// The split in effect of a service, or of a cohort of it, of which the file says `split`.
    pub(super) fn split<'a>(&'a self, service: &Name, cohort: Option<&Name>, split: &'a Split) -> &'a Split {
        if self.shifts.is_empty() {
            return split;
        }
        let key = SplitKey { service: service.clone(), cohort: cohort.cloned() };
        self.shifts.get(&key).unwrap_or(split)
    }
}

/// What is in effect, and the file that it was compiled from.
#[derive(Clone, Copy)]
pub struct Previous<'a> {
    /// The file.
    pub config: &'a Config,
    /// The snapshot.
    pub snapshot: &'a Snapshot,
}
