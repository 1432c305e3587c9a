//! Exact weights: which version is next, so that counts never leave their shares by a request.
//!
//! * One version has everything: nothing is counted.
//! * Two share: one accumulator. Every request adds the first version's weight, in basis points, and is that
//!   version's if the sum passes a multiple of 10 000. So the first version has had exactly
//!   `floor(sum of weights)` requests, whatever the weights were and in whatever order threads, old and new
//!   snapshots added theirs: the accumulator is shared by all of them and **a change of weights needs no
//!   hand-over**. The error is below one request in every window, across every change, under every
//!   interleaving.
//! * Three or more share: a [`Schedule`], entered at a shared position. The error is below one request in every
//!   prefix, for three versions also across changes; for more it can pass one for a moment after a change (1.21 is
//!   the worst that random storms over eight versions showed; tests hold it below two). Counted from a change alone
//!   it is below two.
//!
//! A ledger of deficits goes with the service from snapshot to snapshot. It knows by how much each version is behind
//! its share, to the ten-thousandth of a request, and a new schedule begins from there: one that began from nothing
//! at each change would, in a storm of changes, always play its beginning and starve whoever comes late in it. While
//! a version has weight 0 its deficit is kept and not paid.
//!
//! Requests that take their turn from an old schedule after its successor was compiled are in the ledger, but
//! not in that successor's beginning. While both are in use the sum of both is off by at most what the old one
//! moves meanwhile: less than two requests, and never more than there were such requests. The next change pays it back.
//!
//! Invariant: deficits sum to zero over all versions, with each schedule and in the ledger as a whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::schedule::{Schedule, Schedules, UNIT};
use crate::model::{Name, Split};

/// One request, in basis points, as the accumulator counts it.
const REQUEST: u64 = 10_000;

/// Says which version is next, exactly by weight. Shared by all threads; a choice is one atomic addition.
#[derive(Clone, Debug)]
pub(crate) struct Splitter {
    rotation: Rotation,
    ledger: Arc<DeficitLedger>,
}

/// How the next version is found. Versions are indices into the split.
#[derive(Clone, Debug)]
enum Rotation {
    Single(usize),
    Pair { position: Arc<Position>, weight: u64, versions: [usize; 2] },
    Many { position: Arc<Position>, schedule: Arc<Schedule>, versions: Box<[usize]> },
}

/// A live position and how to read it. Carried from snapshot to snapshot while it still fits.
#[derive(Debug)]
struct Position {
    /// On cache lines of its own: every thread writes it at every request.
    counter: CachePadded<AtomicU64>,
    basis: Basis,
}

#[derive(Debug)]
enum Basis {
    /// The position is the sum of the first version's weights, beginning at `start` (below [`REQUEST`]).
    Pair { names: [Name; 2], start: u64 },
    /// The position is the number of turns taken from the schedule of these weights.
    Many { eligible: Box<[(Name, u16)]>, schedule: Arc<Schedule> },
}

/// By how much each version of a service is behind its share. Locked only while snapshots are compiled, never by a request.
#[derive(Debug, Default)]
struct DeficitLedger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// From positions that nobody can move any more.
    settled: Deficits,
    /// Positions that a snapshot in use may still move. At most one for each snapshot that is alive.
    open: Vec<Arc<Position>>,
}

/// The deficit of each version, in ten-thousandths of a request; one that is not listed has none.
#[derive(Clone, Debug, Default)]
struct Deficits(Vec<(Name, i64)>);

impl Splitter {
    /// The splitter of `split`, which continues where `previous`, the one in use for the same service, is.
    ///
    /// With the same weights it takes over the position itself. Compiling has no effect on `previous`, so a
    /// snapshot that is never published costs nothing.
    #[must_use]
    pub(crate) fn compile(split: &Split, previous: Option<&Self>, schedules: &mut Schedules) -> Self {
        let eligible: Vec<Eligible> = split
            .iter()
            .enumerate()
            .filter(|(_, (_, weight))| weight.basis_points() > 0)
            .map(|(version, (name, weight))| Eligible { version, name: name.clone(), weight: weight.basis_points() })
            .collect();
        let ledger = previous.map(|previous| Arc::clone(&previous.ledger)).unwrap_or_default();
        let rotation = previous
            .and_then(|previous| previous.rotation.taken_over(&eligible))
            .unwrap_or_else(|| ledger.begin(split, &eligible, schedules));
        Self { rotation, ledger }
    }

