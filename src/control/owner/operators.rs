//! The owner's part in what operators ask for: weights over the file's split, and states of versions and endpoints.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::commits::{PendingCommit, Reply};
use super::{Owner, describe, find_name, reason};
use crate::config;
use crate::control::settings::{OperatorSetting, SettingChange, SettingKey};
use crate::control::{Ack, Attribution, ProposalResult, Rejection, Shift, StateChange, min_ready};
use crate::model::{EndpointState, Name, Split, SplitKey, Weight};
use crate::snapshot::compile::States;
use crate::store::{JournalError, Write};

impl Owner {
    /// Weights over the file's split, to be put there. Versions left out get 0.
    pub(super) fn new_shift(
        &self,
        service: Name,
        cohort: Option<&str>,
        weights: &[(String, Weight)],
        by: Attribution,
    ) -> Result<Option<SettingChange>, Rejection> {
        let (_, file) = self.find_service(&service)?;
        let (cohort, base) = find_split(file, cohort)?;
        let base = base.clone();
        let key = SplitKey { service: service.clone(), cohort };
        if self.rollouts.moves(&key) {
            let of = key.cohort.map_or_else(String::new, |cohort| format!("cohort `{cohort}` of "));
            return Err(Rejection::RolledOut(format!("{of}service `{service}`")));
        }
        for (version, _) in weights {
            find_name("version", version, file.versions.names())?;
        }
        let all = file.versions.names().map(|version| {
            let named = weights.iter().find(|(given, _)| given == &**version);
            (version.clone(), named.map_or(Weight::ZERO, |(_, weight)| *weight))
        });
        let split = Split::new(all.collect())?;
        let line = format!("{key}: {} by {}{}", describe(&split), by.author, reason(&by));
        let shift = Shift { split, base, by, at: SystemTime::now() };
        Ok(Some(SettingChange { service, what: OperatorSetting::Shift(key, Some(shift)), line, leads_back: false }))
    }

    /// The end of the weights over the file's split, if there are any.
    pub(super) fn no_shift(
        &self,
        service: Name,
        cohort: Option<&str>,
        by: &Attribution,
    ) -> Result<Option<SettingChange>, Rejection> {
        let (_, file) = self.find_service(&service)?;
        let (cohort, base) = find_split(file, cohort)?;
        let key = SplitKey { service: service.clone(), cohort };
        // One that ended and is stored all the same would come back with a restart.
        if !self.shifts.contains_key(&key) && !self.unwritten.contains(&SettingKey::Shift(key.clone())) {
            return Ok(None);
        }
        let line = format!("{key}: back to the file's {} by {}{}", describe(base), by.author, reason(by));
        Ok(Some(SettingChange { service, what: OperatorSetting::Shift(key, None), line, leads_back: true }))
    }

