//! What is to be decided of one service, and what was decided: a value, of which nothing is in effect yet.

use std::sync::Arc;

use tokio::sync::Notify;

use super::action::Action;
use super::refusal::{self, Refusal};
use super::service::{ServiceRollout, raised};
use super::view::View;
use crate::model::Name;
use crate::rollout::engine::{CommandRefused, Event, Phase};

/// Why something is to be decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// A second has passed, and a condition has held for its whole time, if one has.
    Second {
        /// The figures, in one sentence.
        sustained: Option<String>,
    },
    /// A request opened the breaker.
    Tripped,
    /// These happened.
    Events(Vec<Event>),
    /// What is in effect is not on the disk.
    Unwritten,
}

/// What became of one service's rollout by a cause. It is to be written, and then to be finished.
#[derive(Clone)]
#[must_use = "it is in effect once it is finished"]
pub(crate) struct Decision {
    pub(super) service: Name,
    pub(super) cause: Cause,
    pub(super) after: ServiceRollout,
    pub(super) actions: Vec<Action>,
    /// The canary gets more: that must be on the disk first.
    pub(super) raises: bool,
    /// The number of the first entry of the history that is of this decision.
    pub(super) first: u64,
}

impl ServiceRollout {
    /// What `cause` leads to. A command that is refused is remembered, until one is accepted.
    ///
    /// # Errors
    /// [`CommandRefused`] if an operator's command makes no sense now.
    pub(super) fn decide(
        &mut self,
        cause: Cause,
        view: &View<'_>,
        notify: &Arc<Notify>,
    ) -> Result<Decision, CommandRefused> {
        let asked = match &cause {
            Cause::Events(events) => refusal::asked(events),
            Cause::Second { .. } | Cause::Tripped | Cause::Unwritten => None,
        };
        let decided = Decision::of(self, cause, view, notify);
        match (decided, asked) {
            (Ok(mut decision), Some(_)) => {
                decision.after.refusal = None;
                Ok(decision)
            }
            (Err(refused), Some((author, reason))) => {
                self.refusal = Some(Refusal { refused: refused.clone(), author, reason, at_ms: view.at_ms });
                Err(refused)
            }
            (decided, None) => decided,
        }
    }
}

impl Decision {
    /// What `cause` leads to from `before`.
    ///
    /// # Errors
    /// [`CommandRefused`] if an operator's command makes no sense now.
    fn of(
        before: &ServiceRollout,
        cause: Cause,
        view: &View<'_>,
        notify: &Arc<Notify>,
    ) -> Result<Self, CommandRefused> {
        let (first, service) = (before.record.history.next(), before.service.clone());
        let mut decision = Self { service, cause, after: before.clone(), actions: Vec::new(), raises: false, first };
        match decision.cause.clone() {
            Cause::Second { sustained } => decision.second(sustained, view, notify)?,
            Cause::Tripped => decision.tripped(view, notify)?,
            Cause::Events(events) => decision.apply(events, view, notify)?,
            Cause::Unwritten => decision.after.dirty = true,
        }
        decision.raises = raised(before.state(), decision.after.state());
        Ok(decision)
    }

    /// Its service.
    pub(crate) const fn service(&self) -> &Name {
        &self.service
    }

    /// Whether nothing was decided, and what is in effect is written anew.
    pub(crate) fn is_written_anew(&self) -> bool {
        self.cause == Cause::Unwritten
    }

    /// Whether there is something to be written.
    pub(crate) const fn is_to_be_written(&self) -> bool {
        self.after.dirty
    }

    fn apply(&mut self, mut events: Vec<Event>, view: &View<'_>, notify: &Arc<Notify>) -> Result<(), CommandRefused> {
        events.push(Event::Tick);
        self.actions.extend(self.after.apply(events, None, view, notify)?);
        Ok(())
    }

    fn tripped(&mut self, view: &View<'_>, notify: &Arc<Notify>) -> Result<(), CommandRefused> {
        match self.after.trip_event(view) {
            Some(event) => self.apply(vec![event], view, notify),
            None => Ok(()),
        }
    }

    fn second(
        &mut self,
        sustained: Option<String>,
        view: &View<'_>,
        notify: &Arc<Notify>,
    ) -> Result<(), CommandRefused> {
        self.tripped(view, notify)?;
        // Nothing is decided of a canary that is out and not judged yet.
        if self.after.is_tripped() {
            return Ok(());
        }
        if let Some(sentence) = sustained {
            self.apply(vec![Event::Sustained { sentence }], view, notify)?;
        } else if self.after.state().phase() == Phase::RollingBack {
            self.apply(Vec::new(), view, notify)?;
        }
        if let Some((verdicts, actions)) = self.after.analyze(view) {
            self.actions.extend(actions);
            self.actions.extend(self.after.apply(vec![Event::Tick], Some(&verdicts), view, notify)?);
        }
        Ok(())
    }
}
