use std::time::Duration;

use super::super::registry::EndpointRegistry;
use super::*;
use crate::health::outlier::OutlierPolicy;
use crate::model::EndpointState;
use crate::snapshot::CheckKind;

const THRESHOLDS: Thresholds = Thresholds { unhealthy_after: 3, healthy_after: 2 };
const SECOND: Duration = Duration::from_secs(1);

fn how(starts_unhealthy: bool) -> HealthCheck {
    HealthCheck {
        kind: CheckKind::Tcp,
        host: None,
        port: None,
        interval: SECOND,
        timeout: SECOND,
        thresholds: THRESHOLDS,
        starts_unhealthy,
    }
}

/// The endpoints of a version, of which two errors in a row eject one, and who follows their health.
fn version(count: u16) -> (Vec<Arc<EndpointLive>>, EndpointRegistry) {
    let mut registry = EndpointRegistry::default();
    let version = registry.version(&"shop".into(), &"v1".into());
    let address = |at: u16| format!("127.0.0.1:{}", at + 1).parse().unwrap();
    let endpoints: Vec<_> =
        (0..count).map(|at| registry.endpoint(&version, &address(at), EndpointState::Ready)).collect();
    let policy = OutlierPolicy {
        consecutive_errors: 2,
        ejection_time: 3_600 * SECOND,
        max_ejected: 50,
        connect_failures: 1,
        ..OutlierPolicy::NEVER
    };
    version.set(&policy, endpoints.iter());
    (endpoints, registry)
}

fn at(moment: Instant) -> (Instant, Instant) {
    (moment, moment)
}

fn fails(endpoint: &Arc<EndpointLive>, count: u32) {
    (0..count).for_each(|_| endpoint.checked(Some("status 500".to_owned()), THRESHOLDS, at(Instant::now())));
}

fn passes(endpoint: &Arc<EndpointLive>, count: u32) {
    (0..count).for_each(|_| endpoint.checked(None, THRESHOLDS, at(Instant::now())));
}

fn changes(registry: &EndpointRegistry) -> usize {
    registry.changes().take().len()
}

#[test]
fn failed_checks_take_out_even_the_last_endpoint_and_passes_bring_it_back() {
    let (endpoints, registry) = version(1);
    let endpoint = &endpoints[0];
    endpoint.starts(Some(&how(false)));
    assert!(endpoint.is_available() && endpoint.health.unwell().is_some());
    passes(endpoint, 1);
    fails(endpoint, 2);
    assert!(endpoint.is_available() && changes(&registry) == 0 && endpoint.health.unwell().is_none());
    fails(endpoint, 1);
    assert_eq!(endpoint.health.unwell().as_deref(), Some("fails its health check (status 500)"));
    assert!(!endpoint.is_available() && endpoint.is_out() && endpoint.is_reachable());
    assert_eq!(changes(&registry), 1);
    let report = endpoint.health.report();
    assert!(report.unhealthy.is_some());
    assert_eq!(report.why.as_deref(), Some("its check fails: status 500"));
    passes(endpoint, 1);
    let report = endpoint.health.report();
    assert!(!endpoint.is_available() && report.last_check.is_some_and(|last| last.failure.is_none()));
    assert_eq!(report.why.as_deref(), Some("its check fails: status 500"), "why it is out");
    passes(endpoint, 1);
    assert!(endpoint.is_available() && endpoint.health.report().unhealthy.is_none());
    assert_eq!(changes(&registry), 1);
    let checks: Vec<_> = endpoint.health.checks().collect();
    assert_eq!(checks, [(CheckResult::Pass, 3), (CheckResult::Fail, 3)]);
}

#[test]
fn one_that_starts_unhealthy_is_out_until_its_first_check_and_only_while_it_is_new() {
    let (endpoints, registry) = version(2);
    let (first, second) = (&endpoints[0], &endpoints[1]);
    endpoints.iter().for_each(|endpoint| endpoint.starts(Some(&how(true))));
    assert!(!first.is_available() && !second.is_available());
    assert_eq!(first.health.report().why.as_deref(), Some("it was not checked yet"));
    passes(first, 1);
    assert!(first.is_available());
    fails(second, 1);
    assert_eq!(second.health.report().why.as_deref(), Some("its check fails: status 500"));
    assert_eq!(changes(&registry), 2, "that the second is out for a reason is a change");
    let unhealthy = second.health.ejections().find(|(reason, _)| *reason == EjectionReason::Unhealthy);
    assert_eq!(unhealthy, Some((EjectionReason::Unhealthy, 1)));
    first.starts(Some(&how(true)));
    assert!(first.is_available(), "it is not new");
}

#[test]
fn one_that_is_not_checked_any_more_is_back() {
    let (endpoints, registry) = version(1);
    let endpoint = &endpoints[0];
    fails(endpoint, 1);
    assert!(!endpoint.is_available() && changes(&registry) == 1);
    endpoint.is_unchecked();
    assert!(endpoint.is_available() && changes(&registry) == 1 && endpoint.health.unwell().is_some());
    assert!(endpoint.health.report().last_check.is_none());
    endpoint.is_unchecked();
    assert_eq!(changes(&registry), 0);
}

#[test]
fn a_check_ends_an_ejection_that_it_began_after() {
    let (endpoints, registry) = version(2);
    let endpoint = &endpoints[0];
    passes(endpoint, 1);
    let before = Instant::now();
    for _ in 0..2 {
        endpoint.answered(503);
    }
    assert!(!endpoint.is_available() && changes(&registry) == 1);
    let ejected = endpoint.health.report().ejected.unwrap();
    endpoint.checked(None, THRESHOLDS, (before, ejected.since + SECOND));
    assert!(!endpoint.is_available(), "it was asked before");
    endpoint.checked(Some("status 500".to_owned()), THRESHOLDS, at(ejected.since + SECOND));
    assert!(!endpoint.is_available(), "it failed");
    endpoint.checked(None, THRESHOLDS, at(ejected.since + SECOND));
    assert!(endpoint.is_available() && changes(&registry) == 1);
}

#[test]
fn one_that_accepts_no_connections_is_back_by_a_check_when_it_would_be_asked() {
    let (endpoints, _registry) = version(1);
    let endpoint = &endpoints[0];
    endpoint.connect_failed(crate::telemetry::EndpointFailure::Refused, "it refuses".to_owned(), Instant::now());
    let due = endpoint.health.report().unreachable.unwrap().due;
    endpoint.checked(None, THRESHOLDS, at(due - SECOND / 2));
    assert!(!endpoint.is_available(), "one that flaps accepts now and then");
    endpoint.checked(None, THRESHOLDS, at(due));
    assert!(endpoint.is_available());
}
