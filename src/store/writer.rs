//! The one client of a journal in this process: it knows the revisions of what it read and wrote, and so what a write may
//! replace.
//!
//! ```text
//! submit ─► conditions from what is known ─► journal ─┬─ in time: known, and acknowledged
//!                                                     ├─ refused, or no answer: its keys are read again before the next
//!                                                     └─ after the time: given up; its keys are not written until it ended
//! ```
//!
//! Writes of different keys do not wait for each other here.
//!
//! Invariant: no key is written while it is open what became of the write before. A commit that was given up and is
//! carried out all the same meets no later one: each has the revisions that were read after it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::{Answer, CopyFile, Fact, Journal, JournalError, Revision, Transaction, Write};

/// How long a journal may take to answer. After that the write is given up, and what it was for is held.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads and writes a journal, or tells why there is none. Clones share what they know.
#[derive(Clone, Debug)]
pub struct JournalWriter {
    /// None: nothing can be kept.
    journal: Option<Arc<dyn Journal>>,
    /// What must be known when the journal is lost.
    copy: Option<CopyFile>,
    /// A copy is being written.
    copying: Arc<AtomicBool>,
    timeout: Duration,
    known: Arc<Mutex<Known>>,
}

/// What is known of the journal.
#[derive(Default)]
struct Known {
    facts: BTreeMap<Arc<str>, Fact>,
    /// Why the last write failed, or why none is possible.
    last_error: Option<JournalError>,
    /// Keys of writes on their way, and of those that were given up and have not ended.
    open: BTreeSet<String>,
    /// Keys of writes that failed: what is stored of them may differ from `facts`.
    stale: BTreeSet<String>,
    given_up: Vec<GivenUp>,
}

/// A write that was given up and has not ended.
struct GivenUp {
    keys: Vec<String>,
    answer: Answer<()>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("facts", &self.facts.len()).field("last_error", &self.last_error).finish()
    }
}

impl Known {
    /// Frees the keys of what was given up and has ended since.
    fn collect_answers(&mut self) {
        // Inside of a task, a channel of the runtime could say "not yet" only to give others their turn.
        let ended = |one: &mut GivenUp| tokio::task::unconstrained(one.answer.as_mut()).now_or_never().is_some();
        for one in self.given_up.extract_if(.., ended) {
            forget(&mut self.open, &one.keys);
        }
    }

    fn revision(&self, key: &str) -> Option<Revision> {
        self.facts.get(key).map(|fact| fact.revision)
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
        let known = Known { facts, last_error, ..Known::default() };
        Ok(Self { journal: Some(journal), copy, copying: Arc::default(), timeout, known: Arc::new(Mutex::new(known)) })
    }

    /// Without a journal: nothing can be kept, and only what `copy` says is known.
    #[must_use]
    pub(crate) fn unavailable(why: String, copy: Option<CopyFile>) -> Self {
        let known = Known { last_error: Some(JournalError::Unavailable(why)), ..Known::default() };
        Self {
            journal: None,
            copy,
            copying: Arc::default(),
            timeout: COMMIT_TIMEOUT,
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// The facts whose keys begin with `prefix`, as they were read and written last.
    #[must_use]
    pub(crate) fn list(&self, prefix: &str) -> Vec<(Arc<str>, Arc<[u8]>)> {
        lock(&self.known)
            .facts
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, fact)| (Arc::clone(key), Arc::clone(&fact.value)))
            .collect()
    }

    /// Why the last write failed, or why none is possible; `None` once a write succeeds.
    #[must_use]
    pub(crate) fn last_error(&self) -> Option<JournalError> {
        lock(&self.known).last_error.clone()
    }

    /// Whether a write of `key` has not ended.
    #[must_use]
    pub(crate) fn is_open(&self, key: &str) -> bool {
        let mut known = lock(&self.known);
        known.collect_answers();
        known.open.contains(key)
    }

