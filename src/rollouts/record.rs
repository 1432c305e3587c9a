//! What of rollouts survives the process: where each one is, its history, and alerts still to be delivered.
//!
//! ```text
//! rollout/SERVICE/state              the engine's state, the judge's memory, what versions and the plan were
//! rollout/SERVICE/history/00000012   up to 20 entries; written again until it is full, and when its looks are forgotten
//! rollout/SERVICE/damaged            a state that could not be read, for a person to look at
//! alerts/pending                     alerts that receivers do not have yet
//! (the copy beside the store)        the stable version of each service
//! ```
//!
//! Invariant: the history comes before the state, so a state that is read back has its reasons with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Name;
use crate::outbound::alert::Pending;
use crate::rollout::engine::{Entry, RolloutState, RolloutTarget, What};
use crate::rollout::judge::Memory;

/// Looks of one service that are kept, and other decisions. Each has its bound: there is a look each interval, and a day
/// of them must not push out who began or approved.
const LOOKS: usize = 400;
const DECISIONS: usize = 200;
/// Entries in one fact.
const CHUNK: u64 = 20;
/// Bytes of one service's history, and of all together, as they are stored. The store holds 8 MiB in all.
const HISTORY_BYTES: usize = 384 * 1024;
const ALL_HISTORY_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of alerts that are kept.
const PENDING_BYTES: usize = 512 * 1024;

const PREFIX: &str = "rollout/";
const PENDING: &str = "alerts/pending";

/// Where facts are kept, as far as rollouts need it.
pub(crate) trait Shelf {
    /// Keeps a fact. It is on the disk when this returns.
    fn put(&self, key: &str, value: &[u8]) -> Result<(), String>;
    /// Forgets a fact, if there is one.
    fn delete(&self, key: &str) -> Result<(), String>;
    /// The facts whose keys begin so.
    fn list(&self, prefix: &str) -> Vec<(String, Arc<[u8]>)>;
    /// Why nothing can be kept, as far as is known.
    fn trouble(&self) -> Option<String>;
    /// What is left where all facts are lost, if anything is.
    fn copy(&self) -> Option<Vec<u8>>;
    /// Keeps a copy for that.
    fn put_copy(&self, bytes: &[u8]) -> Result<(), String>;
}

/// The stable version of each service, as the copy has it: without it, a store that is lost would make the version that
/// the file names look like the first one ever seen, though it may be the one that failed.
pub(super) type Stable = BTreeMap<String, String>;

/// What the copy says.
pub(super) fn read_stable(shelf: &dyn Shelf) -> Stable {
    shelf.copy().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Replaces what the copy says.
pub(super) fn save_stable(stable: &Stable, shelf: &dyn Shelf) -> Result<(), String> {
    shelf.put_copy(&serde_json::to_vec(stable).map_err(|error| error.to_string())?)
}

/// An entry of the history, with its place and its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Its place in the service's history.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What was decided.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What is bounded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What a look found.
    Look,
    /// Everything else.
    Decision,
}

impl Stamped {
    fn kind(&self) -> Kind {
        if self.entry.what == What::Analyzed { Kind::Look } else { Kind::Decision }
    }

    const fn chunk(&self) -> u64 {
        self.number / CHUNK
    }
}

/// The last entries of a service, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    lines: VecDeque<(Arc<Stamped>, usize)>,
    next: u64,
    /// Chunks that are not on the disk as they are here.
    unsaved: BTreeSet<u64>,
    /// Chunks from this one on never were on the disk.
    fresh: u64,
    /// Chunks that could not be read. They stay until what is left is newer.
    unread: Vec<u64>,
}

impl Story {
    pub(super) fn add(&mut self, entry: Entry, at_ms: u64) {
        let stamped = Stamped { number: self.next, at_ms, entry };
        self.unsaved.insert(stamped.chunk());
        self.next += 1;
        self.push(stamped);
    }

    fn push(&mut self, stamped: Stamped) {
        let size = serde_json::to_vec(&stamped).map_or(0, |bytes| bytes.len());
        self.lines.push_back((Arc::new(stamped), size));
    }

