use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::model::Weight;

/// A split of versions `v0`, `v1`, … with these weights in basis points.
fn split(weights: &[u16]) -> Split {
    let named = |(at, weight): (usize, &u16)| {
        (format!("v{at}").into(), Weight::from_basis_points(*weight).expect("at most 100 %"))
    };
    Split::new(weights.iter().enumerate().map(named).collect()).expect("a valid split")
}

/// Random weights of `versions` versions, about a quarter of them 0, that sum to 100 %.
fn weights(versions: usize) -> impl Strategy<Value = Vec<u16>> {
    let coarse = prop::sample::select(vec![1_u16, 10, 50, 100, 500, 1_000]);
    (prop::collection::vec(prop_oneof![3 => 1_u32..10_000, 1 => Just(0)], versions), coarse, 0..versions).prop_map(
        |(parts, coarse, rest)| {
            let sum = parts.iter().sum::<u32>().max(1);
            let scaled = |part: &u32| u16::try_from(part * 10_000 / sum).expect("at most 10 000") / coarse * coarse;
            let mut weights: Vec<u16> = parts.iter().map(scaled).collect();
            let missing = 10_000 - weights.iter().sum::<u16>();
            weights[rest] += missing;
            weights
        },
    )
}

fn any_weights() -> impl Strategy<Value = Vec<u16>> {
    (2_usize..=8).prop_flat_map(weights)
}

/// The naive model: what each version should have had, and what it had, since the beginning.
#[derive(Default)]
struct Tally {
    share: Vec<i64>,
    count: Vec<i64>,
}

impl Tally {
    fn of(versions: usize) -> Self {
        Self { share: vec![0; versions], count: vec![0; versions] }
    }

    fn step(&mut self, weights: &[u16], chosen: usize) {
        assert!(weights[chosen] > 0, "a version with weight 0 was chosen");
        for (share, weight) in self.share.iter_mut().zip(weights) {
            *share += i64::from(*weight);
        }
        self.count[chosen] += 1;
    }

    /// The largest error of any version, in ten-thousandths of a request.
    fn error(&self) -> i64 {
        self.errors().into_iter().map(i64::abs).max().unwrap_or(0)
    }

    fn errors(&self) -> Vec<i64> {
        self.share.iter().zip(&self.count).map(|(share, count)| share - count * UNIT).collect()
    }
}

/// Plays `phases` of weights and numbers of requests one after the other, each compiled from the last, and
/// returns the worst error ever seen against the sum of all shares.
fn play(phases: &[(Vec<u16>, usize)]) -> i64 {
    let mut tally = Tally::of(phases.first().map_or(0, |(weights, _)| weights.len()));
    let mut worst = 0;
    let mut splitter = None::<Splitter>;
    for (weights, requests) in phases {
        let split = split(weights);
        let next = Splitter::compile(&split, splitter.as_ref(), &mut Schedules::default());
        for _ in 0..*requests {
            tally.step(weights, next.choose());
            worst = worst.max(tally.error());
        }
        drop(splitter.replace(next));
        assert_eq!(
            splitter.as_ref().map(|splitter| splitter.deficits(&split)),
            Some(tally.errors()),
            "the ledger is right"
        );
    }
    worst
}

