//! How a [`RolloutState`] is written, and what it must be to be read.
//!
//! The format is flat: a phase, and beside it what belongs to some phases only. [`RolloutState::from_json`] refuses
//! what fits together in no way: what is paused, and only that, knows where it was; a rollout under way has a stable
//! version and a canary that differ; a rollout that is over gives the canary nothing.

use serde::{Deserialize, Serialize};

use super::state::{
    AfterCall, Bake, Call, Failed, FailedTarget, PausedFrom, Phase, RolloutState, RolloutTarget, Stage, Times,
    WaitingFor, weight,
};
use crate::model::Weight;
use crate::rollout::plan::HookPoint;
use crate::rollout::verdict::Verdict;

/// The format of a written [`RolloutState`]; raised when older code could misread it.
pub(crate) const STATE_VERSION: u32 = 1;

/// Why a written state is not used. Traffic goes to stable, and the file is set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A newer Weir wrote it.
    #[error(
        "the rollout state has version {found}, this Weir knows versions up to {STATE_VERSION}: start the newer Weir"
    )]
    Newer {
        /// The version that was found.
        found: u64,
    },
    /// It cannot be what a Weir wrote.
    #[error("the rollout state is damaged: {0}")]
    Damaged(String),
}

/// A state as it is written.
#[derive(Serialize, Deserialize)]
struct StoredState {
    /// [`STATE_VERSION`] of who wrote it.
    state_version: u32,
    phase: Phase,
    stable: Option<RolloutTarget>,
    canary: Option<RolloutTarget>,
    previous: Option<RolloutTarget>,
    declared: Option<RolloutTarget>,
    #[serde(with = "weight")]
    weight: Weight,
    taken: usize,
    /// The bake is over.
    baked: bool,
    /// An operator ended the bake.
    forced: bool,
    approved: bool,
    /// Paused because both versions were bad.
    frozen: bool,
    told_unwritable: bool,
    #[serde(default)]
    told_refused: bool,
    /// What is waited for, also while it is paused.
    waiting: Option<WaitingFor>,
    paused_from: Option<Phase>,
    times: Times,
    /// The weight that a ramp back began at.
    #[serde(with = "weight")]
    ramp_from: Weight,
    failures: Failed,
    calls: Vec<Call>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<AfterCall>,
    next_call: u64,
    cleared: Vec<HookPoint>,
    given_up: Vec<FailedTarget>,
    verdicts: Vec<Verdict>,
    reason: String,
}

impl RolloutState {
    /// The state as text for the disk.
    ///
    /// # Errors
    /// None in practice; [`Unreadable::Damaged`] if the value cannot be written as JSON.
    pub(crate) fn to_json(&self) -> Result<String, Unreadable> {
        serde_json::to_string(&StoredState::from(self)).map_err(|error| damaged(&error))
    }

