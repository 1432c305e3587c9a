//! What the file and a restart do: first sighting, superseding, going back by name, another plan, versions gone.

use std::time::Duration;

use super::rig::{Rig, gate, hook, percent, plan, step, target};
use crate::model::Weight;
use crate::model::fixture::Fixture as _;
use crate::rollout::engine::stored::Unreadable;
use crate::rollout::engine::{Effect, Event, Listening, Phase, RolloutState, Verb, WaitingFor};
use crate::rollout::plan::{GateDefault, HookPoint};

#[test]
fn the_first_sighting_just_serves() {
    let rig = Rig::new(plan());
    assert_eq!((rig.phase(), rig.stable(), rig.settled()), (Phase::Idle, "v1", Some("v1")));
    assert!(rig.published().is_empty());
}

#[test]
fn what_the_file_names_as_stable_serves_and_the_release_begins_at_the_first_step() {
    let mut rig = Rig::new(plan());
    rig.state = RolloutState::default();
    rig.event(Event::Stable(target("v1")));
    assert_eq!((rig.phase(), rig.stable(), rig.settled()), (Phase::Idle, "v1", Some("v1")));
    rig.event(Event::Release(target("v2")));
    assert_eq!((rig.phase(), rig.weight()), (Phase::Waiting, Weight::ZERO));
    rig.event(Event::Tick);
    assert_eq!(rig.weight(), percent(10));
    rig.event(Event::Stable(target("v1")));
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)), "it is known by now");

    let mut rig = Rig::new(plan());
    rig.state = RolloutState::default();
    rig.event(Event::Stable(target("v1")));
    rig.event(Event::Release(target("v1")));
    assert_eq!((rig.phase(), rig.stable()), (Phase::Idle, "v1"), "both the same: that one serves");
}

#[test]
fn another_stable_in_the_place_of_one_that_is_gone_takes_everything_and_the_release_begins_anew() {
    for phase in Phase::ALL {
        let mut rig = Rig::at(phase);
        let canary_failed = !rig.state.failed_targets.is_empty();
        rig.event(Event::Stable(target("v3")));
        assert_eq!((rig.phase(), rig.stable(), rig.settled()), (Phase::Idle, "v3", Some("v3")), "{phase}");
        rig.event(Event::VersionsGone(vec!["v1".into()]));
        rig.event(Event::Release(target("v2")));
        assert_eq!((rig.stable(), rig.weight()), ("v3", Weight::ZERO), "{phase}");
        let tried = rig.phase() == Phase::Waiting;
        assert_eq!(tried, !canary_failed, "{phase}: what failed is not tried again");
    }
}

#[test]
fn a_third_version_supersedes_and_the_way_back_is_to_stable() {
    for phase in
        [Phase::Waiting, Phase::Progressing, Phase::Baking, Phase::Promoting, Phase::Paused, Phase::RollingBack]
    {
        let mut rig = Rig::at(phase);
        rig.event(Event::Release(target("v3")));
        let (stable, canary) = ("v1".into(), "v2".into());
        assert_eq!(rig.effects[0], Effect::SetWeight { stable, canary, weight: Weight::ZERO });
        assert_eq!((rig.phase(), rig.weight(), rig.state.taken), (Phase::Waiting, Weight::ZERO, 0));
        rig.pass(1);
        rig.event(Event::Tripped { why: "bad".into(), stable_fails_too: false });
        rig.went_back(Phase::RolledBack);
    }
}

#[test]
fn naming_stable_again_aborts_and_is_no_failure() {
    let mut rig = Rig::started(plan());
    rig.event(Event::Release(target("v1")));
    rig.went_back(Phase::Aborted);
    rig.event(Event::Release(target("v2")));
    rig.pass(1);
    assert_eq!(rig.weight(), percent(10));
}

#[test]
fn a_target_that_changes_under_way_begins_anew() {
    let mut rig = Rig::at(Phase::Baking);
    let mut changed = target("v2");
    changed.fingerprint = "v2-2".into();
    rig.event(Event::Release(changed));
    assert_eq!((rig.phase(), rig.published()), (Phase::Waiting, vec![Weight::ZERO]));
}

