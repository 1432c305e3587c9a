//! The way forward: steps, holds, gates, hooks, bake, promotion.

use std::time::Duration;

use super::rig::{Rig, gate, hook, percent, plan, step, target};
use crate::model::Weight;
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::engine::{Effect, Event, Phase, Verb, WaitingFor, What};
use crate::rollout::plan::{GateDefault, HookPoint};
use crate::rollout::verdict::CheckOutcome;

#[test]
fn a_healthy_canary_goes_all_the_way() {
    let mut rig = Rig::started(plan());
    let mut seen = vec![(rig.phase(), rig.weight())];
    for _ in 0..9 {
        rig.pass(1);
        seen.push((rig.phase(), rig.weight()));
    }
    let (progressing, baking) = (Phase::Progressing, Phase::Baking);
    assert_eq!(
        seen,
        [
            (progressing, percent(10)),
            (progressing, percent(10)),
            (progressing, percent(50)),
            (progressing, percent(50)),
            (progressing, percent(100)),
            (baking, percent(100)),
            (baking, percent(100)),
            (baking, percent(100)),
            (Phase::Promoting, percent(100)),
            (Phase::Succeeded, Weight::ZERO),
        ]
    );
    assert_eq!((rig.stable(), rig.settled()), ("v2", Some("v2")));
    assert_eq!(rig.state.previous, Some(target("v1")));
    assert_eq!(rig.alerts.last().map(|alert| alert.severity), Some(Severity::Info));
}

#[test]
fn no_weight_moves_before_both_versions_are_usable() {
    for (canary, stable) in [(0, 2), (2, 0), (0, 0)] {
        let mut rig = Rig::new(plan());
        (rig.seen.canary_available, rig.seen.stable_available) = (canary, stable);
        rig.event(Event::Release(target("v2")));
        rig.pass(3);
        assert_eq!((rig.phase(), rig.weight()), (Phase::Waiting, Weight::ZERO));
        assert!(rig.state.reason.contains("no available endpoint → hold"), "{}", rig.state.reason);
        (rig.seen.canary_available, rig.seen.stable_available) = (1, 1);
        rig.event(Event::Tick);
        assert_eq!(rig.weight(), percent(10));
    }
}

#[test]
fn a_canary_that_never_becomes_healthy_pauses_the_rollout_and_tells() {
    let mut rig = Rig::new(plan());
    rig.seen.canary_available = 0;
    rig.event(Event::Release(target("v2")));
    rig.wait(0);
    rig.wait(299);
    assert_eq!(rig.phase(), Phase::Waiting);
    rig.wait(1);
    assert_eq!(
        (rig.phase(), rig.alerts.last().map(|alert| alert.transition)),
        (Phase::Paused, Some(Transition::Paused))
    );
}

#[test]
fn a_clock_that_stands_still_takes_no_step_and_a_jump_takes_one() {
    let mut rig = Rig::started(plan());
    rig.now -= super::rig::INTERVAL;
    rig.pass(1);
    for _ in 0..100 {
        rig.now -= super::rig::INTERVAL;
        rig.pass(1);
    }
    assert_eq!(rig.weight(), percent(10));
    rig.now += Duration::from_secs(100 * 365 * 24 * 3600);
    rig.event(Event::Tick);
    assert_eq!(rig.weight(), percent(10), "time alone is no analysis run");
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50), "one analysis run, one step");
    rig.now = Duration::MAX - super::rig::INTERVAL;
    rig.all(CheckOutcome::Fail);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_look_that_comes_a_little_early_still_ends_the_hold() {
    let mut rig = Rig::started(plan());
    rig.pass(1);
    rig.now -= Duration::from_millis(400);
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_last_step_below_everything_is_promoted_and_then_bakes() {
    let mut plan = plan();
    plan.steps = vec![step(50, 10)];
    let mut rig = Rig::started(plan);
    rig.pass(1);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Promoting, percent(100)));
    rig.pass(1);
    assert_eq!(rig.phase(), Phase::Baking);
    rig.pass(3);
    assert_eq!(rig.phase(), Phase::Promoting);
    rig.pass(1);
    assert_eq!(rig.phase(), Phase::Succeeded);
}

