//! The written order against nginx's algorithm, turn by turn.

use proptest::prelude::*;

use super::*;

/// nginx's algorithm as it stands there: state that each request changes. Who is down neither gains nor is taken.
struct Naive {
    weights: Vec<i64>,
    current: Vec<i64>,
}

impl Naive {
    fn next(&mut self) -> usize {
        let mut best: Option<usize> = None;
        for at in 0..self.weights.len() {
            self.current[at] += self.weights[at];
            if best.is_none_or(|best| self.current[at] > self.current[best]) {
                best = Some(at);
            }
        }
        let best = best.unwrap();
        self.current[best] -= self.weights.iter().sum::<i64>();
        best
    }
}

fn round_robin(weights: &[u32]) -> RoundRobin {
    RoundRobin::new(&Weights::new(weights.iter().copied()), 0)
}

proptest! {
    #[test]
    fn turns_are_those_of_nginx(weights in prop::collection::vec(1_u32..=256, 1..12)) {
        let ours = round_robin(&weights);
        let mut naive = Naive { weights: weights.iter().map(|w| i64::from(*w)).collect(), current: vec![0; weights.len()] };
        for turn in 0..3 * weights.iter().sum::<u32>() {
            prop_assert_eq!(ours.pick(|_| true), Some(naive.next()), "turn {} of {:?}", turn, weights);
        }
    }

    #[test]
    fn those_that_are_open_share_by_weight_what_others_do_not_take(
        weights in prop::collection::vec(1_u32..=8, 2..8), away in any::<u8>(),
    ) {
        let open: Vec<usize> = (0..weights.len()).filter(|at| away & (1 << at) == 0).collect();
        prop_assume!(!open.is_empty());
        let ours = round_robin(&weights);
        let total: u32 = open.iter().map(|at| weights[*at]).sum();
        let mut counts = vec![0; weights.len()];
        for _ in 0..total * 10 {
            counts[ours.pick(|at| open.contains(&at)).unwrap()] += 1;
        }
        let divisor = weights.iter().fold(0, |a, b| greatest_common_divisor(a, *b));
        for at in 0..weights.len() {
            let expected = if open.contains(&at) { weights[at] * 10 } else { 0 };
            // A period is the shortest one, so ten of the whole weights are whole periods.
            prop_assert!(counts[at] == expected, "{:?} of {:?}, {:?} open, divisor {}", counts, weights, open, divisor);
        }
    }
}

proptest! {
    // Each writes down up to eight million steps.
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_period_is_bounded_and_nearly_right_however_many_weights(
        weights in prop::collection::vec(1_u32..=65_536, 1..300),
    ) {
        let order = round_robin(&weights).order;
        if let Some(order) = order {
            prop_assert!(order.len() as u64 <= MAX_TURNS);
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (at, weight) in weights.iter().enumerate() {
                let turns = order.iter().filter(|turn| usize::from(**turn) == at).count();
                prop_assert!(turns > 0);
                let (share, wanted) = (turns as f64 / order.len() as f64, f64::from(*weight) / total);
                prop_assert!((share - wanted).abs() <= 0.02, "{at}: {share} instead of {wanted}");
            }
        }
    }
}

#[test]
fn heavy_endpoints_are_spread() {
    let ours = round_robin(&[5, 1, 1]);
    let turns: Vec<_> = (0..7).map(|_| ours.pick(|_| true).unwrap()).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn equal_weights_need_no_table() {
    assert!(round_robin(&[7; 1_000]).order.is_none());
}