    /// The version whose turn it is, as an index into the split, and one step on.
    #[must_use]
    pub(crate) fn choose(&self) -> usize {
        match &self.rotation {
            Rotation::Single(version) => *version,
            Rotation::Pair { position, weight, versions: [first, second] } => {
                let sum = position.counter.fetch_add(*weight, Ordering::Relaxed);
                if sum % REQUEST + weight >= REQUEST { *first } else { *second }
            }
            Rotation::Many { position, schedule, versions } => {
                let turn = position.counter.fetch_add(1, Ordering::Relaxed);
                versions.get(schedule.turn(turn)).copied().unwrap_or_default()
            }
        }
    }

    /// The deficit of each version of `split`, in ten-thousandths of a request: positive where it has had less than its
    /// share. For tests and diagnosis; walks schedules.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn deficits(&self, split: &Split) -> Vec<i64> {
        let mut book = self.ledger.lock();
        book.settle();
        let deficits = book.deficits();
        split.iter().map(|(name, _)| deficits.of(name)).collect()
    }
}

/// A version that takes part: index into the split, name, weight in basis points above 0.
struct Eligible {
    version: usize,
    name: Name,
    weight: u16,
}

impl Rotation {
    /// This rotation for `eligible`, at the same position, if that is the same schedule or one that needs no
    /// hand-over.
    fn taken_over(&self, eligible: &[Eligible]) -> Option<Self> {
        let named = |name: &Name| eligible.iter().find(|eligible| eligible.name == *name);
        match self {
            Self::Single(_) => None,
            Self::Pair { position, .. } => {
                let Basis::Pair { names: [first, second], .. } = &position.basis else { return None };
                let (first, second) = (named(first)?, named(second)?);
                (eligible.len() == 2).then(|| Self::Pair {
                    position: Arc::clone(position),
                    weight: first.weight.into(),
                    versions: [first.version, second.version],
                })
            }
            Self::Many { position, schedule, .. } => {
                let Basis::Many { eligible: before, .. } = &position.basis else { return None };
                let same = |(name, weight): &(Name, u16)| named(name).filter(|now| now.weight == *weight);
                let versions: Option<Box<[usize]>> =
                    before.iter().map(|one| same(one).map(|now| now.version)).collect();
                versions.filter(|versions| versions.len() == eligible.len()).map(|versions| Self::Many {
                    position: Arc::clone(position),
                    schedule: Arc::clone(schedule),
                    versions,
                })
            }
        }
    }
}

impl Position {
    /// How deficits have changed since the position began.
    fn moved(&self) -> Vec<(Name, i64)> {
        let position = self.counter.load(Ordering::Relaxed);
        match &self.basis {
            Basis::Pair { names: [first, second], start } => {
                let moved = (position % REQUEST).cast_signed() - start.cast_signed();
                vec![(first.clone(), moved), (second.clone(), -moved)]
            }
            Basis::Many { eligible, schedule } => {
                let counts = schedule.counts(eligible.len(), position);
                let one = |((name, weight), count): (&(Name, u16), u64)| {
                    // Both terms may exceed the integer after 10^15 requests; their difference does not.
                    let share = position.cast_signed().wrapping_mul(i64::from(*weight));
                    (name.clone(), share.wrapping_sub(count.cast_signed().wrapping_mul(UNIT)))
                };
                eligible.iter().zip(counts).map(one).collect()
            }
        }
    }
}