    /// The number of the next entry.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The newest `limit` entries, oldest first.
    pub(super) fn last(&self, limit: usize) -> Vec<Arc<Stamped>> {
        let skip = self.lines.len().saturating_sub(limit);
        self.lines.iter().skip(skip).map(|(stamped, _)| Arc::clone(stamped)).collect()
    }

    /// Chunks that are to be written.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.unsaved.len()
    }

    /// How many lines of a kind there are, and their bytes.
    fn measure(&self, kind: Kind) -> (usize, usize) {
        let sizes = self.lines.iter().filter(|(line, _)| line.kind() == kind).map(|(_, size)| *size);
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    /// Forgets what is beyond the bounds. Decisions may have half of the bytes, and looks what they leave.
    fn trim(&mut self, most: usize) {
        let beyond = |(count, bytes): (usize, usize), counts: usize, most: usize| count > counts || bytes > most;
        while beyond(self.measure(Kind::Decision), DECISIONS, most / 2) && self.drop_oldest(Kind::Decision) {}
        let left = most.saturating_sub(self.measure(Kind::Decision).1);
        while beyond(self.measure(Kind::Look), LOOKS, left) && self.drop_oldest(Kind::Look) {}
        let first = self.lines.front().map_or(0, |(line, _)| line.chunk());
        self.unsaved.extend(self.unread.extract_if(.., |chunk| *chunk < first));
    }

    /// Forgets the lines of a kind in the oldest chunk that has any. The chunk that is still written stays, whatever
    /// its size: false if it is that one.
    fn drop_oldest(&mut self, kind: Kind) -> bool {
        let last = self.next.saturating_sub(1) / CHUNK;
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

    fn save(&mut self, service: &Name, services: usize, shelf: &dyn Shelf) -> Result<(), String> {
        self.trim(HISTORY_BYTES.min(ALL_HISTORY_BYTES / services.max(1)));
        while let Some(chunk) = self.unsaved.first().copied() {
            let lines = self.lines.iter().map(|(stamped, _)| &**stamped).filter(|line| line.chunk() == chunk);
            let lines: Vec<&Stamped> = lines.collect();
            if lines.is_empty() {
                shelf.delete(&chunk_key(service, chunk))?;
            } else {
                self.fresh = self.fresh.max(chunk.saturating_add(1));
                put(shelf, &chunk_key(service, chunk), &lines)?;
            }
            self.unsaved.remove(&chunk);
        }
        Ok(())
    }
}

fn chunk_key(service: &str, chunk: u64) -> String {
    format!("{PREFIX}{service}/history/{chunk:08}")
}

fn put(shelf: &dyn Shelf, key: &str, value: &impl Serialize) -> Result<(), String> {
    shelf.put(key, &serde_json::to_vec(value).map_err(|error| error.to_string())?)
}

/// What a version was when it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Its endpoints and how they are spoken to.
    pub(super) what: String,
    /// How often it has become another.
    pub(super) generation: u64,
}

/// What is stored beside the history.
#[derive(Serialize, Deserialize)]
struct Kept {
    state: Value,
    #[serde(default)]
    memory: Memory,
    #[serde(default)]
    plan: String,
    #[serde(default)]
    seen: BTreeMap<String, Seen>,
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
    pub(super) seen: BTreeMap<String, Seen>,
    /// Alerts that were raised: each has its number, so that no two are taken for one.
    pub(super) alerts: u64,
    pub(super) story: Story,
}

impl Record {
    /// Writes what is new. `services` share the room.
    pub(super) fn save(&mut self, service: &Name, services: usize, shelf: &dyn Shelf) -> Result<(), String> {
        self.story.save(service, services, shelf)?;
        let state = self.state.to_json().map_err(|error| error.to_string())?;
        let kept = Kept {
            state: serde_json::from_str(&state).map_err(|error| error.to_string())?,
            memory: self.memory.clone(),
            plan: self.plan.clone(),
            seen: self.seen.clone(),
            alerts: self.alerts,
        };
        put(shelf, &state_key(service), &kept)
    }

