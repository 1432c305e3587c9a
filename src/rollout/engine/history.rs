//! What the engine decides: effects, alerts and history.
//!
//! Effects are carried out in their order, after the new state and the entries are durable. Where the disk
//! refuses, effects that only take weight from the canary are carried out all the same.

use serde::{Deserialize, Serialize};

use super::state::{Phase, RolloutState, RolloutTarget, weight};
use crate::model::{Name, Weight};
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::HookPoint;
use crate::rollout::verdict::Verdict;

/// Something that shall be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Publish one snapshot: the canary gets this weight, the stable version the rest.
    SetWeight {
        /// The version that gets the rest.
        stable: Name,
        /// The version that gets the weight.
        canary: Name,
        /// The canary's weight.
        weight: Weight,
    },
    /// The rollout is over: this version has everything, and lastingly.
    Settle {
        /// What serves from now on.
        stable: Name,
    },
    /// Call a hook; its answer comes back as [`Event::HookAnswered`](super::Event::HookAnswered) if the id is kept
    /// in [`RolloutState::calls`], else it may be dropped.
    CallHook {
        /// Names the call in the answer.
        id: u64,
        /// Which of the plan's hooks.
        hook: usize,
        /// At which point.
        when: HookPoint,
        /// Where the rollout stands.
        at: Progress,
    },
    /// Calls made before this one no longer matter.
    CancelHooks,
    /// Notify the plan's receivers.
    Alert(Notification),
}

/// Where a rollout stands at the moment of an effect. What follows in the same reaction may leave
/// nothing of it in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What traffic goes back to.
    pub(crate) stable: Option<Name>,
    /// What is rolled out.
    pub(crate) canary: Option<Name>,
    /// The phase.
    pub(crate) phase: Phase,
    /// Steps taken.
    pub(crate) step: usize,
    /// The canary's weight.
    pub(crate) weight: Weight,
}

/// What the plan's receivers are notified of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notification {
    /// What happened.
    pub(crate) transition: Transition,
    /// Where the rollout stands.
    pub(crate) at: Progress,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What happened and what was done, in one sentence.
    pub(crate) sentence: String,
    /// What the last analysis run found.
    pub(crate) evidence: Vec<Verdict>,
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// The engine, from verdicts, health and time.
    Judge,
    /// The trip wire in the data path.
    TripWire,
    /// A hook.
    Hook,
    /// The configuration file.
    File,
    /// A restart of the process.
    Restart,
    /// An operator, as the command named them.
    #[serde(rename = "person")]
    Operator(String),
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A version is served without a rollout.
    Served,
    /// A rollout began.
    Started,
    /// A target is not tried because it failed before.
    NotTried,
    /// An analysis run ended.
    #[serde(rename = "looked")]
    Analyzed,
    /// The canary's weight was raised.
    Stepped,
    /// The rollout holds where it is.
    Held,
    /// A gate or a hook is waited for.
    Waited,
    /// A hook answered.
    Answered,
    /// An operator's command.
    Commanded,
    /// The bake, or the promotion, began.
    Moved,
    /// The canary is the stable version now.
    Promoted,
    /// Traffic goes back or went back.
    WentBack,
    /// Nothing moves any more until an operator decides.
    Paused,
    /// The plan or the versions in the file changed.
    Changed,
    /// The process came back.
    Restored,
}

/// One line of the history. The moment is added by who writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Who.
    pub(crate) by: By,
    /// What.
    pub(crate) what: What,
    /// Why, in one sentence.
    pub(crate) why: String,
    /// The phase before.
    pub(crate) from: Phase,
    /// The phase after.
    pub(crate) to: Phase,
    /// The canary's weight before.
    #[serde(with = "weight")]
    pub(crate) weight_before: Weight,
    /// The canary's weight after.
    #[serde(with = "weight")]
    pub(crate) weight_after: Weight,
    /// The stable version after.
    pub(crate) stable: Option<RolloutTarget>,
    /// The canary after, or the one that this is about.
    pub(crate) canary: Option<RolloutTarget>,
    /// Steps taken.
    pub(crate) taken: usize,
    /// What the last analysis run found.
    pub(crate) evidence: Vec<Verdict>,
}

/// What one event led to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Applied {
    /// The state after it. Without entries it differs from the one before only in how long things have lasted
    /// and in calls to hooks that decide nothing, so it need not be written.
    pub(crate) state: RolloutState,
    /// What shall be done, in this order.
    pub(crate) effects: Vec<Effect>,
    /// What is written down, in this order.
    pub(crate) entries: Vec<Entry>,
}
