//! The honest account of a load: every request that was sent has exactly one outcome.
//!
//! Each request carries a nonce that origins write down and send back, so that an answer to another request
//! ([`Outcome::WrongNonce`]), a request executed twice and one executed but reported as failed all show.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use super::Origin;
use super::client::{Failure, Response};

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    /// A whole answer to this request, below 500.
    Ok,
    /// No connection, or no TLS session, came to be.
    Refused,
    /// Reset before a byte of the answer.
    ResetBeforeByte,
    /// The connection ended before a byte of the answer.
    EofBeforeByte,
    /// HTTP/2: the server said that it did not process the request.
    Unprocessed,
    /// The answer did not end as it promised.
    Truncated,
    /// The answer is not to this request, or not from an origin.
    WrongNonce,
    /// A whole answer of 500 or above.
    ServerError,
    /// What came is no HTTP.
    Garbage,
    /// Nothing came in time.
    Timeout,
}

/// The account. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    run: Arc<str>,
    counts: Arc<Mutex<Counts>>,
}

/// What a [`Ledger`] counted so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Requests sent.
    pub(crate) sent: u64,
    /// Requests by outcome.
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
    /// Whole answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Whole answers by `x-origin`: by version, if each version's origins bear its name.
    pub(crate) versions: BTreeMap<String, u64>,
    /// Connections opened.
    pub(crate) connections: u64,
    /// Connections that the server ended after it had said so (`Connection: close`, GOAWAY).
    pub(crate) announced_closes: u64,
    /// Connections that ended without a word.
    pub(crate) unannounced_closes: u64,
    /// The first failures in words.
    pub(crate) examples: Vec<String>,
    /// By number of the nonce; none is still in flight.
    by_nonce: Vec<Option<Outcome>>,
}

/// What a [`Ledger`] and the origins' journals say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Nonces that were executed more than once.
    pub(crate) twice: Vec<String>,
    /// Nonces that were answered well and executed nowhere.
    pub(crate) never: Vec<String>,
    /// Nonces that were executed, and the client was told of a failure.
    pub(crate) executed_but_failed: Vec<String>,
}

/// One request on its way: settle it, or it counts as never answered.
#[must_use]
pub(crate) struct Sent {
    ledger: Ledger,
    number: usize,
}

impl Ledger {
    /// An empty account.
    pub(crate) fn new() -> Self {
        let run = format!("{:016x}", RandomState::new().hash_one(0));
        Self { run: run.into(), counts: Arc::default() }
    }

    /// A request is being sent; none if `limit` were sent already.
    pub(crate) fn send(&self, limit: u64) -> Option<Sent> {
        let mut counts = self.counts.lock().unwrap();
        if counts.sent >= limit {
            return None;
        }
        counts.sent += 1;
        counts.by_nonce.push(None);
        Some(Sent { ledger: self.clone(), number: counts.by_nonce.len() - 1 })
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// Requests that have an outcome by now.
    pub(crate) fn settled(&self) -> u64 {
        self.counts.lock().unwrap().outcomes.values().sum()
    }

    /// Requests that have this outcome by now.
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.counts.lock().unwrap().outcome(outcome)
    }

