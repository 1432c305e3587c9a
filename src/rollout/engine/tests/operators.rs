//! What operators say, where it depends on more than the phase.

use super::rig::{Rig, percent, plan, target};
use crate::model::Weight;
use crate::rollout::engine::{By, Event, Phase, Verb, What};
use crate::rollout::verdict::CheckOutcome;

fn start(version: &str) -> Event {
    Event::Start { target: target(version), by: "ada".into(), reason: "the fix".into() }
}

#[test]
fn a_command_is_written_with_who_and_why() {
    let mut rig = Rig::new(plan());
    rig.event(start("v2"));
    assert_eq!(rig.last(), (&By::Operator("ada".into()), What::Started, "start by ada: the fix: v1 → v2"));
    rig.event(Event::Release(target("v1")));
    assert_eq!(rig.phase(), Phase::Waiting, "the file has not changed");
}

#[test]
fn promote_gives_everything_at_once_and_still_bakes() {
    for phase in [Phase::Waiting, Phase::Progressing, Phase::Paused] {
        let mut rig = Rig::at(phase);
        rig.say(Verb::Promote).unwrap();
        assert_eq!((rig.phase(), rig.published()), (Phase::Baking, vec![Weight::FULL]));
        (0..3).for_each(|_| rig.all(CheckOutcome::Fail));
        rig.went_back(Phase::RolledBack);
    }
}

#[test]
fn promote_while_baking_ends_the_bake_and_waits_for_no_data() {
    let mut rig = Rig::at(Phase::Baking);
    rig.say(Verb::Promote).unwrap();
    assert_eq!(rig.phase(), Phase::Promoting);
    rig.all(CheckOutcome::NoData);
    assert_eq!((rig.phase(), rig.stable()), (Phase::Succeeded, "v2"));
}

#[test]
fn promote_needs_a_usable_canary() {
    for phase in [Phase::Waiting, Phase::Progressing, Phase::Baking, Phase::Paused] {
        let mut rig = Rig::at(phase);
        rig.seen.canary_available = 0;
        let refused = rig.say(Verb::Promote).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("`promote` is refused while the rollout is {phase}: v2 has no available endpoint")
        );
    }
}

#[test]
fn a_pause_keeps_the_weight_and_a_resume_holds_anew() {
    let mut rig = Rig::started(plan());
    rig.pass(1);
    rig.say(Verb::Pause).unwrap();
    rig.pass(10);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Paused, percent(10)));
    rig.say(Verb::Resume).unwrap();
    rig.pass(1);
    assert_eq!(rig.weight(), percent(10));
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_pause_at_a_gate_returns_to_the_gate() {
    let mut rig = Rig::at(Phase::Waiting);
    let waiting = rig.state.waiting();
    rig.say(Verb::Pause).unwrap();
    rig.wait(3_600);
    rig.say(Verb::Resume).unwrap();
    assert_eq!((rig.phase(), rig.state.waiting()), (Phase::Waiting, waiting));
    rig.wait(59);
    assert_eq!(rig.phase(), Phase::Waiting, "a pause is no wait at the gate");
}

#[test]
fn nobody_approves_what_waits_for_health() {
    let mut rig = Rig::new(plan());
    rig.event(Event::Release(target("v2")));
    assert!(rig.say(Verb::Approve).is_err());
    assert!(rig.say(Verb::Reject).is_err());
}

#[test]
fn a_rejected_gate_goes_back_and_is_remembered() {
    let mut rig = Rig::at(Phase::Waiting);
    rig.say(Verb::Reject).unwrap();
    rig.went_back(Phase::Aborted);
    assert_eq!(rig.state.failed_targets.len(), 1);
}

#[test]
fn undo_returns_to_what_was_stable_also_after_it_is_over() {
    let mut rig = Rig::at(Phase::Succeeded);
    rig.seen.previous_available = 0;
    assert!(rig.say(Verb::Undo).is_err(), "its health comes first");
    rig.seen.previous_available = 1;
    rig.say(Verb::Undo).unwrap();
    assert_eq!((rig.phase(), rig.stable(), rig.settled()), (Phase::Aborted, "v1", Some("v1")));
    rig.event(Event::Release(target("v2")));
    rig.pass(3);
    assert_eq!(rig.stable(), "v1", "the file still asks for it, and it is not tried again");
    rig.say(Verb::Retry).unwrap();
    rig.until(Phase::Succeeded);
    assert_eq!(rig.stable(), "v2");
}

#[test]
fn start_is_refused_for_what_serves_and_for_what_just_failed() {
    let mut rig = Rig::at(Phase::RolledBack);
    assert!(rig.try_event(start("v1")).unwrap_err().reason.contains("serves already"));
    assert!(rig.try_event(start("v2")).unwrap_err().reason.contains("`retry` tries it again"));
    rig.event(start("v3"));
    rig.say(Verb::Abort).unwrap();
    rig.event(start("v2"));
    assert_eq!(rig.phase(), Phase::Waiting, "an operator asks for it by name after something else");
}
