//! One endpoint after the other, heavier ones more often, spread evenly.
//!
//! The order is that of nginx's smooth weighted round robin (`ngx_http_upstream_get_peer`): each turn every endpoint gains
//! its weight, the highest is taken and loses the sum of all. Weights 5, 1 and 1 give `a a b a c a a` and not
//! `a a a a a b c`. nginx computes it under a lock at each request; here one period is written down when the snapshot is
//! compiled, and a request takes the next turn with one atomic step.

use std::sync::atomic::{AtomicU64, Ordering};

use super::weights::Weights;

/// One period of turns.
#[derive(Debug)]
pub(super) struct RoundRobin {
    /// Endpoints in the order of their turns; none where they come in their own order.
    order: Option<Box<[u16]>>,
    count: usize,
    turn: AtomicU64,
}

/// The longest period: 32 KiB.
const MAX_TURNS: u64 = 1 << 14;
/// The most steps of computing one, some milliseconds; only with many endpoints of many weights.
const MAX_STEPS: u64 = 1 << 23;

impl RoundRobin {
    /// The turns of endpoints with these weights, beginning with number `start`.
    pub(super) fn new(weights: &Weights, start: u64) -> Self {
        let order = if weights.are_alike() { None } else { order(weights.all()) };
        Self { order, count: weights.len(), turn: AtomicU64::new(start) }
    }

    /// The open endpoint whose turn it is. The turn of one that is not open passes to the next, so that those that are
    /// open share its turns by their weights. None if none was met.
    pub(super) fn pick(&self, is_open: impl Fn(usize) -> bool) -> Option<usize> {
        let turns = self.order.as_ref().map_or(self.count, |order| order.len());
        let turns = u64::try_from(turns).ok().filter(|turns| *turns > 0)?;
        for _ in 0..self.count.saturating_mul(LOOKS).max(MIN_LOOKS) {
            let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed) % turns).ok()?;
            let at = match &self.order {
                Some(order) => usize::from(order.get(turn).copied().unwrap_or_default()),
                None => turn,
            };
            if is_open(at) {
                return Some(at);
            }
        }
        None
    }
}

/// Turns that are looked at for each endpoint before the open ones are counted instead.
const LOOKS: usize = 2;
const MIN_LOOKS: usize = 64;

/// One period; none where there are more endpoints than it may have turns, or than a `u16` tells apart.
fn order(weights: &[u32]) -> Option<Box<[u16]>> {
    let count = u64::try_from(weights.len()).ok()?;
    let most = MAX_TURNS.min(MAX_STEPS / count.max(1));
    if count > most {
        return None;
    }
    let weights = shortened(weights, most);
    let total: i64 = weights.iter().sum();
    let mut current = vec![0_i64; weights.len()];
    let mut order = Vec::with_capacity(usize::try_from(total).ok()?);
    for _ in 0..total {
        for (current, weight) in current.iter_mut().zip(&weights) {
            *current += weight;
        }
        // The first of the highest, as nginx takes it.
        let (at, highest) = current.iter_mut().enumerate().rev().max_by_key(|(_, current)| **current)?;
        *highest -= total;
        order.push(u16::try_from(at).ok()?);
    }
    Some(order.into())
}

/// The smallest weights of the same proportions. Where they are too large together, about those proportions, 1 at least.
fn shortened(weights: &[u32], most: u64) -> Vec<i64> {
    let divisor = weights.iter().fold(0, |divisor, weight| greatest_common_divisor(divisor, *weight)).max(1);
    let weights: Vec<u64> = weights.iter().map(|weight| u64::from(weight / divisor)).collect();
    let total: u64 = weights.iter().sum();
    let scaled = |weight: u64| {
        if total <= most {
            return weight;
        }
        // What is rounded up to 1 is taken from the room first, so that the sum stays within it.
        let room = most.saturating_sub(weights.len() as u64);
        1 + weight * room / total
    };
    weights.iter().map(|weight| i64::try_from(scaled(*weight)).unwrap_or(1)).collect()
}

/// Euclid's algorithm.
const fn greatest_common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests;
