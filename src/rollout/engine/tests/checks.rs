//! What an analysis run means: failures and their limits, no data, errors, dry runs, verdicts that are missing.

use std::time::Duration;

use super::rig::{Rig, check, percent, plan, verdict};
use crate::rollout::alerts::Severity;
use crate::rollout::engine::{Event, Phase};
use crate::rollout::plan::NoData;
use crate::rollout::verdict::CheckOutcome;

#[test]
fn the_limit_in_a_row_is_tested_in_the_look_that_reaches_it() {
    let mut rig = Rig::started(plan());
    for _ in 0..4 {
        rig.all(CheckOutcome::Fail);
        rig.pass(1);
    }
    assert!(rig.phase().is_under_way(), "never three in a row, and four in all");
    let mut rig = Rig::started(plan());
    rig.all(CheckOutcome::Fail);
    rig.all(CheckOutcome::Fail);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
    rig.all(CheckOutcome::Fail);
    rig.went_back(Phase::RolledBack);
    assert_eq!(
        rig.state.reason,
        "errors: canary 14 of 820 (1.71 %), limit 1 %; failed analysis run 3 of 3 in a row → roll back"
    );
    assert_eq!(rig.entries.last().unwrap().evidence[0].samples, 820);
    assert_eq!(rig.alerts.last().map(|alert| alert.severity), Some(Severity::Error));
}

#[test]
fn the_limit_in_all_counts_over_steps() {
    let mut rig = Rig::started(plan());
    for _ in 0..4 {
        rig.all(CheckOutcome::Fail);
        rig.pass(1);
    }
    rig.all(CheckOutcome::Fail);
    rig.went_back(Phase::RolledBack);
    assert!(rig.state.reason.ends_with("failed analysis run 5 of 5 → roll back"), "{}", rig.state.reason);
}

#[test]
fn a_failed_look_stays_at_its_weight() {
    let mut rig = Rig::started(plan());
    rig.pass(1);
    rig.all(CheckOutcome::Fail);
    rig.all(CheckOutcome::Fail);
    assert_eq!(rig.weight(), percent(10));
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn what_it_held_for_is_not_said_any_longer_than_it_holds() {
    let mut plan = plan();
    plan.steps.iter_mut().for_each(|step| step.hold = Duration::from_secs(600));
    let mut rig = Rig::started(plan);
    for outcome in [CheckOutcome::NoData, CheckOutcome::Fail] {
        rig.all(outcome);
        assert!(rig.state.reason.starts_with("errors: "), "{}", rig.state.reason);
        rig.pass(1);
        assert_eq!((rig.phase(), &*rig.state.reason), (Phase::Progressing, "every check passed"), "{outcome:?}");
    }
}

#[test]
fn no_data_and_errors_hold_then_pause_and_tell_and_are_no_failures() {
    for outcome in [CheckOutcome::NoData, CheckOutcome::Error] {
        let mut rig = Rig::started(plan());
        rig.pass(1);
        for _ in 0..30 {
            rig.all(outcome);
            assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
        }
        rig.all(outcome);
        assert_eq!((rig.phase(), rig.weight()), (Phase::Paused, percent(10)));
        assert!(rig.alerts.last().unwrap().sentence.contains("max_hold → pause"));
        assert_eq!(rig.state.failures.total, 0);
    }
}

#[test]
fn data_ends_a_hold() {
    let mut rig = Rig::started(plan());
    rig.plan.failures = crate::rollout::plan::Failures::default();
    for _ in 0..3 {
        (0..30).for_each(|_| rig.all(CheckOutcome::NoData));
        rig.all(CheckOutcome::Fail);
    }
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
}

#[test]
fn the_plan_says_what_no_data_means_and_a_check_may_say_otherwise() {
    let mut rig = Rig::started(plan());
    rig.plan.no_data = NoData::Pass;
    (0..2).for_each(|_| rig.all(CheckOutcome::NoData));
    assert_eq!(rig.weight(), percent(50));
    rig.plan.checks[0].no_data = Some(NoData::Fail);
    (0..3).for_each(|_| rig.all(CheckOutcome::NoData));
    assert_eq!(rig.phase(), Phase::RolledBack);
}

#[test]
fn a_dry_run_decides_nothing() {
    let mut plan = plan();
    plan.checks.push(check("orders"));
    plan.checks[1].dry_run = true;
    let mut rig = Rig::started(plan);
    for outcome in [CheckOutcome::Fail, CheckOutcome::Error, CheckOutcome::NoData, CheckOutcome::Fail] {
        rig.analyze(vec![verdict("errors", CheckOutcome::Pass), verdict("orders", outcome)]);
    }
    assert_eq!((rig.weight(), rig.state.failures.total), (percent(100), 0));
    rig.analyze(vec![verdict("errors", CheckOutcome::Pass)]);
    assert_eq!(rig.phase(), Phase::Baking, "nor does its lack");
}

#[test]
fn a_check_without_a_verdict_holds() {
    let mut rig = Rig::started(plan());
    (0..5).for_each(|_| rig.analyze(vec![]));
    assert_eq!(rig.weight(), percent(10));
    assert!(rig.state.reason.contains("errors: no verdict"), "{}", rig.state.reason);
}

#[test]
fn a_canary_that_dies_is_held_for_an_interval_and_then_goes_back() {
    let mut rig = Rig::started(plan());
    rig.seen.canary_available = 0;
    rig.wait(1);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
    rig.wait(5);
    rig.seen.canary_available = 1;
    rig.wait(1);
    rig.seen.canary_available = 0;
    rig.wait(1);
    rig.wait(8);
    assert_eq!(rig.phase(), Phase::Progressing, "it had come back in between");
    rig.wait(2);
    rig.went_back(Phase::RolledBack);
    assert_eq!(rig.state.reason, "v2 has no available endpoint for an interval → roll back");
}

#[test]
fn no_weight_for_a_canary_that_died_at_its_gate() {
    let mut rig = Rig::at(Phase::Waiting);
    rig.say(crate::rollout::engine::Verb::Approve).unwrap();
    rig.seen.canary_available = 0;
    rig.pass(1);
    assert_eq!(rig.weight(), percent(10));
}

#[test]
fn a_long_answer_is_cut() {
    let mut rig = Rig::started(plan());
    rig.event(Event::Sustained { sentence: "ü".repeat(100_000) });
    assert!(rig.state.reason.chars().count() <= 1_001);
    assert_eq!(rig.plan.max_hold, Duration::from_mins(5));
}
