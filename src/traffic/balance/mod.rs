//! Which available endpoint of a version gets a request.
//!
//! | rule | file |
//! |---|---|
//! | two at random, the one with less in flight | `least_requests` |
//! | one after the other | `round_robin` |
//! | with an affinity key, under either rule: the client keeps its endpoint | `hash` |
//!
//! Whether an endpoint is available is asked at each pick, so one that drains gets nothing from the next pick on.
//!
//! Invariant: what was tried for a request is not picked for it again.

mod hash;
mod least_requests;
mod round_robin;

use std::sync::atomic::AtomicU64;

use crate::algorithm::random::random;

/// How endpoints are picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The one with less in flight of two at random.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
}

/// Endpoints that a request has tried: a few at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    endpoints: [usize; Self::MOST],
    len: usize,
}

impl Tried {
    /// A request is never tried on more endpoints than this.
    const MOST: usize = 10;

    /// Notes a tried endpoint.
    pub(crate) fn insert(&mut self, endpoint: usize) {
        if let Some(slot) = self.endpoints.get_mut(self.len) {
            *slot = endpoint;
            self.len += 1;
        }
    }

    /// Whether an endpoint was tried.
    #[inline]
    #[must_use]
    pub(crate) fn contains(&self, endpoint: usize) -> bool {
        self.endpoints.iter().take(self.len).any(|tried| *tried == endpoint)
    }

    /// Whether nothing was tried yet.
    #[inline]
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a pick reads of endpoints, by their index in the version.
pub trait Endpoints {
    /// Whether the endpoint takes new requests.
    fn is_available(&self, at: usize) -> bool;
    /// Whether the endpoint is wanted, whatever its health.
    fn is_ready(&self, at: usize) -> bool {
        self.is_available(at)
    }
    /// How many requests it has in flight.
    fn load(&self, at: usize) -> u64;
}

/// Picks among the endpoints of one version. Shared by all threads.
#[derive(Debug)]
pub struct Balancer {
    /// The hash of each endpoint's name.
    names: Box<[u64]>,
    algorithm: Algorithm,
    turn: AtomicU64,
}

impl Balancer {
    /// A balancer over endpoints with these names.
    #[must_use]
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, algorithm: Algorithm) -> Self {
        // Not from 0, or every reload would begin with the same endpoint.
        Self { names: names.map(hash::of_name).collect(), algorithm, turn: AtomicU64::new(random() >> 1) }
    }

    /// The endpoint for a request: available, and not in `tried`. Where none is, one is tried that is wanted and out of
    /// use for its health: it may do better than the request's failure.
    ///
    /// A request comes here because its version was available. If the last endpoint went in between, it is still
    /// served by one of them, as a request that came a moment earlier.
    pub fn pick(&self, endpoints: &impl Endpoints, tried: &Tried, key: Option<u64>) -> Option<usize> {
        self.pick_open(&|at| endpoints.is_available(at) && !tried.contains(at), endpoints, key)
            .or_else(|| self.pick_open(&|at| endpoints.is_ready(at) && !tried.contains(at), endpoints, key))
            .or_else(|| if tried.is_empty() { self.pick_open(&|_| true, endpoints, key) } else { None })
    }

    fn pick_open(
        &self,
        is_open: &impl Fn(usize) -> bool,
        endpoints: &impl Endpoints,
        key: Option<u64>,
    ) -> Option<usize> {
        match (key, self.algorithm) {
            (Some(key), _) => hash::pick(&self.names, is_open, key),
            (None, Algorithm::RoundRobin) => round_robin::pick(self.names.len(), is_open, &self.turn),
            (None, Algorithm::LeastRequests) => {
                least_requests::pick(self.names.len(), is_open, |at| endpoints.load(at), random)
            }
        }
    }
}

#[cfg(test)]
mod tests;
