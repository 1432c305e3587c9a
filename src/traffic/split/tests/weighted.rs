//! The exact schedule on one thread: prefixes, windows, changes of weight and storms of them.

use proptest::collection::vec;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_prefix_is_off_by_a_request(weights in weights_of(2..=8)) {
        let splitter = splitter(&weights, None);
        let mut deficit = Deficit::nothing(weights.len());
        let entitled = i64::try_from(weights.iter().filter(|weight| **weight > 0).count()).unwrap();
        // Tijdeman's bound for three or more, 1 - 1/(2n-2); one accumulator for two is below one.
        let bound = if entitled > 2 { REQUEST - (REQUEST + 2 * entitled - 3) / (2 * entitled - 2) } else { REQUEST - 1 };
        for request in 1..=21_000 {
            let version = splitter.choose();
            prop_assert!(weights[version] > 0, "a version without weight got request {}", request);
            deficit.request(&weights, version);
            prop_assert!(deficit.worst() <= bound, "after {} requests {:?} are the deficits", request, deficit);
        }
        prop_assert_eq!(splitter.deficits(&split(&weights)), deficit.0);
    }

    #[test]
    fn two_versions_are_exact_in_every_window_across_every_change(
        phases in vec((weights_of(2), 1..200_usize), 1..60),
    ) {
        let mut current: Option<Splitter> = None;
        let mut deficit = Deficit::nothing(2);
        let (mut least, mut most) = (0, 0);
        for (weights, requests) in &phases {
            let next = splitter(weights, current.as_ref());
            for _ in 0..*requests {
                let version = next.choose();
                prop_assert!(weights[version] > 0);
                deficit.request(weights, version);
                (least, most) = (least.min(deficit.0[0]), most.max(deficit.0[0]));
            }
            current = Some(next);
        }
        // A window's error is the difference of the deficits at its ends.
        prop_assert!(most - least < REQUEST, "{} to {}", least, most);
    }

    #[test]
    fn a_storm_of_changes_of_three_versions_is_off_by_less_than_a_request(
        phases in vec((weights_of(3), 1..=20_usize), 1..40),
    ) {
        let (deficit, worst, books) = storm(&phases, 3)?;
        prop_assert!(worst < REQUEST, "{}", worst);
        prop_assert_eq!(books, deficit.0);
    }

    #[test]
    fn a_storm_of_changes_of_many_versions_adds_nothing_up(
        versions in 4..=8_usize,
        seed in vec((weights_of(8), 1..=20_usize), 1..40),
    ) {
        let fold = |weights: &[u16]| {
            // Of eight versions the last ones are given to the first, so that every phase has as many versions.
            let mut folded = vec![0; versions];
            weights.iter().enumerate().for_each(|(at, weight)| folded[at % versions] += weight);
            folded
        };
        let phases: Vec<_> = seed.iter().map(|(weights, requests)| (fold(weights), *requests)).collect();
        let (deficit, worst, books) = storm(&phases, versions)?;
        prop_assert!(worst < 2 * REQUEST, "{}", worst);
        prop_assert_eq!(books, deficit.0);
    }

    #[test]
    fn what_a_storm_left_is_paid_back(
        phases in vec((weights_of(6), 1..=20_usize), 1..40),
        rest in vec(1..1_000_u16, 6),
    ) {
        let mut current: Option<Splitter> = None;
        let mut deficit = Deficit::nothing(6);
        for (weights, requests) in &phases {
            let next = splitter(weights, current.as_ref());
            (0..*requests).for_each(|_| deficit.request(weights, next.choose()));
            current = Some(next);
        }
        let mut weights = rest;
        weights[0] += 10_000 - weights.iter().sum::<u16>();
        let calm = splitter(&weights, current.as_ref());
        (0..10_000).for_each(|_| deficit.request(&weights, calm.choose()));
        for request in 0..10_000 {
            deficit.request(&weights, calm.choose());
            prop_assert!(deficit.worst() < REQUEST, "{:?} are the deficits {} requests after the calm", deficit, request);
        }
    }

    #[test]
    fn compiling_the_same_weights_again_continues_the_sequence(
        weights in weights_of(2..=8),
        pauses in vec(1..=20_usize, 1..40),
        turned in any::<prop::sample::Index>(),
    ) {
        let alone = splitter(&weights, None);
        let mut again = splitter(&weights, None);
        for pause in &pauses {
            for _ in 0..*pause {
                prop_assert_eq!(alone.choose(), again.choose());
            }
            again = splitter(&weights, Some(&again));
        }
        // The file may name the versions in another order: the sequence is one of names, not of places.
        let mut pairs: Vec<_> = split(&weights).iter().map(|(name, weight)| (name.clone(), weight)).collect();
        pairs.rotate_left(turned.index(weights.len()));
        let names: Vec<Name> = pairs.iter().map(|(name, _)| name.clone()).collect();
        let turned = Splitter::compile(&Split::new(pairs).unwrap(), Some(&again), &mut Schedules::default());
        for _ in 0..200 {
            prop_assert_eq!(&name(alone.choose()), &names[turned.choose()]);
        }
    }

    #[test]
    fn a_compile_that_is_never_published_costs_nothing(
        weights in weights_of(2..=5),
        tried in vec(weights_of(2..=5), 1..5),
    ) {
        let (alone, disturbed) = (splitter(&weights, None), splitter(&weights, None));
        for wanted in &tried {
            let _never_used = splitter(wanted, Some(&disturbed));
            for _ in 0..50 {
                prop_assert_eq!(alone.choose(), disturbed.choose());
            }
        }
    }
}

