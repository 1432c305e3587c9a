//! Recorded rollouts, judged by other plans.

use super::*;
use crate::rollout::plan::{Compared, Errors, Failures, NoData, Provider, RollbackCondition, Step, WarmUp};

const INTERVAL: u64 = 10;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn check(name: &str, measure: Measure) -> Check {
    Check { name: name.into(), measure, dry_run: false, min_requests: None, no_data: None, window: None }
}

fn error_rate(max: f64) -> Measure {
    Measure::ErrorRate { max, errors: Errors::default() }
}

fn compare(margin: f64) -> Measure {
    Measure::Compare { metric: Compared::ErrorRate, margin, confidence: 99.0, errors: Errors::default() }
}

fn sustained(above: f64, time: u64) -> RollbackCondition {
    RollbackCondition::ErrorRate { above, sustained: seconds(time), errors: Errors::default() }
}

/// One step of 10 % that lasts; the first failed analysis run goes back.
fn plan(checks: Vec<Check>) -> Plan {
    let weight = Weight::from_basis_points(1_000).unwrap();
    Plan {
        cohort: None,
        interval: seconds(INTERVAL),
        window: seconds(10),
        steps: vec![Step { weight, hold: seconds(86_400), gate: None }],
        bake: Duration::ZERO,
        min_requests: 100,
        no_data: NoData::Hold,
        significance: Some(1.0),
        expected_rate: None,
        warm_up: None,
        max_hold: seconds(86_400),
        checks,
        failures: Failures { total: Some(1), consecutive: None },
        rollback_when: Vec::new(),
        rollback: Rollback::Immediate,
        hooks: Vec::new(),
        alerts: Vec::new(),
    }
}

fn watched(condition: RollbackCondition) -> Plan {
    Plan { rollback_when: vec![condition], ..plan(Vec::new()) }
}

/// Counts of an interval: requests of the canary, bad ones; stable has ten times as many, and this many bad ones.
fn counts(requests: u64, bad: u64, stable_bad: u64) -> RecordedCounts {
    let text = format!(
        r#"{{"seconds":{INTERVAL},"canary":{{"successes":{},"server_errors":{bad}}},
        "stable":{{"successes":{},"server_errors":{stable_bad}}}}}"#,
        requests - bad,
        10 * requests - stable_bad,
    );
    serde_json::from_str(&text).unwrap()
}

fn target(version: &str) -> RolloutTarget {
    RolloutTarget { version: version.into(), fingerprint: String::new() }
}

fn replayed<'p>(plan: &'p Plan, intervals: &[RecordedCounts]) -> Replay<'p> {
    let mut replay = Replay::new(plan, HistoryLayout::of(intervals.iter()));
    replay.serve(Duration::ZERO, target("v1"));
    replay.start(Duration::ZERO, target("v1"), target("v2"), "ann".to_owned());
    for (at, counts) in (1..).zip(intervals) {
        let at = seconds(at * INTERVAL);
        replay.count(at, counts);
        replay.analyze(at, RecordedRun { counts, canary_had_all: false, verdicts: &[] });
    }
    replay
}

/// The phase that these intervals lead to, and why.
fn end(plan: &Plan, intervals: &[RecordedCounts]) -> (Phase, String) {
    let replay = replayed(plan, intervals);
    (replay.state().phase(), replay.state().reason.clone())
}

/// When the replay went back.
fn went_back(plan: &Plan, intervals: &[RecordedCounts]) -> Option<u64> {
    let replay = replayed(plan, intervals);
    let back = |(at, replayed): &(Duration, Replayed)| match replayed {
        Replayed::Decided(entry) if entry.what == What::WentBack => Some(at.as_secs()),
        _ => None,
    };
    replay.story().iter().find_map(back)
}

const BACK: Phase = Phase::RolledBack;
const ON: Phase = Phase::Progressing;

