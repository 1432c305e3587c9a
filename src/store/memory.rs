//! A journal in memory that can be told to fail, for tests of everything above.

use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::{
    Answer, Change, Conflict, Fact, Journal, JournalError, Lease, MAX_WATCH_BACKLOG, Revision, Transaction, lease,
};

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It takes so long.
    Slow(Duration),
    /// It is refused, and nothing is written.
    Failing,
    /// Somebody else has written its keys in between.
    Conflicting,
    /// It is written or not, and the answer does not come through.
    Lost { written: bool },
    /// It is not answered, and written when it is released.
    Hanging,
}

/// Facts in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryJournal {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    facts: BTreeMap<Arc<str>, Fact>,
    revision: Revision,
    watchers: Vec<(String, mpsc::Sender<Change>)>,
    committed: Vec<Transaction>,
    /// For the next commits that write a key with the prefix.
    script: VecDeque<(String, Fault)>,
    /// For all commits.
    always: Option<Fault>,
    /// After so many more commits the process is killed: while the next one is on its way, which is written or not.
    kill: Option<(usize, bool)>,
    killed: bool,
    hanging: Vec<(Transaction, oneshot::Sender<Result<Revision, JournalError>>)>,
}

impl MemoryJournal {
    /// The next commit that writes a key with this prefix meets `fault`.
    pub(crate) fn script(&self, prefix: &str, fault: Fault) {
        self.state().script.push_back((prefix.to_owned(), fault));
    }

    /// Every commit meets `fault`, or none does.
    pub(crate) fn always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// The process is killed at the commit after the next `commits`, which is `written` or not. Nothing is written after it.
    pub(crate) fn kill_at(&self, commits: usize, written: bool) {
        self.state().kill = Some((commits, written));
    }

    /// Whether the process would have been killed by now.
    pub(crate) fn is_killed(&self) -> bool {
        self.state().killed
    }

    /// Carries out what hangs.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        for (transaction, answer) in std::mem::take(&mut state.hanging) {
            drop(answer.send(state.write(&transaction)));
        }
    }

    /// How many commits hang.
    pub(crate) fn hanging(&self) -> usize {
        self.state().hanging.len()
    }

    /// The transactions that were carried out, in their order.
    pub(crate) fn committed(&self) -> Vec<Transaction> {
        self.state().committed.clone()
    }

    /// What is stored under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<[u8]>> {
        self.state().facts.get(key).map(|fact| Arc::clone(&fact.value))
    }

    /// Keys and values.
    pub(crate) fn content(&self) -> BTreeMap<Arc<str>, Arc<[u8]>> {
        self.state().facts.iter().map(|(key, fact)| (Arc::clone(key), Arc::clone(&fact.value))).collect()
    }

    /// Keeps only some keys, as no client of a journal could.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.state().facts.retain(|key, _| keep(key));
    }

    /// Puts what another client would have.
    pub(crate) fn overwrite(&self, key: &str, value: &[u8]) {
        let mut state = self.state();
        state.revision = state.revision.next();
        let fact = Fact { value: value.into(), revision: state.revision };
        state.facts.insert(key.into(), fact);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn fault(&mut self, transaction: &Transaction) -> Option<Fault> {
        if self.killed {
            return Some(Fault::Failing);
        }
        if let Some((left, written)) = self.kill {
            self.killed = left == 0;
            self.kill = Some((left.saturating_sub(1), written));
            if self.killed {
                return Some(Fault::Lost { written });
            }
        }
        let meets = |prefix: &str| transaction.writes.iter().any(|write| write.key.starts_with(prefix));
        let at = self.script.iter().position(|(prefix, _)| meets(prefix));
        at.and_then(|at| self.script.remove(at)).map(|(_, fault)| fault).or(self.always)
    }

    fn write(&mut self, transaction: &Transaction) -> Result<Revision, JournalError> {
        Conflict::check(&transaction.conditions, |key| self.facts.get(key).map(|fact| fact.revision))?;
        let removes_nothing = |key: &str| !self.facts.contains_key(key);
        if transaction.writes.iter().all(|write| write.value.is_none() && removes_nothing(&write.key)) {
            return Ok(self.revision);
        }
        self.revision = self.revision.next();
        let revision = self.revision;
        self.committed.push(transaction.clone());
        for write in &transaction.writes {
            let (key, value): (Arc<str>, Option<Arc<[u8]>>) =
                (write.key.as_str().into(), write.value.as_deref().map(Into::into));
            match &value {
                Some(value) => drop(self.facts.insert(Arc::clone(&key), Fact { value: Arc::clone(value), revision })),
                None => drop(self.facts.remove(&key)),
            }
            self.watchers.retain(|(prefix, changes)| {
                let change = Change { key: Arc::clone(&key), value: value.clone(), revision };
                !key.starts_with(prefix.as_str()) || changes.try_send(change).is_ok()
            });
        }
        Ok(revision)
    }
}