    /// The state that [`to_json`](Self::to_json) wrote. Follow it with [`Event::Restored`](super::Event::Restored).
    ///
    /// # Errors
    /// [`Unreadable`] if a newer Weir wrote it, or nobody can have.
    pub(crate) fn from_json(text: &str) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct StoredFormat {
            state_version: u64,
        }
        let format: StoredFormat = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        if format.state_version > u64::from(STATE_VERSION) {
            return Err(Unreadable::Newer { found: format.state_version });
        }
        let stored: StoredState = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        let stage = stored.stage()?;
        let state = Self {
            stage,
            stable: stored.stable,
            canary: stored.canary,
            previous: stored.previous,
            desired: stored.declared,
            weight: stored.weight,
            taken: stored.taken,
            bake: match (stored.baked, stored.forced) {
                (_, true) => Bake::EndedByOperator,
                (true, false) => Bake::Over,
                (false, false) => Bake::Ahead,
            },
            approved: stored.approved,
            notified_unwritable: stored.told_unwritable,
            notified_refused: stored.told_refused,
            times: stored.times,
            failures: stored.failures,
            calls: stored.calls,
            after: stored.after,
            next_call: stored.next_call,
            cleared: stored.cleared,
            failed_targets: stored.given_up,
            verdicts: stored.verdicts,
            reason: stored.reason,
        };
        state.inconsistency().map_or(Ok(state), |what| Err(Unreadable::Damaged(what.to_owned())))
    }

    /// What the types leave open and no rollout fulfils, if anything.
    pub(super) fn inconsistency(&self) -> Option<&'static str> {
        let (stable, canary) = (&self.stable, &self.canary);
        match (self.is_under_way(), stable, canary) {
            (true, Some(stable), Some(canary)) if stable.version == canary.version => {
                Some("the canary and the stable version are the same")
            }
            (true, Some(_), Some(_)) if self.stage == Stage::Promoting && self.weight != Weight::FULL => {
                Some("a promotion has everything at the canary")
            }
            (true, Some(_), Some(_)) => None,
            (true, ..) => Some("a rollout under way has a stable version and a canary"),
            (false, ..) => (self.weight != Weight::ZERO).then_some("a rollout that is over gives the canary nothing"),
        }
    }
}

impl StoredState {
    fn stage(&self) -> Result<Stage, Unreadable> {
        // An older Weir could write a wait without its reason; it was one for health.
        let waiting = self.waiting.unwrap_or(WaitingFor::Health);
        let stage = match (self.phase, self.paused_from) {
            (Phase::Paused, Some(from)) => {
                let from = match from {
                    Phase::Waiting => PausedFrom::Waiting(waiting),
                    Phase::Progressing => PausedFrom::Progressing,
                    Phase::Baking => PausedFrom::Baking,
                    Phase::Promoting => PausedFrom::Promoting,
                    _ => return Err(Unreadable::Damaged("it was paused in a phase that cannot be paused".to_owned())),
                };
                Stage::Paused { from, both_bad: self.frozen }
            }
            (Phase::Paused, None) | (_, Some(_)) => {
                return Err(Unreadable::Damaged("what is paused, and only that, knows where it was".to_owned()));
            }
            (Phase::Idle, None) => Stage::Idle,
            (Phase::Waiting, None) => Stage::Waiting(waiting),
            (Phase::Progressing, None) => Stage::Progressing,
            (Phase::Baking, None) => Stage::Baking,
            (Phase::Promoting, None) => Stage::Promoting,
            (Phase::Succeeded, None) => Stage::Succeeded,
            (Phase::RollingBack, None) => Stage::RollingBack { from: self.ramp_from },
            (Phase::RolledBack, None) => Stage::RolledBack,
            (Phase::Aborted, None) => Stage::Aborted,
        };
        Ok(stage)
    }
}

impl From<&RolloutState> for StoredState {
    fn from(state: &RolloutState) -> Self {
        let state = state.clone();
        Self {
            state_version: STATE_VERSION,
            phase: state.phase(),
            baked: state.bake.is_over(),
            forced: state.bake == Bake::EndedByOperator,
            frozen: state.is_frozen(),
            waiting: state.waiting(),
            paused_from: state.paused_from(),
            ramp_from: match state.stage {
                Stage::RollingBack { from } => from,
                _ => Weight::ZERO,
            },
            stable: state.stable,
            canary: state.canary,
            previous: state.previous,
            declared: state.desired,
            weight: state.weight,
            taken: state.taken,
            approved: state.approved,
            told_unwritable: state.notified_unwritable,
            told_refused: state.notified_refused,
            times: state.times,
            failures: state.failures,
            calls: state.calls,
            after: state.after,
            next_call: state.next_call,
            cleared: state.cleared,
            given_up: state.failed_targets,
            verdicts: state.verdicts,
            reason: state.reason,
        }
    }
}

fn damaged(error: &serde_json::Error) -> Unreadable {
    Unreadable::Damaged(error.to_string())
}