impl DeficitLedger {
    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new rotation for `eligible`, out of `split`, that begins from the deficits of now.
    fn begin(&self, split: &Split, eligible: &[Eligible], schedules: &mut Schedules) -> Rotation {
        let mut book = self.lock();
        book.settle();
        let deficits = book.hand_over_the_departed(split, eligible);
        let position = match eligible {
            [] => return Rotation::Single(0),
            [single] => return Rotation::Single(single.version),
            [first, second] => deficits.pair(first, second),
            many => deficits.many(many, schedules),
        };
        let position = Arc::new(position);
        book.open.push(Arc::clone(&position));
        match (&position.basis, eligible) {
            (Basis::Many { schedule, .. }, _) => Rotation::Many {
                schedule: Arc::clone(schedule),
                versions: eligible.iter().map(|eligible| eligible.version).collect(),
                position,
            },
            (Basis::Pair { .. }, [first, second]) => {
                Rotation::Pair { position, weight: first.weight.into(), versions: [first.version, second.version] }
            }
            (Basis::Pair { .. }, _) => Rotation::Single(0),
        }
    }
}

impl Book {
    /// Closes the positions that no snapshot holds any more.
    fn settle(&mut self) {
        let mut closed = Vec::new();
        self.open.retain_mut(|position| {
            // `get_mut` and not a look at the count: it also orders the last request's step before our reading.
            let over = Arc::get_mut(position).is_some();
            if over {
                closed.extend(position.moved());
            }
            !over
        });
        for (name, moved) in closed {
            self.settled.add(&name, moved);
        }
    }

    /// All deficits, settled and open together. Walks the open schedules once.
    fn deficits(&self) -> Deficits {
        let mut deficits = self.settled.clone();
        for (name, moved) in self.open.iter().flat_map(|position| position.moved()) {
            deficits.add(&name, moved);
        }
        deficits
    }

    /// The deficit of versions that the split no longer names goes to whoever is furthest on the other side, so that
    /// the sum stays zero and nobody gets further out. Returns the deficits after that.
    fn hand_over_the_departed(&mut self, split: &Split, eligible: &[Eligible]) -> Deficits {
        let mut deficits = self.deficits();
        let departed = |name: &Name| split.iter().all(|(named, _)| named != name);
        let (gone, here) = deficits.0.into_iter().partition(|(name, _)| departed(name));
        deficits = Deficits(here);
        for (name, deficit) in gone {
            let by_deficit = |heir: &&Eligible| deficits.of(&heir.name);
            let heir = if deficit > 0 {
                eligible.iter().min_by_key(by_deficit)
            } else {
                eligible.iter().max_by_key(by_deficit)
            };
            if let Some(heir) = heir {
                deficits.add(&heir.name, deficit);
                self.settled.add(&heir.name, deficit);
                self.settled.add(&name, -deficit);
            }
        }
        deficits
    }
}

impl Deficits {
    fn add(&mut self, name: &Name, amount: i64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, deficit)) => *deficit += amount,
            None => self.0.push((name.clone(), amount)),
        }
        self.0.retain(|(_, deficit)| *deficit != 0);
    }

    fn of(&self, name: &Name) -> i64 {
        self.0.iter().find(|(known, _)| known == name).map_or(0, |(_, deficit)| *deficit)
    }

    fn pair(&self, first: &Eligible, second: &Eligible) -> Position {
        // The accumulator keeps the first version's deficit in a range one request wide. It is laid so that
        // it holds the deficit of now and is otherwise as even as possible between the two.
        let lead = (self.of(&first.name) - self.of(&second.name)).div_euclid(2);
        let start = (lead + UNIT / 2).clamp(0, UNIT - 1).unsigned_abs();
        let basis = Basis::Pair { names: [first.name.clone(), second.name.clone()], start };
        Position { counter: CachePadded::new(AtomicU64::new(start)), basis }
    }

    fn many(&self, many: &[Eligible], schedules: &mut Schedules) -> Position {
        let deficits: Vec<_> = many.iter().map(|one| (one.weight, self.of(&one.name))).collect();
        let eligible = many.iter().map(|one| (one.name.clone(), one.weight)).collect();
        Position {
            counter: CachePadded::default(),
            basis: Basis::Many { eligible, schedule: schedules.schedule(&deficits) },
        }
    }
}

#[cfg(test)]
mod tests;
