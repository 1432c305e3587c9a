//! How much more the counts of blocks vary than those of independent requests would: errors come in clusters.
//!
//! Requests of one block that share their fate by a correlation ρ say as much as fewer independent ones. Of n requests
//! per block the variance is 1 + (n − 1)·ρ times that of independent ones: the *design effect* (Kish, "Survey Sampling",
//! 1965), and n requests count as n / (1 + (n − 1)·ρ).
//!
//! ρ is estimated from what the blocks' counts vary more ([`excess`]). Blocks of ten seconds and of a minute are looked at,
//! because what lasts a minute hardly shows in ten seconds.
//!
//! Where clients stay on one version, there are clusters of another kind, which no block shows: all requests of one
//! client ([`Clients`](super::clients::Clients)). Both effects are added.

use std::time::Duration;

use super::clients::{ClientEffect, ClientTallies};
use super::overdispersion::excess;
use super::sample::Tally;

/// The length of a block.
pub(super) const BLOCK: Duration = Duration::from_secs(10);
/// Blocks of a minute.
pub(super) const MINUTE: usize = 6;

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

    /// That of another version with these groups of clients: the requests of one client count as these show.
    pub(crate) fn of_version(self, groups: ClientTallies<'_>) -> Self {
        Self { clients: self.clients.at_most(groups), ..self }
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
