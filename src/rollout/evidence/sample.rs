//! What an analysis run sees of one version: how its requests ended and how long they took.
//!
//! A sample is about a window (what a check looks back on) or about all time (totals, of which windows are differences).
//! Totals are made from the recorder's counters by whoever asks the judge.
//!
//! Invariant: shares are compared as whole numbers, so that exactly at the limit is not above it, whatever the limit.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Name;
use crate::rollout::format;
use crate::rollout::plan::Errors;

/// What happened to one version's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The time that the numbers are about.
    pub(crate) covered: Duration,
    /// Responses of 1xx to 3xx, those with a failing gRPC status among them.
    pub(crate) successes: u64,
    /// Responses of 4xx.
    pub(crate) client_errors: u64,
    /// Responses of 5xx, those that Weir made itself because of this version among them.
    pub(crate) server_errors: u64,
    /// Of `successes`, those whose gRPC status blames the server. They are errors.
    pub(crate) grpc_failures: u64,
    /// Requests whose client went away before it had its response.
    pub(crate) client_closed: u64,
    /// How many of the server errors Weir made itself, by the word for their reason (`connect`, `timeout`, …).
    pub(crate) own: Vec<(&'static str, u64)>,
    /// Finished requests by duration: one bucket per edge, and one above the last.
    pub(crate) buckets: Vec<u64>,
    /// Of the finished requests, those whose client went away before the first byte of the response, by the same
    /// buckets of how long it waited.
    pub(crate) abandoned: Vec<u64>,
    /// Upper edges of the buckets, rising; an edge belongs to the bucket below it.
    pub(crate) edges: Arc<[Duration]>,
    /// What each endpoint did, where that is known.
    pub(crate) endpoints: Vec<EndpointTally>,
    /// What each group of clients did, where clients stay on the version; else empty.
    pub(crate) clients: Vec<Tally>,
}

/// The requests of one endpoint, and how many of them were errors that the version is to blame for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointTally {
    /// The same endpoint has the same number.
    pub(crate) id: u64,
    /// Its address.
    pub(crate) name: Name,
    /// How many, and how many of them failed.
    pub(crate) tally: Tally,
}

/// Samples of both versions, about the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// The version that is rolled out.
    pub(crate) canary: Sample,
    /// The version that it replaces.
    pub(crate) stable: Sample,
}

/// Some of a number of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tally {
    /// How many requests.
    pub(crate) requests: u64,
    /// How many of them were errors, or slow.
    pub(crate) bad: u64,
}

impl Tally {
    /// Whether the share of the bad ones is above `limit`. Of nothing, no share is above anything.
    pub(crate) fn above(self, limit: Limit) -> bool {
        u128::from(self.bad) * u128::from(WHOLE) > u128::from(limit.0) * u128::from(self.requests)
    }

    /// The share of the bad ones in percent; none of nothing.
    pub(crate) fn percent(self) -> Option<f64> {
        (self.requests > 0).then(|| self.bad as f64 / self.requests as f64 * 100.0)
    }

    /// `14 of 820 (1.71 %)`.
    pub(crate) fn words(self) -> String {
        format::part_of(self.bad, self.requests, "")
    }

    /// Without those of a part of them.
    pub(crate) fn without(self, part: Self) -> Self {
        let requests = self.requests.saturating_sub(part.requests);
        Self { requests, bad: self.bad.saturating_sub(part.bad).min(requests) }
    }

    /// What was added since `earlier`; none if something became less, so that it cannot be the same count.
    pub(crate) fn since(self, earlier: Self) -> Option<Self> {
        let requests = self.requests.checked_sub(earlier.requests)?;
        let bad = self.bad.checked_sub(earlier.bad)?;
        (bad <= requests).then_some(Self { requests, bad })
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum += tally;
            sum
        })
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.bad = self.bad.saturating_add(more.bad);
    }
}

/// A share of requests that is a limit, in parts of [`WHOLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(u64);

/// All requests: shares are as fine as a billionth, so that 0.1 % is exactly that.
const WHOLE: u64 = 1_000_000_000;

impl Limit {
    /// `percent` of all requests; below 0 it is none, above 100 all of them.
    pub(crate) fn percent(percent: f64) -> Self {
        Self::ratio(percent / 100.0)
    }

