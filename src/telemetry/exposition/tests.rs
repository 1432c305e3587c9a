use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::model::{Name, Weight};
use crate::telemetry::facts::{EndpointCounts, EndpointFact, NameFact, RolloutFact, SnapshotFacts, WeightFact};
use crate::telemetry::label::{CheckResult, EjectionReason, EndpointFailure, Lane, Outcome};
use crate::telemetry::metric::METRICS;
use crate::telemetry::recorder::RecorderOptions;

const MS: Duration = Duration::from_millis(1);

fn recorder() -> Arc<Recorder> {
    Recorder::new(RecorderOptions { threads: 2, version: "1.2.3", revision: "abc", started: Instant::now() })
}

/// A recorder on which everything happened once, and the handles that keep it so.
fn lively() -> (Arc<Recorder>, impl Sized) {
    let recorder = recorder();
    let route = recorder.route(&"shop".into(), &"v1".into(), &"checkout".into());
    let version = route.version();
    route.finish(Outcome::Status(200), 20 * MS);
    route.finish(Outcome::ClientClosed, 40_000 * MS);
    version.upstream_answered(4 * MS);
    DecisionReason::ALL.iter().for_each(|reason| version.decided(*reason));
    UpstreamError::ALL.iter().for_each(|kind| version.upstream_error(*kind));
    RetryReason::ALL.iter().for_each(|reason| version.retried(*reason));
    version.upstream_connected(3);
    version.retry_overflowed();
    version.rescued();
    CutKind::ALL.iter().for_each(|kind| version.cut(*kind));
    let open = (version.enter(), version.stream(StreamKind::WebSocket));
    recorder.unmatched().finish(Outcome::Status(404), MS);
    let idle = recorder.version(&"shop".into(), &"v2".into());
    let cohort = recorder.cohort(&"shop".into(), &"eu".into(), &"v1".into());
    cohort.decided();
    let mirror = recorder.mirror(&"shop".into(), &"v2".into());
    mirror.ended(MirrorOutcome::Overflow);
    mirror.compared(&"web".into(), MirrorComparison::Body);
    let flag = recorder.route(&"flag:dark".into(), &"on".into(), &"flag:dark".into());
    flag.finish(Outcome::Status(200), 20 * MS);
    let listener = recorder.listener(&"web".into());
    let connection = listener.accepted();
    listener.refused(ConnectionRefusal::Limit);
    recorder.config_loaded(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
    recorder.reload_failed();
    recorder.set_facts(SnapshotFacts {
        config_hash: "cafe".into(),
        weights: vec![WeightFact {
            service: "shop".into(),
            version: "v1".into(),
            configured: Weight::from_basis_points(9_000).unwrap(),
            effective: 1.0,
            panics: true,
            limits: vec![LimitFact { limited: "requests", used: 4, waiting: 3 }],
        }],
        endpoints: vec![EndpointFact {
            service: "shop".into(),
            version: "v1".into(),
            endpoint: "10.0.1.10:8080".into(),
            up: true,
            state: EndpointState::Drain,
            counts: EndpointCounts {
                connects: 5,
                failures: vec![(EndpointFailure::Refused, 2)],
                checks: vec![(CheckResult::Fail, 3)],
                ejections: vec![(EjectionReason::Unreachable, 1)],
            },
        }],
        names: vec![NameFact {
            name: "shop.internal:80".into(),
            answered: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(5)),
        }],
        rollouts: vec![RolloutFact {
            service: "shop".into(),
            phase: "baking",
            phases: &["idle", "baking"],
            step: 3,
            checks: vec![("errors".into(), "pass", 7)],
            transitions: vec![("baking", "judge", 1)],
        }],
    });
    recorder.lanes().entered();
    recorder.lanes().left(Lane::Express);
    recorder.lines_dropped().fetch_add(3, Ordering::Relaxed);
    (recorder, (cohort, mirror, flag, route, open, idle, listener, connection))
}

