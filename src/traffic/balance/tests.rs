//! Which endpoints requests get, by what is available, tried and in flight.

use super::*;
use crate::traffic::split::affinity;

/// Endpoints with these loads, of which some are away and some count in part.
#[derive(Clone, Copy, Default)]
struct Fixed<'a> {
    away: &'a [usize],
    loads: &'a [u64],
    parts: &'a [u32],
}

const IDLE: Fixed<'_> = Fixed { away: &[], loads: &[], parts: &[] };
const ALL: [Algorithm; 2] = [Algorithm::LeastRequests, Algorithm::RoundRobin];

impl Endpoints for Fixed<'_> {
    fn is_available(&self, at: usize) -> bool {
        !self.away.contains(&at)
    }
    fn load(&self, at: usize) -> u64 {
        self.loads.get(at).copied().unwrap_or_default()
    }
    fn part(&self, at: usize) -> u32 {
        self.parts.get(at).copied().unwrap_or(WHOLE)
    }
}

/// A balancer over endpoints with these weights.
fn weighted(weights: &[u32], algorithm: Algorithm) -> Balancer {
    let names: Vec<String> = (0..weights.len()).map(|at| format!("10.0.0.{at}:80")).collect();
    Balancer::new(names.iter().map(String::as_str).zip(weights.iter().copied()), algorithm)
}

/// How many of `requests` requests, of as many clients, each endpoint gets.
fn shares(balancer: &Balancer, endpoints: &Fixed<'_>, requests: u64, with_keys: bool) -> Vec<u64> {
    let mut counts = vec![0; balancer.weights.len()];
    for client in 0..requests {
        let key = with_keys.then(|| affinity::mix(client));
        counts[balancer.pick(endpoints, &Tried::default(), key).unwrap()] += 1;
    }
    counts
}

fn balancer(count: usize, algorithm: Algorithm) -> Balancer {
    weighted(&vec![1; count], algorithm)
}

/// How many of `requests` requests each of four endpoints gets.
fn counts(algorithm: Algorithm, endpoints: &Fixed<'_>, requests: usize) -> [usize; 4] {
    let balancer = balancer(4, algorithm);
    let mut counts = [0; 4];
    for _ in 0..requests {
        counts[balancer.pick(endpoints, &Tried::default(), None).unwrap()] += 1;
    }
    counts
}

#[test]
fn round_robin_gives_each_its_turn() {
    assert_eq!(counts(Algorithm::RoundRobin, &IDLE, 400), [100; 4]);
}

#[test]
fn those_that_are_available_share_evenly_what_others_do_not_take() {
    for away in [&[1][..], &[0, 3], &[1, 2]] {
        let endpoints = Fixed { away, ..IDLE };
        let each = 12_000 / (4 - away.len());
        let round_robin = counts(Algorithm::RoundRobin, &endpoints, 12_000);
        let random = counts(Algorithm::LeastRequests, &endpoints, 12_000);
        for at in 0..4 {
            let expected = if away.contains(&at) { 0 } else { each };
            assert!(round_robin[at].abs_diff(expected) <= 1, "{round_robin:?} without {away:?}");
            assert!(random[at].abs_diff(expected) <= expected / 8, "{random:?} without {away:?}");
        }
    }
    let alone = Fixed { away: &[0, 1, 3], ..IDLE };
    assert_eq!(counts(Algorithm::LeastRequests, &alone, 100), [0, 0, 100, 0]);
}

#[test]
fn few_available_among_many_are_found_and_share_evenly() {
    let balancer = balancer(200, Algorithm::LeastRequests);
    let away: Vec<usize> = (0..200).filter(|at| ![7, 8, 150].contains(at)).collect();
    let mut counts = [0_usize; 200];
    for _ in 0..3_000 {
        counts[balancer.pick(&Fixed { away: &away, ..IDLE }, &Tried::default(), None).unwrap()] += 1;
    }
    assert!([7, 8, 150].iter().all(|at| (800..1_200).contains(&counts[*at])), "{counts:?}");
}

#[test]
fn what_was_tried_is_not_picked_again() {
    for algorithm in ALL {
        for key in [None, Some(7)] {
            let balancer = balancer(4, algorithm);
            let endpoints = Fixed { away: &[1], ..IDLE };
            let mut tried = Tried::default();
            let mut seen = Vec::new();
            while let Some(at) = balancer.pick(&endpoints, &tried, key) {
                seen.push(at);
                tried.insert(at);
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 2, 3], "{algorithm:?} {key:?}");
        }
    }
}

#[test]
fn without_endpoints_there_is_nothing_to_pick() {
    assert_eq!(balancer(0, Algorithm::LeastRequests).pick(&IDLE, &Tried::default(), None), None);
    assert_eq!(balancer(0, Algorithm::RoundRobin).pick(&IDLE, &Tried::default(), Some(1)), None);
}

#[test]
fn a_request_whose_version_goes_meanwhile_is_still_served_but_not_tried_again() {
    for algorithm in ALL {
        for key in [None, Some(7)] {
            let balancer = balancer(2, algorithm);
            let gone = Fixed { away: &[0, 1], ..IDLE };
            let mut tried = Tried::default();
            tried.insert(balancer.pick(&gone, &tried, key).unwrap());
            assert_eq!(balancer.pick(&gone, &tried, key), None);
        }
    }
}

#[test]
fn the_busier_of_two_is_left_alone() {
    let balancer = balancer(2, Algorithm::LeastRequests);
    let busy = Fixed { loads: &[10, 0], ..IDLE };
    let picks = (0..1_000).filter(|_| balancer.pick(&busy, &Tried::default(), None) == Some(0)).count();
    // Both draws hit the busy one in a quarter of the cases.
    assert!((150..350).contains(&picks), "{picks}");
}

