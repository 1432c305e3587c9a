//! Every measure: its outcomes, its figures and its sentence.

use std::sync::Arc;
use std::time::Duration;

use super::{AnalysisInput, Memory, Samples, analyze};
use crate::rollout::evidence::{Blocks, Evidence, Sample};
use crate::rollout::plan::{Check, Compared, Errors, Failures, Measure, NoData, Plan, Provider, Rollback, Step};
use crate::rollout::verdict::{CheckOutcome, Verdict};

mod evidence;
mod external;
mod measures;

const MINUTE: Duration = Duration::from_secs(60);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn check(name: &str, measure: Measure) -> Check {
    Check { name: name.into(), measure, dry_run: false, min_requests: None, no_data: None, window: None }
}

/// A plan whose limits are meant to the letter.
pub(super) fn plan(checks: Vec<Check>) -> Plan {
    Plan {
        cohort: None,
        interval: Duration::from_secs(10),
        window: MINUTE,
        steps: vec![Step { weight: crate::model::Weight::FULL, hold: MINUTE, gate: None }],
        bake: Duration::ZERO,
        min_requests: 100,
        no_data: NoData::Hold,
        significance: None,
        expected_rate: None,
        warm_up: None,
        max_hold: MINUTE,
        checks,
        failures: Failures::default(),
        rollback_when: Vec::new(),
        rollback: Rollback::Immediate,
        hooks: Vec::new(),
        alerts: Vec::new(),
    }
}

/// So many requests in a minute, of which so many were errors and so many slower than 500 ms.
fn sample(requests: u64, errors: u64, slow: u64) -> Sample {
    Sample {
        covered: MINUTE,
        successes: requests - errors,
        server_errors: errors,
        buckets: vec![0, requests - slow, slow],
        edges: Arc::new([ms(100), ms(500)]),
        ..Sample::default()
    }
}

fn pair(canary: Sample, stable: Sample) -> Samples {
    Samples { canary, stable }
}

/// The canary of the example.
fn example() -> Samples {
    pair(sample(820, 14, 34), sample(16_410, 31, 31))
}

/// The verdict on one check, both windows and totals being `seen`.
fn judge(check: Check, seen: &Samples) -> Verdict {
    let verdicts = at_once(&plan(vec![check]), &evidence(seen), &mut Memory::default());
    let [verdict] = <[Verdict; 1]>::try_from(verdicts).unwrap();
    verdict
}

/// A minute in which this was seen.
fn evidence(seen: &Samples) -> Evidence {
    let mut evidence = Evidence::new(Duration::ZERO, Samples::default(), None);
    evidence.observe(MINUTE, seen.clone());
    evidence
}

/// An analysis run with a baseline that says nothing and without external measurements.
fn at_once(plan: &Plan, evidence: &Evidence, memory: &mut Memory) -> Vec<Verdict> {
    let baseline = Blocks::default();
    let run = AnalysisInput { plan, evidence, baseline: &baseline, canary_has_all: false, shared_failure: None };
    analyze(&run, |_| None, memory)
}

fn error_rate(max: f64) -> Measure {
    Measure::ErrorRate { max, errors: Errors::default() }
}

#[test]
fn each_check_has_its_verdict_in_order_and_its_window() {
    let mut short = check("short", error_rate(1.0));
    short.window = Some(ms(10_000));
    let mut dry = check("dry", error_rate(1.0));
    dry.dry_run = true;
    let mut evidence = Evidence::new(Duration::ZERO, Samples::default(), None);
    evidence.observe(5 * MINUTE / 6, pair(sample(620, 14, 0), sample(14_410, 31, 0)));
    evidence.observe(MINUTE, pair(sample(820, 14, 34), sample(16_410, 31, 31)));
    let plan = plan(vec![check("errors", error_rate(1.0)), short, dry]);
    let verdicts = at_once(&plan, &evidence, &mut Memory::default());
    let found: Vec<_> = verdicts.iter().map(|v| (&*v.check, v.outcome, v.dry_run)).collect();
    assert_eq!(
        found,
        [
            ("errors", CheckOutcome::Fail, false),
            ("short", CheckOutcome::Pass, false),
            ("dry", CheckOutcome::Fail, true)
        ]
    );
}

#[test]
fn a_name_that_does_not_say_what_is_measured_is_helped() {
    let verdict = judge(check("errors", error_rate(1.0)), &example());
    assert!(verdict.sentence.starts_with("errors: canary 14 of 820 (1.71 %) over 60 s, "), "{}", verdict.sentence);
    let verdict = judge(check("checkout", error_rate(1.0)), &example());
    assert!(verdict.sentence.starts_with("checkout (errors): canary "), "{}", verdict.sentence);
}

#[test]
fn the_sequential_test_remembers_by_check_and_begins_anew_for_another_question() {
    let compare = |margin| {
        let metric = Compared::ErrorRate;
        check("not-worse", Measure::Compare { metric, margin, confidence: 99.0, errors: Errors::default() })
    };
    let (mut memory, good) = (Memory::default(), Samples::default());
    let mut at = |margin, seen: &Samples| at_once(&plan(vec![compare(margin)]), &evidence(seen), &mut memory).remove(0);
    let bad = pair(sample(600, 40, 0), sample(11_000, 22, 0));
    assert_eq!(at(0.5, &good).outcome, CheckOutcome::NoData);
    let verdict = at(0.5, &bad);
    assert_eq!((verdict.outcome, verdict.samples, verdict.limit), (CheckOutcome::Fail, 600, Some(0.5)));
    assert!(verdict.value.is_some_and(|points| (points - 6.467).abs() < 0.001), "{:?}", verdict.value);
    assert_eq!(
        verdict.sentence,
        "not-worse (compare): errors, canary 40 of 600 (6.67 %) since the start, stable 22 of 11,000 (0.20 %), \
         margin 0.5 points, p < 0.0001, limit 0.01: worse"
    );
    assert!(verdict.conclusive, "its confidence is about the whole rollout");
    assert_eq!(at(0.5, &good).outcome, CheckOutcome::Fail, "evidence stays");
    assert_eq!(at(0.1, &good).outcome, CheckOutcome::NoData, "another margin is another question");

    let stored = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&stored).unwrap().compares.len(), 1);
}

#[test]
fn what_was_compared_before_is_no_evidence_for_what_cannot_be_compared() {
    let measure =
        Measure::Compare { metric: Compared::ErrorRate, margin: 0.5, confidence: 99.0, errors: Errors::default() };
    let (mut memory, plan) = (Memory::default(), plan(vec![check("not-worse", measure)]));
    let mut at = |seen: &Samples| at_once(&plan, &evidence(seen), &mut memory).remove(0);
    assert_eq!(at(&pair(sample(600, 1, 0), sample(11_000, 22, 0))).outcome, CheckOutcome::Pass);
    assert_eq!(at(&pair(sample(99, 99, 0), Sample::default())).outcome, CheckOutcome::Pass, "too few to ask for");
    let verdict = at(&pair(sample(99, 99, 0), Sample::default()));
    assert_eq!(verdict.outcome, CheckOutcome::NoData, "{}", verdict.sentence);
    let why = "nothing of stable to compare the last 198 requests with";
    assert!(verdict.sentence.ends_with(why), "{}", verdict.sentence);
    assert_eq!(at(&pair(sample(0, 0, 0), sample(1_000, 2, 0))).outcome, CheckOutcome::Fail);
}

fn provider() -> Provider {
    Provider::Prometheus { url: "http://127.0.0.1:9090".into(), query: "orders".into(), timeout: ms(1_000) }
}
