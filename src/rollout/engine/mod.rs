//! The engine of a rollout: `(state, event, observation, now) → (state, effects, history)`, apart from time,
//! sockets and disk.
//!
//! ```text
//!                       ┌────────── gate, hook ──────────┐
//!                       ▼                                │
//! idle ── release ─► waiting ── healthy ─► progressing ──┴─► baking ─► promoting ─► succeeded
//!                       │                       │              │           │            │
//!                       ├──── pause ⇄ paused ───┼──────────────┤           │            │ undo
//!                       ▼                       ▼              ▼           ▼            ▼
//!                    by an operator: aborted    by the analysis: rolling_back ─► rolled_back
//! ```
//! (A last step below 100 % goes to promoting first, which gives the canary everything, then bakes.)
//!
//! The order of a tick: has the way back an end (a ramp) · can both versions take traffic · hooks that may demand
//! the way back · the checks, and right after them the limits for failed analysis runs · gate timeouts · hold time ·
//! gate · hooks · one step. An analysis run takes at most one step, and only one that passed does.
//!
//! What decides, where systems of this kind differ:
//! - **Forward** moves only in a tick, only with available endpoints on both sides, from nothing only where those of the
//!   canary accept connections, and from a weight above 0 only
//!   with a run of the analysis in which every check that decides passed. Approvals and accepted hooks open the way;
//!   the next such run takes it. The one exception is an operator's `promote`.
//! - **Back** always leads to stable. A rollback by the analysis follows the plan (at once or by ramp); an abort, the
//!   trip wire and a change of the file go to 0 in one [`Effect::SetWeight`].
//! - **Both bad** (a check that stable fails too, or a stable version without available endpoints): nothing moves,
//!   the rollout is paused and somebody is paged. The canary is not blamed, and not remembered as failed.
//! - **Paused** and **waiting** keep their weight, and the analysis goes on: failed analysis runs, sustained
//!   conditions, the trip wire and hooks can still send everything back. Lack of data is no matter there.
//! - **No data** and **error** hold, up to the plan's `max_hold`, then pause. A check in the plan that gave no
//!   verdict counts as an error. A dry run never decides.
//! - A step lasts at least one interval, so a clock that stands still takes no step.
//! - What failed or was aborted is not tried again until its fingerprint changes or an operator says `retry`. A
//!   version that was superseded, or taken back in the file, has not failed.
//!
//! Invariants, held by the model tests: the canary's weight rises only by a step whose analysis run passed or by an
//! operator's `promote`; a canary without available endpoints is never given more; [`RolloutState::apply`] is total.

mod advance;
mod analysis;
mod commands;
mod history;
mod hooks;
mod release;
mod rollback;
mod state;
mod stored;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use commands::{CommandRefused, Verb};
pub(crate) use history::{Applied, By, Effect, Entry, Notification, Progress, What};
pub(crate) use state::{Phase, RolloutState, RolloutTarget, Stage, WaitingFor};

