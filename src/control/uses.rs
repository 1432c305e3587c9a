//! When versions were in use last, across restarts: what `weir removable` is answered from.
//!
//! The recorder knows it while the process runs. Once a minute, where something changed, all of it is written as one
//! fact, in wall-clock seconds, because nothing else means the same to the next process.
//!
//! Invariant: what is read back never makes a version look idle for longer than it was: a use in the minute that was
//! not written counts as one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::Name;
use crate::snapshot::Snapshot;
use crate::store::{JournalError, JournalWriter, Write};

const KEY: &str = "uses";
/// How often it is written, at most.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// Of one version, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VersionUse {
    /// Since when its uses are known.
    since: u64,
    /// The last one that is known.
    last: Option<u64>,
}

/// The uses of all versions.
#[derive(Debug)]
pub(super) struct VersionUses {
    /// By `SERVICE/VERSION`; names hold no `/`.
    known: BTreeMap<String, VersionUse>,
    written: BTreeMap<String, VersionUse>,
    /// What is on its way to the store.
    writing: Option<BTreeMap<String, VersionUse>>,
    /// Of those that are known, since when; shared with everybody who reads the status.
    since: Arc<BTreeMap<String, SystemTime>>,
    next: Instant,
}

impl VersionUses {
    /// Reads what was kept and tells the counters of the first snapshot. Versions that are not in it are forgotten.
    pub(super) fn read(first: &Snapshot, journal: &JournalWriter, now: Instant) -> Self {
        let kept = journal.list(KEY).into_iter().find(|(key, _)| **key == *KEY);
        let mut known: BTreeMap<String, VersionUse> =
            kept.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let wall = seconds(SystemTime::now());
        let mut present = BTreeMap::new();
        for service in &first.services {
            for version in &service.versions {
                let key = key(&service.name, &version.name);
                let Some(known) = known.remove(&key) else { continue };
                if let Some(last) = known.last {
                    let idle = wall.saturating_sub(last.saturating_add(WRITE_INTERVAL.as_secs()));
                    version.series.remember_use(Duration::from_secs(idle), now);
                }
                present.insert(key, VersionUse { since: known.since.min(wall), last: known.last });
            }
        }
        Self { written: present.clone(), writing: None, since: since(&present), known: present, next: now }
    }

    /// A second has passed. Once a minute, what is to be written because it changed.
    pub(super) fn second(&mut self, snapshot: &Snapshot, now: Instant) -> Option<Write> {
        if now < self.next || self.writing.is_some() {
            return None;
        }
        self.next = now + WRITE_INTERVAL;
        self.look(snapshot, now, SystemTime::now());
        if self.known == self.written {
            return None;
        }
        let write = Write::json(KEY.to_owned(), &self.known).ok()?;
        self.writing = Some(self.known.clone());
        Some(write)
    }

    /// What [`Self::second`] gave was written, or could not be. Nothing depends on it but the answer after the next
    /// restart, which is then more careful.
    pub(super) fn written(&mut self, stored: Result<(), JournalError>) {
        let writing = self.writing.take();
        match stored {
            Ok(()) => self.written = writing.unwrap_or_default(),
            Err(error) => tracing::debug!(%error, "uses were not written"),
        }
    }

    fn look(&mut self, snapshot: &Snapshot, now: Instant, wall: SystemTime) {
        let wall = seconds(wall);
        let mut known = BTreeMap::new();
        for service in &snapshot.services {
            for version in &service.versions {
                let key = key(&service.name, &version.name);
                let before = self.known.get(&key).copied();
                let last = version.series.last_use(now).idle.map(|idle| wall.saturating_sub(idle.as_secs()));
                // A clock that was set back moves no use into the past.
                let last = last.max(before.and_then(|before| before.last));
                known.insert(key, VersionUse { since: before.map_or(wall, |before| before.since), last });
            }
        }
        self.since = since(&known);
        self.known = known;
    }

    /// Since when the uses of versions are known.
    pub(super) fn since(&self) -> Arc<BTreeMap<String, SystemTime>> {
        Arc::clone(&self.since)
    }
}

fn since(known: &BTreeMap<String, VersionUse>) -> Arc<BTreeMap<String, SystemTime>> {
    let moment = |known: &VersionUse| SystemTime::UNIX_EPOCH + Duration::from_secs(known.since);
    Arc::new(known.iter().map(|(key, known)| (key.clone(), moment(known))).collect())
}

/// What a version is called here.
pub(super) fn key(service: &Name, version: &Name) -> String {
    format!("{service}/{version}")
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
