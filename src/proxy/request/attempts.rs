//! What may be tried again, on what, and how often: one state machine for every lane, without clock, socket or engine.
//!
//! | what failed | is tried again | with | at most |
//! |---|---|---|---|
//! | making a connection | while the version has another endpoint | another endpoint | once |
//! | a reused connection, as an idle one does that its peer closes | an idempotent request of which nothing was answered, if all of it is still here | a new connection | once |
//! | the endpoint turned the request away unprocessed | if all of it is still here | a new connection | [`MAX_UNPROCESSED`] |
//!
//! Invariants: no request makes more than [`MAX_ATTEMPTS`]; nothing is tried again once the endpoint has answered.

use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Failure, NO_ENDPOINT};
use crate::snapshot::Version;
use crate::telemetry::{RetryReason, VersionSeries};
use crate::traffic::Refusal;
use crate::traffic::balance::Tried;

/// Attempts that a request makes at most: the first, one retry after each kind of failure, and those that were turned away
/// unprocessed.
pub(crate) const MAX_ATTEMPTS: usize = 3 + MAX_UNPROCESSED as usize;

/// Each retry of what was not processed is on a new connection; who is turned away there too is not wanted.
const MAX_UNPROCESSED: u8 = 3;

/// A request's attempts: the one under way, and what became of those before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    /// When the one under way began.
    pub(crate) began: Instant,
    tried: Tried,
    endpoint: Option<usize>,
    /// No pooled connection may be used.
    fresh: bool,
    /// The connection had carried another request before.
    reused: bool,
    /// The endpoint has sent something of its response.
    answered: bool,
    /// Why the last attempt failed.
    failed: Option<Refusal>,
    retries: Retries,
    /// From the beginning of the attempt to its response head.
    first_byte: Option<Duration>,
    /// What making the connection took; none if one was reused.
    connect: Option<Duration>,
    /// Connections that were made and are not counted yet.
    connects: u8,
}

/// How often something was tried again, by reason.
#[derive(Clone, Copy, Debug, Default)]
struct Retries {
    connect: u8,
    reused: u8,
    unprocessed: u8,
}

/// What becomes of a request whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryVerdict {
    GiveUp,
    /// It is tried again; what that is counted as, if it is.
    Retry(Option<RetryReason>),
}

/// Whether an endpoint may get a request twice (RFC 9110 §9.2.2).
pub(crate) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

