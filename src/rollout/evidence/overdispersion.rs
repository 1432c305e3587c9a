//! How much more counts vary than those of independent requests would.
//!
//! By moments from Pearson's X² (Kleinman, "Proportions with extraneous variance", JASA 68, 1973; for binomial counts of
//! different sizes): X² = Σ (kᵢ − nᵢ·p)² / (nᵢ·p·(1 − p)) is on average (1 − 1/B)·(B + ρ·Σ(nᵢ − 1)) for B counts of requests
//! that are correlated by ρ. What is taken is its upper bound, one and a half standard errors of the mean of those squares
//! above it: a minute of ten-fold errors that came once in an hour may come again. That costs little while the canary has a
//! small share, because ρ is known the better the more requests stable has. Where counts are few, they are half believed.

use super::sample::Tally;

/// So many counts are half believed.
const FEW: f64 = 4.0;
const STANDARD_ERRORS: f64 = 1.5;

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
