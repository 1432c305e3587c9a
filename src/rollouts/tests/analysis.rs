//! What a look is about: only what happened with weight, by the plan as it is.

use super::*;
use crate::model::fixture::Fixture as _;
use crate::rollout::verdict::CheckOutcome;

/// Answers every hook that was asked, and gives back the other errands.
fn answer_hooks(rig: &Rig, rollouts: &mut Rollouts, accepted: bool) -> usize {
    let ids: Vec<u64> = rollouts.take_actions().into_iter().filter_map(called).collect();
    ids.iter().for_each(|id| rollouts.hook_answered(&"shop".into(), (*id, accepted, String::new()), &rig.view()));
    ids.len()
}

fn called(action: Action) -> Option<u64> {
    if let Action::HookCall(call) = action { Some(call.id) } else { None }
}

/// A rig whose file has this plan, with v2 being rolled out.
fn begun(plan: &str) -> (Rig, Rollouts) {
    let mut rig = Rig { config: file("v1", plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    rollouts.all_listen(&rig.view());
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
    let plan = PLAN.changed("failures: { total: 3 }", "failures: { total: 1 }").changed("hold: 2s", "hold: 1h");
    let (rig, mut rollouts) = begun(&plan);
    rig.second(&mut rollouts, 0);
    (0..50).for_each(|_| rig.routes["v2"].finish(Outcome::Status(500), SECOND / 100));
    let tripped = Event::Tripped { why: "5 errors in a row".to_owned(), stable_fails_too: true };
    rollouts.observe(&"shop".into(), &[tripped], &rig.view());
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Paused, 0));
    let resume = Command { verb: Verb::Resume, version: None };
    rollouts.command(&"shop".into(), &resume, ("ann".to_owned(), String::new()), &rig.view()).unwrap().unwrap();
    (0..4).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Progressing, 1_000));
}

/// The counters of other services go on within a second: whoever asks them twice may hear that all is well before what was
/// counted until then is put aside.
#[test]
fn a_second_judges_by_one_answer_to_whether_others_fail() {
    let (rig, mut rollouts) = begun(&PLAN.changed("bake: 2s", "bake: 1h"));
    while share(&rollouts, "v2") < 10_000 {
        assert!(phase(&rollouts).is_under_way());
        rig.second(&mut rollouts, 0);
    }
    (0..100).for_each(|_| rig.routes["v2"].finish(Outcome::Status(500), SECOND / 100));
    rig.now.set(rig.now.get() + SECOND);
    let view = rig.view();
    for others_fail in [None, Some("the other service with traffic fails as well".to_owned())] {
        let mut service = rollouts.services["shop"].clone();
        service.others_fail.clone_from(&others_fail);
        let verdict = service.judge(&view).remove(0);
        assert_eq!((verdict.outcome, verdict.stable_fails_too), (CheckOutcome::Fail, others_fail.is_some()));
    }
}

/// A plan with one question to a provider, each `interval`.
fn asking(interval: &str, query: &str) -> String {
    format!(
        "interval: {interval}, steps: [{{ weight: 10, hold: 9h }}, {{ weight: 100 }}], failures: {{ total: 1 }}, \
         checks: [{{ name: orders, prometheus: {{ url: \"http://127.0.0.1:1\", query: {query}, timeout: 5s }}, min: 50 }}]"
    )
}

fn asked(rollouts: &mut Rollouts) -> Option<Query> {
    let query = |action| if let Action::Query(query) = action { Some(*query) } else { None };
    rollouts.take_actions().into_iter().find_map(query)
}

fn replan(rig: &mut Rig, rollouts: &mut Rollouts, plan: &str) {
    let before = std::mem::replace(&mut rig.config, file("v2", plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
}

#[test]
fn another_query_is_not_judged_by_the_answers_to_the_one_before() {
    // An answer that has come, and one that is on its way.
    for early in [true, false] {
        let (mut rig, mut rollouts) = begun(&asking("10s", "ratio"));
        let old = loop {
            rig.second(&mut rollouts, 0);
            if let Some(query) = asked(&mut rollouts) {
                break query;
            }
        };
        if early {
            rollouts.provider_answered(old.clone(), Reading::Value(0.98));
        }
        replan(&mut rig, &mut rollouts, &asking("10s", "percent"));
        if !early {
            rollouts.provider_answered(old, Reading::Value(0.98));
        }
        (0..10).for_each(|_| rig.second(&mut rollouts, 0));
        assert_eq!(phase(&rollouts), Phase::Progressing, "{}", rollouts.services["shop"].state().reason);
        let new = asked(&mut rollouts).unwrap();
        rollouts.provider_answered(new, Reading::Value(98.0));
        (0..10).for_each(|_| rig.second(&mut rollouts, 0));
        assert!(rollouts.services["shop"].tallies.checks.contains_key(&("orders".into(), "pass")));
    }
}

#[test]
fn an_answer_to_a_question_that_another_plan_asks_too_is_kept() {
    let (mut rig, mut rollouts) = begun(&asking("10s", "percent"));
    let query = loop {
        rig.second(&mut rollouts, 0);
        if let Some(query) = asked(&mut rollouts) {
            break query;
        }
    };
    rollouts.provider_answered(query, Reading::Value(98.0));
    replan(&mut rig, &mut rollouts, &asking("10s", "percent").changed("9h", "8h"));
    (0..10).for_each(|_| rig.second(&mut rollouts, 0));
    assert!(rollouts.services["shop"].tallies.checks.contains_key(&("orders".into(), "pass")));
}

#[test]
fn a_shorter_interval_is_in_effect_at_once() {
    let plan = |interval: &str| {
        let interval = format!("interval: {interval}");
        PLAN.changed("window: 5s", "window: 1h").changed("interval: 1s", &interval).changed("2s", "9h")
    };
    let (mut rig, mut rollouts) = begun(&plan("1h"));
    (0..5).for_each(|_| rig.second(&mut rollouts, 0));
    replan(&mut rig, &mut rollouts, &plan("10s"));
    (0..10).for_each(|_| rig.second(&mut rollouts, 0));
    assert!(rollouts.services["shop"].tallies.checks.contains_key(&("success".into(), "pass")));
    // Files that come faster than looks do not put them off.
    let before = rollouts.services["shop"].tallies.checks.clone();
    for run_engine in 0..15 {
        replan(&mut rig, &mut rollouts, &plan(if run_engine % 2 == 0 { "10s" } else { "11s" }));
        rig.second(&mut rollouts, 0);
    }
    assert_ne!(before, rollouts.services["shop"].tallies.checks);
}
