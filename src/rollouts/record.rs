//! What of rollouts survives the process: where each one is, its history, and alerts still to be delivered.
//!
//! ```text
//! rollout/SERVICE/state              the engine's state, the judge's memory, what versions and the plan were
//! rollout/SERVICE/history/00000012   up to 20 entries; written again until it is full, and when its analyses are dropped
//! rollout/SERVICE/damaged            a state that could not be read, for an operator to look at
//! alerts/ID                          an alert that receivers do not have yet
//! (the copy beside the store)        the stable version of each service
//! ```
//!
//! Invariant: a state is committed with its history and with the alerts that its decision raised; only where nothing could
//! be written for long, what has piled up of the history is written before it. So a state that is read back has its reasons
//! with it, and nobody misses what it was to be told.
//!
//! Each alert has a key of its own, so that a delivery that is noted meets no decision on its way to the disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Name;
use crate::outbound::alert::Pending;
use crate::rollout::engine::{Entry, RolloutState, RolloutTarget, What};
use crate::rollout::evidence::RecordedCounts;
use crate::rollout::judge::Memory;
use crate::store::{JournalError, JournalWriter, Write};

/// Analyses of one service that are kept, and other decisions. Each has its bound: there is an analysis each interval,
/// and a day of them must not push out who began or approved.
const MAX_ANALYSES: usize = 400;
const MAX_DECISIONS: usize = 200;
/// Chunks that are written at once where more have piled up: a store that refuses for long is not given all of them again
/// and again.
const CHUNKS_WITH_STATE: usize = 2;
/// Entries in one fact.
const CHUNK_ENTRIES: u64 = 20;
/// Bytes of one service's history, and of all together, as they are stored. The store holds 8 MiB in all.
const MAX_HISTORY_BYTES: usize = 512 * 1024;
const MAX_ALL_HISTORY_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of alerts that are kept.
const MAX_PENDING_BYTES: usize = 512 * 1024;

const PREFIX: &str = "rollout/";
const ALERTS: &str = "alerts/";

/// The stable version of each service, as the copy has it: without it, a store that is lost would make the version that
/// the file names look like the first one ever seen, though it may be the one that failed.
pub(super) type Stable = BTreeMap<String, String>;

/// What the copy says.
pub(super) fn read_stable(store: &JournalWriter) -> Stable {
    store.read_copy().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// An entry of the history, with its place and its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedEntry {
    /// Its place in the service's history.
    pub(crate) number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// What was decided.
    #[serde(flatten)]
    pub(crate) entry: Entry,
    /// What was counted since the line before; none where nothing was, and where an older Weir wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<Box<RecordedCounts>>,
}

/// What is bounded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    /// What an analysis found.
    Analysis,
    /// Everything else.
    Decision,
}

impl RecordedEntry {
    fn kind(&self) -> EntryKind {
        if self.entry.what == What::Analyzed { EntryKind::Analysis } else { EntryKind::Decision }
    }

    const fn chunk(&self) -> u64 {
        self.number / CHUNK_ENTRIES
    }
}

/// The last entries of a service, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    lines: VecDeque<(Arc<RecordedEntry>, usize)>,
    next: u64,
    /// Chunks that are not on the disk as they are here.
    unsaved: BTreeSet<u64>,
    /// Those of them that are on their way.
    handed: Vec<u64>,
    /// Chunks from this one on never were on the disk.
    fresh: u64,
    /// Chunks that could not be read. They stay until what is left is newer.
    unread: Vec<u64>,
}

impl History {
    pub(super) fn add(&mut self, entry: Entry, counts: Option<RecordedCounts>, at_ms: u64) {
        let entry = RecordedEntry { number: self.next, at_ms, entry, counts: counts.map(Box::new) };
        self.unsaved.insert(entry.chunk());
        self.next += 1;
        self.push(entry);
    }

    fn push(&mut self, entry: RecordedEntry) {
        let size = serde_json::to_vec(&entry).map_or(0, |bytes| bytes.len());
        self.lines.push_back((Arc::new(entry), size));
    }

    /// The number of the next entry.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The newest `limit` entries, oldest first.
    pub(super) fn last(&self, limit: usize) -> Vec<Arc<RecordedEntry>> {
        let skip = self.lines.len().saturating_sub(limit);
        self.lines.iter().skip(skip).map(|(entry, _)| Arc::clone(entry)).collect()
    }

