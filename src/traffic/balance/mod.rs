//! Which available endpoint of a version gets a request.
//!
//! | rule | file |
//! |---|---|
//! | two at random, the one with less in flight for its weight | `least_requests` |
//! | one after the other, heavier ones more often | `round_robin` |
//! | with a client's key, under either rule: the client keeps its endpoint | `hash` |
//! | which endpoint a random number falls on, by weight | `weights` |
//!
//! Whether an endpoint is available is asked at each pick, so one that drains gets nothing from the next pick on.
//!
//! Invariant: what was tried for a request is not picked for it again.

mod hash;
mod least_requests;
mod round_robin;
mod weights;

use self::least_requests::Candidates;
use self::round_robin::RoundRobin;
use self::weights::Weights;
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
    /// The part of its weight that it counts with, in thousandths: less than [`WHOLE`] while it starts slowly.
    #[inline]
    fn part(&self, _at: usize) -> u32 {
        WHOLE
    }
}

/// The part of its weight that an endpoint counts with when it counts whole.
pub(crate) const WHOLE: u32 = least_requests::WHOLE;

/// Picks among the endpoints of one version. Shared by all threads.
#[derive(Debug)]
pub struct Balancer {
    weights: Weights,
    /// The hash of each endpoint's name.
    names: Box<[u64]>,
    /// The order of turns, if it is needed.
    turns: Option<RoundRobin>,
}

impl Balancer {
    /// A balancer over endpoints with these names and weights; a weight is at least 1.
    #[must_use]
    pub fn new<'a>(endpoints: impl Iterator<Item = (&'a str, u32)> + Clone, algorithm: Algorithm) -> Self {
        let weights = Weights::new(endpoints.clone().map(|(_, weight)| weight));
        // Not from 0, or every reload would begin with the same endpoint.
        let turns = (algorithm == Algorithm::RoundRobin).then(|| RoundRobin::new(&weights, random() >> 1));
        Self { names: endpoints.map(|(name, _)| hash::of_name(name)).collect(), weights, turns }
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
        if let Some(key) = key {
            return hash::pick(&self.names, &self.weights, is_open, key);
        }
        let candidates = Candidates {
            weights: &self.weights,
            is_open,
            load: |at| endpoints.load(at),
            part: |at| endpoints.part(at),
        };
        match &self.turns {
            Some(turns) => turns
                .pick(|at| is_open(at) && candidates.counts(at, &random))
                .or_else(|| candidates.draw_counted(&random)),
            None => candidates.pick(&random),
        }
    }
}

#[cfg(test)]
mod tests;
