//! Failover: who gets the requests of versions that take none.

use proptest::collection::vec;

use super::super::{Failover, KeySource, Reason};
use super::*;

fn with_states(weights: &[u16], available: &[bool]) -> Vec<VersionShare> {
    let versions = shares(weights).into_iter().zip(available);
    versions.map(|(share, available)| VersionShare { available: *available, ..share }).collect()
}

fn scaled(weights: &[u16], available: &[bool]) -> Vec<u16> {
    among_available(&with_states(weights, available)).iter().map(|weight| weight.basis_points()).collect()
}

#[test]
fn what_is_left_is_scaled_to_all_by_largest_remainder() {
    for (weights, available, expected) in [
        (&[9_000, 1_000][..], &[true, false][..], &[10_000, 0][..]),
        (&[9_000, 1_000], &[false, true], &[0, 10_000]),
        (&[9_000, 1_000], &[false, false], &[0, 0]),
        (&[10_000, 0], &[false, true], &[0, 0]),
        (&[5_000, 2_500, 2_500], &[false, true, true], &[0, 5_000, 5_000]),
        (&[1, 1, 1, 9_997], &[true, true, true, false], &[3_334, 3_333, 3_333, 0]),
        (&[2, 4, 1, 9_993], &[true, true, true, false], &[2_857, 5_714, 1_429, 0]),
        (&[9_999, 0, 1], &[false, true, true], &[0, 0, 10_000]),
    ] {
        assert_eq!(scaled(weights, available), expected, "{weights:?} {available:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scaled_weights_sum_to_all_and_are_the_nearest(weights in weights_of(1..=8), states in vec(any::<bool>(), 8)) {
        let available = &states[..weights.len()];
        let scaled = scaled(&weights, available);
        let sum: i64 = weights.iter().zip(available).filter(|(_, up)| **up).map(|(weight, _)| i64::from(*weight)).sum();
        let total: i64 = scaled.iter().copied().map(i64::from).sum();
        prop_assert_eq!(total, if sum == 0 { 0 } else { REQUEST });
        for ((scaled, weight), up) in scaled.iter().zip(&weights).zip(available) {
            if !*up || *weight == 0 {
                prop_assert_eq!(*scaled, 0);
            } else {
                prop_assert!((i64::from(*scaled) * sum - i64::from(*weight) * REQUEST).abs() < sum);
            }
        }
    }

    #[test]
    fn requests_of_the_unavailable_go_to_the_available_exactly(
        weights in weights_of(2..=8),
        states in vec(any::<bool>(), 8),
    ) {
        let available = &states[..weights.len()];
        let chooser = chooser(&with_states(&weights, available), SplitOptions::default(), None);
        let scaled = scaled(&weights, available);
        let effective: Vec<u16> = chooser.effective().into_iter().map(Weight::basis_points).collect();
        prop_assert_eq!(&effective, &scaled);
        let (mut due, mut failed_over) = (Deficit::nothing(weights.len()), Deficit::nothing(weights.len()));
        let mut direct = vec![0_i64; weights.len()];
        let up = 1 + i64::try_from(available.iter().filter(|up| **up).count()).unwrap();
        for request in 1..=3_000_i64 {
            let choice = choose(&chooser, &get());
            let nobody = scaled.iter().all(|weight| *weight == 0);
            prop_assert_eq!(choice.available, !nobody);
            if nobody {
                prop_assert_eq!(choice.reason, Reason::Weight);
                continue;
            }
            prop_assert!(available[choice.version] && weights[choice.version] > 0);
            match choice.reason {
                Reason::Failover => failed_over.request(&scaled, choice.version),
                _ => direct[choice.version] += 1,
            }
            prop_assert!(failed_over.worst() < REQUEST);
            for ((count, weight), _) in direct.iter().zip(&weights).zip(available).filter(|(_, up)| **up) {
                prop_assert!((count * REQUEST - request * i64::from(*weight)).abs() < REQUEST);
            }
            due.request(&scaled, choice.version);
            // The failover's error, that of each available version's own turns, and the scaled weights' rounding.
            prop_assert!(due.worst() < up * REQUEST + request);
        }
    }

    #[test]
    fn a_version_that_comes_and_goes_brings_no_bias(ups in vec(1..=4_usize, 100..200), weights in weights_of(4..=4)) {
        let mut deficit = Deficit::nothing(4);
        let mut current: Option<Chooser> = None;
        for (at, requests) in ups.iter().enumerate() {
            let versions = with_states(&weights, &[at % 2 == 0, true, true, true]);
            let next = chooser(&versions, SplitOptions::default(), current.as_ref());
            let scaled = scaled(&weights, &[false, true, true, true]);
            for _ in 0..*requests {
                let choice = choose(&next, &get());
                if choice.reason == Reason::Failover && choice.available {
                    deficit.request(&scaled, choice.version);
                    prop_assert!(deficit.worst() < REQUEST, "{:?} in turn {}", deficit, at);
                }
            }
            current = Some(next);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn versions_that_go_and_come_while_they_are_in_use_bring_no_bias(
        phases in vec((vec(any::<bool>(), 4), 1..=6_usize), 50..150),
        weights in weights_of(4..=4),
    ) {
        let chooser = chooser(&shares(&weights), SplitOptions::default(), None);
        let mut direct = [0_i64; 4];
        let mut requests = 0_i64;
        for (available, count) in &phases {
            chooser.set_available(|at| available[at]);
            let scaled = scaled(&weights, available);
            prop_assert_eq!(chooser.effective().into_iter().map(Weight::basis_points).collect::<Vec<_>>(), scaled.clone());
            // From each change on, those that replace others get their shares to within what is still owed.
            let mut deficit = Deficit::nothing(4);
            for _ in 0..*count {
                let choice = choose(&chooser, &get());
                requests += 1;
                let nobody = scaled.iter().all(|weight| *weight == 0);
                prop_assert_eq!(choice.available, !nobody);
                prop_assert!(nobody || available[choice.version]);
                if choice.reason == Reason::Failover {
                    deficit.request(&scaled, choice.version);
                    prop_assert!(deficit.worst() < 2 * REQUEST, "{:?} of {:?}", deficit, scaled);
                } else {
                    direct[choice.version] += 1;
                }
            }
        }
        // Nobody got more turns of its own than its share.
        for (count, weight) in direct.iter().zip(&weights) {
            prop_assert!(count * REQUEST - requests * i64::from(*weight) < REQUEST);
        }
    }
}

#[test]
fn no_choice_falls_between_while_versions_go_and_come() {
    let chooser = chooser(&shares(&[5_000, 3_000, 2_000]), SplitOptions::default(), None);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let choosing = || {
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                assert!(choose(&chooser, &get()).available, "one version is always there");
            }
        };
        scope.spawn(choosing);
        scope.spawn(choosing);
        for round in 0..3_000_usize {
            chooser.set_available(|at| at != round % 3 && (at != (round + 1) % 3 || round.is_multiple_of(2)));
        }
        over.store(true, std::sync::atomic::Ordering::Release);
    });
}

