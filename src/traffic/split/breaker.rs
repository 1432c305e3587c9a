//! The fuse: a version that trips takes no more turns, with the very next choice and without a new snapshot.
//!
//! ```text
//! the version that is due ── guarded and tripped? ── no ──► it
//!                                                └── yes ─► one of the rest, by what was compiled for this case
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

use super::{Bands, Choice, Reason, Share, Splitter, Tables, affinity, among_available, split};
use crate::model::{Name, Weight};

/// Whether a version is out, known to all threads at once.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Up while the version is to get nothing.
    pub tripped: Arc<AtomicBool>,
    /// Who gets everything where no other version that takes requests has a weight.
    pub stable: Name,
}

/// What happens in place of guarded versions.
#[derive(Debug)]
pub(super) struct Fuse {
    /// By version; none for one that is not guarded.
    flags: Box<[Option<Arc<AtomicBool>>]>,
    /// `None` when no other version takes requests.
    rest: Option<(Splitter, Bands)>,
    /// The shares while a flag is up.
    effective: Vec<Weight>,
}

impl Fuse {
    /// The fuse of these versions; none if no version is guarded. `previous` hands over what each of the rest is owed.
    ///
    /// A rollout guards one version of its service. Of several, any that trips has its turns taken by those that are
    /// not guarded.
    pub(super) fn compile(versions: &[Share], previous: Option<&Self>, tables: &mut Tables) -> Option<Self> {
        let guard = versions.iter().find_map(|version| version.guard.as_ref())?;
        let out =
            |version: &Share| Share { available: version.available && version.guard.is_none(), ..version.clone() };
        let mut rest: Vec<Share> = versions.iter().map(out).collect();
        // What a guarded version had goes on to somebody; what nobody had, nobody gets.
        let had = versions.iter().any(|version| version.guard.is_some() && version.weight > Weight::ZERO);
        if had && !rest.iter().any(|version| version.available && version.weight > Weight::ZERO) {
            for version in &mut rest {
                version.weight = if version.name == guard.stable { Weight::FULL } else { Weight::ZERO };
            }
        }
        let effective = among_available(&rest);
        let rest = effective.iter().any(|weight| *weight > Weight::ZERO).then(|| {
            let before = previous.and_then(|before| before.rest.as_ref()).map(|(splitter, _)| splitter);
            (Splitter::compile(&split(versions, &effective), before, tables), Bands::new(&effective))
        });
        let flag = |version: &Share| version.guard.as_ref().map(|guard| Arc::clone(&guard.tripped));
        Some(Self { flags: versions.iter().map(flag).collect(), rest, effective })
    }

    /// `choice`, or what takes its place because its version tripped.
    pub(super) fn instead_of(&self, choice: Choice) -> Choice {
        if !self.flags.get(choice.version).and_then(Option::as_ref).is_some_and(|flag| flag.load(Ordering::Acquire)) {
            return choice;
        }
        let Some((splitter, bands)) = &self.rest else { return Choice { available: false, ..choice } };
        let version = match choice.key.map(affinity::mix) {
            None => splitter.choose(),
            // The first mixing chose the version that took the place of another; these clients are spread anew.
            Some(mixed) if choice.reason == Reason::Failover => bands.version(affinity::mix(mixed)),
            Some(mixed) => bands.version(mixed),
        };
        Choice { version, reason: Reason::Failover, available: true, ..choice }
    }

    /// The shares while a version is out; none while all are in.
    pub(super) fn effective(&self) -> Option<&[Weight]> {
        let out = self.flags.iter().flatten().any(|flag| flag.load(Ordering::Acquire));
        out.then_some(&*self.effective)
    }
}
