//! `/metrics`: what the recorder knows, as Prometheus reads it.
//!
//! One walk over all series makes metric families of the `prometheus` crate, and [`exposition`] writes them as text. The
//! crate's values are large (about a kilobyte per sample), so the text is written in portions: with 100,000 routes under
//! traffic the intermediate form stays below a megabyte, and only the text itself grows.
//!
//! What is exposed of a version: requests in flight always; everything else once anything was counted on it,
//! and then every label value of it with 0, so that a rate sees the first error. A route appears with its
//! first finished request.
//!
//! Invariants: nothing is written that is not in the table of [metrics](super::metric); a request is never
//! slowed by a scrape, they share atomics and no lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use prometheus::core::Collector as _;
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::model::{EndpointState, FLAG_PREFIX};

use super::cohort::CohortSeries;
use super::facts::{LimitFact, SnapshotFacts};
use super::label::{
    ConnectionRefusal, CutKind, DecisionReason, H2Abuse, InjectedFault, Lane, LookupResult, MirrorComparison,
    MirrorOutcome, RetryReason, StreamKind, UpstreamError,
};
use super::listener::ListenerSeries;
use super::metric::{self, Metric, MetricKind};
use super::mirror::MirrorSeries;
use super::recorder::Recorder;
use super::series::VersionSeries;

/// The media type of [`exposition`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// FamilySamples that are in the crate's form at a time.
const PORTION: usize = 512;

/// All metrics in the text format, version 0.0.4.
#[must_use]
pub fn exposition(recorder: &Recorder) -> String {
    let mut text = ExpositionText::default();
    walk(recorder, &mut |family| text.append(&family));
    recorder.process().collect().iter().for_each(|family| text.append(family));
    String::from_utf8(text.bytes).unwrap_or_default()
}

/// The text so far, and whose samples came last.
#[derive(Default)]
struct ExpositionText {
    bytes: Vec<u8>,
    last: String,
}

