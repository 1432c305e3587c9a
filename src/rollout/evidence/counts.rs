//! What was counted between two lines of the history, as it is written down beside them: enough to judge it again, by
//! other limits and by other checks.
//!
//! Counts of different lines add up. Of the histograms only what is not empty is kept, with the edge below it, so that
//! [`HistoryLayout`] can put the histograms of a whole history together again.
//!
//! Invariants: whatever a file says, counts stay numbers that can be added up; at most [`MAX_ENDPOINTS`] endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::past::{Past, StablePast};
use super::question::Question;
use super::sample::{EndpointTally, Sample, Samples, Tally};
use crate::model::Name;

/// What was counted of both versions since the line before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedCounts {
    /// In so many seconds.
    seconds: f64,
    canary: RecordedSample,
    stable: RecordedSample,
    /// What stable usually did then, for each question of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<(Question, Past)>,
    /// Other services failed too, in words, if they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_failure: Option<String>,
}

/// What was counted of one version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct RecordedSample {
    #[serde(skip_serializing_if = "is_zero")]
    successes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    client_errors: u64,
    #[serde(skip_serializing_if = "is_zero")]
    server_errors: u64,
    #[serde(skip_serializing_if = "is_zero")]
    grpc_failures: u64,
    #[serde(skip_serializing_if = "is_zero")]
    client_closed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    durations: Vec<RecordedBucket>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    abandoned: Vec<RecordedBucket>,
    /// Address, requests, errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<(String, u64, u64)>,
    /// Requests and errors of each group of clients, where clients stay on the version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clients: Vec<(u64, u64)>,
}

/// The upper edge of a bucket in seconds, none of the last one, and how many are in it.
type RecordedBucket = (Option<f64>, u64);

/// A version with more endpoints is judged again as a whole.
const MAX_ENDPOINTS: usize = 16;
/// More groups of clients are not counted.
const MAX_CLIENT_GROUPS: usize = 64;
/// More requests than any Weir counts between two lines, and few enough to be added up for ever.
const MOST: u64 = 1_000_000_000_000;
/// Longer than any interval.
const LONGEST: Duration = Duration::from_hours(24);

impl RecordedCounts {
    /// Of what was `seen` of both versions, and of what stable usually does, for all that the plan asks.
    pub(crate) fn of(
        seen: &Samples,
        questions: &[Question],
        usual: &dyn StablePast,
        shared_failure: Option<String>,
    ) -> Self {
        let limits: BTreeSet<Duration> = questions.iter().filter_map(|question| question.edge()).collect();
        Self {
            // To the millisecond: more digits say nothing.
            seconds: (seen.canary.covered.as_secs_f64() * 1e3).round() / 1e3,
            canary: RecordedSample::of(&seen.canary, &limits),
            // What stable's clients have in common is in its past.
            stable: RecordedSample { clients: Vec::new(), ..RecordedSample::of(&seen.stable, &limits) },
            past: questions.iter().map(|question| (*question, usual.past(*question))).collect(),
            shared_failure,
        }
    }

    /// The time that they are about.
    pub(crate) fn covered(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default().min(LONGEST)
    }

    /// Whether it was written down what stable usually did, for `question`.
    pub(crate) fn knows(&self, question: Question) -> bool {
        self.past.iter().any(|(known, _)| *known == question)
    }

    /// Other services failed too, in words, if they did.
    pub(crate) fn shared_failure(&self) -> Option<&str> {
        self.shared_failure.as_deref()
    }
}

impl StablePast for RecordedCounts {
    fn past(&self, question: Question) -> Past {
        self.past.iter().find(|(known, _)| *known == question).map(|(_, past)| *past).unwrap_or_default()
    }
}

impl RecordedSample {
    fn of(sample: &Sample, limits: &BTreeSet<Duration>) -> Self {
        let endpoints = sample.endpoints.iter().filter(|endpoint| endpoint.tally.requests > 0);
        let endpoints: Vec<_> = endpoints
            .map(|endpoint| (endpoint.name.to_string(), endpoint.tally.requests, endpoint.tally.bad))
            .collect();
        let seen = sample.clients.iter().any(|group| group.requests > 0);
        let clients = sample.clients.iter().filter(|_| seen);
        Self {
            successes: sample.successes,
            client_errors: sample.client_errors,
            server_errors: sample.server_errors,
            grpc_failures: sample.grpc_failures,
            client_closed: sample.client_closed,
            durations: buckets(&sample.edges, &sample.buckets, limits),
            abandoned: buckets(&sample.edges, &sample.abandoned, limits),
            endpoints: if endpoints.len() > MAX_ENDPOINTS { Vec::new() } else { endpoints },
            clients: clients.map(|group| (group.requests, group.bad)).collect(),
        }
    }

