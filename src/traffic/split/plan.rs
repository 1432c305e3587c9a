//! One split of a service, compiled: the service's own, or that of a cohort.
//!
//! Which versions are available all of them share; what replaces one that goes, each has for itself, since it depends on
//! the weights.

use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::affinity::HashRanges;
use super::choice::Failover;
use super::fallback::{Fallback, LastSchedules};
use super::schedule::Schedules;
use super::share::{VersionShare, split};
use super::weighted::Splitter;
use crate::model::Weight;

/// A split, and what takes the place of versions that get nothing for now.
#[derive(Debug)]
pub(super) struct Plan {
    /// The versions with their weights of this split.
    versions: Box<[VersionShare]>,
    pub(super) weights: Splitter,
    pub(super) ranges: HashRanges,
    pub(super) fallback: ArcSwap<Fallback>,
    /// Locked by whoever changes what is available, never by a request.
    last: Mutex<LastSchedules>,
    failover: Failover,
}

impl Plan {
    /// The plan of versions with these weights. `previous`, the one in use for the same split, hands over deficits.
    ///
    /// Weights that do not sum to 100 % (the configuration sees that they do) give the first version everything.
    pub(super) fn compile(
        versions: Box<[VersionShare]>,
        failover: Failover,
        previous: Option<&Self>,
        schedules: &mut Schedules,
    ) -> Self {
        let configured: Vec<Weight> = versions.iter().map(|version| version.weight).collect();
        let weights =
            Splitter::compile(&split(&versions, &configured), previous.map(|before| &before.weights), schedules);
        let mut last = previous.map_or_else(LastSchedules::default, Self::last_schedules);
        let fallback = Fallback::new(&versions, failover, &mut last, schedules);
        Self {
            versions,
            weights,
            ranges: HashRanges::new(&configured),
            fallback: ArcSwap::from_pointee(fallback),
            last: Mutex::new(last),
            failover,
        }
    }

    fn last_schedules(&self) -> LastSchedules {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes what replaces versions while these are available, and puts it in place.
    pub(super) fn set_available(&self, available: &[bool]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut versions = self.versions.to_vec();
        for (version, available) in versions.iter_mut().zip(available) {
            version.available = *available;
        }
        let fallback = Fallback::new(&versions, self.failover, &mut last, &mut Schedules::default());
        self.fallback.store(fallback.into());
    }

    /// The share that requests without affinity or override really get, by version.
    pub(super) fn effective(&self) -> Vec<Weight> {
        let fallback = self.fallback.load();
        let tripped = self.versions.iter().any(VersionShare::is_tripped);
        let instead = fallback.rest.as_ref().filter(|_| tripped).or(fallback.failover.as_ref());
        match instead {
            Some(redirect) => redirect.effective.clone(),
            None => self.versions.iter().map(|version| version.weight).collect(),
        }
    }
}
