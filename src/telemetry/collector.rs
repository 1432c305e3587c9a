//! `/metrics`: the recorder as Prometheus sees it, through the `prometheus` crate's own types.
//!
//! Every metric is listed once, in [`METRICS`], with its labels; the documentation is checked against it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::histogram::Edges;
use super::label::{ConnectionRefusal, CutKind, DecisionReason, RetryReason, StreamKind, UpstreamError};
use super::recorder::Recorder;
use super::series::VersionSeries;
use crate::model::EndpointState;

/// The media type of [`exposition`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric: name, type, labels, help.
pub type Described = (&'static str, MetricType, &'static [&'static str], &'static str);

/// Every metric of Weir but `process_*`.
pub const METRICS: &[Described] = &[
    (REQUESTS, MetricType::COUNTER, &["service", "version", "route", "code"], "Requests by status, or client_closed."),
    (DURATION, MetricType::HISTOGRAM, VERSION, "Time from a request's head to the end of its response; to the first byte for upgrades and event streams."),
    (UPSTREAM_DURATION, MetricType::HISTOGRAM, VERSION, "Time from an attempt's start to the endpoint's first byte."),
    (IN_FLIGHT, MetricType::GAUGE, VERSION, "Requests in flight, streams included."),
    (STREAMS, MetricType::GAUGE, VERSION_KIND, "Open streams."),
    (ERRORS, MetricType::COUNTER, VERSION_KIND, "Attempts that an endpoint failed."),
    (RETRIES, MetricType::COUNTER, VERSION_REASON, "Attempts that were repeated."),
    (WEIGHT, MetricType::GAUGE, VERSION_KIND, "Share of the service's requests, 0 to 1, by the configuration or in effect."),
    (DECISIONS, MetricType::COUNTER, VERSION_REASON, "Requests by why they went to their version."),
    (UP, MetricType::GAUGE, &["service", "version", "endpoint"], "1 if the endpoint gets requests."),
    (STATE, MetricType::GAUGE, &["service", "version", "endpoint", "state"], "1 for the endpoint's state."),
    (CUT, MetricType::COUNTER, VERSION_KIND, "Requests and streams cut at a drain's or the process's deadline."),
    (RELOADS, MetricType::COUNTER, &["result"], "Configuration reloads."),
    (RELOAD_OK, MetricType::GAUGE, &[], "1 if the last reload was successful."),
    (RELOAD_AT, MetricType::GAUGE, &[], "When the last successful reload was."),
    (INFO, MetricType::GAUGE, &["hash"], "The configuration in effect."),
    (CONNECTIONS, MetricType::GAUGE, &["listener"], "Open client connections."),
    (REFUSED, MetricType::COUNTER, &["listener", "reason"], "Client connections closed before they carried a request."),
    (LOG_DROPPED, MetricType::COUNTER, &[], "Access log lines dropped because they were not taken in time."),
    (BUILD, MetricType::GAUGE, &["version", "revision"], "What runs."),
];

const VERSION: &[&str] = &["service", "version"];
const VERSION_KIND: &[&str] = &["service", "version", "kind"];
const VERSION_REASON: &[&str] = &["service", "version", "reason"];
const REQUESTS: &str = "weir_requests_total";
const DURATION: &str = "weir_request_duration_seconds";
const UPSTREAM_DURATION: &str = "weir_upstream_duration_seconds";
const IN_FLIGHT: &str = "weir_requests_in_flight";
const STREAMS: &str = "weir_streams_open";
const ERRORS: &str = "weir_upstream_errors_total";
const RETRIES: &str = "weir_upstream_retries_total";
const WEIGHT: &str = "weir_split_weight_ratio";
const DECISIONS: &str = "weir_split_decisions_total";
const UP: &str = "weir_endpoint_up";
const STATE: &str = "weir_endpoint_state";
const CUT: &str = "weir_drain_cut_total";
const RELOADS: &str = "weir_config_reloads_total";
const RELOAD_OK: &str = "weir_config_last_reload_successful";
const RELOAD_AT: &str = "weir_config_last_reload_success_timestamp_seconds";
const INFO: &str = "weir_config_info";
const CONNECTIONS: &str = "weir_client_connections";
const REFUSED: &str = "weir_client_connections_refused_total";
const LOG_DROPPED: &str = "weir_access_log_dropped_total";
const BUILD: &str = "weir_build_info";

/// All metrics as text.
#[must_use]
pub fn exposition(recorder: &Arc<Recorder>) -> Vec<u8> {
    let mut families = Exposed(Arc::clone(recorder)).collect();
    families.extend(prometheus::process_collector::ProcessCollector::for_self().collect());
    let mut text = Vec::with_capacity(64 * 1024);
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "metrics could not be encoded");
    }
    text
}

/// The recorder as a collector of the `prometheus` crate.
pub struct Exposed(pub Arc<Recorder>);

