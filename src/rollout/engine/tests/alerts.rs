//! What people and hooks are told: the right thing, once, with where it stood then.

use super::rig::{Rig, hook, plan, target};
use crate::model::Weight;
use crate::rollout::alerts::Transition;
use crate::rollout::engine::{Effect, Event, Phase, Progress, Verb, WaitingFor};
use crate::rollout::plan::HookPoint;

fn transitions(rig: &Rig) -> Vec<Transition> {
    rig.alerts.iter().map(|alert| alert.transition).collect()
}

#[test]
fn a_rollout_tells_each_of_its_steps() {
    let mut rig = Rig::started(plan());
    rig.until(Phase::Succeeded);
    let step = Transition::Step;
    let expected = [Transition::Started, step, step, step, Transition::Baking, step, Transition::Succeeded];
    assert_eq!(transitions(&rig), expected);
}

#[test]
fn a_disk_that_refuses_is_named_in_every_phase() {
    for phase in [Phase::Progressing, Phase::Baking, Phase::Promoting] {
        let mut rig = Rig::at(phase);
        rig.seen.unwritable = true;
        rig.pass(5);
        assert_eq!((rig.phase(), transitions(&rig).pop()), (phase, Some(Transition::StoreError)));
    }
}

#[test]
fn a_hook_that_refuses_is_told_once_for_each_move() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::BeforeStart), hook(HookPoint::BeforePromote)];
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    let told = |rig: &Rig| transitions(rig).iter().filter(|told| **told == Transition::Waiting).count();
    for _ in 0..3 {
        rig.answer(false);
        rig.wait(10);
        assert_eq!(told(&rig), 1);
    }
    rig.restart();
    rig.event(Event::Tick);
    rig.answer(false);
    assert_eq!(told(&rig), 1, "a restart tells nothing again");
    rig.wait(10);
    rig.answer(true);
    rig.event(Event::Tick);
    for _ in 0..20 {
        if rig.state.waiting() != Some(WaitingFor::Hook(HookPoint::BeforePromote)) {
            rig.pass(1);
        }
    }
    assert_eq!(told(&rig), 1, "being asked is no trouble");
    rig.answer(false);
    assert_eq!((told(&rig), rig.alerts.last().unwrap().at.weight), (2, Weight::FULL));
}

#[test]
fn going_on_is_told() {
    let mut rig = Rig::at(Phase::Paused);
    rig.say(Verb::Resume).unwrap();
    assert_eq!(transitions(&rig).pop(), Some(Transition::Resumed));
    let mut rig = Rig::at(Phase::Waiting);
    rig.say(Verb::Approve).unwrap();
    assert_eq!(transitions(&rig).pop(), Some(Transition::Resumed));
}

#[test]
fn what_is_told_of_a_success_is_how_it_stood_then() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::After)];
    let mut rig = Rig::started(plan);
    rig.until(Phase::Succeeded);
    let (stable, canary) = (Some("v1".into()), Some("v2".into()));
    let expected = Progress { stable, canary, phase: Phase::Succeeded, step: 3, weight: Weight::FULL };
    assert_eq!(rig.alerts.last().unwrap().at, expected);
    let after = rig.effects.iter().find_map(|effect| match effect {
        Effect::CallHook { at, .. } => Some(at),
        _ => None,
    });
    assert_eq!(after, Some(&expected));
}

#[test]
fn a_canary_that_is_all_that_is_left_has_everything() {
    let mut rig = Rig::started(plan());
    rig.event(Event::VersionsGone(vec!["v1".into()]));
    let at = &rig.alerts.last().unwrap().at;
    assert_eq!((at.canary.as_deref(), at.weight), (Some("v2"), Weight::FULL));
}

#[test]
fn a_rollout_that_another_supersedes_is_told_and_its_hooks_are_called() {
    for phase in [Phase::Waiting, Phase::Progressing, Phase::Baking, Phase::Paused, Phase::RollingBack] {
        let mut rig = Rig::at(phase);
        rig.plan.hooks = vec![hook(HookPoint::After)];
        let weight = rig.weight();
        rig.event(Event::Release(target("v3")));
        let [.., superseded, started] = &*rig.alerts else { panic!("{phase}") };
        assert_eq!((superseded.transition, started.transition), (Transition::Superseded, Transition::Started));
        assert_eq!(
            (superseded.at.canary.as_deref(), started.at.canary.as_deref()),
            (Some("v2"), Some("v3")),
            "{phase}"
        );
        let said = format!("the file asks for v3 → the rollout of v2 is superseded at {weight} %");
        assert_eq!(superseded.sentence, said, "{phase}");
        assert_eq!(rig.called(), [HookPoint::After], "{phase}");
        assert_eq!(rig.state.after[0].canary, "v2".into());
        let entry = rig.entries.last().unwrap();
        assert!(entry.why.ends_with(&format!("in the place of v2 at {weight} %")), "{}", entry.why);
    }
}
