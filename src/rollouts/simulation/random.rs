//! Random numbers of the distributions that traffic is made of; the seed decides them all.

use crate::algorithm::random::SplitMix64;

/// A sequence of random numbers.
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    /// In (0, 1].
    pub(super) fn unit(&mut self) -> f64 {
        ((self.0.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens that has this chance.
    pub(super) fn happens(&mut self, chance: f64) -> bool {
        self.unit() <= chance
    }

    /// Between the two, the first included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next() % (high - low).max(1)
    }

    /// How many of `trials` happen, each with this chance: by the gaps between them, which are geometric.
    pub(super) fn binomial(&mut self, trials: u64, chance: f64) -> u64 {
        if chance <= 0.0 {
            return 0;
        }
        if chance >= 0.5 {
            return trials - self.binomial_below_half(trials, 1.0 - chance);
        }
        self.binomial_below_half(trials, chance)
    }

    fn binomial_below_half(&mut self, trials: u64, chance: f64) -> u64 {
        if chance <= 0.0 {
            return 0;
        }
        let (mut count, mut at, scale) = (0, 0.0, (-chance).ln_1p());
        loop {
            at += (self.unit().ln() / scale).floor() + 1.0;
            if at > trials as f64 {
                return count;
            }
            count += 1;
        }
    }

    /// So many things put into boxes that are this likely each.
    pub(super) fn multinomial(&mut self, count: u64, weights: &[f64]) -> Vec<u64> {
        let mut rest: f64 = weights.iter().sum();
        let mut left = count;
        let mut boxes = Vec::new();
        for weight in weights {
            let here = if rest > 0.0 { self.binomial(left, (weight / rest).clamp(0.0, 1.0)) } else { 0 };
            boxes.push(here);
            left -= here;
            rest -= weight;
        }
        boxes
    }

    /// In another order.
    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.between(0, last as u64 + 1);
            all.swap(last, usize::try_from(other).unwrap());
        }
    }

    /// So many of the places `0..all`, rising.
    pub(super) fn places(&mut self, all: u64, mut count: u64) -> Vec<u64> {
        let mut places = Vec::new();
        for place in 0..all {
            if count == 0 {
                break;
            }
            if self.happens(count as f64 / (all - place) as f64) {
                places.push(place);
                count -= 1;
            }
        }
        places
    }

    /// A share that is beta distributed with this mean, so that requests that have it in common are correlated by
    /// `correlation`.
    pub(super) fn beta(&mut self, mean: f64, correlation: f64) -> f64 {
        let scale = (1.0 - correlation) / correlation;
        let (a, b) = (self.gamma(mean * scale), self.gamma((1.0 - mean) * scale));
        if a + b > 0.0 { a / (a + b) } else { mean }
    }

    /// Gamma distributed (Marsaglia and Tsang, ACM TOMS 26, 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.unit().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Normally distributed (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }
}
