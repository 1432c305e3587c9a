//! Which ready endpoint of a version gets a request.
//!
//! * `least_requests`: two endpoints at random, the one with less in flight (Mitzenmacher, *The power of two
//!   choices in randomized load balancing*, IEEE TPDS 12, 2001): nearly as even as looking at all of them, and
//!   no herd runs to the one that happens to be idle.
//! * `round_robin`: one after the other.
//! * With an affinity key: rendezvous hashing (Thaler and Ravishankar, *Using name-based mappings to increase hit
//!   rates*, IEEE/ACM ToN 6, 1998), so that a client keeps its endpoint and an endpoint that goes moves only its
//!   own clients. It looks at every endpoint of the version once.
//!
//! Invariant: what was tried for a request is not picked for it again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::split::affinity;
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
    const MOST: usize = 4;

    /// Notes a tried endpoint.
    pub fn insert(&mut self, endpoint: usize) {
        if let Some(slot) = self.endpoints.get_mut(self.len) {
            *slot = endpoint;
            self.len += 1;
        }
    }

    /// Whether an endpoint was tried.
    #[must_use]
    pub fn contains(&self, endpoint: usize) -> bool {
        self.endpoints.iter().take(self.len).any(|tried| *tried == endpoint)
    }
}

/// Picks among the ready endpoints of one version. Shared by all threads.
#[derive(Debug)]
pub struct Balancer {
    /// Ready endpoints: index into the version's, and a hash of the name.
    ready: Vec<(usize, u64)>,
    algorithm: Algorithm,
    turn: AtomicU64,
}

impl Balancer {
    /// A balancer over the ready endpoints, each with its index in the version and its name.
    #[must_use]
    pub fn new<'a>(ready: impl Iterator<Item = (usize, &'a str)>, algorithm: Algorithm) -> Self {
        let ready = ready.map(|(at, name)| (at, affinity::hash("endpoint", name.as_bytes()))).collect();
        // Not from 0, or every reload would begin with the same endpoint.
        Self { ready, algorithm, turn: AtomicU64::new(random() >> 1) }
    }

    /// The endpoint for a request: ready, and not in `tried`. `load` tells what an endpoint has in flight.
    pub fn pick(&self, load: impl Fn(usize) -> u64, tried: &Tried, key: Option<u64>) -> Option<usize> {
        self.pick_with(load, tried, key, random)
    }

    fn pick_with(
        &self,
        load: impl Fn(usize) -> u64,
        tried: &Tried,
        key: Option<u64>,
        random: impl Fn() -> u64,
    ) -> Option<usize> {
        if let Some(key) = key {
            let open = self.ready.iter().filter(|(at, _)| !tried.contains(*at));
            return open.max_by_key(|(_, name)| affinity::mix(key ^ name)).map(|(at, _)| *at);
        }
        match self.algorithm {
            Algorithm::RoundRobin => self.from(self.turn.fetch_add(1, Ordering::Relaxed), tried),
            Algorithm::LeastRequests => {
                let first = self.from(random(), tried)?;
                let second = self.from(random(), tried)?;
                Some(if load(second) < load(first) { second } else { first })
            }
        }
    }

    /// The first endpoint at or after a place that was not tried.
    fn from(&self, place: u64, tried: &Tried) -> Option<usize> {
        let count = self.ready.len();
        let start = usize::try_from(place % u64::try_from(count).ok()?.max(1)).ok()?;
        let (before, after) = (self.ready.get(..start)?, self.ready.get(start..)?);
        after.iter().chain(before).map(|(at, _)| *at).find(|at| !tried.contains(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(count: usize, algorithm: Algorithm) -> Balancer {
        let names: Vec<String> = (0..count).map(|at| format!("10.0.0.{at}:80")).collect();
        Balancer::new(names.iter().enumerate().map(|(at, name)| (at, name.as_str())), algorithm)
    }

    #[test]
    fn round_robin_gives_each_its_turn() {
        let balancer = balancer(3, Algorithm::RoundRobin);
        let mut counts = [0; 3];
        for _ in 0..300 {
            counts[balancer.pick(|_| 0, &Tried::default(), None).unwrap()] += 1;
        }
        assert_eq!(counts, [100; 3]);
    }

    #[test]
    fn what_was_tried_is_not_picked_again() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequests] {
            for key in [None, Some(7)] {
                let balancer = balancer(3, algorithm);
                let mut tried = Tried::default();
                let mut seen = Vec::new();
                while let Some(at) = balancer.pick(|_| 0, &tried, key) {
                    seen.push(at);
                    tried.insert(at);
                }
                seen.sort_unstable();
                assert_eq!(seen, [0, 1, 2], "{algorithm:?} {key:?}");
            }
        }
    }

    #[test]
    fn nothing_ready_gives_nothing() {
        assert_eq!(balancer(0, Algorithm::LeastRequests).pick(|_| 0, &Tried::default(), None), None);
        assert_eq!(balancer(0, Algorithm::RoundRobin).pick(|_| 0, &Tried::default(), Some(1)), None);
    }

    #[test]
    fn the_busier_of_two_is_left_alone() {
        let balancer = balancer(2, Algorithm::LeastRequests);
        let busy = |at: usize| if at == 0 { 10 } else { 0 };
        let picks = (0..1_000).filter(|_| balancer.pick(busy, &Tried::default(), None) == Some(0)).count();
        // Both draws hit the busy one in a quarter of the cases.
        assert!((150..350).contains(&picks), "{picks}");
    }

    #[test]
    fn an_idle_pool_is_used_evenly() {
        let balancer = balancer(4, Algorithm::LeastRequests);
        let mut counts = [0_u32; 4];
        for _ in 0..8_000 {
            counts[balancer.pick(|_| 0, &Tried::default(), None).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (1_700..2_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_key_keeps_its_endpoint_and_only_the_gone_ones_clients_move() {
        let all = balancer(5, Algorithm::LeastRequests);
        let names: Vec<String> = (0..5).map(|at| format!("10.0.0.{at}:80")).collect();
        let without_two = Balancer::new(
            names.iter().enumerate().filter(|(at, _)| *at != 2).map(|(at, n)| (at, n.as_str())),
            Algorithm::LeastRequests,
        );
        for key in 0..2_000_u64 {
            let key = Some(affinity::mix(key));
            let before = all.pick(|_| 0, &Tried::default(), key).unwrap();
            let after = without_two.pick(|_| 0, &Tried::default(), key).unwrap();
            assert!(before == after || before == 2, "{before} became {after}");
        }
    }
}
