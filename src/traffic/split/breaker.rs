//! Circuit breakers: a version whose breaker trips takes no more turns, with the very next choice and without a new snapshot.
//!
//! ```text
//! the version that is due ── tripped? ── no ──► it
//!                                    └── yes ─► one of the rest, by what was compiled for this case
//! ```
//!
//! What the rest get is compiled with the snapshot, so a tripped version costs a request one more choice and nothing
//! else. The rest share its turns as their weights are to one another. Where they have no weight at all, as beside a
//! canary that had everything, the version that is named as the way back gets them all.
//!
//! Invariant: while its flag is up, no choice by weight or affinity gives a version; when it comes down, every client
//! is where it was before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Choice, HashRanges, Reason, Schedules, Share, Splitter, affinity, among_available, split};
use crate::model::{Name, Weight};

/// The breaker of one version: whether the version is out, known to all threads at once.
#[derive(Clone, Debug)]
pub struct Breaker {
    /// Up while the version is to get nothing.
    pub tripped: Arc<AtomicBool>,
    /// Who gets everything where no other version that takes requests has a weight.
    pub stable: Name,
}

/// What happens in place of versions that trip.
#[derive(Debug)]
pub(super) struct Breakers {
    /// By version; none for one without a breaker.
    flags: Box<[Option<Arc<AtomicBool>>]>,
    /// `None` when no other version takes requests.
    rest: Option<(Splitter, HashRanges)>,
    /// The shares while a flag is up.
    effective: Vec<Weight>,
}

impl Breakers {
    /// The breakers of these versions; none if no version has one. `previous` hands over the deficits of the rest.
    ///
    /// A rollout gives a breaker to one version of its service. Of several, any that trips has its turns taken by those
    /// without one.
    pub(super) fn compile(versions: &[Share], previous: Option<&Self>, schedules: &mut Schedules) -> Option<Self> {
        let breaker = versions.iter().find_map(|version| version.breaker.as_ref())?;
        let out =
            |version: &Share| Share { available: version.available && version.breaker.is_none(), ..version.clone() };
        let mut rest: Vec<Share> = versions.iter().map(out).collect();
        // What a version with a breaker had goes on to somebody; what nobody had, nobody gets.
        let had = versions.iter().any(|version| version.breaker.is_some() && version.weight > Weight::ZERO);
        if had && !rest.iter().any(|version| version.available && version.weight > Weight::ZERO) {
            for version in &mut rest {
                version.weight = if version.name == breaker.stable { Weight::FULL } else { Weight::ZERO };
            }
        }
        let effective = among_available(&rest);
        let rest = effective.iter().any(|weight| *weight > Weight::ZERO).then(|| {
            let before = previous.and_then(|before| before.rest.as_ref()).map(|(splitter, _)| splitter);
            (Splitter::compile(&split(versions, &effective), before, schedules), HashRanges::new(&effective))
        });
        let flag = |version: &Share| version.breaker.as_ref().map(|breaker| Arc::clone(&breaker.tripped));
        Some(Self { flags: versions.iter().map(flag).collect(), rest, effective })
    }

    /// `choice`, or what takes its place because its version tripped.
    pub(super) fn instead_of(&self, choice: Choice) -> Choice {
        if !self.flags.get(choice.version).and_then(Option::as_ref).is_some_and(|flag| flag.load(Ordering::Acquire)) {
            return choice;
        }
        let Some((splitter, ranges)) = &self.rest else { return Choice { available: false, ..choice } };
        let version = match choice.key.map(affinity::mix) {
            None => splitter.choose(),
            // The first mixing chose the version that took the place of another; these clients are spread anew.
            Some(mixed) if choice.reason == Reason::Failover => ranges.version(affinity::mix(mixed)),
            Some(mixed) => ranges.version(mixed),
        };
        Choice { version, reason: Reason::Failover, available: true, ..choice }
    }

    /// The shares while a version is out; none while all are in.
    pub(super) fn effective(&self) -> Option<&[Weight]> {
        let out = self.flags.iter().flatten().any(|flag| flag.load(Ordering::Acquire));
        out.then_some(&*self.effective)
    }
}
