//! What the analysis decides: forward, back, and neither.

use std::time::{Duration, Instant};

use weir::rollout::verdict::CheckOutcome;

use super::{PLAN, command, rolled, served, served_over, steady_over, whole};
use crate::harness::Fixture as _;
use crate::harness::{Client, H2, Load, Origin, Protocol, Request, Target, Weir, eventually, grpc, over_both};

over_both!(a_healthy_canary_is_promoted_step_by_step_and_nothing_is_lost);

async fn a_healthy_canary_is_promoted_step_by_step_and_nothing_is_lost(protocol: Protocol) {
    let (v1, v2, weir, load) = served_over(protocol, PLAN).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", PLAN)).await;
    let (code, text) = command(&weir, &["rollout", "status", "shop/v2", "--wait", "--timeout", "60s"]).await;
    assert_eq!(code, 0, "{text}");
    let rollout = weir.until_phase("shop", "succeeded").await;
    assert_eq!((rollout.stable.as_deref(), rollout.previous.as_deref()), (Some("v2"), Some("v1")));
    let before = v1.requests();
    load.wait_more(50).await;
    let ledger = load.stop().await;
    assert!(v1.requests() <= before + 4, "v1 gets nothing any more");
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2]);
    let (code, text) = command(&weir, &["rollout", "history", "shop"]).await;
    assert_eq!(code, 0);
    for part in ["0% → 10%", "10% → 50%", "50% → 100%", "promoted"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_rollout_phase", &[("service", "shop"), ("phase", "succeeded")]), 1.0);
    assert!(metrics.value("weir_rollout_checks_total", &[("check", "errors"), ("verdict", "pass")]) >= 3.0);
    assert!(metrics.value("weir_rollout_transitions_total", &[("to", "succeeded"), ("reason", "judge")]) == 1.0);
    weir.stop().await;
}

over_both!(five_percent_of_errors_send_it_back_within_an_interval_and_a_second);

async fn five_percent_of_errors_send_it_back_within_an_interval_and_a_second(protocol: Protocol) {
    let plan = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }");
    let (v1, v2, weir, load) = served_over(protocol, &plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "a look passed at 50 %", |r| {
        r.weights.configured == 50.0 && r.checks.iter().any(|c| c.verdict.outcome == CheckOutcome::Pass)
    })
    .await;
    v2.fail(5);
    let begun = Instant::now();
    let rollout = weir.rolls("shop", "the canary has nothing", |r| r.weights.configured == 0.0).await;
    let took = begun.elapsed();
    eprintln!("5 % of errors: weight 0 after {took:?}");
    // One interval and a second is what it takes on a quiet machine; this one may be busy.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(rollout.phase, "rolled_back");
    assert!(rollout.reason.contains("errors: canary") && rollout.reason.contains("roll back"), "{}", rollout.reason);
    assert!(rollout.given_up.iter().any(|given| given.version == "v2"));
    let ledger = load.stop().await;
    whole(&ledger, &[&v1, &v2]);
    let (code, text) = command(&weir, &["rollout", "status", "shop/v2", "--wait"]).await;
    assert!(code == 5 && text.contains("`weir rollout retry shop` tries v2 again"), "{code}: {text}");
    // The same version is not tried again because somebody saves the file.
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan).changed("deadline: 5s", "deadline: 5s, delay: 0s")).await;
    assert_eq!(weir.rollout("shop").await.phase, "rolled_back");
    weir.stop().await;
}

over_both!(a_slow_canary_goes_back);

async fn a_slow_canary_goes_back(protocol: Protocol) {
    let plan = PLAN.changed("error_rate: { max: 1 }", "duration: { quantile: 0.99, max: 100ms }");
    let (v1, v2, weir, load) = served_over(protocol, &plan).await;
    v2.slow(Duration::from_millis(200));
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("canary p99") && !rollout.reason.contains("estimated"), "{}", rollout.reason);
    // A limit that the histograms have no edge for decides all the same.
    let newer = plan.changed("max: 100ms", "max: 130ms");
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &newer)).await;
    assert_eq!(command(&weir, &["rollout", "retry", "shop"]).await.0, 0);
    let rollout = weir.rolls("shop", "it goes back again", |r| r.reason.contains("130 ms")).await;
    assert!(rollout.reason.contains("estimated"), "{}", rollout.reason);
    weir.until_phase("shop", "rolled_back").await;
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_holds_for_its_time_sends_it_back_without_a_failed_look() {
    let plan = PLAN
        .changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }")
        .changed("errors, error_rate: { max: 1 }", "errors, dry_run: true, error_rate: { max: 1 }")
        + "\n      rollback_when: [{ error_rate: 1, for: 2s }]";
    let (v1, v2, weir, load) = served(&plan).await;
    // Few enough for the trip wire.
    v2.fail(12);
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("for 2 s"), "{}", rollout.reason);
    assert_eq!(rollout.failures.total, 0, "the check is a dry run");
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

