//! What replaces a version that takes no requests, and a version whose breaker tripped.
//!
//! ```text
//! the version that is due ── available? ── no ──► one of the available ─┬─ tripped? ── no ──► it
//!                                └── yes ───────────────────────────────┘     └── yes ─► one of the rest
//! ```
//!
//! It is made for each set of available versions, before that set is in effect, so a request that needs it pays one
//! more choice and nothing else. Those that replace a version share its turns as their weights are to one another.
//! Beside a tripped version, where no other has a weight, as beside a canary that had everything, the version that is
//! named as the way back gets everything.
//!
//! Invariant: while a version's breaker is tripped, no choice by weight or affinity gives the version; when it is
//! reset, every client is where it was before.

use super::affinity::{HashRanges, mix};
use super::choice::{Choice, Failover, Reason};
use super::schedule::Schedules;
use super::share::{VersionShare, among_available, split};
use super::weighted::Splitter;
use crate::model::Weight;

/// What replaces versions, for one set of available versions.
#[derive(Debug)]
pub(super) struct Fallback {
    /// In place of versions that take no requests; `None` while all versions with a weight do.
    pub(super) failover: Option<Redirect>,
    /// In place of versions whose breaker tripped; `None` if no version has a breaker.
    pub(super) rest: Option<Redirect>,
}

/// Where turns of others go.
#[derive(Debug)]
pub(super) struct Redirect {
    /// `None` when nobody is left with a weight.
    among: Option<(Splitter, HashRanges)>,
    /// The share of each version meanwhile.
    pub(super) effective: Vec<Weight>,
}

/// The last schedules of both kinds: the next ones go on there, or a version that comes and goes would always play
/// their beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct LastSchedules {
    failover: Option<Splitter>,
    rest: Option<Splitter>,
}

impl Fallback {
    /// The fallback while these versions are available as they say. `last` is carried on to the next.
    pub(super) fn new(
        versions: &[VersionShare],
        failover: Failover,
        last: &mut LastSchedules,
        schedules: &mut Schedules,
    ) -> Self {
        let away = versions.iter().any(|version| !version.available && version.weight > Weight::ZERO);
        let failover = away.then(|| match failover {
            Failover::ToOthers => Redirect::new(versions, among_available(versions), &mut last.failover, schedules),
            Failover::Never => Redirect::to_nobody(versions),
        });
        let rest = without_breakers(versions)
            .map(|rest| Redirect::new(versions, among_available(&rest), &mut last.rest, schedules));
        Self { failover, rest }
    }
}

/// The versions as they are while those with a breaker get nothing; none if no version has one.
///
/// A rollout gives a breaker to one version of its service. Of several, any that trips has its turns taken by those
/// without one.
fn without_breakers(versions: &[VersionShare]) -> Option<Vec<VersionShare>> {
    let breaker = versions.iter().find_map(|version| version.breaker.as_ref())?;
    let mut rest = versions.to_vec();
    for version in &mut rest {
        version.available &= version.breaker.is_none();
    }
    // What a version with a breaker had goes on to somebody; what nobody had, nobody gets.
    let had = versions.iter().any(|version| version.breaker.is_some() && version.weight > Weight::ZERO);
    if had && !rest.iter().any(|version| version.available && version.weight > Weight::ZERO) {
        for version in &mut rest {
            version.weight = if version.name == breaker.stable { Weight::FULL } else { Weight::ZERO };
        }
    }
    Some(rest)
}

impl Redirect {
    fn new(
        versions: &[VersionShare],
        effective: Vec<Weight>,
        last: &mut Option<Splitter>,
        schedules: &mut Schedules,
    ) -> Self {
        let among = effective.iter().any(|weight| *weight > Weight::ZERO).then(|| {
            let splitter = Splitter::compile(&split(versions, &effective), last.as_ref(), schedules);
            *last = Some(splitter.clone());
            (splitter, HashRanges::new(&effective))
        });
        Self { among, effective }
    }

    /// Nobody takes the turns of those that are away, so all keep their share.
    fn to_nobody(versions: &[VersionShare]) -> Self {
        Self { among: None, effective: versions.iter().map(|version| version.weight).collect() }
    }

    /// What `choice` becomes; it is not available if nobody is left.
    pub(super) fn redirect(&self, choice: Choice) -> Choice {
        let Some((splitter, ranges)) = &self.among else { return Choice { available: false, ..choice } };
        let version = match choice.key.map(mix) {
            None => splitter.choose(),
            // The first mixing chose the version that took the place of another; these clients are spread anew.
            Some(mixed) if choice.reason == Reason::Failover => ranges.version(mix(mixed)),
            Some(mixed) => ranges.version(mixed),
        };
        Choice { version, reason: Reason::Failover, available: true, ..choice }
    }
}