/// Recompiles at each phase; the deficits at the end, the worst error on the way, and what the books say.
fn storm(phases: &[(Vec<u16>, usize)], versions: usize) -> Result<(Deficit, i64, Vec<i64>), TestCaseError> {
    let mut current: Option<Splitter> = None;
    let mut deficit = Deficit::nothing(versions);
    let mut worst = 0;
    for (weights, requests) in phases {
        let next = splitter(weights, current.as_ref());
        for _ in 0..*requests {
            let version = next.choose();
            prop_assert!(weights[version] > 0, "a version without weight got a request");
            deficit.request(weights, version);
            worst = worst.max(deficit.worst());
        }
        current = Some(next);
    }
    let books = current.map(|last| last.deficits(&split(&phases[0].0))).unwrap_or_default();
    Ok((deficit, worst, books))
}

#[test]
fn ninety_ten_is_a_thousand_in_any_ten_thousand() {
    let splitter = splitter(&[9_000, 1_000], None);
    let canary: Vec<usize> = (0..40_000).map(|_| splitter.choose()).collect();
    let mut in_window: usize = canary[..10_000].iter().sum();
    for start in 0..30_000 {
        assert!((999..=1_001).contains(&in_window), "{in_window} in the window at {start}");
        in_window = in_window + canary[start + 10_000] - canary[start];
    }
}

#[test]
fn a_change_at_every_request_starves_nobody() {
    let mut current = splitter(&[9_000, 500, 500], None);
    let mut deficit = Deficit::nothing(3);
    let mut counts = [0; 3];
    for request in 0..4_000 {
        let weights = if request % 2 == 0 { [9_000, 500, 500] } else { [8_900, 600, 500] };
        current = splitter(&weights, Some(&current));
        let version = current.choose();
        counts[version] += 1;
        deficit.request(&weights, version);
        assert!(deficit.worst() < REQUEST, "{deficit:?} after {request}");
    }
    assert_eq!(counts, [3_580, 220, 200]);
}

#[test]
fn a_version_that_leaves_and_comes_back_brings_no_bias() {
    let mut current = splitter(&[5_000, 3_000, 2_000], None);
    let mut first = 0_i64;
    for _ in 0..500 {
        for weights in [&[5_000, 5_000][..], &[5_000, 3_000, 2_000]] {
            current = splitter(weights, Some(&current));
            first += (0..3).filter(|_| current.choose() == 0).count().cast_signed() as i64;
        }
    }
    assert!((first - 1_500).abs() <= 2, "the first version's half of 3,000 requests is {first}");
}
