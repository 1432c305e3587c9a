//! The stretch against a list of all observations.

use std::time::Duration;

use proptest::prelude::*;

use super::{ErrorWatch, MAX_GAP, Stretch, Watched};
use crate::rollout::evidence::{Blocks, Evidence, Sample, Samples};
use crate::rollout::judge::tests::plan;
use crate::rollout::plan::{Errors, RollbackCondition};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The naive model: walks back over all observations as long as they were true and close together.
fn model(observations: &[(bool, Duration)]) -> Duration {
    let Some(&(true, last)) = observations.last() else { return Duration::ZERO };
    let mut since = last;
    for &(is_true, at) in observations.iter().rev() {
        if !is_true || at > since || since - at > MAX_GAP {
            break;
        }
        since = at;
    }
    last - since
}

proptest! {
    #[test]
    fn the_stretch_is_what_a_list_of_all_looks_says(
        steps in prop::collection::vec((prop::bool::weighted(0.9), prop_oneof![
            8 => 900..1_100_u64, 1 => Just(2_000), 1 => Just(2_001), 1 => 0..10_000_u64
        ]), 1..100),
        back in prop::option::of(0..100_usize),
    ) {
        let (mut stretch, mut observations, mut now) = (Stretch::default(), Vec::new(), ms(1_000_000));
        for (at, (is_true, later)) in steps.into_iter().enumerate() {
            now = if back == Some(at) { now - ms(5) } else { now + ms(later) };
            observations.push((is_true, now));
            prop_assert_eq!(stretch.observe(is_true, now), model(&observations));
        }
    }
}

fn watch(sustained: Duration) -> ErrorWatch {
    ErrorWatch::new(&RollbackCondition::ErrorRate { above: 1.0, sustained, errors: Errors::default() }).unwrap()
}

fn sample(requests: u64, errors: u64) -> Sample {
    let covered = Duration::from_secs(60);
    Sample { covered, successes: requests - errors, server_errors: errors, ..Sample::default() }
}

/// What the watch finds at second `at`, where the last minute was like this.
fn observed(watch: &mut ErrorWatch, canary: &Sample, stable: &Sample, at: u64) -> Watched {
    let mut evidence = Evidence::new(Duration::ZERO, Samples::default(), None);
    evidence.observe(Duration::from_secs(60), Samples { canary: canary.clone(), stable: stable.clone() });
    watch.observe(&plan(Vec::new()), &evidence, &Blocks::default(), Duration::from_secs(at))
}

/// Observations once a second from second `from` on; the second of the breach.
fn breach(watch: &mut ErrorWatch, from: u64, canary: impl Fn(u64) -> Sample) -> Option<u64> {
    let stable = sample(16_410, 31);
    (from..from + 600).find(|s| observed(watch, &canary(*s), &stable, *s).breached)
}

#[test]
fn two_minutes_above_are_two_minutes() {
    assert_eq!(breach(&mut watch(Duration::from_secs(120)), 7, |_| sample(820, 14)), Some(127));
}

#[test]
fn one_second_at_the_limit_or_with_too_few_requests_begins_anew() {
    for not_above in [sample(1_400, 14), sample(99, 99), sample(0, 0)] {
        let seen = |s| if s == 100 { not_above.clone() } else { sample(820, 14) };
        assert_eq!(breach(&mut watch(Duration::from_secs(120)), 0, seen), Some(101 + 120));
    }
}

#[test]
fn a_jump_does_not_count() {
    let mut watch = watch(Duration::from_secs(120));
    let bad = sample(820, 14);
    let mut observe = |seconds| observed(&mut watch, &bad, &bad, seconds);
    assert!((0..119).all(|s| !observe(s).breached));
    let after = observe(3_600);
    assert!(!after.breached);
    assert_eq!(after.lasted, Duration::ZERO);
    assert!(after.stable_fails_too);
}

#[test]
fn a_condition_without_a_time_is_breached_at_once() {
    assert_eq!(breach(&mut watch(Duration::ZERO), 0, |_| sample(820, 14)), Some(0));
    assert_eq!(breach(&mut watch(Duration::ZERO), 0, |_| sample(820, 0)), None);
}

#[test]
fn a_stable_version_a_little_above_it_does_not_excuse_a_canary_far_above_it() {
    let fails_too = |canary| {
        let seen = observed(&mut watch(Duration::ZERO), &sample(1_000, canary), &sample(16_000, 192), 0);
        (seen.breached, seen.stable_fails_too)
    };
    assert_eq!([fails_too(62), fails_too(30)], [(true, false), (true, true)]);
}

#[test]
fn it_tells_what_it_saw() {
    let seen = observed(&mut watch(Duration::from_secs(120)), &sample(820, 14), &sample(16_410, 31), 0);
    assert!(!seen.stable_fails_too);
    assert_eq!(
        seen.sentence,
        "errors: canary 14 of 820 (1.71 %) over 60 s, stable 31 of 16,410 (0.19 %), limit 1 % for 2m00s"
    );
    let own = Sample { own: vec![("connect", 3), ("reset", 0), ("timeout", 1)], ..sample(820, 14) };
    let seen = observed(&mut watch(Duration::from_secs(120)), &own, &sample(0, 0), 0);
    assert!(seen.sentence.starts_with("errors: canary 14 of 820 (1.71 %, of which 3 connect, 1 timeout) over 60 s, "));
}

#[test]
fn trip_wires_are_not_watched_here() {
    assert_eq!(ErrorWatch::new(&RollbackCondition::InARow { errors: 10 }), None);
    assert_eq!(ErrorWatch::new(&RollbackCondition::Within { errors: 20, within: ms(1_000), share: 10.0 }), None);
}
