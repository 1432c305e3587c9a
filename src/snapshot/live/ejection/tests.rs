use std::time::Duration;

use super::super::registry::EndpointRegistry;
use super::*;
use crate::health::outlier::{OutlierPolicy, SuccessRate};
use crate::model::EndpointState;
use crate::traffic::balance::WHOLE;

const HOUR: Duration = Duration::from_secs(3_600);
const REFUSED: EndpointFailure = EndpointFailure::Refused;

fn policy() -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 5,
        interval: Duration::from_secs(10),
        ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejected: 50,
        success_rate: Some(SuccessRate { deviations: 1.9, min_endpoints: 5, min_requests: 100 }),
        connect_failures: 3,
    }
}

/// The endpoints of a version under this policy, and who follows their health.
fn version(count: u16, policy: &OutlierPolicy) -> (Vec<Arc<EndpointLive>>, EndpointRegistry) {
    let mut registry = EndpointRegistry::default();
    let version = registry.version(&"shop".into(), &"v1".into());
    let address = |at: u16| format!("127.0.0.1:{}", at + 1).parse().unwrap();
    let endpoints: Vec<_> =
        (0..count).map(|at| registry.endpoint(&version, &address(at), EndpointState::Ready)).collect();
    version.set(policy, endpoints.iter());
    (endpoints, registry)
}

fn errors(endpoint: &Arc<EndpointLive>, count: u32) {
    for _ in 0..count {
        assert_eq!(endpoint.answered(503), 0);
    }
}

fn refuses(endpoint: &Arc<EndpointLive>, count: u32) {
    (0..count).for_each(|_| endpoint.connect_failed(REFUSED, "it refuses".to_owned(), Instant::now()));
}

fn ids(endpoints: &[Arc<EndpointLive>]) -> Vec<u64> {
    endpoints.iter().map(|endpoint| endpoint.id).collect()
}

#[test]
fn responses_that_break_off_are_errors_in_a_row_although_each_began_well() {
    let (endpoints, _registry) = version(3, &policy());
    let sick = &endpoints[0];
    // Two at a time.
    for at in 0..2 {
        let ended = [sick.answered(200), sick.answered(200)];
        assert_eq!(ended, [2 * at, 0]);
        ended.into_iter().for_each(|ended| sick.broke_off(ended, EndpointFailure::Reset));
        assert!(sick.is_available());
    }
    let ended = sick.answered(200);
    sick.broke_off(ended, EndpointFailure::Reset);
    assert!(!sick.is_available());
}

#[test]
fn errors_in_a_row_eject_and_one_success_begins_anew() {
    let (endpoints, registry) = version(3, &policy());
    let sick = &endpoints[0];
    errors(sick, 4);
    assert_eq!(sick.answered(404), 4);
    errors(sick, 4);
    assert!(sick.is_available() && registry.changes().take().is_empty());
    sick.failed(EndpointFailure::Reset);
    assert!(!sick.is_available() && sick.is_ready() && sick.is_reachable());
    assert_eq!(ids(&registry.changes().take()), [sick.id]);
    assert!(registry.changes().take().is_empty(), "once");
    let report = sick.health.report();
    let ejected = report.ejected.unwrap();
    assert_eq!(
        (ejected.until - ejected.since, report.why.as_deref()),
        (Duration::from_secs(30), Some("errors in a row"))
    );
    sick.readmit(false, ejected.until - Duration::from_millis(1));
    assert!(!sick.is_available());
    sick.readmit(false, ejected.until);
    assert!(sick.is_available() && sick.health.report().why.is_none());
    assert_eq!(sick.newcomer.part(HOUR), WHOLE / 10, "it starts slowly");
    assert_eq!(ids(&registry.changes().take()), [sick.id], "that it is back is a change too");
    errors(sick, 4);
    assert!(sick.is_available(), "it begins anew");
}

#[test]
fn the_last_endpoint_is_never_ejected_and_neither_are_more_than_the_share() {
    let (alone, _registry) = version(1, &policy());
    errors(&alone[0], 1_000);
    assert!(alone[0].is_available());
    let (three, _registry) = version(3, &policy());
    three.iter().for_each(|endpoint| errors(endpoint, 1_000));
    assert_eq!(three.iter().filter(|endpoint| endpoint.is_available()).count(), 2);
    let (two, _registry) = version(2, &OutlierPolicy { max_ejected: 100, ..policy() });
    two.iter().for_each(|endpoint| errors(endpoint, 1_000));
    assert_eq!(two.iter().filter(|endpoint| endpoint.is_available()).count(), 1);
    let (drained, _registry) = version(2, &policy());
    drained[1].state.set(EndpointState::Drain);
    errors(&drained[0], 1_000);
    assert!(drained[0].is_available(), "the other one is not wanted");
}

