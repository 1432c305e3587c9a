//! Requests and errors by groups of clients: whether errors are those of few clients.
//!
//! Clients whose requests stay on one version by affinity are what is split, and not their requests: one client whose
//! requests all fail is one thing that happened, not a hundred. Clients cannot be counted one by one without a bound, so
//! they are put into groups by the hash of their key. How much the groups differ says how much the clients do.

use super::sharded::Sharded;

/// Groups of clients.
const GROUPS: usize = 64;

/// The counters of one version: requests and errors of each group next to each other.
#[derive(Debug)]
pub(super) struct ClientGroups(Sharded);

impl ClientGroups {
    pub(super) fn new(shards: usize) -> Self {
        Self(Sharded::new(shards, 2 * GROUPS))
    }

    /// A request of the client whose key has this hash.
    #[inline]
    pub(super) fn count(&self, key: u64, failed: bool) {
        let slot = 2 * group(key);
        self.0.add(slot, 1);
        if failed {
            self.0.add(slot + 1, 1);
        }
    }

    /// So many requests of clients of one group, of which so many failed.
    #[cfg(test)]
    pub(super) fn count_many(&self, group: usize, requests: u64, failed: u64) {
        self.0.add(2 * group, requests);
        self.0.add(2 * group + 1, failed);
    }

    /// Requests and errors of each group. An error is read before its request: it is never more than them.
    pub(super) fn totals(&self) -> Vec<(u64, u64)> {
        let total = |group: usize| {
            let failed = self.0.sum(2 * group + 1);
            (self.0.sum(2 * group), failed)
        };
        (0..GROUPS).map(total).collect()
    }
}

/// The group of a key. The upper bits, because the rest modulo 10,000 says the version.
const fn group(key: u64) -> usize {
    (key >> 58) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_requests_and_errors_of_its_clients() {
        let groups = ClientGroups::new(2);
        for request in 0..10 {
            groups.count(5 << 58 | 1, request < 3);
            groups.count(5 << 58 | 2, false);
        }
        groups.count(u64::MAX, true);
        let totals = groups.totals();
        assert_eq!(totals.len(), GROUPS);
        assert_eq!((totals[5], totals[GROUPS - 1]), ((20, 3), (1, 1)));
        assert_eq!(totals.iter().map(|(requests, _)| requests).sum::<u64>(), 21);
    }
}