    /// What was kept of `service`, if anything was; and, if its state cannot be used, why. Then as much as can be
    /// understood of what is stable is left of it, and the rest is set aside.
    pub(super) fn read(service: &Name, shelf: &dyn Shelf) -> Option<(Self, Option<String>)> {
        let key = state_key(service);
        let (_, bytes) = shelf.list(&key).into_iter().find(|(found, _)| *found == key)?;
        let mut record = Self { story: read_story(service, shelf), ..Self::default() };
        let kept = serde_json::from_slice::<Kept>(&bytes).map_err(|error| format!("it is damaged: {error}"));
        let understood = kept.and_then(|kept| {
            let state = RolloutState::from_json(&kept.state.to_string()).map_err(|error| error.to_string())?;
            Ok((state, kept))
        });
        match understood {
            Ok((state, kept)) => {
                (record.state, record.memory, record.plan, record.seen) = (state, kept.memory, kept.plan, kept.seen);
                record.alerts = kept.alerts;
                Some((record, None))
            }
            Err(why) => {
                if let Err(error) = shelf.put(&format!("{PREFIX}{service}/damaged"), &bytes) {
                    tracing::warn!(%service, %error, "a rollout state that cannot be read could not be set aside");
                }
                // The history says it too: its last line is as old as the state.
                let last = record.story.last(1).pop().and_then(|line| line.entry.stable.clone());
                record.state.stable = stable_in(&bytes).or(last);
                Some((record, Some(why)))
            }
        }
    }

    /// What is left of a record if only its stable version is known.
    pub(super) fn lost(stable: &str) -> Self {
        let target = RolloutTarget { version: stable.into(), fingerprint: String::new() };
        Self { state: RolloutState { stable: Some(target), ..RolloutState::default() }, ..Self::default() }
    }

    /// Forgets everything of `service`.
    pub(super) fn forget(service: &str, shelf: &dyn Shelf) -> Result<(), String> {
        shelf.list(&format!("{PREFIX}{service}/")).iter().try_for_each(|(key, _)| shelf.delete(key))
    }

    /// The services of which anything is kept.
    pub(super) fn services(shelf: &dyn Shelf) -> Vec<String> {
        let keys = shelf.list(PREFIX);
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

fn read_story(service: &Name, shelf: &dyn Shelf) -> Story {
    let mut story = Story::default();
    let prefix = format!("{PREFIX}{service}/history/");
    for (key, bytes) in shelf.list(&prefix) {
        let chunk: Option<u64> = key.strip_prefix(&prefix).and_then(|number| number.parse().ok());
        story.fresh = story.fresh.max(chunk.map_or(0, |chunk| chunk.saturating_add(1)));
        match serde_json::from_slice::<Vec<Stamped>>(&bytes) {
            Ok(lines) => lines.into_iter().for_each(|line| {
                story.next = story.next.max(line.number + 1);
                story.push(line);
            }),
            Err(error) => {
                tracing::warn!(%service, %key, %error, "a part of the rollout's history cannot be read and is left out");
                story.unread.extend(chunk);
                story.next = story.next.max((chunk.unwrap_or_default() + 1) * CHUNK);
            }
        }
    }
    story
}

fn state_key(service: &str) -> String {
    format!("{PREFIX}{service}/state")
}

/// Keeps what is still to be delivered; the oldest go if it is more than fits.
pub(super) fn save_pending(pending: &[Pending], shelf: &dyn Shelf) -> Result<(), String> {
    let mut bytes = 0;
    let mut newest: Vec<Value> = Vec::new();
    for one in pending.iter().rev() {
        let value = serde_json::to_value(one).map_err(|error| error.to_string())?;
        bytes += value.to_string().len();
        if bytes > PENDING_BYTES {
            break;
        }
        newest.push(value);
    }
    newest.reverse();
    if newest.is_empty() { shelf.delete(PENDING) } else { put(shelf, PENDING, &newest) }
}

/// What was still to be delivered.
pub(super) fn read_pending(shelf: &dyn Shelf) -> Vec<Pending> {
    let found = shelf.list(PENDING).into_iter().find(|(key, _)| key == PENDING);
    found.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
