//! A store that fails: what is in effect, what is answered, and what is held.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// The plan's next step is due.
    Step,
    /// The canary fails.
    Rollback,
    /// An operator gives it everything.
    Promote,
    /// An operator takes everything from it.
    Abort,
}

const FAULTS: [Fault; 6] = [
    Fault::Slow(Duration::from_millis(1)),
    Fault::Failing,
    Fault::Conflicting,
    Fault::Lost { written: false },
    Fault::Lost { written: true },
    Fault::Hanging,
];

/// The canary's share after `act`, and whether an operator was refused.
fn act(rig: &Rig, rollouts: &mut Rollouts, act: Act) -> (u16, bool) {
    let verb = match act {
        Act::Step => {
            (0..2).for_each(|_| rig.second(rollouts, 0));
            return (share(rollouts, "v2"), false);
        }
        Act::Rollback => {
            (0..4).for_each(|_| rig.second(rollouts, 20));
            return (share(rollouts, "v2"), false);
        }
        Act::Promote => Verb::Promote,
        Act::Abort => Verb::Abort,
    };
    let command = Command { verb, version: None };
    let answered = rollouts.command(&"shop".into(), &command, ("ann".to_owned(), String::new()), &rig.view()).unwrap();
    if let Err(refused) = &answered {
        assert!(refused.reason.contains("cannot be written"), "{}", refused.reason);
    }
    (share(rollouts, "v2"), answered.is_err())
}

#[test]
fn what_cannot_be_written_raises_nothing_and_keeps_nothing_from_going_back() {
    for fault in FAULTS {
        for (what, in_time, otherwise) in [
            (Act::Step, (5_000, false), (1_000, false)),
            (Act::Rollback, (0, false), (0, false)),
            (Act::Promote, (10_000, false), (1_000, true)),
            (Act::Abort, (0, false), (0, false)),
        ] {
            let case = format!("{fault:?}, {what:?}");
            let (rig, mut rollouts) = Rig::begun();
            rig.second(&mut rollouts, 0);
            assert_eq!(share(&rollouts, "v2"), 1_000);
            let slow = matches!(fault, Fault::Slow(_));
            rig.disk.always(Some(fault));
            assert_eq!(act(&rig, &mut rollouts, what), if slow { in_time } else { otherwise }, "{case}");
            assert_eq!(rollouts.statuses(rig.now.get())["shop"].unwritable.is_none(), slow, "{case}");

            // A process that starts now has no more in effect than was decided.
            rig.disk.always(None);
            rig.disk.release();
            let restarted = Rollouts::restore(&View { store: &writer(&rig.disk, rig.directory.path()), ..rig.view() });
            assert!(share(&restarted.unwrap(), "v2") <= in_time.0.max(1_000), "{case}");

            // And this one goes on, and writes what it has in effect.
            rig.second(&mut rollouts, 0);
            assert_eq!(rollouts.statuses(rig.now.get())["shop"].unwritable, None, "{case}");
            rig.second(&mut rollouts, 0);
            let restarted = Rollouts::restore(&View { store: &writer(&rig.disk, rig.directory.path()), ..rig.view() });
            let restarted = restarted.unwrap();
            assert_eq!((phase(&restarted), shares(&restarted)), (phase(&rollouts), shares(&rollouts)), "{case}");
        }
    }
}

/// What an operator says to lower a risk is in effect at once, says that it is not stored, and is stored when the disk
/// takes it.
#[test]
fn words_that_lower_a_risk_take_effect_where_nothing_can_be_written_and_alerts_say_so() {
    let gated = PLAN.changed("{ weight: 10, hold: 2s }", "{ weight: 10, hold: 1s, gate: manual }") + ", alerts: [team]";
    for (verb, ends) in [
        (Verb::Pause, Phase::Paused),
        (Verb::Reject, Phase::Aborted),
        (Verb::Abort, Phase::Aborted),
        (Verb::Undo, Phase::Aborted),
    ] {
        let mut rig = Rig { config: file("v1", &gated), ..Rig::new() };
        let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
        let before = std::mem::replace(&mut rig.config, file("v2", &gated));
        rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
        (0..3).for_each(|_| rig.second(&mut rollouts, 0));
        assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Waiting, 1_000));
        rollouts.take_actions();
        rig.disk.always(Some(Fault::Failing));
        let command = Command { verb, version: None };
        let by = ("ann".to_owned(), String::new());
        rollouts.command(&"shop".into(), &command, by, &rig.view()).unwrap().unwrap();
        let share_after = if ends == Phase::Paused { 1_000 } else { 0 };
        assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (ends, share_after), "{verb:?}");
        assert!(rollouts.held(&"shop".into()).is_some(), "the answer says that it is not durable");
        let alerts = rollouts.take_actions().into_iter().filter_map(|action| match action {
            Action::Alert { alert, .. } => Some(alert.sentence),
            _ => None,
        });
        let alerts: Vec<String> = alerts.collect();
        assert!(
            !alerts.is_empty() && alerts.iter().all(|said| said.contains("not stored yet")),
            "{verb:?}: {alerts:?}"
        );
        rig.disk.always(None);
        rig.second(&mut rollouts, 0);
        assert_eq!(rollouts.held(&"shop".into()), None, "{verb:?}");
        let restarted = Rollouts::restore(&View { store: &writer(&rig.disk, rig.directory.path()), ..rig.view() });
        assert_eq!(phase(&restarted.unwrap()), ends, "{verb:?}");
    }
}

#[test]
fn a_commit_that_hangs_is_waited_for_once() {
    let (rig, mut rollouts) = Rig::begun();
    rig.disk.always(Some(Fault::Hanging));
    let began = std::time::Instant::now();
    (0..100).for_each(|_| rig.second(&mut rollouts, 0));
    assert!(began.elapsed() < 50 * TIMEOUT, "{:?}", began.elapsed());
    assert!(rollouts.statuses(rig.now.get())["shop"].unwritable.is_some());
    assert_eq!(share(&rollouts, "v2"), 1_000);
}
