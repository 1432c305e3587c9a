//! The status codes of one route: how often each was answered.
//!
//! An array with a counter for each of 900 codes, per thread and route, would be 7 KB; with 100,000 routes
//! that is no option. A route answers few different codes, so each thread's copy is one cache line of
//! [`LINE`] slots, and a slot belongs to the first code that needs it. A slot is one atomic that holds both,
//! so claiming it and counting in it is one step:
//!
//! ```text
//! slot   63 ─── 54 │ 53 ──────────── 0
//!         key      │  count              0 = free; a key never changes and never leaves
//! ```
//!
//! What does not fit there goes to a table that all threads share and that few routes ever need: registered
//! codes always find room in it; codes that nobody registered share [`MAX_UNREGISTERED`] slots, and then `other`, so
//! that an endpoint cannot grow the label set without bound.
//!
//! Invariants: nothing that was counted is lost; a key is in a table at most once; counting never locks.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::label::Outcome;
use super::sharded::{LINE, Sharded};

/// Room for every key that [`Code::is_known`] accepts.
const MAX_REGISTERED: usize = 64;

/// So many different unregistered codes of one route are told apart.
const MAX_UNREGISTERED: usize = 8;

const COUNT_BITS: u32 = 54;

/// What `code` says on `weir_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Code(u16);

impl Code {
    const CLIENT_CLOSED: Self = Self(1);
    const OTHER: Self = Self(2);

    /// Whether this code has a room of its own on every route: the client closing, and the codes of the IANA
    /// registry (RFC 9110 §16.2.1, with the reserved ones between them).
    fn is_known(self) -> bool {
        self == Self::CLIENT_CLOSED
            || matches!(self.0, 100..=103 | 200..=208 | 226 | 300..=308 | 400..=418)
            || matches!(self.0, 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
    }

    /// The label value: three digits, `client_closed` or `other`.
    pub(super) fn label(self) -> String {
        match self {
            Self::CLIENT_CLOSED => "client_closed".to_owned(),
            Self::OTHER => "other".to_owned(),
            Self(status) => status.to_string(),
        }
    }
}

impl From<Outcome> for Code {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Status(status @ 100..=999) => Self(status),
            Outcome::Status(_) => Self::OTHER,
            Outcome::ClientClosed => Self::CLIENT_CLOSED,
        }
    }
}

/// How often each code was answered.
#[derive(Debug)]
pub(super) struct Codes {
    own: Sharded,
    shared: OnceLock<Box<SharedCodes>>,
}

/// The table that all threads share.
#[derive(Debug)]
struct SharedCodes {
    known: [AtomicU64; MAX_REGISTERED],
    unregistered: [AtomicU64; MAX_UNREGISTERED],
    other: AtomicU64,
}

impl Codes {
    pub(super) fn new(shards: usize) -> Self {
        Self { own: Sharded::new(shards, LINE), shared: OnceLock::new() }
    }

    /// Counts one `outcome`.
    #[inline]
    pub(super) fn count(&self, outcome: Outcome) {
        let code = Code::from(outcome);
        if code.is_known() && self.own.own_line().is_some_and(|line| count_in(line, code)) {
            return;
        }
        self.count_shared(code);
    }

