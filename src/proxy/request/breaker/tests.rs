//! What finished requests say about their version, through `record`, which both lanes call.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drain::{Kind, Notifier};
use crate::proxy::request::attempts::Attempts;
use crate::proxy::request::context::{Assignment, RequestProgress};
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{BODY_TOO_LARGE, DRAINED, INJECTED_FAULT, LOCAL, NO_ENDPOINT, RESET, TIMEOUT};
use crate::proxy::request::flags::FlagValues;
use crate::proxy::request::record::{Finished, record};
use crate::proxy::shared::Shared;
use crate::rollout::breaker::ErrorCounter;
use crate::snapshot::compile::{Compiler, Inputs};
use crate::snapshot::live::CircuitBreaker;
use crate::snapshot::{Publisher, Route, Snapshot};
use crate::telemetry::access_log::LogOutput;
use crate::telemetry::{AccessLog, Lane, Outcome, Recorder, RecorderOptions};
use crate::traffic::split::Reason;
use crate::traffic::{HttpVersion, Request};

/// `GET /` without header fields.
struct Get;

impl Request for Get {
    fn version(&self) -> HttpVersion {
        HttpVersion::Http11
    }
    fn method(&self) -> &'static str {
        "GET"
    }
    fn target(&self) -> &[u8] {
        b"/"
    }
    fn authority(&self) -> Option<&[u8]> {
        None
    }
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    fn for_each_header(&self, _visit: &mut dyn FnMut(&[u8], &[u8])) {}
    fn client(&self) -> Option<std::net::IpAddr> {
        None
    }
}

const V1: usize = 0;
const V2: usize = 1;

/// A service whose second version is guarded by a wire that trips at two errors in a row.
struct Stage {
    shared: Shared,
    snapshot: Arc<Snapshot>,
    wire: Arc<CircuitBreaker>,
}

fn stage() -> Stage {
    let yaml = "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\nservices:\n  shop:\n    versions: \
        { v1: { endpoints: [\"127.0.0.1:1\"] }, v2: { endpoints: [\"127.0.0.1:2\"] } }\n    split: { v1: 0, v2: 100 }\n\
        routes: [{ match: { path: / }, service: shop }]\n";
    let config = crate::config::parse(Path::new("/etc/weir/weir.yaml"), yaml.as_bytes(), &|_: &str| None).unwrap();
    let options = RecorderOptions { threads: 1, version: "test", revision: "test", started: Instant::now() };
    let recorder = Recorder::new(options);
    let wire = CircuitBreaker::new(ErrorCounter::new(Some(2), None), "v1".into(), Arc::default(), Instant::now());
    let wire = Arc::new(wire);
    let breakers = BTreeMap::from([(("shop".into(), "v2".into()), Arc::clone(&wire))]);
    let inputs = Inputs { breakers, ..Inputs::default() };
    let snapshot = Compiler::new(Arc::clone(&recorder)).compile(&config, &inputs, None).unwrap();
    let (_, current) = Publisher::new(snapshot);
    let (access_log, _) = AccessLog::start(LogOutput::Off, 1, recorder.lines_dropped()).unwrap();
    let snapshot = current.load();
    let shared = Shared::new(current, recorder, access_log, Notifier::default());
    Stage { shared, snapshot, wire }
}

impl Stage {
    fn route(&self) -> Arc<Route> {
        Arc::clone(self.snapshot.table.find("shop", "/", &Get).unwrap())
    }

    fn finish(&self, version: usize, outcome: Outcome, cause: Option<&'static str>, kind: Kind) {
        self.finish_of((version, Reason::Weight, None), outcome, cause, kind);
    }

    /// The same of a request that is where it is for a reason, of a client with this hashed key.
    fn finish_of(
        &self,
        (version, reason, key): (usize, Reason, Option<u64>),
        outcome: Outcome,
        cause: Option<&'static str>,
        kind: Kind,
    ) {
        let route = self.route();
        let service = self.snapshot.service_of(&route).unwrap();
        self.shared.request_begun();
        let status = match outcome {
            Outcome::Status(status) => Some(status),
            Outcome::ClientClosed => None,
        };
        let ended = (cause == Some(DRAINED.cause)).then_some(End::Cut);
        let progress =
            RequestProgress { status, cause, kind, complete: status.is_some(), ended, ..RequestProgress::new() };
        assert_eq!(progress.outcome(), outcome);
        let assignment = Assignment {
            route: &route,
            service,
            version: service.versions.get(version).unwrap(),
            version_at: version,
            reason,
            cohort: None,
            key,
            flags: FlagValues::default(),
        };
        let finished = Finished {
            lane: Lane::Express,
            assigned: Some((assignment, &Attempts::new("GET", tokio::time::Instant::now(), None))),
            progress: &progress,
            duration: Duration::from_millis(1),
            logged: None,
        };
        record(&self.shared, &finished);
    }

    /// The version of the next request.
    fn next(&self) -> usize {
        self.snapshot
            .service_of(&self.route())
            .unwrap()
            .chooser
            .choose(&Get, || panic!("no key is to be made"), || 0)
            .version
    }
}

