//! Where a rollout is: everything the engine remembers, as plain data that survives a restart.
//!
//! Times are kept as how long something has lasted, never as a moment, because a moment of one process's clock
//! says nothing to the next. [`Times::pass`] is the one place where time goes by, and a clock that stands still or
//! steps back adds nothing.
//!
//! How a state is written, and what a written one must fulfil, is in [`stored`](super::stored).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight};
use crate::rollout::plan::HookPoint;
use crate::rollout::verdict::Verdict;

/// Where a rollout is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
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
    pub(crate) const ALL: [Self; 10] = [
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
    pub(crate) const WORDS: &'static [&'static str] = &[
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
    pub(crate) const fn as_str(self) -> &'static str {
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
    pub(crate) const fn is_under_way(self) -> bool {
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
pub(crate) struct RolloutTarget {
    /// The version.
    #[serde(with = "crate::rollout::verdict::name")]
    pub(crate) version: Name,
    /// Anything that is equal exactly as long as the version is the same thing to roll out; it must be the same
    /// after a restart. A target whose fingerprint differs has changed.
    pub(crate) fingerprint: String,
}

/// What a rollout waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitingFor {
    /// That both versions can take traffic, before any weight moves.
    Health,
    /// An operator's answer.
    Gate,
    /// That the hooks of this point accept.
    Hook(HookPoint),
}

/// Where a rollout is, with what belongs to it there. Its name is the [`Phase`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// [`Phase::Idle`].
    #[default]
    Idle,
    /// [`Phase::Waiting`].
    Waiting(WaitingFor),
    /// [`Phase::Progressing`].
    Progressing,
    /// [`Phase::Baking`].
    Baking,
    /// [`Phase::Promoting`].
    Promoting,
    /// [`Phase::Succeeded`].
    Succeeded,
    /// [`Phase::RollingBack`].
    RollingBack {
        /// The weight that the ramp began at.
        from: Weight,
    },
    /// [`Phase::RolledBack`].
    RolledBack,
    /// [`Phase::Paused`].
    Paused {
        /// Where `resume` returns to.
        from: PausedFrom,
        /// Both versions were bad, and the receivers were notified of it.
        both_bad: bool,
    },
    /// [`Phase::Aborted`].
    Aborted,
}

/// A stage that can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PausedFrom {
    /// [`Stage::Waiting`].
    Waiting(WaitingFor),
    /// [`Stage::Progressing`].
    Progressing,
    /// [`Stage::Baking`].
    Baking,
    /// [`Stage::Promoting`].
    Promoting,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub(crate) const fn phase(self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Waiting(_) => Phase::Waiting,
            Self::Progressing => Phase::Progressing,
            Self::Baking => Phase::Baking,
            Self::Promoting => Phase::Promoting,
            Self::Succeeded => Phase::Succeeded,
            Self::RollingBack { .. } => Phase::RollingBack,
            Self::RolledBack => Phase::RolledBack,
            Self::Paused { .. } => Phase::Paused,
            Self::Aborted => Phase::Aborted,
        }
    }

    /// Where a pause would return to; none where there is nothing to pause.
    pub(super) const fn pausable(self) -> Option<PausedFrom> {
        match self {
            Self::Waiting(what) => Some(PausedFrom::Waiting(what)),
            Self::Progressing => Some(PausedFrom::Progressing),
            Self::Baking => Some(PausedFrom::Baking),
            Self::Promoting => Some(PausedFrom::Promoting),
            _ => None,
        }
    }
}

impl From<PausedFrom> for Stage {
    fn from(paused: PausedFrom) -> Self {
        match paused {
            PausedFrom::Waiting(what) => Self::Waiting(what),
            PausedFrom::Progressing => Self::Progressing,
            PausedFrom::Baking => Self::Baking,
            PausedFrom::Promoting => Self::Promoting,
        }
    }
}

/// How a rollout ended whose traffic went back to stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WentBack {
    /// By the analysis.
    RolledBack,
    /// By an operator, a gate or the file.
    Aborted,
}

