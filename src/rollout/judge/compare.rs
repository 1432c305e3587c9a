//! Is the canary worse than stable? A test on counts of requests that may be looked at as often as one likes.
//!
//! An ordinary test at 99 % is wrong once in a hundred times *per observation*; looked at every ten seconds it
//! condemns most good canaries in the end. This one is a bet against the claim "the canary's share of bad requests is
//! at most the stable version's plus the margin". While that claim is true the bets win nothing on average, so by
//! Ville's inequality the chance that the capital, 1 at the start, *ever* reaches 1 / (1 − confidence) is at most 1 −
//! confidence: over all observations of a rollout together, however many there are and whoever chooses when to stop.
//!
//! ```text
//! counts since the last observation (a block): nₐ, kₐ of the canary; n_b, k_b of stable
//! guess, made before the block:   b = stable's share so far,  a = b + margin + δ          for each δ of a grid
//! nearest point of the claim:     (t + margin, t) that minimises nₐ·KL(a ‖ t + margin) + n_b·KL(b ‖ t)
//! capital on δ ×= (a/(t+margin))^kₐ ((1−a)/(1−t−margin))^(nₐ−kₐ) (b/t)^k_b ((1−b)/(1−t))^(n_b−k_b)
//! ```
//!
//! * The bet on one block is the E-variable of Turner, Ly & Grünwald, "Generic E-variables for exact sequential
//!   k-sample tests that allow for optional stopping" (J. Stat. Plan. Inference 230, 2024; arXiv 2106.02693), for a
//!   convex claim. Its expectation is at most 1 for any block sizes, small counts, and any guess: a bad guess costs
//!   power, never truth, as long as it does not know the block's outcomes. Why: the expectation is A^nₐ·B^n_b with A
//!   and B linear in the true shares; by the inequality of means it is at most (1 − g)^(nₐ+n_b), where g is the slope
//!   at the nearest point towards the true one, and that is not negative. The proof asks only that each block's
//!   requests on average keep the claim, so shares may drift over the day as long as they drift together.
//! * Capital on several guesses is a mixture, which is a bet as well (Waudby-Smith & Ramdas, "Estimating means of
//!   bounded random variables by betting", JRSS B 86, 2024; Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform,
//!   nonparametric, nonasymptotic confidence sequences", Ann. Stat. 49, 2021). On sequential tests of software under
//!   way: Lindon, Sanden & Shirikian, "Rapid regression detection in software deployments" (arXiv 2205.14762).
//! * Each block is compared only within itself. So neither a share that drifts over the day nor weights that move from
//!   step to step mix old requests of one version with new ones of the other.
//! * A part of the capital is held back and laid out bit by bit, so that a canary that turns bad after a long good
//!   time is caught too, and not only once its good past is outweighed.
//!
//! * The bets take requests as independent of each other, given their version. Where stable's own blocks show that errors
//!   come in clusters, or are those of a few clients that stay where they are, the counts of a block are divided by the
//!   design effect first: they say as much as fewer requests. That of clients is bounded by what the canary's groups show,
//!   those of the block among them; there the promise rests on simulation, not on the proof.
//! * Where the canary has much of the traffic, stable has as few requests to know its share by. Its share is then known by
//!   its last hour as well, unless the block shows that it is no longer what it was: what both suffer is compared within
//!   the block alone.
//! * Where the canary has everything there is no stable version to compare with at the same time. Then the claim is about
//!   the canary alone: its share is at most that of the worst minute of stable's last hour, plus the margin.
//!
//! Invariants: every request counts once; a block without requests of both versions is not bet on but grows until it has
//! them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::algorithm::binomial;
use crate::rollout::evidence::{ClientTallies, Dispersion, Past, Tally};

/// How much worse than the margin allows the canary is guessed to be, a tenth of a point to twenty points, and the part of
/// the capital that is laid out on it. Most is laid out where it takes long to find; what is much worse shows anyway.
const GUESSES: [(f64, f64); 6] = [(0.001, 0.04), (0.002, 0.06), (0.005, 0.42), (0.015, 0.3), (0.05, 0.13), (0.2, 0.05)];

/// The part of the capital that is held back at the start. A seventh costs ln(7/6), 0.2 of the 4.6 that 99 % takes.
const HELD_BACK: f64 = 0.15;

/// Stable's share before anything is known of it: half an error in a hundred requests.
const PRIOR: (f64, f64) = (0.5, 100.0);

/// So many of stable's requests are remembered for the guess; beyond that the older count half, so that it follows.
const REMEMBERED: f64 = 50_000.0;

/// Capital is not let grow beyond this: it is far more than any confidence asks, and stays a number.
const MOST: f64 = 1e100;

/// Halvings of the interval in which the nearest point of the claim is: to 2⁻⁴⁰ of its width,
/// which is nothing to any number of requests.
const HALVINGS: u32 = 40;

