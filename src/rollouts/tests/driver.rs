//! Drives rollouts as the owner does, one decision after the other, each stored before the next.

use super::*;

impl Rollouts {
    pub(super) fn restore(view: &View<'_>) -> Result<Self, Vec<(Name, StableUnknown)>> {
        let mut rollouts = Self::read(&BTreeMap::new(), view)?;
        rollouts.forget_others(view);
        drop(rollouts.save(view));
        Ok(rollouts)
    }

    /// Stores what is new; it takes effect all the same. The first error, if there is one.
    pub(super) fn save(&mut self, view: &View<'_>) -> Result<(), JournalError> {
        let mut first = Ok(());
        for (service, writes) in self.writes(view.config).unwrap() {
            let stored = view.store.commit(writes);
            first = first.and(stored.clone());
            self.written(&service, stored);
        }
        self.save_copy(view);
        self.all_listen(view);
        first
    }

    fn save_copy(&mut self, view: &View<'_>) {
        if let Some(copy) = self.new_copy() {
            view.store.write_copy(&copy).unwrap();
        }
    }

    pub(super) fn forget_others(&self, view: &View<'_>) {
        for (_, writes) in self.forgotten(view.store) {
            view.store.commit(writes).unwrap();
        }
    }

    /// Decides, stores and finishes; goes on while that leaves something to be written. None: the service has no rollout.
    fn carry_out(
        &mut self,
        service: &Name,
        cause: Cause,
        view: &View<'_>,
    ) -> Result<Option<Vec<String>>, CommandRefused> {
        let Some(mut decision) = self.decide(service, cause, view)? else { return Ok(None) };
        let to_be_written = decision.is_to_be_written();
        let stored = to_be_written.then(|| view.store.commit(self.writes_of(&mut decision, view.config)?));
        let goes_on = decision.is_written_anew() && stored == Some(Ok(()));
        let lines = self.finish(decision, stored, view)?;
        if goes_on && self.held(service).is_some() {
            self.carry_out(service, Cause::Unwritten, view)?;
        }
        self.save_copy(view);
        self.all_listen(view);
        Ok(Some(lines))
    }

    pub(super) fn observe(&mut self, service: &Name, events: &[Event], view: &View<'_>) {
        self.carry_out(service, Cause::Events(events.to_vec()), view).unwrap();
    }

    pub(super) fn hook_answered(&mut self, service: &Name, answer: (u64, bool, String), view: &View<'_>) {
        let (id, accepted, text) = answer;
        self.observe(service, &[Event::HookAnswered { id, accepted, text }], view);
    }

    pub(super) fn command(
        &mut self,
        service: &Name,
        command: &Command,
        (by, reason): (String, String),
        view: &View<'_>,
    ) -> Option<Result<Vec<String>, CommandRefused>> {
        let cause = self.cause_of(service, command, by, reason)?;
        self.carry_out(service, cause, view).transpose()
    }

    /// Every canary whose endpoints are asked whether they accept connections does; the other actions stay.
    pub(super) fn all_listen(&mut self, view: &View<'_>) {
        let connects = |action: &mut Action| matches!(action, Action::Connect(_));
        let asked: Vec<Action> = self.actions.extract_if(.., connects).collect();
        for action in asked {
            let Action::Connect(question) = action else { continue };
            let service = question.service.clone();
            if let Some(cause) = self.connected(*question, None, view) {
                self.carry_out(&service, cause, view).unwrap();
            }
        }
    }

    /// A second has passed for all of them; and what could not be written is tried again.
    pub(super) fn second(&mut self, view: &View<'_>) {
        self.all_listen(view);
        let under_way: Vec<Name> = self.under_way().cloned().collect();
        for service in under_way {
            if let Some(cause) = self.sample(&service, view) {
                self.carry_out(&service, cause, view).unwrap();
            }
        }
        let unwritten: Vec<Name> = self.unwritten().cloned().collect();
        for service in unwritten {
            self.carry_out(&service, Cause::Unwritten, view).unwrap();
        }
    }

    pub(super) fn phase(&self, service: &Name) -> Option<Phase> {
        self.services.get(service).map(|rollout| rollout.state().phase())
    }
}