impl ExpositionText {
    /// Appends a portion of a family. Only the first portion brings `# HELP` and `# TYPE`.
    fn append(&mut self, family: &MetricFamily) {
        let start = self.bytes.len();
        if let Err(error) = TextEncoder::new().encode(std::slice::from_ref(family), &mut self.bytes) {
            // The encoder refuses only families without a name or samples, and neither is made here.
            tracing::warn!(metric = family.name(), %error, "left a metric out of the exposition");
            self.bytes.truncate(start);
            return;
        }
        if self.last == family.name() {
            let head = self.bytes.get(start..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
            let head: usize = head.take_while(|line| line.starts_with(b"#")).map(<[u8]>::len).sum();
            self.bytes.drain(start..start + head);
        } else {
            family.name().clone_into(&mut self.last);
        }
    }
}

/// Hands all families to `out`, in portions of at most [`PORTION`] samples; portions of one family follow one
/// another.
fn walk(recorder: &Recorder, out: &mut dyn FnMut(MetricFamily)) {
    // What a flag's values count was counted on a version of its service already.
    let (flags, all): (Vec<_>, Vec<_>) =
        recorder.live_versions().into_iter().partition(|version| flag(version).is_some());
    let busy: Vec<_> = all.iter().filter(|version| version.has_traffic()).map(Arc::as_ref).collect();
    let family = &mut Portions { out };
    let facts = &recorder.facts();

    requests(family.of(&metric::REQUESTS), &busy);
    histograms(family.of(&metric::REQUEST_DURATION), &busy, VersionSeries::durations);
    histograms(family.of(&metric::UPSTREAM_DURATION), &busy, VersionSeries::upstream_durations);
    flag_requests(family.of(&metric::FLAG_REQUESTS), &flags);
    flag_durations(family.of(&metric::FLAG_DURATION), &flags);
    in_flight(family.of(&metric::IN_FLIGHT), &all);
    by_word(family.of(&metric::STREAMS), &busy, VersionSeries::streams_open, &STREAM_KINDS);
    by_word(family.of(&metric::UPSTREAM_ERRORS), &busy, VersionSeries::upstream_errors, &UPSTREAM_KINDS);
    by_word(family.of(&metric::UPSTREAM_RETRIES), &busy, VersionSeries::retries, &RETRY_REASONS);
    by_version(family.of(&metric::RETRY_OVERFLOW), &busy, VersionSeries::retry_overflows);
    by_version(family.of(&metric::RESCUED), &busy, VersionSeries::rescues);
    let live = recorder.live_mirrors();
    mirrors(family.of(&metric::MIRROR_REQUESTS), &live);
    comparisons(family.of(&metric::MIRROR_COMPARED), &live);
    by_version(family.of(&metric::UPSTREAM_CONNECTS), &busy, VersionSeries::upstream_connects);
    weights(family.of(&metric::SPLIT_WEIGHT), facts);
    by_word(family.of(&metric::SPLIT_DECISIONS), &busy, VersionSeries::decisions, &DECISION_REASONS);
    cohorts(family.of(&metric::COHORT_DECISIONS), &recorder.live_cohorts());
    endpoints(family, facts);
    by_word(family.of(&metric::DRAIN_CUT), &busy, VersionSeries::cuts, &CUT_KINDS);
    by_version(family.of(&metric::GRPC_FAILURES), &busy, VersionSeries::grpc_failures);
    by_word(family.of(&metric::INJECTED_FAULTS), &busy, VersionSeries::injected_faults, &INJECTED_FAULTS);
    rollouts(family, facts);
    names(family, recorder, facts);
    lanes(family.of(&metric::LANE_REQUESTS), recorder);
    config(family, recorder, facts);
    listeners(family, &recorder.live_listeners());
    family.of(&metric::UNREAD_BYTES).push(&[], recorder.unread().bytes() as f64);
    family.of(&metric::UNREAD_CUT).push(&[], recorder.unread().cuts() as f64);
    let mut abuse = family.of(&metric::H2_ABUSE);
    for kind in H2Abuse::ALL {
        abuse.push(&[kind.as_str()], recorder.h2_abuse().count(*kind) as f64);
    }
    drop(abuse);
    family.of(&metric::ACCESS_LOG_DROPPED).push(&[], recorder.lines_dropped().load(Ordering::Relaxed) as f64);
    family.of(&metric::LOG_DROPPED).push(&[], recorder.log_drops() as f64);
    family.of(&metric::BUILD_INFO).push(&[recorder.options().version, recorder.options().revision], 1.0);
}

/// A closed set of label values and how each is spelled.
struct Words<W: 'static> {
    all: &'static [W],
    word: fn(W) -> &'static str,
}

const STREAM_KINDS: Words<StreamKind> = Words { all: StreamKind::ALL, word: StreamKind::as_str };
const UPSTREAM_KINDS: Words<UpstreamError> = Words { all: UpstreamError::ALL, word: UpstreamError::as_str };
const RETRY_REASONS: Words<RetryReason> = Words { all: RetryReason::ALL, word: RetryReason::as_str };
const DECISION_REASONS: Words<DecisionReason> = Words { all: DecisionReason::ALL, word: DecisionReason::as_str };
const INJECTED_FAULTS: Words<InjectedFault> = Words { all: InjectedFault::ALL, word: InjectedFault::as_str };
const CUT_KINDS: Words<CutKind> = Words { all: CutKind::ALL, word: CutKind::as_str };

fn by_word<W: Copy>(
    mut samples: FamilySamples<'_, '_>,
    versions: &[&VersionSeries],
    count: fn(&VersionSeries, W) -> u64,
    words: &Words<W>,
) {
    for version in versions {
        for word in words.all {
            let labels = [version.service(), version.version(), (words.word)(*word)];
            samples.push(&labels, count(version, *word) as f64);
        }
    }
}

fn lanes(mut samples: FamilySamples<'_, '_>, recorder: &Recorder) {
    for lane in Lane::ALL {
        samples.push(&[lane.as_str()], recorder.lanes().carried(*lane) as f64);
    }
}

