//! Which endpoints requests get, by what is available, tried and in flight.

use super::*;
use crate::traffic::split::affinity;

/// Endpoints with these loads, of which some are away.
struct Fixed<'a> {
    away: &'a [usize],
    loads: &'a [u64],
}

const IDLE: Fixed<'_> = Fixed { away: &[], loads: &[] };

impl Endpoints for Fixed<'_> {
    fn is_available(&self, at: usize) -> bool {
        !self.away.contains(&at)
    }
    fn load(&self, at: usize) -> u64 {
        self.loads.get(at).copied().unwrap_or_default()
    }
}

fn balancer(count: usize, algorithm: Algorithm) -> Balancer {
    let names: Vec<String> = (0..count).map(|at| format!("10.0.0.{at}:80")).collect();
    Balancer::new(names.iter().map(String::as_str), algorithm)
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
        let endpoints = Fixed { away, loads: &[] };
        let each = 12_000 / (4 - away.len());
        let round_robin = counts(Algorithm::RoundRobin, &endpoints, 12_000);
        let random = counts(Algorithm::LeastRequests, &endpoints, 12_000);
        for at in 0..4 {
            let expected = if away.contains(&at) { 0 } else { each };
            assert!(round_robin[at].abs_diff(expected) <= 1, "{round_robin:?} without {away:?}");
            assert!(random[at].abs_diff(expected) <= expected / 8, "{random:?} without {away:?}");
        }
    }
    let alone = Fixed { away: &[0, 1, 3], loads: &[] };
    assert_eq!(counts(Algorithm::LeastRequests, &alone, 100), [0, 0, 100, 0]);
}

#[test]
fn few_available_among_many_are_found_and_share_evenly() {
    let balancer = balancer(200, Algorithm::LeastRequests);
    let away: Vec<usize> = (0..200).filter(|at| ![7, 8, 150].contains(at)).collect();
    let mut counts = [0_usize; 200];
    for _ in 0..3_000 {
        counts[balancer.pick(&Fixed { away: &away, loads: &[] }, &Tried::default(), None).unwrap()] += 1;
    }
    assert!([7, 8, 150].iter().all(|at| (800..1_200).contains(&counts[*at])), "{counts:?}");
}

#[test]
fn what_was_tried_is_not_picked_again() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequests] {
        for key in [None, Some(7)] {
            let balancer = balancer(4, algorithm);
            let endpoints = Fixed { away: &[1], loads: &[] };
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
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequests] {
        for key in [None, Some(7)] {
            let balancer = balancer(2, algorithm);
            let gone = Fixed { away: &[0, 1], loads: &[] };
            let mut tried = Tried::default();
            tried.insert(balancer.pick(&gone, &tried, key).unwrap());
            assert_eq!(balancer.pick(&gone, &tried, key), None);
        }
    }
}

#[test]
fn the_busier_of_two_is_left_alone() {
    let balancer = balancer(2, Algorithm::LeastRequests);
    let busy = Fixed { away: &[], loads: &[10, 0] };
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
        let after = balancer.pick(&Fixed { away: &[2], loads: &[] }, &Tried::default(), key).unwrap();
        assert!(before == after || before == 2, "{before} became {after}");
        assert_ne!(after, 2);
    }
}
