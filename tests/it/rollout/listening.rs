//! A canary that does not listen: it waits, costs nobody anything, and is not given up.

use super::{PLAN, command, rolled, served, steady, whole};
use crate::harness::{Fixture as _, Origin, Weir};

/// A v2 that does not listen yet.
fn absent() -> Origin {
    Origin::plan("v2").down()
}

/// Waits until the rollout waits before its first weight for this reason, which a promotion is told as well.
async fn waits(weir: &Weir, why: &str) {
    let rollout = weir.rolls("shop", "it says why", |r| r.reason.contains(why)).await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("waiting", 0.0), "{rollout:#?}");
    let (code, text) = command(weir, &["rollout", "promote", "shop"]).await;
    assert!(code == 7 && text.contains(why), "{code}: {text}");
    let (_, text) = command(weir, &["rollout", "status", "shop"]).await;
    assert!(text.contains(why), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_listen_waits_with_the_reason_and_begins_when_it_does() {
    let (v1, v2, weir, load) = served(PLAN).await;
    let late = absent();
    // One of two is not enough: the other would get its share.
    let one = format!("\"{}\"", v2.address());
    let both = format!("{one}, \"{}\"", late.address());
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", PLAN).changed(&one, &both)).await;
    let why = format!("v2: {} does not accept connections (connection refused)", late.address());
    waits(&weir, &why).await;
    load.wait_more(100).await;
    assert_eq!(v2.requests(), 0);
    late.restart().await;
    weir.rolls("shop", "it begins by itself", |r| r.weights.configured == 10.0).await;
    weir.until_phase("shop", "succeeded").await;
    let ledger = load.stop().await;
    ledger.assert_clean();
    whole(&ledger, &[&v1, &v2, &late]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_listens_pauses_after_max_hold_and_is_not_given_up() {
    let plan = PLAN.changed("max_hold: 1m", "max_hold: 3s");
    let (v1, v2, weir, load) = served(&plan).await;
    let never = absent();
    let file = rolled(&[&v1, &v2], "v2", &plan).changed(&v2.address().to_string(), &never.address().to_string());
    weir.reconfigure(&file).await;
    let rollout = weir.until_phase("shop", "paused").await;
    assert!(rollout.reason.contains("does not accept connections") && rollout.given_up.is_empty(), "{rollout:#?}");
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_endpoints_are_replaced_begins_its_step_anew_and_costs_nobody_anything() {
    let plan = PLAN.changed("{ weight: 50, hold: 1s }", "{ weight: 50, hold: 1h }");
    let (v1, v2, weir, load) = served(&plan).await;
    let file = rolled(&[&v1, &v2], "v2", &plan);
    weir.reconfigure(&file).await;
    weir.rolls("shop", "half of it", |r| r.weights.configured == 50.0).await;
    let other = absent();
    weir.reconfigure(&file.changed(&v2.address().to_string(), &other.address().to_string())).await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("waiting", 0.0), "{rollout:#?}");
    weir.rolls("shop", "it says why", |r| r.reason.contains("does not accept connections")).await;
    load.wait_more(100).await;
    other.restart().await;
    let rollout = weir.rolls("shop", "the step anew", |r| r.weights.configured > 0.0).await;
    assert_eq!(rollout.weights.configured, 50.0);
    assert!(rollout.left.as_ref().is_some_and(|left| left.seconds > 3_500.0), "{rollout:#?}");
    load.wait_more(100).await;
    assert!(other.requests() > 0);
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_its_health_checks_waits_with_the_reason_and_begins_when_it_passes() {
    for start in ["healthy", "unhealthy"] {
        let check = format!("health: {{ http: {{ path: /healthz }}, interval: 100ms, start: {start} }}\n    rollout:");
        let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
        let file = |release: &str| rolled(&[&v1, &v2], release, PLAN).changed("    rollout:", &format!("    {check}"));
        v2.fail(100);
        let weir = Weir::start(&file("v1")).await;
        let load = steady(&weir).await;
        weir.reconfigure(&file("v2")).await;
        let why = format!("v2: {} fails its health check (status 500)", v2.address());
        waits(&weir, &why).await;
        load.wait_more(50).await;
        assert!(v2.journal().iter().all(|entry| entry.target == "/healthz"), "nobody's request went there");
        v2.fail(0);
        weir.until_phase("shop", "succeeded").await;
        load.stop().await.assert_clean();
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_endpoints_never_answered_a_check_waits() {
    let check = "health: { http: { path: /no-answer }, interval: 1h, timeout: 1m }\n    rollout:";
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let file = |release: &str| rolled(&[&v1, &v2], release, PLAN).changed("    rollout:", &format!("    {check}"));
    let weir = Weir::start(&file("v1")).await;
    let load = steady(&weir).await;
    weir.reconfigure(&file("v2")).await;
    let why = format!("v2: {} was not checked yet", v2.address());
    weir.rolls("shop", "it says why", |r| r.phase == "waiting" && r.reason.contains(&why)).await;
    // Without the check there is nothing to wait for.
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", PLAN)).await;
    weir.until_phase("shop", "succeeded").await;
    load.stop().await.assert_clean();
    weir.stop().await;
}
