//! Histories of real rollouts, shown and replayed with other plans.

use super::{PLAN, command, rolled, served, whole};
use crate::harness::Fixture as _;
use crate::harness::{Origin, Weir};

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_replayed_with_another_plan() {
    let (v1, v2, weir, load) = served(PLAN).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", PLAN)).await;
    weir.until_phase("shop", "succeeded").await;
    load.stop().await.assert_clean();
    let history = async |arguments: &[&str]| {
        let (code, text) = command(&weir, &[&["rollout", "history", "shop"], arguments].concat()).await;
        assert_eq!(code, 0, "{text}");
        text
    };
    let all = history(&[]).await;
    assert!(all.contains(" looked ") && all.contains(" promoted "), "{all}");
    let decisions = history(&["--decisions", "--since", "1h"]).await;
    assert!(!decisions.contains(" looked ") && decisions.contains(" started "), "{decisions}");
    let last = history(&["--decisions", "-n", "1"]).await;
    assert!(decisions.ends_with(&last) && !last.is_empty(), "{last}");
    assert_eq!(history(&["--since", "2100-01-01T00:00:00Z"]).await, "shop: nothing of that kind is known\n");
    let config = weir.config().to_str().unwrap().to_owned();
    let (code, text) = command(&weir, &["rollout", "replay", "shop", "-c", &config]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("replayed: succeeded"), "{text}");
    let strict = weir.dir().join("strict.yaml");
    let plan = PLAN.changed("hold: 1s", "hold: 1h");
    let text = rolled(&[&v1, &v2], "v2", &plan).changed("{admin}", "127.0.0.1:0").changed("{dir}", "/tmp");
    std::fs::write(&strict, text).unwrap();
    let (code, text) = command(&weir, &["rollout", "replay", "shop", "-c", strict.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("replayed: progressing at 10 %"), "{text}");
    weir.stop().await;
}

/// What a replay with `plan` ends with, and all that it printed.
async fn replayed(weir: &Weir, versions: &[&Origin], plan: &str) -> (String, String) {
    let file = weir.dir().join("other.yaml");
    std::fs::write(&file, weir.filled(&rolled(versions, "v2", plan))).unwrap();
    let (code, text) = command(weir, &["rollout", "replay", "shop", "-c", file.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{text}");
    let end = text.lines().last().unwrap().trim_start_matches("replayed: ").to_owned();
    (end, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_is_judged_anew_by_a_stricter_and_by_a_looser_plan() {
    let strict = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 50, hold: 1h }");
    let lax = strict.changed("max: 1 ", "max: 60 ") + "\n      rollback_when: [{ error_rate: 60, for: 1s }]";
    let (v1, v2, weir, load) = served(&strict).await;
    let versions = [&v1, &v2];
    // Twelve errors a second: twenty would be what the trip wire takes, which ends a rollout before any check.
    v2.fail(12);
    weir.reconfigure(&rolled(&versions, "v2", &strict)).await;
    weir.until_phase("shop", "rolled_back").await;
    // The plan that it was rolled out by says the same again; another one would have gone on.
    let (end, text) = replayed(&weir, &versions, &lax).await;
    assert!(end.starts_with("progressing at 50 %: "), "{text}");

    weir.reconfigure(&rolled(&versions, "v2", &lax)).await;
    assert_eq!(command(&weir, &["rollout", "retry", "shop"]).await.0, 0);
    let first = weir.rolls("shop", "50 %", |r| r.weights.configured == 50.0).await.entries.last().unwrap().number;
    weir.rolls("shop", "eight runs", |r| r.entries.last().unwrap().number >= first + 8).await;
    assert_eq!(command(&weir, &["rollout", "abort", "shop"]).await.0, 0);
    whole(&load.stop().await, &versions);

    let not_worse = |margin: &str| {
        let check =
            format!("{{ name: not-worse, compare: {{ metric: error_rate, margin: {margin}, confidence: 99 }} }}");
        lax.changed("{ name: errors, error_rate: { max: 60 } }", &check)
    };
    for (plan, expected) in [
        (lax.clone(), "aborted: abort by"),
        (lax.changed("max: 60 ", "max: 5 "), "rolled_back: errors: canary "),
        (lax.changed("min_requests: 10", "min_requests: 100000").changed("max: 60 ", "max: 5 "), "aborted: abort by"),
        (lax.changed("{ error_rate: 60, for: 1s }", "{ error_rate: 5, for: 2s }"), "rolled_back: errors: canary "),
        (lax.changed("{ error_rate: 60, for: 1s }", "{ error_rate: 5, for: 1h }"), "aborted: abort by"),
        (not_worse("0.5"), "rolled_back: not-worse (compare): errors, canary "),
        (not_worse("50"), "aborted: abort by"),
    ] {
        let (end, text) = replayed(&weir, &versions, &plan).await;
        assert!(end.starts_with(expected), "{expected}: {plan}\n{text}");
        assert!(!text.contains("taken as"), "all of it was counted: {text}");
        let begins: Vec<_> = text.lines().filter(|line| line.starts_with("rollout ")).collect();
        assert_eq!(begins, ["rollout 1 of 2: v1 → v2", "rollout 2 of 2: v1 → v2"], "{text}");
        let first = text.lines().find(|line| line.starts_with("recorded: ")).unwrap();
        assert!(first.starts_with("recorded: rolled_back: errors: canary "), "{text}");
    }
    let (_, text) =
        replayed(&weir, &versions, &lax.changed("{ error_rate: 60, for: 1s }", "{ error_rate: 5, for: 2s }")).await;
    assert!(text.contains("limit 5 % for 2 s → roll back"), "{text}");
    weir.stop().await;
}
