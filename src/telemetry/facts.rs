//! What the current snapshot says about itself, and the rollouts: weights, endpoints, the configuration's hash, phases.
//!
//! These are no counts but statements about a moment: they are asked for at each scrape, of whoever owns them. An
//! endpoint that left the snapshot and its drain is simply not in the next answer.

use std::time::SystemTime;

use super::label::{CheckResult, EjectionReason, EndpointFailure};
use crate::model::{EndpointState, Name, Weight};

/// Says what is exposed as gauges at this moment.
pub(crate) trait FactSource: Send + Sync {
    /// The facts of this moment.
    fn facts(&self) -> SnapshotFacts;
}

impl FactSource for SnapshotFacts {
    fn facts(&self) -> Self {
        self.clone()
    }
}

/// What is exposed as gauges at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SnapshotFacts {
    /// Hash of the configuration in effect; empty until one is.
    pub(crate) config_hash: String,
    /// The versions' shares of their services' traffic.
    pub(crate) weights: Vec<WeightFact>,
    /// The endpoints, those that drain after leaving the file included.
    pub(crate) endpoints: Vec<EndpointFact>,
    /// The DNS names of endpoints.
    pub(crate) names: Vec<NameFact>,
    /// The services whose versions are rolled out.
    pub(crate) rollouts: Vec<RolloutFact>,
}

/// A version's share of its service's traffic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightFact {
    /// The service's name.
    pub(crate) service: Name,
    /// The version's name.
    pub(crate) version: Name,
    /// The weight of the file's split, or of the shift over it.
    pub(crate) configured: Weight,
    /// The share (0 to 1) that new requests without affinity get: what takes no traffic passes its share on.
    pub(crate) effective: f64,
    /// Whether the health of its endpoints is ignored, as few are left.
    pub(crate) panics: bool,
    /// Its limits, each with what is in use and what waits.
    pub(crate) limits: Vec<LimitFact>,
}

/// A limit of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitFact {
    /// `requests` or `connections`.
    pub(crate) limited: &'static str,
    /// What is in use of it.
    pub(crate) used: usize,
    /// Who waits.
    pub(crate) waiting: usize,
}

/// An endpoint and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointFact {
    /// The service's name.
    pub(crate) service: Name,
    /// The version's name.
    pub(crate) version: Name,
    /// The endpoint's address, as the file spells it.
    pub(crate) endpoint: Name,
    /// Whether it can take requests: it is healthy, as far as is known.
    pub(crate) up: bool,
    /// What the operator wants of it.
    pub(crate) state: EndpointState,
    /// What happened on it.
    pub(crate) counts: EndpointCounts,
}

/// What happened on an endpoint since it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndpointCounts {
    /// Connections that were made.
    pub(crate) connects: u64,
    /// What failed, by cause.
    pub(crate) failures: Vec<(EndpointFailure, u64)>,
    /// Checks, by how they ended.
    pub(crate) checks: Vec<(CheckResult, u64)>,
    /// How often it was taken out, by reason.
    pub(crate) ejections: Vec<(EjectionReason, u64)>,
}

impl EndpointCounts {
    /// Whether there is anything to see.
    pub(super) fn is_used(&self) -> bool {
        self.connects > 0
            || self.checks.iter().any(|(_, count)| *count > 0)
            || self.failures.iter().any(|(_, count)| *count > 0)
    }
}

/// A DNS name of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameFact {
    /// The name, as the file spells it.
    pub(crate) name: Name,
    /// When it was last looked up with success; none before the first.
    pub(crate) answered: Option<SystemTime>,
}

/// Where a service's rollout is, and how often things happened in it since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RolloutFact {
    /// The service's name.
    pub(crate) service: Name,
    /// The word for its phase; one of `phases`.
    pub(crate) phase: &'static str,
    /// All words for phases.
    pub(crate) phases: &'static [&'static str],
    /// Steps taken.
    pub(crate) step: u64,
    /// Verdicts: the check, what it found, how often.
    pub(crate) checks: Vec<(Name, &'static str, u64)>,
    /// Transitions: to which phase, who decided, how often.
    pub(crate) transitions: Vec<(&'static str, &'static str, u64)>,
}

impl EndpointFact {
    fn identity(&self) -> (Name, Name, Name) {
        (self.service.clone(), self.version.clone(), self.endpoint.clone())
    }
}

impl SnapshotFacts {
    /// In order of identity, each identity once: two samples of one series would spoil the whole scrape.
    pub(super) fn in_order(mut self) -> Self {
        self.weights.sort_by(|a, b| (&a.service, &a.version).cmp(&(&b.service, &b.version)));
        self.weights.dedup_by(|b, a| (&a.service, &a.version) == (&b.service, &b.version));
        self.endpoints.sort_by_cached_key(EndpointFact::identity);
        self.endpoints.dedup_by(|b, a| a.identity() == b.identity());
        self.names.sort_by(|a, b| a.name.cmp(&b.name));
        self.names.dedup_by(|b, a| a.name == b.name);
        self.rollouts.sort_by(|a, b| a.service.cmp(&b.service));
        self.rollouts.dedup_by(|b, a| a.service == b.service);
        self
    }
}
