//! A history that is replayed with the plan that it was recorded with ends as the rollout did, and its checks find the
//! same.

use std::time::Duration;

use super::{Traffic, World, *};
use crate::rollout::engine::{Entry, Event, RolloutTarget};
use crate::rollout::evidence::HistoryLayout;
use crate::rollout::plan::Plan;
use crate::rollout::replay::{Assumptions, RecordedRun, Replay, Replayed};
use crate::rollouts::RecordedEntry;

/// A plan of a few minutes, with every kind of check on what Weir counts, and conditions.
const PLAN: &str = "steps: [{ weight: 5, hold: 1m }, { weight: 20, hold: 1m }, { weight: 50, hold: 1m }, { weight: 100 }], \
    bake: 1m, failures: { total: 3 }, rollback_when: [{ error_rate: 1.5, for: 1m }, { errors: 20, in_a_row: true }], \
    checks: [{ name: success, success_rate: { min: 99 } }, { name: latency, duration: { quantile: 0.99, max: 500ms } }, \
    { name: not-worse, compare: { metric: error_rate, margin: 0.5, confidence: 99 } }, \
    { name: patient, abandoned: { max: 2 } }, { name: busy, requests: { min: 1 } }]";

fn target(target: Option<&RolloutTarget>) -> RolloutTarget {
    target.unwrap().clone()
}

fn replay<'p>(plan: &'p Plan, history: &[RecordedEntry]) -> Replay<'p> {
    let lines = history.iter().filter_map(|line| line.counts.as_deref());
    let mut replay = Replay::new(plan, HistoryLayout::of(lines));
    for RecordedEntry { at_ms, entry, counts, .. } in history {
        let at = Duration::from_millis(*at_ms);
        if let Some(counts) = counts {
            replay.count(at, counts);
        }
        match (entry.what, counts) {
            (What::Started, _) => {
                replay.start(at, target(entry.stable.as_ref()), target(entry.canary.as_ref()), "test".to_owned());
            }
            (What::Analyzed, Some(counts)) => {
                let canary_had_all = entry.weight_before == crate::model::Weight::FULL;
                replay.analyze(at, RecordedRun { counts, canary_had_all, verdicts: &entry.evidence });
            }
            _ if entry.by == By::TripWire => {
                replay.happened(at, Event::Tripped { why: entry.why.clone(), stable_fails_too: false });
            }
            _ => {}
        }
    }
    replay
}

/// What each analysis run found, by check.
fn found(entries: impl Iterator<Item = Entry>) -> Vec<Vec<(String, &'static str)>> {
    let runs = entries.filter(|entry| entry.what == What::Analyzed);
    let words = |entry: Entry| {
        entry.evidence.iter().map(|verdict| (verdict.check.to_string(), verdict.outcome.as_str())).collect()
    };
    runs.map(words).collect()
}

#[test]
fn the_plan_of_then_finds_what_it_found_then_and_ends_as_it_did() {
    let regression = |more| Traffic::Regression { share: 0.001, more };
    let sticky = |failing, more| Traffic::StickyUsers { share: 0.001, failing, more };
    let traffics = [
        ("well", Traffic::Independent { share: 0.002 }),
        ("clustered", Traffic::Clustered { share: 0.004, correlation: 0.005, block: 10 }),
        ("one endpoint", Traffic::OneEndpoint { share: 0.001, every: 60 }),
        ("a little worse", regression(0.01)),
        ("worse", regression(0.03)),
        ("slower", Traffic::Slower { share: 0.001, more: 0.03 }),
        ("dead", regression(1.0)),
        ("sticky users", sticky(0.01, 0.0)),
        ("worse for sticky users", sticky(0.01, 0.05)),
    ];
    let world = World::new(PLAN);
    let plan = world.after.services.get(&Name::from("shop")).unwrap().rollout.clone().unwrap();
    let (mut runs, mut alike, mut ends) = (0, 0, std::collections::BTreeSet::new());
    for (name, traffic) in traffics {
        for seed in 1..=4 {
            let (ended, rollouts) = world.play(&Scenario { plan: PLAN, rate: 300.0, traffic }, seed);
            // As it is on the disk.
            let lines = rollouts.history("shop", 1_000).unwrap();
            let text = serde_json::to_string(&lines.iter().map(|line| &**line).collect::<Vec<_>>()).unwrap();
            let history: Vec<RecordedEntry> = serde_json::from_str(&text).unwrap();
            let replayed = replay(&plan, &history);
            let state = replayed.state();
            assert_eq!(state.phase(), ended.phase, "{name} {seed}: {} / {}", ended.why, state.reason);
            assert_eq!(*replayed.assumptions(), Assumptions::default(), "{name}");
            let then = found(history.iter().map(|line| line.entry.clone()));
            let now = found(replayed.story().iter().filter_map(|(_, replayed)| match replayed {
                Replayed::Decided(entry) => Some(entry.clone()),
                Replayed::Refused(_) | Replayed::Left(_) => None,
            }));
            assert_eq!(then.len(), now.len(), "{name} {seed}: {} / {}", ended.why, state.reason);
            runs += then.len();
            alike += then.iter().zip(&now).filter(|(then, now)| then == now).count();
            ends.insert(state.phase().as_str());
        }
    }
    // A window that grew begins in the middle of an interval, where counts are spread evenly.
    assert!(alike * 100 >= runs * 98, "{alike} of {runs}");
    assert!(ends.contains("succeeded") && ends.contains("rolled_back"), "{ends:?}");
}
