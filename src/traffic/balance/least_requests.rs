//! Two endpoints at random, the one with less in flight.
//!
//! Mitzenmacher, *The power of two choices in randomized load balancing*, IEEE TPDS 12, 2001: nearly as even as looking
//! at all of them, and no herd runs to the one that happens to be idle.
//!
//! With weights, each is drawn as often as its weight says, and of the two the one with less in flight for its weight is
//! taken. So idle endpoints get their shares by weight, and busy ones are filled by weight. (Envoy draws evenly and
//! compares only where all weights are alike; otherwise it schedules by `weight / (active + 1)`, under a lock.)

use super::weights::{Weights, below};

/// How often a number is drawn again because the endpoint is not open, before open ones are counted.
const DRAWS: usize = 4;

/// The part of its weight that an endpoint counts with, in thousandths, when it counts whole.
pub(super) const WHOLE: u32 = 1_000;

/// What a pick goes by: weights, who is open, in-flight requests, and thousandths of its weight that each counts with.
pub(super) struct Candidates<'a, O, L, P> {
    pub(super) weights: &'a Weights,
    pub(super) is_open: O,
    pub(super) load: L,
    pub(super) part: P,
}

impl<O: Fn(usize) -> bool, L: Fn(usize) -> u64, P: Fn(usize) -> u32> Candidates<'_, O, L, P> {
    /// An open endpoint: of two drawn at random, the one with the smaller load for its weight.
    pub(super) fn pick(&self, random: &impl Fn() -> u64) -> Option<usize> {
        if self.weights.len() == 1 {
            return (self.is_open)(0).then_some(0);
        }
        let first = self.draw(random)?;
        let second = self.draw(random)?;
        Some(if self.is_less_busy(second, first) { second } else { first })
    }

    fn is_less_busy(&self, one: usize, other: usize) -> bool {
        // Of two idle ones the first stays, or the heavier would get more than its share.
        (self.load)(one).saturating_mul(self.weight(other)) < (self.load)(other).saturating_mul(self.weight(one))
    }

    fn weight(&self, at: usize) -> u64 {
        self.weights.of(at) * u64::from((self.part)(at))
    }

    /// Any open endpoint, each as often as its weight says.
    fn draw(&self, random: &impl Fn() -> u64) -> Option<usize> {
        for _ in 0..DRAWS {
            let at = self.weights.draw(random)?;
            if (self.is_open)(at) && self.counts(at, random) {
                return Some(at);
            }
        }
        self.draw_counted(random)
    }

    /// Whether an endpoint that counts in part only counts now.
    pub(super) fn counts(&self, at: usize, random: &impl Fn() -> u64) -> bool {
        let part = (self.part)(at);
        part >= WHOLE || below(WHOLE.into(), random).is_some_and(|drawn| drawn < part.into())
    }

    /// Draws where few endpoints are open: weighs them first.
    #[cold]
    pub(super) fn draw_counted(&self, random: &impl Fn() -> u64) -> Option<usize> {
        let open = || (0..self.weights.len()).filter(|at| (self.is_open)(*at));
        let mut left = below(open().map(|at| self.weight(at)).sum(), random)?;
        let mut last = None;
        for at in open() {
            last = Some(at);
            match left.checked_sub(self.weight(at)) {
                Some(rest) => left = rest,
                None => return Some(at),
            }
        }
        // The last open one closed in between.
        last
    }
}
