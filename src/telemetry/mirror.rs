//! What became of copies of requests.

use std::sync::atomic::{AtomicU64, Ordering};

use super::label::MirrorOutcome;
use crate::model::Name;

/// The copies of a service's requests for one of its versions. Obtained from [`Recorder::mirror`](super::Recorder::mirror).
#[derive(Debug)]
pub(crate) struct MirrorSeries {
    service: Name,
    version: Name,
    outcomes: [AtomicU64; MirrorOutcome::ALL.len()],
}

impl MirrorSeries {
    /// With nothing counted.
    pub(super) fn new((service, version): (Name, Name)) -> Self {
        Self { service, version, outcomes: Default::default() }
    }

    /// This became of a copy.
    pub(crate) fn ended(&self, outcome: MirrorOutcome) {
        if let Some(count) = self.outcomes.get(outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Of how many copies this became.
    #[must_use]
    pub(crate) fn count(&self, outcome: MirrorOutcome) -> u64 {
        self.outcomes.get(outcome.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The names of its service and version.
    pub(super) fn labels(&self) -> [&str; 2] {
        [&self.service, &self.version]
    }
}