over_both!(the_trip_wire_acts_in_the_request_that_trips_it);

async fn the_trip_wire_acts_in_the_request_that_trips_it(protocol: Protocol) {
    let plan = PLAN
        .changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }")
        .changed("interval: 1s", "interval: 1m")
        .changed("window: 2s", "window: 1m")
        + "\n      rollback_when: [{ errors: 10, in_a_row: true }]";
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    v2.fail(100);
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
    let clients = 4;
    let ledger = Load::at(weir.address("web").await).clients(protocol, clients).count(2_000).run().await;
    whole(&ledger, &[&v1, &v2]);
    let errors = ledger.counts().statuses.get(&500).copied().unwrap_or_default();
    // Ten, and what was with the canary already when the tenth was counted.
    assert!((10..10 + clients as u64).contains(&errors), "{errors} errors");
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("trip wire"), "{}", rollout.reason);
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_rollout_transitions_total", &[("to", "rolled_back"), ("reason", "trip_wire")]), 1.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_traffic_it_holds_and_then_pauses() {
    let plan = PLAN.changed("max_hold: 1m", "max_hold: 3s");
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let rollout = weir.rolls("shop", "it holds", |r| r.holding_seconds.is_some()).await;
    assert_eq!((rollout.weights.configured, rollout.checks[0].verdict.outcome), (10.0, CheckOutcome::NoData));
    let rollout = weir.until_phase("shop", "paused").await;
    assert_eq!((rollout.weights.configured, rollout.failures.total), (10.0, 0), "{}", rollout.reason);
    weir.stop().await;
}

over_both!(a_canary_that_dies_goes_back_and_stable_serves_on);

async fn a_canary_that_dies_goes_back_and_stable_serves_on(protocol: Protocol) {
    let plan = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }");
    let (v1, v2, weir, load) = served_over(protocol, &plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    load.wait_more(50).await;
    v2.kill().await;
    let rollout = weir.until_phase("shop", "rolled_back").await;
    let metrics = weir.metrics().await;
    let refused = metrics.value("weir_upstream_errors_total", &[("version", "v2"), ("kind", "connect")]);
    let broken = metrics.value("weir_upstream_errors_total", &[("version", "v2"), ("kind", "reset")]);
    assert!(refused + broken > 0.0, "what Weir answered counts against the version: {}", rollout.reason);
    load.wait_more(20).await;
    whole(&load.stop().await, &[&v1, &v2]);
    let after = Load::at(weir.address("web").await).clients(protocol, 2).count(100).run().await;
    after.assert_clean();
    assert_eq!(after.counts().versions["v1"], 100);
    weir.stop().await;
}

over_both!(a_canary_all_of_whose_endpoints_die_is_on_stable_within_a_second_and_the_rollout_goes_back);