    /// Commits `writes` together, each over what is known of its key; they are handed to the journal before this returns,
    /// in the order of the calls. Once the future says `Ok`, they are durable. It takes at most [`COMMIT_TIMEOUT`], and
    /// nothing while a write of one of the keys has not ended. It needs a runtime with a clock.
    ///
    /// # Errors
    /// What the journal says. A part of it may be durable all the same, unless it is a [`JournalError::Conflict`].
    #[must_use = "what became of it is told by the future"]
    pub(crate) fn submit(&self, writes: Vec<Write>) -> impl Future<Output = Result<(), JournalError>> + Send + use<> {
        let begun = self.begin(writes);
        let (known, limit) = (Arc::clone(&self.known), self.timeout);
        async move {
            let Some(mut commit) = begun? else { return Ok(()) };
            let answered = tokio::time::timeout(limit, commit.finish()).await;
            let committed = answered.unwrap_or_else(|_| Err(late("the write", limit)));
            drop(commit);
            lock(&known).last_error = committed.clone().err();
            committed
        }
    }

    /// Hands a commit to the journal. None: there is nothing to do.
    fn begin(&self, writes: Vec<Write>) -> Result<Option<Commit>, JournalError> {
        let mut known = lock(&self.known);
        known.collect_answers();
        let Some(journal) = &self.journal else {
            // What is not there needs no removing, not even where nothing can be written.
            let puts = writes.iter().any(|write| write.value.is_some());
            return known.last_error.clone().filter(|_| puts).map_or(Ok(None), Err);
        };
        let keys: Vec<String> = writes.iter().map(|write| write.key.clone()).collect();
        if keys.iter().any(|key| known.open.contains(key)) {
            return Err(late("a write before this one", self.timeout));
        }
        known.open.extend(keys.iter().cloned());
        let mut commit =
            Commit { journal: Arc::clone(journal), known: Arc::clone(&self.known), step: Step::Ended, keys, writes };
        if commit.keys.iter().any(|key| known.stale.contains(key)) {
            commit.step = Step::Reading(journal.read(""));
        } else {
            commit.hand_over(&mut known);
        }
        drop(known);
        Ok(Some(commit))
    }

    /// What the copy says.
    #[must_use]
    pub(crate) fn read_copy(&self) -> Option<Vec<u8>> {
        self.copy.as_ref()?.read()
    }

    /// Replaces what the copy says, by a thread of its own. It takes at most [`COMMIT_TIMEOUT`], and nothing while a copy
    /// before it is still being written.
    ///
    /// # Errors
    /// What the disk says, or why nothing can be kept.
    #[must_use = "what became of it is told by the future"]
    pub(crate) fn submit_copy(&self, bytes: Vec<u8>) -> impl Future<Output = Result<(), JournalError>> + Send + use<> {
        let begun = self.begin_copy(bytes);
        let limit = self.timeout;
        async move {
            let Some(written) = begun? else { return Ok(()) };
            let answered = tokio::time::timeout(limit, written).await.map_err(|_| late("the copy", limit))?;
            let written = answered.map_err(|_| JournalError::Unavailable("the copy was not written".to_owned()))?;
            written.map_err(|error| JournalError::Unavailable(error.to_string()))
        }
    }

    fn begin_copy(&self, bytes: Vec<u8>) -> Result<Option<oneshot::Receiver<std::io::Result<()>>>, JournalError> {
        let Some(copy) = self.copy.clone().filter(|_| self.journal.is_some()) else {
            return self.last_error().map_or(Ok(None), Err);
        };
        if self.copying.swap(true, Ordering::AcqRel) {
            return Err(late("a copy before this one", self.timeout));
        }
        let (answer, written) = oneshot::channel();
        let copying = Arc::clone(&self.copying);
        let thread = thread::Builder::new().name("weir-copy".to_owned()).spawn(move || {
            let written = copy.write(&bytes);
            copying.store(false, Ordering::Release);
            drop(answer.send(written));
        });
        match thread {
            Ok(_) => Ok(Some(written)),
            Err(error) => {
                self.copying.store(false, Ordering::Release);
                Err(JournalError::Unavailable(error.to_string()))
            }
        }
    }
}