    /// The entries from the number `first` on.
    pub(super) fn since(&self, first: u64) -> impl Iterator<Item = &RecordedEntry> {
        let from = self.lines.partition_point(|(entry, _)| entry.number < first);
        self.lines.iter().skip(from).map(|(entry, _)| &**entry)
    }

    /// Chunks that are to be written.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.unsaved.len()
    }

    /// How many lines of a kind there are, and their bytes.
    fn measure(&self, kind: EntryKind) -> (usize, usize) {
        let sizes = self.lines.iter().filter(|(line, _)| line.kind() == kind).map(|(_, size)| *size);
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    /// Forgets what is beyond the bounds. Decisions may have half of the bytes, and analyses what they leave.
    fn trim(&mut self, most: usize) {
        let beyond = |(count, bytes): (usize, usize), counts: usize, most: usize| count > counts || bytes > most;
        while beyond(self.measure(EntryKind::Decision), MAX_DECISIONS, most / 2)
            && self.drop_oldest(EntryKind::Decision)
        {}
        let left = most.saturating_sub(self.measure(EntryKind::Decision).1);
        while beyond(self.measure(EntryKind::Analysis), MAX_ANALYSES, left) && self.drop_oldest(EntryKind::Analysis) {}
        let first = self.lines.front().map_or(0, |(line, _)| line.chunk());
        self.unsaved.extend(self.unread.extract_if(.., |chunk| *chunk < first));
    }

    /// Forgets the lines of a kind in the oldest chunk that has any. The chunk that is still written stays, whatever
    /// its size: false if it is that one.
    fn drop_oldest(&mut self, kind: EntryKind) -> bool {
        let last = self.next.saturating_sub(1) / CHUNK_ENTRIES;
        let oldest = self.lines.iter().find(|(line, _)| line.kind() == kind).map(|(line, _)| line.chunk());
        let Some(chunk) = oldest.filter(|chunk| *chunk != last) else { return false };
        self.lines.retain(|(line, _)| line.chunk() != chunk || line.kind() != kind);
        // What never was on the disk need not be deleted there: a disk that refuses for long is no list without end.
        if chunk < self.fresh || self.lines.iter().any(|(line, _)| line.chunk() == chunk) {
            self.unsaved.insert(chunk);
        } else {
            self.unsaved.remove(&chunk);
        }
        true
    }

    /// What a chunk is to become.
    fn write(&self, service: &Name, chunk: u64) -> Result<Write, JournalError> {
        let key = chunk_key(service, chunk);
        let lines = self.lines.iter().map(|(entry, _)| &**entry).filter(|line| line.chunk() == chunk);
        let lines: Vec<&RecordedEntry> = lines.collect();
        if lines.is_empty() {
            return Ok(Write::remove(key));
        }
        Write::json(key, &lines)
    }

    /// What is to be written, at most so many chunks.
    fn writes(&mut self, service: &Name, most: usize) -> Result<Vec<Write>, JournalError> {
        self.handed = self.unsaved.iter().copied().take(most).collect();
        self.handed.iter().map(|chunk| self.write(service, *chunk)).collect()
    }

    /// What [`Self::writes`] of `dropped` gave may be on the disk: those chunks are to be as they are here.
    fn replace(&mut self, dropped: &Self) {
        self.unsaved.extend(&dropped.handed);
    }

    /// What [`Self::writes`] gave is on the disk. Whether that is everything.
    fn saved(&mut self) -> bool {
        for chunk in self.handed.drain(..) {
            self.unsaved.remove(&chunk);
            self.fresh = self.fresh.max(chunk.saturating_add(1));
        }
        self.unsaved.is_empty()
    }
}

fn chunk_key(service: &str, chunk: u64) -> String {
    format!("{PREFIX}{service}/history/{chunk:08}")
}

/// What a version was when it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenVersion {
    /// Its endpoints and how they are spoken to.
    pub(super) what: String,
    /// How often it has become another.
    pub(super) generation: u64,
}

/// What is stored beside the history.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    state: Value,
    #[serde(default)]
    memory: Memory,
    #[serde(default)]
    plan: String,
    #[serde(default)]
    seen: BTreeMap<String, SeenVersion>,
    #[serde(default)]
    cohort: Option<String>,
    #[serde(default)]
    alerts: u64,
}