fn by_version(mut samples: FamilySamples<'_, '_>, versions: &[&VersionSeries], count: fn(&VersionSeries) -> u64) {
    for version in versions {
        samples.push(&[version.service(), version.version()], count(version) as f64);
    }
}

fn cohorts(mut samples: FamilySamples<'_, '_>, cohorts: &[Arc<CohortSeries>]) {
    for cohort in cohorts {
        samples.push(&cohort.labels(), cohort.decisions() as f64);
    }
}

fn comparisons(mut samples: FamilySamples<'_, '_>, mirrors: &[Arc<MirrorSeries>]) {
    for mirror in mirrors {
        let [service, version] = mirror.labels();
        for (route, counts) in mirror.comparisons() {
            for (result, count) in MirrorComparison::ALL.iter().zip(counts) {
                samples.push(&[service, version, &route, result.as_str()], count as f64);
            }
        }
    }
}

fn mirrors(mut samples: FamilySamples<'_, '_>, mirrors: &[Arc<MirrorSeries>]) {
    for mirror in mirrors {
        let [service, version] = mirror.labels();
        for outcome in MirrorOutcome::ALL {
            samples.push(&[service, version, outcome.as_str()], mirror.count(*outcome) as f64);
        }
    }
}

fn in_flight(mut samples: FamilySamples<'_, '_>, versions: &[Arc<VersionSeries>]) {
    for version in versions {
        samples.push(&[version.service(), version.version()], version.in_flight() as f64);
    }
}

fn requests(mut samples: FamilySamples<'_, '_>, versions: &[&VersionSeries]) {
    for version in versions {
        for route in version.routes_with_traffic() {
            for (code, count) in route.requests_by_code() {
                samples.push(&[version.service(), version.version(), route.route(), &code], count as f64);
            }
        }
    }
}

fn histograms(
    mut samples: FamilySamples<'_, '_>,
    versions: &[&VersionSeries],
    read: fn(&VersionSeries) -> (Vec<u64>, u64),
) {
    for version in versions {
        samples.push_histogram(&[version.service(), version.version()], histogram(version, read(version)));
    }
}