/// A commit on its way. When it is dropped, its keys may be written again: at once if it ended, and once it has if not.
struct Commit {
    journal: Arc<dyn Journal>,
    known: Arc<Mutex<Known>>,
    keys: Vec<String>,
    writes: Vec<Write>,
    step: Step,
}

enum Step {
    /// It is not known what is stored under the keys: a write of them failed.
    Reading(Answer<Vec<(Arc<str>, Fact)>>),
    Committing(Answer<Revision>),
    Ended,
}

impl Commit {
    /// Hands the writes to the journal.
    fn hand_over(&mut self, known: &mut Known) {
        // What is not there needs no removing.
        self.writes.retain(|write| write.value.is_some() || known.facts.contains_key(write.key.as_str()));
        self.step = if self.writes.is_empty() {
            Step::Ended
        } else {
            let conditions = self.writes.iter().map(|write| (write.key.clone(), known.revision(&write.key))).collect();
            known.stale.extend(self.keys.iter().cloned());
            Step::Committing(self.journal.commit(Transaction { conditions, writes: self.writes.clone() }))
        };
    }

    async fn finish(&mut self) -> Result<(), JournalError> {
        if let Step::Reading(answer) = &mut self.step {
            let found = answer.await;
            self.step = Step::Ended;
            let mut found: BTreeMap<Arc<str>, Fact> = found?.into_iter().collect();
            let known = Arc::clone(&self.known);
            let mut known = lock(&known);
            for key in &self.keys {
                match found.remove_entry(key.as_str()) {
                    Some((key, fact)) => drop(known.facts.insert(key, fact)),
                    None => drop(known.facts.remove(key.as_str())),
                }
                known.stale.remove(key);
            }
            self.hand_over(&mut known);
        }
        if let Step::Committing(answer) = &mut self.step {
            let committed = answer.await;
            self.step = Step::Ended;
            let revision = committed?;
            let mut known = lock(&self.known);
            for Write { key, value } in std::mem::take(&mut self.writes) {
                match value {
                    Some(value) => drop(known.facts.insert(key.into(), Fact { value: value.into(), revision })),
                    None => drop(known.facts.remove(key.as_str())),
                }
            }
            forget(&mut known.stale, &self.keys);
        }
        Ok(())
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        let answer: Answer<()> = match std::mem::replace(&mut self.step, Step::Ended) {
            Step::Reading(answer) => Box::pin(async { answer.await.map(drop) }),
            Step::Committing(answer) => Box::pin(async { answer.await.map(drop) }),
            Step::Ended => {
                return forget(&mut lock(&self.known).open, &keys);
            }
        };
        lock(&self.known).given_up.push(GivenUp { keys, answer });
    }
}

fn forget(set: &mut BTreeSet<String>, keys: &[String]) {
    for key in keys {
        set.remove(key);
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What tests do that have no runtime of their own.
#[cfg(test)]
impl JournalWriter {
    pub(crate) fn commit(&self, writes: Vec<Write>) -> Result<(), JournalError> {
        in_place(self.submit(writes))
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) -> Result<(), JournalError> {
        self.commit(vec![Write { key: key.to_owned(), value: Some(value.to_vec()) }])
    }

    pub(crate) fn write_copy(&self, bytes: &[u8]) -> Result<(), JournalError> {
        in_place(self.submit_copy(bytes.to_vec()))
    }

    /// What is stored was changed by somebody else: it is read again.
    pub(crate) fn read_again(&self) {
        if let Some(journal) = &self.journal {
            lock(&self.known).facts = read_all(&**journal, self.timeout).unwrap();
        }
    }
}

#[cfg(test)]
pub(crate) fn in_place<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
