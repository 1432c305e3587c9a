//! Hooks, providers and receivers of alerts, on real sockets.

use weir::rollout::verdict::CheckOutcome;

use super::{PLAN, command, rolled, served, whole};
use crate::harness::Fixture as _;
use crate::harness::{Receiver, eventually};

fn hook(receiver: &Receiver, when: &str) -> String {
    format!("{PLAN}\n      hooks: [{{ when: {when}, url: \"{}\", timeout: 1s, retries: 0 }}]", receiver.url("/hook"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_refuses_is_waited_for_and_one_that_accepts_opens_the_way() {
    let receiver = Receiver::start().await;
    receiver.answer(503, "the migration is not done");
    let plan = hook(&receiver, "before_start");
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let waits = |r: &weir::admin::wire::Rollout| r.waiting_for.as_deref() == Some("hook");
    weir.rolls("shop", "it waits", waits).await;
    eventually("the hook is asked again", async || receiver.received("/hook").len() >= 2).await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((rollout.weights.configured, rollout.failures.total), (0.0, 0), "waiting is not failing");
    weir.rolls("shop", "what the hook says is shown", |r| {
        r.refused.as_ref().is_some_and(|said| said.contains("the migration is not done"))
    })
    .await;
    let (_, shown) = command(&weir, &["rollout", "status", "shop"]).await;
    for part in
        ["waits for hook `before_start`", "the migration is not done", "`weir rollout approve shop` passes the hook"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert_eq!(v2.requests(), 0);
    let body = &receiver.received("/hook")[0].body;
    assert_eq!((body["service"].as_str(), body["canary"].as_str()), (Some("shop"), Some("v2")), "{body}");
    receiver.answer(200, "");
    weir.rolls("shop", "it begins", |r| r.weights.configured == 10.0).await;
    weir.until_phase("shop", "succeeded").await;
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_hangs_stops_neither_traffic_nor_the_judge() {
    let receiver = Receiver::start().await;
    receiver.hang();
    let plan = hook(&receiver, "before_step");
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "it waits for its first step", |r| r.waiting_for.as_deref() == Some("hook")).await;
    load.wait_more(100).await;
    assert_eq!(weir.rollout("shop").await.weights.configured, 0.0);
    receiver.answer(200, "");
    weir.rolls("shop", "the first step", |r| r.weights.configured == 10.0).await;
    receiver.hang();
    weir.rolls("shop", "it waits for its second", |r| {
        r.weights.configured == 10.0 && r.waiting_for.as_deref() == Some("hook")
    })
    .await;
    v2.fail(50);
    weir.until_phase("shop", "rolled_back").await;
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_accept_is_waited_for_as_long_as_max_hold_says() {
    let receiver = Receiver::start().await;
    for when in ["before_start", "before_step"] {
        receiver.answer(503, "the migration is not done");
        let plan = hook(&receiver, when).changed("max_hold: 1m", "max_hold: 3s");
        let (v1, v2, weir, load) = served(&plan).await;
        weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
        let rollout = weir.until_phase("shop", "paused").await;
        assert!(rollout.reason.contains(when) && rollout.reason.contains("max_hold"), "{}", rollout.reason);
        assert_eq!((rollout.weights.configured, rollout.failures.total), (0.0, 0), "waiting is not failing");
        receiver.answer(200, "");
        assert_eq!(command(&weir, &["rollout", "resume", "shop"]).await.0, 0);
        weir.rolls("shop", "it goes on", |r| r.weights.configured == 10.0).await;
        load.stop().await.assert_clean();
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_after_the_end_is_called_again_after_a_kill_until_it_accepts() {
    let receiver = Receiver::start().await;
    receiver.hang();
    let plan = hook(&receiver, "after").changed("timeout: 1s", "timeout: 30s");
    let (v1, v2, mut weir, load) = served(&plan).await;
    load.stop().await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v1", &plan)).await;
    assert_eq!(command(&weir, &["rollout", "start", "shop", "v2"]).await.0, 0);
    assert_eq!(command(&weir, &["rollout", "abort", "shop"]).await.0, 0);
    let called = async |count: usize| {
        eventually("the hook is called", async || receiver.received("/hook").len() >= count).await;
    };
    called(1).await;
    weir.signal(crate::harness::Signal::Kill);
    weir.wait_exit().await;
    receiver.answer(200, "");
    weir.start_again().await;
    called(2).await;
    let answered = |r: &weir::admin::wire::Rollout| r.entries.iter().any(|entry| entry.what == "answered");
    let rollout = weir.rolls("shop", "it accepted", answered).await;
    assert_eq!(rollout.phase, "aborted");
    let received = receiver.received("/hook");
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].body["id"], received[1].body["id"], "a receiver can tell that it is the same");
    assert_eq!((&received[1].body["when"], &received[1].body["phase"]), (&"after".into(), &"aborted".into()));
    // What was answered is not called once more.
    weir.signal(crate::harness::Signal::Kill);
    weir.wait_exit().await;
    weir.start_again().await;
    assert_eq!(command(&weir, &["rollout", "retry", "shop"]).await.0, 0);
    assert_eq!(command(&weir, &["rollout", "abort", "shop"]).await.0, 0);
    called(3).await;
    assert_ne!(receiver.received("/hook")[2].body["id"], received[0].body["id"]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_another_supersedes_is_told_and_has_its_hook_called() {
    let receiver = Receiver::start().await;
    let v3 = crate::harness::Origin::start("v3").await;
    let plan = hook(&receiver, "after").changed("{ weight: 10, hold: 1s }", "{ weight: 10, hold: 1h }")
        + "\n      alerts: [ops]";
    let alerts = format!("alerts:\n  ops: {{ webhook: {{ url: \"{}\" }} }}\nservices:", receiver.url("/alerts"));
    let (v1, v2, weir, load) = served(PLAN).await;
    let with = |release: &str| rolled(&[&v1, &v2, &v3], release, &plan).changed_first("services:", &alerts);
    weir.reconfigure(&with("v2")).await;
    weir.rolls("shop", "v2 has 10 %", |r| r.weights.configured == 10.0).await;
    weir.reconfigure(&with("v3")).await;
    eventually("the hook is called", async || !receiver.received("/hook").is_empty()).await;
    let body = receiver.received("/hook").remove(0).body;
    assert_eq!((body["canary"].as_str(), body["phase"].as_str()), (Some("v2"), Some("aborted")), "{body}");
    let superseded = async || {
        let received = receiver.received("/alerts");
        received.iter().any(|alert| {
            alert.body["type"].as_str().is_some_and(|kind| kind.ends_with("superseded"))
                && alert.body["data"].to_string().contains("the rollout of v2 is superseded at 10 %")
        })
    };
    eventually("it is told, by default", superseded).await;
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_can_demand_the_way_back() {
    let receiver = Receiver::start().await;
    receiver.answer(404, "");
    let plan = hook(&receiver, "demand_rollback").changed("{ weight: 10, hold: 1s }", "{ weight: 10, hold: 1h }");
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "10 %", |r| r.weights.configured == 10.0).await;
    eventually("it is asked at each analysis run", async || receiver.received("/hook").len() >= 2).await;
    receiver.answer(200, "the load test failed");
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.entries.iter().any(|entry| entry.by == "hook"), "{rollout:#?}");
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_are_told_with_figures_and_a_dead_one_slows_nothing() {
    let receiver = Receiver::start().await;
    let plan = format!("{PLAN}\n      alerts: [ops, dead]");
    let alerts = format!(
        "alerts:\n  ops: {{ webhook: {{ url: \"{}\", secret: \"0123456789abcdef0123456789abcdef\" }}, on: [started, step, rolled_back] }}\n  \
         dead: {{ webhook: {{ url: \"http://127.0.0.1:9/\" }}, on: [started, step, rolled_back] }}\nservices:",
        receiver.url("/alerts")
    );
    let with = |release: &str, v1, v2| rolled(&[v1, v2], release, &plan).changed_first("services:", &alerts);
    let (v1, v2, weir, load) = served(PLAN).await;
    weir.reconfigure(&with("v1", &v1, &v2)).await;
    v2.fail(50);
    weir.reconfigure(&with("v2", &v1, &v2)).await;
    weir.until_phase("shop", "rolled_back").await;
    let kinds = || -> Vec<String> {
        let received = receiver.received("/alerts");
        received.iter().map(|alert| alert.body["type"].as_str().unwrap_or_default().to_owned()).collect()
    };
    eventually("the end is told", async || kinds().iter().any(|kind| kind.ends_with("rolled_back"))).await;
    assert!(kinds().iter().any(|kind| kind.ends_with("started")), "{:?}", kinds());
    let received = receiver.received("/alerts");
    let last = received.last().unwrap();
    assert!(last.headers.contains_key("weir-signature"), "{:?}", last.headers);
    assert_eq!(last.body["specversion"], "1.0");
    let data = last.body["data"].to_string();
    assert!(data.contains("errors: canary") && data.contains("v2"), "{data}");
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_were_not_delivered_survive_a_restart() {
    let receiver = Receiver::start().await;
    receiver.answer(503, "");
    let plan = format!("{PLAN}\n      alerts: [ops]");
    let alerts =
        format!("alerts:\n  ops: {{ webhook: {{ url: \"{}\" }}, on: [aborted] }}\nservices:", receiver.url("/alerts"));
    let (v1, v2, mut weir, load) = served(PLAN).await;
    load.stop().await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v1", &plan).changed_first("services:", &alerts)).await;
    assert_eq!(command(&weir, &["rollout", "start", "shop", "v2"]).await.0, 0);
    assert_eq!(command(&weir, &["rollout", "abort", "shop"]).await.0, 0);
    eventually("it was tried", async || !receiver.received("/alerts").is_empty()).await;
    weir.signal(crate::harness::Signal::Kill);
    weir.wait_exit().await;
    let before = receiver.received("/alerts").len();
    receiver.answer(200, "");
    weir.start_again().await;
    eventually("it is told after the restart", async || receiver.received("/alerts").len() > before).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_own_metric_decides_and_a_provider_that_is_down_is_no_bad_canary() {
    let receiver = Receiver::start().await;
    receiver.answer(200, r#"{ "value": 1.0 }"#);
    let check = format!(
        "checks: [{{ name: orders, webhook: {{ url: \"{}\", timeout: 500ms }}, min: 0.97 }}]",
        receiver.url("/orders")
    );
    let plan = PLAN
        .changed("checks: [{ name: errors, error_rate: { max: 1 } }]", &check)
        .changed("{ weight: 50, hold: 1s }", "{ weight: 50, hold: 1h }");
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "orders are well: 50 %", |r| r.weights.configured == 50.0).await;
    receiver.answer(500, "");
    let rollout = weir
        .rolls("shop", "it cannot be measured", |r| r.checks.iter().any(|c| c.verdict.outcome == CheckOutcome::Error))
        .await;
    assert_eq!((rollout.failures.total, rollout.weights.configured), (0, 50.0));
    receiver.hang();
    weir.rolls("shop", "nor in time", |r| r.checks.iter().any(|c| c.verdict.sentence.contains("time"))).await;
    receiver.answer(200, r#"{ "value": 0.5 }"#);
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.reason.contains("orders") && rollout.reason.contains("0.97"), "{}", rollout.reason);
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_decides() {
    let Some(mut prometheus) = crate::provider::Prometheus::start() else { return };
    let url = prometheus.url().await;
    let check = format!(
        "checks: [{{ name: orders, prometheus: {{ url: \"{url}\", query: \"vector(0.99)\", timeout: 900ms }}, min: 0.97 }}]"
    );
    let plan = PLAN
        .changed("checks: [{ name: errors, error_rate: { max: 1 } }]", &check)
        .changed("{ weight: 50, hold: 1s }", "{ weight: 50, hold: 1h }");
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "up: 50 %", |r| r.weights.configured == 50.0).await;
    let slow = plan.changed("vector(0.99)", "count_over_time(vector(1)[10000h:1s])");
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &slow)).await;
    let rollout =
        weir.rolls("shop", "slow", |r| r.checks.iter().any(|check| check.verdict.outcome == CheckOutcome::Error)).await;
    assert_eq!((rollout.failures.total, rollout.weights.configured), (0, 50.0), "{rollout:#?}");
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "up again", |r| r.checks.iter().all(|check| check.verdict.outcome == CheckOutcome::Pass)).await;
    prometheus.stop();
    let rollout =
        weir.rolls("shop", "down", |r| r.checks.iter().any(|check| check.verdict.sentence.contains("reached"))).await;
    assert_eq!((&*rollout.phase, rollout.failures.total), ("progressing", 0));
    load.stop().await.assert_clean();
    weir.stop().await;
}