use crate::model::{Name, Weight};
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::Plan;
use crate::rollout::verdict::Verdict;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The file names this version as stable, and nothing else shows: no state is known, or the version that was stable
    /// is no longer in the file. Send it before the [`VersionsGone`](Self::VersionsGone) of the same file.
    Stable(RolloutTarget),
    /// The service was served by weights until now, and gets a rollout: it goes on from what serves. Send it first, where no
    /// state is known.
    Adopted {
        /// The version that has the rest.
        stable: RolloutTarget,
        /// The version that the file asks for.
        canary: RolloutTarget,
        /// What it has.
        weight: Weight,
    },
    /// The file asks for this version. Send it whenever the file was read: only a change of it does something.
    Release(RolloutTarget),
    /// An operator asks for this version.
    Start {
        /// The version.
        target: RolloutTarget,
        /// Who.
        by: String,
        /// Why, if they said.
        reason: String,
    },
    /// Time has passed, and with verdicts in the observation: the checks were evaluated. Send it once an interval with
    /// verdicts; without, right after any other event that was applied, and once a second while
    /// [`Phase::RollingBack`].
    Tick,
    /// An operator's command.
    Verb {
        /// Which.
        verb: Verb,
        /// Who.
        by: String,
        /// Why, if they said.
        reason: String,
    },
    /// A hook answered, or was given up.
    HookAnswered {
        /// The call's id.
        id: u64,
        /// Whether it accepted (for [`DemandRollback`](crate::rollout::plan::HookPoint::DemandRollback): demanded).
        accepted: bool,
        /// What it said.
        text: String,
    },
    /// The trip wire has set the canary to 0 in the data path.
    Tripped {
        /// Why.
        why: String,
        /// The stable version fails as well: not the canary is to blame.
        stable_fails_too: bool,
    },
    /// A condition of the plan's `rollback_when` held all its time.
    Sustained {
        /// The figures, in one sentence.
        sentence: String,
    },
    /// Other endpoints took the place of some of the canary's, or they are spoken to otherwise.
    CanaryReplaced,
    /// The plan is another one. Send it only if it differs: the hooks of the next move are asked anew.
    PlanChanged,
    /// The state was read back after a restart.
    Restored,
    /// These versions are no longer in the file. Send it before the [`Release`](Self::Release) of the same file.
    VersionsGone(Vec<Name>),
}

/// What the engine sees at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observation {
    /// Endpoints of the canary that can take traffic now: in the file, `ready`, not unhealthy. Before
    /// [`Event::Start`] is sent, of the version that would be the canary.
    pub(crate) canary_available: u32,
    /// The same of the stable version.
    pub(crate) stable_available: u32,
    /// The same of [`RolloutState::previous`], for `undo`.
    pub(crate) previous_available: u32,
    /// Whether the canary's endpoints accept connections, as far as that was asked; it is before its first weight.
    pub(crate) listening: Listening,
    /// What the checks found, if this is an analysis run; none if only time passed.
    pub(crate) verdicts: Option<Vec<Verdict>>,
    /// The state cannot be written: nothing moves forward.
    pub(crate) unwritable: bool,
}

/// Whether a version's endpoints accept connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Listening {
    /// They do, or there is nothing to ask.
    #[default]
    Accepts,
    /// They are being asked.
    Unknown,
    /// Not all of them do: which, and why, in one sentence.
    Refuses(String),
}

impl RolloutState {
    /// What `event` leads to. Pure and total.
    ///
    /// `now` is the time since any fixed moment of a monotonic clock; only differences count, and across
    /// [`Event::Restored`] not even those.
    ///
    /// # Errors
    /// [`CommandRefused`] if an operator's command makes no sense in this phase; then nothing has changed.
    pub(crate) fn apply(
        &self,
        plan: &Plan,
        event: Event,
        seen: &Observation,
        now: Duration,
    ) -> Result<Applied, CommandRefused> {
        let mut reaction = Reaction { plan, seen, state: self.clone(), effects: Vec::new(), entries: Vec::new() };
        if matches!(event, Event::Restored) {
            reaction.state.times.clock = None;
        }
        reaction.pass(now);
        match event {
            Event::Stable(target) => reaction.named(target),
            Event::Adopted { stable, canary, weight } => reaction.adopted(stable, canary, weight),
            Event::Release(target) => reaction.release(target),
            Event::Start { target, by, reason } => reaction.start(target, by, &reason)?,
            Event::Tick => reaction.tick(),
            Event::Verb { verb, by, reason } => reaction.verb(verb, by, &reason)?,
            Event::HookAnswered { id, accepted, text } => reaction.answered(id, accepted, &text),
            Event::Tripped { why, stable_fails_too } => reaction.tripped(&why, stable_fails_too),
            Event::Sustained { sentence } => reaction.sustained(&sentence),
            Event::CanaryReplaced => reaction.replaced(),
            Event::PlanChanged => reaction.plan_changed(),
            Event::Restored => reaction.restored(),
            Event::VersionsGone(versions) => reaction.gone(&versions),
        }
        Ok(Applied { state: reaction.state, effects: reaction.effects, entries: reaction.entries })
    }
}