/// Everything of one service that is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) state: RolloutState,
    pub(super) memory: Memory,
    /// Tells one plan from another.
    pub(super) plan: String,
    /// Versions as they were seen last.
    pub(super) seen: BTreeMap<String, SeenVersion>,
    /// The cohort whose split it moves; none: the service's own split.
    pub(super) cohort: Option<Name>,
    /// Alerts that were raised: each has its number, so that no two are taken for one.
    pub(super) alerts: u64,
    pub(super) history: History,
    /// A state that could not be read and is not set aside on the disk yet.
    pub(super) damaged: Option<Arc<[u8]>>,
}

impl Record {
    /// What is new, as writes that belong together. `services` share the space. Where the record is `held` and much of the
    /// history has piled up, the oldest of that alone.
    pub(super) fn writes(&mut self, service: &Name, services: usize, held: bool) -> Result<Vec<Write>, JournalError> {
        self.history.trim(MAX_HISTORY_BYTES.min(MAX_ALL_HISTORY_BYTES / services.max(1)));
        let most = if held { CHUNKS_WITH_STATE } else { usize::MAX };
        let mut writes = self.history.writes(service, most)?;
        if self.history.handed.len() < self.history.unsaved.len() {
            return Ok(writes);
        }
        let state = self.state.to_json().map_err(|error| JournalError::Unavailable(error.to_string()))?;
        let kept = StoredRecord {
            state: serde_json::from_str(&state).map_err(|error| JournalError::Unavailable(error.to_string()))?,
            memory: self.memory.clone(),
            plan: self.plan.clone(),
            seen: self.seen.clone(),
            cohort: self.cohort.as_deref().map(str::to_owned),
            alerts: self.alerts,
        };
        writes.push(Write::json(state_key(service), &kept)?);
        if let Some(bytes) = &self.damaged {
            writes.push(Write { key: format!("{PREFIX}{service}/damaged"), value: Some(bytes.to_vec()) });
        }
        Ok(writes)
    }

    /// What [`Self::writes`] of `dropped` gave may be on the disk, and is to be replaced by what is here.
    pub(super) fn replace(&mut self, dropped: &Self) {
        self.history.replace(&dropped.history);
    }

    /// What [`Self::writes`] gave is on the disk. Whether that is everything.
    pub(super) fn saved(&mut self) -> bool {
        let all = self.history.saved();
        self.damaged.take_if(|_| all);
        all
    }

    /// What was kept of `service`, if anything was; and, if its state cannot be used, why. Then as much as can be
    /// understood of what is stable is left of it, and the rest is set aside.
    pub(super) fn read(service: &Name, store: &JournalWriter) -> Option<(Self, Option<String>)> {
        let key = state_key(service);
        let (_, bytes) = store.list(&key).into_iter().find(|(found, _)| **found == *key)?;
        let mut record = Self { history: read_history(service, store), ..Self::default() };
        let kept = serde_json::from_slice::<StoredRecord>(&bytes).map_err(|error| format!("it is damaged: {error}"));
        let understood = kept.and_then(|kept| {
            let state = RolloutState::from_json(&kept.state.to_string()).map_err(|error| error.to_string())?;
            Ok((state, kept))
        });
        match understood {
            Ok((state, kept)) => {
                (record.state, record.memory, record.plan, record.seen) = (state, kept.memory, kept.plan, kept.seen);
                (record.alerts, record.cohort) = (kept.alerts, kept.cohort.map(Name::from));
                Some((record, None))
            }
            Err(why) => {
                record.damaged = Some(bytes.clone());
                // The history says it too: its last line is as old as the state.
                let last = record.history.last(1).pop().and_then(|line| line.entry.stable.clone());
                record.state.stable = stable_in(&bytes).or(last);
                Some((record, Some(why)))
            }
        }
    }

    /// What of it holds where this split is moved. Which version was stable for others says nothing of these requests.
    pub(super) fn of_split(mut self, cohort: Option<&Name>) -> Self {
        if self.cohort.as_ref() != cohort {
            (self.state, self.memory, self.plan) = (RolloutState::default(), Memory::default(), String::new());
            self.cohort = cohort.cloned();
        }
        self
    }

    /// What is left of a record if only its stable version is known.
    pub(super) fn lost(stable: &str) -> Self {
        let target = RolloutTarget { version: stable.into(), fingerprint: String::new() };
        Self { state: RolloutState { stable: Some(target), ..RolloutState::default() }, ..Self::default() }
    }

    /// What forgets everything of `service`.
    pub(super) fn forget(service: &str, store: &JournalWriter) -> Vec<Write> {
        let kept = store.list(&format!("{PREFIX}{service}/"));
        kept.iter().map(|(key, _)| Write::remove(key.to_string())).collect()
    }

