//! Whether a share of requests is above a limit by more than chance.
//!
//! The question is that of an exact binomial test (Clopper and Pearson, Biometrika 26, 1934): if the version's own share
//! were at the limit, how likely were so many bad requests or more? Requests that come in clusters count as fewer
//! ([`StablePast::dispersion`](crate::rollout::evidence::StablePast::dispersion)).

use crate::algorithm::binomial;
use crate::rollout::evidence::{EndpointTally, Limit, MIN_ENDPOINTS, Tally};

/// What a plan has by default.
const DEFAULT_LEVEL: f64 = 0.01;

/// How sure a finding has to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Significance {
    /// The chance at most, 0 to 1; none: anything above the limit is enough.
    pub(super) level: Option<f64>,
    /// How many requests count as one.
    pub(super) design_effect: f64,
}

/// What a share of requests is, compared with a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Excess {
    /// It is not above the limit.
    None,
    /// It is, and that may be chance.
    Unsure,
    /// It is, and hardly by chance.
    Sure,
}

impl Significance {
    /// What `tally` is, compared with `limit`.
    pub(super) fn excess(self, tally: Tally, limit: Limit) -> Excess {
        if !tally.above(limit) {
            Excess::None
        } else if self.level.is_none_or(|level| self.chance(tally, limit) <= level) {
            Excess::Sure
        } else {
            Excess::Unsure
        }
    }

    /// Whether stable is about as bad as the canary: more than twice its share may be chance, also where limits are meant to
    /// the letter.
    pub(super) fn as_bad(self, canary: Tally, stable: Tally) -> bool {
        let twice = stable.percent().map_or(0.0, |percent| percent * 2.0);
        let level = self.level.unwrap_or(DEFAULT_LEVEL);
        Self { level: Some(level), ..self }.excess(canary, Limit::percent(twice)) != Excess::Sure
    }

    /// The chance of so many bad ones at the limit.
    pub(super) fn chance(self, tally: Tally, limit: Limit) -> f64 {
        let counted = |count: u64| count as f64 / self.design_effect;
        binomial::upper_tail(counted(tally.bad), counted(tally.requests), limit.as_ratio())
    }

    /// The endpoint that the excess of the whole version `tally` comes from: without it there is none that is sure.
    pub(super) fn one_endpoint(
        self,
        tally: Tally,
        limit: Limit,
        endpoints: &[EndpointTally],
    ) -> Option<&EndpointTally> {
        let worst = worst(endpoints)?;
        let rest = tally.without(worst.tally);
        (self.excess(rest, limit) != Excess::Sure).then_some(worst)
    }
}

/// The endpoint with the most errors, where it is one of several and had less than half of the requests: an endpoint that
/// fails fast may draw most of them, and is what users see then.
pub(super) fn worst(endpoints: &[EndpointTally]) -> Option<&EndpointTally> {
    let asked = endpoints.iter().filter(|endpoint| endpoint.tally.requests > 0);
    let all: u64 = asked.clone().map(|endpoint| endpoint.tally.requests).sum();
    if asked.clone().count() < MIN_ENDPOINTS {
        return None;
    }
    let worst = asked.max_by_key(|endpoint| endpoint.tally.bad)?;
    (worst.tally.bad > 0 && worst.tally.requests * 2 < all).then_some(worst)
}

/// Chance that an endpoint of a version whose endpoints are all alike is taken for another kind.
const OUTLIER: f64 = 1e-4;

/// The endpoint that differs from all others of the version, if one does: its errors are hardly those of the others.
pub(super) fn outlier(endpoints: &[EndpointTally]) -> Option<&EndpointTally> {
    let worst = worst(endpoints)?;
    let rest: Tally = endpoints.iter().filter(|endpoint| endpoint.id != worst.id).map(|endpoint| endpoint.tally).sum();
    // Half an error more than were seen: none among few is not never.
    let usual = (rest.bad as f64 + 0.5) / (rest.requests as f64 + 1.0);
    let chance = binomial::upper_tail(worst.tally.bad as f64, worst.tally.requests as f64, usual.min(1.0));
    (chance <= OUTLIER && worst.tally.bad > 1).then_some(worst)
}
