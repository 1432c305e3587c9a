//! Whether what fails is more than one service: then the version that has all traffic is hardly to blame.
//!
//! Only where the canary has everything, so that no stable version shows at the same time what is usual. What was counted
//! while others failed is no evidence, also not once they are well: windows reach back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::service::ServiceRollout;
use super::view::View;
use crate::model::{Name, Weight};
use crate::rollout::evidence::Tally;
use crate::rollout::judge::sustained;
use crate::rollout::plan::Errors;
use crate::telemetry::Class;

/// How far back the stable version is looked at when the breaker opens, to see whether it fails as well.
const STABLE_WINDOW: Duration = Duration::from_secs(2);
/// How far back other services are looked at: a moment, so that a failure is seen at once, and longer where requests are few.
const SPANS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// What has fewer requests in that time says nothing.
const MIN_REQUESTS: u64 = 20;
/// What has so many errors fails, in percent.
const FAILING: u64 = 5;

impl ServiceRollout {
    /// What the services beside this one suffer, if they do and the canary has all traffic.
    pub(super) fn shared_failure(&self, view: &View<'_>) -> Option<String> {
        let alone = self.record.state.weight == Weight::FULL;
        alone.then(|| shared_failure(&self.service, view, Instant::now())).flatten()
    }

    /// Whether stable fails as well: then what both depend on is broken. Beside the canary, it is half as bad as that is in
    /// the last seconds; where it has only just got the traffic back, it fails by itself, or the services beside it do.
    pub(super) fn stable_fails_too(&self, view: &View<'_>) -> bool {
        let Some((mut evidence, totals)) = self.evidence.as_deref().cloned().zip(self.totals()) else { return false };
        evidence.observe(view.now, totals);
        let pair = evidence.last(STABLE_WINDOW);
        if self.record.state.weight == Weight::FULL {
            let Tally { requests, bad } = pair.stable.errors(Errors::default());
            return is_failure(requests, bad) || self.shared_failure(view).is_some();
        }
        let (canary, stable) = (pair.canary.error_rate(), pair.stable.error_rate());
        stable > 0.0 && stable * 2.0 >= canary
    }

    /// A second has passed: what others suffer too, for all that this second decides. Once they are well again, what was
    /// counted until then is no evidence.
    pub(super) fn watch_others(&mut self, view: &View<'_>) {
        let fail = self.shared_failure(view);
        let is_over = fail.is_none();
        if std::mem::replace(&mut self.others_fail, fail).is_some() && is_over {
            if let Some(evidence) = &mut self.evidence {
                Arc::make_mut(evidence).disregard();
            }
            self.error_watches = sustained::watches(&self.plan);
        }
    }
}

/// Whether so many errors of so many requests are a failure.
const fn is_failure(requests: u64, errors: u64) -> bool {
    requests >= MIN_REQUESTS && errors.saturating_mul(100) >= requests.saturating_mul(FAILING)
}

/// What the services beside `service` show, in words, if at least half of those with traffic fail now.
fn shared_failure(service: &Name, view: &View<'_>, now: Instant) -> Option<String> {
    let (mut asked, mut failing) = (0_u32, 0_u32);
    for (other, file) in view.config.services.iter().filter(|(other, _)| *other != service) {
        let seen = SPANS.map(|span| {
            let windows = file.versions.names().map(|version| view.recorder.version(other, version).window(span, now));
            windows.fold((0, 0), |(requests, errors), seen| {
                (requests + seen.requests(), errors + seen.of_class(Class::ServerError))
            })
        });
        asked += u32::from(seen.iter().any(|(requests, _)| *requests >= MIN_REQUESTS));
        failing += u32::from(seen.iter().any(|(requests, errors)| is_failure(*requests, *errors)));
    }
    (failing > 0 && failing * 2 >= asked).then(|| match (failing, asked) {
        (1, 1) => "the other service with traffic fails as well".to_owned(),
        _ => format!("{failing} of {asked} other services with traffic fail as well"),
    })
}
