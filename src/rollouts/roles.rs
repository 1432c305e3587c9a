//! Which version is what in a rollout.

use crate::model::Name;
use crate::rollout::engine::{Progress, RolloutState};

/// The two versions of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    /// What traffic goes back to.
    pub(crate) stable: Name,
    /// What is rolled out.
    pub(crate) canary: Name,
}

impl Roles {
    /// The roles in `state`, if it has both.
    pub(super) fn of(state: &RolloutState) -> Option<Self> {
        let (stable, canary) = (state.stable.as_ref()?, state.canary.as_ref()?);
        Some(Self { stable: stable.version.clone(), canary: canary.version.clone() })
    }

    /// The roles where something was said, if it had both.
    pub(super) fn at(progress: &Progress) -> Option<Self> {
        Some(Self { stable: progress.stable.clone()?, canary: progress.canary.clone()? })
    }
}