fn phases(versions: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<(Vec<u16>, usize)>> {
    versions.prop_flat_map(|versions| prop::collection::vec((weights(versions), 0_usize..60), 1..30))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_is_within_one_request_of_its_share(weights in any_weights(), requests in 1_usize..25_000) {
        let active = weights.iter().filter(|weight| **weight > 0).count();
        let tijdeman = if active < 2 { 0 } else { UNIT - UNIT / (2 * i64::try_from(active)? - 2) };
        prop_assert!(play(&[(weights, requests)]) <= tijdeman, "Tijdeman's bound, {tijdeman}");
    }

    #[test]
    fn every_window_is_within_two_requests_of_its_share_and_of_two_versions_within_one(
        weights in any_weights(), before in 0_usize..12_000, requests in 1_usize..12_000,
    ) {
        let splitter = Splitter::compile(&split(&weights), None, &mut Schedules::default());
        (0..before).for_each(|_| _ = splitter.choose());
        let mut tally = Tally::of(weights.len());
        let bound = if weights.iter().filter(|weight| **weight > 0).count() < 3 { UNIT } else { 2 * UNIT };
        for _ in 0..requests {
            tally.step(&weights, splitter.choose());
            prop_assert!(tally.error() < bound);
        }
    }

    #[test]
    fn a_storm_of_changes_leaves_two_or_three_versions_within_one_request(phases in phases(2_usize..=3)) {
        prop_assert!(play(&phases) < UNIT);
    }

    #[test]
    fn a_storm_of_changes_leaves_up_to_eight_versions_within_two_requests(phases in phases(4_usize..=8)) {
        prop_assert!(play(&phases) < 2 * UNIT);
    }

    #[test]
    fn each_phase_of_two_versions_is_also_exact_by_itself(phases in phases(2_usize..=2)) {
        let mut splitter = None::<Splitter>;
        for (weights, requests) in phases {
            let next = Splitter::compile(&split(&weights), splitter.as_ref(), &mut Schedules::default());
            let mut tally = Tally::of(2);
            for _ in 0..requests {
                tally.step(&weights, next.choose());
                prop_assert!(tally.error() < UNIT);
            }
            splitter = Some(next);
        }
    }

    #[test]
    fn versions_that_come_and_go_leave_nobody_owed_more_than_a_request(
        phases in prop::collection::vec((weights(3), 0_usize..5, 0_usize..30), 1..30),
    ) {
        let mut splitter = None::<Splitter>;
        for (weights, absent, requests) in phases {
            // The file drops one version and names another; its weight goes to the first that is left.
            let named: Vec<(Name, Weight)> = weights.iter().zip((0..5).filter(|name| *name != absent))
                .map(|(weight, name)| (format!("v{name}").into(), Weight::from_basis_points(*weight).unwrap()))
                .collect();
            let split = Split::new(named).unwrap();
            let next = Splitter::compile(&split, splitter.as_ref(), &mut Schedules::default());
            (0..requests).for_each(|_| _ = next.choose());
            splitter = None;
            let deficit = next.deficits(&split);
            prop_assert!(deficit.iter().all(|deficit| deficit.abs() < 2 * UNIT), "{deficit:?}");
            splitter.replace(next);
        }
    }
}

#[test]
fn ninety_to_ten_gives_the_canary_1000_of_any_10_000() {
    let splitter = Splitter::compile(&split(&[9_000, 1_000]), None, &mut Schedules::default());
    let chosen: Vec<usize> = (0..30_000).map(|_| splitter.choose()).collect();
    for window in chosen.windows(10_000).step_by(7) {
        assert_eq!(window.iter().sum::<usize>(), 1_000);
    }
}

#[test]
fn a_change_at_every_few_requests_does_not_starve_the_canary() {
    for versions in [vec![9_000, 1_000], vec![9_000, 500, 500], vec![8_000, 1_000, 500, 500]] {
        for every in 1..=12 {
            let mut other = versions.clone();
            other[0] -= 100;
            other[1] += 100;
            let phases: Vec<_> = (0..600).map(|at| ([&versions, &other][at % 2].clone(), every)).collect();
            assert!(play(&phases) < UNIT * 5 / 4, "{versions:?} changed every {every} requests");
        }
    }
}

#[test]
fn switching_a_canary_off_and_on_pays_what_it_was_owed() {
    for every in 1..=12 {
        let phases: Vec<_> = (0..600).map(|at| (vec![[9_000, 10_000][at % 2], [1_000, 0][at % 2]], every)).collect();
        assert!(play(&phases) < UNIT, "every {every} requests");
    }
}

#[test]
fn a_reload_without_a_change_goes_on_where_it_was() {
    for weights in [vec![6_667, 3_333], vec![5_000, 2_501, 2_499], vec![2_500; 4]] {
        let split = split(&weights);
        let mut reloaded = Splitter::compile(&split, None, &mut Schedules::default());
        let left_alone = Splitter::compile(&split, None, &mut Schedules::default());
        for _ in 0..500 {
            reloaded = Splitter::compile(&split, Some(&reloaded), &mut Schedules::default());
            assert_eq!(reloaded.choose(), left_alone.choose());
        }
    }
}

#[test]
fn another_order_in_the_file_changes_nothing() {
    let order = |names: [&str; 3]| {
        let weight = |name: &str| Weight::from_basis_points(if name == "a" { 8_000 } else { 1_000 }).unwrap();
        Split::new(names.iter().map(|name| (Name::from(*name), weight(name))).collect()).unwrap()
    };
    let (one, other) = (["a", "b", "c"], ["c", "a", "b"]);
    let mut splitter = Splitter::compile(&order(one), None, &mut Schedules::default());
    let plain = Splitter::compile(&order(one), None, &mut Schedules::default());
    for at in 0..100 {
        let names = if at % 2 == 0 { other } else { one };
        splitter = Splitter::compile(&order(names), Some(&splitter), &mut Schedules::default());
        assert_eq!(names[splitter.choose()], one[plain.choose()]);
    }
}

#[test]
fn a_snapshot_that_is_never_published_changes_nothing() {
    let split_now = split(&[7_000, 2_000, 1_000]);
    let live = Splitter::compile(&split_now, None, &mut Schedules::default());
    let plain = Splitter::compile(&split_now, None, &mut Schedules::default());
    for _ in 0..100 {
        drop(Splitter::compile(&split(&[1_000, 2_000, 7_000]), Some(&live), &mut Schedules::default()));
        assert_eq!(live.choose(), plain.choose());
    }
    assert!(live.ledger.lock().open.len() <= 2, "a discarded turn is closed by the next compilation");
}

/// Counts of `versions` that `threads` threads get when each calls `choose` of `splitters` in turn.
fn race(threads: usize, requests: usize, splitters: &[Splitter], versions: usize) -> Vec<i64> {
    let start = Barrier::new(threads);
    let mut counts = vec![0; versions];
    thread::scope(|scope| {
        let work = |own: usize| {
            let start = &start;
            move || {
                start.wait();
                let mut counts = vec![0_i64; versions];
                for at in 0..requests {
                    counts[splitters[(at / 10 + own) % splitters.len()].choose()] += 1;
                }
                counts
            }
        };
        let threads: Vec<_> = (0..threads).map(|own| scope.spawn(work(own))).collect();
        for thread in threads {
            for (total, count) in counts.iter_mut().zip(thread.join().expect("the thread ends well")) {
                *total += count;
            }
        }
    });
    counts
}

#[test]
fn the_total_over_all_threads_is_exact() {
    for weights in [vec![9_000, 1_000], vec![9_999, 1], vec![8_900, 1_000, 100, 0], vec![1_250; 8]] {
        for threads in 1..=8 {
            let splitter = Splitter::compile(&split(&weights), None, &mut Schedules::default());
            let counts = race(threads, 5_003, &[splitter], weights.len());
            let requests = i64::try_from(threads * 5_003).unwrap();
            for (count, weight) in counts.iter().zip(&weights) {
                assert!((count * UNIT - requests * i64::from(*weight)).abs() < UNIT, "{weights:?} {counts:?}");
            }
        }
    }
}

#[test]
fn two_versions_stay_exact_while_threads_use_old_and_new_weights_at_once() {
    let old = Splitter::compile(&split(&[9_000, 1_000]), None, &mut Schedules::default());
    let new = Splitter::compile(&split(&[3_333, 6_667]), Some(&old), &mut Schedules::default());
    let counts = race(8, 10_000, &[old, new], 2);
    // Each thread took half of its requests with each of the two.
    assert!((counts[1] * UNIT - 40_000 * (1_000 + 6_667)).abs() < UNIT, "{counts:?}");
}

#[test]
fn stragglers_on_an_old_schedule_are_off_by_less_than_two_and_paid_back_at_the_next_change() {
    let (before, after) = ([9_000, 500, 500], [8_000, 1_500, 500]);
    let mut tally = Tally::of(3);
    let mut old = Splitter::compile(&split(&before), None, &mut Schedules::default());
    for round in 0..200 {
        let [now, then] = if round % 2 == 0 { [&before, &after] } else { [&after, &before] };
        let new = Splitter::compile(&split(then), Some(&old), &mut Schedules::default());
        for _ in 0..round % 23 {
            tally.step(now, old.choose());
        }
        for _ in 0..7 {
            tally.step(then, new.choose());
            assert!(tally.error() < 3 * UNIT, "{:?}", tally.errors());
        }
        old = new;
        assert_eq!(old.deficits(&split(then)), tally.errors());
    }
    let settled = Splitter::compile(&split(&[8_500, 1_000, 500]), Some(&old), &mut Schedules::default());
    for _ in 0..20 {
        tally.step(&[8_500, 1_000, 500], settled.choose());
    }
    for _ in 0..1_000 {
        tally.step(&[8_500, 1_000, 500], settled.choose());
        assert!(tally.error() < UNIT);
    }
}

#[test]
fn any_schedule_settles_within_three_periods() {
    let mut longest = 0;
    for seed in 0..40_i64 {
        let deficit = [seed * 97 % 9_999, -(seed * 331 % 9_999), seed * 61 % 4_000];
        let last = -deficit.iter().sum::<i64>();
        let schedule = Schedule::compile(&[(5_000, deficit[0]), (3_000, deficit[1]), (1_500, deficit[2]), (500, last)]);
        longest = longest.max(schedule.once / schedule.period);
    }
    assert!(longest <= 2, "{longest}");
}
