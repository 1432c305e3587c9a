//! What operators, the file and signals do to rollouts.

use super::{PLAN, command, rolled, served, served_over, steady, whole};
use crate::harness::Fixture as _;
use crate::harness::{Load, Origin, Protocol, Request, Rewrite, Weir, eventually, over_both, run_weir};

/// Between two health probes, at most.
const PROBE: std::time::Duration = std::time::Duration::from_millis(20);

fn slowly() -> String {
    PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 10, hold: 1h }")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_word_does_what_it_says_or_is_refused_with_a_reason() {
    let (v1, v2, weir, load) = served(&slowly()).await;
    let say = async |arguments: &[&str]| command(&weir, &[&["rollout"], arguments].concat()).await;
    for word in ["pause", "resume", "promote", "abort", "approve", "reject", "retry", "undo"] {
        let (code, text) = say(&[word, "shop"]).await;
        assert_eq!(code, 7, "{word}: {text}");
        assert!(text.contains("refused while the rollout is idle"), "{text}");
    }
    let (code, _) = say(&["undo", "shop", "--reason", "it is late", "--author", "bob"]).await;
    assert_eq!(code, 7);
    let refused = "last refused command: `undo` is refused while the rollout is idle: no rollout is under way (asked by bob: it is late, ";
    let (_, text) = say(&["status", "shop"]).await;
    assert!(text.contains(refused), "{text}");
    let (_, text) = command(&weir, &["status", "shop"]).await;
    assert!(text.contains(refused) && text.contains(" s ago)"), "{text}");
    let kept = weir.rollout("shop").await.refused_command.unwrap();
    assert_eq!((&*kept.verb, &*kept.author, &*kept.reason), ("undo", "bob", "it is late"));
    assert!(kept.at_ms > 1_600_000_000_000, "{kept:?}");
    let (code, text) = say(&["start", "shop", "v2", "--reason", "we want it", "--author", "ann"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(weir.rollout("shop").await.refused_command, None, "what was accepted is what counts");
    assert!(text.contains("ann") && text.contains("we want it"), "{text}");
    weir.rolls("shop", "10 %", |r| r.weights.configured == 10.0).await;
    assert_eq!(say(&["start", "shop", "v2"]).await.0, 7);
    assert_eq!(say(&["pause", "shop"]).await.0, 0);
    assert_eq!(weir.rollout("shop").await.phase, "paused");
    let (code, text) = say(&["status", "shop"]).await;
    assert_eq!(code, 0);
    for part in ["paused", "v1 → v2", "[10%] ─ 50% ─ 100%", "paused while progressing", "LAST EVENTS"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(say(&["resume", "shop"]).await.0, 0);
    assert_eq!(say(&["abort", "shop"]).await.0, 0);
    let rollout = weir.rollout("shop").await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("aborted", 0.0));
    let (_, text) = say(&["status", "shop"]).await;
    assert!(text.contains("`weir rollout retry shop` tries v2 again"), "{text}");
    assert_eq!(say(&["retry", "shop"]).await.0, 0);
    weir.rolls("shop", "10 % again", |r| r.weights.configured == 10.0).await;
    assert_eq!(say(&["promote", "shop"]).await.0, 0);
    weir.until_phase("shop", "succeeded").await;
    let (code, text) = say(&["undo", "shop"]).await;
    assert_eq!(code, 0, "{text}");
    let rollout = weir.rollout("shop").await;
    assert_eq!((&*rollout.phase, rollout.stable.as_deref()), ("aborted", Some("v1")));
    let before = v2.requests();
    load.wait_more(50).await;
    assert!(v2.requests() <= before + 4);
    let ledger = load.stop().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_waits_for_a_person_while_the_analysis_goes_on() {
    let plan = PLAN.changed(
        "{ weight: 10, hold: 1s }",
        "{ weight: 10, hold: 1s, gate: manual, gate_timeout: 1h, gate_default: abort }",
    );
    let (v1, v2, weir, load) = served(&plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let rollout = weir.rolls("shop", "at the gate", |r| r.waiting_for.as_deref() == Some("gate")).await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("waiting", 10.0));
    assert_eq!(rollout.gate.as_ref().map(|gate| &*gate.default), Some("abort"));
    let looks = rollout.entries.last().unwrap().number;
    weir.rolls("shop", "the judge goes on looking", |r| r.entries.last().unwrap().number >= looks + 2).await;
    assert_eq!(command(&weir, &["rollout", "approve", "shop"]).await.0, 0);
    weir.until_phase("shop", "succeeded").await;
    load.stop().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_nobody_answers_does_its_default_and_a_bad_canary_does_not_wait_there() {
    let gate = "{ weight: 10, hold: 1s, gate: manual, gate_timeout: 2s, gate_default: abort }";
    let (v1, v2, weir, load) = served(&PLAN.changed("{ weight: 10, hold: 1s }", gate)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &PLAN.changed("{ weight: 10, hold: 1s }", gate))).await;
    weir.until_phase("shop", "aborted").await;
    let long = PLAN.changed("{ weight: 10, hold: 1s }", &gate.changed("2s", "1h"));
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &long)).await;
    assert_eq!(command(&weir, &["rollout", "retry", "shop"]).await.0, 0);
    weir.until_phase("shop", "waiting").await;
    weir.rolls("shop", "at the gate", |r| r.waiting_for.as_deref() == Some("gate")).await;
    v2.fail(50);
    weir.until_phase("shop", "rolled_back").await;
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_words_at_once_each_finds_a_whole_state() {
    let (v1, v2, weir, load) = served(&slowly().changed("bake: 1s", "bake: 1h")).await;
    for turn in 0..5 {
        let again =
            if turn == 0 { ["rollout", "start", "shop", "v2"].as_slice() } else { &["rollout", "retry", "shop"] };
        assert_eq!(command(&weir, again).await.0, 0);
        let [abort, promote] = [["rollout", "abort", "shop"], ["rollout", "promote", "shop"]];
        let ((aborted, _), (promoted, why)) = tokio::join!(command(&weir, &abort), command(&weir, &promote));
        assert_eq!(aborted, 0, "an abort is always possible here");
        assert!(promoted == 0 || (promoted == 7 && why.contains("no rollout is under way")), "{promoted}: {why}");
        let rollout = weir.rollout("shop").await;
        assert_eq!((&*rollout.phase, rollout.weights.configured), ("aborted", 0.0));
    }
    let ledger = load.stop().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2]);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_a_rollout_are_moved_by_it_alone() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", PLAN)).await;
    let (code, text) = command(&weir, &["weight", "shop", "v1=50", "v2=50"]).await;
    assert_eq!(code, 7, "{text}");
    assert!(text.contains("weir rollout"), "{text}");
    let (code, text) = command(&weir, &["rollout", "start", "shop", "v9"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no version `v9`"), "{text}");
    weir.stop().await;
}

over_both!(a_reload_in_any_phase_keeps_the_rollout_and_the_connections);

async fn a_reload_in_any_phase_keeps_the_rollout_and_the_connections(protocol: Protocol) {
    let replanned = PLAN.changed("max_hold: 1m", "max_hold: 2m");
    let (v1, v2, weir, load) = served_over(protocol, PLAN).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", PLAN)).await;
    let mut phases = std::collections::BTreeSet::new();
    for turn in 0..400 {
        // Something else changes each time; once the plan does too, and its step begins anew.
        let plan = if turn < 5 { PLAN } else { &replanned };
        let file = rolled(&[&v1, &v2], "v2", plan);
        weir.reconfigure(&file.changed("deadline: 5s", &format!("deadline: 5s, delay: {turn}ms"))).await;
        let rollout = weir.rollout("shop").await;
        phases.insert(rollout.phase.clone());
        assert!(rollout.given_up.is_empty(), "{}", rollout.reason);
        if rollout.phase == "succeeded" {
            break;
        }
        load.wait_more(20).await;
    }
    assert!(phases.contains("succeeded") && phases.len() >= 3, "{phases:?}");
    let ledger = load.stop().await;
    ledger.assert_clean();
    assert_eq!(ledger.counts().announced_closes + ledger.counts().unannounced_closes, 0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_version_supersedes_and_what_is_stable_can_be_asked_for_again() {
    let (v1, v2, v3) = (Origin::start("v1").await, Origin::start("v2").await, Origin::start("v3").await);
    let all = [&v1, &v2, &v3];
    let weir = Weir::start(&rolled(&all, "v1", &slowly())).await;
    let load = steady(&weir).await;
    weir.reconfigure(&rolled(&all, "v2", &slowly())).await;
    weir.rolls("shop", "v2 has 10 %", |r| r.weights.configured == 10.0).await;
    weir.reconfigure(&rolled(&all, "v3", &slowly())).await;
    let rollout = weir.rolls("shop", "v3 has 10 %", |r| r.weights.configured == 10.0).await;
    assert_eq!((rollout.stable.as_deref(), rollout.canary.as_deref()), (Some("v1"), Some("v3")));
    assert!(rollout.given_up.is_empty(), "v2 has not failed");
    weir.reconfigure(&rolled(&all, "v1", &slowly())).await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((rollout.stable.as_deref(), rollout.weights.configured), (Some("v1"), 0.0));
    load.stop().await.assert_clean();
    weir.stop().await;
}

over_both!(a_drill_makes_the_canary_fail_and_the_rollback_work);

async fn a_drill_makes_the_canary_fail_and_the_rollback_work(protocol: Protocol) {
    let plan = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }");
    let (v1, v2, weir, load) = served_over(protocol, &plan).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let drill = ["drill", "shop", "--version", "canary", "--errors", "20%", "--delay", "5ms", "--for", "1m"];
    let (code, text) = command(&weir, &drill).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("shop/v2"), "{text}");
    for shown in [&["status"][..], &["rollout", "status"]] {
        let (_, shown) = command(&weir, shown).await;
        assert!(shown.contains("drill: 20% errors, 5 ms, "), "{shown}");
    }
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert!(rollout.given_up.iter().any(|given| given.version == "v2"));
    let ledger = load.stop().await;
    let metrics = weir.metrics().await;
    assert!(metrics.value("weir_drill_faults_total", &[("version", "v2"), ("kind", "error")]) > 0.0);
    assert_eq!(metrics.value("weir_drill_faults_total", &[("version", "v1")]), 0.0);
    whole(&ledger, &[&v1, &v2]);
    let faults = ledger.counts().statuses.get(&500).copied().unwrap_or_default();
    assert_eq!(metrics.value("weir_drill_faults_total", &[("version", "v2"), ("kind", "error")]), faults as f64);
    assert_eq!(command(&weir, &["drill", "shop", "--version", "v2", "--end"]).await.0, 0);
    assert!(weir.rollout("shop").await.drills.is_empty());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_probes_are_neither_judged_nor_use() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let file = |release: &str| {
        rolled(&[&v1, &v2], release, PLAN)
            + "  - { name: probes, match: { exact: /status/500 }, service: shop, probe: true }\n"
    };
    let weir = Weir::start(&file("v1")).await;
    let at = weir.address("web").await;
    let probes = Load::at(at).keep_alive(1).request(Request::get("/status/500")).think(PROBE).start();
    probes.wait_more(10).await;
    let idle = async || command(&weir, &["removable", "shop/v1", "--idle", "1s"]).await.0 == 0;
    eventually("v1 has only probes", idle).await;
    let load = steady(&weir).await;
    weir.reconfigure(&file("v2")).await;
    let rollout = weir.until_phase("shop", "succeeded").await;
    assert_eq!(rollout.stable.as_deref(), Some("v2"));
    load.stop().await.assert_clean();
    let sent = probes.stop().await.counts().sent;
    let counted = async || {
        let counted = weir.metrics().await.value("weir_requests_total", &[("route", "probes"), ("code", "500")]);
        if counted == sent as f64 { Ok(()) } else { Err(counted) }
    };
    eventually("each probe is counted by its status", counted).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_removable_once_it_was_idle_for_long_enough() {
    let (v1, v2, weir, load) = served(PLAN).await;
    let ask = async |target: &str, idle: &str| command(&weir, &["removable", target, "--idle", idle]).await;
    let (code, text) = ask("shop/v1", "1m").await;
    assert_eq!(code, 7, "it is in use: {text}");
    let (code, text) = ask("shop/v2", "7d").await;
    assert_eq!(code, 7, "nobody knows the last week: {text}");
    assert!(text.contains("not yet 7d"), "{text}");
    eventually("v2 was idle for two seconds", async || ask("shop/v2", "2s").await.0 == 0).await;
    load.stop().await;
    eventually("so is v1 once the load is gone", async || ask("shop/v1", "2s").await.0 == 0).await;
    assert_eq!(ask("shop/v9", "1s").await.0, 1);
    drop((v1, v2));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_change_never_ends_with_the_result_of_the_rollout_before() {
    let (v1, v2, weir, load) = served(PLAN).await;
    let file = |release: &str, plan: &str| rolled(&[&v1, &v2], release, plan);
    v2.fail(50);
    weir.reconfigure(&file("v2", PLAN)).await;
    weir.until_phase("shop", "rolled_back").await;
    let wait = ["rollout", "status", "shop/v2", "--wait", "--timeout", "1m"];
    assert_eq!(command(&weir, &wait).await.0, 5, "the result of that");

    // The file that is to come: asked for before Weir could see it.
    let mended = Origin::start("v2").await;
    let again = file("v2", PLAN).changed(&v2.address().to_string(), &mended.address().to_string());
    let text = weir.filled(&again);
    let next = weir.dir().join("next.yaml");
    std::fs::write(&next, text).unwrap();
    let checked = run_weir(&["check", "-o", "json", "-c", next.to_str().unwrap()]).await;
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let hash = checked["hash"].as_str().unwrap().to_owned();
    let by_hash = [&wait[..], &["--file-hash", &hash]].concat();
    let (waited, ()) = tokio::join!(command(&weir, &by_hash), async {
        load.wait_more(200).await;
        weir.rewrite(Rewrite::Rename, &again);
    });
    assert_eq!(waited.0, 0, "{}", waited.1);

    // Back, and by a reload of its own, and by the revision that a reload printed.
    let third = again.changed("release: v2", "release: v1");
    weir.rewrite(Rewrite::Rename, &third);
    let (code, text) = command(&weir, &["rollout", "status", "shop/v1", "--wait", "--reload"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(weir.rollout("shop").await.stable.as_deref(), Some("v1"));
    let (_, text) = command(&weir, &["reload"]).await;
    assert!(text.contains("file hash"), "{text}");
    let revision = text.lines().last().unwrap().trim_start_matches("revision ").split(',').next().unwrap().to_owned();
    assert_eq!(command(&weir, &[&wait[..2], &["shop/v1", "--wait", "--revision", &revision]].concat()).await.0, 0);
    let never = [&wait[..2], &["shop/v1", "--wait", "--revision", "99999999", "--timeout", "1s"]].concat();
    let (code, text) = command(&weir, &never).await;
    assert!(code == 6 && text.contains("revision 99999999 is not in effect"), "{code}: {text}");
    let (code, text) = command(&weir, &["rollout", "status", "shop/v9", "--wait", "--reload"]).await;
    assert!(code == 1 && text.contains("service `shop` has no version `v9`"), "{code}: {text}");
    // A file that is refused ends the wait as `weir reload` ends.
    weir.rewrite(Rewrite::Rename, &third.changed("release: v1", "release: v9"));
    let (code, text) = command(&weir, &["rollout", "status", "shop/v1", "--wait", "--reload"]).await;
    assert_eq!(code, 3, "{text}");
    load.stop().await;
    weir.stop().await;
}
