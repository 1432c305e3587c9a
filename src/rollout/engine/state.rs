//! Where a rollout is: everything the engine remembers, as plain data that survives a restart.
//!
//! Times are kept as how long something has lasted, never as a moment, because a moment of one process's clock
//! says nothing to the next. [`Times::pass`] is the one place where time goes by, and a clock that stands still or
//! steps back adds nothing.
//!
//! Invariant: a [`RolloutState`] that was read back has passed [`RolloutState::from_json`]'s checks: a rollout under
//! way has a stable version and a canary that differ, and a rollout that is over gives the canary nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::Evidence;
use crate::model::{Name, Weight};
use crate::rollout::plan::HookPoint;

/// The format of a written [`RolloutState`]; raised when older code could misread it.
pub const STATE_VERSION: u32 = 1;

/// Where a rollout is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is rolled out; the stable version has everything.
    #[default]
    Idle,
    /// The target's health, an operator or a hook is waited for.
    Waiting,
    /// The canary has a step's weight.
    Progressing,
    /// The canary has everything; the old version stays warm.
    Baking,
    /// The canary is about to become the stable version.
    Promoting,
    /// It has.
    Succeeded,
    /// The canary's weight goes down to nothing.
    RollingBack,
    /// The analysis sent everything back.
    RolledBack,
    /// Nothing moves forward until an operator decides; what is bad still goes back.
    Paused,
    /// An operator sent everything back.
    Aborted,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 10] = [
        Self::Idle,
        Self::Waiting,
        Self::Progressing,
        Self::Baking,
        Self::Promoting,
        Self::Succeeded,
        Self::RollingBack,
        Self::RolledBack,
        Self::Paused,
        Self::Aborted,
    ];

    /// The words of [`Self::ALL`], in its order.
    pub const WORDS: &'static [&'static str] = &[
        Self::Idle.as_str(),
        Self::Waiting.as_str(),
        Self::Progressing.as_str(),
        Self::Baking.as_str(),
        Self::Promoting.as_str(),
        Self::Succeeded.as_str(),
        Self::RollingBack.as_str(),
        Self::RolledBack.as_str(),
        Self::Paused.as_str(),
        Self::Aborted.as_str(),
    ];

    /// The word in metrics, the API and the history.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Progressing => "progressing",
            Self::Baking => "baking",
            Self::Promoting => "promoting",
            Self::Succeeded => "succeeded",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Paused => "paused",
            Self::Aborted => "aborted",
        }
    }

    /// Whether a rollout is under way, so that two versions matter.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(
            self,
            Self::Waiting | Self::Progressing | Self::Baking | Self::Promoting | Self::RollingBack | Self::Paused
        )
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version as something to roll out: its name, and what it was when it was named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutTarget {
    /// The version.
    #[serde(with = "name")]
    pub version: Name,
    /// Anything that is equal exactly as long as the version is the same thing to roll out; it must be the same
    /// after a restart. A target whose fingerprint differs has changed.
    pub fingerprint: String,
}

/// What the waiting phase waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// That both versions can take traffic, before any weight moves.
    Health,
    /// An operator's answer.
    Gate,
    /// That the hooks of this point accept.
    Hook(HookPoint),
}

/// How long things have lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The clock's last reading; of this process, so none in a state that was read back.
    #[serde(skip)]
    pub clock: Option<Duration>,
    /// The current weight, bake or promotion.
    pub step: Duration,
    /// The wait at a gate.
    pub gate: Duration,
    /// The lack of data or of a healthy target, if there is one.
    pub holding: Option<Duration>,
    /// The canary without an available endpoint, if it is.
    pub canary_down: Option<Duration>,
    /// The stable version without an available endpoint, if it is.
    #[serde(default)]
    pub stable_down: Option<Duration>,
    /// The way back.
    pub ramp: Duration,
}

impl Times {
    /// Lets time pass until `now`; none passes while the clock stands still, steps back or is read first.
    pub(super) fn pass(&mut self, now: Duration, phase: Phase, waiting: Option<WaitingFor>) -> Duration {
        let passed = self.clock.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.clock = Some(now);
        let add = |time: &mut Duration| *time = time.saturating_add(passed);
        add(&mut self.step);
        if phase == Phase::Waiting && waiting == Some(WaitingFor::Gate) {
            add(&mut self.gate);
        }
        if phase == Phase::RollingBack {
            add(&mut self.ramp);
        }
        self.holding.iter_mut().for_each(add);
        self.canary_down.iter_mut().for_each(add);
        self.stable_down.iter_mut().for_each(add);
        passed
    }
}

/// Failed analysis runs of this rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// In all.
    pub total: u32,
    /// Since the last analysis run that passed.
    pub consecutive: u32,
}

/// A hook that was called for a decision, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Unique over all rollouts of the service.
    pub id: u64,
    /// Which of the plan's hooks.
    pub hook: usize,
    /// At which point.
    pub when: HookPoint,
    /// Since it was called.
    pub age: Duration,
    /// Whether it accepted; none while it has not answered.
    pub accepted: Option<bool>,
}

/// A target that is not tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTarget {
    /// The target.
    pub target: RolloutTarget,
    /// How it ended: rolled back or aborted.
    pub phase: Phase,
    /// Why.
    pub why: String,
}

