//! The owner's part in what operators ask for: weights over the file's split, and states of versions and endpoints.

use std::time::SystemTime;

use super::{Owner, describe, find_name, reason};
use crate::control::{Ack, Attribution, ProposalResult, Rejection, Shift, StateTarget};
use crate::model::{EndpointState, Name, Split, Weight};
use crate::snapshot::compile::States;

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
        self.durable.save_shift(&name, &shift).map_err(Rejection::Store)?;
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
        let kept = self.durable.delete_shift(&name);
        self.shifts.remove(&name);
        let ack = self.recompile(format!("{name}: back to the file's {base} by {}{}", by.author, reason(by)))?;
        Ok(self.note_unwritten(ack, kept))
    }

    /// Goes on in memory with what leads back where the disk refuses: whoever takes traffic away from what is broken must
    /// not be stopped by it. It is said, and written as soon as the disk takes it.
    fn note_unwritten(&mut self, mut ack: Ack, kept: Result<(), String>) -> Ack {
        if let Err(error) = kept {
            tracing::error!(%error, "a change that leads back is in effect, and would be lost with a restart");
            ack.warnings.push(format!("it is in effect, and lost with a restart before the disk takes it: {error}"));
            self.unwritten = true;
        }
        ack
    }

    /// Writes what the disk refused, if it takes it now.
    pub(super) fn retry_unwritten(&mut self) {
        if !self.unwritten {
            return;
        }
        let (shifts, states, _) = self.durable.read();
        let mut ended = shifts.keys().filter(|service| !self.shifts.contains_key(*service));
        let written = ended.try_for_each(|service| self.durable.delete_shift(service));
        let written = written.and_then(|()| self.write_states(&states));
        self.unwritten = written.is_err();
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
        let mut states = self.states.clone();
        let mut failed_write = Ok(());
        for (key, own) in wanted {
            let leads_back = state == own || state != EndpointState::Ready;
            let kept = if state == own {
                states.remove(&key);
                self.durable.delete_state(&key)
            } else {
                states.insert(key.clone(), state);
                self.durable.save_state(&key, state)
            };
            let Err(error) = kept else { continue };
            if leads_back {
                failed_write = Err(error);
            } else {
                // Nothing of it is in effect, so nothing of it may come back with a restart.
                self.restore_states(&states);
                return Err(Rejection::Store(error));
            }
        }
        self.states = states;
        let ack = self.recompile(format!("{target}: {state} by {}{}", by.author, reason(by)))?;
        Ok(self.note_unwritten(ack, failed_write))
    }

    /// Makes durable again what is in effect where `tried` differs from it, as far as the disk lets it.
    fn restore_states(&self, tried: &States) {
        if let Err(error) = self.write_states(tried) {
            tracing::error!(%error, "a state that was refused may come into effect with a restart");
        }
    }

    /// All of it is tried, and the last error told.
    fn write_states(&self, kept: &States) -> Result<(), String> {
        let mut restored = Ok(());
        for key in self.states.keys().chain(kept.keys()).filter(|key| self.states.get(*key) != kept.get(*key)) {
            restored = restored.and(match self.states.get(key) {
                Some(state) => self.durable.save_state(key, *state),
                None => self.durable.delete_state(key),
            });
        }
        restored
    }
}
