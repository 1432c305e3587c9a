//! What was counted of the two versions of a rollout, and which part of it the judge may look at.
//!
//! ```text
//! once a second ──► Evidence::observe ─┬─► Windows   totals of both versions, as far back as checks look
//!                                      └─► marks     from when on requests count
//! every 10 s ─────► Blocks             stable's counts in blocks of an hour, rollout or not ─┐
//!                   └ Clients          the same by groups of clients, where they stay on it ─┴► Dispersion, Past
//! each line of the history ─► RecordedCounts   what was counted since the one before, to be judged again
//! ```
//!
//! A request counts in one failed analysis run: once a run failed, the next looks only at what came after it. Windows
//! that overlap steady an estimate; they must not make three failures out of one burst.
//!
//! Invariants: no window reaches back before its floor; nothing here is unbounded; time is a parameter.

mod blocks;
mod clients;
mod counts;
mod dispersion;
mod overdispersion;
mod past;
mod question;
mod sample;
mod windows;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::blocks::Blocks;
pub(crate) use self::clients::ClientTallies;
pub(crate) use self::counts::{HistoryLayout, RecordedCounts};
pub(crate) use self::dispersion::Dispersion;
pub(crate) use self::past::{Past, StablePast};
pub(crate) use self::question::Question;
pub(crate) use self::sample::{EndpointTally, Limit, Sample, Samples, Tally};

use self::windows::Windows;
use super::plan::WarmUp;

/// What was counted of both versions since the canary has weight.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    windows: Windows,
    /// The newest totals.
    latest: Moment,
    /// Requests before this are not looked at: the canary had no weight, was warming up, or suffered what all did.
    begin: Duration,
    /// Requests before this counted in an analysis run that failed.
    used: Duration,
    /// When the canary's weight last changed.
    step: Moment,
    /// The last analysis run.
    analyzed: Moment,
    /// Until then it is in the history what was counted.
    recorded: Moment,
    /// What the canary does before it is judged; none once it did.
    warm_up: Option<WarmUp>,
}

/// The totals of both versions, and when they were that.
#[derive(Clone, Debug)]
struct Moment {
    at: Duration,
    totals: Arc<Samples>,
}

/// What a canary still has to do before it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUpLeft {
    /// So long.
    Time(Duration),
    /// So many requests.
    Requests(u64),
}

impl Evidence {
    /// Of a canary that gets its first weight at `now`, where both versions' totals are `totals`.
    pub(crate) fn new(now: Duration, totals: Samples, warm_up: Option<WarmUp>) -> Self {
        let latest = Moment { at: now, totals: Arc::new(totals) };
        let mut windows = Windows::default();
        windows.record(now, &latest.totals);
        let (step, analyzed, recorded) = (latest.clone(), latest.clone(), latest.clone());
        Self { windows, begin: now, used: now, step, analyzed, recorded, latest, warm_up }
    }

    /// Takes the totals at `now`; to be called about once a second, and before each look.
    pub(crate) fn observe(&mut self, now: Duration, totals: Samples) {
        self.latest = Moment { at: now, totals: Arc::new(totals) };
        self.windows.record(now, &self.latest.totals);
        let warm = match self.warm_up_left() {
            Some(WarmUpLeft::Time(left)) => left.is_zero(),
            Some(WarmUpLeft::Requests(left)) => left == 0,
            None => false,
        };
        if warm {
            self.warm_up = None;
            self.begin = now;
            self.analyzed = self.latest.clone();
        }
    }

    /// What is left of the warm-up, if the canary is not judged yet.
    pub(crate) fn warm_up_left(&self) -> Option<WarmUpLeft> {
        self.warm_up.map(|warm_up| match warm_up {
            WarmUp::Time(time) => WarmUpLeft::Time(time.saturating_sub(self.latest.at.saturating_sub(self.begin))),
            WarmUp::Requests(requests) => {
                WarmUpLeft::Requests(requests.saturating_sub(self.since(self.begin).canary.requests()))
            }
        })
    }

    /// The weights changed.
    pub(crate) fn weights_changed(&mut self) {
        self.step = self.latest.clone();
    }

    /// An analysis run is over. Where it failed, what was counted so far counts in no other.
    pub(crate) fn analyzed(&mut self, failed: bool) {
        self.analyzed = self.latest.clone();
        if failed {
            self.used = self.latest.at;
        }
    }

    /// What was counted so far says nothing about the canary.
    pub(crate) fn disregard(&mut self) {
        self.begin = self.latest.at;
        self.analyzed = self.latest.clone();
    }

    /// What happened in the last `span` that may be judged. Where that is fewer than `min_requests` of the canary, as far
    /// back as it takes, and as its present weight goes.
    pub(crate) fn window(&self, span: Duration, min_requests: u64) -> Samples {
        let floor = self.begin.max(self.used);
        let begin = self.latest.at.saturating_sub(span).max(floor);
        let seen = self.since(begin);
        let enough = |seen: &Samples| seen.canary.requests() >= min_requests;
        let (mut early, mut late) = (self.step.at.max(floor), begin);
        if enough(&seen) || early >= late {
            return seen;
        }
        // Counts only grow towards the past: the latest beginning that has enough is found by halving.
        while late.saturating_sub(early) > GROWTH {
            let middle = early + (late - early) / 2;
            if enough(&self.since(middle)) {
                early = middle;
            } else {
                late = middle;
            }
        }
        self.since(early)
    }

    /// What happened in the last `span`, also if a failed analysis run was about it.
    pub(crate) fn last(&self, span: Duration) -> Samples {
        self.since(self.latest.at.saturating_sub(span).max(self.begin))
    }

    /// All that may be judged, as far back as it is kept.
    pub(crate) fn all(&self) -> Samples {
        self.since(self.begin)
    }

    /// What happened since the last analysis run.
    pub(crate) fn block(&self) -> Samples {
        self.latest.since(&self.analyzed)
    }

    /// What happened since the canary has its present weight.
    pub(crate) fn of_step(&self) -> Samples {
        self.latest.since(&self.step)
    }

    /// What happened since the last line of the history.
    pub(crate) fn unrecorded(&self) -> Samples {
        self.latest.since(&self.recorded)
    }

    /// What was counted so far is in the history.
    pub(crate) fn recorded(&mut self) {
        self.recorded = self.latest.clone();
    }

    fn since(&self, begin: Duration) -> Samples {
        self.windows.at(begin).map_or_else(Samples::default, |(at, base)| {
            self.latest.totals.since(base, self.latest.at.saturating_sub(*at))
        })
    }
}

impl Moment {
    fn since(&self, earlier: &Self) -> Samples {
        self.totals.since(&earlier.totals, self.at.saturating_sub(earlier.at))
    }
}

/// Of a version with fewer endpoints than these one is not told from the version: one of two that fails is half of what
/// users see.
pub(crate) const MIN_ENDPOINTS: usize = 3;

/// How exactly a window that grows finds its beginning.
const GROWTH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
