//! A version with several endpoints: one of them is not the version.

use std::time::Duration;

use weir::rollout::verdict::CheckOutcome;

use super::{PLAN, command, rolled, shown, whole, with_endpoints};
use crate::harness::Fixture as _;
use crate::harness::{Load, Origin, Weir};

#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_of_three_that_fails_is_named_and_three_of_them_are_the_version() {
    let plan = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }")
        + "\n      rollback_when: [{ errors: 4, in_a_row: true }, { errors: 20, within: 1s }]";
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let (second, third) = (Origin::start("v2").await, Origin::start("v2").await);
    let endpoints = [&v2, &second, &third];
    // The judge is to tell endpoints apart by itself.
    let no_ejection = "    outlier_detection: { consecutive_errors: 0 }\n    rollout:";
    let file = |release: &str| {
        with_endpoints(&rolled(&[&v1, &v2], release, &plan), &v2, &endpoints).changed("    rollout:", no_ejection)
    };
    let weir = Weir::start(&file("v1")).await;
    weir.reconfigure(&file("v2")).await;
    let load = Load::at(weir.address("web").await).keep_alive(8).think(Duration::from_millis(5)).start();
    weir.rolls("shop", "a look passed", |r| r.checks.iter().any(|c| c.verdict.outcome == CheckOutcome::Pass)).await;
    second.fail(100);
    let blamed = format!("one endpoint, {}, has ", second.address());
    let rollout = weir.rolls("shop", "an endpoint is blamed", |r| r.reason.contains(&blamed)).await;
    assert_eq!((&*rollout.phase, rollout.failures.total), ("progressing", 0), "{}", rollout.reason);
    let (row, json) = shown(&weir, "errors").await;
    assert!(row.contains("suspect") && row.contains(&blamed) && row.contains(": not the version"), "{row}");
    assert_eq!(json["outcome"], "suspect", "{json:#}");
    let (code, text) = command(&weir, &["rollout", "history", "shop", "--decisions"]).await;
    assert!(code == 0 && text.contains("held") && text.contains(&blamed), "{text}");
    // However long that takes.
    load.wait_more(2_000).await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("progressing", 50.0), "{}", rollout.reason);
    for origin in endpoints {
        origin.fail(100);
    }
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert_eq!(rollout.weights.configured, 0.0);
    whole(&load.stop().await, &[&v1, &v2, &second, &third]);
    weir.stop().await;
}
