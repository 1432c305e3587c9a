//! Checks on what Weir measured itself.

use super::*;

/// CheckOutcome and sentence.
fn found(check: Check, seen: &Samples) -> (CheckOutcome, String) {
    let verdict = judge(check, seen);
    (verdict.outcome, verdict.sentence)
}

fn text(outcome: CheckOutcome, sentence: &str) -> (CheckOutcome, String) {
    (outcome, sentence.to_owned())
}

#[test]
fn errors_above_the_limit_fail() {
    let verdict = judge(check("errors", error_rate(1.0)), &example());
    assert_eq!((verdict.outcome, verdict.samples, verdict.limit), (CheckOutcome::Fail, 820, Some(1.0)));
    assert!(verdict.value.is_some_and(|percent| (percent - 1.707).abs() < 0.001));
    assert!(!verdict.stable_fails_too);
    assert_eq!(
        verdict.sentence,
        "errors: canary 14 of 820 (1.71 %) over 60 s, stable 31 of 16,410 (0.19 %), limit 1 %: too many errors"
    );
}

#[test]
fn exactly_the_limit_passes() {
    let seen = pair(sample(1_000, 10, 10), sample(0, 0, 0));
    assert_eq!(judge(check("errors", error_rate(1.0)), &seen).outcome, CheckOutcome::Pass);
    let success = Measure::SuccessRate { min: 99.0, errors: Errors::default() };
    assert_eq!(judge(check("success", success), &seen).outcome, CheckOutcome::Pass);
    let latency = Measure::Duration { quantile: 0.99, max: ms(500) };
    assert_eq!(judge(check("latency", latency), &seen).outcome, CheckOutcome::Pass);
    assert_eq!(
        found(check("errors", error_rate(1.0)), &seen),
        text(CheckOutcome::Pass, "errors: canary 10 of 1,000 (1.00 %) over 60 s, stable no requests, limit 1 %: ok")
    );
}

#[test]
fn both_versions_above_the_limit_are_told_apart_from_the_canary_alone() {
    let both = pair(sample(820, 14, 0), sample(16_410, 310, 0));
    let verdict = judge(check("errors", error_rate(1.0)), &both);
    assert!(verdict.stable_fails_too);
    assert!(verdict.sentence.ends_with("limit 1 %: too many errors, and stable as well"), "{}", verdict.sentence);
    // Of too few requests of stable nothing follows, and of a canary that passes neither.
    let few = pair(sample(820, 14, 0), sample(99, 99, 0));
    assert!(!judge(check("errors", error_rate(1.0)), &few).stable_fails_too);
    let well = pair(sample(820, 1, 0), sample(16_410, 310, 0));
    assert!(!judge(check("errors", error_rate(1.0)), &well).stable_fails_too);
}

#[test]
fn a_stable_version_a_little_above_the_limit_does_not_excuse_a_canary_far_above_it() {
    let judged = |canary: u64, slow| {
        let seen = pair(sample(1_000, canary, slow), sample(16_000, 192, 192));
        let errors = judge(check("errors", error_rate(1.0)), &seen).stable_fails_too;
        let latency = Measure::Duration { quantile: 0.99, max: ms(500) };
        (errors, judge(check("latency", latency), &seen).stable_fails_too)
    };
    assert_eq!(judged(62, 62), (false, false), "1.2 % of stable, 6.2 % of the canary");
    assert_eq!(judged(30, 30), (true, true), "3 % may be twice 1.2 %");
}

#[test]
fn below_the_minimum_there_is_no_data_and_the_sentence_says_how_much_is_missing() {
    let few = pair(sample(99, 99, 99), sample(16_410, 0, 0));
    assert_eq!(
        found(check("errors", error_rate(1.0)), &few),
        text(
            CheckOutcome::NoData,
            "errors: canary 99 of 99 (100.00 %) over 60 s, stable 0 of 16,410 (0.00 %), limit 1 %: 1 more request needed, \
             about 606 ms at this rate"
        )
    );
    let mut own = check("errors", error_rate(1.0));
    own.min_requests = Some(99);
    assert_eq!(judge(own, &few).outcome, CheckOutcome::Fail);
    // Nothing at all is no data even where nothing is asked for.
    let mut none = check("errors", error_rate(1.0));
    none.min_requests = Some(0);
    let verdict = judge(none, &pair(sample(0, 0, 0), sample(0, 0, 0)));
    assert_eq!((verdict.outcome, verdict.value), (CheckOutcome::NoData, None));
    assert!(verdict.sentence.ends_with("1 more request needed"), "{}", verdict.sentence);
}

