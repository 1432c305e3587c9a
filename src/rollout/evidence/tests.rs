//! Windows, marks and blocks, with simulated time.

use std::time::Duration;

use super::{Blocks, Evidence, Question, Sample, Samples, StablePast as _, WarmUpLeft};
use crate::rollout::plan::{Errors, WarmUp};

const SECOND: Duration = Duration::from_secs(1);

/// Totals of a canary with so many successes and errors, and twice as many of stable without errors.
fn totals(successes: u64, errors: u64) -> Samples {
    let sample = |successes, server_errors| Sample { successes, server_errors, ..Sample::default() };
    Samples { canary: sample(successes, errors), stable: sample(2 * (successes + errors), 0) }
}

#[test]
fn a_window_counts_what_it_covers_and_never_what_was_before_the_rollout() {
    let begin = 1_000 * SECOND;
    let mut evidence = Evidence::new(begin, totals(0, 50), None);
    for second in 1..=3_000_u32 {
        evidence.observe(begin + second * SECOND, totals(second.into(), u64::from(second) + 50));
        if [1, 2, 60, 119, 600, 3_000].contains(&second) {
            for span in [1_u32, 2, 60, 120, 300, 3_600] {
                let pair = evidence.window(span * SECOND, 0);
                let covered = u32::try_from(pair.canary.covered.as_secs()).unwrap();
                let exact = span.min(second);
                let coarse = if span > 120 { 30 } else { 0 };
                assert!((exact..=exact + coarse).contains(&covered), "{span} s at {second} s covers {covered} s");
                let count = u64::from(covered);
                assert_eq!((pair.canary.successes, pair.canary.server_errors), (count, count));
                assert_eq!(pair.stable.successes, 4 * count);
            }
        }
    }
}

#[test]
fn late_and_early_ticks_lose_nothing() {
    let mut evidence = Evidence::new(Duration::ZERO, totals(0, 0), None);
    (0..10_000).for_each(|tick| evidence.observe(Duration::from_millis(tick), totals(1, 0)));
    evidence.observe(500 * SECOND, totals(2, 0));
    let seen = evidence.window(60 * SECOND, 0);
    assert!((490 * SECOND..=491 * SECOND).contains(&seen.canary.covered), "nothing was kept in between");
    assert_eq!(seen.canary.successes, 1);
    assert_eq!(evidence.window(500 * SECOND, 0).canary.successes, 2);
}

#[test]
fn what_made_an_analysis_run_fail_counts_in_no_other() {
    let mut evidence = Evidence::new(Duration::ZERO, totals(0, 0), None);
    evidence.observe(10 * SECOND, totals(100, 10));
    assert_eq!(evidence.window(60 * SECOND, 0).canary.server_errors, 10);
    evidence.analyzed(true);
    assert_eq!(evidence.window(60 * SECOND, 0).canary.requests(), 0);
    evidence.observe(20 * SECOND, totals(150, 10));
    assert_eq!(evidence.window(60 * SECOND, 0).canary.successes, 50);
    evidence.analyzed(false);
    assert_eq!(evidence.window(60 * SECOND, 0).canary.successes, 50, "what did not fail is looked at again");
    assert_eq!(evidence.last(60 * SECOND).canary.server_errors, 10, "conditions over time see everything");
}

#[test]
fn a_window_grows_inside_a_step_until_it_has_enough() {
    let mut evidence = Evidence::new(Duration::ZERO, totals(0, 0), None);
    let one_a_second = |evidence: &mut Evidence, seconds: std::ops::RangeInclusive<u32>| {
        seconds.for_each(|second| evidence.observe(second * SECOND, totals(second.into(), 0)));
    };
    one_a_second(&mut evidence, 1..=100);
    evidence.weights_changed();
    one_a_second(&mut evidence, 101..=300);
    assert_eq!(evidence.window(60 * SECOND, 50).canary.requests(), 60, "enough");
    let grown = evidence.window(60 * SECOND, 150).canary.requests();
    assert!((150..=181).contains(&grown), "{grown}");
    let all = evidence.window(60 * SECOND, 1_000).canary.requests();
    assert!((200..=230).contains(&all), "not beyond the step: {all}");
    assert_eq!(evidence.of_step().canary.requests(), 200);
}