/// Everything that the engine knows of one service's rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutState {
    /// [`STATE_VERSION`] of who wrote it.
    pub state_version: u32,
    /// Where it is.
    pub phase: Phase,
    /// What serves, and where the way back always leads; none before the first sighting.
    pub stable: Option<RolloutTarget>,
    /// What is rolled out, or was when it went back.
    pub canary: Option<RolloutTarget>,
    /// The stable version before the last promotion.
    pub previous: Option<RolloutTarget>,
    /// What the file asks for, as last seen.
    #[serde(rename = "declared")]
    pub desired: Option<RolloutTarget>,
    /// The canary's weight; the stable version has the rest.
    #[serde(with = "weight")]
    pub weight: Weight,
    /// How many of the plan's steps were taken; the current one is the last of them.
    pub taken: usize,
    /// The bake is over.
    pub baked: bool,
    /// An operator ended the bake: lack of data does not delay the promotion.
    pub forced: bool,
    /// The gate after the current step is open.
    pub approved: bool,
    /// Both versions were bad: paused, and the receivers were notified.
    pub frozen: bool,
    /// The receivers were notified that the state cannot be written.
    #[serde(rename = "told_unwritable")]
    pub notified_unwritable: bool,
    /// The receivers were notified that a hook refuses the next move.
    #[serde(default, rename = "told_refused")]
    pub notified_refused: bool,
    /// What is waited for.
    pub waiting: Option<WaitingFor>,
    /// Where a pause returns to.
    pub paused_from: Option<Phase>,
    /// How long things have lasted.
    pub times: Times,
    /// The weight that a ramp back began at.
    #[serde(with = "weight")]
    pub ramp_from: Weight,
    /// Failed analysis runs.
    pub failures: Failed,
    /// Hooks that were called; at most one call for each of the plan's hooks.
    pub calls: Vec<Call>,
    /// The id of the next call.
    pub next_call: u64,
    /// Points whose hooks have accepted the next move.
    pub cleared: Vec<HookPoint>,
    /// Targets that failed, oldest first; at most [`MAX_FAILED_TARGETS`].
    #[serde(rename = "given_up")]
    pub failed_targets: Vec<FailedTarget>,
    /// What the last analysis run found.
    pub verdicts: Vec<Evidence>,
    /// Why it is where it is, in one sentence.
    pub reason: String,
}

/// How many failed targets are remembered.
pub const MAX_FAILED_TARGETS: usize = 16;

/// Why a written state is not used. Traffic goes to stable, and the file is set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
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

impl Default for RolloutState {
    fn default() -> Self {
        Self {
            state_version: STATE_VERSION,
            phase: Phase::Idle,
            stable: None,
            canary: None,
            previous: None,
            desired: None,
            weight: Weight::ZERO,
            taken: 0,
            baked: false,
            forced: false,
            approved: false,
            frozen: false,
            notified_unwritable: false,
            notified_refused: false,
            waiting: None,
            paused_from: None,
            times: Times::default(),
            ramp_from: Weight::ZERO,
            failures: Failed::default(),
            calls: Vec::new(),
            next_call: 1,
            cleared: Vec::new(),
            failed_targets: Vec::new(),
            verdicts: Vec::new(),
            reason: String::new(),
        }
    }
}

impl RolloutState {
    /// The state as text for the disk.
    ///
    /// # Errors
    /// None in practice; [`Unreadable::Damaged`] if the value cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, Unreadable> {
        serde_json::to_string(self).map_err(|error| Unreadable::Damaged(error.to_string()))
    }

    /// The state that [`to_json`](Self::to_json) wrote. Follow it with [`Event::Restored`](super::Event::Restored).
    ///
    /// # Errors
    /// [`Unreadable`] if a newer Weir wrote it, or nobody can have.
    pub fn from_json(text: &str) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Head {
            state_version: u64,
        }
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let head: Head = serde_json::from_str(text).map_err(damaged)?;
        if head.state_version > u64::from(STATE_VERSION) {
            return Err(Unreadable::Newer { found: head.state_version });
        }
        let state: Self = serde_json::from_str(text).map_err(damaged)?;
        state.inconsistency().map_or(Ok(state), |what| Err(Unreadable::Damaged(what.to_owned())))
    }

    /// What makes this no state of a rollout, if anything does.
    pub(super) fn inconsistency(&self) -> Option<&'static str> {
        let same = |a: &Option<RolloutTarget>, b: &Option<RolloutTarget>| {
            a.as_ref().map(|t| &t.version) == b.as_ref().map(|t| &t.version)
        };
        if self.phase.is_under_way() {
            if self.stable.is_none() || self.canary.is_none() {
                return Some("a rollout under way has a stable version and a canary");
            }
            if same(&self.stable, &self.canary) {
                return Some("the canary and the stable version are the same");
            }
        } else if self.weight != Weight::ZERO {
            return Some("a rollout that is over gives the canary nothing");
        }
        if (self.phase == Phase::Paused) != self.paused_from.is_some() {
            return Some("what is paused, and only that, knows where it was");
        }
        if self
            .paused_from
            .is_some_and(|from| !from.is_under_way() || matches!(from, Phase::Paused | Phase::RollingBack))
        {
            return Some("it was paused in a phase that cannot be paused");
        }
        if matches!(self.phase, Phase::Promoting) && self.weight != Weight::FULL {
            return Some("a promotion has everything at the canary");
        }
        None
    }
}

/// Names as plain strings.
mod name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Name;

    pub(super) fn serialize<S: Serializer>(name: &Name, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        String::deserialize(from).map(Name::from)
    }
}

/// Weights in basis points.
pub(super) mod weight {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::model::Weight;

    pub(in super::super) fn serialize<S: Serializer>(weight: &Weight, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(weight.basis_points())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Weight, D::Error> {
        let basis_points = u16::deserialize(from)?;
        Weight::from_basis_points(basis_points).ok_or_else(|| D::Error::custom("a weight above 100 %"))
    }
}
