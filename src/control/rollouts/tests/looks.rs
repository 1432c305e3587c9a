//! What a look is about: only what happened with weight, by the plan as it is.

use super::*;

/// Answers every hook that was asked, and gives back the other errands.
fn answer_hooks(rig: &Rig, rollouts: &mut Rollouts, accepted: bool) -> usize {
    let ids: Vec<u64> = rollouts.take_errands().into_iter().filter_map(called).collect();
    ids.iter().for_each(|id| rollouts.answered(&"shop".into(), (*id, accepted, String::new()), &rig.view()));
    ids.len()
}

fn called(errand: Errand) -> Option<u64> {
    if let Errand::Call(call) = errand { Some(call.id) } else { None }
}

/// A rig whose file has this plan, with v2 being rolled out.
fn begun(plan: &str) -> (Rig, Rollouts) {
    let mut rig = Rig { config: file("v1", plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view());
    let before = std::mem::replace(&mut rig.config, file("v2", plan));
    rollouts.take_in(&before, &rig.view());
    (rig, rollouts)
}

#[test]
fn a_canary_is_judged_by_the_time_in_which_it_had_weight() {
    let plan = "interval: 1s, window: 1m, min_requests: 10, steps: [{ weight: 10, hold: 1h }, { weight: 100 }], \
                checks: [{ name: rate, requests: { min: 10 } }], failures: { total: 1 }, \
                hooks: [{ when: before_start, url: \"http://127.0.0.1:1/\" }]";
    let (rig, mut rollouts) = begun(plan);
    for _ in 0..300 {
        answer_hooks(&rig, &mut rollouts, false);
        // Somebody tries the canary by name.
        rig.routes["v2"].finish(Outcome::Status(500), SECOND / 100);
        rig.second(&mut rollouts, 0);
        assert_eq!(share(&rollouts, "v2"), 0);
    }
    while share(&rollouts, "v2") == 0 {
        assert!(phase(&rollouts).is_under_way(), "{}", rollouts.services["shop"].state().reason);
        answer_hooks(&rig, &mut rollouts, true);
        rig.second(&mut rollouts, 0);
    }
    (0..90).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Progressing, 1_000));
    let verdict = rollouts.services["shop"].state().verdicts[0].clone();
    assert_eq!(verdict.samples, 1_200, "{}", verdict.sentence);
}

#[test]
fn what_froze_at_nothing_is_not_judged_by_the_old_errors() {
    let plan = PLAN.replace("failures: { total: 3 }", "failures: { total: 1 }").replace("hold: 2s", "hold: 1h");
    let (rig, mut rollouts) = begun(&plan);
    rig.second(&mut rollouts, 0);
    (0..50).for_each(|_| rig.routes["v2"].finish(Outcome::Status(500), SECOND / 100));
    let tripped = Event::Tripped { why: "5 errors in a row".to_owned(), stable_fails_too: true };
    rollouts.happen(&"shop".into(), &[tripped], None, &rig.view());
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Paused, 0));
    let resume = Word { verb: Verb::Resume, version: None };
    rollouts.say(&"shop".into(), &resume, ("ann".to_owned(), String::new()), &rig.view()).unwrap().unwrap();
    (0..4).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Progressing, 1_000));
}