impl WentBack {
    /// The phase that it is in since.
    #[must_use]
    pub(crate) const fn phase(self) -> Phase {
        match self {
            Self::RolledBack => Phase::RolledBack,
            Self::Aborted => Phase::Aborted,
        }
    }
}

impl From<WentBack> for Stage {
    fn from(ended: WentBack) -> Self {
        match ended {
            WentBack::RolledBack => Self::RolledBack,
            WentBack::Aborted => Self::Aborted,
        }
    }
}

/// How far the bake is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bake {
    /// Not over: it has not begun, or goes on.
    #[default]
    Ahead,
    /// Over.
    Over,
    /// An operator ended it: lack of data does not delay the promotion.
    EndedByOperator,
}

impl Bake {
    /// Whether it is over.
    #[must_use]
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Over | Self::EndedByOperator)
    }
}

/// How long things have lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// The clock's last reading; of this process, so none in a state that was read back.
    #[serde(skip)]
    pub(crate) clock: Option<Duration>,
    /// The current weight, bake or promotion.
    pub(crate) step: Duration,
    /// The wait at a gate.
    pub(crate) gate: Duration,
    /// The wait for hooks that do not accept.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub(crate) hook: Duration,
    /// The lack of data or of a healthy target, if there is one.
    pub(crate) holding: Option<Duration>,
    /// The canary without an available endpoint, if it is.
    pub(crate) canary_down: Option<Duration>,
    /// The stable version without an available endpoint, if it is.
    #[serde(default)]
    pub(crate) stable_down: Option<Duration>,
    /// The way back.
    pub(crate) ramp: Duration,
}

impl Times {
    /// Lets time pass until `now`; none passes while the clock stands still, steps back or is read first.
    pub(super) fn pass(&mut self, now: Duration, stage: Stage) -> Duration {
        let passed = self.clock.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.clock = Some(now);
        let add = |time: &mut Duration| *time = time.saturating_add(passed);
        add(&mut self.step);
        match stage {
            Stage::Waiting(WaitingFor::Gate) => add(&mut self.gate),
            Stage::Waiting(WaitingFor::Hook(_)) => add(&mut self.hook),
            Stage::RollingBack { .. } => add(&mut self.ramp),
            _ => {}
        }
        self.holding.iter_mut().for_each(add);
        self.canary_down.iter_mut().for_each(add);
        self.stable_down.iter_mut().for_each(add);
        passed
    }
}

/// Failed analysis runs of this rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// In all.
    pub(crate) total: u32,
    /// Since the last analysis run that passed.
    pub(crate) consecutive: u32,
}

/// A hook that was called for a decision, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Unique over all rollouts of the service.
    pub(crate) id: u64,
    /// Which of the plan's hooks.
    pub(crate) hook: usize,
    /// At which point.
    pub(crate) when: HookPoint,
    /// Since it was called.
    pub(crate) age: Duration,
    /// Whether it accepted; none while it has not answered.
    pub(crate) accepted: Option<bool>,
}

/// A call to a hook after the end of a rollout, which is made again until it is accepted: also after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AfterCall {
    /// Unique over all rollouts of the service; the same each time, so that the receiver can tell a repetition.
    pub(crate) id: u64,
    /// Which of the plan's hooks.
    pub(crate) hook: usize,
    /// How often it was called.
    pub(crate) calls: u32,
    /// What traffic went back to, or came from.
    #[serde(with = "crate::rollout::verdict::name")]
    pub(crate) stable: Name,
    /// What was rolled out.
    #[serde(with = "crate::rollout::verdict::name")]
    pub(crate) canary: Name,
    /// How it ended.
    pub(crate) phase: Phase,
    /// Steps that were taken.
    pub(crate) step: usize,
    /// The canary's weight then.
    #[serde(with = "weight")]
    pub(crate) weight: Weight,
}

/// A target that is not tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedTarget {
    /// The target.
    pub(crate) target: RolloutTarget,
    /// How it ended.
    #[serde(rename = "phase")]
    pub(crate) ended: WentBack,
    /// Why.
    pub(crate) why: String,
}

