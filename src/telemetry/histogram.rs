//! Durations in buckets: where the edges lie, and what a quantile of such counts is.
//!
//! The edges are fixed when a series begins: a histogram whose edges move cannot be subtracted from itself.
//! A limit that somebody configured must be an edge, or "how many were slower than the limit" has no exact
//! answer; [`Edges::with`] adds them.
//!
//! Invariants: edges rise strictly; an edge belongs to the bucket below it (`le`, as Prometheus counts).

use std::time::Duration;

/// The edges every series has, in milliseconds.
const STANDARD_MS: [u64; 19] =
    [5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000];

/// At most so many edges are added to the standard ones, so that a file cannot make a series large.
const MAX_EXTRA: usize = 13;

/// Upper bounds of the buckets of a histogram of durations. One more bucket takes what is above the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edges {
    nanos: Box<[u64]>,
}

impl Edges {
    /// 5 ms to 30 s.
    #[must_use]
    pub(crate) fn standard() -> Self {
        Self::with(&[])
    }

    /// The standard edges and those of `extra`, which are limits that somebody configured. Zero is no edge,
    /// and only the first 13 that are new count.
    #[must_use]
    pub(crate) fn with(extra: &[Duration]) -> Self {
        let mut nanos: Vec<u64> = STANDARD_MS.iter().map(|ms| ms * 1_000_000).collect();
        for edge in extra.iter().map(|edge| as_nanos(*edge)).filter(|edge| *edge > 0) {
            if !nanos.contains(&edge) && nanos.len() < STANDARD_MS.len() + MAX_EXTRA {
                nanos.push(edge);
            }
        }
        nanos.sort_unstable();
        Self { nanos: nanos.into() }
    }

    /// The number of buckets: one per edge and one above the last.
    #[must_use]
    pub(crate) fn buckets(&self) -> usize {
        self.nanos.len() + 1
    }

    /// The bucket of `duration`: the first whose edge is not below it.
    #[inline]
    #[must_use]
    pub(crate) fn bucket(&self, duration: Duration) -> usize {
        let nanos = as_nanos(duration);
        self.nanos.partition_point(|edge| *edge < nanos)
    }

    /// The edges, rising.
    pub(crate) fn durations(&self) -> impl Iterator<Item = Duration> {
        self.nanos.iter().map(|nanos| Duration::from_nanos(*nanos))
    }

    /// The edges in seconds, rising.
    pub(crate) fn seconds(&self) -> impl Iterator<Item = f64> {
        self.nanos.iter().map(|nanos| *nanos as f64 / 1e9)
    }

    /// The duration below which a share `q` (0 to 1) of `counts` (by bucket) lies, or `None` without counts.
    ///
    /// The value is interpolated linearly between the edges of the bucket in which the rank `q × total`
    /// falls, as if its durations were spread evenly; the first bucket begins at 0, and what is above the
    /// last edge is reported as the last edge. This is Prometheus' `histogram_quantile`, so the command line
    /// and a dashboard show the same number.
    #[must_use]
    pub(crate) fn quantile(&self, counts: &[u64], q: f64) -> Option<Duration> {
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total as f64;
        let (mut below, mut lower) = (0_u64, 0_u64);
        for (edge, count) in self.nanos.iter().zip(counts) {
            let through = below + count;
            if *count > 0 && through as f64 >= rank {
                let part = (rank - below as f64) / *count as f64;
                let nanos = lower as f64 + (edge - lower) as f64 * part;
                return Duration::try_from_secs_f64(nanos / 1e9).ok();
            }
            (below, lower) = (through, *edge);
        }
        self.nanos.last().map(|last| Duration::from_nanos(*last))
    }
}

/// Nanoseconds, at most [`u64::MAX`] (584 years).
fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_standard_edges_are_those_of_the_contract() {
        let seconds: Vec<String> = Edges::standard().seconds().map(|s| s.to_string()).collect();
        assert_eq!(seconds.join(" "), "0.005 0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 1.5 2 3 5 10 30");
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it() {
        let edges = Edges::standard();
        assert_eq!(edges.bucket(Duration::ZERO), 0);
        assert_eq!(edges.bucket(5 * MS), 0);
        assert_eq!(edges.bucket(5 * MS + Duration::from_nanos(1)), 1);
        assert_eq!(edges.bucket(30_000 * MS), 18);
        assert_eq!(edges.bucket(30_001 * MS), 19);
        assert_eq!(edges.bucket(Duration::MAX), 19);
    }

    #[test]
    fn configured_limits_become_edges_and_repeated_or_zero_ones_do_not() {
        let edges = Edges::with(&[250 * MS, 500 * MS, Duration::ZERO, 250 * MS]);
        assert_eq!(edges.buckets(), Edges::standard().buckets() + 1);
        assert!(edges.seconds().any(|s| s == 0.25));
        let has = |limit| edges.nanos.contains(&as_nanos(limit));
        assert!(has(250 * MS) && has(500 * MS) && !has(251 * MS) && !has(Duration::ZERO));
        assert!(edges.seconds().is_sorted());
        let many: Vec<Duration> = (1..100).map(|n| n * 7 * MS).collect();
        assert_eq!(Edges::with(&many).buckets(), 19 + 13 + 1);
    }

    #[test]
    fn a_quantile_is_interpolated_inside_its_bucket() {
        let edges = Edges::standard();
        let mut counts = vec![0; edges.buckets()];
        assert_eq!(edges.quantile(&counts, 0.5), None);
        counts[5] = 100; // 75 ms to 100 ms
        assert_eq!(edges.quantile(&counts, 0.5), Some(Duration::from_micros(87_500)));
        assert_eq!(edges.quantile(&counts, 1.0), Some(100 * MS));
        assert_eq!(edges.quantile(&counts, 0.0), Some(75 * MS));
        counts[19] = 900; // above 30 s
        assert_eq!(edges.quantile(&counts, 0.99), Some(30_000 * MS));
        assert_eq!(edges.quantile(&counts, f64::NAN), edges.quantile(&counts, 1.0));
    }

    proptest! {
        #[test]
        fn a_bucket_is_found_as_by_looking_at_every_edge(nanos in 0_u64..40_000_000_000, extra in 0_u64..40_000) {
            let edges = Edges::with(&[Duration::from_millis(extra)]);
            let naive = edges.nanos.iter().position(|edge| nanos <= *edge).unwrap_or(edges.nanos.len());
            prop_assert_eq!(edges.bucket(Duration::from_nanos(nanos)), naive);
        }

        #[test]
        fn a_quantile_lies_in_the_bucket_of_the_true_one(
            mut durations in prop::collection::vec(0_u64..29_000_000_000, 1..200),
            percent in 1_usize..=100,
        ) {
            let edges = Edges::standard();
            let mut counts = vec![0; edges.buckets()];
            durations.iter().for_each(|d| counts[edges.bucket(Duration::from_nanos(*d))] += 1);
            durations.sort_unstable();
            let rank = (percent * durations.len()).div_ceil(100) - 1;
            let bucket = edges.bucket(Duration::from_nanos(durations[rank]));
            let lower = if bucket == 0 { 0 } else { edges.nanos[bucket - 1] };
            let found = as_nanos(edges.quantile(&counts, percent as f64 / 100.0).unwrap());
            // A nanosecond of slack: the interpolation is done in floating point.
            prop_assert!(found + 1 >= lower && found <= edges.nanos[bucket] + 1, "{found} not in bucket {bucket}");
        }
    }
}