fn histogram(version: &VersionSeries, (counts, sum_micros): (Vec<u64>, u64)) -> proto::Histogram {
    let mut through = 0;
    let buckets = version.edges().seconds().zip(&counts).map(|(edge, count)| {
        through += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(edge);
        bucket.set_cumulative_count(through);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    // The count is the sum of the buckets that were read, so the two never disagree.
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum_micros as f64 / 1e6);
    histogram
}

/// The flag's name, if this is the value of one and no version of a service of the file.
fn flag(value: &VersionSeries) -> Option<&str> {
    value.service().strip_prefix(FLAG_PREFIX)
}

fn flag_requests(mut samples: FamilySamples<'_, '_>, values: &[Arc<VersionSeries>]) {
    for value in values {
        for (code, count) in value.routes_with_traffic().iter().flat_map(|route| route.requests_by_code()) {
            samples.push(&[flag(value).unwrap_or_default(), value.version(), &code], count as f64);
        }
    }
}

fn flag_durations(mut samples: FamilySamples<'_, '_>, values: &[Arc<VersionSeries>]) {
    for value in values.iter().filter(|value| value.has_traffic()) {
        samples
            .push_histogram(&[flag(value).unwrap_or_default(), value.version()], histogram(value, value.durations()));
    }
}

fn weights(mut samples: FamilySamples<'_, '_>, facts: &SnapshotFacts) {
    for fact in &facts.weights {
        samples.push(&[&fact.service, &fact.version, "configured"], fact.configured.ratio());
        samples.push(&[&fact.service, &fact.version, "effective"], fact.effective);
    }
}

fn endpoints(family: &mut Portions<'_>, facts: &SnapshotFacts) {
    let mut samples = family.of(&metric::ENDPOINT_UP);
    for fact in &facts.endpoints {
        samples.push(&[&fact.service, &fact.version, &fact.endpoint], one_if(fact.up));
    }
    drop(samples);
    let mut samples = family.of(&metric::ENDPOINT_STATE);
    for fact in &facts.endpoints {
        for state in EndpointState::ALL {
            let labels = [&fact.service, &fact.version, &fact.endpoint, state.as_str()];
            samples.push(&labels, one_if(fact.state == state));
        }
    }
    drop(samples);
    endpoint_counts(family, facts);
    let mut samples = family.of(&metric::VERSION_PANIC);
    facts.weights.iter().for_each(|fact| samples.push(&[&fact.service, &fact.version], one_if(fact.panics)));
    drop(samples);
    limits(family, facts, &metric::LIMIT_USED, |limit| limit.used);
    limits(family, facts, &metric::LIMIT_WAITING, |limit| limit.waiting);
}

/// One figure of the limits of versions.
fn limits(family: &mut Portions<'_>, facts: &SnapshotFacts, metric: &'static Metric, of: fn(&LimitFact) -> usize) {
    let mut samples = family.of(metric);
    for fact in &facts.weights {
        for limit in &fact.limits {
            samples.push(&[&fact.service, &fact.version, limit.limited], of(limit) as f64);
        }
    }
}

/// What happened on endpoints: of those on which something did.
fn endpoint_counts(family: &mut Portions<'_>, facts: &SnapshotFacts) {
    let used: Vec<_> = facts.endpoints.iter().filter(|fact| fact.counts.is_used()).collect();
    let mut samples = family.of(&metric::ENDPOINT_CONNECTS);
    for fact in &used {
        samples.push(&[&fact.service, &fact.version, &fact.endpoint], fact.counts.connects as f64);
    }
    drop(samples);
    let mut samples = family.of(&metric::ENDPOINT_FAILURES);
    for fact in &used {
        for (cause, count) in &fact.counts.failures {
            samples.push(&[&fact.service, &fact.version, &fact.endpoint, cause.as_str()], *count as f64);
        }
    }
    drop(samples);
    let mut samples = family.of(&metric::ENDPOINT_EJECTIONS);
    for fact in &used {
        for (reason, count) in &fact.counts.ejections {
            samples.push(&[&fact.service, &fact.version, &fact.endpoint, reason.as_str()], *count as f64);
        }
    }
    drop(samples);
    let mut samples = family.of(&metric::ENDPOINT_CHECKS);
    for fact in &used {
        for (result, count) in &fact.counts.checks {
            samples.push(&[&fact.service, &fact.version, &fact.endpoint, result.as_str()], *count as f64);
        }
    }
}

fn rollouts(family: &mut Portions<'_>, facts: &SnapshotFacts) {
    let mut samples = family.of(&metric::ROLLOUT_PHASE);
    for fact in &facts.rollouts {
        fact.phases.iter().for_each(|phase| samples.push(&[&fact.service, phase], one_if(*phase == fact.phase)));
    }
    drop(samples);
    let mut samples = family.of(&metric::ROLLOUT_STEP);
    facts.rollouts.iter().for_each(|fact| samples.push(&[&fact.service], fact.step as f64));
    drop(samples);
    let mut samples = family.of(&metric::ROLLOUT_CHECKS);
    for fact in &facts.rollouts {
        fact.checks.iter().for_each(|(check, word, count)| samples.push(&[&fact.service, check, word], *count as f64));
    }
    drop(samples);
    let mut samples = family.of(&metric::ROLLOUT_TRANSITIONS);
    for fact in &facts.rollouts {
        fact.transitions.iter().for_each(|(to, by, count)| samples.push(&[&fact.service, to, by], *count as f64));
    }
}

fn names(family: &mut Portions<'_>, recorder: &Recorder, facts: &SnapshotFacts) {
    let mut samples = family.of(&metric::DNS_LOOKUPS);
    for result in LookupResult::ALL {
        samples.push(&[result.as_str()], recorder.lookups().count(*result) as f64);
    }
    drop(samples);
    let mut samples = family.of(&metric::DNS_LAST_ANSWER);
    for fact in &facts.names {
        let answered = fact.answered.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        samples.push(&[&fact.name], answered.as_secs_f64().round());
    }
}

fn config(family: &mut Portions<'_>, recorder: &Recorder, facts: &SnapshotFacts) {
    let reloads = recorder.reloads();
    let mut samples = family.of(&metric::CONFIG_RELOADS);
    samples.push(&["success"], reloads.succeeded.load(Ordering::Relaxed) as f64);
    samples.push(&["failure"], reloads.failed.load(Ordering::Relaxed) as f64);
    drop(samples);
    let last = reloads.last_succeeded.load(Ordering::Relaxed);
    family.of(&metric::CONFIG_LAST_SUCCESSFUL).push(&[], one_if(last));
    let millis = reloads.last_success_ms.load(Ordering::Relaxed);
    family.of(&metric::CONFIG_LAST_SUCCESS).push(&[], millis as f64 / 1e3);
    if !facts.config_hash.is_empty() {
        family.of(&metric::CONFIG_INFO).push(&[&facts.config_hash], 1.0);
    }
    let certificates = recorder.certificates();
    let mut samples = family.of(&metric::CERTIFICATE_RELOADS);
    samples.push(&["success"], certificates.replaced.load(Ordering::Relaxed) as f64);
    samples.push(&["failure"], certificates.failed.load(Ordering::Relaxed) as f64);
    drop(samples);
    family.of(&metric::CERTIFICATES_FAULTY).push(&[], certificates.faulty.load(Ordering::Relaxed) as f64);
}

fn listeners(family: &mut Portions<'_>, listeners: &[Arc<ListenerSeries>]) {
    let mut samples = family.of(&metric::CONNECTIONS);
    listeners.iter().for_each(|series| samples.push(&[series.listener()], series.connections() as f64));
    drop(samples);
    let mut samples = family.of(&metric::CONNECTIONS_ACCEPTED);
    listeners.iter().for_each(|series| samples.push(&[series.listener()], series.accepted_total() as f64));
    drop(samples);
    let mut samples = family.of(&metric::CONNECTIONS_REFUSED);
    for series in listeners {
        for reason in ConnectionRefusal::ALL {
            samples.push(&[series.listener(), reason.as_str()], series.refused_total(*reason) as f64);
        }
    }
}

const fn one_if(condition: bool) -> f64 {
    if condition { 1.0 } else { 0.0 }
}

/// Where portions of families go.
struct Portions<'a> {
    out: &'a mut dyn FnMut(MetricFamily),
}