#[test]
fn a_rate_is_judged_by_the_limits_the_minimum_and_the_significance_of_the_plan_given() {
    // 2 % of 500.
    let recorded = [counts(500, 10, 5)];
    let of = |change: fn(&mut Plan), max| {
        let mut plan = plan(vec![check("errors", error_rate(max))]);
        change(&mut plan);
        end(&plan, &recorded)
    };
    assert_eq!(of(|_| {}, 0.5).0, BACK);
    assert_eq!(of(|_| {}, 3.0).0, ON);
    let (phase, why) = of(|_| {}, 1.2);
    assert!(phase == ON && why.contains("that may be chance (p "), "{phase} {why}");
    let (phase, why) = of(|plan| plan.significance = None, 1.2);
    assert_eq!(phase, BACK);
    assert!(
        why.starts_with("errors: canary 10 of 500 (2.00 %) over 10 s, stable 5 of 5,000 (0.10 %), limit 1.2 %"),
        "{why}"
    );
    assert_eq!(of(|plan| plan.significance = Some(10.0), 1.2).0, BACK);
    let (phase, why) = of(|plan| plan.min_requests = 501, 0.5);
    assert!(phase == ON && why.contains("1 more request needed"), "{phase} {why}");
    assert_eq!(of(|plan| plan.warm_up = Some(WarmUp::Requests(1_000)), 0.5).0, ON);
    let success = Measure::SuccessRate { min: 99.9, errors: Errors::default() };
    assert_eq!(end(&plan(vec![check("success", success)]), &recorded).0, BACK);
}

#[test]
fn where_stable_failed_too_the_replay_freezes_as_well() {
    let (phase, why) = end(&plan(vec![check("errors", error_rate(0.5))]), &[counts(500, 50, 500)]);
    assert!(phase == Phase::Paused && why.contains("stable as well"), "{phase} {why}");
}

#[test]
fn a_window_of_another_length_looks_back_over_several_lines() {
    let recorded: Vec<_> = [0, 0, 8].map(|bad| counts(200, bad, 0)).to_vec();
    let of = |window| {
        let plan = Plan { window: seconds(window), ..plan(vec![check("errors", error_rate(1.0))]) };
        end(&plan, &recorded)
    };
    assert_eq!(of(10).0, BACK);
    let (phase, why) = of(30);
    assert!(phase == ON && why.contains("8 of 600 (1.33 %) over 30 s"), "{phase} {why}");
}

#[test]
fn a_latency_is_judged_by_another_limit_and_another_quantile() {
    let text = r#"{"seconds":10,"canary":{"successes":1000,"durations":[[0.1,900],[0.25,60],[0.5,40]]},
        "stable":{"successes":1000,"durations":[[0.1,1000]]}}"#;
    let recorded: [RecordedCounts; 1] = [serde_json::from_str(text).unwrap()];
    let of = |quantile, millis| {
        let max = Duration::from_millis(millis);
        end(&plan(vec![check("latency", Measure::Duration { quantile, max })]), &recorded).0
    };
    assert_eq!((of(0.99, 500), of(0.99, 250), of(0.95, 250), of(0.95, 100)), (ON, BACK, ON, BACK));
}

#[test]
fn a_comparison_is_tested_over_all_blocks_by_the_margin_given() {
    // Two points worse, a little in each interval.
    let recorded = vec![counts(100, 3, 10); 30];
    let of = |margin| went_back(&plan(vec![check("not-worse", compare(margin))]), &recorded);
    let (strict, usual, loose) = (of(0.0), of(0.5), of(3.0));
    assert!(strict <= usual && usual.is_some_and(|at| at > INTERVAL), "{strict:?} {usual:?}");
    assert_eq!(loose, None);
    let (phase, why) = end(&plan(vec![check("not-worse", compare(0.5))]), &recorded);
    assert!(phase == BACK && why.contains("since the start, stable ") && why.contains("margin 0.5 points"), "{why}");
}

#[test]
fn a_condition_holds_for_the_time_of_the_plan_given() {
    // 5 % of errors from 20 s on, for a minute.
    let bad = |at: usize| if (2..8).contains(&at) { 50 } else { 0 };
    let recorded: Vec<_> = (0..15).map(|at| counts(1_000, bad(at), 0)).collect();
    let of = |above, time| went_back(&watched(sustained(above, time)), &recorded);
    // The window of ten seconds is above 1 % three seconds after the first error at the latest.
    assert!((40..45).contains(&of(1.0, 20).unwrap()), "{:?}", of(1.0, 20));
    assert!((70..75).contains(&of(1.0, 50).unwrap()), "{:?}", of(1.0, 50));
    assert_eq!(of(1.0, 120), None, "it was over before");
    assert_eq!(of(10.0, 20), None, "it never was so many");
    let (phase, why) = end(&watched(sustained(1.0, 20)), &recorded);
    assert!(phase == BACK && why.contains("limit 1 % for 20 s → roll back"), "{why}");
    let both: Vec<_> = (0..15).map(|at| counts(1_000, bad(at), bad(at) * 10)).collect();
    assert_eq!(went_back(&watched(sustained(1.0, 20)), &both), None, "stable was as bad");
}

