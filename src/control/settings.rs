//! What operators set over the file, kept across restarts: shifts of weights and states.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Attribution, Shift};
use crate::model::{EndpointState, Name, Split, SplitKey, Weight};
use crate::snapshot::compile::States;
use crate::store::{JournalError, JournalWriter, Write};

/// A shift as it is stored: the base it was put over tells, after a restart, whether it still applies.
#[derive(Serialize, Deserialize)]
struct StoredShift {
    split: Vec<(String, u16)>,
    base: Vec<(String, u16)>,
    author: String,
    reason: String,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredState {
    service: String,
    version: String,
    endpoint: Option<String>,
    state: EndpointState,
}

/// What operators set over the file, by what it is set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SettingKey {
    /// The weights of a service, or of a cohort of it.
    Shift(SplitKey),
    /// The state of a version or an endpoint.
    State(StateKey),
}

/// A service, a version, and maybe an endpoint.
pub(super) type StateKey = (Name, Name, Option<Name>);

impl SettingKey {
    /// The service that it is of.
    pub(super) const fn service(&self) -> &Name {
        match self {
            Self::Shift(SplitKey { service, .. }) | Self::State((service, ..)) => service,
        }
    }

    /// Stores what is in effect, as a write.
    pub(super) fn write(&self, shifts: &BTreeMap<SplitKey, Shift>, states: &States) -> Result<Write, JournalError> {
        match self {
            Self::Shift(key) => write_shift(key, shifts.get(key)),
            Self::State(key) => write_state(key, states.get(key).copied()),
        }
    }
}

/// What an operator asks to be put over the file of one service, or taken away.
pub(super) struct SettingChange {
    pub(super) service: Name,
    pub(super) what: OperatorSetting,
    /// What is said of it.
    pub(super) line: String,
    /// It takes effect also where it cannot be written: whoever takes traffic away from what is broken must not be
    /// stopped by the disk.
    pub(super) leads_back: bool,
}

/// The values that it asks for; none: the file's.
pub(super) enum OperatorSetting {
    Shift(SplitKey, Option<Shift>),
    States(Vec<(StateKey, Option<EndpointState>)>),
}

impl SettingChange {
    pub(super) fn keys(&self) -> Vec<SettingKey> {
        match &self.what {
            OperatorSetting::Shift(key, _) => vec![SettingKey::Shift(key.clone())],
            OperatorSetting::States(states) => states.iter().map(|(key, _)| SettingKey::State(key.clone())).collect(),
        }
    }

    pub(super) fn writes(&self) -> Result<Vec<Write>, JournalError> {
        match &self.what {
            OperatorSetting::Shift(key, shift) => Ok(vec![write_shift(key, shift.as_ref())?]),
            OperatorSetting::States(states) => states.iter().map(|(key, state)| write_state(key, *state)).collect(),
        }
    }
}

/// Reads what is stored. What cannot be read is left out with a line that says so.
pub(super) fn read(journal: &JournalWriter) -> (BTreeMap<SplitKey, Shift>, States, Vec<String>) {
    let (mut shifts, mut states, mut unread) = (BTreeMap::new(), States::new(), Vec::new());
    for (key, value) in journal.list(SHIFT) {
        let of = split_key(&key);
        match serde_json::from_slice(&value).ok().and_then(|stored: StoredShift| stored.into_shift()) {
            Some(shift) => drop(shifts.insert(of, shift)),
            None => unread.push(format!("the kept shift of {of} cannot be read; the file's split applies")),
        }
    }
    for (key, value) in journal.list(STATE) {
        match serde_json::from_slice::<StoredState>(&value) {
            Ok(stored) => {
                let endpoint = stored.endpoint.map(Name::from);
                states.insert((stored.service.into(), stored.version.into(), endpoint), stored.state);
            }
            Err(_) => unread.push(format!("the kept state `{key}` cannot be read; the file's applies")),
        }
    }
    (shifts, states, unread)
}

/// Puts a shift, or removes it if there is none, as a write.
fn write_shift(of: &SplitKey, shift: Option<&Shift>) -> Result<Write, JournalError> {
    let key = shift_key(of);
    let Some(shift) = shift else { return Ok(Write::remove(key)) };
    let at = shift.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let stored = StoredShift {
        split: pairs(&shift.split),
        base: pairs(&shift.base),
        author: shift.by.author.clone(),
        reason: shift.by.reason.clone(),
        at,
    };
    Write::json(key, &stored)
}

/// Puts a state, or removes it if there is none, as a write.
fn write_state((service, version, endpoint): &StateKey, state: Option<EndpointState>) -> Result<Write, JournalError> {
    let key = state_key(service, version, endpoint.as_ref());
    let Some(state) = state else { return Ok(Write::remove(key)) };
    let stored = StoredState {
        service: service.to_string(),
        version: version.to_string(),
        endpoint: endpoint.as_deref().map(str::to_owned),
        state,
    };
    Write::json(key, &stored)
}

const SHIFT: &str = "shift/";
const STATE: &str = "state/";

fn shift_key(SplitKey { service, cohort }: &SplitKey) -> String {
    match cohort {
        None => format!("{SHIFT}{service}"),
        Some(cohort) => format!("{SHIFT}{service}/{cohort}"),
    }
}

/// What was stored under a key of [`shift_key`].
fn split_key(key: &str) -> SplitKey {
    let of = key.strip_prefix(SHIFT).unwrap_or(key);
    match of.split_once('/') {
        None => SplitKey { service: of.into(), cohort: None },
        Some((service, cohort)) => SplitKey { service: service.into(), cohort: Some(cohort.into()) },
    }
}

fn state_key(service: &str, version: &str, endpoint: Option<&Name>) -> String {
    // Names have no slash (the configuration sees to it), so parts cannot run into each other.
    match endpoint {
        None => format!("{STATE}{service}/{version}"),
        Some(endpoint) => format!("{STATE}{service}/{version}/{endpoint}"),
    }
}

fn pairs(split: &Split) -> Vec<(String, u16)> {
    split.iter().map(|(name, weight)| (name.to_string(), weight.basis_points())).collect()
}

fn split(pairs: Vec<(String, u16)>) -> Option<Split> {
    let weights: Option<Vec<(Name, Weight)>> =
        pairs.into_iter().map(|(name, bp)| Some((name.into(), Weight::from_basis_points(bp)?))).collect();
    Split::new(weights?).ok()
}

impl StoredShift {
    fn into_shift(self) -> Option<Shift> {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.at))?;
        let by = Attribution { author: self.author, reason: self.reason };
        Some(Shift { split: split(self.split)?, base: split(self.base)?, by, at })
    }
}
