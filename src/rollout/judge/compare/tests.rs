//! The sequential test: exactly, by enumeration of small blocks, and by simulated rollouts with fixed seeds.

use super::{SequentialTest, Tally, TallyPair, log_growth};

mod simulation;

fn tally(requests: u64, bad: u64) -> Tally {
    Tally { requests, bad }
}

fn totals(canary: (u64, u64), stable: (u64, u64)) -> TallyPair {
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
            sum += chance * log_growth(totals((requests.0, canary), (requests.1, stable)), guess, margin).exp();
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
    test.observe(totals((1_000, 10), (9_000, 20)));
    assert_eq!(test.judged(), TallyPair::default(), "the first observation is where counting starts");
    test.observe(totals((1_100, 12), (9_900, 22)));
    let (judged, p) = (test.judged(), test.p());
    assert_eq!(judged, totals((100, 2), (900, 2)));
    for _ in 0..100 {
        test.observe(totals((1_100, 12), (9_900, 22)));
    }
    assert_eq!((test.judged(), test.p().to_bits()), (judged, p.to_bits()), "nothing new says nothing new");
}

#[test]
fn a_block_waits_for_requests_of_both() {
    let mut test = SequentialTest::new(0.0);
    test.observe(TallyPair::default());
    test.observe(totals((50, 50), (0, 0)));
    test.observe(totals((80, 80), (0, 0)));
    assert_eq!((test.judged(), test.p()), (TallyPair::default(), 1.0));
    test.observe(totals((80, 80), (100, 0)));
    assert_eq!(test.judged(), totals((80, 80), (100, 0)));
    assert!(test.p() < 1e-6, "{}", test.p());
}

#[test]
fn totals_that_begin_again_do_not_count_as_requests() {
    let mut test = SequentialTest::new(0.0);
    test.observe(TallyPair::default());
    test.observe(totals((500, 5), (5_000, 10)));
    let before = test.clone();
    // A counter that became smaller is a new one.
    test.observe(totals((400, 200), (4_000, 8)));
    assert_eq!((test.judged(), test.p().to_bits()), (before.judged(), before.p().to_bits()));
    test.observe(totals((410, 200), (4_100, 8)));
    assert_eq!(test.judged(), totals((510, 5), (5_100, 10)));
    // After a restart a counter may have passed the old one before anybody looked.
    test.resume();
    test.observe(totals((600, 600), (6_000, 12)));
    assert_eq!(test.judged(), totals((510, 5), (5_100, 10)));
    assert_eq!(test.p().to_bits(), before.p().to_bits());
}

#[test]
fn evidence_stays() {
    let mut test = SequentialTest::new(0.5);
    test.observe(TallyPair::default());
    test.observe(totals((400, 40), (4_000, 8)));
    let p = test.p();
    assert!(p < 0.01, "{p}");
    test.observe(totals((40_400, 40), (404_000, 800)));
    assert_eq!(test.p().to_bits(), p.to_bits());
}

#[test]
fn the_state_survives_storing() {
    let mut test = SequentialTest::new(0.5);
    test.observe(totals((10, 0), (70, 1)));
    test.observe(totals((400, 9), (4_000, 8)));
    let mut back: SequentialTest = serde_json::from_str(&serde_json::to_string(&test).unwrap()).unwrap();
    for each in [&mut test, &mut back] {
        each.observe(totals((900, 30), (9_000, 18)));
    }
    assert_eq!(back.judged(), test.judged());
    assert!((back.p() / test.p() - 1.0).abs() < 1e-9);
}

#[test]
fn absurd_counts_stay_numbers() {
    let mut test = SequentialTest::new(0.0);
    test.observe(TallyPair::default());
    let mut all = TallyPair::default();
    for round in 0..200_u64 {
        let much = 1 << (round % 50);
        all.canary += tally(much, if round % 2 == 0 { much } else { 0 });
        all.stable += tally(much, if round % 3 == 0 { much } else { 0 });
        test.observe(all);
        assert!(test.p().is_finite() && test.capital.iter().all(|capital| capital.is_finite()));
    }
    assert_eq!(test.judged(), all);
    for margin in [100.0, 99.9, -3.0] {
        let mut test = SequentialTest::new(margin);
        test.observe(TallyPair::default());
        test.observe(totals((1_000, 1_000), (1_000, 0)));
        assert!(test.p().is_finite());
    }
}