    /// The services of which anything is kept.
    pub(super) fn services(store: &JournalWriter) -> Vec<String> {
        let keys = store.list(PREFIX);
        let service = |key: &str| key.strip_prefix(PREFIX)?.split('/').next().map(str::to_owned);
        let mut services: Vec<String> = keys.iter().filter_map(|(key, _)| service(key)).collect();
        services.dedup();
        services
    }
}

/// The stable version of a state that is otherwise not understood.
fn stable_in(bytes: &[u8]) -> Option<RolloutTarget> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    serde_json::from_value(value.get("state")?.get("stable")?.clone()).ok()
}

fn read_history(service: &Name, store: &JournalWriter) -> History {
    let mut history = History::default();
    let prefix = format!("{PREFIX}{service}/history/");
    for (key, bytes) in store.list(&prefix) {
        let chunk: Option<u64> = key.strip_prefix(&prefix).and_then(|number| number.parse().ok());
        history.fresh = history.fresh.max(chunk.map_or(0, |chunk| chunk.saturating_add(1)));
        match serde_json::from_slice::<Vec<RecordedEntry>>(&bytes) {
            Ok(lines) => lines.into_iter().for_each(|line| {
                history.next = history.next.max(line.number + 1);
                history.push(line);
            }),
            Err(error) => {
                tracing::warn!(%service, %key, %error, "a part of the rollout's history cannot be read and is left out");
                history.unread.extend(chunk);
                history.next = history.next.max((chunk.unwrap_or_default() + 1) * CHUNK_ENTRIES);
            }
        }
    }
    history
}

fn state_key(service: &str) -> String {
    format!("{PREFIX}{service}/state")
}

/// Keeps alerts that are still to be delivered, as writes: one for each alert, with its receivers.
pub(super) fn put_alerts(pending: &[Pending]) -> Result<Vec<Write>, JournalError> {
    by_alert(pending).into_iter().map(|(key, receivers)| Write::json(key, &receivers)).collect()
}

/// What of the alerts that are still to be delivered is stored otherwise, as writes; the oldest are left out if it is more
/// than fits. What is on its way to the disk stays as it is.
pub(crate) fn change_alerts(pending: &[Pending], store: &JournalWriter) -> Result<Vec<Write>, JournalError> {
    let mut bytes = 0;
    let mut writes = Vec::new();
    let mut stored: BTreeMap<Arc<str>, Arc<[u8]>> = store.list(ALERTS).into_iter().collect();
    for (key, receivers) in by_alert(pending).into_iter().rev() {
        let write = Write::json(key, &receivers)?;
        bytes += write.value.as_ref().map_or(0, Vec::len);
        if bytes > MAX_PENDING_BYTES {
            break;
        }
        if stored.remove(write.key.as_str()).as_deref() != write.value.as_deref() {
            writes.push(write);
        }
    }
    writes.extend(stored.into_keys().map(|key| Write::remove(key.to_string())));
    writes.retain(|write| !store.is_open(&write.key));
    Ok(writes)
}

/// The alerts in `pending`, by their keys and in their order, each with its receivers.
fn by_alert(pending: &[Pending]) -> Vec<(String, Vec<&Pending>)> {
    let mut alerts: BTreeMap<(u64, u64, &str), Vec<&Pending>> = BTreeMap::new();
    for one in pending {
        alerts.entry(order(one)).or_default().push(one);
    }
    alerts.into_iter().map(|((.., id), receivers)| (format!("{ALERTS}{id}"), receivers)).collect()
}

/// Alerts come in the order of their times, and those of one service and one second in that of their numbers, with which
/// their ids end.
fn order(pending: &Pending) -> (u64, u64, &str) {
    let id = &*pending.alert.id;
    let number = id.rsplit('-').next().and_then(|number| number.parse().ok());
    (pending.alert.time, number.unwrap_or_default(), id)
}

/// What was still to be delivered. An older Weir stored all of it under one key, which is read like the others, and is
/// replaced by theirs.
pub(crate) fn read_alerts(store: &JournalWriter) -> Vec<Pending> {
    let mut pending: Vec<Pending> = Vec::new();
    for (key, bytes) in store.list(ALERTS) {
        match serde_json::from_slice::<Vec<Pending>>(&bytes) {
            Ok(alerts) => pending.extend(alerts),
            Err(error) => {
                tracing::warn!(%key, %error, "alerts that were to be delivered cannot be read and are left out")
            }
        }
    }
    pending.sort_by(|a, b| order(a).cmp(&order(b)));
    pending
}
