//! Leases as facts: who holds what until when, decided by the condition of one commit.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Conflict, Fact, JournalError, Revision, Transaction, Write};

const PREFIX: &str = "lease/";

/// A lease that was taken or renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub(crate) holder: String,
    /// Until when, if it is not renewed.
    pub(crate) until: SystemTime,
    /// The commit that took it: it grows with each holder, so that a write of an earlier one can be told.
    pub(crate) revision: Revision,
}

/// A lease as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredLease {
    holder: String,
    until_ms: u64,
}

/// The key of a lease.
pub(super) fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Takes a lease of which `found` is stored, as a transaction; and until when it is taken.
pub(super) fn claim(
    name: &str,
    holder: &str,
    ttl: Duration,
    found: Option<&Fact>,
    now: SystemTime,
) -> Result<(Transaction, SystemTime), JournalError> {
    let key = key(name);
    let expected = found.map(|fact| fact.revision);
    let stored: Option<StoredLease> = found.and_then(|fact| serde_json::from_slice(&fact.value).ok());
    if stored.is_some_and(|stored| stored.holder != holder && SystemTime::UNIX_EPOCH + millis(stored.until_ms) > now) {
        return Err(Conflict { key, expected: None, found: expected }.into());
    }
    let until = now + ttl;
    let since = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let until_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let stored = StoredLease { holder: holder.to_owned(), until_ms };
    let value = serde_json::to_vec(&stored).map_err(|error| JournalError::Unavailable(error.to_string()))?;
    let writes = vec![Write { key: key.clone(), value: Some(value) }];
    Ok((Transaction { conditions: vec![(key, expected)], writes }, until))
}

fn millis(ms: u64) -> Duration {
    // A time that cannot be added to the epoch is cut: it is far beyond any lease.
    Duration::from_millis(ms.min(u64::MAX / 4_000_000))
}
