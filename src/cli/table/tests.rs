//! The status as it is read: whole tables against what they should look like.

use super::*;
use crate::admin::wire::{
    Build, CheckStatus, CohortStatus, ConfigStatus, FailureStatus, HealthStatus, ListenerStatus, RefusedCommand,
};

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn version(name: &str, state: &str, share: f64) -> VersionStatus {
    VersionStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        configured: share,
        effective: share,
        observed: None,
        requests_total: 0,
        requests_per_second: 0.0,
        error_rate: None,
        p50_ms: None,
        p95_ms: None,
        p99_ms: None,
        in_flight: 0,
        streams: BTreeMap::new(),
        drain: None,
        drill: None,
        ready: 0,
        min_ready: 0,
        endpoints: Vec::new(),
    }
}

fn endpoint(name: &str, state: &str, in_flight: u64, streams: u64) -> EndpointStatus {
    EndpointStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        in_flight,
        streams,
        drain: None,
        health: HealthStatus::default(),
    }
}

fn drain() -> DrainStatus {
    DrainStatus { seconds: 12.3, empty: false, requests_cut_in_seconds: 17.7, streams_cut_in_seconds: 287.7, cut: 0 }
}

fn status(services: Vec<ServiceStatus>) -> Status {
    Status {
        state: "ready".to_owned(),
        build: Build { version: "0.1.0".to_owned(), revision: "abc".to_owned() },
        pid: 42,
        uptime_seconds: 192.4,
        revision: 7,
        config: ConfigStatus {
            path: "/etc/weir/weir.yaml".to_owned(),
            hash: "0".to_owned(),
            current: true,
            errors: None,
            faulty_certificates: Vec::new(),
        },
        listeners: vec![ListenerStatus {
            name: "web".to_owned(),
            address: "127.0.0.1:8080".to_owned(),
            connections: 1,
        }],
        telemetry: Some("127.0.0.1:9902".to_owned()),
        names: Vec::new(),
        services,
    }
}

fn ejected() -> HealthStatus {
    HealthStatus {
        status: "ejected".to_owned(),
        why: Some("errors in a row".to_owned()),
        out_seconds: Some(12.0),
        back_in_seconds: Some(18.0),
        failures: BTreeMap::from([("server_error".to_owned(), 7), ("timeout".to_owned(), 1)]),
        last_failure: Some(FailureStatus { cause: "server_error".to_owned(), detail: None, seconds_ago: 2.0 }),
        last_check: Some(CheckStatus { passed: false, why: Some("status 503".to_owned()), seconds_ago: 4.0 }),
        ..HealthStatus::default()
    }
}

fn unreachable() -> HealthStatus {
    let refuses = "the endpoint refuses connections".to_owned();
    HealthStatus {
        status: "unreachable".to_owned(),
        why: Some(refuses.clone()),
        out_seconds: Some(65.0),
        failures: BTreeMap::from([("refused".to_owned(), 3)]),
        last_failure: Some(FailureStatus { cause: "refused".to_owned(), detail: Some(refuses), seconds_ago: 3.0 }),
        ..HealthStatus::default()
    }
}

fn unhealthy() -> HealthStatus {
    HealthStatus {
        status: "unhealthy".to_owned(),
        why: Some("its check fails: status 503".to_owned()),
        out_seconds: Some(20.0),
        last_check: Some(CheckStatus { passed: false, why: Some("status 503".to_owned()), seconds_ago: 4.0 }),
        ..HealthStatus::default()
    }
}

fn checked() -> HealthStatus {
    let last_check = Some(CheckStatus { passed: true, why: None, seconds_ago: 1.0 });
    HealthStatus { status: "healthy".to_owned(), last_check, ..HealthStatus::default() }
}