#[test]
fn clients_of_an_unavailable_version_spread_over_the_others_and_come_back() {
    let options = SplitOptions { affinity: Some(KeySource::Header("x-user".into())), ..SplitOptions::default() };
    let weights = [4_000, 3_000, 3_000];
    let all = chooser(&with_states(&weights, &[true; 3]), options.clone(), None);
    let without = chooser(&with_states(&weights, &[true, true, false]), options.clone(), Some(&all));
    let again = chooser(&with_states(&weights, &[true; 3]), options, Some(&without));
    let mut moved = [0; 3];
    for at in 0..10_000 {
        let request = get().with("x-user", at.to_string());
        let (before, during) = (choose(&all, &request), choose(&without, &request));
        if before.version == 2 {
            assert_eq!(during.reason, Reason::Failover);
            moved[during.version] += 1;
        } else {
            assert_eq!(during, before, "other clients stay where they are");
        }
        assert_eq!(choose(&again, &request), before);
        assert_eq!(choose(&without, &request), during, "and they stay together meanwhile");
    }
    let first = f64::from(moved[0]) / f64::from(moved[0] + moved[1]);
    assert!((first - 4.0 / 7.0).abs() < 0.03, "{moved:?} is not 4 to 3");
    assert_eq!(moved[2], 0);
}

#[test]
fn without_failover_nobody_takes_over() {
    let versions = with_states(&[6_000, 4_000], &[true, false]);
    let options = SplitOptions { failover: Failover::Never, ..SplitOptions::default() };
    let chooser = chooser(&versions, options, None);
    let refused = (0..1_000).map(|_| choose(&chooser, &get())).filter(|choice| !choice.available).count();
    assert_eq!(refused, 400);
    let effective: Vec<u16> = chooser.effective().into_iter().map(Weight::basis_points).collect();
    assert_eq!(effective, [6_000, 4_000], "everybody keeps their share");
    chooser.set_available(|_| true);
    assert!((0..1_000).all(|_| choose(&chooser, &get()).available));
}