    /// Notes a fact about connections.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap());
    }

    /// Ends the story unless every request was answered well and no connection ended without a word.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let counts = self.counts();
        let well = counts.outcomes.get(&Outcome::Ok).copied().unwrap_or(0);
        assert!(well == counts.sent && counts.unannounced_closes == 0, "the ledger is not clean\n{counts}");
    }

    /// Ends the story unless every request was answered well; how connections ended does not matter.
    #[track_caller]
    pub(crate) fn assert_answered(&self) {
        let counts = self.counts();
        assert_eq!(counts.outcomes.get(&Outcome::Ok).copied().unwrap_or(0), counts.sent, "requests are lost\n{counts}");
    }

    /// Compares the account with what the origins executed.
    pub(crate) fn audit(&self, origins: &[&Origin]) -> Audit {
        let mut audit = Audit::default();
        for (number, outcome) in self.counts().by_nonce.iter().enumerate() {
            let nonce = self.nonce(number);
            let executions: u32 = origins.iter().map(|origin| origin.executions(&nonce)).sum();
            match (outcome, executions) {
                (_, 2..) => audit.twice.push(nonce),
                (Some(Outcome::Ok), 0) => audit.never.push(nonce),
                (Some(Outcome::Ok), _) | (_, 0) => {}
                (_, 1) => audit.executed_but_failed.push(nonce),
            }
        }
        audit
    }

    /// Ends the story unless every request was executed exactly once by these origins.
    #[track_caller]
    pub(crate) fn assert_executed_once(&self, origins: &[&Origin]) {
        assert_eq!(self.audit(origins), Audit::default(), "the journals do not match the ledger\n{}", self.counts());
    }

    fn nonce(&self, number: usize) -> String {
        format!("{}-{number}", self.run)
    }
}

impl Counts {
    /// Requests with this outcome.
    pub(crate) fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// Whole answers from this version.
    pub(crate) fn version(&self, name: &str) -> u64 {
        self.versions.get(name).copied().unwrap_or(0)
    }
}

impl Sent {
    /// The nonce to send.
    pub(crate) fn nonce(&self) -> String {
        self.ledger.nonce(self.number)
    }

    /// Writes down what became of the request.
    pub(crate) fn settle(self, result: &Result<Response, Failure>) {
        let outcome = self.judge(result);
        let mut counts = self.ledger.counts.lock().unwrap();
        *counts.outcomes.entry(outcome).or_default() += 1;
        counts.by_nonce[self.number] = Some(outcome);
        if let Ok(response) = result {
            *counts.statuses.entry(response.status).or_default() += 1;
            *counts.versions.entry(response.origin().to_owned()).or_default() += 1;
        }
        if outcome != Outcome::Ok && counts.examples.len() < EXAMPLES {
            let what = match result {
                Ok(response) => format!("{response:?}"),
                Err(failure) => failure.to_string(),
            };
            counts.examples.push(format!("{outcome:?} of {}: {what}", self.nonce()));
        }
    }

    fn judge(&self, result: &Result<Response, Failure>) -> Outcome {
        match result {
            Ok(response) if response.status >= 500 => Outcome::ServerError,
            Ok(response) if response.header("x-nonce") != self.nonce() => Outcome::WrongNonce,
            Ok(_) => Outcome::Ok,
            Err(Failure::Refused(_) | Failure::Handshake(_)) => Outcome::Refused,
            Err(Failure::ResetBeforeByte(_)) => Outcome::ResetBeforeByte,
            Err(Failure::EofBeforeByte) => Outcome::EofBeforeByte,
            Err(Failure::Unprocessed(_)) => Outcome::Unprocessed,
            Err(Failure::Truncated { .. }) => Outcome::Truncated,
            Err(Failure::Garbage(_)) => Outcome::Garbage,
            Err(Failure::Timeout) => Outcome::Timeout,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.sent - self.outcomes.values().sum::<u64>();
        writeln!(f, "  sent        {} ({open} without an outcome)", self.sent)?;
        writeln!(f, "  outcomes    {:?}", self.outcomes)?;
        writeln!(f, "  statuses    {:?}", self.statuses)?;
        writeln!(f, "  versions    {:?}", self.versions)?;
        let (announced, unannounced) = (self.announced_closes, self.unannounced_closes);
        writeln!(f, "  connections {}, closed {announced} announced, {unannounced} unannounced", self.connections)?;
        for example in &self.examples {
            writeln!(f, "  example     {example}")?;
        }
        Ok(())
    }
}

/// Failures kept in words; the first ones tell the cause.
const EXAMPLES: usize = 10;