fn changed(version: &str) -> Event {
    let mut target = target(version);
    target.fingerprint = format!("{version}-2");
    Event::Release(target)
}

#[test]
fn a_declared_version_that_changes_is_begun_only_where_it_failed() {
    let start = |version| Event::Start { target: target(version), by: "ada".into(), reason: String::new() };
    let mut rig = Rig::new(plan());
    rig.event(start("v2"));
    rig.until(Phase::Succeeded);
    rig.event(changed("v1"));
    assert_eq!((rig.phase(), rig.stable()), (Phase::Succeeded, "v2"), "{}", rig.state.reason);
    rig.event(start("v3"));
    rig.event(changed("v1"));
    assert_eq!(rig.phase(), Phase::Waiting, "{}", rig.state.reason);

    let mut rig = Rig::new(plan());
    rig.event(start("v2"));
    rig.event(changed("v1"));
    assert_eq!((rig.phase(), rig.stable()), (Phase::Waiting, "v1"), "stable was scaled: that takes nothing back");

    let mut rig = Rig::at(Phase::RolledBack);
    rig.event(changed("v2"));
    assert_eq!(rig.phase(), Phase::Waiting, "what failed and changed is tried again");
}

#[test]
fn another_plan_keeps_the_weight_and_stands_at_the_last_step_not_above_it() {
    let mut rig = Rig::started(plan());
    rig.pass(2);
    rig.plan.steps = vec![step(5, 10), step(40, 10), step(60, 10), step(100, 10)];
    rig.event(Event::PlanChanged);
    assert_eq!((rig.weight(), rig.state.taken, rig.published().len()), (percent(50), 2, 0));
    rig.pass(1);
    assert_eq!(rig.weight(), percent(60));
}

#[test]
fn a_gate_that_gets_a_timeout_has_all_of_it() {
    let mut rig = Rig::at(Phase::Waiting);
    rig.plan.steps[0].gate = Some(gate(None, GateDefault::Abort));
    rig.wait(3 * 3_600);
    rig.plan.steps[0].gate = Some(gate(Some(3_600), GateDefault::Abort));
    rig.event(Event::PlanChanged);
    rig.wait(3_599);
    assert_eq!((rig.phase(), rig.state.waiting()), (Phase::Waiting, Some(WaitingFor::Gate)));
    rig.wait(1);
    assert_eq!(rig.phase(), Phase::Aborted);
}

#[test]
fn another_plan_without_the_hook_or_the_gate_goes_on() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::BeforeStart)];
    plan.steps[0].gate = Some(gate(None, GateDefault::Abort));
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    assert_eq!(rig.state.waiting(), Some(WaitingFor::Hook(HookPoint::BeforeStart)));
    rig.plan.hooks.clear();
    rig.event(Event::PlanChanged);
    rig.pass(3);
    assert_eq!((rig.weight(), rig.state.waiting()), (percent(10), Some(WaitingFor::Gate)));
    rig.plan.steps[0].gate = None;
    rig.event(Event::PlanChanged);
    rig.pass(2);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_canary_that_leaves_the_file_goes_back_and_a_stable_one_leaves_the_canary_serving() {
    let mut rig = Rig::started(plan());
    rig.event(Event::VersionsGone(vec!["v2".into()]));
    rig.went_back(Phase::Aborted);
    assert!(rig.say(Verb::Retry).is_err());

    let mut rig = Rig::started(plan());
    rig.event(Event::VersionsGone(vec!["v1".into()]));
    assert_eq!((rig.phase(), rig.settled(), rig.stable()), (Phase::Aborted, Some("v2"), "v2"));

    let mut rig = Rig::started(plan());
    rig.event(Event::VersionsGone(vec!["v1".into(), "v2".into()]));
    assert_eq!((rig.phase(), &rig.state.stable), (Phase::Idle, &None));
    rig.event(Event::Release(target("v3")));
    assert_eq!(rig.settled(), Some("v3"));

    let mut rig = Rig::at(Phase::Succeeded);
    rig.event(Event::VersionsGone(vec!["v1".into()]));
    assert!(rig.say(Verb::Undo).is_err(), "there is no way to it any more");
}