/// The state of one test, carried from analysis run to analysis run of one rollout. It can be stored and read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SequentialTest {
    /// How much worse the canary may be, as a ratio.
    margin: f64,
    /// What was seen since the last bet, and in which time.
    #[serde(default)]
    pending: (TallyPair, Duration),
    /// How long what the bets were about took.
    #[serde(default)]
    before: Duration,
    /// Stable's past that the canary is compared with once it has everything.
    #[serde(default)]
    baseline: Option<Tally>,
    /// The most that was known of stable's past: a restart, or other questions to it, begin that anew.
    #[serde(default)]
    past: Past,
    /// What the bets were about.
    judged: TallyPair,
    /// Stable's requests and bad ones, for the guess.
    remembered: (f64, f64),
    /// Capital on each of [`GUESSES`].
    capital: [f64; GUESSES.len()],
    /// Capital that is held back.
    held_back: f64,
    /// Blocks that were bet on.
    blocks: u32,
    /// The most that all capital together has been.
    peak: f64,
}

/// Requests of both versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TallyPair {
    pub(super) canary: Tally,
    pub(super) stable: Tally,
}

impl SequentialTest {
    /// A test that has seen nothing. `margin` is how much worse the canary may be, in percentage points.
    pub(super) fn new(margin: f64) -> Self {
        Self {
            margin: (margin / 100.0).clamp(0.0, 1.0),
            pending: (TallyPair::default(), Duration::ZERO),
            before: Duration::ZERO,
            baseline: None,
            past: Past::default(),
            judged: TallyPair::default(),
            remembered: (0.0, 0.0),
            capital: GUESSES.map(|(_, part)| (1.0 - HELD_BACK) * part),
            held_back: HELD_BACK,
            blocks: 0,
            peak: 1.0,
        }
    }

    /// Takes what was seen in a block that took `covered`. `past` is what is known of stable before it; where the canary
    /// has everything (`alone`), it is what the canary is compared with. `groups` are the canary's clients since the start.
    pub(super) fn observe(
        &mut self,
        block: TallyPair,
        covered: Duration,
        past: &Past,
        (groups, alone): (ClientTallies<'_>, bool),
    ) {
        if past.covered >= self.past.covered {
            self.past = *past;
        }
        let past = &{ self.past };
        if self.blocks == 0 && self.remembered == (0.0, 0.0) {
            self.remember(past.tally);
        }
        let (pending, time) = &mut self.pending;
        pending.canary += block.canary;
        pending.stable += block.stable;
        *time = time.saturating_add(covered);
        let (block, covered) = self.pending;
        let before = self.before;
        let of_canary = past.dispersion.of_version(groups);
        let counted = |tally: Tally, dispersion: Dispersion| {
            RealTally::of(tally, dispersion.design_effect_of_piece(tally.requests as f64, covered, before))
        };
        let canary = counted(block.canary, of_canary);
        if block.canary.requests == 0 {
            return;
        }
        if block.stable.requests > 0 {
            let stable = counted(block.stable, past.dispersion);
            let known = past.known(&stable).min(canary.all * PINNED).max(stable.all);
            self.bet(|guess, margin| log_growth(&canary, &stable, known, guess, margin));
            self.remember(block.stable);
        } else if alone && past.tally.requests > 0 {
            self.baseline = Some(past.tally);
            let most = past.most();
            // What is worse than stable's worst is guessed from there.
            let above = (most - self.guess()).max(0.0);
            self.bet(|(guess, _), margin| {
                let (guess, limit) = (guess + above, most + margin);
                if guess > limit && guess < 1.0 { canary.log_ratio(guess, limit) } else { 0.0 }
            });
        } else {
            return;
        }
        self.judged.canary += block.canary;
        self.judged.stable += block.stable;
        self.before = before.saturating_add(covered);
        self.pending = (TallyPair::default(), Duration::ZERO);
    }

    /// Stable's past, where the canary was compared with that: `, and before it 31 of 16,410 (0.19 %)`.
    pub(super) fn baseline_in_words(&self) -> String {
        self.baseline.map_or_else(String::new, |past| format!(", in its last hour {}", past.words()))
    }

    /// What the test is about: requests since its first observation.
    pub(super) const fn judged(&self) -> TallyPair {
        self.judged
    }

    /// How many requests of the canary there is nothing of stable to compare with.
    pub(super) const fn uncompared(&self) -> u64 {
        self.pending.0.canary.requests
    }

    /// The chance, at most, of as much evidence against the canary as there was at any observation, if it is not
    /// worse than the margin allows. It never rises again.
    pub(super) fn p(&self) -> f64 {
        self.peak.max(1.0).recip()
    }

    /// The same of what is known now: it rises again when later blocks speak for the canary.
    pub(super) fn p_now(&self) -> f64 {
        self.sum().max(1.0).recip()
    }

    fn sum(&self) -> f64 {
        self.held_back + self.capital.iter().sum::<f64>()
    }

    /// Bets on a block that grows the capital on the guess `(canary, stable)` by the exponential of `log_growth`.
    fn bet(&mut self, log_growth: impl Fn((f64, f64), f64) -> f64) {
        let stable = self.guess();
        // 1/2, 1/6, 1/12 … of what is held back: in sum all of it, and late blocks still get their part.
        self.blocks = self.blocks.saturating_add(1);
        let laid_out = self.held_back / (f64::from(self.blocks) + 1.0);
        self.held_back -= laid_out;
        for (capital, (worse, part)) in self.capital.iter_mut().zip(GUESSES) {
            *capital += laid_out * part;
            let canary = stable + self.margin + worse;
            if canary < 1.0 {
                let grown = log_growth((canary, stable), self.margin).clamp(-700.0, 700.0).exp();
                *capital = (*capital * grown).min(MOST);
            }
        }
        self.peak = self.peak.max(self.sum());
    }

    /// Stable's share of bad requests, as far as it is known; between 0 and 1, both excluded.
    fn guess(&self) -> f64 {
        (self.remembered.1 + PRIOR.0) / (self.remembered.0 + PRIOR.1)
    }

    fn remember(&mut self, stable: Tally) {
        let (requests, bad) = self.remembered;
        let (requests, bad) = (requests + stable.requests as f64, bad + stable.bad as f64);
        let keep = if requests > REMEMBERED { (REMEMBERED / 2.0) / requests } else { 1.0 };
        self.remembered = (requests * keep, bad * keep);
    }
}

/// So many standard errors above what was seen lies a share that is hardly higher: once in a hundred times.
const STANDARD_ERRORS: f64 = 2.326;

impl Past {
    /// By how many requests stable's share is known, where a block of it is `stable`: by all of its past, unless the block
    /// shows that it is another one now.
    fn known(&self, stable: &RealTally) -> f64 {
        let requests = self.tally.requests as f64;
        let counted = requests / self.dispersion.design_effect(requests, self.covered);
        let share = self.tally.bad as f64 / requests.max(1.0);
        let as_ever = binomial::upper_tail(stable.bad, stable.all, share) > AS_EVER;
        if as_ever { stable.all + counted } else { stable.all }
    }