impl Journal for MemoryJournal {
    fn read(&self, prefix: &str) -> Answer<Vec<(Arc<str>, Fact)>> {
        let state = self.state();
        let found = state.facts.iter().filter(|(key, _)| key.starts_with(prefix));
        let found = found.map(|(key, fact)| (Arc::clone(key), fact.clone())).collect();
        Box::pin(ready(Ok(found)))
    }

    fn commit(&self, transaction: Transaction) -> Answer<Revision> {
        let mut state = self.state();
        let lost = Err(JournalError::Unavailable("the answer was lost".to_owned()));
        let answer = match state.fault(&transaction) {
            None => state.write(&transaction),
            Some(Fault::Failing) => Err(JournalError::Unavailable("no space left".to_owned())),
            Some(Fault::Lost { written: false }) => lost,
            Some(Fault::Lost { written: true }) => state.write(&transaction).and(lost),
            Some(Fault::Conflicting) => {
                state.revision = state.revision.next();
                let revision = state.revision;
                for write in &transaction.writes {
                    let value = state
                        .facts
                        .get(write.key.as_str())
                        .map_or_else(|| b"else"[..].into(), |fact| Arc::clone(&fact.value));
                    state.facts.insert(write.key.as_str().into(), Fact { value, revision });
                }
                state.write(&transaction)
            }
            Some(Fault::Slow(time)) => {
                let (answer, answered) = oneshot::channel();
                let state = Arc::clone(&self.state);
                std::thread::spawn(move || {
                    std::thread::park_timeout(time);
                    drop(answer.send(state.lock().unwrap().write(&transaction)));
                });
                return Box::pin(async { answered.await.unwrap() });
            }
            Some(Fault::Hanging) => {
                let (answer, answered) = oneshot::channel();
                state.hanging.push((transaction, answer));
                return Box::pin(async { answered.await.unwrap() });
            }
        };
        Box::pin(ready(answer))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Answer<mpsc::Receiver<Change>> {
        let (changes, receiver) = mpsc::channel(MAX_WATCH_BACKLOG);
        let mut state = self.state();
        let mut missed: Vec<_> =
            state.facts.iter().filter(|(key, fact)| key.starts_with(prefix) && fact.revision > after).collect();
        missed.sort_by_key(|(_, fact)| fact.revision);
        for (key, fact) in missed {
            let (key, value) = (Arc::clone(key), Some(Arc::clone(&fact.value)));
            changes.try_send(Change { key, value, revision: fact.revision }).unwrap();
        }
        state.watchers.push((prefix.to_owned(), changes));
        Box::pin(ready(Ok(receiver)))
    }

    fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Answer<Lease> {
        let mut state = self.state();
        let found = state.facts.get(lease::key(name).as_str()).cloned();
        let taken =
            lease::claim(name, holder, ttl, found.as_ref(), SystemTime::now()).and_then(|(transaction, until)| {
                Ok(Lease { holder: holder.to_owned(), until, revision: state.write(&transaction)? })
            });
        Box::pin(ready(taken))
    }
}