#[test]
fn without_a_bake_the_promotion_follows_the_last_step() {
    let mut plan = plan();
    plan.steps = vec![step(100, 10)];
    plan.bake = Duration::ZERO;
    let mut rig = Rig::started(plan);
    rig.pass(1);
    assert_eq!(rig.phase(), Phase::Promoting);
    rig.pass(1);
    assert_eq!(rig.phase(), Phase::Succeeded);
}

#[test]
fn a_gate_waits_for_a_person_and_then_for_a_look_that_passes() {
    let mut rig = Rig::at(Phase::Waiting);
    assert_eq!((rig.state.waiting(), rig.weight()), (Some(WaitingFor::Gate), percent(10)));
    rig.pass(3);
    assert_eq!(rig.weight(), percent(10));
    rig.say(Verb::Approve).unwrap();
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
    rig.all(CheckOutcome::Fail);
    assert_eq!(rig.weight(), percent(10));
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_gate_that_nobody_answers_does_its_default() {
    for (default, phase) in [
        (GateDefault::Abort, Phase::Aborted),
        (GateDefault::Pause, Phase::Paused),
        (GateDefault::Approve, Phase::Progressing),
    ] {
        let mut rig = Rig::at(Phase::Waiting);
        rig.plan.steps[0].gate = Some(gate(Some(60), default));
        rig.wait(59);
        assert_eq!(rig.phase(), Phase::Waiting);
        rig.wait(1);
        assert_eq!(rig.phase(), phase);
        assert!(rig.entries.iter().any(|entry| entry.why.contains("nobody answered at the gate within 60s →")));
    }
}

#[test]
fn the_checks_still_send_back_what_waits_at_a_gate() {
    let mut rig = Rig::at(Phase::Waiting);
    (0..3).for_each(|_| rig.all(CheckOutcome::Fail));
    rig.went_back(Phase::RolledBack);
}

#[test]
fn hooks_are_asked_in_order_and_a_refusal_is_waited_upon() {
    let mut plan = plan();
    plan.hooks = vec![
        hook(HookPoint::BeforeStart),
        hook(HookPoint::BeforeStep),
        hook(HookPoint::BeforePromote),
        hook(HookPoint::After),
    ];
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    assert_eq!((rig.called(), rig.weight()), (vec![HookPoint::BeforeStart], Weight::ZERO));
    rig.answer(false);
    rig.event(Event::Tick);
    assert_eq!(rig.called(), [], "asked again only after an interval");
    rig.wait(10);
    assert_eq!(rig.called(), [HookPoint::BeforeStart]);
    rig.answer(true);
    rig.event(Event::Tick);
    assert_eq!((rig.called(), rig.weight()), (vec![HookPoint::BeforeStep], Weight::ZERO));
    rig.answer(true);
    rig.event(Event::Tick);
    assert_eq!(rig.weight(), percent(10));
    for weight in [50, 100] {
        rig.pass(2);
        assert_eq!((rig.phase(), rig.called()), (Phase::Waiting, vec![HookPoint::BeforeStep]));
        rig.answer(true);
        assert!(rig.weight() < percent(weight), "an answer opens the way, an analysis run goes it");
        rig.pass(1);
        assert_eq!(rig.weight(), percent(weight));
    }
    rig.pass(4);
    assert_eq!(
        (rig.state.waiting(), rig.called()),
        (Some(WaitingFor::Hook(HookPoint::BeforePromote)), vec![HookPoint::BeforePromote])
    );
    rig.answer(true);
    rig.pass(1);
    assert_eq!(rig.phase(), Phase::Promoting);
    rig.pass(1);
    assert_eq!((rig.phase(), rig.called()), (Phase::Succeeded, vec![HookPoint::After]));
    assert_eq!(rig.state.failures.total, 0, "refusing is not failing");
}

#[test]
fn a_hook_that_refuses_is_asked_at_each_look() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::BeforeStart)];
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    for _ in 0..10 {
        // The answer takes a while, and the analysis run comes a little early.
        rig.now += Duration::from_secs(3);
        rig.answer(false);
        rig.event(Event::Tick);
        assert_eq!(rig.called(), []);
        rig.now += Duration::from_millis(6_990);
        rig.event(Event::Tick);
        assert_eq!(rig.called(), [HookPoint::BeforeStart]);
    }
}