impl Collector for Exposed {
    fn desc(&self) -> Vec<&Desc> {
        // Families are built afresh at each look; nothing is registered ahead.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let recorder = &*self.0;
        let mut families = Families::default();
        let mut versions = recorder.versions.live(|_| true);
        versions.sort_by(|a, b| (&a.service, &a.version).cmp(&(&b.service, &b.version)));
        for series in &versions {
            families.version(series);
        }
        let mut routes = recorder.routes.live(|_| true);
        routes.push(Arc::clone(recorder.unmatched()));
        routes.sort_by(|a, b| (&a.service, &a.version, &a.route).cmp(&(&b.service, &b.version, &b.route)));
        for series in &routes {
            for (code, count) in series.codes.totals() {
                let labels = [&*series.service, &*series.version, &*series.route, &code.label()];
                families.count(REQUESTS, &labels, count);
            }
        }
        families.facts(recorder);
        families.process(recorder);
        families.sorted()
    }
}

#[derive(Default)]
struct Families(HashMap<&'static str, Vec<Metric>>);

impl Families {
    fn push(&mut self, name: &'static str, labels: &[&str], fill: impl FnOnce(&mut Metric)) {
        let names = METRICS.iter().find(|(known, ..)| *known == name).map_or(&[][..], |(_, _, names, _)| names);
        let mut metric = Metric::default();
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        metric.set_label(names.iter().zip(labels).map(pair).collect());
        fill(&mut metric);
        self.0.entry(name).or_default().push(metric);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
    fn count(&mut self, name: &'static str, labels: &[&str], value: u64) {
        self.push(name, labels, |metric| {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        });
    }

    fn gauge(&mut self, name: &'static str, labels: &[&str], value: f64) {
        self.push(name, labels, |metric| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    fn histogram(&mut self, name: &'static str, labels: &[&str], edges: &Edges, (counts, sum): &(Vec<u64>, f64)) {
        self.push(name, labels, |metric| {
            let mut below = 0;
            let bucket = |(edge, count): (f64, &u64)| {
                below += count;
                let mut bucket = Bucket::default();
                bucket.set_cumulative_count(below);
                bucket.set_upper_bound(edge);
                bucket
            };
            let buckets = edges.seconds().zip(counts).map(bucket).collect();
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets);
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(*sum);
            metric.set_histogram(histogram);
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
    fn version(&mut self, series: &VersionSeries) {
        let (service, version) = (&*series.service, &*series.version);
        self.histogram(DURATION, &[service, version], &series.edges, &series.request_buckets());
        self.histogram(UPSTREAM_DURATION, &[service, version], &series.edges, &series.upstream_buckets());
        self.gauge(IN_FLIGHT, &[service, version], series.in_flight() as f64);
        for kind in StreamKind::ALL {
            self.gauge(STREAMS, &[service, version, kind.as_str()], series.streams_open(*kind) as f64);
        }
        for kind in UpstreamError::ALL {
            self.count(ERRORS, &[service, version, kind.as_str()], series.upstream_errors(*kind));
        }
        for reason in RetryReason::ALL {
            self.count(RETRIES, &[service, version, reason.as_str()], series.retries(*reason));
        }
        for reason in DecisionReason::ALL {
            self.count(DECISIONS, &[service, version, reason.as_str()], series.decisions(*reason));
        }
        for kind in CutKind::ALL {
            self.count(CUT, &[service, version, kind.as_str()], series.cuts(*kind));
        }
    }

    fn facts(&mut self, recorder: &Recorder) {
        let facts = recorder.facts.load();
        for fact in &facts.versions {
            let (service, version) = (&*fact.service, &*fact.version);
            self.gauge(WEIGHT, &[service, version, "configured"], fact.configured.ratio());
            self.gauge(WEIGHT, &[service, version, "effective"], fact.effective.ratio());
            for endpoint in &fact.endpoints {
                self.gauge(UP, &[service, version, &endpoint.endpoint], f64::from(u8::from(endpoint.up)));
                for state in EndpointState::ALL {
                    let is = f64::from(u8::from(state == endpoint.state));
                    self.gauge(STATE, &[service, version, &endpoint.endpoint, state.as_str()], is);
                }
            }
        }
        self.gauge(INFO, &[&facts.hash], 1.0);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
    fn process(&mut self, recorder: &Recorder) {
        let reloads = &recorder.reloads;
        self.count(RELOADS, &["success"], reloads.success.load(Ordering::Relaxed));
        self.count(RELOADS, &["failure"], reloads.failure.load(Ordering::Relaxed));
        self.gauge(RELOAD_OK, &[], reloads.last_successful.load(Ordering::Relaxed) as f64);
        self.gauge(RELOAD_AT, &[], reloads.last_success.load(Ordering::Relaxed) as f64);
        let mut listeners = recorder.listeners.live(|_| true);
        listeners.sort_by(|a, b| a.name.cmp(&b.name));
        for series in &listeners {
            self.gauge(CONNECTIONS, &[&series.name], series.connections() as f64);
            for why in ConnectionRefusal::ALL {
                self.count(REFUSED, &[&series.name, why.as_str()], series.refusals(*why));
            }
        }
        self.count(LOG_DROPPED, &[], recorder.log_dropped.load(Ordering::Relaxed));
        self.gauge(BUILD, &[recorder.build.version, recorder.build.revision], 1.0);
    }

    fn sorted(mut self) -> Vec<MetricFamily> {
        let family = |(name, kind, _, help): &Described| {
            let metrics = self.0.remove(name)?;
            let mut family = MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(*kind);
            family.set_metric(metrics);
            Some(family)
        };
        METRICS.iter().filter_map(family).collect()
    }
}
