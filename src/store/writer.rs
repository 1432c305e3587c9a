//! The one client of a journal in this process: it knows the revisions of what it read and wrote, and so what a write may
//! replace.
//!
//! ```text
//! commit ─► conditions from what is known ─► journal ─┬─ in time: known, and acknowledged
//!                                                     ├─ refused, or no answer: read again before the next
//!                                                     └─ after the time: given up; nothing is written until it ended
//! ```
//!
//! Invariant: nothing is written while it is open what became of the write before. A commit that was given up and is
//! carried out all the same meets no later one: each has the revisions that were read after it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::{Answer, CopyFile, Fact, Journal, JournalError, Transaction, Write};

/// How long a journal may take to answer. After that the write is given up, and what it was for is held.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads and writes a journal, or tells why there is none.
#[derive(Debug)]
pub struct JournalWriter {
    /// None: nothing can be kept.
    journal: Option<Arc<dyn Journal>>,
    /// What must be known when the journal is lost.
    copy: Option<CopyFile>,
    timeout: Duration,
    known: Mutex<Known>,
}

/// What is known of the journal.
#[derive(Default)]
struct Known {
    facts: BTreeMap<Arc<str>, Fact>,
    /// Why the last write failed, or why none is possible.
    last_error: Option<JournalError>,
    /// A write failed: what is stored may differ from `facts`.
    stale: bool,
    /// What was given up and has not ended.
    unanswered: Option<Answer<()>>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("facts", &self.facts.len()).field("last_error", &self.last_error).finish()
    }
}

impl JournalWriter {
    /// A writer of `journal`, of which all facts are read. `last_error`: why it cannot be written, as far as is known.
    ///
    /// # Errors
    /// What the journal says, or that it does not answer in time.
    pub fn new(
        journal: Arc<dyn Journal>,
        copy: Option<CopyFile>,
        last_error: Option<JournalError>,
    ) -> Result<Self, JournalError> {
        Self::with_timeout(journal, copy, last_error, COMMIT_TIMEOUT)
    }

    pub(crate) fn with_timeout(
        journal: Arc<dyn Journal>,
        copy: Option<CopyFile>,
        last_error: Option<JournalError>,
        timeout: Duration,
    ) -> Result<Self, JournalError> {
        let facts = read_all(&*journal, timeout)?;
        let known = Mutex::new(Known { facts, last_error, ..Known::default() });
        Ok(Self { journal: Some(journal), copy, timeout, known })
    }

    /// Without a journal: nothing can be kept, and only what `copy` says is known.
    #[must_use]
    pub fn unavailable(why: String, copy: Option<CopyFile>) -> Self {
        let last_error = Some(JournalError::Unavailable(why));
        Self {
            journal: None,
            copy,
            timeout: COMMIT_TIMEOUT,
            known: Mutex::new(Known { last_error, ..Known::default() }),
        }
    }