#[test]
fn a_busy_service_in_a_drain_under_a_shift() {
    let mut v1 = version("v1", "ready", 90.0);
    v1.observed = Some(89.98);
    v1.requests_per_second = 45.04;
    v1.error_rate = Some(0.0);
    (v1.p50_ms, v1.p95_ms, v1.p99_ms) = (Some(1.24), Some(12.4), Some(12_400.0));
    v1.in_flight = 12;
    v1.endpoints = vec![
        EndpointStatus { health: ejected(), ..endpoint("10.0.1.10:8080", "ready", 12, 0) },
        EndpointStatus { health: unreachable(), ..endpoint("10.0.1.9:8080", "maint", 0, 0) },
        EndpointStatus { health: unhealthy(), ..endpoint("10.0.1.8:8080", "ready", 0, 0) },
        EndpointStatus { health: checked(), ..endpoint("10.0.1.7:8080", "ready", 1, 0) },
    ];
    let mut v2 = version("v2", "drain", 10.0);
    v2.effective = 0.0;
    v2.observed = Some(10.02);
    v2.error_rate = Some(1.5);
    v2.in_flight = 3;
    v2.streams = BTreeMap::from([("sse".to_owned(), 1)]);
    v2.endpoints = vec![EndpointStatus { drain: Some(drain()), ..endpoint("10.0.2.10:8080", "drain", 3, 1) }];
    let shift = ShiftStatus {
        weights: BTreeMap::new(),
        author: "alice".to_owned(),
        reason: "checkout is slow".to_owned(),
        at: 1_000,
        base: BTreeMap::from([("v1".to_owned(), 99.5), ("v2".to_owned(), 0.5)]),
    };
    let shop = ServiceStatus {
        name: "shop".to_owned(),
        shift: Some(shift),
        behind: Some("write `stable: v2`".to_owned()),
        refused_command: Some(RefusedCommand {
            verb: "resume".to_owned(),
            author: "bob".to_owned(),
            reason: "it is late".to_owned(),
            why: "`resume` is refused while the rollout is idle: no rollout is under way".to_owned(),
            at_ms: 1_000_500,
        }),
        versions: vec![v1, v2],
        cohorts: vec![CohortStatus {
            name: "eu".to_owned(),
            weights: BTreeMap::from([("v1".to_owned(), 90.0), ("v2".to_owned(), 10.0), ("v3".to_owned(), 0.0)]),
            shift: None,
            requests: BTreeMap::new(),
        }],
    };
    let expected = "\
weir 0.1.0 ready, pid 42, up 3m12s, revision 7
file /etc/weir/weir.yaml
listener web on 127.0.0.1:8080, 1 connection
telemetry on 127.0.0.1:9902

shop
  shifted by alice: checkout is slow, 3 min ago; the file says v1 99.5%, v2 0.5%
  write `stable: v2`
  last refused command: `resume` is refused while the rollout is idle: no rollout is under way (asked by bob: it is late, 3 min ago)
  cohort eu: v1 90%, v2 10%
  VERSION  STATE  CONFIGURED  EFFECTIVE  OBSERVED  REQ/S  ERRORS     P50    P95     P99  IN FLIGHT  STREAMS
  v1       ready         90%        90%    89.98%   45.0   0.00%  1.2 ms  12 ms  12.4 s         12        0
    10.0.1.10:8080  ready  12 in flight  ejected for 12 s, back in 18 s: errors in a row  check failed 4 s ago: status 503  (server_error 7, timeout 1; last server_error 2 s ago)
    10.0.1.9:8080   maint  0 in flight  unreachable for 1m05s: the endpoint refuses connections  (refused 3; last refused 3 s ago: the endpoint refuses connections)
    10.0.1.8:8080   ready  0 in flight  unhealthy for 20 s: its check fails: status 503  check failed 4 s ago
    10.0.1.7:8080   ready  1 in flight  checked 1 s ago
  v2       drain         10%         0%    10.02%    0.0   1.50%       -      -       -          3        1
    10.0.2.10:8080  drain  draining 12 s: 3 in flight, 1 stream of them; requests cut in 18 s, streams cut in 4m48s
";
    assert_eq!(plain(&render(&status(vec![shop]), 1_190)), expected);
}