impl<'a> Portions<'a> {
    /// Collects the samples of one family, until it is dropped.
    const fn of(&mut self, metric: &'static Metric) -> FamilySamples<'_, 'a> {
        FamilySamples { metric, pending: Vec::new(), portions: self }
    }
}

/// FamilySamples of one family that are not handed out yet.
struct FamilySamples<'p, 'a> {
    metric: &'static Metric,
    pending: Vec<proto::Metric>,
    portions: &'p mut Portions<'a>,
}

impl FamilySamples<'_, '_> {
    /// A sample of a counter or a gauge; `labels` are the values of the metric's labels, in its order.
    fn push(&mut self, labels: &[&str], value: f64) {
        let mut sample = self.sample(labels);
        match self.metric.kind {
            MetricKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            MetricKind::Gauge | MetricKind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        self.keep(sample);
    }

    fn push_histogram(&mut self, labels: &[&str], histogram: proto::Histogram) {
        let mut sample = self.sample(labels);
        sample.set_histogram(histogram);
        self.keep(sample);
    }

    fn sample(&self, values: &[&str]) -> proto::Metric {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        proto::Metric::from_label(self.metric.labels.iter().zip(values).map(pair).collect())
    }

    fn keep(&mut self, sample: proto::Metric) {
        self.pending.push(sample);
        if self.pending.len() >= PORTION {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.metric.name.to_owned());
        family.set_help(self.metric.help.to_owned());
        family.set_field_type(match self.metric.kind {
            MetricKind::Counter => MetricType::COUNTER,
            MetricKind::Gauge => MetricType::GAUGE,
            MetricKind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(std::mem::take(&mut self.pending));
        (self.portions.out)(family);
    }
}

impl Drop for FamilySamples<'_, '_> {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