/// Whether the wire trips when an error is followed by this and then by another error: an error trips it at once, a
/// success makes the row begin anew, and what says nothing leaves the row as it is.
fn after_an_error(outcome: Outcome, cause: Option<&'static str>, kind: Kind) -> [bool; 2] {
    let stage = stage();
    stage.finish(V2, Outcome::Status(500), None, Kind::Request);
    stage.finish(V2, outcome, cause, kind);
    let at_once = stage.wire.is_tripped();
    stage.finish(V2, Outcome::Status(500), None, Kind::Request);
    [at_once, stage.wire.is_tripped()]
}

const ERROR: [bool; 2] = [true, true];
const SUCCESS: [bool; 2] = [false, false];
const NOTHING: [bool; 2] = [false, true];

#[test]
fn what_is_an_error_of_the_version_what_a_success_and_what_neither() {
    let status = Outcome::Status;
    for (outcome, cause, kind, expected) in [
        (status(500), None, Kind::Request, ERROR),
        (status(503), Some(NO_ENDPOINT.refusal.cause), Kind::Request, ERROR),
        (status(502), Some(RESET.refusal.cause), Kind::Request, ERROR),
        (status(504), Some(TIMEOUT.refusal.cause), Kind::Request, ERROR),
        (status(502), Some("connect"), Kind::Request, ERROR),
        (status(200), Some(RESET.refusal.cause), Kind::Request, ERROR),
        (status(500), Some(INJECTED_FAULT.cause), Kind::Request, ERROR),
        (status(200), None, Kind::Request, SUCCESS),
        (status(404), None, Kind::Request, SUCCESS),
        (status(200), Some(INJECTED_FAULT.cause), Kind::Request, SUCCESS),
        (status(200), Some(RESET.refusal.cause), Kind::Sse, SUCCESS),
        (Outcome::ClientClosed, None, Kind::Request, NOTHING),
        (status(413), Some(BODY_TOO_LARGE.cause), Kind::Request, NOTHING),
        (status(503), Some(DRAINED.cause), Kind::Request, NOTHING),
        (status(500), Some("internal"), Kind::Request, NOTHING),
        (status(503), Some(LOCAL.refusal.cause), Kind::Request, NOTHING),
    ] {
        assert_eq!(after_an_error(outcome, cause, kind), expected, "{outcome:?} {cause:?} {kind:?}");
    }
}

#[test]
fn what_this_machine_lacks_is_counted_by_its_code_and_no_evidence() {
    let stage = stage();
    stage.finish(V2, Outcome::Status(503), Some(LOCAL.refusal.cause), Kind::Request);
    let route = stage.route();
    let series = &route.series[V2];
    assert_eq!(series.requests_by_code(), [("503".to_owned(), 1)]);
    assert_eq!(series.version().totals().by_class.iter().sum::<u64>(), 0);
    stage.finish(V2, Outcome::Status(502), Some(RESET.refusal.cause), Kind::Request);
    assert_eq!(series.version().totals().by_class.iter().sum::<u64>(), 1);
}

#[test]
fn clients_are_told_apart_where_they_stay_on_their_version() {
    let stage = stage();
    let status = |status| (Outcome::Status(status), None, Kind::Request);
    let finish = |reason, key, (outcome, cause, kind)| stage.finish_of((V2, reason, key), outcome, cause, kind);
    finish(Reason::Weight, None, status(500));
    finish(Reason::Override, Some(1), status(500));
    finish(Reason::Failover, Some(1), status(500));
    let route = stage.route();
    let series = route.series[V2].version();
    assert_eq!(series.client_groups(), None);
    finish(Reason::Affinity, Some(1), status(500));
    finish(Reason::Affinity, Some(1), status(404));
    finish(Reason::Affinity, Some(1), (Outcome::ClientClosed, None, Kind::Request));
    finish(Reason::Affinity, Some(u64::MAX), status(200));
    let groups = series.client_groups().unwrap();
    assert_eq!((groups[0], groups[groups.len() - 1]), ((2, 1), (1, 0)));
}

#[tokio::test]
async fn the_request_that_trips_the_wire_moves_the_very_next_one_to_stable() {
    let stage = stage();
    stage.finish(V2, Outcome::Status(500), None, Kind::Request);
    assert_eq!(stage.next(), V2);
    stage.finish(V2, Outcome::Status(500), None, Kind::Request);
    assert_eq!(stage.next(), V1, "in the same snapshot");
    stage.wire.on_trip.notified().await;
    // Whatever still comes in from the canary changes nothing.
    stage.finish(V2, Outcome::Status(200), None, Kind::Request);
    assert_eq!(stage.next(), V1);
}

#[test]
fn errors_of_a_version_without_a_wire_trip_nobodys() {
    let stage = stage();
    (0..100).for_each(|_| stage.finish(V1, Outcome::Status(500), None, Kind::Request));
    assert!(!stage.wire.is_tripped());
    assert_eq!(stage.next(), V2);
}
