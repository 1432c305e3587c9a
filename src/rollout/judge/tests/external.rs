//! Checks on what others measured.

use super::*;
use crate::rollout::reading::Reading;

fn found(external: Option<&Reading>, min_requests: Option<u64>) -> Verdict {
    let measure = Measure::External { provider: provider(), min: Some(0.97), max: Some(2.0) };
    let check = Check { min_requests, ..check("orders", measure) };
    let few = pair(sample(20, 0, 0), sample(0, 0, 0));
    let mut memory = Memory::default();
    let (plan, evidence, baseline) = (plan(vec![check]), evidence(&few), Blocks::default());
    let run = AnalysisInput {
        plan: &plan,
        evidence: &evidence,
        baseline: &baseline,
        canary_has_all: false,
        shared_failure: None,
    };
    analyze(&run, |_| external.cloned(), &mut memory).remove(0)
}

#[test]
fn each_answer_has_its_outcome_and_its_words() {
    let failed = || Reading::Failed("connection\nrefused".to_owned());
    let table = [
        (Some(Reading::Value(0.98)), CheckOutcome::Pass, "0.98, at least 0.97 and at most 2: ok"),
        (Some(Reading::Value(0.97)), CheckOutcome::Pass, "0.97, at least 0.97 and at most 2: ok"),
        (Some(Reading::Value(0.95)), CheckOutcome::Fail, "0.95, at least 0.97 and at most 2: too low"),
        (Some(Reading::Value(2.5)), CheckOutcome::Fail, "2.5, at least 0.97 and at most 2: too high"),
        (
            Some(Reading::Value(f64::NAN)),
            CheckOutcome::NoData,
            "the result is not a number, probably for want of traffic",
        ),
        (
            Some(Reading::Value(f64::INFINITY)),
            CheckOutcome::Error,
            "inf is no number to compare, at least 0.97 and at most 2",
        ),
        (Some(Reading::Verdict { pass: true, text: String::new() }), CheckOutcome::Pass, "ok"),
        (
            Some(Reading::Verdict { pass: false, text: "carts\nleft".to_owned() }),
            CheckOutcome::Fail,
            "refused: carts left",
        ),
        (Some(Reading::Empty), CheckOutcome::NoData, "the query has no result, probably for want of traffic"),
        (Some(Reading::NotANumber), CheckOutcome::NoData, "the result is not a number, probably for want of traffic"),
        (
            Some(Reading::Many(2)),
            CheckOutcome::Error,
            "the query has more than one series: aggregate it to one, with sum() say",
        ),
        (Some(Reading::Timeout), CheckOutcome::Error, "no answer in time"),
        (Some(failed()), CheckOutcome::Error, "no answer: connection refused"),
        (None, CheckOutcome::NoData, "no answer yet"),
    ];
    for (external, outcome, words) in table {
        let verdict = found(external.as_ref(), None);
        assert_eq!((verdict.outcome, &*verdict.sentence), (outcome, &*format!("orders (prometheus): {words}")));
        let measured = matches!(external, Some(Reading::Value(value)) if value.is_finite());
        assert_eq!(verdict.value.is_some(), measured, "{external:?}");
    }
}

#[test]
fn the_limit_is_the_one_that_was_broken() {
    assert_eq!(found(Some(&Reading::Value(0.5)), None).limit, Some(0.97));
    assert_eq!(found(Some(&Reading::Value(5.0)), None).limit, Some(2.0));
}

#[test]
fn a_minimum_of_requests_counts_if_the_check_itself_states_one() {
    let verdict = found(Some(&Reading::Value(0.5)), Some(100));
    assert_eq!(verdict.outcome, CheckOutcome::NoData);
    assert_eq!(verdict.sentence, "orders (prometheus): canary 20 requests: 80 more requests needed");
    assert_eq!(found(Some(&Reading::Value(0.5)), Some(20)).outcome, CheckOutcome::Fail);
}
