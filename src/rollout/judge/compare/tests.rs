//! The sequential test: exactly, by enumeration of small blocks, and by simulated rollouts with fixed seeds.

use std::time::Duration;

use super::{Past, RealTally, SequentialTest, Tally, TallyPair, log_growth};
use crate::rollout::evidence::{ClientTallies, Dispersion};

mod simulation;

fn tally(requests: u64, bad: u64) -> Tally {
    Tally { requests, bad }
}

const INTERVAL: Duration = Duration::from_secs(10);

/// Takes a block of requests that are independent of each other.
fn observe(test: &mut SequentialTest, block: TallyPair) {
    test.observe(block, INTERVAL, &Past::default(), (ClientTallies::default(), false));
}

fn block(canary: (u64, u64), stable: (u64, u64)) -> TallyPair {
    TallyPair { canary: tally(canary.0, canary.1), stable: tally(stable.0, stable.1) }
}

/// The chance of exactly `bad` of `requests` at the share `p`.
fn binomial(requests: u64, bad: u64, p: f64) -> f64 {
    let ways: f64 = (0..bad).map(|at| (requests - at) as f64 / (bad - at) as f64).product();
    ways * p.powi(i32::try_from(bad).unwrap()) * (1.0 - p).powi(i32::try_from(requests - bad).unwrap())
}

/// What a bet is expected to bring: the sum over all outcomes of a block.
fn expected(requests: (u64, u64), truth: (f64, f64), guess: (f64, f64), margin: f64) -> f64 {
    let mut sum = 0.0;
    for canary in 0..=requests.0 {
        for stable in 0..=requests.1 {
            let chance = binomial(requests.0, canary, truth.0) * binomial(requests.1, stable, truth.1);
            let real = |all, bad| RealTally::of(tally(all, bad), 1.0);
            sum += chance
                * log_growth(&real(requests.0, canary), &real(requests.1, stable), requests.1 as f64, guess, margin)
                    .exp();
        }
    }
    sum
}

#[test]
fn no_bet_on_a_small_block_wins_anything_while_the_claim_is_true() {
    let shares = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.999];
    let mut closest = 0.0_f64;
    for requests in [(1, 1), (1, 9), (5, 1), (3, 4), (8, 30), (12, 12)] {
        for margin in [0.0, 0.005, 0.1] {
            for (stable, worse) in [(0.002, 0.001), (0.005, 0.01), (0.05, 0.1), (0.3, 0.3), (0.5, 0.03)] {
                let guess = (stable + margin + worse, stable);
                for truth in shares {
                    // On the edge of the claim and inside it.
                    for canary in [truth + margin, truth + margin / 2.0, truth * 0.9, 0.0] {
                        let expected = expected(requests, (f64::min(canary, 1.0), truth), guess, margin);
                        assert!(expected <= 1.0 + 1e-9, "{requests:?} {margin} {guess:?} {canary} {truth}: {expected}");
                        closest = closest.max(expected);
                    }
                }
            }
        }
    }
    assert!(closest > 1.0 - 1e-6, "a bet that always loses proves nothing: {closest}");
}

#[test]
fn a_bet_wins_where_the_canary_is_worse() {
    assert!(expected((12, 12), (0.35, 0.05), (0.35, 0.05), 0.0) > 1.2);
    assert!(expected((12, 12), (0.35, 0.05), (0.35, 0.05), 0.1) > 1.05);
}

#[test]
fn every_request_counts_once() {
    let mut test = SequentialTest::new(0.0);
    observe(&mut test, block((100, 2), (900, 2)));
    let (judged, p) = (test.judged(), test.p());
    assert_eq!(judged, block((100, 2), (900, 2)));
    for _ in 0..100 {
        observe(&mut test, TallyPair::default());
    }
    assert_eq!((test.judged(), test.p().to_bits()), (judged, p.to_bits()), "nothing new says nothing new");
}

#[test]
fn a_block_waits_for_requests_of_both() {
    let mut test = SequentialTest::new(0.0);
    observe(&mut test, block((50, 50), (0, 0)));
    observe(&mut test, block((30, 30), (0, 0)));
    assert_eq!((test.judged(), test.p()), (TallyPair::default(), 1.0));
    observe(&mut test, block((0, 0), (100, 0)));
    assert_eq!(test.judged(), block((80, 80), (100, 0)));
    assert!(test.p() < 1e-6, "{}", test.p());
}

/// What is known of a stable version with these requests in an hour.
fn past(requests: u64, bad: u64) -> Past {
    Past {
        tally: tally(requests, bad),
        dispersion: Dispersion::default(),
        covered: 360 * INTERVAL,
        worst_minute: 0.003,
    }
}