#[test]
fn what_a_canary_does_while_it_warms_up_is_not_looked_at() {
    let mut evidence = Evidence::new(Duration::ZERO, totals(0, 0), Some(WarmUp::Requests(200)));
    evidence.observe(10 * SECOND, totals(100, 50));
    assert_eq!(evidence.warm_up_left(), Some(WarmUpLeft::Requests(50)));
    evidence.observe(20 * SECOND, totals(200, 50));
    assert_eq!(evidence.warm_up_left(), None);
    evidence.observe(30 * SECOND, totals(300, 50));
    for seen in [evidence.window(60 * SECOND, 0), evidence.last(60 * SECOND), evidence.block()] {
        assert_eq!((seen.canary.successes, seen.canary.server_errors), (100, 0));
    }
    let mut evidence = Evidence::new(Duration::ZERO, totals(0, 0), Some(WarmUp::Time(30 * SECOND)));
    evidence.observe(29 * SECOND, totals(1, 0));
    assert_eq!(evidence.warm_up_left(), Some(WarmUpLeft::Time(SECOND)));
    evidence.observe(30 * SECOND, totals(2, 0));
    assert_eq!(evidence.warm_up_left(), None);
}

/// Stable's blocks, with so many errors of 1,000 requests in each.
fn blocks(errors: impl Iterator<Item = u64>) -> Blocks {
    let question = Question::Errors(Errors::default());
    let (mut blocks, mut all) = (Blocks::new(vec![question]), (0, 0));
    blocks.observe(Duration::ZERO, &totals(0, 0).canary);
    for (at, errors) in (1..).zip(errors) {
        all = (all.0 + 1_000 - errors, all.1 + errors);
        blocks.observe(at * 10 * SECOND, &totals(all.0, all.1).canary);
    }
    blocks
}

fn design_effect(blocks: &Blocks) -> f64 {
    blocks.dispersion(Question::Errors(Errors::default())).design_effect(1_000.0, 10 * SECOND)
}

#[test]
fn blocks_show_whether_errors_come_in_clusters() {
    // Of independent errors about as many as their mean, give or take its root.
    let independent = blocks([8, 13, 10, 7, 12, 10, 9, 11, 14, 6, 10, 10].into_iter().cycle().take(360));
    let clustered = blocks((0..360).map(|at| if at % 10 == 0 { 100 } else { 0 }));
    assert!(design_effect(&independent) < 1.05, "{}", design_effect(&independent));
    assert!(design_effect(&clustered) > 50.0, "{}", design_effect(&clustered));
    assert!((design_effect(&blocks([0, 100].into_iter())) - 1.0) < design_effect(&clustered), "two blocks say little");
    assert_eq!(design_effect(&blocks(std::iter::repeat_n(0, 360))), 1.0);
    assert_eq!(design_effect(&Blocks::default()), 1.0);
}

#[test]
fn what_lasts_a_minute_shows_in_blocks_of_a_minute() {
    let minutes = blocks((0..360).map(|at| if at / 6 % 10 == 3 { 100 } else { 10 }));
    let dispersion = minutes.dispersion(Question::Errors(Errors::default()));
    let (short, long) =
        (dispersion.design_effect(1_000.0, 10 * SECOND), dispersion.design_effect(6_000.0, 60 * SECOND));
    assert!(long > 3.0 * short, "{short} {long}");
}

#[test]
fn one_error_of_few_requests_is_no_bad_minute() {
    let question = Question::Errors(Errors::default());
    let worst = |requests: u64, bad: u64| {
        let mut blocks = Blocks::new(vec![question]);
        for at in 0..=60 {
            let all = totals(at * requests, if at >= 30 { bad } else { 0 }).canary;
            blocks.observe(Duration::from_secs(at * 10), &all);
        }
        blocks.past(question).worst_minute
    };
    // One of seven requests, and a thousand of seven thousand.
    let (few, many) = (worst(1, 1), worst(1_000, 1_000));
    assert!(worst(1, 0) == 0.0 && few < 0.03 && (0.13..0.15).contains(&many), "{few} {many}");
}

#[test]
fn a_gap_between_blocks_is_no_block() {
    let question = Question::Errors(Errors::default());
    let mut blocks = Blocks::new(vec![question]);
    for (at, successes) in [(0, 0), (10, 100), (40, 500), (50, 600)] {
        blocks.observe(at * SECOND, &totals(successes, 0).canary);
    }
    assert_eq!(blocks.past(question).tally.requests, 200);
}
