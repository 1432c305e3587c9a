//! Versions whose breaker trips: they get nothing with the next choice, and the rest get exactly their shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{BreakerFlag, KeySource, OverrideSource, Reason};
use super::*;

/// Versions with these weights of which the last has a breaker and the first is stable, and its flag.
fn with_breaker(weights: &[u16]) -> (Vec<VersionShare>, Arc<AtomicBool>) {
    let mut versions = shares(weights);
    let tripped: Arc<AtomicBool> = Arc::default();
    let breaker = BreakerFlag { tripped: Arc::clone(&tripped), stable: name(0) };
    versions.last_mut().unwrap().breaker = Some(breaker);
    (versions, tripped)
}

/// The weights of all but the last version, scaled to all; to the first where they have none.
fn rest(weights: &[u16]) -> Vec<u16> {
    let (_, others) = weights.split_last().unwrap();
    let mut left = shares(weights);
    left.last_mut().unwrap().available = false;
    let mut scaled: Vec<u16> = among_available(&left).iter().map(|weight| weight.basis_points()).collect();
    if others.iter().all(|weight| *weight == 0) {
        scaled[0] = 10_000;
    }
    scaled
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tripped_version_gets_nothing_and_the_rest_exactly_its_turns(
        weights in weights_of(2..=6),
        before in 0..500_usize,
        after in 0..500_usize,
    ) {
        let (versions, tripped) = with_breaker(&weights);
        let broken = chooser(&versions, SplitOptions::default(), None);
        let plain = chooser(&shares(&weights), SplitOptions::default(), None);
        let rest = rest(&weights);
        let last = weights.len() - 1;
        let mut deficit = Deficit::nothing(weights.len());
        for request in 0..before + 2_000 + after {
            let is_out = (before..before + 2_000).contains(&request);
            tripped.store(is_out, Ordering::Release);
            // What is due is what would be due without any breaker, so all other versions keep their own turns.
            let (choice, due) = (choose(&broken, &get()), choose(&plain, &get()));
            if !is_out || due.version != last {
                prop_assert_eq!(choice, due);
                continue;
            }
            prop_assert!(choice.version != last && choice.available);
            prop_assert_eq!(choice.reason, Reason::Failover);
            deficit.request(&rest, choice.version);
            prop_assert!(deficit.worst() < REQUEST, "{:?}", deficit);
        }
    }

    #[test]
    fn beside_versions_that_are_away_the_rest_still_get_everything(weights in weights_of(4..=4), away in 1..=2_usize) {
        let (mut versions, tripped) = with_breaker(&weights);
        versions[away].available = false;
        let chooser = chooser(&versions, SplitOptions::default(), None);
        tripped.store(true, Ordering::Release);
        let effective: Vec<u16> = chooser.effective().into_iter().map(Weight::basis_points).collect();
        // Beside one that is away and has everything, nobody else has anything to give.
        let nobody = weights[away] == 10_000;
        let all = if nobody { 0 } else { 10_000 };
        prop_assert_eq!((effective[3], effective[away], effective.iter().sum::<u16>()), (0, 0, all));
        for _ in 0..500 {
            let choice = choose(&chooser, &get());
            prop_assert_eq!(choice.available, !nobody);
            prop_assert!(nobody || (choice.version != 3 && choice.version != away));
        }
    }
}

#[test]
fn from_a_canary_that_had_everything_all_goes_to_stable_at_once() {
    let (versions, tripped) = with_breaker(&[0, 0, 10_000]);
    let chooser = chooser(&versions, SplitOptions::default(), None);
    assert_eq!(choose(&chooser, &get()).version, 2);
    tripped.store(true, Ordering::Release);
    for _ in 0..100 {
        let choice = choose(&chooser, &get());
        assert_eq!((choice.version, choice.available, choice.reason), (0, true, Reason::Failover));
    }
    tripped.store(false, Ordering::Release);
    assert_eq!(choose(&chooser, &get()).version, 2);
}

#[test]
fn without_anybody_else_a_tripped_version_is_not_available() {
    let (mut versions, tripped) = with_breaker(&[9_000, 1_000]);
    versions[0].available = false;
    let chooser = chooser(&versions, SplitOptions::default(), None);
    assert!(choose(&chooser, &get()).available);
    tripped.store(true, Ordering::Release);
    assert!((0..20).all(|_| !choose(&chooser, &get()).available));
    assert!(chooser.effective().into_iter().all(|weight| weight == Weight::ZERO));
}

#[test]
fn clients_of_a_tripped_version_go_to_the_others_and_come_back() {
    let options = SplitOptions { affinity: Some(KeySource::Header("x-user".into())), ..SplitOptions::default() };
    let (versions, tripped) = with_breaker(&[4_000, 3_000, 3_000]);
    let chooser = chooser(&versions, options, None);
    let mut moved = [0; 3];
    for at in 0..10_000 {
        let request = get().with("x-user", at.to_string());
        let choose_while = |out| {
            tripped.store(out, Ordering::Release);
            choose(&chooser, &request)
        };
        let (before, during, after) = (choose_while(false), choose_while(true), choose_while(false));
        assert_eq!(after, before);
        if before.version == 2 {
            assert_eq!(during.reason, Reason::Failover);
            assert_eq!(choose_while(true), during, "they stay together meanwhile");
            moved[during.version] += 1;
        } else {
            assert_eq!(during, before, "other clients stay where they are");
        }
    }
    let first = f64::from(moved[0]) / f64::from(moved[0] + moved[1]);
    assert!((first - 4.0 / 7.0).abs() < 0.03, "{moved:?} is not 4 to 3");
    assert_eq!(moved[2], 0);
}

#[test]
fn an_override_still_reaches_a_tripped_version() {
    let overrides = OverrideSource { header: Some("x-version".into()), cookie: None, from: None, keys: None };
    let (versions, tripped) = with_breaker(&[9_000, 1_000]);
    let chooser = chooser(&versions, SplitOptions { overrides: Some(overrides), ..SplitOptions::default() }, None);
    tripped.store(true, Ordering::Release);
    let choice = choose(&chooser, &get().with("x-version", "v2"));
    assert_eq!((choice.version, choice.reason, choice.available), (1, Reason::Override, true));
}

#[test]
fn the_deficits_of_the_rest_survive_a_new_snapshot() {
    let weights = [5_000, 2_500, 2_500];
    let (versions, tripped) = with_breaker(&weights);
    tripped.store(true, Ordering::Release);
    let rest = rest(&weights);
    let mut deficit = Deficit::nothing(3);
    let mut current: Option<Chooser> = None;
    for _ in 0..500 {
        let next = chooser(&versions, SplitOptions::default(), current.as_ref());
        for _ in 0..3 {
            let choice = choose(&next, &get());
            if choice.reason == Reason::Failover {
                deficit.request(&rest, choice.version);
                assert!(deficit.worst() < REQUEST, "{deficit:?}");
            }
        }
        current = Some(next);
    }
}