#[test]
fn a_restart_goes_on_where_it_was_and_holds_anew() {
    for phase in Phase::ALL {
        let mut rig = Rig::at(phase);
        let before = rig.state.clone();
        rig.restart();
        assert_eq!((rig.phase(), rig.weight(), rig.state.taken), (phase, before.weight, before.taken));
        if phase.is_under_way() {
            assert_eq!((rig.published(), rig.settled()), (vec![before.weight], None));
        } else {
            assert_eq!(rig.settled(), before.stable.as_ref().map(|stable| &*stable.version));
        }
    }
    let mut rig = Rig::started(plan());
    rig.pass(1);
    rig.restart();
    rig.pass(1);
    assert_eq!(rig.weight(), percent(10), "its hold begins anew");
    rig.pass(1);
    assert_eq!(rig.weight(), percent(50));
}

#[test]
fn a_restart_forgets_no_answer_and_asks_for_the_rest_again() {
    let mut plan = plan();
    plan.hooks = vec![hook(HookPoint::BeforeStart), hook(HookPoint::BeforeStart)];
    let mut rig = Rig::new(plan);
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    let first = rig.state.calls[0].id;
    rig.event(Event::HookAnswered { id: first, accepted: true, text: String::new() });
    rig.restart();
    rig.event(Event::Tick);
    assert_eq!(rig.called().len(), 1);
    rig.answer(true);
    rig.event(Event::Tick);
    assert_eq!(rig.weight(), percent(10));
}

#[test]
fn a_restart_does_not_prolong_a_gate() {
    let mut rig = Rig::at(Phase::Waiting);
    rig.wait(50);
    rig.restart();
    rig.wait(10);
    assert_eq!(rig.phase(), Phase::Aborted);
}

#[test]
fn a_state_of_before_is_read() {
    let state = Rig::started(plan()).state;
    let text = state.to_json().unwrap();
    let older = text.changed("\"told_refused\":false,", "").changed("\"stable_down\":null,", "");
    assert_eq!(older.len() + "\"told_refused\":false,\"stable_down\":null,".len(), text.len(), "{text}");
    assert_eq!(RolloutState::from_json(&older).unwrap(), RolloutState::from_json(&text).unwrap());
}

#[test]
fn a_state_that_is_newer_or_damaged_is_refused_by_name() {
    let good = Rig::started(plan()).state.to_json().unwrap();
    assert!(RolloutState::from_json(&good).is_ok());
    let newer = good.changed("\"state_version\":1", "\"state_version\":2");
    assert_eq!(RolloutState::from_json(&newer), Err(Unreadable::Newer { found: 2 }));
    for damaged in [
        String::new(),
        "{}".into(),
        good[..good.len() / 2].to_owned(),
        good.changed("\"weight\":1000", "\"weight\":10001"),
        good.changed("\"v2\"", "\"v1\""),
        good.changed("\"phase\":\"progressing\"", "\"phase\":\"idle\""),
        good.changed("\"phase\":\"progressing\"", "\"phase\":\"paused\""),
        good.changed("\"phase\":\"progressing\"", "\"phase\":\"promoting\""),
    ] {
        assert!(matches!(RolloutState::from_json(&damaged), Err(Unreadable::Damaged(_))), "{damaged}");
    }
    assert_eq!(Rig::started(plan()).plan.interval, Duration::from_secs(10));
}

