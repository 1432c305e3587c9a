//! Whether a canary listens: when that is asked, and what counts as an answer.

use super::*;
use crate::model::fixture::Fixture as _;

/// With v2 asked for, and the question whether it listens.
fn asked() -> (Rig, Rollouts, ConnectQuestion) {
    let mut rig = Rig::new();
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", PLAN));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    let question = questions(&mut rollouts).pop().unwrap();
    (rig, rollouts, question)
}

/// The questions that are to be sent.
fn questions(rollouts: &mut Rollouts) -> Vec<ConnectQuestion> {
    let question = |action| if let Action::Connect(question) = action { Some(*question) } else { None };
    rollouts.take_actions().into_iter().filter_map(question).collect()
}

/// A second later: the questions that are to be sent.
fn second(rig: &Rig, rollouts: &mut Rollouts) -> Vec<ConnectQuestion> {
    rig.now.set(rig.now.get() + SECOND);
    assert_eq!(rollouts.sample(&"shop".into(), &rig.view()), None, "the interval is an hour");
    questions(rollouts)
}

const SLOW: &str = "interval: 1h, bake: 2s, steps: [{ weight: 10 }, { weight: 50 }, { weight: 100 }], checks: []";

fn asked_slowly() -> (Rig, Rollouts, ConnectQuestion) {
    let (mut rig, _, _) = asked();
    rig.config = file("v1", SLOW);
    rig.lose_store();
    rig.lose_copy();
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", SLOW));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    let question = questions(&mut rollouts).pop().unwrap();
    (rig, rollouts, question)
}

#[test]
fn it_is_asked_each_second_until_it_listens_and_an_answer_takes_the_first_step_at_once() {
    let (rig, mut rollouts, question) = asked_slowly();
    assert_eq!((&*question.version, question.addresses.len()), ("v2", 1));
    (0..5).for_each(|_| assert_eq!(second(&rig, &mut rollouts), [], "one question is open"));
    let why = "127.0.0.1:2 does not accept connections (connection refused)";
    for turn in 0..3 {
        let news = rollouts.connected(question.clone(), Some(why.to_owned()), &rig.view());
        assert_eq!(news.is_some(), turn == 0, "what was known is no news");
        if let Some(cause) = news {
            let decision = rollouts.decide(&"shop".into(), cause, &rig.view()).unwrap().unwrap();
            rollouts.finish(decision, None, &rig.view()).unwrap();
        }
        assert_eq!(rollouts.services["shop"].state().reason, format!("v2: {why} → hold at 0 %"));
        let again = [questions(&mut rollouts), second(&rig, &mut rollouts)].concat();
        assert!(again == std::slice::from_ref(&question), "once a second: {again:?}");
    }
    rollouts.actions.push(Action::Connect(Box::new(question)));
    rollouts.all_listen(&rig.view());
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Progressing, 1_000));
    (0..30).for_each(|_| assert_eq!(second(&rig, &mut rollouts), [], "it has weight"));
}

#[test]
fn one_that_listened_is_asked_again_while_something_else_keeps_it_from_its_first_step() {
    let plan = format!("{SLOW}, hooks: [{{ when: before_start, url: \"http://127.0.0.1:1/\" }}]");
    let mut rig = Rig { config: file("v1", &plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", &plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    rollouts.all_listen(&rig.view());
    let mut asked = 0;
    for _ in 0..30 {
        for question in second(&rig, &mut rollouts) {
            asked += 1;
            assert_eq!(rollouts.connected(question, None, &rig.view()), None, "no news");
        }
    }
    assert!((2..=4).contains(&asked), "{asked}");
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Waiting, 0));
}

#[test]
fn an_answer_about_other_endpoints_is_none_and_an_answer_that_is_lost_is_asked_for_again() {
    let (mut rig, mut rollouts, question) = asked_slowly();
    let mut other = question.clone();
    other.addresses.push(question.addresses[0].clone());
    assert_eq!(rollouts.connected(other, None, &rig.view()), None);
    assert_eq!(share(&rollouts, "v2"), 0);
    // Other endpoints are asked at once.
    let text = text_of("v2", SLOW).changed("\"127.0.0.1:2\"", "\"127.0.0.1:22\"");
    let before = std::mem::replace(&mut rig.config, parsed(&text));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    let [now] = &questions(&mut rollouts)[..] else { panic!("one question") };
    assert_ne!(now.addresses, question.addresses);
    assert_eq!(rollouts.connected(question, None, &rig.view()), None);
    assert!((0..60).any(|_| second(&rig, &mut rollouts) == [now.clone()]), "it was lost");
}

#[test]
fn a_canary_that_was_scaled_goes_on_and_one_with_other_endpoints_begins_its_step_anew() {
    for (endpoints, replaced) in [
        ("\"127.0.0.1:2\", \"127.0.0.1:22\"", false),
        ("\"127.0.0.1:22\"", true),
        ("\"127.0.0.1:22\", \"127.0.0.1:23\"", true),
    ] {
        for restarted in [false, true] {
            let (mut rig, mut rollouts) = Rig::begun();
            (0..3).for_each(|_| rig.second(&mut rollouts, 0));
            assert_eq!(share(&rollouts, "v2"), 5_000);
            let text = text_of("v2", PLAN).changed("\"127.0.0.1:2\"", endpoints);
            let before = std::mem::replace(&mut rig.config, parsed(&text));
            if restarted {
                // What the endpoints were is not known: any difference counts.
                rollouts = Rollouts::read(&BTreeMap::new(), &rig.view()).unwrap();
            } else {
                rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
            }
            let case = format!("{endpoints}, restarted: {restarted}");
            let anew = replaced || restarted;
            assert_eq!(share(&rollouts, "v2"), if anew { 0 } else { 5_000 }, "{case}");
            assert_eq!(phase(&rollouts), if anew { Phase::Waiting } else { Phase::Progressing }, "{case}");
            rollouts.all_listen(&rig.view());
            assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Progressing, 5_000), "{case}");
            rig.second(&mut rollouts, 0);
            assert_eq!(share(&rollouts, "v2"), if anew { 5_000 } else { 10_000 }, "{case}: the hold begins anew");
            (0..20).for_each(|_| rig.second(&mut rollouts, 0));
            assert_eq!(phase(&rollouts), Phase::Succeeded, "{case}");
        }
    }
}