#[test]
fn how_errors_came_is_taken_from_the_history_or_said_to_be_unknown() {
    let plan = plan(vec![check("errors", error_rate(1.0))]);
    let unknown = [counts(1_000, 30, 0)];
    let replay = replayed(&plan, &unknown);
    assert_eq!(replay.state().phase(), BACK);
    assert_eq!(replay.assumptions().independent, BTreeSet::from([Name::from("errors")]));
    let mut value = serde_json::to_value(&unknown[0]).unwrap();
    value["past"] = serde_json::json!([[{ "errors": {} }, [100_000, 100, 3_600, 0.02, 0.0, 0.002]]]);
    let clustered = [serde_json::from_value(value).unwrap()];
    let replay = replayed(&plan, &clustered);
    assert_eq!(*replay.assumptions(), Assumptions::default());
    let why = &replay.state().reason;
    assert!(replay.state().phase() == ON && why.contains("they come in clusters"), "{why}");
}

#[test]
fn what_others_measured_is_compared_anew_and_a_word_is_taken_as_it_was() {
    let provider = Provider::Webhook { url: "http://127.0.0.1:1/".into(), timeout: seconds(1) };
    let plan =
        |min| plan(vec![check("orders", Measure::External { provider: provider.clone(), min: Some(min), max: None })]);
    let found = |value, outcome| Verdict {
        check: "orders".into(),
        outcome,
        value,
        sentence: "orders (webhook): then".to_owned(),
        ..Verdict::default()
    };
    let of = |min, verdict: Option<Verdict>| {
        let plan = plan(min);
        let counts = counts(500, 0, 0);
        let mut replay = Replay::new(&plan, HistoryLayout::of([&counts].into_iter()));
        replay.start(Duration::ZERO, target("v1"), target("v2"), "ann".to_owned());
        replay.count(seconds(10), &counts);
        let verdicts: Vec<_> = verdict.into_iter().collect();
        replay.analyze(seconds(10), RecordedRun { counts: &counts, canary_had_all: false, verdicts: &verdicts });
        (replay.state().phase(), replay.state().reason.clone())
    };
    assert_eq!(of(0.9, Some(found(Some(0.95), CheckOutcome::Fail))).0, ON);
    assert_eq!(of(0.99, Some(found(Some(0.95), CheckOutcome::Pass))).0, BACK);
    let (phase, why) = of(0.9, Some(found(None, CheckOutcome::Fail)));
    assert!(phase == BACK && why.contains("then (taken as it was)"), "{why}");
    assert_eq!(of(0.9, None).0, ON, "not recorded");
}

#[test]
fn each_rollout_of_a_history_is_replayed_by_itself() {
    let plan = plan(vec![check("errors", error_rate(3.0))]);
    let mut replay = replayed(&plan, &[counts(500, 10, 0)]);
    assert_eq!(replay.state().phase(), ON);
    // It had gone back then, and another version was tried.
    replay.start(seconds(60), target("v1"), target("v3"), "the file".to_owned());
    assert!(replay.story().contains(&(seconds(60), Replayed::Left(ON))));
    let state = replay.state();
    assert_eq!((state.phase(), state.canary.as_ref().map(|canary| &*canary.version)), (ON, Some("v3")));
    replay.count(seconds(70), &counts(500, 100, 0));
    let counts = counts(500, 100, 0);
    replay.analyze(seconds(70), RecordedRun { counts: &counts, canary_had_all: false, verdicts: &[] });
    assert_eq!(replay.state().phase(), BACK);
    replay.start(seconds(80), target("v1"), target("v3"), "ann".to_owned());
    assert_eq!(replay.state().phase(), ON, "a retry");
    // There it succeeded.
    replay.start(seconds(90), target("v3"), target("v4"), "ann".to_owned());
    assert_eq!(replay.state().stable.as_ref().map(|stable| &*stable.version), Some("v3"));
}

#[test]
fn a_ramp_back_ends_after_its_time_though_nothing_more_was_recorded() {
    let mut plan = plan(vec![check("errors", error_rate(1.0))]);
    plan.rollback = Rollback::Ramp(seconds(30));
    let mut replay = replayed(&plan, &[counts(500, 50, 0)]);
    assert_eq!(replay.state().phase(), Phase::RollingBack);
    replay.end(seconds(10));
    assert_eq!(replay.state().phase(), BACK);
}
