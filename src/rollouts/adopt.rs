//! Where a rollout starts whose service was served by weights before: by a `split`, or by `weir weight`. What serves now
//! stays as it is, so that no version gets more because a file names it.
//!
//! ```text
//! one version has everything                     → it is stable, and what the file names is rolled out from nothing
//! stable and the release have all between them   → the release goes on from the weight it has
//! else                                           → refused, with what to write
//! ```

use std::collections::BTreeMap;

use crate::config;
use crate::model::{Name, Split, SplitKey, Weight};
use crate::rollout::plan::Plan;

/// Why nobody can tell where a rollout starts, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnclearStart {
    /// Which one traffic goes back to is not said, and cannot be seen.
    #[error("{shares} now, and none has more than half: nothing says which one is stable")]
    NoMajority {
        /// What each version has.
        shares: String,
    },
    /// The file names what most requests go to already.
    #[error("the file names {release}, which serves most requests already: {shares} now")]
    Already {
        /// The version that is named.
        release: Name,
        /// The version with the most of the rest.
        other: Name,
        /// What each version has.
        shares: String,
    },
    /// A version that is neither stable nor named has a share.
    #[error(
        "{other} has {weight} % now, which would go to another version: it is neither {stable}, which is stable, nor {release}"
    )]
    Third {
        /// It.
        other: Name,
        /// Its share.
        weight: Weight,
        /// What is stable.
        stable: Name,
        /// What the file names.
        release: Name,
    },
}

impl UnclearStart {
    /// What to write.
    pub(crate) fn help(&self, service: &str) -> String {
        match self {
            Self::NoMajority { .. } => {
                "add `stable: NAME` with the version that traffic goes back to; the other goes on from the weight it has"
                    .to_owned()
            }
            Self::Already { release, other, .. } => format!(
                "write `release: {other}` to go on with that; or take its share away first, by \
                 `weir weight {service} {release}=100` or in `split`"
            ),
            Self::Third { stable, .. } => format!(
                "take its share away first, by `weir weight {service} {stable}=100` or in `split`, and then add `release`"
            ),
        }
    }
}

/// Where a rollout starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// From this version, which has everything.
    Serves(Name),
    /// From what is released, at the weight that it has.
    GoesOn {
        /// The version that has the rest.
        stable: Name,
        /// The weight of what is released.
        weight: Weight,
    },
}

/// Where the rollout of `release` starts, of a service whose versions have these `shares` now. `stable`: what the file
/// says; it matters only where no version has everything.
pub(super) fn start(shares: &Split, stable: Option<&Name>, release: &Name) -> Result<Start, UnclearStart> {
    if let Some(whole) = whole(shares) {
        return Ok(Start::Serves(whole));
    }
    let half = Weight::FULL.basis_points() / 2;
    let most = shares.iter().find(|(_, weight)| weight.basis_points() > half).map(|(name, _)| name);
    let Some(stable) = stable.or(most) else { return Err(UnclearStart::NoMajority { shares: described(shares) }) };
    let others = || shares.iter().filter(|(name, weight)| *name != release && *weight > Weight::ZERO);
    if stable == release {
        let other = others().max_by_key(|(_, weight)| *weight).map_or(release, |(name, _)| name).clone();
        return Err(UnclearStart::Already { release: release.clone(), other, shares: described(shares) });
    }
    if let Some((other, weight)) = others().find(|(name, _)| *name != stable) {
        let other = other.clone();
        return Err(UnclearStart::Third { other, weight, stable: stable.clone(), release: release.clone() });
    }
    let weight = shares.iter().find(|(name, _)| *name == release).map_or(Weight::ZERO, |(_, weight)| weight);
    Ok(Start::GoesOn { stable: stable.clone(), weight })
}

/// What served those whom `plan` moves, by the file `before` and the shifts over it. A cohort that is new was nobody's.
pub(super) fn served<'a>(
    service: &Name,
    before: &'a config::Service,
    plan: &Plan,
    shifts: &'a BTreeMap<SplitKey, Split>,
) -> &'a Split {
    let base = |cohort: Option<&Name>| {
        let key = SplitKey { service: service.clone(), cohort: cohort.cloned() };
        shifts.get(&key).or_else(|| before.split_of(cohort))
    };
    base(plan.cohort.as_ref()).or_else(|| base(None)).unwrap_or(&before.split)
}

/// The version that has everything, if one has.
pub(super) fn whole(split: &Split) -> Option<Name> {
    split.iter().find(|(_, weight)| *weight == Weight::FULL).map(|(name, _)| name.clone())
}

fn described(shares: &Split) -> String {
    let shares = shares.iter().filter(|(_, weight)| *weight > Weight::ZERO);
    let shares: Vec<String> = shares.map(|(name, weight)| format!("{name} has {weight} %")).collect();
    shares.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(shares: &[(&str, u16)]) -> Split {
        let weight = |percent: u16| Weight::from_basis_points(percent * 100).unwrap();
        Split::new(shares.iter().map(|(name, percent)| ((*name).into(), weight(*percent))).collect()).unwrap()
    }

    fn started(now: &[(&str, u16)], stable: Option<&str>, release: &str) -> Result<Start, UnclearStart> {
        start(&shares(now), stable.map(Name::from).as_ref(), &release.into())
    }

    #[test]
    fn what_serves_now_is_where_it_starts() {
        let goes_on = |stable: &str, percent: u16| {
            Ok(Start::GoesOn { stable: stable.into(), weight: Weight::from_basis_points(percent * 100).unwrap() })
        };
        let (most, all) = ([("v1", 90), ("v2", 10)], [("v1", 100), ("v2", 0)]);
        assert_eq!(started(&most, None, "v2"), goes_on("v1", 10));
        assert_eq!(started(&most, Some("v2"), "v1"), goes_on("v2", 90), "it is said which way");
        assert_eq!(started(&[("v1", 50), ("v2", 50)], Some("v1"), "v2"), goes_on("v1", 50));
        for stable in [None, Some("v1"), Some("v2")] {
            assert_eq!(started(&all, stable, "v2"), Ok(Start::Serves("v1".into())), "{stable:?}");
        }
    }

    #[test]
    fn what_is_not_clear_is_refused_with_what_to_write() {
        let refused = |now: &[(&str, u16)], stable: Option<&str>, release: &str| {
            let why = started(now, stable, release).unwrap_err();
            (why.to_string(), why.help("shop"))
        };
        let (why, help) = refused(&[("v1", 50), ("v2", 50)], None, "v2");
        assert!(why.contains("v1 has 50 %, v2 has 50 %") && help.contains("`stable: NAME`"), "{why} {help}");
        for stable in [None, Some("v1")] {
            let (why, help) = refused(&[("v1", 90), ("v2", 10)], stable, "v1");
            assert!(why.contains("names v1") && why.contains("v2 has 10 %"), "{why}");
            assert!(help.contains("`release: v2`") && help.contains("`weir weight shop v1=100`"), "{help}");
        }
        let third = [("v1", 80), ("v2", 15), ("v3", 5)];
        let (why, help) = refused(&third, None, "v2");
        assert!(why.contains("v3 has 5 %") && help.contains("`weir weight shop v1=100`"), "{why} {help}");
        assert!(refused(&third, Some("v1"), "v3").0.contains("v2 has 15 %"));
        assert!(refused(&[("v1", 90), ("v2", 10)], Some("v3"), "v2").0.contains("v1 has 90 %"));
    }
}
