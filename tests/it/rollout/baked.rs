//! At 100 %: stable has no traffic to compare with, and what fails beside the canary shows whose fault it is.

use std::time::Duration;

use weir::rollout::verdict::CheckOutcome;

use super::{PLAN, command, rolled, served, shown, steady, whole};
use crate::harness::Fixture as _;
use crate::harness::{Load, Origin, Request, Weir};

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_worse_than_stable_was_goes_back_from_the_bake() {
    // Stable's past is kept in blocks of ten seconds: the first step lasts long enough for one.
    let plan = PLAN
        .changed("[{ weight: 10, hold: 1s }, { weight: 50, hold: 1s }", "[{ weight: 50, hold: 12s }")
        .changed("bake: 1s", "bake: 1h")
        .changed("error_rate: { max: 1 }", "compare: { metric: error_rate, margin: 0.5, confidence: 99 }")
        + "\n      rollback_when: []";
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
    load.wait_more(1_000).await;
    weir.until_phase("shop", "baking").await;
    let past = ", in its last hour 0 of ";
    weir.rolls("shop", "compared with stable's past, it passes", |r| {
        r.checks
            .iter()
            .any(|check| check.verdict.outcome == CheckOutcome::Pass && check.verdict.sentence.contains(past))
    })
    .await;
    let (row, _) = shown(&weir, "errors").await;
    assert!(row.contains("pass") && row.contains("0 points ≤ 0.5"), "{row}");
    let before = v1.requests();
    v2.fail(10);
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains(past) && rollout.reason.contains("worse → roll back"), "{}", rollout.reason);
    load.wait_more(20).await;
    assert!(v1.requests() > before, "v1 serves again");
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_service_suffers_too_is_not_the_canarys_fault() {
    // Without a trip wire the judge freezes where it is; with one, the canary is at 0 before anybody judges.
    let plan = PLAN
        .changed("{ weight: 10, hold: 1s }, ", "")
        .changed("window: 2s", "window: 1m")
        .changed("bake: 1s", "bake: 1h");
    let sustained = format!("{plan}\n      rollback_when: [{{ error_rate: 1, for: 2s }}]");
    tokio::join!(both_suffer(&sustained, 100.0), both_suffer(&plan, 0.0));
}

async fn both_suffer(plan: &str, weight: f64) {
    let (v1, v2, cart) = (Origin::start("v1").await, Origin::start("v2").await, Origin::start("c1").await);
    let other = format!(
        "services:\n  cart: {{ versions: {{ c1: {{ endpoints: [\"{}\"] }} }}, split: {{ c1: 100 }} }}",
        cart.address()
    );
    let file = |release: &str| {
        let route = "routes:\n  - { match: { path: /cart }, service: cart }";
        rolled(&[&v1, &v2], release, plan).changed("services:", &other).changed("routes:", route)
    };
    let weir = Weir::start(&file("v1")).await;
    let web = weir.address("web").await;
    let load = steady(&weir).await;
    let beside = Load::at(web).request(Request::get("/cart")).keep_alive(4).think(Duration::from_millis(40)).start();
    weir.reconfigure(&file("v2")).await;
    weir.until_phase("shop", "baking").await;
    load.wait_more(200).await;
    for origin in [&cart, &v1, &v2] {
        origin.fail(100);
    }
    let rollout = weir.until_phase("shop", "paused").await;
    assert_eq!(rollout.weights.configured, weight, "{rollout:#?}");
    assert!(rollout.given_up.is_empty() && rollout.reason.contains("→ freeze"), "{rollout:#?}");
    load.wait_more(1_000).await;
    assert_eq!(weir.rollout("shop").await.phase, "paused", "however long it lasts");
    for origin in [&v1, &v2, &cart] {
        origin.fail(0);
    }
    load.wait_more(200).await;
    let (code, text) = command(&weir, &["rollout", "resume", "shop", "--reason", "the database is back"]).await;
    assert_eq!(code, 0, "{text}");
    weir.rolls("shop", "it goes on, and what all suffered is no evidence", |r| {
        r.weights.configured == 100.0
            && r.checks.iter().all(|check| {
                check.verdict.outcome == CheckOutcome::Pass && check.verdict.sentence.contains("canary 0 of ")
            })
    })
    .await;
    beside.stop().await;
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}