impl Attempts {
    /// Of a request that came at this time.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            tried: Tried::default(),
            endpoint: None,
            fresh: false,
            reused: false,
            answered: false,
            failed: None,
            retries: Retries::default(),
            first_byte: None,
            connect: None,
            connects: 0,
        }
    }

    /// Chooses the endpoint of the next attempt: of the request's version, ready, not tried yet.
    pub(crate) fn choose(&mut self, version: &Version, key: Option<u64>) -> Option<usize> {
        let at = version.pick(&self.tried, key)?;
        self.endpoint = Some(at);
        self.reused = false;
        Some(at)
    }

    /// No endpoint can be chosen; what the client is told, which is why the last attempt failed, if one did.
    pub(crate) fn no_endpoint(&mut self, series: &VersionSeries) -> Refusal {
        NO_ENDPOINT.charge(series);
        *self.failed.get_or_insert(NO_ENDPOINT.refusal)
    }

    /// The attempt has its connection.
    pub(crate) fn connected(&mut self, reused: bool, now: Instant) {
        self.reused = reused;
        self.connect = (!reused).then(|| now - self.began);
        self.connects += u8::from(!reused);
    }

    /// The endpoint sent something; the final response may be still to come.
    pub(crate) fn answer_began(&mut self) {
        self.answered = true;
    }

    /// The endpoint's final head is here.
    pub(crate) fn answered(&mut self, first_byte: Duration, series: &VersionSeries) {
        series.upstream_answered(first_byte);
        // Now, and not when the record is made: a stream may last for days.
        series.upstream_connected(mem::take(&mut self.connects).into());
        self.answered = true;
        self.first_byte = Some(first_byte);
    }

    /// Connections that were made for a request that got no response.
    pub(crate) fn uncounted_connects(&self) -> u64 {
        self.connects.into()
    }

    /// No connection could be made; whether another endpoint is tried.
    pub(crate) fn connect_failed(&mut self, failure: Failure, version: &Version, key: Option<u64>) -> bool {
        let verdict = self.after_connect_failure(failure, |tried| version.pick(tried, key).is_some());
        failure.charge(&version.series);
        verdict.count(&version.series)
    }

    /// The connection failed under the request; whether it is tried again. `resend`: whether the request is idempotent and
    /// all of it is still here.
    pub(crate) fn broke(&mut self, failure: Failure, series: &VersionSeries, resend: impl FnOnce() -> bool) -> bool {
        let verdict = self.after_break(failure, resend);
        failure.charge(series);
        verdict.count(series)
    }

    /// The endpoint did not process the request; whether it is tried again. `whole`: all of it is still here.
    pub(crate) fn turned_away(&mut self, whole: bool, series: &VersionSeries) -> bool {
        self.after_refusal(whole).count(series)
    }

    fn after_connect_failure(&mut self, failure: Failure, another: impl FnOnce(&Tried) -> bool) -> RetryVerdict {
        self.failed = Some(failure.refusal);
        if let Some(at) = self.endpoint {
            self.tried.insert(at);
        }
        if self.retries.connect > 0 || !another(&self.tried) {
            return RetryVerdict::GiveUp;
        }
        self.retries.connect += 1;
        RetryVerdict::Retry(failure.kind.map(|_| RetryReason::Connect))
    }

    fn after_break(&mut self, failure: Failure, resend: impl FnOnce() -> bool) -> RetryVerdict {
        self.failed = Some(failure.refusal);
        let stale = self.reused && !self.answered && failure.is_broken_connection();
        if !stale || self.retries.reused > 0 || !resend() {
            return RetryVerdict::GiveUp;
        }
        self.retries.reused += 1;
        self.fresh = true;
        RetryVerdict::Retry(Some(RetryReason::Reused))
    }

    fn after_refusal(&mut self, whole: bool) -> RetryVerdict {
        if self.first_byte.is_some() || !whole || self.retries.unprocessed == MAX_UNPROCESSED {
            return RetryVerdict::GiveUp;
        }
        self.retries.unprocessed += 1;
        // Its first stream is the last that an endpoint turns away.
        self.fresh = true;
        RetryVerdict::Retry(Some(RetryReason::Unprocessed))
    }

    /// Whether no pooled connection may be used.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The endpoint of the attempt under way, or of the last one.
    pub(crate) fn endpoint(&self) -> Option<usize> {
        self.endpoint
    }

    /// Why the last attempt failed.
    pub(crate) fn failed(&self) -> Option<Refusal> {
        self.failed
    }

    /// From the beginning of the attempt to its response head.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// What making the connection took; none if one was reused.
    pub(crate) fn connect(&self) -> Option<Duration> {
        self.connect
    }

    /// How often the request was tried again.
    pub(crate) fn retries(&self) -> u32 {
        let Retries { connect, reused, unprocessed } = self.retries;
        u32::from(connect + reused + unprocessed)
    }
}