#[test]
fn an_idle_pool_is_used_evenly() {
    let counts = counts(Algorithm::LeastRequests, &IDLE, 8_000);
    assert!(counts.iter().all(|count| (1_700..2_300).contains(count)), "{counts:?}");
}

#[test]
fn a_key_keeps_its_endpoint_and_only_the_gone_ones_clients_move() {
    let balancer = balancer(5, Algorithm::LeastRequests);
    for key in 0..2_000_u64 {
        let key = Some(affinity::mix(key));
        let before = balancer.pick(&IDLE, &Tried::default(), key).unwrap();
        let after = balancer.pick(&Fixed { away: &[2], ..IDLE }, &Tried::default(), key).unwrap();
        assert!(before == after || before == 2, "{before} became {after}");
        assert_ne!(after, 2);
    }
}

#[test]
fn shares_are_those_of_the_weights_under_every_algorithm() {
    for (algorithm, with_keys) in ALL.into_iter().flat_map(|algorithm| [(algorithm, false), (algorithm, true)]) {
        for weights in [&[1, 2, 5][..], &[256, 1, 255, 128], &[3, 3, 3, 1], &[7, 1]] {
            let (total, requests) = (u64::from(weights.iter().sum::<u32>()), 60_000);
            let counts = shares(&weighted(weights, algorithm), &IDLE, requests, with_keys);
            for (count, weight) in counts.iter().zip(weights) {
                let expected = requests * u64::from(*weight) / total;
                // Four standard deviations of what is drawn at random.
                let far = 4.0 * (expected as f64).sqrt() + 1.0;
                assert!((*count as f64 - expected as f64).abs() <= far, "{algorithm:?} {counts:?} of {weights:?}");
            }
        }
    }
}

#[test]
fn the_alias_table_is_exact_for_any_weights() {
    // Every pair of numbers that can be drawn, once.
    for weights in [&[1_u32, 2, 5][..], &[4, 1], &[1, 1, 1, 9], &[6, 10, 15, 2, 7]] {
        let table = Weights::new(weights.iter().copied());
        let (count, total) = (weights.len() as u64, u64::from(weights.iter().sum::<u32>()));
        let mut counts = vec![0; weights.len()];
        for slot in 0..count {
            for part in 0..total {
                let numbers = std::cell::RefCell::new([slot, part].into_iter());
                let next = || numbers.borrow_mut().next().unwrap();
                counts[table.draw(&next).unwrap()] += 1;
            }
        }
        let expected: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * count).collect();
        assert_eq!(counts, expected);
    }
}

#[test]
fn a_heavier_endpoint_is_filled_in_proportion() {
    let balancer = weighted(&[3, 1], Algorithm::LeastRequests);
    let picks = |loads: &[u64]| shares(&balancer, &Fixed { loads, ..IDLE }, 4_000, false)[0];
    // 30 of weight 3 are as busy as 10 of weight 1: neither is preferred.
    assert!((2_850..3_150).contains(&picks(&[30, 10])), "{}", picks(&[30, 10]));
    assert!(picks(&[29, 10]) > 3_600, "{}", picks(&[29, 10]));
    assert!(picks(&[31, 10]) < 2_400, "{}", picks(&[31, 10]));
}

#[test]
fn who_starts_slowly_gets_its_part_of_the_others_share() {
    for algorithm in ALL {
        for part in [100, 500, WHOLE] {
            let parts = [WHOLE, WHOLE, part];
            let counts = shares(&balancer(3, algorithm), &Fixed { parts: &parts, ..IDLE }, 30_000, false);
            let expected = 30_000.0 * f64::from(part) / f64::from(2 * WHOLE + part);
            assert!(
                (counts[2] as f64 - expected).abs() < 4.0 * expected.sqrt() + 1.0,
                "{algorithm:?} {part}: {counts:?}"
            );
        }
        let alone = Fixed { away: &[0, 1], parts: &[WHOLE, WHOLE, 100], ..IDLE };
        assert_eq!(shares(&balancer(3, algorithm), &alone, 500, false), [0, 0, 500], "slow or not, it is the only one");
    }
}

#[test]
fn raising_a_weight_moves_clients_to_that_endpoint_only() {
    let of = |weights: &[u32]| weighted(weights, Algorithm::LeastRequests);
    let (before, after) = (of(&[2, 3, 4]), of(&[2, 6, 4]));
    let mut moved = 0;
    for client in 0..5_000 {
        let pick = |balancer: &Balancer| balancer.pick(&IDLE, &Tried::default(), Some(affinity::mix(client))).unwrap();
        let (was, is) = (pick(&before), pick(&after));
        assert!(was == is || is == 1, "{was} became {is}");
        moved += usize::from(was != is);
    }
    // From 3 of 9 to 6 of 12.
    assert!((700..970).contains(&moved), "{moved}");
}

#[test]
fn a_key_keeps_a_client_on_its_endpoint_under_every_algorithm() {
    for algorithm in ALL {
        for (key, keeps) in [(Some(7), true), (None, false)] {
            let balancer = weighted(&[1, 2, 2, 3], algorithm);
            let picks: std::collections::HashSet<_> =
                (0..200).map(|_| balancer.pick(&IDLE, &Tried::default(), key).unwrap()).collect();
            assert_eq!(picks.len() == 1, keeps, "{algorithm:?}");
        }
    }
}
