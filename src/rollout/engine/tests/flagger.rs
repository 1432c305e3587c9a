//! The policy of the guide that Flagger's users start from, replayed by hand: 10 % more each minute up to 50 %,
//! back after five failed checks.

use std::time::Duration;

use super::rig::{Rig, check, percent, step};
use crate::rollout::engine::Phase;
use crate::rollout::plan::{Failures, Plan};
use crate::rollout::verdict::CheckOutcome;

fn policy() -> Plan {
    Plan {
        cohort: None,
        interval: Duration::from_mins(1),
        steps: [10, 20, 30, 40, 50].map(|weight| step(weight, 60)).to_vec(),
        bake: Duration::ZERO,
        checks: vec![check("request-success-rate"), check("request-duration")],
        failures: Failures { total: Some(5), consecutive: None },
        ..super::rig::plan()
    }
}

fn minute(rig: &mut Rig, outcome: CheckOutcome) {
    rig.now += Duration::from_secs(50);
    rig.all(outcome);
}

#[test]
fn ten_percent_more_each_minute_and_then_everything() {
    let mut rig = Rig::started(policy());
    let mut weights = vec![rig.weight()];
    for _ in 0..5 {
        minute(&mut rig, CheckOutcome::Pass);
        weights.push(rig.weight());
    }
    assert_eq!(weights, [10, 20, 30, 40, 50, 100].map(percent), "never over 50 before the promotion");
    assert_eq!(rig.phase(), Phase::Promoting);
    minute(&mut rig, CheckOutcome::Pass);
    assert_eq!((rig.phase(), rig.stable()), (Phase::Succeeded, "v2"));
}

#[test]
fn five_failed_checks_in_all_and_back_to_nothing_in_the_same_minute() {
    let mut rig = Rig::started(policy());
    minute(&mut rig, CheckOutcome::Pass);
    for failed in 1..5 {
        minute(&mut rig, CheckOutcome::Fail);
        assert_eq!((rig.state.failures.total, rig.weight()), (failed, percent(20)));
    }
    minute(&mut rig, CheckOutcome::Pass);
    assert_eq!(rig.weight(), percent(30), "what failed keeps its weight, what passes goes on");
    minute(&mut rig, CheckOutcome::Fail);
    rig.went_back(Phase::RolledBack);
}
