//! What a database holds, in memory: what conditions and bounds are checked against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::StoreError;
use crate::store::{Conflict, Fact, MAX_KEY_BYTES, MAX_TOTAL_BYTES, MAX_VALUE_BYTES, Revision, Write};

/// The content of the file, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) by_key: BTreeMap<Arc<str>, Fact>,
    pub(super) revision: Revision,
}

impl Facts {
    /// Whether `writes` are within the bounds.
    pub(super) fn fits(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut bytes = 0;
        for Write { key, value } in writes {
            within(key, "its key", key.len(), MAX_KEY_BYTES)?;
            if let Some(value) = value {
                within(key, "its value", value.len(), MAX_VALUE_BYTES)?;
                bytes += key.len() + value.len();
            }
        }
        let Some(last) = writes.iter().rfind(|write| write.value.is_some()) else { return Ok(()) };
        let written: BTreeSet<&str> = writes.iter().map(|write| write.key.as_str()).collect();
        let others = self.by_key.iter().filter(|(key, _)| !written.contains(&***key));
        let others: usize = others.map(|(key, fact)| key.len() + fact.value.len()).sum();
        within(&last.key, "everything in the store", others + bytes, MAX_TOTAL_BYTES)
    }

    /// Whether `conditions` hold.
    pub(super) fn meets(&self, conditions: &[(String, Option<Revision>)]) -> Result<(), StoreError> {
        Ok(Conflict::check(conditions, |key| self.by_key.get(key).map(|fact| fact.revision))?)
    }

    /// Takes in what was committed.
    pub(super) fn apply(&mut self, writes: &[&Write], revision: Revision) {
        self.revision = revision;
        for Write { key, value } in writes {
            match value {
                Some(value) => {
                    self.by_key.insert(key.as_str().into(), Fact { value: value.as_slice().into(), revision });
                }
                None => drop(self.by_key.remove(key.as_str())),
            }
        }
    }
}

fn within(key: &str, what: &'static str, bytes: usize, limit: usize) -> Result<(), StoreError> {
    if bytes <= limit { Ok(()) } else { Err(StoreError::TooLarge { key: excerpt(key), what, bytes, limit }) }
}

/// A key for a message, not longer than a line.
fn excerpt(key: &str) -> String {
    const SHOWN: usize = 60;
    key.chars().take(SHOWN).collect()
}
