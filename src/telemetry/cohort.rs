//! What cohorts were given: requests by the version that they got.

use super::sharded::Sharded;
use crate::model::Name;

/// What one cohort was given of one version. Obtained from [`Recorder::cohort`](super::Recorder::cohort).
#[derive(Debug)]
pub(crate) struct CohortSeries {
    service: Name,
    cohort: Name,
    version: Name,
    decisions: Sharded,
}

impl CohortSeries {
    /// With nothing counted.
    pub(super) fn new([service, cohort, version]: [Name; 3], shards: usize) -> Self {
        Self { service, cohort, version, decisions: Sharded::new(shards, 1) }
    }

    /// A request of the cohort was given to the version.
    #[inline]
    pub(crate) fn decided(&self) {
        self.decisions.add(0, 1);
    }

    /// How many requests of the cohort the version was given.
    #[must_use]
    pub(crate) fn decisions(&self) -> u64 {
        self.decisions.sum(0)
    }

    /// The names of its service, of itself and of the version.
    pub(super) fn labels(&self) -> [&str; 3] {
        [&self.service, &self.cohort, &self.version]
    }
}
