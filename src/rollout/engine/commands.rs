//! The commands of operators, and what each does in every phase.
//!
//! [`ruling`] is the whole table; [`RolloutState::apply`](super::RolloutState::apply) obeys it, and adds only what
//! depends on more than the phase (a target without available endpoints, nothing that asks).
//!
//! | verb | idle | waiting | progressing | baking | promoting | succeeded | rolling_back | rolled_back | paused | aborted |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | start | yes | – | – | – | – | yes | – | yes | – | yes |
//! | promote | – | yes | yes | yes | – | – | – | – | yes | – |
//! | pause | – | yes | yes | yes | yes | – | – | – | – | – |
//! | resume | – | – | – | – | – | – | – | – | yes | – |
//! | abort | – | yes | yes | yes | yes | – | yes | – | yes | – |
//! | approve | – | yes | – | – | – | – | – | – | – | – |
//! | reject | – | yes | – | – | – | – | – | – | – | – |
//! | retry | – | – | – | – | – | – | – | yes | – | yes |
//! | undo | – | yes | yes | yes | yes | yes | yes | – | yes | – |

use std::time::Duration;

use super::history::{By, What};
use super::state::{Bake, PausedFrom, Phase, Stage, WaitingFor, WentBack};
use super::{Before, Listening, Reaction};
use crate::model::Weight;
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::HookPoint;

/// An operator's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verb {
    /// Roll a version out. It comes as [`Event::Start`](super::Event::Start), with its target.
    Start,
    /// Skip the steps, gates and hooks that are left: everything to the canary, then the bake. While baking: end the
    /// bake. It needs available endpoints, and failed checks still go back.
    Promote,
    /// Stay where it is.
    Pause,
    /// Go on where it was paused, its hold anew.
    Resume,
    /// Everything back to stable, at once.
    Abort,
    /// Open the gate, or pass the hook, that is waited for.
    Approve,
    /// Refuse at the gate or in place of the hook: everything goes back to stable.
    Reject,
    /// Try again what failed or was aborted.
    Retry,
    /// Everything to the version that was stable before, at once: also after the promotion.
    Undo,
}

impl Verb {
    /// All verbs.
    pub(crate) const ALL: [Self; 9] = [
        Self::Start,
        Self::Promote,
        Self::Pause,
        Self::Resume,
        Self::Abort,
        Self::Approve,
        Self::Reject,
        Self::Retry,
        Self::Undo,
    ];

    /// The word on the command line and in the API.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Retry => "retry",
            Self::Undo => "undo",
        }
    }
}

/// An operator's command that makes no sense now: exit code 7.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is refused while the rollout is {}: {reason}", .verb.as_str(), .phase.as_str())]
pub struct CommandRefused {
    /// The phase it was given in.
    pub(crate) phase: Phase,
    /// The verb.
    pub(crate) verb: Verb,
    /// Why, and what would help.
    pub(crate) reason: String,
}

/// What a refusal adds where the state cannot be written.
const UNSTORED: &str = "; the state cannot be written, so a restart loses what is not stored yet";

/// Whether a phase allows a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It is done.
    Does,
    /// It is refused, for this reason.
    Refuses(&'static str),
}

/// What `verb` does in `phase`.
#[must_use]
pub(crate) const fn ruling(phase: Phase, verb: Verb) -> Ruling {
    use Phase as P;
    use Ruling::{Does, Refuses};
    match verb {
        Verb::Start if phase.is_under_way() => Refuses("a rollout is under way: abort it first"),
        Verb::Start => Does,
        Verb::Retry => match phase {
            P::RolledBack | P::Aborted => Does,
            P::Paused => Refuses("it has not failed: resume or abort it"),
            P::RollingBack => Refuses("it still goes back: wait until it has"),
            P::Idle | P::Succeeded => Refuses("nothing failed: start a rollout"),
            P::Waiting | P::Progressing | P::Baking | P::Promoting => Refuses("it has not failed"),
        },
        Verb::Undo if matches!(phase, P::Succeeded) => Does,
        Verb::Undo if matches!(phase, P::RolledBack | P::Aborted) => Refuses("stable has everything already"),
        _ if matches!(phase, P::Idle | P::Succeeded | P::RolledBack | P::Aborted) => Refuses("no rollout is under way"),
        Verb::Abort | Verb::Undo => Does,
        _ if matches!(phase, P::RollingBack) => Refuses("it goes back: only `abort` and `undo` hurry it"),
        Verb::Promote => match phase {
            P::Promoting => Refuses("it is being promoted"),
            _ => Does,
        },
        Verb::Pause => match phase {
            P::Paused => Refuses("it is paused already"),
            _ => Does,
        },
        Verb::Resume => match phase {
            P::Paused => Does,
            _ => Refuses("it is not paused"),
        },
        Verb::Approve | Verb::Reject => match phase {
            P::Waiting => Does,
            P::Paused => Refuses("it is paused: resume it first, or abort it"),
            _ => Refuses("nothing asks for approval"),
        },
    }
}

