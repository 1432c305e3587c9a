//! What a service's stable version usually does: kept whether something is rolled out or not.

use std::sync::Arc;

use super::samples::Counters;
use super::view::View;
use crate::config;
use crate::model::Name;
use crate::rollout::evidence::{Blocks, Question};
use crate::rollout::plan::Plan;
use crate::telemetry::VersionSeries;

/// The blocks of the version that is stable.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    version: Option<(Name, Counters)>,
    blocks: Arc<Blocks>,
}

impl Baseline {
    /// What is known of the version that is stable now.
    pub(super) const fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Takes the counters of `stable`, once in a while. Of another version, or for other questions, it begins anew.
    pub(super) fn record(&mut self, service: &Name, stable: Option<&Name>, plan: &Plan, view: &View<'_>) {
        let Some(stable) = stable else {
            *self = Self::default();
            return;
        };
        let same = self.version.as_ref().is_some_and(|(version, _)| version == stable);
        if same && !self.blocks.is_due(view.now) {
            return;
        }
        let questions = Question::all(plan);
        if !same || self.blocks.questions() != questions {
            self.version = Some((stable.clone(), Counters::of(series(service, stable, view))));
            self.blocks = Arc::new(Blocks::new(questions));
        }
        if let Some((_, counters)) = &self.version {
            Arc::make_mut(&mut self.blocks).observe(view.now, &counters.totals(Vec::new()));
        }
    }
}

/// Where a version is counted, with an edge at each limit of its service's checks.
pub(super) fn series(service: &Name, version: &Name, view: &View<'_>) -> Arc<VersionSeries> {
    let limits = view.config.services.get(service).map(config::Service::duration_limits);
    view.recorder.version_with(service, version, limits.as_deref().unwrap_or(&[]))
}
