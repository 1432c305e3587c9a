//! Rollouts by the thousand, with fixed seeds: how often a good canary is condemned, how soon a bad one is.

use crate::algorithm::random::SplitMix64;

use super::{SequentialTest, Tally, TallyPair, observe};

/// 99 %.
const PROOF: f64 = 0.01;

struct Random(SplitMix64);

impl Random {
    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.0.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `requests` are bad at the share `p`, between 0 and 1: by the gaps between bad ones, which are
    /// geometric.
    fn bad(&mut self, requests: u64, p: f64) -> Tally {
        let (mut bad, mut at) = (0, 0.0);
        loop {
            at += (self.unit().ln() / (-p).ln_1p()).floor() + 1.0;
            if at > requests as f64 {
                return Tally { requests, bad };
            }
            bad += 1;
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.0.next() % all.len() as u64).unwrap()]
    }
}

/// One rollout: the canary's requests in each observation, of so many percent of the traffic; the shares of bad
/// requests by observation.
struct Rollout<F> {
    observations: u64,
    requests: u64,
    share: u64,
    margin: f64,
    truth: F,
}

impl<F: Fn(u64) -> (f64, f64)> Rollout<F> {
    /// The observation (from 1) at which the canary was shown to be worse.
    fn run(&self, random: &mut Random) -> Option<u64> {
        let mut test = SequentialTest::new(self.margin);
        let stable = self.requests * (100 - self.share) / self.share;
        (1..=self.observations).find(|observation| {
            let truth = (self.truth)(*observation);
            let (canary, stable) = (random.bad(self.requests, truth.0), random.bad(stable, truth.1));
            observe(&mut test, TallyPair { canary, stable });
            test.p() <= PROOF
        })
    }
}

/// Of the traffic, in percent.
const SHARES: [u64; 6] = [1, 2, 5, 10, 25, 50];
const RATES: [f64; 6] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05];

/// How many of 1,000 rollouts of 25 observations condemn a canary that is exactly `worse` than stable, over all rates
/// and shares. The rate rises and falls over the rollout by the factor `tide`, for both versions.
fn condemned(seed: u64, margin: f64, worse: f64, tide: f64) -> usize {
    let mut random = Random(SplitMix64(seed));
    let condemned = (0..1_000).filter(|_| {
        let (rate, share) = (random.one_of(&RATES), random.one_of(&SHARES));
        let all = random.one_of(&[100, 1_000, 4_000]);
        let requests = (all * share / 100).max(1);
        let truth = |observation: u64| {
            let rate = if observation % 10 < 5 { rate } else { rate * tide };
            (rate + worse, rate)
        };
        Rollout { observations: 25, requests, share, margin, truth }.run(&mut random).is_some()
    });
    condemned.count()
}

#[test]
fn a_thousand_good_canaries_give_at_most_five_false_alarms() {
    for seed in 1..=3 {
        let condemned = condemned(seed, 0.0, 0.0, 1.0);
        assert!(condemned <= 5, "seed {seed}: {condemned} of 1,000 canaries that are as good as stable");
    }
}

#[test]
fn a_thousand_canaries_at_the_edge_of_the_margin_give_at_most_five_false_alarms() {
    let condemned = condemned(4, 0.5, 0.005, 1.0);
    assert!(condemned <= 5, "{condemned} of 1,000 canaries that are as much worse as they may be");
}

#[test]
fn errors_that_rise_and_fall_for_both_are_no_evidence() {
    for (seed, margin, worse) in [(5, 0.0, 0.0), (6, 0.5, 0.005)] {
        let condemned = condemned(seed, margin, worse, 8.0);
        assert!(condemned <= 5, "{condemned} of 1,000 canaries at margin {margin} in changing weather");
    }
}

#[test]
fn looking_once_a_second_for_an_hour_is_safe_too() {
    let mut random = Random(SplitMix64(7));
    let rollout = Rollout { observations: 3_600, requests: 3, share: 10, margin: 0.0, truth: |_| (0.01, 0.01) };
    let condemned = (0..40).filter(|_| rollout.run(&mut random).is_some()).count();
    // 99 % allows 0.4 of them on average, and more than two in fewer than 1 of 100 such tests.
    assert!(condemned <= 2, "{condemned} of 40");
}

/// Of 400 canaries with 2 % errors against 0.2 %, the share that is caught within 2,000 canary requests in 25
/// observations.
fn caught(seed: u64, share: u64, margin: f64) -> f64 {
    let mut random = Random(SplitMix64(seed));
    let rollout = Rollout { observations: 25, requests: 80, share, margin, truth: |_| (0.02, 0.002) };
    (0..400).filter(|_| rollout.run(&mut random).is_some()).count() as f64 / 400.0
}

#[test]
fn a_canary_with_ten_times_the_errors_is_caught_within_two_thousand_requests() {
    for (at, share) in SHARES.into_iter().enumerate() {
        let caught = caught(10 + at as u64, share, 0.0);
        assert!(caught >= 0.95, "{caught} at {share} % of the traffic");
    }
}

#[test]
fn with_a_margin_of_half_a_point_it_is_caught_as_well() {
    for (at, share) in SHARES.into_iter().enumerate() {
        let caught = caught(20 + at as u64, share, 0.5);
        // Where the canary has much of the traffic, stable has as few requests to know its share by: who knew all
        // shares beforehand would catch 97 % at a quarter and 92 % at half of the traffic.
        let least = match share {
            50.. => 0.75,
            25.. => 0.9,
            _ => 0.95,
        };
        assert!(caught >= least, "{caught} at {share} % of the traffic");
    }
}

#[test]
fn a_canary_that_turns_bad_late_is_caught_soon() {
    let mut random = Random(SplitMix64(30));
    let truth = |observation| (if observation <= 100 { 0.002 } else { 0.02 }, 0.002);
    let rollout = Rollout { observations: 120, requests: 400, share: 10, margin: 0.5, truth };
    let found: Vec<_> = (0..100).map(|_| rollout.run(&mut random)).collect();
    let caught = found.iter().filter(|observation| observation.is_some_and(|observation| observation > 100)).count();
    assert!(caught >= 95, "{caught} of 100 within 20 observations of turning bad: {found:?}");
}
