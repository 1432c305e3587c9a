//! Samples of the counters of the two versions of a rollout, as far back as its checks look: up to an hour.
//!
//! The recorder's own window remembers a minute, for every version. A rollout may look back further, and must not see
//! what was before it began, so it keeps its own copies of the totals while it is under way:
//!
//! ```text
//! begin ······ one copy per 30 s, the last hour ······ one copy per second, the last two minutes ── now
//! ```
//!
//! So a window up to two minutes is exact to a second, a longer one to 30 s; it is then longer than was asked, and
//! [`Sample::covered`] says so. Copies are totals, not differences: a late or missed tick makes a window longer, never
//! wrong.
//!
//! Invariants: no window reaches back before the rollout's begin; at most [`MAX_FINE`] + [`MAX_COARSE`] copies.

use std::sync::Arc;
use std::time::Duration;

use crate::rollout::judge::{Sample, Samples};
use crate::telemetry::{Class, RetryReason, SampleRing, Totals, UpstreamError, VersionSeries};

/// Copies a second apart.
const MAX_FINE: usize = 122;
/// Copies [`COARSE_INTERVAL_MS`] apart: an hour, and one to reach back to.
const MAX_COARSE: usize = 122;
const COARSE_INTERVAL_MS: u64 = 30_000;
/// A tick sooner than this after another is left out, so that a burst of late ones cannot push two minutes out.
const FINE_INTERVAL_MS: u64 = 900;

/// The counters of one version at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    totals: Totals,
    /// Failed attempts that were not repeated, by kind, in the order of [`UpstreamError::ALL`].
    own: [u64; UpstreamError::ALL.len()],
    grpc_failures: u64,
}

impl Counts {
    /// The counters of `series` now.
    pub(super) fn of(series: &VersionSeries) -> Self {
        let mut counts = Self { totals: series.totals(), grpc_failures: series.grpc_failures(), ..Self::default() };
        for (slot, kind) in counts.own.iter_mut().zip(UpstreamError::ALL) {
            // An attempt that was repeated was not answered by Weir.
            let repeated = match kind {
                UpstreamError::Connect => series.retries(RetryReason::Connect),
                UpstreamError::Reset => series.retries(RetryReason::Reused),
                // Nobody waited for it: no attempt failed.
                UpstreamError::Unsolicited => u64::MAX,
                UpstreamError::Timeout | UpstreamError::Protocol | UpstreamError::Tls | UpstreamError::NoEndpoint => 0,
            };
            *slot = series.upstream_errors(*kind).saturating_sub(repeated);
        }
        counts
    }

    fn class(&self, class: Class) -> u64 {
        self.totals.by_class.get(class.index()).copied().unwrap_or_default()
    }

    /// What was added since `earlier`, as the judge sees it. A gRPC failure counts once: where its
    /// HTTP status is no error.
    fn since(&self, earlier: &Self, covered: Duration, edges: &Arc<[Duration]>) -> Sample {
        let added = |class| self.class(class).saturating_sub(earlier.class(class));
        let server_errors = added(Class::ServerError);
        // A response that broke off half-way counts as a failed attempt and keeps its status: never more than errors.
        let mut left = server_errors;
        let own = UpstreamError::ALL.iter().zip(self.own.iter().zip(&earlier.own)).map(|(kind, (now, then))| {
            let count = now.saturating_sub(*then).min(left);
            left -= count;
            (kind.as_str(), count)
        });
        let own = own.filter(|(_, count)| *count > 0).collect();
        let then = |at: usize| earlier.totals.buckets.get(at).copied().unwrap_or_default();
        let buckets = self.totals.buckets.iter().enumerate().map(|(at, now)| now.saturating_sub(then(at))).collect();
        Sample {
            covered,
            successes: added(Class::Informational) + added(Class::Success) + added(Class::Redirection),
            client_errors: added(Class::ClientError),
            server_errors,
            grpc_failures: self.grpc_failures.saturating_sub(earlier.grpc_failures),
            client_closed: added(Class::ClientClosed),
            own,
            buckets,
            edges: Arc::clone(edges),
        }
    }
}

/// Counters of both versions at one moment.
#[derive(Clone, Debug)]
struct Sampled {
    canary: Counts,
    stable: Counts,
}

/// Both versions' counters, and their past since the rollout began.
#[derive(Clone, Debug)]
pub(super) struct SampleWindow {
    canary: Arc<VersionSeries>,
    stable: Arc<VersionSeries>,
    canary_edges: Arc<[Duration]>,
    stable_edges: Arc<[Duration]>,
    fine: SampleRing<Sampled, MAX_FINE, FINE_INTERVAL_MS>,
    coarse: SampleRing<Sampled, MAX_COARSE, COARSE_INTERVAL_MS>,
}

impl SampleWindow {
    /// A rollout of `canary` over `stable` begins at `now`.
    pub(super) fn new(canary: Arc<VersionSeries>, stable: Arc<VersionSeries>, now: Duration) -> Self {
        let edges = |series: &VersionSeries| series.edges().durations().collect();
        let mut samples = Self {
            canary_edges: edges(&canary),
            stable_edges: edges(&stable),
            canary,
            stable,
            fine: SampleRing::new(),
            coarse: SampleRing::new(),
        };
        samples.record(now);
        samples
    }