#[test]
fn a_hook_that_never_answers_is_asked_again_and_a_late_answer_is_dropped() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::BeforeStart)];
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    let first = rig.state.calls[0].id;
    rig.wait(119);
    assert_eq!(rig.called(), []);
    rig.wait(1);
    assert_eq!(rig.called(), [HookPoint::BeforeStart]);
    rig.event(Event::HookAnswered { id: first, accepted: true, text: String::new() });
    rig.event(Event::Tick);
    assert_eq!(rig.weight(), Weight::ZERO);
}

#[test]
fn a_person_passes_a_hook_that_refuses() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::BeforeStart)];
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    rig.answer(false);
    rig.say(Verb::Approve).unwrap();
    rig.event(Event::Tick);
    assert_eq!(rig.weight(), percent(10));
}

#[test]
fn hooks_during_are_called_at_each_look_and_decide_nothing() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::During), hook(HookPoint::DemandRollback)];
    let mut rig = Rig::started(plan);
    rig.pass(1);
    assert_eq!(rig.called(), [HookPoint::DemandRollback, HookPoint::During]);
    rig.answer(false);
    rig.pass(1);
    assert_eq!((rig.called().len(), rig.weight()), (2, percent(50)));
}

#[test]
fn a_state_that_cannot_be_written_holds_the_rollout_and_tells_once() {
    let mut rig = Rig::started(plan());
    rig.seen.unwritable = true;
    rig.pass(5);
    assert_eq!(rig.weight(), percent(10));
    let told = rig.alerts.iter().filter(|alert| alert.sentence.contains("cannot be written")).count();
    assert_eq!(told, 1);
    assert!(rig.say(Verb::Promote).is_err());
    rig.seen.unwritable = false;
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_command_that_is_given_again_says_that_the_first_is_not_stored() {
    let mut rig = Rig::started(plan());
    rig.seen.unwritable = true;
    rig.say(Verb::Pause).unwrap();
    let again = rig.say(Verb::Pause).unwrap_err().reason;
    assert!(again.starts_with("it is paused already; the state cannot be written, so a restart loses"), "{again}");
    rig.seen.unwritable = false;
    assert_eq!(rig.say(Verb::Pause).unwrap_err().reason, "it is paused already");
}

#[test]
fn a_step_is_one_snapshot_and_one_line() {
    let mut rig = Rig::started(plan());
    rig.pass(2);
    let weights: Vec<&Effect> = rig.effects.iter().filter(|e| !matches!(e, Effect::Alert(_))).collect();
    let (stable, canary) = ("v1".into(), "v2".into());
    assert_eq!(weights, [&Effect::SetWeight { stable, canary, weight: percent(50) }]);
    assert_eq!(rig.last().1, What::Stepped);
    assert_eq!(rig.last().2, "step 2 of 3 → 50 %");
}

#[test]
fn a_step_without_a_hold_lasts_an_interval() {
    let mut plan = plan();
    plan.steps = vec![step(10, 0), step(20, 0), step(100, 0)];
    let mut rig = Rig::started(plan);
    for _ in 0..3 {
        rig.now -= super::rig::INTERVAL;
        rig.pass(1);
        assert_eq!(rig.weight(), percent(10), "no time has passed");
    }
    rig.pass(1);
    assert_eq!(rig.weight(), percent(20));
}

#[test]
fn a_step_never_takes_weight_away() {
    let mut rig = Rig::started(plan());
    rig.plan.steps = vec![step(10, 0), step(5, 0), step(20, 0)];
    rig.pass(1);
    assert_eq!((rig.state.taken, rig.weight()), (2, percent(10)));
}
