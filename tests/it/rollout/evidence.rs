//! Which requests are evidence against a canary, and what is no proof yet.

use std::time::Duration;

use tokio::time::timeout;
use weir::admin::wire::Rollout;
use weir::rollout::verdict::CheckOutcome;

use super::{PLAN, command, rolled, shown, steady, whole};
use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Load, Origin, Request, Target, Weir, eventually};

/// How long a client waits for an answer that it gives up then.
const PATIENCE: Duration = Duration::from_millis(100);

/// A plan that stays at half, and looks back on all of it.
fn half() -> String {
    PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }").changed("window: 2s", "window: 1m")
}

fn all(rollout: &Rollout, outcome: CheckOutcome) -> bool {
    !rollout.checks.is_empty() && rollout.checks.iter().all(|check| check.verdict.outcome == outcome)
}

/// Waits until the check `errors` was made on so many requests of the canary, and gives it as it is shown then.
async fn judged(weir: &Weir, requests: u64) -> (String, serde_json::Value) {
    let on_all = async || {
        let check = shown(weir, "errors").await;
        if check.1["samples"] == requests { Ok(check) } else { Err(check) }
    };
    eventually(&format!("an analysis run on {requests} requests"), on_all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_testers_ask_for_by_name_is_no_evidence() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let by_name = "    override: { header: x-weir-version, from: anyone }\n    rollout:";
    let file = |release: &str| rolled(&[&v1, &v2], release, &half()).changed("    rollout:", by_name);
    let weir = Weir::start(&file("v1")).await;
    weir.reconfigure(&file("v2")).await;
    weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
    let load = Load::at(weir.address("web").await).keep_alive(4).count(200);
    let mut users = [0, 0];
    for tester in ["v2", "v1"] {
        let ledger = load.clone().run().await;
        ledger.assert_clean();
        let counts = ledger.counts();
        users = [users[0] + counts.version("v1"), users[1] + counts.version("v2")];
        let failing = Request::get("/status/500").header("x-weir-version", tester);
        let counts = load.clone().request(failing).run().await.counts();
        assert_eq!((counts.version(tester), counts.statuses[&500]), (200, 200), "{counts}");
    }
    let (row, check) = judged(&weir, users[1]).await;
    assert!(row.contains("pass") && check["outcome"] == "pass", "{row}");
    let sentence = check["sentence"].as_str().unwrap();
    let seen = [format!("canary 0 of {} ", users[1]), format!("stable 0 of {} ", users[0])];
    assert!(seen.iter().all(|seen| sentence.contains(seen)), "{seen:?} are not in {sentence}");
    let rollout = weir.rollout("shop").await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("progressing", 50.0), "{}", rollout.reason);
    assert_eq!(rollout.failures.total, 0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_canary_is_judged_once_it_is_warm() {
    let plan = PLAN
        .changed("{ weight: 10, hold: 1s }, ", "")
        .changed("window: 2s", "window: 1m")
        .changed("checks: [", "checks: [{ name: latency, duration: { quantile: 0.99, max: 100ms } }, ");
    for warm_up in [true, false] {
        let plan = if warm_up { format!("{plan}\n      warmup: {{ requests: 100 }}") } else { plan.clone() };
        let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
        let weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
        v2.fail(20);
        v2.slow(Duration::from_millis(150));
        weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
        weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
        let cold = Load::at(weir.address("web").await).keep_alive(8).count(100).run().await;
        whole(&cold, &[&v1, &v2]);
        let requests = cold.counts().version("v2");
        assert!((20..100).contains(&requests), "{requests}");
        if !warm_up {
            let rollout = weir.until_phase("shop", "rolled_back").await;
            assert!(all(&rollout, CheckOutcome::Fail), "{rollout:#?}");
            weir.stop().await;
            continue;
        }
        let left = format!("the canary warms up, {} requests more", 100 - requests);
        let rollout = weir
            .rolls("shop", "it warms up", |r| r.checks.iter().any(|check| check.verdict.sentence.contains(&left)))
            .await;
        assert!(all(&rollout, CheckOutcome::WarmingUp), "{rollout:#?}");
        assert_eq!((rollout.weights.configured, rollout.failures.total), (50.0, 0), "{}", rollout.reason);
        for (check, limit) in [("errors", "limit ≤ 1 %"), ("latency", "p99 limit ≤ 100 ms")] {
            let (row, json) = shown(&weir, check).await;
            assert!(row.contains("warming_up") && row.contains(limit) && row.contains(&left), "{row}");
            assert_eq!((&json["outcome"], &json["text"]), (&"warming_up".into(), &limit.into()), "{json:#}");
        }
        v2.fail(0);
        v2.slow(Duration::ZERO);
        let load = steady(&weir).await;
        let rollout = weir.until_phase("shop", "succeeded").await;
        assert_eq!(rollout.failures.total, 0);
        load.stop().await.assert_clean();
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_hangs_is_found_by_the_clients_that_give_up() {
    let plan = half().changed("checks: [", "checks: [{ name: patience, abandoned: { max: 2 } }, ");
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    v2.slow(Duration::from_secs(3_600));
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let web = Target::from(weir.address("web").await);
    let h2 = H2::connect(&web).await;
    let (mut answered, mut given_up) = (0, 0);
    while weir.rollout("shop").await.phase != "rolled_back" {
        assert!(given_up < 500, "{:#?}", weir.rollout("shop").await);
        let mut h1 = H1::connect(&web).await;
        match timeout(PATIENCE, h1.get("/")).await {
            Ok(response) => answered += u32::from(response.expect(200).origin() == "v1"),
            Err(_) => {
                h1.reset();
                given_up += 1;
            }
        }
        let mut stream = h2.open(&Request::get("/")).await;
        match timeout(PATIENCE, stream.head()).await {
            Ok(head) => answered += u32::from(head.status == 200),
            Err(_) => {
                stream.cancel();
                given_up += 1;
            }
        }
    }
    assert!(answered > 0 && given_up >= 10, "{answered} answered, {given_up} given up");
    let rollout = weir.rollout("shop").await;
    assert!(rollout.reason.contains("went away before the first byte"), "{}", rollout.reason);
    let outcome = |name: &str| {
        let at = rollout.checks.iter().find(|check| check.verdict.sentence.starts_with(name));
        at.unwrap_or_else(|| panic!("no check {name} in {rollout:#?}")).verdict.outcome
    };
    assert_eq!(outcome("patience"), CheckOutcome::Fail);
    assert_eq!(outcome("errors"), CheckOutcome::NoData, "nobody was answered with an error");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_chance_holds_until_more_is_known() {
    let plan = half().changed("{ weight: 50, hold: 1h }", "{ weight: 50, hold: 1s }").changed(
        "checks: [",
        "checks: [{ name: latency, duration: { quantile: 0.99, max: 5s } }, { name: traffic, requests: { min: 0.01 } }, ",
    );
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await;
    let load = Load::at(weir.address("web").await).keep_alive(2);
    load.clone().count(18).run().await.assert_clean();
    v2.fail(100);
    let (mut h1, mut failed) = (H1::connect(weir.address("web").await).await, 0);
    while failed == 0 {
        failed += u32::from(h1.get("/").await.status == 500);
    }
    v2.fail(0);
    let rollout = weir
        .rolls("shop", "it is suspect", |r| r.checks.iter().any(|c| c.verdict.outcome == CheckOutcome::Suspect))
        .await;
    assert_eq!((rollout.weights.configured, rollout.failures.total), (50.0, 0), "{}", rollout.reason);
    let (row, json) = shown(&weir, "errors").await;
    assert!(row.contains("suspect") && row.contains("% > 1 %") && row.contains("that may be chance (p "), "{row}");
    assert_eq!(json["outcome"], "suspect");
    assert!(json["text"].as_str().unwrap().ends_with(" % > 1 %"), "{json:#}");
    for (check, value, limit) in [("latency", "p99 ", " ms ≤ 5 s"), ("traffic", "", " requests/s ≥ 0.01")] {
        let (row, json) = shown(&weir, check).await;
        assert!(row.contains("pass") && row.contains(limit), "{row}");
        let text = json["text"].as_str().unwrap();
        assert!(text.starts_with(value) && text.ends_with(limit), "{text}");
    }
    let (code, text) = command(&weir, &["rollout", "history", "shop"]).await;
    assert!(code == 0 && text.contains("that may be chance"), "{text}");
    load.count(1_000).run().await.assert_clean();
    weir.rolls("shop", "it goes on", |r| r.weights.configured == 100.0 && r.failures.total == 0).await;
    weir.stop().await;
}