    /// The states that a change asks for, to be set.
    pub(super) fn new_states(
        &self,
        change: &StateChange,
        by: &Attribution,
    ) -> Result<Option<SettingChange>, Rejection> {
        let &StateChange { ref target, state, force } = change;
        let (service, file) = self.find_service(&target.service)?;
        let versions: Vec<Name> = match &target.version {
            Some(version) => vec![find_name("version", version, file.versions.names())?],
            None => file.versions.names().cloned().collect(),
        };
        let mut states = Vec::new();
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
            states.push(((service.clone(), version, endpoint), (state != own).then_some(state)));
        }
        if !force {
            self.check_min_ready(&service, &states)?;
        }
        let leads_back = state != EndpointState::Ready || states.iter().all(|(_, over)| over.is_none());
        let line = format!("{target}: {state} by {}{}", by.author, reason(by));
        Ok(Some(SettingChange { service, what: OperatorSetting::States(states), line, leads_back }))
    }

    /// Refuses states that leave a version of `service` too few ready endpoints.
    fn check_min_ready(&self, service: &Name, changed: &[(StateKey, Option<EndpointState>)]) -> Result<(), Rejection> {
        let current = self.current.load();
        let Some(service) = current.service(service) else { return Ok(()) };
        let mut after = self.states.clone();
        set(&mut after, changed.iter().cloned());
        let short = min_ready::by_states(service, &self.states, &after);
        if short.is_empty() { Ok(()) } else { Err(Rejection::BelowMinReady(short)) }
    }

    /// Hands a change to the store. None: there is nothing to change.
    pub(super) fn change_setting(&mut self, change: Result<Option<SettingChange>, Rejection>, reply: Reply) {
        let answered = match change {
            Ok(Some(change)) => {
                let commit = self.commit(change.writes());
                return self.commits.begin(change.service.clone(), PendingCommit::Setting { change, reply }, commit);
            }
            Ok(None) => Ok(Ack::new(self.current.peek().revision, Vec::new())),
            Err(rejection) => Err(rejection),
        };
        // Whoever asked may have gone.
        drop(reply.send(answered));
    }

    /// Brings a change into effect that is written; and one that leads back also where it could not be.
    pub(super) fn finish_setting(
        &mut self,
        change: SettingChange,
        stored: &Result<(), JournalError>,
    ) -> ProposalResult {
        self.note_written(change.keys(), stored.is_ok());
        let SettingChange { service, what, line, leads_back } = change;
        if let Err(error) = stored
            && !leads_back
        {
            // It is not in effect, so it may not come back with a restart.
            return Err(Rejection::Store(error.clone()));
        }
        let ack = match what {
            OperatorSetting::Shift(key, shift) => {
                match shift {
                    Some(shift) => drop(self.shifts.insert(key, shift)),
                    None => drop(self.shifts.remove(&key)),
                }
                self.recompile(line)?
            }
            OperatorSetting::States(states) => {
                set(&mut self.states, states.into_iter());
                self.publish_states(&service, line)
            }
        };
        Ok(match stored {
            Ok(()) => ack,
            Err(error) => {
                tracing::error!(%error, "a change that leads back is in effect, and would be lost with a restart");
                ack.not_durable(error)
            }
        })
    }

    /// Whether what is stored under `keys` is what is in effect.
    pub(super) fn note_written(&mut self, keys: Vec<SettingKey>, written: bool) {
        for key in keys {
            if written {
                self.unwritten.remove(&key);
            } else {
                self.unwritten.insert(key);
            }
        }
    }

    /// Writes what is in effect where what is stored differs from it, if the store takes it now.
    pub(super) fn retry_unwritten(&mut self) {
        let mut by_service: BTreeMap<Name, Vec<SettingKey>> = BTreeMap::new();
        for key in &self.unwritten {
            by_service.entry(key.service().clone()).or_default().push(key.clone());
        }
        for (service, keys) in by_service {
            if !self.commits.is_busy(&service) {
                let write = |key: &SettingKey| key.write(&self.shifts, &self.states);
                let writes: Result<Vec<Write>, JournalError> = keys.iter().map(write).collect();
                let commit = self.commit(writes);
                self.commits.begin(service, PendingCommit::Rewrite(keys), commit);
            }
        }
    }
}

/// The cohort of this name, and the split that the file gives it; the service's own where none is named.
fn find_split<'a>(file: &'a config::Service, cohort: Option<&str>) -> Result<(Option<Name>, &'a Split), Rejection> {
    let Some(cohort) = cohort else { return Ok((None, &file.split)) };
    let name = find_name("cohort", cohort, file.cohorts.iter().map(|cohort| &cohort.name))?;
    let split = file.split_of(Some(&name)).unwrap_or(&file.split);
    Ok((Some(name), split))
}

/// Of what a state is: service, version and, for one endpoint, its name.
type StateKey = (Name, Name, Option<Name>);

/// Puts states over the file's; none leads back to that.
fn set(states: &mut States, changed: impl Iterator<Item = (StateKey, Option<EndpointState>)>) {
    for (key, state) in changed {
        match state {
            Some(state) => drop(states.insert(key, state)),
            None => drop(states.remove(&key)),
        }
    }
}