    /// The facts whose keys begin with `prefix`, as they were read and written last.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Vec<(Arc<str>, Arc<[u8]>)> {
        self.known()
            .facts
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, fact)| (Arc::clone(key), Arc::clone(&fact.value)))
            .collect()
    }

    /// Why the last write failed, or why none is possible; `None` once a write succeeds.
    #[must_use]
    pub fn last_error(&self) -> Option<JournalError> {
        self.known().last_error.clone()
    }

    /// Makes sure that what is known is what is stored, where a write failed.
    ///
    /// # Errors
    /// What the journal says, or that a write that was given up has not ended.
    pub fn refresh(&self) -> Result<(), JournalError> {
        let journal = self.journal.as_deref();
        journal.map_or(Ok(()), |journal| self.read_after_fault(&mut self.known(), journal))
    }

    /// Puts `value` under `key`. It is durable when this returns.
    ///
    /// # Errors
    /// As for [`JournalWriter::commit`].
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), JournalError> {
        self.commit(vec![Write { key: key.to_owned(), value: Some(value.to_vec()) }])
    }

    /// Commits `writes` together, each over what is known of its key. They are durable when this returns. It waits for
    /// at most [`COMMIT_TIMEOUT`], and not at all while a commit before has not ended.
    ///
    /// # Errors
    /// What the journal says. A part of it may be durable all the same, unless it is a [`JournalError::Conflict`].
    pub fn commit(&self, mut writes: Vec<Write>) -> Result<(), JournalError> {
        let mut known = self.known();
        let current = self.journal.as_deref().map_or(Ok(()), |journal| self.read_after_fault(&mut known, journal));
        // What is not there needs no removing, not even where nothing can be written.
        writes.retain(|write| write.value.is_some() || known.facts.contains_key(write.key.as_str()));
        if writes.is_empty() {
            return Ok(());
        }
        let Some(journal) = &self.journal else {
            return known.last_error.clone().map_or(Ok(()), Err);
        };
        let committed = current.and_then(|()| self.try_commit(&mut known, &**journal, writes));
        known.last_error = committed.clone().err();
        committed
    }

    /// Reads everything again if it is not known what became of the write before.
    fn read_after_fault(&self, known: &mut Known, journal: &dyn Journal) -> Result<(), JournalError> {
        if let Some(before) = &mut known.unanswered {
            if wait(before, Duration::ZERO).is_none() {
                return Err(late("a write before this one", self.timeout));
            }
            known.unanswered = None;
        }
        if known.stale {
            let mut answer = journal.read("");
            let Some(found) = wait(&mut answer, self.timeout) else {
                known.unanswered = Some(Box::pin(async { answer.await.map(drop) }));
                return Err(late("the store", self.timeout));
            };
            known.facts = found?.into_iter().collect();
            known.stale = false;
        }
        Ok(())
    }

    fn try_commit(&self, known: &mut Known, journal: &dyn Journal, writes: Vec<Write>) -> Result<(), JournalError> {
        let condition = |write: &Write| {
            let revision = known.facts.get(write.key.as_str()).map(|fact| fact.revision);
            (write.key.clone(), revision)
        };
        let conditions = writes.iter().map(condition).collect();
        known.stale = true;
        let mut answer = journal.commit(Transaction { conditions, writes: writes.clone() });
        let Some(committed) = wait(&mut answer, self.timeout) else {
            known.unanswered = Some(Box::pin(async { answer.await.map(drop) }));
            return Err(late("the write", self.timeout));
        };
        let revision = committed?;
        known.stale = false;
        for Write { key, value } in writes {
            match value {
                Some(value) => drop(known.facts.insert(key.into(), Fact { value: value.into(), revision })),
                None => drop(known.facts.remove(key.as_str())),
            }
        }
        Ok(())
    }

    /// What the copy says.
    #[must_use]
    pub fn read_copy(&self) -> Option<Vec<u8>> {
        self.copy.as_ref()?.read()
    }

    /// Replaces what the copy says.
    ///
    /// # Errors
    /// What the disk says, or why nothing can be kept.
    pub fn write_copy(&self, bytes: &[u8]) -> Result<(), JournalError> {
        let Some(copy) = self.copy.as_ref().filter(|_| self.journal.is_some()) else {
            return self.last_error().map_or(Ok(()), Err);
        };
        copy.write(bytes).map_err(|error| JournalError::Unavailable(error.to_string()))
    }

    /// What is stored was changed by somebody else: it is read again.
    #[cfg(test)]
    pub(crate) fn read_again(&self) {
        if let Some(journal) = &self.journal {
            self.known().facts = read_all(&**journal, self.timeout).unwrap();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_all(journal: &dyn Journal, timeout: Duration) -> Result<BTreeMap<Arc<str>, Fact>, JournalError> {
    let found = wait(&mut journal.read(""), timeout).unwrap_or_else(|| Err(late("the store", timeout)));
    Ok(found?.into_iter().collect())
}

fn late(what: &str, timeout: Duration) -> JournalError {
    JournalError::Unavailable(format!("{what} has not been answered within {timeout:?}"))
}

/// Waits for an answer in place, at most for `limit`; none: there is none yet.
fn wait<T>(answer: &mut Answer<T>, limit: Duration) -> Option<Result<T, JournalError>> {
    // Inside of a task, a channel of the runtime could say "not yet" only to give others their turn.
    let mut answer = std::pin::pin!(tokio::task::unconstrained(answer.as_mut()));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let began = Instant::now();
    loop {
        if let Poll::Ready(answered) = answer.as_mut().poll(&mut context) {
            return Some(answered);
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