impl RetryVerdict {
    /// Counts a retry; whether it is one.
    fn count(self, series: &VersionSeries) -> bool {
        if let Self::Retry(Some(reason)) = self {
            series.retried(reason);
        }
        self != Self::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::request::failure::{LOCAL, PROTOCOL, RESET, TIMEOUT};

    /// How an attempt may end.
    #[derive(Clone, Copy, Debug)]
    enum Outcome {
        ConnectFailed(Failure),
        Broke { failure: Failure, reused: bool, answered: bool, resend: bool },
        TurnedAway { whole: bool },
    }

    fn failures() -> impl Strategy<Value = Failure> {
        prop::sample::select(vec![RESET, TIMEOUT, PROTOCOL, LOCAL])
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            failures().prop_map(Outcome::ConnectFailed),
            (failures(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
                |(failure, reused, answered, resend)| { Outcome::Broke { failure, reused, answered, resend } }
            ),
            prop::bool::weighted(0.9).prop_map(|whole| Outcome::TurnedAway { whole }),
        ]
    }

    /// The table of the file's header, on what came before.
    fn expected(before: &[Outcome], last: Outcome, endpoints: usize) -> RetryVerdict {
        let so_far = |is: fn(&Outcome) -> bool| before.iter().filter(|outcome| is(outcome)).count();
        let (retry, reason) = match last {
            Outcome::ConnectFailed(failure) => {
                let first = so_far(|outcome| matches!(outcome, Outcome::ConnectFailed(_))) == 0;
                (first && endpoints > 1, failure.kind.map(|_| RetryReason::Connect))
            }
            Outcome::Broke { failure, reused, answered, resend } => {
                let first = so_far(|outcome| matches!(outcome, Outcome::Broke { .. })) == 0;
                let stale = failure == RESET && reused && !answered;
                (first && stale && resend, Some(RetryReason::Reused))
            }
            Outcome::TurnedAway { whole } => {
                let allowed = so_far(|outcome| matches!(outcome, Outcome::TurnedAway { .. })) < 3;
                (allowed && whole, Some(RetryReason::Unprocessed))
            }
        };
        if retry { RetryVerdict::Retry(reason) } else { RetryVerdict::GiveUp }
    }

    proptest! {
        #[test]
        fn attempts_follow_the_table_and_end(all in prop::collection::vec(outcomes(), 1..60), endpoints in 1_usize..4) {
            let mut attempts = Attempts::new(Instant::now());
            let (mut made, mut counted, mut fresh) = (0, 0, false);
            for (at, outcome) in all.iter().enumerate() {
                made += 1;
                attempts.endpoint = (0..endpoints).find(|endpoint| !attempts.tried.contains(*endpoint));
                attempts.reused = false;
                let verdict = match *outcome {
                    Outcome::ConnectFailed(failure) => {
                        attempts.after_connect_failure(failure, |tried| (0..endpoints).any(|at| !tried.contains(at)))
                    }
                    Outcome::Broke { failure, reused, answered, resend } => {
                        attempts.connected(reused, attempts.began);
                        if answered {
                            attempts.answer_began();
                        }
                        attempts.after_break(failure, || resend)
                    }
                    Outcome::TurnedAway { whole } => attempts.after_refusal(whole),
                };
                prop_assert_eq!(verdict, expected(&all[..at], *outcome, endpoints), "{:?}", &all[..=at]);
                prop_assert!(attempts.is_fresh() || !fresh, "once the pool is not to be used it stays so");
                fresh = attempts.is_fresh();
                counted += u32::from(matches!(verdict, RetryVerdict::Retry(_)));
                prop_assert_eq!(attempts.retries(), counted);
                if verdict == RetryVerdict::GiveUp {
                    break;
                }
            }
            prop_assert!(made <= MAX_ATTEMPTS);
        }
    }

    #[test]
    fn nothing_is_tried_again_once_the_endpoint_has_answered() {
        let mut attempts = Attempts::new(Instant::now());
        attempts.connected(true, attempts.began);
        attempts.answer_began();
        attempts.first_byte = Some(Duration::ZERO);
        assert_eq!(attempts.after_break(RESET, || panic!("it is not to be asked for")), RetryVerdict::GiveUp);
        assert_eq!(attempts.after_refusal(true), RetryVerdict::GiveUp);
    }

    #[test]
    fn only_methods_that_mean_the_same_twice_are_idempotent() {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            assert!(is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "BREW", ""] {
            assert!(!is_idempotent(method), "{method}");
        }
    }
}