    fn all_buckets(&self) -> impl Iterator<Item = &RecordedBucket> {
        self.durations.iter().chain(&self.abandoned)
    }
}

/// The buckets that say something: those with requests, those below them, for they say where these begin, and the ones
/// that end at a limit. None where there are no requests at all.
fn buckets(edges: &[Duration], counts: &[u64], limits: &BTreeSet<Duration>) -> Vec<RecordedBucket> {
    let count = |at: usize| counts.get(at).copied().unwrap_or_default();
    if counts.iter().all(|count| *count == 0) {
        return Vec::new();
    }
    let finite =
        edges.iter().enumerate().filter(|(at, edge)| count(*at) > 0 || count(*at + 1) > 0 || limits.contains(*edge));
    let mut kept: Vec<_> = finite.map(|(at, edge)| (Some(edge.as_secs_f64()), count(at))).collect();
    if count(edges.len()) > 0 {
        kept.push((None, count(edges.len())));
    }
    kept
}

/// The edges and endpoints of all lines of a history, so that the samples of each have them in the same places.
#[derive(Clone, Debug, Default)]
pub(crate) struct HistoryLayout {
    edges: Arc<[Duration]>,
    endpoints: Vec<Name>,
}

impl HistoryLayout {
    /// Of these lines.
    pub(crate) fn of<'c>(lines: impl Iterator<Item = &'c RecordedCounts>) -> Self {
        let (mut edges, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
        for sample in lines.flat_map(|line| [&line.canary, &line.stable]) {
            edges.extend(sample.all_buckets().filter_map(|(edge, _)| edge_of(*edge)));
            endpoints.extend(sample.endpoints.iter().map(|(name, ..)| name.as_str()));
        }
        Self { edges: edges.into_iter().collect(), endpoints: endpoints.into_iter().map(Name::from).collect() }
    }

    /// What a line counted.
    pub(crate) fn samples(&self, counts: &RecordedCounts) -> Samples {
        let covered = counts.covered();
        Samples { canary: self.sample(&counts.canary, covered), stable: self.sample(&counts.stable, covered) }
    }

    fn sample(&self, counts: &RecordedSample, covered: Duration) -> Sample {
        let endpoints = (0..).zip(&self.endpoints).map(|(id, name)| {
            let known = counts.endpoints.iter().filter(|(known, ..)| **known == **name);
            let tally = known.map(|(_, requests, bad)| tally(*requests, *bad)).sum();
            EndpointTally { id, name: name.clone(), tally }
        });
        Sample {
            covered,
            successes: counts.successes.min(MOST),
            client_errors: counts.client_errors.min(MOST),
            server_errors: counts.server_errors.min(MOST),
            grpc_failures: counts.grpc_failures.min(MOST),
            client_closed: counts.client_closed.min(MOST),
            own: Vec::new(),
            buckets: self.buckets(&counts.durations),
            abandoned: self.buckets(&counts.abandoned),
            edges: Arc::clone(&self.edges),
            endpoints: endpoints.collect(),
            clients: counts
                .clients
                .iter()
                .take(MAX_CLIENT_GROUPS)
                .map(|(requests, bad)| tally(*requests, *bad))
                .collect(),
        }
    }

    fn buckets(&self, recorded: &[RecordedBucket]) -> Vec<u64> {
        if self.edges.is_empty() {
            return Vec::new();
        }
        let counts: BTreeMap<Option<Duration>, u64> = recorded
            .iter()
            .map(|(edge, count)| (edge.and_then(|edge| edge_of(Some(edge))), (*count).min(MOST)))
            .collect();
        let count = |edge: Option<Duration>| counts.get(&edge).copied().unwrap_or_default();
        self.edges.iter().copied().map(Some).chain([None]).map(count).collect()
    }
}

fn tally(requests: u64, bad: u64) -> Tally {
    let requests = requests.min(MOST);
    Tally { requests, bad: bad.min(requests) }
}

fn edge_of(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests;