    /// Remembers the counters as of `now`; to be called about once a second.
    pub(super) fn record(&mut self, now: Duration) {
        let coarse = self.coarse.is_due(now);
        if !coarse && !self.fine.is_due(now) {
            return;
        }
        let sample = self.sample();
        if coarse {
            self.coarse.push(now, |_| sample.clone());
        }
        self.fine.push(now, |_| sample);
    }

    /// What happened in the last `span` before `now`, or since the rollout began.
    pub(super) fn window(&self, span: Duration, now: Duration) -> Samples {
        let begin = now.saturating_sub(span);
        let base = self.fine.at(begin).or_else(|| self.coarse.at(begin)).or_else(|| self.coarse.oldest());
        let Some((since, base)) = base else { return Samples::default() };
        let (current, covered) = (self.sample(), now.saturating_sub(*since));
        Samples {
            canary: current.canary.since(&base.canary, covered, &self.canary_edges),
            stable: current.stable.since(&base.stable, covered, &self.stable_edges),
        }
    }

    /// All requests since the recorder began to count.
    pub(super) fn totals(&self, now: Duration) -> Samples {
        let (current, none) = (self.sample(), Counts::default());
        Samples {
            canary: current.canary.since(&none, now, &self.canary_edges),
            stable: current.stable.since(&none, now, &self.stable_edges),
        }
    }

    fn sample(&self) -> Sampled {
        Sampled { canary: Counts::of(&self.canary), stable: Counts::of(&self.stable) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::model::Name;
    use crate::telemetry::{Outcome, Recorder, RecorderOptions};

    const SECOND: Duration = Duration::from_secs(1);

    fn recorder() -> Arc<Recorder> {
        Recorder::new(RecorderOptions { threads: 1, version: "0", revision: "unknown", started: Instant::now() })
    }

    #[test]
    fn a_window_counts_what_it_covers_and_never_what_was_before_the_rollout() {
        let recorder = recorder();
        let [shop, v1, v2, route]: [Name; 4] = ["shop", "v1", "v2", "r"].map(Name::from);
        let (canary, stable) = (recorder.version(&shop, &v2), recorder.version(&shop, &v1));
        let (on_canary, on_stable) = (canary.route(&route), stable.route(&route));
        for _ in 0..50 {
            on_canary.finish(Outcome::Status(500), SECOND);
        }
        let begin = 1_000 * SECOND;
        let mut samples = SampleWindow::new(Arc::clone(&canary), stable, begin);
        // Each second one success and one error of the canary, two answers of stable; for 50 minutes.
        for second in 1..=3_000_u32 {
            on_canary.finish(Outcome::Status(204), SECOND / 100);
            on_canary.finish(Outcome::Status(502), SECOND);
            canary.upstream_error(UpstreamError::Timeout);
            on_stable.finish(Outcome::Status(200), SECOND / 100);
            on_stable.finish(Outcome::ClientClosed, SECOND / 100);
            samples.record(begin + second * SECOND);
            if [1, 2, 60, 119, 600, 3_000].contains(&second) {
                for span in [1_u32, 2, 60, 120, 300, 3_600] {
                    let pair = samples.window(span * SECOND, begin + second * SECOND);
                    let covered = u32::try_from(pair.canary.covered.as_secs()).unwrap();
                    let exact = span.min(second);
                    let coarse = if span > 120 { 30 } else { 0 };
                    assert!((exact..=exact + coarse).contains(&covered), "{span} s at {second} s covers {covered} s");
                    let count = u64::from(covered);
                    assert_eq!((pair.canary.successes, pair.canary.server_errors), (count, count));
                    assert_eq!((pair.stable.successes, pair.stable.client_closed), (count, count));
                    assert_eq!(pair.canary.own, [("timeout", count)]);
                    assert_eq!(pair.canary.buckets.iter().sum::<u64>(), 2 * count);
                }
            }
        }
        assert_eq!(samples.totals(begin).canary.server_errors, 3_050);
        assert!(samples.fine.count() <= MAX_FINE && samples.coarse.count() <= MAX_COARSE);
    }

    #[test]
    fn late_and_early_ticks_lose_nothing() {
        let recorder = recorder();
        let [shop, v1, v2, route]: [Name; 4] = ["shop", "v1", "v2", "r"].map(Name::from);
        let (canary, stable) = (recorder.version(&shop, &v2), recorder.version(&shop, &v1));
        let mut samples = SampleWindow::new(Arc::clone(&canary), stable, Duration::ZERO);
        canary.route(&route).finish(Outcome::Status(200), SECOND);
        (0..10_000).for_each(|tick| samples.record(Duration::from_millis(tick)));
        assert!(samples.fine.count() < 20, "a burst is no memory");
        assert_eq!(samples.window(60 * SECOND, 10 * SECOND).canary.successes, 1);
        let covered = samples.window(60 * SECOND, 500 * SECOND).canary.covered;
        assert!((490 * SECOND..491 * SECOND).contains(&covered), "nothing was kept in between: {covered:?}");
        assert_eq!(samples.window(500 * SECOND, 500 * SECOND).canary.successes, 1);
    }
}