    #[cold]
    fn count_shared(&self, code: Code) {
        let shared = self.shared.get_or_init(|| {
            Box::new(SharedCodes {
                known: [const { AtomicU64::new(0) }; MAX_REGISTERED],
                unregistered: [const { AtomicU64::new(0) }; MAX_UNREGISTERED],
                other: AtomicU64::new(0),
            })
        });
        let table: &[AtomicU64] = if code.is_known() { &shared.known } else { &shared.unregistered };
        if code == Code::OTHER || !count_in(table, code) {
            shared.other.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The totals by code, rising.
    pub(super) fn totals(&self) -> BTreeMap<Code, u64> {
        let mut totals = BTreeMap::new();
        let mut add = |code, count| {
            if count > 0 {
                *totals.entry(code).or_default() += count;
            }
        };
        let own = self.own.first_lines().flatten();
        let shared = self.shared.get();
        let rare = shared.iter().flat_map(|shared| shared.known.iter().chain(&shared.unregistered));
        for slot in own.chain(rare) {
            let (code, count) = unpack(slot.load(Ordering::Relaxed));
            add(code, count);
        }
        if let Some(shared) = shared {
            add(Code::OTHER, shared.other.load(Ordering::Relaxed));
        }
        totals
    }
}

/// Counts `code` in its slot of `table`, claiming a free one if it has none. `false` if no slot is left.
///
/// The slot is looked for from a place that the code determines, onwards and around (linear probing). Slots
/// are never freed, so all threads find the same one.
#[inline]
fn count_in(table: &[AtomicU64], code: Code) -> bool {
    let home = usize::from(code.0) % table.len().max(1);
    let (before, from) = table.split_at_checked(home).unwrap_or((&[], table));
    from.iter().chain(before).any(|slot| count_at(slot, slot.load(Ordering::Relaxed), code))
}

/// Counts `code` in `slot`, which held `seen` a moment ago. `false` if the slot belongs to another code. A
/// thread that loses the race for a free slot looks at who won: it may have been for the same code.
#[inline]
fn count_at(slot: &AtomicU64, seen: u64, code: Code) -> bool {
    let owner = if seen == 0 {
        match slot.compare_exchange(0, pack(code), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(taken) => unpack(taken).0,
        }
    } else {
        unpack(seen).0
    };
    if owner == code {
        slot.fetch_add(1, Ordering::Relaxed);
    }
    owner == code
}

/// A slot of `code` with a count of one.
const fn pack(code: Code) -> u64 {
    (code.0 as u64) << COUNT_BITS | 1
}

const fn unpack(slot: u64) -> (Code, u64) {
    let key = (slot >> COUNT_BITS) as u16;
    (Code(key), slot & ((1 << COUNT_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn totals(codes: &Codes) -> Vec<(String, u64)> {
        codes.totals().into_iter().map(|(code, count)| (code.label(), count)).collect()
    }

    #[test]
    fn every_registered_code_has_room_on_one_route() {
        let known: Vec<u16> = (0..1_024).filter(|code| Code(*code).is_known()).collect();
        assert_eq!(known.len(), MAX_REGISTERED, "the shared table has exactly the room they need");
        let codes = Codes::new(1);
        for status in known.iter().filter(|code| **code >= 100) {
            (0..3).for_each(|_| codes.count(Outcome::Status(*status)));
        }
        codes.count(Outcome::ClientClosed);
        let totals = totals(&codes);
        assert_eq!(totals.len(), MAX_REGISTERED);
        assert_eq!(totals.iter().map(|(_, count)| count).sum::<u64>(), 63 * 3 + 1);
        assert_eq!(totals[0], ("client_closed".to_owned(), 1));
        assert!(totals.contains(&("200".to_owned(), 3)) && totals.contains(&("511".to_owned(), 3)));
    }

    #[test]
    fn codes_that_nobody_registered_are_told_apart_up_to_a_bound_and_then_are_other() {
        let codes = Codes::new(2);
        for status in 600..700 {
            codes.count(Outcome::Status(status));
        }
        codes.count(Outcome::Status(0));
        codes.count(Outcome::Status(1_000));
        codes.count(Outcome::Status(u16::MAX));
        codes.count(Outcome::Status(600));
        codes.count(Outcome::Status(200));
        let totals = totals(&codes);
        assert_eq!(totals.len(), MAX_UNREGISTERED + 2, "{totals:?}");
        assert!(totals.contains(&("600".to_owned(), 2)));
        assert!(totals.contains(&("200".to_owned(), 1)));
        assert!(totals.contains(&("other".to_owned(), 100 - MAX_UNREGISTERED as u64 + 3)));
    }

    #[test]
    fn threads_that_claim_slots_at_once_lose_nothing() {
        let codes = Codes::new(2);
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8_u16 {
                let (codes, barrier) = (&codes, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for n in 0..20_000_u16 {
                        // 40 codes: some in the thread's own line, some shared, some unregistered, some other.
                        codes.count(Outcome::Status([200, 300, 400, 600][usize::from(n % 4)] + (n / 4 + thread) % 10));
                    }
                });
            }
        });
        let totals = totals(&codes);
        assert_eq!(totals.iter().map(|(_, count)| count).sum::<u64>(), 160_000, "{totals:?}");
        for status in (200..=208).chain(300..=308).chain(400..=409) {
            assert!(totals.contains(&(status.to_string(), 4_000)), "{status}: {totals:?}");
        }
    }

    #[test]
    fn a_thread_that_loses_the_race_for_a_slot_shares_it_only_with_the_same_code() {
        let slot = AtomicU64::new(pack(Code(200)));
        assert!(count_at(&slot, 0, Code(200)));
        assert!(!count_at(&slot, 0, Code(404)));
        assert_eq!(unpack(slot.into_inner()), (Code(200), 2));
    }

    proptest! {
        #[test]
        fn counts_equal_those_of_a_map(statuses in prop::collection::vec(100_u16..520, 0..300)) {
            let codes = Codes::new(4);
            let mut naive = BTreeMap::<String, u64>::new();
            for status in statuses.iter().filter(|status| Code(**status).is_known()) {
                codes.count(Outcome::Status(*status));
                *naive.entry(status.to_string()).or_default() += 1;
            }
            prop_assert_eq!(totals(&codes), naive.into_iter().collect::<Vec<_>>());
        }
    }
}