#[test]
fn a_canary_that_does_not_listen_waits_says_why_and_is_not_given_up() {
    let refuses = |what: &str| Listening::Refuses(format!("127.0.0.1:{what} does not accept connections"));
    let mut rig = Rig::new(plan());
    rig.seen.listening = Listening::Unknown;
    rig.event(Event::Release(target("v2")));
    rig.event(Event::Tick);
    assert_eq!(
        (rig.phase(), rig.weight(), rig.last().2),
        (Phase::Waiting, Weight::ZERO, "the file asks for v2: v1 → v2")
    );
    rig.seen.listening = refuses("1");
    rig.event(Event::Tick);
    assert_eq!(rig.state.reason, "v2: 127.0.0.1:1 does not accept connections → hold at 0 %");
    let lines = rig.entries.len();
    rig.pass(10);
    assert_eq!(rig.entries.len(), lines, "it is said once");
    rig.seen.listening = refuses("2");
    rig.pass(1);
    assert_eq!(rig.state.reason, "v2: 127.0.0.1:2 does not accept connections → hold at 0 %");
    let refused = rig.say(Verb::Promote).unwrap_err();
    assert_eq!(refused.reason, "v2: 127.0.0.1:2 does not accept connections");
    rig.pass(30);
    assert_eq!(rig.phase(), Phase::Paused, "max_hold");
    assert!(rig.state.failed_targets.is_empty());
    rig.say(Verb::Resume).unwrap();
    rig.seen.listening = Listening::Accepts;
    rig.event(Event::Tick);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
}

#[test]
fn a_canary_with_other_endpoints_begins_its_step_anew_and_has_no_more_than_it_had() {
    for phase in [Phase::Progressing, Phase::Waiting, Phase::Baking, Phase::Promoting] {
        let mut rig = Rig::at(phase);
        let weight = rig.weight();
        rig.all(crate::rollout::verdict::CheckOutcome::Fail);
        rig.seen.listening = Listening::Unknown;
        rig.event(Event::CanaryReplaced);
        assert_eq!((rig.phase(), rig.published()), (Phase::Waiting, vec![Weight::ZERO]), "{phase}");
        assert_eq!((rig.state.failures.total, rig.state.verdicts.len()), (0, 0), "what was seen was of others");
        rig.pass(3);
        assert_eq!((rig.phase(), rig.weight()), (Phase::Waiting, Weight::ZERO), "{phase}");
        rig.seen.listening = Listening::Accepts;
        rig.event(Event::Tick);
        assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, weight), "{phase}");
        rig.event(Event::Tick);
        assert_eq!(rig.state.times.step, Duration::ZERO, "its hold begins anew");
        rig.plan.steps[0].gate = None;
        rig.until(Phase::Succeeded);
    }
    let mut rig = Rig::at(Phase::Paused);
    rig.event(Event::CanaryReplaced);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Paused, Weight::ZERO));
    rig.say(Verb::Resume).unwrap();
    rig.event(Event::Tick);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, percent(10)));
    for phase in [Phase::Idle, Phase::Succeeded, Phase::RolledBack, Phase::Aborted, Phase::RollingBack] {
        let mut rig = Rig::at(phase);
        let lines = rig.entries.len();
        rig.event(Event::CanaryReplaced);
        assert_eq!((rig.phase(), rig.entries.len()), (phase, lines));
    }
}

#[test]
fn a_service_that_was_served_by_weights_goes_on_with_the_first_step_above_or_holds_the_one_it_stands_at() {
    for (now, taken, next) in [(5, 0, 10), (10, 1, 50), (30, 1, 50), (50, 2, 100), (70, 2, 100)] {
        let mut rig = Rig::new(plan());
        rig.state = RolloutState::default();
        rig.event(Event::Adopted { stable: target("v1"), canary: target("v2"), weight: percent(now) });
        assert_eq!((rig.phase(), rig.published(), rig.state.taken), (Phase::Progressing, vec![percent(now)], taken));
        rig.event(Event::Release(target("v2")));
        rig.event(Event::Tick);
        assert_eq!(rig.weight(), percent(now), "nothing moves without an analysis run");
        rig.pass(if taken == 0 { 1 } else { 2 });
        assert_eq!(rig.weight(), percent(next), "{now}");
        rig.until(Phase::Succeeded);
    }
    let mut rig = Rig::new(plan());
    rig.plan.steps.pop();
    rig.state = RolloutState::default();
    rig.event(Event::Adopted { stable: target("v1"), canary: target("v2"), weight: percent(70) });
    rig.pass(2);
    assert_eq!((rig.phase(), rig.weight()), (Phase::Promoting, percent(100)), "above the last step");
    rig.event(Event::Tripped { why: "bad".into(), stable_fails_too: false });
    rig.went_back(Phase::RolledBack);
}
