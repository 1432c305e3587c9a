//! The ways back: rollback at once and by ramp, the trip wire, sustained conditions, hooks that demand it.

use std::time::Duration;

use super::rig::{Rig, hook, percent, plan, target};
use crate::model::Weight;
use crate::rollout::engine::{Effect, Event, Phase, Verb};
use crate::rollout::plan::{HookPoint, Rollback};
use crate::rollout::verdict::CheckOutcome;

const PHASES: [Phase; 5] = [Phase::Waiting, Phase::Progressing, Phase::Baking, Phase::Promoting, Phase::Paused];

#[test]
fn from_any_phase_the_analysis_goes_back_in_one_snapshot() {
    for phase in PHASES {
        let mut rig = Rig::at(phase);
        rig.event(Event::Sustained { sentence: "errors above 1 % for 2m00s".into() });
        rig.went_back(Phase::RolledBack);
        assert_eq!(rig.state.reason, "errors above 1 % for 2m00s → roll back");
        let mut rig = Rig::at(phase);
        (0..3).for_each(|_| rig.all(CheckOutcome::Fail));
        assert_eq!((rig.phase(), rig.weight()), (Phase::RolledBack, Weight::ZERO));
    }
}

#[test]
fn the_trip_wire_and_an_abort_go_back_at_once_even_where_the_plan_ramps() {
    for phase in PHASES {
        let mut rig = Rig::at(phase);
        rig.plan.rollback = Rollback::Ramp(Duration::from_secs(30));
        rig.event(Event::Tripped { why: "10 errors in a row".into(), stable_fails_too: false });
        rig.went_back(Phase::RolledBack);
        let mut rig = Rig::at(phase);
        rig.plan.rollback = Rollback::Ramp(Duration::from_secs(30));
        rig.say(Verb::Abort).unwrap();
        rig.went_back(Phase::Aborted);
    }
}

#[test]
fn a_ramp_goes_down_evenly_and_ends_at_nothing() {
    let mut rig = Rig::at(Phase::RollingBack);
    assert_eq!(rig.weight(), percent(10), "it begins where it was");
    let mut weights = vec![];
    for _ in 0..5 {
        rig.wait(2);
        weights.extend(rig.published());
    }
    assert_eq!(weights, [8, 6, 4, 2, 0].map(percent));
    assert_eq!((rig.phase(), rig.settled()), (Phase::RolledBack, Some("v1")));
}

#[test]
fn a_ramp_is_hurried_by_abort_the_trip_wire_and_another_plan() {
    let mut rig = Rig::at(Phase::RollingBack);
    rig.say(Verb::Abort).unwrap();
    rig.went_back(Phase::RolledBack);
    let mut rig = Rig::at(Phase::RollingBack);
    rig.event(Event::Tripped { why: "20 errors within 1s".into(), stable_fails_too: false });
    rig.went_back(Phase::RolledBack);
    let mut rig = Rig::at(Phase::RollingBack);
    rig.plan.rollback = Rollback::Immediate;
    rig.wait(0);
    rig.went_back(Phase::RolledBack);
}

#[test]
fn a_hook_demands_the_rollback() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::DemandRollback), hook(HookPoint::After)];
    let mut rig = Rig::started(plan);
    rig.pass(1);
    rig.answer(false);
    rig.pass(1);
    assert_eq!(rig.phase(), Phase::Progressing);
    rig.answer(true);
    rig.went_back(Phase::RolledBack);
    assert_eq!(
        (rig.state.reason.as_str(), rig.called()),
        ("a hook demands the rollback: said so → roll back", vec![HookPoint::After])
    );
}

#[test]
fn calls_that_no_longer_matter_are_cancelled_before_the_last_are_made() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::During), hook(HookPoint::After)];
    let mut rig = Rig::started(plan);
    rig.pass(1);
    rig.say(Verb::Abort).unwrap();
    let kinds: Vec<&Effect> = rig.effects.iter().filter(|e| !matches!(e, Effect::Alert(_))).collect();
    assert!(matches!(
        kinds[..],
        [Effect::SetWeight { .. }, Effect::Settle { .. }, Effect::CancelHooks, Effect::CallHook { .. }]
    ));
}

#[test]
fn what_failed_is_not_tried_again_until_it_changes_or_somebody_says_retry() {
    let mut rig = Rig::at(Phase::RolledBack);
    rig.event(Event::Release(target("v2")));
    rig.pass(5);
    assert_eq!(rig.phase(), Phase::RolledBack, "the same file");
    rig.event(Event::Release(target("v1")));
    assert_eq!(rig.phase(), Phase::Idle);
    rig.event(Event::Release(target("v2")));
    assert_eq!((rig.phase(), rig.weight()), (Phase::RolledBack, Weight::ZERO), "back and forth is no change of it");
    assert!(rig.state.reason.contains("not tried"), "{}", rig.state.reason);
    rig.say(Verb::Retry).unwrap();
    rig.pass(1);
    assert_eq!(rig.weight(), percent(10));

    let mut rig = Rig::at(Phase::RolledBack);
    let mut changed = target("v2");
    changed.fingerprint = "v2-2".into();
    rig.event(Event::Release(changed));
    rig.pass(1);
    assert_eq!(rig.weight(), percent(10));
}

#[test]
fn the_trip_wire_without_weight_means_nothing() {
    for phase in [Phase::Idle, Phase::Succeeded, Phase::RolledBack, Phase::Aborted] {
        let mut rig = Rig::at(phase);
        let state = rig.state.clone();
        rig.event(Event::Tripped { why: "late".into(), stable_fails_too: false });
        rig.event(Event::Sustained { sentence: "late".into() });
        assert_eq!((&rig.state, rig.effects.len()), (&state, 0));
    }
}

#[test]
fn each_target_that_failed_is_remembered() {
    let mut rig = Rig::at(Phase::RolledBack);
    rig.event(Event::Release(target("v3")));
    rig.say(Verb::Abort).unwrap();
    for version in ["v2", "v3"] {
        rig.event(Event::Release(target(version)));
        rig.pass(3);
        assert_eq!(rig.weight(), Weight::ZERO, "{version} is not tried again");
    }
    assert_eq!(rig.phase(), Phase::Aborted, "as it ended");
}