#[test]
fn where_the_canary_has_everything_it_is_compared_with_what_stable_did() {
    let alone = |bad: u64| {
        let mut test = SequentialTest::new(0.5);
        for _ in 0..30 {
            test.observe(block((1_000, bad), (0, 0)), INTERVAL, &past(200_000, 400), (ClientTallies::default(), true));
        }
        assert_eq!(test.judged().canary, tally(30_000, 30 * bad));
        test.p()
    };
    assert!(alone(2) > 0.9 && alone(6) > 0.5, "as good as stable, and within the margin");
    assert!(alone(20) < 1e-6, "ten times the errors");
    let mut unknown = SequentialTest::new(0.5);
    unknown.observe(block((1_000, 500), (0, 0)), INTERVAL, &Past::default(), (ClientTallies::default(), true));
    assert_eq!(unknown.judged(), TallyPair::default(), "without a past there is nothing to compare with");
}

#[test]
fn a_restart_forgets_nothing_of_stable() {
    let mut test = SequentialTest::new(0.5);
    test.observe(block((1_000, 2), (9_000, 18)), INTERVAL, &past(200_000, 400), (ClientTallies::default(), false));
    let mut back: SequentialTest = serde_json::from_str(&serde_json::to_string(&test).unwrap()).unwrap();
    (0..30).for_each(|_| {
        back.observe(block((1_000, 20), (0, 0)), INTERVAL, &Past::default(), (ClientTallies::default(), true))
    });
    assert!(back.p() < 1e-6, "{}", back.p());
    assert_eq!(back.uncompared(), 0);
}

#[test]
fn worse_than_the_worst_minute_of_stable_is_found() {
    let alone = |bad: u64| {
        let mut test = SequentialTest::new(0.5);
        let past = Past { worst_minute: 0.3, ..past(200_000, 400) };
        (0..30)
            .for_each(|_| test.observe(block((1_000, bad), (0, 0)), INTERVAL, &past, (ClientTallies::default(), true)));
        test.p()
    };
    assert!(alone(300) > 0.5 && alone(400) < 1e-6, "{} {}", alone(300), alone(400));
}

#[test]
fn what_comes_in_clusters_says_less() {
    let p = |short: f64| {
        let past = Past { dispersion: Dispersion::fixed(short), ..past(200_000, 400) };
        let mut test = SequentialTest::new(0.0);
        (0..6).for_each(|_| {
            test.observe(block((200, 3), (2_000, 4)), INTERVAL, &past, (ClientTallies::default(), false))
        });
        test.p()
    };
    assert!(p(0.0) < 0.01 && p(0.05) > 10.0 * p(0.0), "{} {}", p(0.0), p(0.05));
}

#[test]
fn evidence_stays() {
    let mut test = SequentialTest::new(0.5);
    observe(&mut test, block((400, 40), (4_000, 8)));
    let p = test.p();
    assert!(p < 0.01, "{p}");
    observe(&mut test, block((40_000, 0), (400_000, 792)));
    assert_eq!(test.p().to_bits(), p.to_bits());
}

#[test]
fn the_state_survives_storing() {
    let mut test = SequentialTest::new(0.5);
    observe(&mut test, block((390, 9), (3_930, 7)));
    observe(&mut test, block((3, 0), (0, 0)));
    let mut back: SequentialTest = serde_json::from_str(&serde_json::to_string(&test).unwrap()).unwrap();
    for each in [&mut test, &mut back] {
        observe(each, block((500, 21), (5_000, 10)));
    }
    assert_eq!(back.judged(), test.judged());
    assert!((back.p() / test.p() - 1.0).abs() < 1e-9);
}

#[test]
fn absurd_counts_stay_numbers() {
    let mut test = SequentialTest::new(0.0);
    let mut all = TallyPair::default();
    for round in 0..200_u64 {
        let much = 1 << (round % 50);
        let seen = block((much, if round % 2 == 0 { much } else { 0 }), (much, if round % 3 == 0 { much } else { 0 }));
        all.canary += seen.canary;
        all.stable += seen.stable;
        observe(&mut test, seen);
        assert!(test.p().is_finite() && test.capital.iter().all(|capital| capital.is_finite()));
    }
    assert_eq!(test.judged(), all);
    for margin in [100.0, 99.9, -3.0] {
        let mut test = SequentialTest::new(margin);
        observe(&mut test, block((1_000, 1_000), (1_000, 0)));
        assert!(test.p().is_finite());
    }
}