async fn a_canary_all_of_whose_endpoints_die_is_on_stable_within_a_second_and_the_rollout_goes_back(
    protocol: Protocol,
) {
    // No trip wire and no check that fails: it is their health that acts.
    let plan = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }").changed("max: 1 }", "max: 99 }")
        + "\n      rollback_when: []";
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let others = [Origin::start("v2").await, Origin::start("v2").await];
    let first = format!("\"{}\"", v2.address());
    let all = format!("{first}, \"{}\", \"{}\"", others[0].address(), others[1].address());
    let file = |release: &str| rolled(&[&v1, &v2], release, &plan).changed(&first, &all);
    let weir = Weir::start(&file("v1")).await;
    let load = steady_over(protocol, &weir).await;
    weir.reconfigure(&file("v2")).await;
    weir.rolls("shop", "half of it", |r| r.weights.configured == 50.0).await;
    load.wait_more(100).await;
    let web = Target::from(weir.address("web").await);
    for dies in [&v2, &others[0], &others[1]] {
        dies.kill().await;
    }
    let died = Instant::now();
    let mut in_row = 0;
    while in_row < 20 && died.elapsed() < Duration::from_secs(1) {
        let answer = Client::connect(protocol, &web).await.try_send(&Request::get("/")).await.unwrap();
        in_row = if answer.status == 200 { in_row + 1 } else { 0 };
    }
    assert!(in_row == 20, "{in_row} in a row after {:?}", died.elapsed());
    let after = Load::at(&web).clients(protocol, 4).count(100).run().await;
    after.assert_clean();
    assert_eq!(after.counts().versions["v1"], 100);
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("v2 has no available endpoint"), "{}", rollout.reason);
    load.wait_more(50).await;
    whole(&load.stop().await, &[&v1, &v2, &others[0], &others[1]]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_both_die_nothing_moves_and_nobody_is_blamed() {
    // Without a trip wire the judge freezes where it is; with one, the canary is at 0 before anybody judges.
    for (condition, weight) in [("\n      rollback_when: [{ error_rate: 50, for: 1h }]", 50.0), ("", 0.0)] {
        both_die(&(PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }") + condition), weight).await;
    }
}

async fn both_die(plan: &str, weight: f64) {
    let (v1, v2, weir, load) = served(plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", plan)).await;
    weir.rolls("shop", "a look passed", |r| r.checks.iter().any(|check| check.verdict.outcome == CheckOutcome::Pass))
        .await;
    v1.fail(100);
    v2.fail(100);
    let rollout = weir.until_phase("shop", "paused").await;
    assert_eq!(rollout.weights.configured, weight, "{rollout:#?}");
    assert!(rollout.given_up.is_empty(), "{rollout:#?}");
    // The canary first, and its last failure counted: one that fails a moment longer than stable is to blame.
    v2.fail(0);
    load.wait_more(200).await;
    v1.fail(0);
    load.wait_more(400).await;
    let (code, text) = command(&weir, &["rollout", "resume", "shop", "--reason", "both are well again"]).await;
    assert_eq!(code, 0, "{text}");
    weir.rolls("shop", "it goes on", |r| r.phase == "progressing" && r.weights.configured == 50.0).await;
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_worse_than_stable_is_found_by_comparison() {
    let plan = PLAN
        .changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }")
        .changed("error_rate: { max: 1 }", "compare: { metric: error_rate, margin: 0.5, confidence: 99 }");
    let (v1, v2, weir, load) = served(&plan).await;
    // Few enough for the trip wire.
    v2.fail(12);
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("stable"), "{}", rollout.reason);
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_status_that_blames_the_server_is_an_error() {
    let plan = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }") + "\n      rollback_when: []";
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let file =
        |release: &str| rolled(&[&v1, &v2], release, &plan).changed("    rollout:", "    protocol: h2\n    rollout:");
    let weir = Weir::start(&file("v1")).await;
    v2.fail(10);
    weir.reconfigure(&file("v2")).await;
    let h2 = H2::connect(&Target::from(weir.address("web").await)).await;
    let (mut failed, mut calls) = (0, 0);
    while weir.rollout("shop").await.phase != "rolled_back" {
        calls += 1;
        assert!(calls < 5_000, "{:#?}", weir.rollout("shop").await);
        // Two, so that the turns of an exact split give each version calls of both kinds.
        for _ in 0..2 {
            let answer = grpc::unary(&h2, "/grpc.Test/Unary", b"hello").await.unwrap();
            failed += u32::from(answer.status == 14);
        }
        // A status that blames the caller is none.
        assert_eq!(grpc::unary(&h2, "/grpc.Test/Fail", b"x").await.unwrap().status, 7);
    }
    let counted = async || {
        let counted = weir.metrics().await.value("weir_grpc_failures_total", &[("version", "v2")]);
        if counted == f64::from(failed) { Ok(()) } else { Err(counted) }
    };
    eventually("each failed call is counted", counted).await;
    let versions = &weir.status().await.services[0].versions;
    assert_eq!(versions[0].error_rate, Some(0.0), "of v1");
    assert!(versions[1].error_rate.is_some_and(|rate| rate > 0.0), "{:?} of v2", versions[1].error_rate);
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_grpc_failures_total", &[("version", "v1")]), 0.0);
    weir.stop().await;
}
