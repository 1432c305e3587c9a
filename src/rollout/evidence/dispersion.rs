//! How much more the counts of blocks vary than those of independent requests would: errors come in clusters.
//!
//! Requests of one block that share their fate by a correlation ρ say as much as fewer independent ones. Of n requests
//! per block the variance is 1 + (n − 1)·ρ times that of independent ones: the *design effect* (Kish, "Survey Sampling",
//! 1965), and n requests count as n / (1 + (n − 1)·ρ).
//!
//! ρ is estimated by moments from Pearson's X² over the blocks (Kleinman, "Proportions with extraneous variance", JASA
//! 68, 1973; for binomial counts of different sizes): X² = Σ (kᵢ − nᵢ·p)² / (nᵢ·p·(1 − p)) is on average
//! (1 − 1/B)·(B + ρ·Σ(nᵢ − 1)). What is taken is its upper bound, one and a half standard errors of the mean of those squares above
//! it: a minute of ten-fold errors that came once in an hour may come again. That costs little while the canary has a small
//! share, because ρ is known the better the more requests stable has. Where blocks are few, they are half believed.
//! Blocks of ten seconds and of a minute are looked at, because what lasts a minute hardly shows in ten seconds.
//!
//! Where clients stay on one version, there are clusters of another kind, which no block shows: all requests of one
//! client ([`Clients`](super::clients::Clients)). Both effects are added.

use std::time::Duration;

use super::clients::ClientEffect;
use super::sample::Tally;

/// The length of a block.
pub(super) const BLOCK: Duration = Duration::from_secs(10);
/// Blocks of a minute.
pub(super) const MINUTE: usize = 6;
/// So many blocks count as half of what they say.
const FEW: f64 = 4.0;
const STANDARD_ERRORS: f64 = 1.5;

/// The correlation of requests of one block, by the length of the block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Dispersion {
    pub(super) short: f64,
    pub(super) long: f64,
    pub(super) clients: ClientEffect,
}

impl Dispersion {
    /// That of blocks of [`BLOCK`], one after the other, and of what is known of the clients.
    pub(super) fn of(blocks: &[Tally], clients: ClientEffect) -> Self {
        let long: Vec<Tally> = blocks.rchunks_exact(MINUTE).map(|chunk| chunk.iter().copied().sum()).collect();
        Self { short: correlation(blocks), long: correlation(&long), clients }
    }

    /// Of one correlation within blocks.
    #[cfg(test)]
    pub(crate) fn fixed(short: f64) -> Self {
        Self { short, ..Self::default() }
    }

    /// How many requests count as one, where there were `requests` of a version in `covered` and no others are looked at
    /// beside them. At least 1.
    pub(crate) fn design_effect(self, requests: f64, covered: Duration) -> f64 {
        let of_blocks = self.of_blocks(|block| requests * block.as_secs_f64() / covered.max(block).as_secs_f64());
        of_blocks + self.clients.within(covered)
    }

    /// How many requests count as one, where `requests` in `covered` are a piece of what is looked at one after the other,
    /// and there were pieces for so long `before` it. At least 1.
    pub(crate) fn design_effect_of_piece(self, requests: f64, covered: Duration, before: Duration) -> f64 {
        let of_blocks = self.of_blocks(|block| requests * block.as_secs_f64() / covered.as_secs_f64().max(0.001));
        of_blocks + self.clients.of_piece(covered, before)
    }

    /// Where so many requests come together in a block of a length.
    fn of_blocks(self, together: impl Fn(Duration) -> f64) -> f64 {
        let effect = |correlation: f64, block: Duration| 1.0 + (together(block) - 1.0).max(0.0) * correlation;
        effect(self.short, BLOCK).max(effect(self.long, BLOCK * u32::try_from(MINUTE).unwrap_or(1)))
    }
}

fn correlation(blocks: &[Tally]) -> f64 {
    let requests = blocks.iter().copied().sum::<Tally>().requests as f64;
    let each = (requests / blocks.len() as f64 - 1.0).max(1.0);
    (excess([blocks]) / each).clamp(0.0, 1.0)
}

/// How much more than those of independent requests the counts of each set vary around the share of the set: 0 if they do
/// not, 1 for twice as much. The upper bound, shrunk where there are few counts.
pub(super) fn excess<'a>(sets: impl IntoIterator<Item = &'a [Tally]>) -> f64 {
    let mut squares = Vec::new();
    let mut free = 0.0;
    for set in sets {
        let all: Tally = set.iter().copied().sum();
        if set.len() < 2 || all.bad == 0 || all.bad >= all.requests {
            continue;
        }
        let share = all.bad as f64 / all.requests as f64;
        free += set.len() as f64 - 1.0;
        squares.extend(set.iter().map(|tally| {
            let expected = tally.requests as f64 * share;
            if expected > 0.0 { (tally.bad as f64 - expected).powi(2) / (expected * (1.0 - share)) } else { 0.0 }
        }));
    }
    if squares.is_empty() {
        return 0.0;
    }
    let count = squares.len() as f64;
    let mean = squares.iter().sum::<f64>() / free;
    let spread = squares.iter().map(|square| (square - mean).powi(2)).sum::<f64>() / free;
    let most = mean + STANDARD_ERRORS * (spread / count).sqrt();
    ((most - 1.0) * count / (count + FEW)).max(0.0)
}
