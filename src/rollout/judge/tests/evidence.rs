//! What makes a finding sure, and whose fault it is.

use super::*;
use crate::rollout::evidence::{EndpointTally, Question, Tally};
use crate::rollout::plan::WarmUp;

/// A verdict at a significance of 1 %.
fn verdict(measure: Measure, seen: &Samples, baseline: &Blocks, shared_failure: Option<&str>) -> Verdict {
    let plan = Plan { significance: Some(1.0), ..plan(vec![check("c", measure)]) };
    let evidence = evidence(seen);
    let run = AnalysisInput { plan: &plan, evidence: &evidence, baseline, canary_has_all: false, shared_failure };
    analyze(&run, |_| None, &mut Memory::default()).remove(0)
}

fn errors_of(bad: u64, requests: u64) -> Verdict {
    let seen = pair(sample(requests, bad, 0), sample(16_410, 31, 0));
    verdict(error_rate(1.0), &seen, &Blocks::default(), None)
}

#[test]
fn above_the_limit_by_chance_is_suspect_and_no_failure() {
    let suspect = errors_of(3, 136);
    assert_eq!(suspect.outcome, CheckOutcome::Suspect);
    assert!(
        suspect.sentence.ends_with("limit 1 %: too many errors, and that may be chance (p 0.1562)"),
        "{}",
        suspect.sentence
    );
    assert_eq!(errors_of(1, 136).outcome, CheckOutcome::Pass);
    let failed = errors_of(7, 136);
    assert_eq!(failed.outcome, CheckOutcome::Fail);
    assert!(failed.sentence.ends_with("too many errors (p 0.0005)"), "{}", failed.sentence);
    assert_eq!(errors_of(1_200, 100_000).outcome, CheckOutcome::Fail, "a little above, of many");
}

#[test]
fn a_quantile_is_a_share_too() {
    let latency = || Measure::Duration { quantile: 0.99, max: ms(500) };
    let slow = |slow| pair(sample(300, 0, slow), sample(16_410, 0, 31));
    assert_eq!(verdict(latency(), &slow(5), &Blocks::default(), None).outcome, CheckOutcome::Suspect);
    assert_eq!(verdict(latency(), &slow(12), &Blocks::default(), None).outcome, CheckOutcome::Fail);
}

#[test]
fn errors_in_clusters_say_less_and_the_verdict_says_so() {
    let question = Question::Errors(Errors::default());
    let mut baseline = Blocks::new(vec![question]);
    for at in 0..=60_u32 {
        // Nothing for five blocks, then a hundred errors in one.
        let errors = u64::from(at / 6) * 100;
        baseline.observe(at * ms(10_000), &sample(u64::from(at) * 1_000 + 1, errors, 0));
    }
    let seen = pair(sample(1_000, 30, 0), sample(16_410, 31, 0));
    assert_eq!(verdict(error_rate(1.0), &seen, &Blocks::default(), None).outcome, CheckOutcome::Fail);
    let found = verdict(error_rate(1.0), &seen, &baseline, None);
    assert_eq!(found.outcome, CheckOutcome::Suspect, "{}", found.sentence);
    assert!(found.sentence.contains("they come in clusters, so these say as much as "), "{}", found.sentence);
}

/// A canary with 900 requests whose endpoints had so many errors of 300 each.
fn endpoints(errors: &[u64]) -> Samples {
    let endpoint = |(at, bad): (usize, &u64)| EndpointTally {
        id: at as u64,
        name: format!("10.0.0.{at}:80").into(),
        tally: Tally { requests: 300, bad: *bad },
    };
    let all = 300 * errors.len() as u64;
    let canary =
        Sample { endpoints: errors.iter().enumerate().map(endpoint).collect(), ..sample(all, errors.iter().sum(), 0) };
    pair(canary, sample(16_410, 31, 0))
}

#[test]
fn one_endpoint_of_several_is_not_the_version() {
    let of = |errors: &[u64]| verdict(error_rate(1.0), &endpoints(errors), &Blocks::default(), None);
    let one = of(&[0, 290, 1]);
    assert_eq!(one.outcome, CheckOutcome::Suspect);
    assert!(
        one.sentence.ends_with("one endpoint, 10.0.0.1:80, has 290 of 300 (96.67 %): not the version"),
        "{}",
        one.sentence
    );
    assert_eq!(of(&[30, 290, 1]).outcome, CheckOutcome::Fail, "two of them fail");
    assert_eq!(of(&[0, 290]).outcome, CheckOutcome::Fail, "one of two is half of the version");
    let metric = Compared::ErrorRate;
    let compare = || Measure::Compare { metric, margin: 0.5, confidence: 99.0, errors: Errors::default() };
    let of = |errors: &[u64]| verdict(compare(), &endpoints(errors), &Blocks::default(), None).outcome;
    assert_eq!([of(&[0, 290, 1]), of(&[100, 290, 100])], [CheckOutcome::Suspect, CheckOutcome::Fail]);
}

#[test]
fn clients_that_give_up_on_a_canary_that_hangs_are_slow_requests() {
    let mut canary = sample(900, 0, 0);
    (canary.client_closed, canary.abandoned) = (100, vec![60, 40, 0]);
    canary.buckets[0] += 60;
    canary.buckets[1] += 40;
    let seen = pair(canary, sample(16_410, 0, 31));
    let latency = verdict(Measure::Duration { quantile: 0.99, max: ms(500) }, &seen, &Blocks::default(), None);
    assert_eq!(latency.outcome, CheckOutcome::Fail);
    assert!(
        latency.sentence.contains("100 of 1,000 (10.00 %) slower than 500 ms, 100 given up"),
        "{}",
        latency.sentence
    );
    let own = |max| verdict(Measure::Abandoned { max }, &seen, &Blocks::default(), None);
    assert_eq!([own(5.0).outcome, own(15.0).outcome], [CheckOutcome::Fail, CheckOutcome::Pass]);
    assert!(
        own(5.0).sentence.contains("went away before the first byte: 100 of 1,000 (10.00 %)"),
        "{}",
        own(5.0).sentence
    );
}

#[test]
fn where_other_services_fail_too_a_canary_without_a_stable_version_beside_it_is_not_to_blame() {
    let alone = pair(sample(1_000, 300, 0), sample(0, 0, 0));
    let shared = Some("2 of 3 other services with traffic fail as well");
    let found = verdict(error_rate(1.0), &alone, &Blocks::default(), shared);
    assert!(found.outcome == CheckOutcome::Fail && found.stable_fails_too);
    assert!(found.sentence.ends_with("too many errors, and 2 of 3 other services with traffic fail as well"));
    assert!(!verdict(error_rate(1.0), &alone, &Blocks::default(), None).stable_fails_too);
    let before = pair(sample(1_000, 300, 0), sample(1_000, 1, 0));
    assert!(verdict(error_rate(1.0), &before, &Blocks::default(), shared).stable_fails_too, "stable was well before");
}

#[test]
fn a_canary_that_warms_up_is_not_judged() {
    let plan = plan(vec![check("errors", error_rate(1.0))]);
    let mut evidence = Evidence::new(Duration::ZERO, Samples::default(), Some(WarmUp::Requests(500)));
    evidence.observe(MINUTE, pair(sample(400, 400, 0), sample(9_000, 0, 0)));
    let verdict = at_once(&plan, &evidence, &mut Memory::default()).remove(0);
    assert_eq!(verdict.outcome, CheckOutcome::WarmingUp);
    assert_eq!(verdict.sentence, "errors (warm-up): the canary warms up, 100 requests more");
}