#[test]
fn a_drain_says_what_is_left_of_it() {
    let line = |drain: DrainStatus, in_flight, streams| drain_line(&drain, &endpoint("a", "drain", in_flight, streams));
    assert_eq!(line(drain(), 0, 0), "drained, nothing in flight");
    assert_eq!(line(DrainStatus { cut: 2, ..drain() }, 0, 0), "drained, nothing in flight, 2 cut");
    assert_eq!(line(drain(), 2, 2), "draining 12 s: 2 in flight, 2 streams of them; streams cut in 4m48s");
    let late = DrainStatus { requests_cut_in_seconds: 0.0, cut: 1, ..drain() };
    assert_eq!(line(late, 1, 0), "draining 12 s: 1 in flight; requests are being cut, 1 cut");
}

#[test]
fn a_refused_file_is_said_with_its_errors() {
    let mut status = status(Vec::new());
    status.config.errors = Some("error: unknown field `prots`\n --> weir.yaml:3:1".to_owned());
    let text = plain(&render(&status, 0));
    assert!(
        text.contains("file /etc/weir/weir.yaml is refused:\n  error: unknown field `prots`\n   --> weir.yaml:3:1\n"),
        "{text}"
    );
    assert!(text.ends_with("\nno services\n"));
}

#[test]
fn a_faulty_certificate_does_not_make_the_file_a_refused_one() {
    let mut status = status(Vec::new());
    status.config.faulty_certificates = vec!["listener web: tls.crt: it expired; it is served all the same".to_owned()];
    let text = plain(&render(&status, 0));
    let expected = "file /etc/weir/weir.yaml\nfaulty certificates; all else is served:\n  listener web: tls.crt: it expired; \
                    it is served all the same\nlistener web on";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn nothing_from_outside_drives_the_terminal() {
    let mut shop = ServiceStatus {
        name: "sh\x1b[2Jop".to_owned(),
        shift: None,
        behind: Some("\u{7}".to_owned()),
        refused_command: Some(RefusedCommand { why: "\u{7}".to_owned(), ..RefusedCommand::default() }),
        versions: vec![version("v\u{202e}1", "ready", 100.0)],
        cohorts: Vec::new(),
    };
    shop.shift = Some(ShiftStatus {
        weights: BTreeMap::new(),
        author: "a\u{7}".to_owned(),
        reason: "b\nc".to_owned(),
        at: 0,
        base: BTreeMap::new(),
    });
    let text = plain(&render(&status(vec![shop]), 0));
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
    assert!(text.contains("shifted by a\u{fffd}: b\u{fffd}c, 0 s ago\n"));
}

#[test]
fn times_are_short() {
    let spans =
        [(0.2, "0 s"), (59.4, "59 s"), (60.0, "1m00s"), (3_599.0, "59m59s"), (3_660.0, "1h01m"), (90_000.0, "1d01h")];
    for (seconds, text) in spans {
        assert_eq!(span(seconds), text);
    }
    assert_eq!(span(f64::NAN), "0 s");
    assert_eq!((&*ago(59), &*ago(60), &*ago(7_200), &*ago(200_000)), ("59 s ago", "1 min ago", "2 h ago", "2 d ago"));
}

#[test]
fn shares_have_no_decimals_that_say_nothing() {
    for (share, text) in [(0.0, "0%"), (90.0, "90%"), (0.5, "0.5%"), (33.33, "33.33%"), (100.0, "100%")] {
        assert_eq!(percent(share), text);
    }
}

#[test]
fn names_that_cannot_be_looked_up_are_told_with_what_is_in_use() {
    let name = |age_seconds, addresses, error: Option<&str>| NameStatus {
        name: "shop.internal:80".to_owned(),
        services: vec!["shop".to_owned()],
        addresses,
        age_seconds,
        error: error.map(str::to_owned),
    };
    let names = vec![
        name(Some(3.0), 2, None),
        name(Some(40.0), 1, Some("no DNS server answered in time")),
        name(Some(40.0), 3, Some("it has no addresses")),
        name(None, 0, Some("there is no such name (NXDOMAIN)")),
    ];
    let text = plain(&render(&Status { names, ..status(Vec::new()) }, 0));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("name ")).collect();
    assert_eq!(
        lines,
        [
            "name shop.internal:80: 1 address from 40 s ago in use: no DNS server answered in time",
            "name shop.internal:80: 3 addresses from 40 s ago in use: it has no addresses",
            "name shop.internal:80: no address yet: there is no such name (NXDOMAIN)",
        ]
    );
}
