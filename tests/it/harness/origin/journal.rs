//! What arrived at an origin: the last requests in full, and for each nonce how often it was executed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::harness::wire::{Fields, RequestHead};

/// One request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its `x-nonce`.
    pub(crate) nonce: Option<String>,
    /// The method.
    pub(crate) method: String,
    /// The request target, query included.
    pub(crate) target: String,
    /// The `:authority` or the `Host` header.
    pub(crate) authority: Option<String>,
    /// The HTTP version it came with.
    pub(crate) version: http::Version,
    /// The header as it arrived.
    pub(crate) headers: Fields,
    /// Which connection of this origin it came on, counted from 1.
    pub(crate) connection: usize,
    /// How far it got.
    pub(crate) progress: Progress,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It was read and thrown away: a server would not have executed it.
    Dropped,
    /// Its behaviour runs.
    Running,
    /// Its body was read and its answer written to the end.
    Completed,
    /// It ended early, by the client, the network or its behaviour.
    Broken,
}

#[derive(Default)]
pub(super) struct Journal(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    entries: VecDeque<Entry>,
    /// Requests that are not in `entries` any more.
    forgotten: usize,
    executions: HashMap<Box<str>, u32>,
}

/// The record of one running request; it is [`Progress::Broken`] unless it is completed before it is dropped.
pub(super) struct Record {
    journal: Arc<Mutex<Inner>>,
    number: usize,
}

impl Journal {
    /// Writes down a request that will be executed.
    pub(super) fn enter(&self, head: &RequestHead, connection: usize) -> Record {
        self.write(head, connection, Progress::Running)
    }

    /// Writes down a request that will be thrown away.
    pub(super) fn enter_dropped(&self, head: &RequestHead, connection: usize) {
        self.write(head, connection, Progress::Dropped);
    }

    fn write(&self, head: &RequestHead, connection: usize, progress: Progress) -> Record {
        let mut inner = self.0.lock().unwrap();
        let entry = Entry {
            nonce: head.headers.get("x-nonce").map(str::to_owned),
            method: head.method.clone(),
            target: head.target.clone(),
            authority: head.authority.clone().or_else(|| head.headers.get("host").map(str::to_owned)),
            version: head.version,
            headers: head.headers.clone(),
            connection,
            progress,
        };
        if let (Progress::Running, Some(nonce)) = (progress, &entry.nonce) {
            *inner.executions.entry(nonce.as_str().into()).or_default() += 1;
            assert!(inner.executions.len() <= NONCES, "a story sends at most {NONCES} nonces to one origin");
        }
        if inner.entries.len() == ENTRIES {
            inner.entries.pop_front();
            inner.forgotten += 1;
        }
        inner.entries.push_back(entry);
        Record { journal: self.0.clone(), number: inner.forgotten + inner.entries.len() - 1 }
    }

    pub(super) fn total(&self) -> usize {
        let inner = self.0.lock().unwrap();
        inner.forgotten + inner.entries.len()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.iter().cloned().collect()
    }

    pub(super) fn executions(&self, nonce: &str) -> u32 {
        self.0.lock().unwrap().executions.get(nonce).copied().unwrap_or(0)
    }
}

impl Record {
    /// The request was read and answered to the end.
    pub(super) fn complete(self) {
        self.set(Progress::Completed);
    }

    fn set(&self, progress: Progress) {
        // A poisoned journal has failed its story already.
        let Ok(mut inner) = self.journal.lock() else { return };
        let at = self.number.checked_sub(inner.forgotten);
        if let Some(entry) = at.and_then(|at| inner.entries.get_mut(at))
            && entry.progress == Progress::Running
        {
            entry.progress = progress;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.set(Progress::Broken);
    }
}

/// Requests kept in full.
const ENTRIES: usize = 4096;
/// Nonces kept.
const NONCES: usize = 2_000_000;
