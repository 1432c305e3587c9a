//! Replay: what a plan would have done with events that were recorded.
//!
//! The recorded verdicts are taken as they are; a plan with other limits needs them judged again first.
//! A command that the plan's state refuses is listed, and the replay goes on.

use std::time::Duration;

use super::commands::CommandRefused;
use super::history::{Effect, Entry};
use super::state::RolloutState;
use super::{Event, Observation};
use crate::rollout::plan::Plan;

/// One event as it was applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// HookPoint, on any clock that only goes forward.
    pub(crate) at: Duration,
    /// What happened.
    pub(crate) event: Event,
    /// What was seen.
    pub(crate) seen: Observation,
}

/// What one recorded event would have led to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replayed {
    /// When.
    pub(crate) at: Duration,
    /// What would have been written down.
    pub(crate) entries: Vec<Entry>,
    /// What would have been done.
    pub(crate) effects: Vec<Effect>,
    /// Why an operator's command would have been refused, if it would.
    pub(crate) refused: Option<CommandRefused>,
}

/// Runs `plan` from `state` over what was recorded. Returns the state at the end, and what each event that led to
/// anything would have done.
#[must_use]
pub(crate) fn replay(plan: &Plan, state: RolloutState, recorded: &[Recorded]) -> (RolloutState, Vec<Replayed>) {
    let mut state = state;
    let mut story = Vec::new();
    for Recorded { at, event, seen } in recorded {
        match state.apply(plan, event.clone(), seen, *at) {
            Ok(applied) => {
                state = applied.state;
                if !applied.entries.is_empty() || !applied.effects.is_empty() {
                    let (entries, effects) = (applied.entries, applied.effects);
                    story.push(Replayed { at: *at, entries, effects, refused: None });
                }
            }
            Err(refused) => {
                story.push(Replayed { at: *at, entries: Vec::new(), effects: Vec::new(), refused: Some(refused) });
            }
        }
    }
    (state, story)
}