#[test]
fn who_refuses_connections_is_out_even_as_the_last_one() {
    let (endpoints, registry) = version(2, &policy());
    for endpoint in &endpoints {
        refuses(endpoint, 2);
        endpoint.connected();
        refuses(endpoint, 2);
        assert!(endpoint.is_available());
        refuses(endpoint, 1);
        assert!(!endpoint.is_available() && endpoint.is_ready() && !endpoint.is_reachable());
    }
    assert_eq!(registry.changes().take().len(), 2);
    let sick = &endpoints[0];
    assert!(!sick.state.is_out(Out::Ejected));
    let now = Instant::now();
    sick.asked(Some("it still refuses".to_owned()), now);
    assert_eq!(sick.health.report().why.as_deref(), Some("it still refuses"));
    assert!(sick.health.report().unreachable.unwrap().due > now);
    sick.asked(None, now);
    assert!(sick.is_available());
    assert_eq!(sick.newcomer.part(HOUR), WHOLE, "nobody else can take the rest");
    let other = &endpoints[1];
    other.asked(None, now);
    assert_eq!((other.is_available(), other.newcomer.part(HOUR)), (true, WHOLE / 10));
    let refused = sick.health.failures().find(|(cause, _)| *cause == REFUSED);
    assert_eq!((refused, sick.health.connects()), (Some((REFUSED, 5)), 1));
}

#[test]
fn a_connect_that_began_before_another_succeeded_says_nothing() {
    let (endpoints, _registry) = version(1, &policy());
    let began = Instant::now();
    std::iter::repeat_with(Instant::now).find(|now| *now - began > Duration::from_millis(2)).unwrap();
    endpoints[0].connected();
    for _ in 0..10 {
        endpoints[0].connect_failed(EndpointFailure::ConnectTimeout, "no connection in time".to_owned(), began);
    }
    assert!(endpoints[0].is_available());
}

#[test]
fn who_cannot_speak_tls_is_ejected_and_not_unreachable() {
    let (endpoints, _registry) = version(2, &policy());
    for _ in 0..5 {
        endpoints[0].connect_failed(EndpointFailure::Tls, "the certificate expired".to_owned(), Instant::now());
    }
    assert!(!endpoints[0].is_available() && endpoints[0].is_reachable());
    let report = endpoints[0].health.report();
    assert_eq!(report.last_failure.unwrap().detail.as_deref(), Some("the certificate expired"));
}

#[test]
fn success_rates_are_compared_each_interval() {
    let (endpoints, _registry) = version(5, &policy());
    let version = Arc::clone(&endpoints[0].health.of_version);
    let begin = Instant::now();
    let traffic = |bad: usize| {
        for (at, endpoint) in endpoints.iter().enumerate() {
            for request in 0..100 {
                // Never many in a row.
                endpoint.answered(if at == bad && request % 2 == 0 { 500 } else { 200 });
            }
        }
    };
    traffic(3);
    version.compare_rates(begin + Duration::from_secs(9));
    assert!(endpoints[3].is_available(), "it is not time yet");
    version.compare_rates(begin + Duration::from_secs(11));
    assert!(!endpoints[3].is_available());
    assert!(endpoints[3].health.report().why.unwrap().starts_with("50 of 100 requests failed"));
    traffic(1);
    version.compare_rates(begin + Duration::from_secs(12));
    assert!(endpoints[1].is_available(), "not before the next interval");
}

#[test]
fn with_everything_off_nothing_is_ever_out() {
    let (endpoints, registry) = version(5, &OutlierPolicy::NEVER);
    errors(&endpoints[0], 1_000);
    refuses(&endpoints[1], 1_000);
    endpoints[0].health.of_version.compare_rates(Instant::now() + Duration::from_secs(1_000));
    assert!(endpoints.iter().all(|endpoint| endpoint.is_available()) && registry.changes().take().is_empty());
}

#[test]
fn many_threads_never_eject_the_last_one() {
    for _ in 0..50 {
        let (endpoints, _registry) = version(4, &OutlierPolicy { max_ejected: 100, ..policy() });
        std::thread::scope(|scope| {
            for endpoint in &endpoints {
                scope.spawn(|| errors(endpoint, 100));
            }
        });
        assert_eq!(endpoints.iter().filter(|endpoint| endpoint.is_available()).count(), 1);
    }
}
