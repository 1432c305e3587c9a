//! Who is told what, and that each is told apart.

use super::*;
use crate::outbound::alert::{Alert, Pending};
use crate::rollout::alerts::Transition;

/// Every look asks a provider.
const ASKING: &str = "interval: 10s, min_requests: 10, steps: [{ weight: 10, hold: 1h }, { weight: 100 }], \
    failures: { total: 1 }, alerts: [team], checks: [{ name: success, success_rate: { min: 99 } }, \
    { name: orders, prometheus: { url: \"http://127.0.0.1:1\", query: up, timeout: 5s }, min: 1 }]";

fn begun(plan: &str) -> (Rig, Rollouts) {
    let mut rig = Rig { config: file("v1", plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    rollouts.all_listen(&rig.view());
    (rig, rollouts)
}

fn command(rig: &Rig, rollouts: &mut Rollouts, verb: Verb) {
    let by = ("ann".to_owned(), String::new());
    rollouts.command(&"shop".into(), &Command { verb, version: None }, by, &rig.view()).unwrap().unwrap();
}

/// A look's time, in which the provider cannot be asked. What was told.
fn alerts_of(rig: &Rig, rollouts: &mut Rollouts, errors: u32) -> Vec<Alert> {
    let mut told = Vec::new();
    for _ in 0..10 {
        rig.second(rollouts, errors);
        for action in rollouts.take_actions() {
            match action {
                Action::Query(query) => rollouts.provider_answered(*query, Reading::Timeout),
                Action::Alert { alert, .. } => told.push(*alert),
                _ => {}
            }
        }
    }
    told
}

#[test]
fn alerts_of_one_moment_are_told_apart() {
    let (rig, mut rollouts) = begun(ASKING);
    rollouts.take_actions();
    // Stable fails as well, so that the look that misses an answer is also the one that freezes.
    (0..200).for_each(|_| rig.routes["v1"].finish(Outcome::Status(500), SECOND / 100));
    let told = alerts_of(&rig, &mut rollouts, 10);
    let words: Vec<Transition> = told.iter().map(|alert| alert.transition).collect();
    assert_eq!(words, [Transition::ProviderError, Transition::Paused]);
    assert_ne!(told[0].id, told[1].id);
    // The number goes on after a restart.
    let alerts = rollouts.services["shop"].record.alerts;
    assert_eq!(Rollouts::restore(&rig.view()).unwrap().services["shop"].record.alerts, alerts);
}

#[test]
fn each_rollout_tells_that_a_provider_cannot_be_asked() {
    let (rig, mut rollouts) = begun(ASKING);
    let provider_errors =
        |told: Vec<Alert>| told.iter().filter(|alert| alert.transition == Transition::ProviderError).count();
    assert_eq!(
        (provider_errors(alerts_of(&rig, &mut rollouts, 0)), provider_errors(alerts_of(&rig, &mut rollouts, 0))),
        (1, 0)
    );
    command(&rig, &mut rollouts, Verb::Abort);
    command(&rig, &mut rollouts, Verb::Retry);
    assert_eq!(provider_errors(alerts_of(&rig, &mut rollouts, 0)), 1);
}

#[test]
fn a_provider_that_comes_and_goes_is_told_once_until_it_was_well_for_a_while() {
    let (rig, mut rollouts) = begun(ASKING);
    // So many analysis runs, in which the provider answers or not. How often it was told that it does not.
    let runs = |rollouts: &mut Rollouts, count: usize, answers: bool| {
        let mut told = 0;
        for _ in 0..count * 10 {
            rig.second(rollouts, 0);
            for action in rollouts.take_actions() {
                let reading = if answers { Reading::Value(2.0) } else { Reading::Timeout };
                match action {
                    Action::Query(query) => rollouts.provider_answered(*query, reading),
                    Action::Alert { alert, .. } => told += usize::from(alert.transition == Transition::ProviderError),
                    _ => {}
                }
            }
        }
        told
    };
    let mut told = 0;
    for _ in 0..5 {
        told += runs(&mut rollouts, 1, false);
        told += runs(&mut rollouts, 2, true);
    }
    assert_eq!(told, 1, "it flaps");
    // Ten intervals are less than five minutes here.
    assert_eq!((runs(&mut rollouts, 20, true), runs(&mut rollouts, 1, false)), (0, 0));
    assert_eq!((runs(&mut rollouts, 31, true), runs(&mut rollouts, 1, false)), (0, 1), "it was well for a while");
}

#[test]
fn a_success_is_told_with_everything_at_the_new_version() {
    let plan = format!("{PLAN}, alerts: [team], hooks: [{{ when: after, url: \"http://127.0.0.1:1/\" }}]");
    let (rig, mut rollouts) = begun(&plan);
    (0..30).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!(phase(&rollouts), Phase::Succeeded);
    let (mut told, mut called) = (Vec::new(), Vec::new());
    for action in rollouts.take_actions() {
        match action {
            Action::Alert { alert, .. } => told.push(*alert),
            Action::HookCall(call) => called.push(*call),
            _ => {}
        }
    }
    let success = told.pop().unwrap();
    assert_eq!((success.transition, &*success.done), (Transition::Succeeded, "v2 has 100 % of the traffic"));
    assert_eq!((&*success.stable, &*success.canary), ("v1", "v2"));
    assert_eq!((called[0].weight, called[0].step, called[0].phase), (Weight::FULL, 3, Phase::Succeeded));
}

/// What waits for its receivers, by what is stored.
fn waiting(rig: &Rig) -> Vec<String> {
    read_alerts(&rig.journal).into_iter().map(|pending| format!("{} {}", pending.receiver, pending.alert.id)).collect()
}

#[test]
fn an_alert_is_stored_with_its_decision_or_not_at_all() {
    let (rig, mut rollouts) = begun(ASKING);
    rig.disk.script("rollout/shop/", Fault::Failing);
    command(&rig, &mut rollouts, Verb::Abort);
    assert!(rig.disk.content().keys().all(|key| !key.starts_with("alerts/")));
    let raised = rollouts.take_actions().into_iter().any(|action| matches!(action, Action::Alert { .. }));
    assert!(raised, "it took weight away, so it is told all the same");
    rig.second(&mut rollouts, 0);
    command(&rig, &mut rollouts, Verb::Retry);
    let before = rig.disk.committed().len();
    command(&rig, &mut rollouts, Verb::Abort);
    let [stored] = &rig.disk.committed()[before..] else { panic!("one transaction") };
    let keys: Vec<&str> = stored.writes.iter().map(|write| &*write.key).collect();
    for part in ["rollout/shop/state", "rollout/shop/history/", "alerts/weir-shop-"] {
        assert!(keys.iter().any(|key| key.starts_with(part)), "{part}: {keys:?}");
    }
    let told: Vec<String> = rollouts.take_actions().into_iter().filter_map(alert_id).collect();
    // The receiver did not ask to be told of the begin.
    assert_eq!(waiting(&rig), [format!("team {}", told.last().unwrap())]);
}

fn alert_id(action: Action) -> Option<String> {
    if let Action::Alert { alert, .. } = action { Some(alert.id) } else { None }
}

#[test]
fn alerts_that_an_older_weir_stored_are_read_and_kept_by_themselves() {
    let (rig, mut rollouts) = begun(ASKING);
    // Two of one second, whose order the numbers say, and not the letters.
    command(&rig, &mut rollouts, Verb::Abort);
    let mut pending = read_alerts(&rig.journal);
    let mut second = pending[0].clone();
    (pending[0].alert.id, second.alert.id) = ("weir-shop-1-9".to_owned(), "weir-shop-1-10".to_owned());
    second.attempts = 3;
    pending.push(second);
    rig.disk.retain(|key| !key.starts_with("alerts/"));
    rig.disk.overwrite("alerts/pending", &serde_json::to_vec(&pending).unwrap());
    rig.journal.read_again();
    assert_eq!(read_alerts(&rig.journal), pending);

    let keep = |pending: &[Pending]| {
        let writes = change_alerts(pending, &rig.journal).unwrap();
        let keys: Vec<String> = writes.iter().map(|write| write.key.clone()).collect();
        rig.journal.commit(writes).unwrap();
        keys
    };
    assert_eq!(keep(&pending).len(), 3, "two of their own, and the old one goes");
    assert!(rig.disk.get("alerts/pending").is_none() && rig.disk.get("alerts/weir-shop-1-9").is_some());
    assert_eq!((read_alerts(&rig.journal), keep(&pending)), (pending.clone(), Vec::new()), "nothing is written twice");
    assert_eq!(keep(&pending[1..]), ["alerts/weir-shop-1-9"], "what is delivered goes, and nothing else");
    assert_eq!(read_alerts(&rig.journal), pending[1..]);
}
