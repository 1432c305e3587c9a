//! Affinity to an endpoint: rendezvous hashing.
//!
//! Thaler and Ravishankar, *Using name-based mappings to increase hit rates*, IEEE/ACM ToN 6, 1998: a client keeps its
//! endpoint, and an endpoint that goes moves only its own clients. It looks at every endpoint of the version once.

use crate::traffic::split::affinity;

/// The hash of an endpoint's name.
pub(super) fn of_name(name: &str) -> u64 {
    affinity::hash("endpoint", name.as_bytes())
}

/// The open endpoint of the client with this hashed key.
pub(super) fn pick(names: &[u64], is_open: impl Fn(usize) -> bool, key: u64) -> Option<usize> {
    let open = names.iter().enumerate().filter(|(at, _)| is_open(*at));
    open.max_by_key(|(_, name)| affinity::mix(key ^ **name)).map(|(at, _)| at)
}
