//! What operators put over the file, kept across restarts: shifts of weights and states.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Attribution, Shift};
use crate::model::{EndpointState, Name, Split, Weight};
use crate::rollouts::RecordStore;
use crate::snapshot::compile::States;
use crate::store::Store;

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

/// Why there is no store, and the copy that is left of it.
#[derive(Clone, Debug)]
pub struct NoStore {
    /// Why.
    pub why: String,
    /// What [`read_copy`](crate::store::read_copy) found.
    pub copy: Option<Vec<u8>>,
}

/// The store, or why there is none.
pub(super) enum Durable {
    Available(Store),
    Missing(NoStore),
}

impl Durable {
    /// Reads what was kept. What cannot be read is left out with a line that says so.
    pub(super) fn read(&self) -> (BTreeMap<Name, Shift>, States, Vec<String>) {
        let (mut shifts, mut states, mut unread) = (BTreeMap::new(), States::new(), Vec::new());
        let Self::Available(store) = self else { return (shifts, states, unread) };
        for (key, fact) in store.list(SHIFT) {
            let service: Name = key.trim_start_matches(SHIFT).into();
            match serde_json::from_slice(&fact.value).ok().and_then(|stored: StoredShift| stored.into_shift()) {
                Some(shift) => drop(shifts.insert(service, shift)),
                None => unread.push(format!("the kept shift of {service} cannot be read; the file's split applies")),
            }
        }
        for (key, fact) in store.list(STATE) {
            match serde_json::from_slice::<StoredState>(&fact.value) {
                Ok(stored) => {
                    let endpoint = stored.endpoint.map(Name::from);
                    states.insert((stored.service.into(), stored.version.into(), endpoint), stored.state);
                }
                Err(_) => unread.push(format!("the kept state `{key}` cannot be read; the file's applies")),
            }
        }
        (shifts, states, unread)
    }

    pub(super) fn save_shift(&self, service: &Name, shift: &Shift) -> Result<(), String> {
        let at = shift.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let stored = StoredShift {
            split: pairs(&shift.split),
            base: pairs(&shift.base),
            author: shift.by.author.clone(),
            reason: shift.by.reason.clone(),
            at,
        };
        self.keep(&format!("{SHIFT}{service}"), &stored)
    }

    pub(super) fn delete_shift(&self, service: &Name) -> Result<(), String> {
        self.delete(&format!("{SHIFT}{service}"))
    }

    pub(super) fn save_state(
        &self,
        (service, version, endpoint): &(Name, Name, Option<Name>),
        state: EndpointState,
    ) -> Result<(), String> {
        let stored = StoredState {
            service: service.to_string(),
            version: version.to_string(),
            endpoint: endpoint.as_deref().map(str::to_owned),
            state,
        };
        self.keep(&state_key(service, version, endpoint.as_ref()), &stored)
    }

    pub(super) fn delete_state(&self, (service, version, endpoint): &(Name, Name, Option<Name>)) -> Result<(), String> {
        self.delete(&state_key(service, version, endpoint.as_ref()))
    }

    fn keep(&self, key: &str, value: &impl Serialize) -> Result<(), String> {
        self.put(key, &serde_json::to_vec(value).map_err(|error| error.to_string())?)
    }
}

impl RecordStore for Durable {
    fn put(&self, key: &str, value: &[u8]) -> Result<(), String> {
        match self {
            Self::Available(store) => store.put(key, value).map(drop).map_err(|error| error.to_string()),
            Self::Missing(none) => Err(none.why.clone()),
        }
    }

    fn delete(&self, key: &str) -> Result<(), String> {
        match self {
            // A fact that is not there needs no write.
            Self::Available(store) if store.get(key).is_some() => {
                store.delete(key).map(drop).map_err(|error| error.to_string())
            }
            // What was never kept needs no forgetting.
            Self::Available(_) | Self::Missing(_) => Ok(()),
        }
    }

    fn list(&self, prefix: &str) -> Vec<(String, Arc<[u8]>)> {
        match self {
            Self::Available(store) => {
                store.list(prefix).into_iter().map(|(key, fact)| (key.to_string(), fact.value)).collect()
            }
            Self::Missing(_) => Vec::new(),
        }
    }

    fn last_error(&self) -> Option<String> {
        match self {
            Self::Available(store) => store.last_error().map(|error| error.to_string()),
            Self::Missing(none) => Some(none.why.clone()),
        }
    }

    fn copy(&self) -> Option<Vec<u8>> {
        match self {
            Self::Available(store) => store.copy(),
            Self::Missing(none) => none.copy.clone(),
        }
    }

    fn put_copy(&self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Available(store) => store.put_copy(bytes).map_err(|error| error.to_string()),
            Self::Missing(none) => Err(none.why.clone()),
        }
    }
}

const SHIFT: &str = "shift/";
const STATE: &str = "state/";

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