/// Everything that the engine knows of one service's rollout.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RolloutState {
    /// Where it is.
    pub(crate) stage: Stage,
    /// What serves, and where the way back always leads; none before the first sighting.
    pub(crate) stable: Option<RolloutTarget>,
    /// What is rolled out, or was when it went back.
    pub(crate) canary: Option<RolloutTarget>,
    /// The stable version before the last promotion.
    pub(crate) previous: Option<RolloutTarget>,
    /// What the file asks for, as last seen.
    pub(crate) desired: Option<RolloutTarget>,
    /// The canary's weight; the stable version has the rest.
    pub(crate) weight: Weight,
    /// How many of the plan's steps were taken; the current one is the last of them.
    pub(crate) taken: usize,
    /// How far the bake is.
    pub(crate) bake: Bake,
    /// The gate after the current step is open.
    pub(crate) approved: bool,
    /// The receivers were notified that the state cannot be written.
    pub(crate) notified_unwritable: bool,
    /// The receivers were notified that a hook refuses the next move.
    pub(crate) notified_refused: bool,
    /// How long things have lasted.
    pub(crate) times: Times,
    /// Failed analysis runs.
    pub(crate) failures: Failed,
    /// Hooks that were called; at most one call for each of the plan's hooks.
    pub(crate) calls: Vec<Call>,
    /// Calls to hooks after the end of a rollout that were not accepted yet, oldest first; at most [`MAX_AFTER_CALLS`].
    pub(crate) after: Vec<AfterCall>,
    /// The id of the next call.
    pub(crate) next_call: u64,
    /// Points whose hooks have accepted the next move.
    pub(crate) cleared: Vec<HookPoint>,
    /// Targets that failed, oldest first; at most [`MAX_FAILED_TARGETS`].
    pub(crate) failed_targets: Vec<FailedTarget>,
    /// What the last analysis run found.
    pub(crate) verdicts: Vec<Verdict>,
    /// Why it is where it is, in one sentence.
    pub(crate) reason: String,
}

/// How many calls after the ends of rollouts are remembered: twice the hooks that a plan may have.
pub(crate) const MAX_AFTER_CALLS: usize = 64;

/// How many failed targets are remembered.
pub(crate) const MAX_FAILED_TARGETS: usize = 16;

impl Default for RolloutState {
    fn default() -> Self {
        Self {
            stage: Stage::Idle,
            stable: None,
            canary: None,
            previous: None,
            desired: None,
            weight: Weight::ZERO,
            taken: 0,
            bake: Bake::Ahead,
            approved: false,
            notified_unwritable: false,
            notified_refused: false,
            times: Times::default(),
            failures: Failed::default(),
            calls: Vec::new(),
            after: Vec::new(),
            next_call: 1,
            cleared: Vec::new(),
            failed_targets: Vec::new(),
            verdicts: Vec::new(),
            reason: String::new(),
        }
    }
}

impl RolloutState {
    /// The name of where it is.
    #[must_use]
    pub(crate) const fn phase(&self) -> Phase {
        self.stage.phase()
    }

    /// Whether a rollout is under way, so that two versions matter.
    #[must_use]
    pub(crate) const fn is_under_way(&self) -> bool {
        self.phase().is_under_way()
    }

    /// What is waited for, also while it is paused.
    #[must_use]
    pub(crate) const fn waiting(&self) -> Option<WaitingFor> {
        match self.stage {
            Stage::Waiting(what) | Stage::Paused { from: PausedFrom::Waiting(what), .. } => Some(what),
            _ => None,
        }
    }

    /// The phase that a pause returns to, if it is paused.
    #[must_use]
    pub(crate) fn paused_from(&self) -> Option<Phase> {
        match self.stage {
            Stage::Paused { from, .. } => Some(Stage::from(from).phase()),
            _ => None,
        }
    }

    /// Whether it is paused because both versions were bad.
    pub(super) const fn is_frozen(&self) -> bool {
        matches!(self.stage, Stage::Paused { both_bad: true, .. })
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