/// One event being applied: the state as it becomes, with the effects and entries so far.
struct Reaction<'a> {
    plan: &'a Plan,
    seen: &'a Observation,
    state: RolloutState,
    effects: Vec<Effect>,
    entries: Vec<Entry>,
}

/// The phase and the weight before something, for its line in the history.
#[derive(Clone, Copy)]
struct Before {
    phase: Phase,
    weight: Weight,
}

impl Reaction<'_> {
    /// Lets time pass.
    fn pass(&mut self, now: Duration) {
        let passed = self.state.times.pass(now, self.state.stage);
        for call in &mut self.state.calls {
            call.age = call.age.saturating_add(passed);
        }
    }

    /// Where things are, before they change.
    const fn before(&self) -> Before {
        Before { phase: self.state.phase(), weight: self.state.weight }
    }

    /// Writes down what happened since `before`, and makes it the reason of the state.
    fn write(&mut self, by: By, what: What, before: Before, why: &str) {
        self.state.reason = short(why);
        self.note(by, what, before, why);
    }

    /// Writes down what happened since `before`.
    fn note(&mut self, by: By, what: What, before: Before, why: &str) {
        let state = &self.state;
        self.entries.push(Entry {
            by,
            what,
            why: short(why),
            from: before.phase,
            to: state.phase(),
            weight_before: before.weight,
            weight_after: state.weight,
            stable: state.stable.clone(),
            canary: state.canary.clone(),
            taken: state.taken,
            evidence: state.verdicts.clone(),
        });
    }

    /// Where the rollout stands now.
    fn progress(&self) -> Progress {
        let state = &self.state;
        let stable = state.stable.as_ref().map(|stable| stable.version.clone());
        let canary = state.canary.as_ref().map(|canary| canary.version.clone());
        Progress { stable, canary, phase: state.phase(), step: state.taken, weight: state.weight }
    }

    /// Notifies the receivers.
    fn alert(&mut self, transition: Transition, severity: Severity, sentence: &str) {
        self.alert_at(self.progress(), transition, severity, sentence);
    }

    /// Notifies the receivers of where it stood.
    fn alert_at(&mut self, at: Progress, transition: Transition, severity: Severity, sentence: &str) {
        let alert =
            Notification { transition, at, severity, sentence: short(sentence), evidence: self.state.verdicts.clone() };
        self.effects.push(Effect::Alert(alert));
    }

    /// Gives the canary `weight`, in one snapshot.
    fn set_weight(&mut self, weight: Weight) {
        self.state.weight = weight;
        self.publish_weight();
    }

    /// Publishes the canary's weight as it is.
    fn publish_weight(&mut self) {
        if let (Some(stable), Some(canary)) = (&self.state.stable, &self.state.canary) {
            self.effects.push(Effect::SetWeight {
                stable: stable.version.clone(),
                canary: canary.version.clone(),
                weight: self.state.weight,
            });
        }
    }

    /// Publishes that stable has everything, and lastingly.
    fn settle(&mut self) {
        if let Some(stable) = &self.state.stable {
            self.effects.push(Effect::Settle { stable: stable.version.clone() });
        }
    }

    /// The canary's name, for sentences.
    fn canary(&self) -> String {
        self.state.canary.as_ref().map_or_else(|| "the canary".to_owned(), |target| target.version.to_string())
    }

    /// The stable version's name, for sentences.
    fn stable(&self) -> String {
        self.state.stable.as_ref().map_or_else(|| "the stable version".to_owned(), |target| target.version.to_string())
    }
}

/// Longest sentence that is kept, in characters: texts of hooks and operators come from outside.
const MAX_SENTENCE_CHARS: usize = 1_000;

/// `text`, cut where it is longer than a sentence should ever be.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_SENTENCE_CHARS) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
