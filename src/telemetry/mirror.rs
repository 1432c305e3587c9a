//! What became of copies of requests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::label::{MirrorComparison, MirrorOutcome};
use crate::model::Name;

/// The copies of a service's requests for one of its versions. Obtained from [`Recorder::mirror`](super::Recorder::mirror).
#[derive(Debug)]
pub(crate) struct MirrorSeries {
    service: Name,
    version: Name,
    outcomes: [AtomicU64; MirrorOutcome::ALL.len()],
    /// Compared copies, by route. Locked by whoever sends copies, never by a request.
    compared: Mutex<BTreeMap<Name, Comparisons>>,
}

/// How often each comparison came out.
type Comparisons = [u64; MirrorComparison::ALL.len()];

/// Routes that are counted by name; the copies of those beyond count for [`OTHER_ROUTES`] together.
const MAX_ROUTES: usize = 1024;
/// As no route is called: names have no `*`.
const OTHER_ROUTES: &str = "*";

impl MirrorSeries {
    /// With nothing counted.
    pub(super) fn new((service, version): (Name, Name)) -> Self {
        Self { service, version, outcomes: Default::default(), compared: Mutex::default() }
    }

    /// This became of a copy.
    pub(crate) fn ended(&self, outcome: MirrorOutcome) {
        if let Some(count) = self.outcomes.get(outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The responses to a copy of a request that took this route were compared.
    pub(crate) fn compared(&self, route: &Name, comparison: MirrorComparison) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = compared.contains_key(route) || compared.len() < MAX_ROUTES;
        let counts = compared.entry(if counted { route.clone() } else { OTHER_ROUTES.into() }).or_default();
        if let Some(count) = counts.get_mut(comparison.index()) {
            *count += 1;
        }
    }

    /// How often each comparison came out, by route.
    pub(super) fn comparisons(&self) -> Vec<(Name, Comparisons)> {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.iter().map(|(route, counts)| (route.clone(), *counts)).collect()
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