impl Reaction<'_> {
    /// A refusal, in the phase as it is.
    pub(super) fn refuse(&self, verb: Verb, reason: impl Into<String>) -> CommandRefused {
        CommandRefused { phase: self.state.phase(), verb, reason: reason.into() }
    }

    /// What the table, and the disk for what goes forward, say of `verb`.
    pub(super) fn may(&self, verb: Verb) -> Result<(), CommandRefused> {
        let forward = matches!(verb, Verb::Start | Verb::Promote | Verb::Resume | Verb::Approve | Verb::Retry);
        if let Ruling::Refuses(reason) = ruling(self.state.phase(), verb) {
            // Who asks again does so because of what the first answer said.
            let unstored = if forward || !self.seen.unwritable { "" } else { UNSTORED };
            return Err(self.refuse(verb, format!("{reason}{unstored}")));
        }
        if forward && self.seen.unwritable {
            return Err(self.refuse(verb, "the state cannot be written, so nothing moves forward: free the disk"));
        }
        Ok(())
    }

    /// Carries out an operator's command.
    pub(super) fn verb(&mut self, verb: Verb, by: String, reason: &str) -> Result<(), CommandRefused> {
        self.may(verb)?;
        let why = command_sentence(verb, &by, reason);
        let by = By::Operator(by);
        match verb {
            Verb::Start => return Err(self.refuse(verb, "say which version")),
            Verb::Promote => self.promote(by, &why)?,
            Verb::Pause => self.pause(by, Severity::Info, &why),
            Verb::Resume => self.resume(by, &why),
            Verb::Abort => self.abort(by, &why, true),
            Verb::Approve => self.approve(by, &why)?,
            Verb::Reject => {
                if self.state.stage == Stage::Waiting(WaitingFor::Health) {
                    return Err(self.refuse(verb, "nothing asks: it waits for available endpoints, `abort` ends it"));
                }
                self.abort(by, &why, true);
            }
            Verb::Retry => self.retry(by, &why)?,
            Verb::Undo => self.undo(by, &why)?,
        }
        Ok(())
    }

    /// Everything to the canary, or the end of the bake.
    fn promote(&mut self, by: By, why: &str) -> Result<(), CommandRefused> {
        if let Listening::Refuses(why) = &self.seen.listening {
            return Err(self.refuse(Verb::Promote, format!("{}: {why}", self.canary())));
        }
        if self.seen.canary_available == 0 {
            return Err(self.refuse(Verb::Promote, format!("{} has no available endpoint", self.canary())));
        }
        let before = self.before();
        let baking = matches!(self.state.stage, Stage::Baking | Stage::Paused { from: PausedFrom::Baking, .. });
        if baking || self.state.bake.is_over() {
            self.state.bake = Bake::EndedByOperator;
        }
        self.state.taken = self.plan.steps.len();
        self.state.approved = true;
        self.moved_on();
        self.state.cleared = vec![HookPoint::BeforePromote];
        let bakes = !self.state.bake.is_over() && !self.plan.bake.is_zero();
        self.enter(if bakes { Stage::Baking } else { Stage::Promoting });
        if self.state.weight < Weight::FULL {
            self.set_weight(Weight::FULL);
        }
        self.write(by, What::Commanded, before, why);
        let transition = if bakes { Transition::Baking } else { Transition::Step };
        self.alert(transition, Severity::Info, why);
        Ok(())
    }

    /// Goes on where it was paused; the hold begins anew.
    fn resume(&mut self, by: By, why: &str) {
        let before = self.before();
        let Stage::Paused { from, .. } = self.state.stage else { return };
        self.enter(from.into());
        (self.state.times.gate, self.state.times.hook) = (Duration::ZERO, Duration::ZERO);
        self.write(by, What::Commanded, before, why);
        self.alert(Transition::Resumed, Severity::Info, why);
    }

    /// Opens the gate, or passes the hook.
    fn approve(&mut self, by: By, why: &str) -> Result<(), CommandRefused> {
        let before = self.before();
        match self.state.stage {
            Stage::Waiting(WaitingFor::Gate) => self.open_gate(),
            Stage::Waiting(WaitingFor::Hook(when)) => self.pass_hook(when),
            _ => {
                return Err(self.refuse(Verb::Approve, "nothing asks: it waits for available endpoints"));
            }
        }
        self.write(by, What::Commanded, before, why);
        self.alert(Transition::Resumed, Severity::Info, why);
        Ok(())
    }

    /// Begins anew with what went back.
    fn retry(&mut self, by: By, why: &str) -> Result<(), CommandRefused> {
        let Some(target) = self.state.canary.clone() else {
            return Err(self.refuse(Verb::Retry, "the version that failed is no longer in the file"));
        };
        self.state.failed_targets.retain(|failed| failed.target.version != target.version);
        self.begin(target, by, why);
        Ok(())
    }

    /// Back to the version that was stable before.
    fn undo(&mut self, by: By, why: &str) -> Result<(), CommandRefused> {
        if self.state.phase() != Phase::Succeeded {
            self.abort(by, why, true);
            return Ok(());
        }
        let Some(previous) = self.state.previous.clone() else {
            return Err(self.refuse(Verb::Undo, "the version before is not known, or no longer in the file"));
        };
        if self.seen.previous_available == 0 {
            return Err(self.refuse(Verb::Undo, format!("{} has no available endpoint", previous.version)));
        }
        let before: Before = self.before();
        let undone = self.state.stable.replace(previous);
        self.state.previous = None;
        self.state.canary = undone;
        self.remember_failed(WentBack::Aborted, why);
        self.enter(Stage::Aborted);
        self.settle();
        self.write(by, What::WentBack, before, &format!("{why} → {} has everything again", self.stable()));
        let sentence = self.state.reason.clone();
        self.alert(Transition::Aborted, Severity::Warning, &sentence);
        Ok(())
    }
}

/// An operator's command as a sentence of the history.
pub(super) fn command_sentence(verb: Verb, by: &str, reason: &str) -> String {
    if reason.is_empty() {
        format!("{} by {by}", verb.as_str())
    } else {
        format!("{} by {by}: {reason}", verb.as_str())
    }
}
