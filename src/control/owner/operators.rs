//! The owner's part in what operators ask for: weights over the file's split, and states of versions and endpoints.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::{Owner, describe, find_name, may_be_lost, reason};
use crate::control::overrides;
use crate::control::{Ack, Attribution, ProposalResult, Rejection, Shift, StateTarget};
use crate::model::{EndpointState, Name, Split, Weight};
use crate::store::{JournalError, Write};

impl Owner {
    pub(super) fn set_weights(
        &mut self,
        service: &str,
        weights: &[(String, Weight)],
        by: Attribution,
    ) -> ProposalResult {
        let (name, file) = self.find_service(service)?;
        if self.rollouts.has(&name) {
            return Err(Rejection::RolledOut(name.to_string()));
        }
        let base = file.split.clone();
        for (version, _) in weights {
            find_name("version", version, file.versions.names())?;
        }
        let all = file.versions.names().map(|version| {
            let named = weights.iter().find(|(given, _)| given == &**version);
            (version.clone(), named.map_or(Weight::ZERO, |(_, weight)| *weight))
        });
        let split = Split::new(all.collect())?;
        let shift = Shift { split, base, by, at: SystemTime::now() };
        let written = overrides::put_shift(&name, &shift).and_then(|write| self.journal.commit(vec![write]));
        if let Err(error) = written {
            // It is not in effect, so it may not come back with a restart.
            self.unwritten = true;
            return Err(Rejection::Store(error));
        }
        let line = format!("{name}: {} by {}{}", describe(&shift.split), shift.by.author, reason(&shift.by));
        self.shifts.insert(name, shift);
        self.recompile(line)
    }

    pub(super) fn reset_weights(&mut self, service: &str, by: &Attribution) -> ProposalResult {
        let (name, file) = self.find_service(service)?;
        let base = describe(&file.split);
        if !self.shifts.contains_key(&name) {
            return Ok(Ack { revision: self.current.peek().revision, changes: Vec::new(), warnings: Vec::new() });
        }
        let written = self.journal.commit(vec![overrides::remove_shift(&name)]);
        self.shifts.remove(&name);
        let ack = self.recompile(format!("{name}: back to the file's {base} by {}{}", by.author, reason(by)))?;
        Ok(self.note_unwritten(ack, written))
    }

    /// Goes on in memory with what leads back where the disk refuses: whoever takes traffic away from what is broken must
    /// not be stopped by it. It is said, and written as soon as the disk takes it.
    fn note_unwritten(&mut self, mut ack: Ack, written: Result<(), JournalError>) -> Ack {
        if let Err(error) = written {
            tracing::error!(%error, "a change that leads back is in effect, and would be lost with a restart");
            ack.warnings.push(may_be_lost(&error));
            self.unwritten = true;
        }
        ack
    }

    /// Writes what is in effect where what is stored differs from it, if the store takes it now.
    pub(super) fn retry_unwritten(&mut self) {
        if self.unwritten {
            let written = self.journal.refresh().and_then(|()| self.journal.commit(self.unwritten()?));
            self.unwritten = written.is_err();
        }
    }

    /// What of the shifts and states in effect is stored otherwise.
    fn unwritten(&self) -> Result<Vec<Write>, JournalError> {
        let (shifts, states, _) = overrides::read(&self.journal);
        let mut writes: Vec<Write> =
            shifts.keys().filter(|service| !self.shifts.contains_key(*service)).map(overrides::remove_shift).collect();
        for (service, shift) in &self.shifts {
            if shifts.get(service).is_none_or(|stored| stored.split != shift.split || stored.base != shift.base) {
                writes.push(overrides::put_shift(service, shift)?);
            }
        }
        let all: BTreeSet<_> = self.states.keys().chain(states.keys()).collect();
        for key in all.into_iter().filter(|key| self.states.get(*key) != states.get(*key)) {
            writes.push(overrides::write_state(key, self.states.get(key).copied())?);
        }
        Ok(writes)
    }

    pub(super) fn set_state(&mut self, target: &StateTarget, state: EndpointState, by: &Attribution) -> ProposalResult {
        let (service, file) = self.find_service(&target.service)?;
        let versions: Vec<Name> = match &target.version {
            Some(version) => vec![find_name("version", version, file.versions.names())?],
            None => file.versions.names().cloned().collect(),
        };
        let mut wanted = Vec::new();
        for version in versions {
            let Some(spec) = file.versions.get(&version) else { continue };
            let (endpoint, own) = match &target.endpoint {
                None => (None, spec.state),
                Some(found) => {
                    let names: Vec<Name> = spec.endpoints.iter().map(|e| e.address.to_string().into()).collect();
                    let name = find_name("endpoint", found, names.iter())?;
                    let at = names.iter().position(|known| *known == name);
                    let own = at.and_then(|at| spec.endpoints.get(at)).map_or(EndpointState::Ready, |e| e.state);
                    (Some(name), own)
                }
            };
            wanted.push(((service.clone(), version, endpoint), own));
        }
        let writes: Result<Vec<Write>, JournalError> =
            wanted.iter().map(|(key, own)| overrides::write_state(key, (state != *own).then_some(state))).collect();
        let written = writes.and_then(|writes| self.journal.commit(writes));
        let leads_back = wanted.iter().all(|(_, own)| state == *own || state != EndpointState::Ready);
        if let Err(error) = &written
            && !leads_back
        {
            // Nothing of it is in effect, so nothing of it may come back with a restart.
            self.unwritten = true;
            return Err(Rejection::Store(error.clone()));
        }
        for (key, own) in wanted {
            if state == own {
                self.states.remove(&key);
            } else {
                self.states.insert(key, state);
            }
        }
        let ack = self.publish_states(&service, format!("{target}: {state} by {}{}", by.author, reason(by)));
        Ok(self.note_unwritten(ack, written))
    }
}