    /// `ratio` (0 to 1) of all requests.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 10⁹ before")]
    pub(crate) fn ratio(ratio: f64) -> Self {
        Self((ratio.clamp(0.0, 1.0) * WHOLE as f64).round() as u64)
    }

    /// Between 0 and 1.
    pub(crate) fn as_ratio(self) -> f64 {
        self.0 as f64 / WHOLE as f64
    }

    /// What is missing to all requests.
    pub(crate) const fn rest(self) -> Self {
        Self(WHOLE.saturating_sub(self.0))
    }
}

impl EndpointTally {
    fn since(&self, earlier: &[Self]) -> Self {
        let before = earlier.iter().find(|known| known.id == self.id).map(|known| known.tally).unwrap_or_default();
        Self { tally: self.tally.since(before).unwrap_or_default(), name: self.name.clone(), id: self.id }
    }
}

fn added(now: &[u64], then: &[u64]) -> Vec<u64> {
    now.iter().enumerate().map(|(at, now)| now.saturating_sub(then.get(at).copied().unwrap_or_default())).collect()
}

fn added_clients(now: &[Tally], then: &[Tally]) -> Vec<Tally> {
    let before = |group: usize| then.get(group).copied().unwrap_or_default();
    now.iter().enumerate().map(|(group, now)| now.since(before(group)).unwrap_or_default()).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count, so not negative")]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}

impl Samples {
    /// What was added to these totals since `earlier`.
    pub(crate) fn since(&self, earlier: &Self, covered: Duration) -> Self {
        Self {
            canary: self.canary.since(&earlier.canary, covered),
            stable: self.stable.since(&earlier.stable, covered),
        }
    }
}

impl Samples {
    /// These totals, and `part` of `parts` of what is `added` to them. Both have the same edges.
    pub(crate) fn with_part(&self, added: &Self, part: u32, parts: u32) -> Self {
        Self {
            canary: self.canary.with_part(&added.canary, part, parts),
            stable: self.stable.with_part(&added.stable, part, parts),
        }
    }
}

impl Sample {
    fn with_part(&self, added: &Self, part: u32, parts: u32) -> Self {
        let of = |added: u64| added.saturating_mul(part.into()) / u64::from(parts.max(1));
        let sum = |total: u64, added: u64| total.saturating_add(of(added));
        let sums = |totals: &[u64], added: &[u64]| {
            let total = |at: usize| totals.get(at).copied().unwrap_or_default();
            let counts = added.iter().enumerate().map(|(at, added)| sum(total(at), *added));
            counts.collect()
        };
        let endpoint = |added: &EndpointTally| {
            let before = self.endpoints.iter().find(|known| known.id == added.id);
            let mut tally = before.map(|known| known.tally).unwrap_or_default();
            tally += Tally { requests: of(added.tally.requests), bad: of(added.tally.bad) };
            EndpointTally { tally, ..added.clone() }
        };
        let client = |group: usize| {
            let mut tally = self.clients.get(group).copied().unwrap_or_default();
            if let Some(added) = added.clients.get(group) {
                tally += Tally { requests: of(added.requests), bad: of(added.bad) };
            }
            tally
        };
        Self {
            covered: Duration::ZERO,
            successes: sum(self.successes, added.successes),
            client_errors: sum(self.client_errors, added.client_errors),
            server_errors: sum(self.server_errors, added.server_errors),
            grpc_failures: sum(self.grpc_failures, added.grpc_failures),
            client_closed: sum(self.client_closed, added.client_closed),
            own: Vec::new(),
            buckets: sums(&self.buckets, &added.buckets),
            abandoned: sums(&self.abandoned, &added.abandoned),
            edges: Arc::clone(&added.edges),
            endpoints: added.endpoints.iter().map(endpoint).collect(),
            clients: (0..self.clients.len().max(added.clients.len())).map(client).collect(),
        }
    }

    /// What was added to these totals since `earlier`.
    fn since(&self, earlier: &Self, covered: Duration) -> Self {
        let server_errors = self.server_errors.saturating_sub(earlier.server_errors);
        // A response that broke off half-way counts as a failed attempt and keeps its status: never more than errors.
        let mut left = server_errors;
        let before = |kind: &str| earlier.own.iter().find(|(known, _)| *known == kind).map_or(0, |(_, count)| *count);
        let own = self.own.iter().map(|(kind, count)| {
            let count = count.saturating_sub(before(kind)).min(left);
            left -= count;
            (*kind, count)
        });
        let own = own.filter(|(_, count)| *count > 0).collect();
        Self {
            covered,
            successes: self.successes.saturating_sub(earlier.successes),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            server_errors,
            grpc_failures: self.grpc_failures.saturating_sub(earlier.grpc_failures),
            client_closed: self.client_closed.saturating_sub(earlier.client_closed),
            own,
            buckets: added(&self.buckets, &earlier.buckets),
            abandoned: added(&self.abandoned, &earlier.abandoned),
            edges: Arc::clone(&self.edges),
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.since(&earlier.endpoints)).collect(),
            clients: added_clients(&self.clients, &earlier.clients),
        }
    }

    /// The requests that say something about the version, and how many of them were errors. A request whose client
    /// went away says nothing unless `errors` asks for it.
    pub(crate) fn errors(&self, errors: Errors) -> Tally {
        let mut tally = Tally {
            requests: self.successes.saturating_add(self.client_errors).saturating_add(self.server_errors),
            bad: self.server_errors.saturating_add(self.grpc_failures.min(self.successes)),
        };
        if errors.client_errors {
            tally.bad = tally.bad.saturating_add(self.client_errors);
        }
        if errors.client_closed {
            tally += Tally { requests: self.client_closed, bad: self.client_closed };
        }
        tally
    }

    /// The percentage of errors, as most checks count them; 0 without requests.
    #[must_use]
    pub(crate) fn error_rate(&self) -> f64 {
        self.errors(Errors::default()).percent().unwrap_or(0.0)
    }

    /// Errors in a sentence: `14 of 820 (1.71 %, of which 3 connect, 1 timeout)`.
    pub(crate) fn errors_in_words(&self, errors: Errors) -> String {
        let tally = self.errors(errors);
        let own = self.own_in_words();
        let of_which = if own.is_empty() { own } else { format!("of which {own}") };
        format::part_of(tally.bad, tally.requests, &of_which)
    }

    /// The same from the other side: `806 of 820 (98.29 %, of the errors 3 connect, 1 timeout)`.
    pub(crate) fn successes_in_words(&self, errors: Errors) -> String {
        let tally = self.errors(errors);
        let own = self.own_in_words();
        let of_the_errors = if own.is_empty() { own } else { format!("of the errors {own}") };
        format::part_of(tally.requests.saturating_sub(tally.bad), tally.requests, &of_the_errors)
    }

    /// What Weir answered itself: `3 connect, 1 timeout`.
    fn own_in_words(&self) -> String {
        let own = self.own.iter().filter(|(_, count)| *count > 0);
        own.map(|(kind, count)| format!("{} {kind}", format::count(*count))).collect::<Vec<_>>().join(", ")
    }

    /// All finished requests, those whose client went away among them.
    pub(crate) fn requests(&self) -> u64 {
        self.errors(Errors { client_errors: false, client_closed: true }).requests
    }

    /// Whether [`Self::slower`] counts exactly: a bucket ends at `limit`, or nothing was counted at all.
    pub(crate) fn is_exact(&self, limit: Duration) -> bool {
        self.buckets.is_empty() || self.edges.binary_search(&limit).is_ok()
    }

    /// The requests whose client went away before the first byte, among all.
    pub(crate) fn abandoned(&self) -> Tally {
        Tally { requests: self.requests(), bad: self.abandoned.iter().sum::<u64>().min(self.requests()) }
    }

    /// How many requests took longer than `limit`, and those that would have: a client that went away before the first
    /// byte saw nothing of a response in time, however short its own patience was.
    pub(crate) fn slower(&self, limit: Duration) -> Tally {
        let mut tally = self.above(&self.buckets, limit);
        let abandoned = self.above(&self.abandoned, limit);
        tally.bad = (tally.bad + (abandoned.requests - abandoned.bad)).min(tally.requests);
        tally
    }

    /// How many of the requests in `buckets` took longer than `limit`: exact where a bucket ends there. Elsewhere those of the bucket
    /// around it are taken to lie evenly in it, as Prometheus' `histogram_quantile` does; beyond the last edge all
    /// are slower.
    fn above(&self, buckets: &[u64], limit: Duration) -> Tally {
        let requests = buckets.iter().sum();
        let above = |bucket: usize| buckets.iter().skip(bucket).sum::<u64>();
        let bad = match self.edges.binary_search(&limit) {
            Ok(edge) => above(edge + 1),
            Err(around) => {
                let lower = around.checked_sub(1).and_then(|below| self.edges.get(below)).copied().unwrap_or_default();
                let share = self.edges.get(around).map_or(1.0, |upper| {
                    upper.saturating_sub(limit).as_secs_f64() / upper.saturating_sub(lower).as_secs_f64()
                });
                let inside = buckets.get(around).copied().unwrap_or_default();
                above(around + 1) + rounded(inside as f64 * share)
            }
        };
        Tally { requests, bad }
    }

    /// The duration below which a share `quantile` (0 to 1) of the requests lay: interpolated evenly inside its
    /// bucket, and at most the last edge, as Prometheus' `histogram_quantile` does. For display only.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * total as f64;
        let (mut below, mut lower) = (0_u64, Duration::ZERO);
        for (edge, count) in self.edges.iter().zip(&self.buckets) {
            let through = below.saturating_add(*count);
            if *count > 0 && through as f64 >= rank {
                let part = ((rank - below as f64) / *count as f64).clamp(0.0, 1.0);
                return Some(lower + edge.saturating_sub(lower).mul_f64(part));
            }
            (below, lower) = (through, *edge);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn exactly_at_the_limit_is_not_above_it() {
        for (percent, of) in [(1.0, 100), (0.1, 1_000), (0.3, 1_000), (0.7, 1_000), (33.3, 1_000), (0.01, 10_000)] {
            let at = (1..of).find(|bad| *bad as f64 >= percent * of as f64 / 100.0 - 1e-9).unwrap();
            assert!(!Tally { requests: of, bad: at }.above(Limit::percent(percent)), "{at} of {of} is {percent} %");
            assert!(Tally { requests: of, bad: at + 1 }.above(Limit::percent(percent)));
        }
        // 1 − 0.9 is less than 0.1 in binary.
        assert!(!Tally { requests: 10, bad: 1 }.above(Limit::ratio(0.9).rest()));
        assert!(!Tally::default().above(Limit::percent(0.0)));
        assert!(Tally { requests: u64::MAX, bad: 1 }.above(Limit::percent(0.0)));
    }

    #[test]
    fn what_counts_as_an_error_is_what_was_asked() {
        let sample = Sample {
            successes: 60,
            client_errors: 30,
            server_errors: 10,
            grpc_failures: 5,
            client_closed: 100,
            ..Sample::default()
        };
        let tally = |client_errors, client_closed| sample.errors(Errors { client_errors, client_closed });
        assert_eq!(tally(false, false), Tally { requests: 100, bad: 15 });
        assert_eq!(tally(true, false), Tally { requests: 100, bad: 45 });
        assert_eq!(tally(false, true), Tally { requests: 200, bad: 115 });
        assert_eq!(sample.requests(), 200);
    }

    #[test]
    fn slower_is_exact_at_an_edge_and_estimated_between() {
        let edges = [ms(100), ms(500)];
        let sample = Sample { buckets: vec![90, 8, 2], edges: edges.into(), ..Sample::default() };
        assert_eq!(sample.slower(ms(500)), Tally { requests: 100, bad: 2 });
        assert_eq!(sample.slower(ms(100)), Tally { requests: 100, bad: 10 });
        assert_eq!(sample.slower(ms(200)), Tally { requests: 100, bad: 8 }, "three quarters of eight, and two");
        assert_eq!(sample.slower(ms(700)), Tally { requests: 100, bad: 2 }, "beyond the last edge all are slower");
        assert!(sample.is_exact(ms(500)) && !sample.is_exact(ms(200)));
        assert_eq!(sample.quantile(0.45), Some(ms(50)));
        assert_eq!(sample.quantile(0.94), Some(ms(300)));
        assert_eq!(sample.quantile(0.999), Some(ms(500)), "what is above the last edge is shown as the last edge");
        assert_eq!(Sample::default().quantile(0.5), None);
    }
}
