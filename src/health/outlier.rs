//! Outlier detection: which endpoints are ejected for what happened to requests, and for how long.
//!
//! The rules and their defaults are Envoy's (`envoy/config/cluster/v3/outlier_detection.proto`), except where few
//! endpoints make them wrong: half of a version may be ejected and not a tenth, the last endpoint that takes requests
//! never is, and a success rate that is hardly worse than the others' is no reason.
//!
//! Invariant: what is ejected comes back by itself.

use std::time::{Duration, Instant};

/// What makes an outlier, and what becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutlierPolicy {
    /// So many errors in a row; 0 for never.
    pub(crate) consecutive_errors: u32,
    /// How often success rates are compared, and how long an endpoint is good for one ejection to be forgotten.
    pub(crate) interval: Duration,
    /// The first ejection; the second takes twice as long, the third three times.
    pub(crate) ejection_time: Duration,
    /// None takes longer.
    pub(crate) max_ejection_time: Duration,
    /// The percentage of a version's endpoints that may be ejected at once; one always may, unless this is 0.
    pub(crate) max_ejected: u8,
    /// Compares success rates; none if they are not compared.
    pub(crate) success_rate: Option<SuccessRate>,
    /// So many failed connects in a row make an endpoint unreachable; 0 for never.
    pub(crate) connect_failures: u32,
}

/// When the success rates of a version's endpoints are compared, and what is too low.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SuccessRate {
    /// So many standard deviations below the mean.
    pub(crate) deviations: f64,
    /// Only among at least so many endpoints …
    pub(crate) min_endpoints: usize,
    /// … that had at least so many requests in the interval.
    pub(crate) min_requests: u64,
}

/// What happened on an endpoint in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

/// The endpoints of a version beside one that is to be ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Endpoints that are wanted, that one included.
    pub(crate) ready: usize,
    /// Those of them that are ejected now.
    pub(crate) ejected: usize,
    /// The others that take requests.
    pub(crate) others: usize,
}

/// A success rate this close to the mean is no outlier, however alike the others are: one error in a thousand is far
/// from the mean of endpoints that made none.
const MIN_DIFFERENCE: f64 = 0.05;

impl OutlierPolicy {
    /// No endpoint is ever taken out.
    pub(crate) const NEVER: Self = Self {
        consecutive_errors: 0,
        interval: Duration::from_secs(10),
        ejection_time: Duration::ZERO,
        max_ejection_time: Duration::ZERO,
        max_ejected: 0,
        success_rate: None,
        connect_failures: 0,
    };

    /// Whether one more endpoint may be ejected.
    pub(crate) fn has_room(&self, pool: Pool) -> bool {
        let share = pool.ready * usize::from(self.max_ejected) / 100;
        let most = if self.max_ejected == 0 { 0 } else { share.max(1) };
        pool.others > 0 && pool.ejected < most
    }
}

impl SuccessRate {
    /// The endpoints whose success rate is too far below the mean, by their place in `tallies`.
    pub(crate) fn outliers(&self, tallies: &[Tally]) -> Vec<usize> {
        let enough = |tally: &Tally| tally.requests >= self.min_requests.max(1);
        let rates: Vec<(usize, f64)> = tallies
            .iter()
            .enumerate()
            .filter(|(_, tally)| enough(tally))
            .map(|(at, tally)| (at, tally.rate()))
            .collect();
        if rates.is_empty() || rates.len() < self.min_endpoints {
            return Vec::new();
        }
        let count = f64::from(u32::try_from(rates.len()).unwrap_or(u32::MAX));
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
        let lowest = mean - (self.deviations * variance.sqrt()).max(MIN_DIFFERENCE);
        rates.into_iter().filter(|(_, rate)| *rate < lowest).map(|(at, _)| at).collect()
    }
}

impl Tally {
    #[expect(clippy::cast_precision_loss, reason = "a rate; 2⁵³ requests in an interval do not happen")]
    fn rate(self) -> f64 {
        1.0 - self.errors.min(self.requests) as f64 / self.requests as f64
    }
}

/// One endpoint's ejections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ejections {
    /// How many times as long as the first the last one took.
    times: u32,
    /// The one under way.
    current: Option<Ejection>,
    /// Since when it has been good, less what was counted already.
    good_since: Option<Instant>,
}

/// An ejection under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    pub(crate) since: Instant,
    pub(crate) until: Instant,
}

impl Ejections {
    /// Ejects the endpoint.
    pub(crate) fn eject(&mut self, policy: &OutlierPolicy, now: Instant) -> Ejection {
        self.forget(policy, now);
        let longest = policy.max_ejection_time.max(policy.ejection_time);
        if policy.ejection_time.saturating_mul(self.times) < longest {
            self.times = self.times.saturating_add(1);
        }
        let time = policy.ejection_time.saturating_mul(self.times.max(1)).min(longest);
        let ejection = Ejection { since: now, until: now.checked_add(time).unwrap_or(now) };
        (self.current, self.good_since) = (Some(ejection), None);
        ejection
    }

    /// The ejection under way.
    pub(crate) fn current(&self) -> Option<Ejection> {
        self.current
    }

    /// Whether its time has come to be back.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.current.is_none_or(|ejection| now >= ejection.until)
    }

    /// The endpoint is back.
    pub(crate) fn readmit(&mut self, now: Instant) {
        if self.current.take().is_some() {
            self.good_since = Some(now);
        }
    }

    /// One ejection is forgotten for each interval in which the endpoint was good.
    fn forget(&mut self, policy: &OutlierPolicy, now: Instant) {
        let Some(since) = self.good_since else { return };
        let good = now.saturating_duration_since(since).as_nanos();
        let intervals = good.checked_div(policy.interval.as_nanos()).unwrap_or(u128::MAX);
        self.times = self.times.saturating_sub(u32::try_from(intervals).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests;
