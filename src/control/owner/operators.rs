//! The owner's part in what operators say: weights over the file's split, and states of versions and endpoints.

use std::time::SystemTime;

use super::{Owner, describe, known, reason};
use crate::control::{Ack, By, Outcome, Rejection, Shift, Target};
use crate::model::{EndpointState, Name, Split, Weight};
use crate::snapshot::compile::States;

impl Owner {
    pub(super) fn set_weights(&mut self, service: &str, weights: &[(String, Weight)], by: By) -> Outcome {
        let (name, file) = self.find_service(service)?;
        if self.rollouts.has(&name) {
            return Err(Rejection::RolledOut(name.to_string()));
        }
        let base = file.split.clone();
        for (version, _) in weights {
            known("version", version, file.versions.names())?;
        }
        let all = file.versions.names().map(|version| {
            let named = weights.iter().find(|(given, _)| given == &**version);
            (version.clone(), named.map_or(Weight::ZERO, |(_, weight)| *weight))
        });
        let split = Split::new(all.collect())?;
        let shift = Shift { split, base, by, at: SystemTime::now() };
        self.durable.keep_shift(&name, &shift).map_err(Rejection::Store)?;
        let line = format!("{name}: {} by {}{}", describe(&shift.split), shift.by.author, reason(&shift.by));
        self.shifts.insert(name, shift);
        self.recompile(line)
    }

    pub(super) fn reset_weights(&mut self, service: &str, by: &By) -> Outcome {
        let (name, file) = self.find_service(service)?;
        let base = describe(&file.split);
        if !self.shifts.contains_key(&name) {
            return Ok(Ack { revision: self.current.peek().revision, changes: Vec::new(), warnings: Vec::new() });
        }
        let kept = self.durable.forget_shift(&name);
        self.shifts.remove(&name);
        let ack = self.recompile(format!("{name}: back to the file's {base} by {}{}", by.author, reason(by)))?;
        Ok(self.owe(ack, kept))
    }

    /// Goes on in memory with what leads back where the disk refuses: whoever takes traffic away from what is broken must
    /// not be stopped by it. It is said, and written as soon as the disk takes it.
    fn owe(&mut self, mut ack: Ack, kept: Result<(), String>) -> Ack {
        if let Err(error) = kept {
            tracing::error!(%error, "a change that leads back is in effect, and would be lost with a restart");
            ack.warnings.push(format!("it is in effect, and lost with a restart before the disk takes it: {error}"));
            self.owes = true;
        }
        ack
    }

    /// Writes what the disk refused, if it takes it now.
    pub(super) fn pay(&mut self) {
        if !self.owes {
            return;
        }
        let (shifts, states, _) = self.durable.read();
        let mut ended = shifts.keys().filter(|service| !self.shifts.contains_key(*service));
        let paid = ended.try_for_each(|service| self.durable.forget_shift(service));
        let paid = paid.and_then(|()| self.try_restore_states(&states));
        self.owes = paid.is_err();
    }

    pub(super) fn set_state(&mut self, target: &Target, state: EndpointState, by: &By) -> Outcome {
        let (service, file) = self.find_service(&target.service)?;
        let versions: Vec<Name> = match &target.version {
            Some(version) => vec![known("version", version, file.versions.names())?],
            None => file.versions.names().cloned().collect(),
        };
        let mut wanted = Vec::new();
        for version in versions {
            let Some(spec) = file.versions.get(&version) else { continue };
            let (endpoint, own) = match &target.endpoint {
                None => (None, spec.state),
                Some(found) => {
                    let names: Vec<Name> = spec.endpoints.iter().map(|e| e.address.to_string().into()).collect();
                    let name = known("endpoint", found, names.iter())?;
                    let at = names.iter().position(|known| *known == name);
                    let own = at.and_then(|at| spec.endpoints.get(at)).map_or(EndpointState::Ready, |e| e.state);
                    (Some(name), own)
                }
            };
            wanted.push(((service.clone(), version, endpoint), own));
        }
        let mut states = self.states.clone();
        let mut owed = Ok(());
        for (key, own) in wanted {
            let leads_back = state == own || state != EndpointState::Ready;
            let kept = if state == own {
                states.remove(&key);
                self.durable.forget_state(&key)
            } else {
                states.insert(key.clone(), state);
                self.durable.keep_state(&key, state)
            };
            let Err(error) = kept else { continue };
            if leads_back {
                owed = Err(error);
            } else {
                // Nothing of it is in effect, so nothing of it may come back with a restart.
                self.restore_states(&states);
                return Err(Rejection::Store(error));
            }
        }
        self.states = states;
        let ack = self.recompile(format!("{target}: {state} by {}{}", by.author, reason(by)))?;
        Ok(self.owe(ack, owed))
    }

    /// Makes durable again what is in effect where `tried` differs from it, as far as the disk lets it.
    fn restore_states(&self, tried: &States) {
        if let Err(error) = self.try_restore_states(tried) {
            tracing::error!(%error, "a state that was refused may come into effect with a restart");
        }
    }

    /// All of it is tried, and the last error told.
    fn try_restore_states(&self, kept: &States) -> Result<(), String> {
        let mut restored = Ok(());
        for key in self.states.keys().chain(kept.keys()).filter(|key| self.states.get(*key) != kept.get(*key)) {
            restored = restored.and(match self.states.get(key) {
                Some(state) => self.durable.keep_state(key, *state),
                None => self.durable.forget_state(key),
            });
        }
        restored
    }
}
