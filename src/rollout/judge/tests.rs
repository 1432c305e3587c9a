//! Every measure: its outcomes, its figures and its sentence.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::{Memory, Sample, Samples, analyze};
use crate::rollout::plan::{Check, Compared, Errors, Failures, Measure, NoData, Plan, Provider, Rollback, Step};
use crate::rollout::verdict::{CheckOutcome, Verdict};

mod external;
mod measures;

const MINUTE: Duration = Duration::from_secs(60);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn check(name: &str, measure: Measure) -> Check {
    Check { name: name.into(), measure, dry_run: false, min_requests: None, no_data: None, window: None }
}

fn plan(checks: Vec<Check>) -> Plan {
    Plan {
        interval: Duration::from_secs(10),
        window: MINUTE,
        steps: vec![Step { weight: crate::model::Weight::FULL, hold: MINUTE, gate: None }],
        bake: Duration::ZERO,
        min_requests: 100,
        no_data: NoData::Hold,
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
    let verdicts = analyze(&plan(vec![check]), seen, |_| seen.clone(), |_| None, &mut Memory::default());
    let [verdict] = <[Verdict; 1]>::try_from(verdicts).unwrap();
    verdict
}

fn error_rate(max: f64) -> Measure {
    Measure::ErrorRate { max, errors: Errors::default() }
}

#[test]
fn each_check_has_its_verdict_in_order_and_each_window_is_asked_for_once() {
    let mut short = check("short", error_rate(1.0));
    short.window = Some(ms(10_000));
    let mut dry = check("dry", error_rate(1.0));
    dry.dry_run = true;
    let parameters = RefCell::new(Vec::new());
    let window = |span: Duration| {
        parameters.borrow_mut().push(span);
        if span == MINUTE { example() } else { pair(sample(200, 0, 0), sample(2_000, 0, 0)) }
    };
    let plan = plan(vec![check("errors", error_rate(1.0)), short, dry]);
    let verdicts = analyze(&plan, &Samples::default(), window, |_| None, &mut Memory::default());
    let found: Vec<_> = verdicts.iter().map(|v| (&*v.check, v.outcome, v.dry_run)).collect();
    assert_eq!(
        found,
        [
            ("errors", CheckOutcome::Fail, false),
            ("short", CheckOutcome::Pass, false),
            ("dry", CheckOutcome::Fail, true)
        ]
    );
    assert_eq!(parameters.into_inner(), [MINUTE, ms(10_000)]);
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
    let mut memory = Memory::default();
    let mut at = |margin, totals: &Samples| {
        analyze(&plan(vec![compare(margin)]), totals, |_| Samples::default(), |_| None, &mut memory).remove(0)
    };
    let (begin, bad) = (pair(sample(0, 0, 0), sample(9_000, 18, 0)), pair(sample(600, 40, 0), sample(20_000, 40, 0)));
    assert_eq!(at(0.5, &begin).outcome, CheckOutcome::NoData);
    let verdict = at(0.5, &bad);
    assert_eq!((verdict.outcome, verdict.samples, verdict.limit), (CheckOutcome::Fail, 600, Some(0.5)));
    assert!(verdict.value.is_some_and(|points| (points - 6.467).abs() < 0.001), "{:?}", verdict.value);
    assert_eq!(
        verdict.sentence,
        "not-worse (compare): errors, canary 40 of 600 (6.67 %) since the start, stable 22 of 11,000 (0.20 %), \
         margin 0.5 points, p < 0.0001, limit 0.01: worse"
    );
    assert_eq!(at(0.5, &bad).outcome, CheckOutcome::Fail, "evidence stays");
    assert_eq!(at(0.1, &bad).outcome, CheckOutcome::NoData, "another margin is another question");

    let stored = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&stored).unwrap().compares.len(), 1);
}

#[test]
fn after_a_restart_the_test_goes_on_from_the_new_totals() {
    let metric = Compared::Slower(ms(500));
    let compare = Measure::Compare { metric, margin: 0.5, confidence: 99.0, errors: Errors::default() };
    let plan = plan(vec![check("compare", compare)]);
    let mut memory = Memory::default();
    let at = |memory: &mut Memory, canary: Sample, stable: Sample| {
        analyze(&plan, &pair(canary, stable), |_| Samples::default(), |_| None, memory).remove(0)
    };
    at(&mut memory, sample(0, 0, 0), sample(0, 0, 0));
    let before = at(&mut memory, sample(150, 0, 1), sample(3_000, 0, 6));
    assert_eq!((before.outcome, before.samples), (CheckOutcome::Pass, 150), "{}", before.sentence);
    memory.resume();
    let after = at(&mut memory, sample(900, 0, 900), sample(9_000, 0, 0));
    assert_eq!(after.sentence, before.sentence, "what happened while nobody looked is not counted");
    let later = at(&mut memory, sample(950, 0, 950), sample(9_900, 0, 0));
    assert_eq!((later.outcome, later.samples), (CheckOutcome::Fail, 200), "{}", later.sentence);
    assert!(
        later.sentence.starts_with("compare: slower than 500 ms, canary 51 of 200 (25.50 %) "),
        "{}",
        later.sentence
    );
}

fn provider() -> Provider {
    Provider::Prometheus { url: "http://127.0.0.1:9090".into(), query: "orders".into(), timeout: ms(1_000) }
}
