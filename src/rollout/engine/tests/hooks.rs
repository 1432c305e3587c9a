//! Hooks that do not accept: how long they are waited for, and that what is called after the end is not forgotten.

use super::rig::{Rig, hook, plan, target};
use crate::model::Weight;
use crate::rollout::alerts::Transition;
use crate::rollout::engine::{Effect, Event, Phase, Verb, WaitingFor};
use crate::rollout::plan::HookPoint;
use crate::rollout::verdict::CheckOutcome;

/// Waiting for a hook at this point, which was just called.
fn waiting(when: HookPoint) -> Rig {
    let mut rig = Rig::new(plan());
    rig.plan.hooks = vec![hook(when)];
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    for _ in 0..20 {
        if rig.state.waiting() != Some(WaitingFor::Hook(when)) {
            rig.pass(1);
        }
    }
    assert_eq!(rig.state.waiting(), Some(WaitingFor::Hook(when)));
    rig
}

#[test]
fn a_hook_that_does_not_accept_is_waited_for_as_long_as_anything() {
    for when in [HookPoint::BeforeStart, HookPoint::BeforeStep, HookPoint::BeforePromote] {
        for refuses in [true, false] {
            let mut rig = waiting(when);
            let weight = rig.weight();
            let longest = rig.plan.max_hold;
            let runs = usize::try_from(longest.as_secs() / 10).unwrap();
            for _ in 0..runs - 1 {
                if refuses && rig.state.calls.iter().any(|call| call.accepted.is_none()) {
                    rig.answer(false);
                }
                rig.pass(1);
                assert_eq!(rig.phase(), Phase::Waiting, "{when:?}");
            }
            rig.pass(1);
            assert_eq!((rig.phase(), rig.weight()), (Phase::Paused, weight), "{when:?}, refuses: {refuses}");
            let said = format!("a hook `{}` is asked and has not accepted for 300s", when.as_str());
            assert!(rig.state.reason.starts_with(&said), "{}", rig.state.reason);
            assert_eq!(rig.alerts.last().unwrap().transition, Transition::Paused);

            rig.say(Verb::Resume).unwrap();
            rig.pass(1);
            assert_eq!(rig.phase(), Phase::Waiting, "{when:?}: the time begins anew");
        }
    }
}

#[test]
fn a_gate_without_a_timeout_is_waited_at_for_ever() {
    let mut rig = Rig::new(plan());
    rig.plan.steps[0].gate = Some(super::rig::gate(None, crate::rollout::plan::GateDefault::Abort));
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    rig.pass(1_000);
    assert_eq!((rig.phase(), rig.state.waiting()), (Phase::Waiting, Some(WaitingFor::Gate)));
}

/// The ids of the calls after the end that the last event made.
fn called_after(rig: &Rig) -> Vec<u64> {
    let id = |effect: &Effect| match effect {
        Effect::CallHook { id, when: HookPoint::After, .. } => Some(*id),
        _ => None,
    };
    rig.effects.iter().filter_map(id).collect()
}

#[test]
fn what_is_called_after_the_end_is_called_until_it_accepts_also_after_a_crash() {
    let ended = || {
        let mut rig = Rig::started(plan());
        rig.plan.hooks = vec![hook(HookPoint::After)];
        rig.say(Verb::Abort).unwrap();
        let [id] = called_after(&rig)[..] else { panic!("one call") };
        (rig, id)
    };
    let answer = |id, accepted| Event::HookAnswered { id, accepted, text: String::new() };

    let (mut rig, id) = ended();
    rig.event(answer(id, true));
    assert!(called_after(&rig).is_empty() && rig.state.after.is_empty());
    rig.restart();
    assert!(called_after(&rig).is_empty(), "it was answered");

    // The id says that it is the same call.
    let (mut rig, id) = ended();
    rig.restart();
    assert_eq!(called_after(&rig), [id]);
    let at = &rig.state.after[0];
    assert_eq!((&*at.canary, at.phase, at.weight), ("v2", Phase::Aborted, Weight::ZERO));
    // Another rollout makes no difference.
    rig.say(Verb::Retry).unwrap();
    rig.event(Event::Tick);
    rig.event(answer(id, false));
    assert_eq!((called_after(&rig), rig.phase()), (vec![id], Phase::Progressing));
    rig.restart();
    assert!(called_after(&rig).is_empty() && rig.state.after.is_empty(), "three calls are enough");
    assert!(rig.entries.iter().any(|entry| entry.why.contains("given up")));

    let (mut rig, _) = ended();
    rig.plan.hooks.clear();
    rig.restart();
    assert!(called_after(&rig).is_empty() && rig.state.after.is_empty(), "the plan has it no more");
}

#[test]
fn the_want_of_data_is_waited_for_as_long_in_every_phase_with_weight() {
    for phase in [Phase::Progressing, Phase::Baking, Phase::Promoting] {
        let mut rig = Rig::at(phase);
        (0..30).for_each(|_| rig.all(CheckOutcome::NoData));
        assert_eq!(rig.phase(), phase, "not yet");
        (0..2).for_each(|_| rig.all(CheckOutcome::NoData));
        assert_eq!(rig.phase(), Phase::Paused, "{phase}: {}", rig.state.reason);
    }
}