    /// The highest share that is usual: that of the worst minute, or what all leaves likely, if that is more (of the requests
    /// as they count).
    fn most(&self) -> f64 {
        let requests = self.tally.requests as f64;
        let counted = requests / self.dispersion.design_effect(requests, self.covered);
        let share = self.tally.bad as f64 / requests.max(1.0);
        binomial::bounds(share, counted, STANDARD_ERRORS).1.max(self.worst_minute).clamp(0.0, 1.0)
    }
}

/// Of so many requests of stable for each of the canary its share is known well enough.
const PINNED: f64 = 9.0;

/// A block of stable that is less likely than this is not as its past.
const AS_EVER: f64 = 0.05;

/// The logarithm of what a bet on the shares `guess` (canary, stable) brings for a block, where stable's share is as well
/// known as by `known` requests.
fn log_growth(canary: &RealTally, stable: &RealTally, known: f64, guess: (f64, f64), margin: f64) -> f64 {
    let nearest = nearest(canary.all, known, guess, margin);
    canary.log_ratio(guess.0, nearest + margin) + stable.log_ratio(guess.1, nearest)
}

/// Stable's share `t` at the point `(t + margin, t)` of the claim that is nearest to `guess`, for so many requests of
/// the canary and of stable. It lies between stable's guess and the canary's less the margin: left of that both terms
/// of the slope are negative, right of it both are positive, and the distance is convex.
fn nearest(canary: f64, stable: f64, guess: (f64, f64), margin: f64) -> f64 {
    let slope_of = |weight: f64, guess: f64, at: f64| weight * (at - guess) / (at * (1.0 - at));
    let (mut low, mut high) = (guess.1, guess.0 - margin);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if slope_of(canary, guess.0, middle + margin) + slope_of(stable, guess.1, middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// A tally as real numbers.
struct RealTally {
    all: f64,
    bad: f64,
}

impl RealTally {
    /// Of requests of which so many count as one.
    fn of(tally: Tally, design_effect: f64) -> Self {
        Self { all: tally.requests as f64 / design_effect, bad: tally.bad as f64 / design_effect }
    }

    /// The logarithm of how much likelier the counts are at the share `p` than at `q`.
    fn log_ratio(&self, p: f64, q: f64) -> f64 {
        self.bad * (p / q).ln() + (self.all - self.bad) * ((1.0 - p) / (1.0 - q)).ln()
    }
}

#[cfg(test)]
mod tests;
