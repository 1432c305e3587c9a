//! Both versions bad at once: freeze and page, and never blame the canary.

use super::rig::{Rig, percent, plan, verdict};
use crate::model::Weight;
use crate::rollout::alerts::Severity;
use crate::rollout::engine::{Event, Phase, Verb};
use crate::rollout::plan::HookPoint;
use crate::rollout::verdict::CheckOutcome;

fn both() -> crate::rollout::verdict::Verdict {
    let mut verdict = verdict("errors", CheckOutcome::Fail);
    verdict.stable_fails_too = true;
    verdict
}

#[track_caller]
fn frozen(rig: &Rig, weight: Weight) {
    assert_eq!((rig.phase(), rig.weight()), (Phase::Paused, weight), "{}", rig.state.reason);
    assert_eq!(rig.alerts.last().map(|alert| alert.severity), Some(Severity::Critical));
    assert!(rig.state.failed_targets.is_empty(), "the canary is not to blame");
    assert!(rig.state.reason.contains("→ freeze"), "{}", rig.state.reason);
}

#[test]
fn a_check_that_stable_fails_too_freezes_and_pages_once() {
    let mut rig = Rig::started(plan());
    rig.analyze(vec![both()]);
    frozen(&rig, percent(10));
    let pages = rig.alerts.len();
    (0..5).for_each(|_| rig.analyze(vec![both()]));
    assert_eq!((rig.alerts.len(), rig.state.failures.total), (pages, 0));
    rig.say(Verb::Resume).unwrap();
    rig.pass(2);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn what_only_the_canary_fails_counts_whatever_else_both_fail() {
    let mut plan = plan();
    plan.checks.push(super::rig::check("latency"));
    plan.failures.consecutive = Some(1);
    let mut rig = Rig::started(plan);
    rig.analyze(vec![both(), verdict("latency", CheckOutcome::Fail)]);
    rig.went_back(Phase::RolledBack);
}

#[test]
fn a_stable_version_without_endpoints_freezes_every_way_back_of_the_analysis() {
    let events = [
        Event::Sustained { sentence: "errors above 1 % for 2m".into() },
        Event::HookAnswered { id: 1, accepted: true, text: String::new() },
    ];
    for event in events {
        let mut plan = plan();
        plan.hooks = vec![super::rig::hook(HookPoint::DemandRollback)];
        let mut rig = Rig::started(plan);
        rig.pass(1);
        rig.seen.stable_available = 0;
        rig.event(event);
        frozen(&rig, percent(10));
    }
}

#[test]
fn a_stable_version_that_is_away_for_a_moment_stops_nothing() {
    let mut rig = Rig::started(plan());
    rig.pass(1);
    for _ in 0..5 {
        rig.seen.stable_available = 0;
        rig.pass(1);
        assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)), "nothing rises meanwhile");
        rig.seen.stable_available = 2;
        rig.wait(1);
    }
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_stable_version_that_stays_away_freezes_and_a_restart_does_not_hurry_that() {
    let mut rig = Rig::started(plan());
    rig.seen.stable_available = 0;
    rig.wait(1);
    rig.wait(9);
    assert_eq!(rig.phase(), Phase::Progressing);
    rig.restart();
    rig.event(Event::Tick);
    rig.wait(8);
    assert_eq!(rig.phase(), Phase::Progressing, "{}", rig.state.reason);
    rig.wait(2);
    frozen(&rig, percent(10));
}

#[test]
fn both_without_endpoints_freezes() {
    let mut rig = Rig::started(plan());
    (rig.seen.canary_available, rig.seen.stable_available) = (0, 0);
    rig.wait(1);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)), "one interval's patience");
    rig.wait(10);
    frozen(&rig, percent(10));
    rig.wait(100);
    frozen(&rig, percent(10));
}

#[test]
fn the_trip_wire_with_a_dead_stable_version_freezes_at_nothing_and_begins_anew() {
    let mut rig = Rig::started(plan());
    rig.seen.stable_available = 0;
    rig.event(Event::Tripped { why: "10 errors in a row".into(), stable_fails_too: false });
    frozen(&rig, Weight::ZERO);
    assert_eq!(rig.published(), [Weight::ZERO]);
    rig.seen.stable_available = 1;
    rig.say(Verb::Resume).unwrap();
    assert_eq!((rig.phase(), rig.weight()), (Phase::Waiting, Weight::ZERO));
    rig.wait(0);
    assert_eq!(rig.weight(), percent(10));
}

#[test]
fn the_trip_wire_with_a_stable_version_that_fails_as_well_blames_nobody() {
    let mut rig = Rig::started(plan());
    rig.event(Event::Tripped { why: "10 errors in a row".into(), stable_fails_too: true });
    frozen(&rig, Weight::ZERO);
    assert!(rig.state.failed_targets.is_empty());
}

#[test]
fn a_pause_by_a_person_still_pages_when_both_are_bad() {
    let mut rig = Rig::at(Phase::Paused);
    rig.analyze(vec![both()]);
    frozen(&rig, percent(10));
}

#[test]
fn a_person_may_leave_a_dead_stable_version_behind() {
    let mut rig = Rig::at(Phase::Baking);
    rig.seen.stable_available = 0;
    rig.pass(2);
    frozen(&rig, percent(100));
    rig.say(Verb::Promote).unwrap();
    rig.pass(1);
    assert_eq!((rig.phase(), rig.stable()), (Phase::Succeeded, "v2"));
}
