//! Affinity to an endpoint: weighted rendezvous hashing.
//!
//! Thaler and Ravishankar, *Using name-based mappings to increase hit rates*, IEEE/ACM ToN 6, 1998: a client keeps its
//! endpoint, and an endpoint that goes moves only its own clients. With weights, by the logarithmic method of Schindelhauer
//! and Schomaker (*Weighted distributed hash tables*, SPAA 2005): each endpoint has clients as its weight says, and
//! raising a weight moves clients to that endpoint only. It looks at every endpoint of the version once.

use super::weights::Weights;
use crate::traffic::split::affinity;

/// The hash of an endpoint's name.
pub(super) fn of_name(name: &str) -> u64 {
    affinity::hash("endpoint", name.as_bytes())
}

/// The open endpoint of the client with this hashed key.
pub(super) fn pick(names: &[u64], weights: &Weights, is_open: impl Fn(usize) -> bool, key: u64) -> Option<usize> {
    let open =
        names.iter().enumerate().filter(|(at, _)| is_open(*at)).map(|(at, name)| (at, affinity::mix(key ^ name)));
    if weights.are_alike() {
        return open.max_by_key(|(_, hash)| *hash).map(|(at, _)| at);
    }
    let scored = open.map(|(at, hash)| (at, score(weights.of(at), hash)));
    scored.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(at, _)| at)
}

/// `-weight / ln u`, with the hash as a number `u` between 0 and 1. It grows with the hash, so that equal weights give the
/// order of the hashes.
#[expect(clippy::cast_precision_loss, reason = "the 53 highest bits of a hash, and weights below 2^24")]
fn score(weight: u64, hash: u64) -> f64 {
    let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -(weight as f64) / unit.ln()
}