#[test]
fn what_weir_answered_itself_is_named() {
    let canary = Sample { own: vec![("connect", 3), ("timeout", 1), ("tls", 0)], ..sample(820, 14, 0) };
    let seen = pair(canary, sample(16_410, 31, 0));
    assert_eq!(
        found(check("errors", error_rate(1.0)), &seen).1,
        "errors: canary 14 of 820 (1.71 %, of which 3 connect, 1 timeout) over 60 s, \
         stable 31 of 16,410 (0.19 %), limit 1 %: too many errors"
    );
    let success = Measure::SuccessRate { min: 99.0, errors: Errors::default() };
    assert_eq!(
        found(check("success", success), &seen),
        text(
            CheckOutcome::Fail,
            "success: canary 806 of 820 (98.29 %, of the errors 3 connect, 1 timeout) over 60 s, \
             stable 16,379 of 16,410 (99.81 %), at least 99 %: too many errors"
        )
    );
}

#[test]
fn client_errors_and_aborts_count_only_if_asked_for() {
    let canary = Sample { client_errors: 300, client_closed: 100, ..sample(900, 0, 0) };
    let seen = pair(canary, sample(9_000, 0, 0));
    let rate = |client_errors, client_closed| {
        let errors = Errors { client_errors, client_closed };
        let verdict = judge(check("errors", Measure::ErrorRate { max: 1.0, errors }), &seen);
        (verdict.outcome, verdict.samples)
    };
    assert_eq!(rate(false, false), (CheckOutcome::Pass, 1_200));
    assert_eq!(rate(true, false), (CheckOutcome::Fail, 1_200));
    assert_eq!(rate(false, true), (CheckOutcome::Fail, 1_300));
}

#[test]
fn latency_is_judged_by_counts_and_told_by_the_quantile() {
    let latency = |max| check("latency", Measure::Duration { quantile: 0.99, max });
    let verdict = judge(latency(ms(500)), &example());
    assert_eq!((verdict.outcome, verdict.limit, verdict.value), (CheckOutcome::Fail, Some(0.5), Some(0.5)));
    assert_eq!(
        verdict.sentence,
        "latency: canary p99 500 ms, 34 of 820 (4.15 %) slower than 500 ms over 60 s, \
         stable p99 497 ms, 31 of 16,410 (0.19 %), limit p99 500 ms: too slow"
    );
    let both = judge(latency(ms(100)), &example());
    assert!(both.stable_fails_too);
    let newer = judge(latency(ms(250)), &example());
    assert_eq!((newer.outcome, newer.limit), (CheckOutcome::Fail, Some(0.25)));
    assert!(newer.sentence.contains("slower than 250 ms (estimated"), "{}", newer.sentence);
    let few = judge(latency(ms(500)), &pair(sample(20, 0, 20), sample(16_410, 0, 0)));
    assert_eq!(few.outcome, CheckOutcome::NoData);
    assert!(few.sentence.ends_with(": 80 more requests needed, about 4m00s at this rate"), "{}", few.sentence);
}

#[test]
fn too_few_requests_are_the_finding_of_the_check_on_requests() {
    let requests = |min, max| check("requests", Measure::Requests { min, max });
    assert_eq!(
        found(requests(Some(20.0), Some(30.0)), &example()),
        text(
            CheckOutcome::Fail,
            "requests: canary 13.67 requests/s, 820 requests over 60 s, at least 20 and at most 30 requests/s: too few"
        )
    );
    assert_eq!(judge(requests(Some(0.1), None), &pair(sample(1, 0, 0), sample(0, 0, 0))).outcome, CheckOutcome::Fail);
    assert_eq!(judge(requests(None, Some(13.0)), &example()).outcome, CheckOutcome::Fail);
    assert_eq!(judge(requests(Some(13.0), Some(14.0)), &example()).outcome, CheckOutcome::Pass);
    let nothing = Evidence::new(MINUTE, Samples::default(), None);
    let plan = plan(vec![requests(Some(1.0), None)]);
    assert_eq!(at_once(&plan, &nothing, &mut Memory::default())[0].outcome, CheckOutcome::NoData);
    let mut own = requests(Some(20.0), None);
    own.min_requests = Some(1_000);
    assert_eq!(judge(own, &example()).outcome, CheckOutcome::NoData);
}

#[test]
fn a_comparison_needs_its_minimum_on_both_sides() {
    let metric = Compared::ErrorRate;
    let compare = Measure::Compare { metric, margin: 0.5, confidence: 99.0, errors: Errors::default() };
    let plan = plan(vec![check("compare", compare)]);
    let after = |canary, stable| {
        let verdict = at_once(&plan, &evidence(&pair(canary, stable)), &mut Memory::default()).remove(0);
        (verdict.outcome, verdict.sentence.rsplit(": ").next().unwrap().to_owned())
    };
    assert_eq!(
        after(sample(80, 80, 0), sample(900, 0, 0)),
        text(CheckOutcome::NoData, "20 more requests needed, about 15 s at this rate")
    );
    assert_eq!(
        after(sample(900, 900, 0), sample(80, 0, 0)),
        text(CheckOutcome::NoData, "20 more requests needed of stable")
    );
    assert_eq!(after(sample(100, 100, 0), sample(100, 0, 0)), text(CheckOutcome::Fail, "worse"));
    assert_eq!(after(sample(500, 1, 0), sample(5_000, 10, 0)), text(CheckOutcome::Pass, "not shown to be worse"));
}