#[test]
fn every_fact_has_its_sample() {
    let (recorder, _held) = lively();
    let text = exposition(&recorder);
    for sample in [
        r#"weir_endpoint_connects_total{service="shop",version="v1",endpoint="10.0.1.10:8080"} 5"#,
        r#"weir_endpoint_failures_total{service="shop",version="v1",endpoint="10.0.1.10:8080",cause="refused"} 2"#,
        r#"weir_endpoint_ejections_total{service="shop",version="v1",endpoint="10.0.1.10:8080",reason="unreachable"} 1"#,
        r#"weir_endpoint_checks_total{service="shop",version="v1",endpoint="10.0.1.10:8080",result="fail"} 3"#,
        r#"weir_version_panic{service="shop",version="v1"} 1"#,
        r#"weir_limit_used{service="shop",version="v1",limit="requests"} 4"#,
        r#"weir_limit_waiting{service="shop",version="v1",limit="requests"} 3"#,
        r#"weir_rollout_phase{service="shop",phase="idle"} 0"#,
        r#"weir_rollout_phase{service="shop",phase="baking"} 1"#,
        r#"weir_rollout_step{service="shop"} 3"#,
        r#"weir_rollout_checks_total{service="shop",check="errors",verdict="pass"} 7"#,
        r#"weir_rollout_transitions_total{service="shop",to="baking",reason="judge"} 1"#,
        r#"weir_requests_total{service="",version="",route="",code="404"} 1"#,
        r#"weir_requests_total{service="shop",version="v1",route="checkout",code="200"} 1"#,
        r#"weir_requests_total{service="shop",version="v1",route="checkout",code="client_closed"} 1"#,
        r#"weir_request_duration_seconds_bucket{service="shop",version="v1",le="0.01"} 0"#,
        r#"weir_request_duration_seconds_bucket{service="shop",version="v1",le="0.025"} 1"#,
        r#"weir_request_duration_seconds_bucket{service="shop",version="v1",le="30"} 1"#,
        r#"weir_request_duration_seconds_bucket{service="shop",version="v1",le="+Inf"} 2"#,
        r#"weir_request_duration_seconds_sum{service="shop",version="v1"} 40.02"#,
        r#"weir_request_duration_seconds_count{service="shop",version="v1"} 2"#,
        r#"weir_flag_requests_total{flag="dark",value="on",code="200"} 1"#,
        r#"weir_flag_request_duration_seconds_count{flag="dark",value="on"} 1"#,
        r#"weir_upstream_duration_seconds_bucket{service="shop",version="v1",le="0.005"} 1"#,
        r#"weir_upstream_duration_seconds_sum{service="shop",version="v1"} 0.004"#,
        r#"weir_requests_in_flight{service="shop",version="v1"} 1"#,
        r#"weir_requests_in_flight{service="shop",version="v2"} 0"#,
        r#"weir_streams_open{service="shop",version="v1",kind="websocket"} 1"#,
        r#"weir_streams_open{service="shop",version="v1",kind="grpc"} 0"#,
        r#"weir_upstream_errors_total{service="shop",version="v1",kind="no_endpoint"} 1"#,
        r#"weir_upstream_retries_total{service="shop",version="v1",reason="reused"} 1"#,
        r#"weir_split_weight_ratio{service="shop",version="v1",kind="configured"} 0.9"#,
        r#"weir_split_weight_ratio{service="shop",version="v1",kind="effective"} 1"#,
        r#"weir_split_decisions_total{service="shop",version="v1",reason="override"} 1"#,
        r#"weir_endpoint_up{service="shop",version="v1",endpoint="10.0.1.10:8080"} 1"#,
        r#"weir_endpoint_state{service="shop",version="v1",endpoint="10.0.1.10:8080",state="ready"} 0"#,
        r#"weir_endpoint_state{service="shop",version="v1",endpoint="10.0.1.10:8080",state="drain"} 1"#,
        r#"weir_endpoint_state{service="shop",version="v1",endpoint="10.0.1.10:8080",state="maint"} 0"#,
        r#"weir_mirror_requests_total{service="shop",version="v2",outcome="overflow"} 1"#,
        r#"weir_mirror_requests_total{service="shop",version="v2",outcome="failed"} 0"#,
        r#"weir_mirror_compared_total{service="shop",version="v2",route="web",result="body"} 1"#,
        r#"weir_cohort_decisions_total{service="shop",cohort="eu",version="v1"} 1"#,
        r#"weir_drain_cut_total{service="shop",version="v1",kind="request"} 1"#,
        r#"weir_drill_faults_total{service="shop",version="v1",kind="error"} 0"#,
        r#"weir_upstream_connects_total{service="shop",version="v1"} 3"#,
        r#"weir_upstream_retry_overflow_total{service="shop",version="v1"} 1"#,
        r#"weir_rescued_requests_total{service="shop",version="v1"} 1"#,
        r#"weir_grpc_failures_total{service="shop",version="v1"} 0"#,
        r#"weir_lane_requests_total{lane="express"} 1"#,
        r#"weir_lane_requests_total{lane="general"} 0"#,
        r#"weir_config_reloads_total{result="success"} 0"#,
        r#"weir_config_reloads_total{result="failure"} 1"#,
        "weir_config_last_reload_successful 0",
        "weir_config_last_reload_success_timestamp_seconds 1.5",
        r#"weir_config_info{hash="cafe"} 1"#,
        r#"weir_client_connections{listener="web"} 1"#,
        r#"weir_client_connections_accepted_total{listener="web"} 1"#,
        r#"weir_client_connections_refused_total{listener="web",reason="limit"} 1"#,
        "weir_access_log_dropped_total 3",
        r#"weir_build_info{version="1.2.3",revision="abc"} 1"#,
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
    }
    assert!(!text.contains(r#"_bucket{service="shop",version="v2""#), "a version without traffic has no histogram");
    assert!(text.contains("\nprocess_open_fds ") && text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

/// What `promtool check metrics` looks at, and the table.
#[test]
fn the_text_is_well_formed_and_says_what_the_table_says() {
    let (recorder, _held) = lively();
    let text = exposition(&recorder);
    assert!(text.ends_with('\n'));
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut series = std::collections::BTreeSet::new();
    let (mut help, mut kind) = (("", ""), ("", ""));
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            help = line.split_once(' ').unwrap();
            assert!(!seen.contains_key(help.0), "{} comes in two groups", help.0);
            continue;
        }
        if let Some(line) = line.strip_prefix("# TYPE ") {
            kind = line.split_once(' ').unwrap();
            assert_eq!(kind.0, help.0, "every metric has both");
            continue;
        }
        let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        assert!(series.insert(name_and_labels), "{line} comes twice");
        let (name, labels) = name_and_labels.split_once('{').unwrap_or((name_and_labels, "}"));
        let suffixes: &[&str] = if kind.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        let suffix = suffixes.iter().find(|suffix| name == format!("{}{suffix}", kind.0)).unwrap();
        *seen.entry(kind.0).or_default() += 1;
        let Some(metric) = METRICS.iter().find(|metric| metric.name == kind.0) else {
            assert!(name.starts_with("process_"), "{name} is not in the table");
            continue;
        };
        assert_eq!((help.1, kind.1), (metric.help, word(metric.kind)));
        let labels = labels.strip_suffix('}').unwrap().split(',').filter(|pair| !pair.is_empty());
        let mut names: Vec<_> = labels.map(|pair| pair.split_once('=').unwrap().0).collect();
        if *suffix == "_bucket" {
            assert_eq!(names.pop(), Some("le"));
        }
        assert_eq!(names, metric.labels, "{line}");
    }
    for metric in METRICS {
        assert!(seen.contains_key(metric.name), "{} has no sample", metric.name);
    }
}

/// The word after `# TYPE`.
const fn word(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    }
}

#[test]
fn label_values_are_escaped() {
    let recorder = recorder();
    let route = recorder.route(&"a\"b\\c\nd".into(), &"é".into(), &"{x},".into());
    route.finish(Outcome::Status(200), MS);
    let sample = r#"weir_requests_total{service="a\"b\\c\nd",version="é",route="{x},",code="200"} 1"#;
    assert!(exposition(&recorder).lines().any(|line| line == sample));
}

#[test]
fn a_series_ends_with_its_last_holder() {
    let (recorder, held) = lively();
    assert!(exposition(&recorder).contains(r#"version="v1",route="checkout""#));
    drop(held);
    recorder.set_facts(SnapshotFacts::default());
    let text = exposition(&recorder);
    assert!(!text.contains(r#"service="shop""#) && !text.contains(r#"listener="web""#), "{text}");
    assert!(text.contains(r#"route="",code="404"} 1"#), "what was never matched stays");
}

#[test]
fn a_family_in_many_portions_has_one_head_and_all_samples_in_order() {
    let recorder = recorder();
    let version = recorder.version(&"shop".into(), &"v1".into());
    let names = (0..2 * PORTION + 100).map(|n| Name::from(format!("route-{n:05}")));
    let routes: Vec<_> = names.map(|name| version.route(&name)).collect();
    routes.iter().for_each(|route| route.finish(Outcome::Status(200), MS));
    let text = exposition(&recorder);
    assert_eq!(text.matches("# TYPE weir_requests_total counter\n").count(), 1);
    assert_eq!(text.matches("# HELP weir_requests_total ").count(), 1);
    let samples: Vec<_> = text.lines().filter(|line| line.starts_with("weir_requests_total{")).collect();
    assert_eq!(samples.len(), routes.len());
    assert!(samples.is_sorted());
}

#[test]
fn a_fact_that_is_published_twice_is_exposed_once() {
    let (recorder, _held) = lively();
    let mut facts = recorder.facts();
    facts.weights.extend(facts.weights.clone());
    facts.endpoints.extend(facts.endpoints.clone());
    recorder.set_facts(facts);
    let text = exposition(&recorder);
    assert_eq!(text.matches("weir_endpoint_up{").count(), 1);
    assert_eq!(text.matches("weir_split_weight_ratio{").count(), 2);
}
