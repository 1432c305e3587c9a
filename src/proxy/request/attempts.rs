//! What may be tried again, on what, and how often: one state machine for every lane, without clock, socket or engine.
//!
//! | what failed | is tried again | counts as a try | needs budget |
//! |---|---|---|---|
//! | making a connection | any request | yes | no: the endpoint had no work with it |
//! | a reused connection before any byte, as an idle one does that its peer closes | an idempotent one, if all of it is still here | no: once, for the next connection is a new one | no |
//! | the endpoint turned the request away unprocessed | any, if all of it is still here | no: [`MAX_UNPROCESSED`] times | no |
//! | a connection, before the client had anything of the response | an idempotent one, if all of it is still here | yes | yes |
//! | what came was not HTTP, likewise | likewise | yes | yes |
//! | a try took longer than one may | likewise | yes | yes |
//! | the endpoint answered with a status that the service names, without `retry-after` | likewise | yes | yes |
//!
//! The next endpoint is one that was not tried, as long as one is ready. When all were, the one that failed last comes last;
//! before that, there is a pause ([`RetryPolicy::pause`]). An endpoint whose failure would only repeat itself (it speaks no
//! HTTP, its certificate is not trusted) is not tried again by the same request.
//!
//! A request that failed for good may be tried once on another version ([`super::rescue`]).
//!
//! Invariants: no request makes more than [`MAX_ATTEMPTS`], and none after its deadline; nothing is tried again once the client has something of the
//! response; whoever was admitted to the budget leaves it once.

mod verdict;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::verdict::RetryVerdict;
use super::failure::{Failure, NO_ENDPOINT, OVERFLOW};
use crate::algorithm::random::random;
use crate::snapshot::Version;
use crate::snapshot::live::EndpointLive;
use crate::snapshot::retry::RetryPolicy;
use crate::telemetry::{EndpointFailure, RetryReason};
use crate::traffic::Refusal;
use crate::traffic::balance::Tried;

/// Attempts that a request makes at most: as many tries as can be configured, one retry after a dead connection, those
/// that were turned away unprocessed, and a rescue.
pub(crate) const MAX_ATTEMPTS: usize = 5 + 1 + MAX_UNPROCESSED as usize + 1;

/// Each retry of what was not processed is on a new connection; who is turned away there too is not wanted.
const MAX_UNPROCESSED: u8 = 3;

/// A request's attempts: the one under way, and what became of those before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    /// When the one under way began.
    pub(crate) began: Instant,
    /// When the request must be over.
    deadline: Option<Instant>,
    /// An endpoint may get the request twice.
    idempotent: bool,
    tried: Tried,
    endpoint: Option<usize>,
    /// No pooled connection may be used.
    fresh: bool,
    /// The connection had carried another request before.
    reused: bool,
    /// The endpoint has sent something in this attempt.
    begun: bool,
    /// The client has something of the response, or is about to get it.
    told: bool,
    /// Why the last attempt failed.
    failed: Option<Refusal>,
    retries: Retries,
    /// How long to wait before the next attempt.
    pause: Duration,
    /// How often there was a pause.
    pauses: u8,
    /// It is one of the version's retries under way.
    in_budget: bool,
    /// The index of the version on which it failed before.
    rescued_from: Option<usize>,
    /// From the beginning of the attempt to its response head.
    first_byte: Option<Duration>,
    /// What making the connection took; none if one was reused.
    connect: Option<Duration>,
    /// Connections that were made and are not counted yet.
    connects: u8,
    /// The endpoint's errors in a row that the response ended, should it be whole.
    ended_errors: u32,
}

/// How often something was tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retries {
    /// What counts as a try.
    tries: u8,
    reused: u8,
    unprocessed: u8,
}

/// How far a request was when its attempt ended, and when that was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Of its body.
    pub(crate) bytes: u64,
    pub(crate) now: Instant,
}

/// What an attempt that failed needs to know of its version.
trait Alternatives {
    fn policy(&self) -> &RetryPolicy;
    /// Whether an endpoint that is not among these is ready.
    fn has_ready(&self, tried: &Tried) -> bool;
    /// Admits one more retry to the budget.
    fn admits_retry(&self) -> bool;
}

impl Alternatives for Version {
    fn policy(&self) -> &RetryPolicy {
        &self.retry
    }

    fn has_ready(&self, tried: &Tried) -> bool {
        Self::has_ready(self, tried)
    }

    fn admits_retry(&self) -> bool {
        Self::admits_retry(self)
    }
}

/// Whether an endpoint may get a request twice (RFC 9110 §9.2.2).
pub(crate) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

impl Attempts {
    /// Of a request with this method that came at this time, and may take so long in all.
    #[inline(always)]
    pub(crate) fn new(method: &str, now: Instant, timeout: Option<Duration>) -> Self {
        Self {
            began: now,
            deadline: timeout.map(|timeout| now + timeout),
            idempotent: is_idempotent(method),
            tried: Tried::default(),
            endpoint: None,
            fresh: false,
            reused: false,
            begun: false,
            told: false,
            failed: None,
            retries: Retries::default(),
            pause: Duration::ZERO,
            pauses: 0,
            in_budget: false,
            rescued_from: None,
            first_byte: None,
            connect: None,
            connects: 0,
            ended_errors: 0,
        }
    }

    /// Whether an endpoint may get the request twice.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// When the request must be over, if at some time. A response that is a stream may go on.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the endpoint may take to begin its response.
    #[inline]
    pub(crate) fn first_byte_limit(&self, version: &Version, timeout: Duration) -> Duration {
        match version.retry.per_try {
            Some(limit) if self.idempotent && version.retry.on.timeout => limit.min(timeout),
            _ => timeout,
        }
    }

    /// How long to wait before the next attempt, if at all. Asked once for each.
    pub(crate) fn take_pause(&mut self) -> Option<Duration> {
        Some(mem::take(&mut self.pause)).filter(|pause| !pause.is_zero())
    }

    /// Chooses the endpoint of the next attempt: of the request's version, ready, and not tried yet as long as there is one.
    pub(crate) fn choose(&mut self, version: &Version, key: Option<u64>) -> Option<usize> {
        let at = version.pick(&self.tried, key)?;
        self.endpoint = Some(at);
        (self.reused, self.begun) = (false, false);
        Some(at)
    }

    /// No endpoint can be chosen; what the client is told, which is why the last attempt failed, if one did.
    pub(crate) fn no_endpoint(&mut self, version: &Version) -> Refusal {
        NO_ENDPOINT.charge(&version.series);
        *self.failed.get_or_insert(NO_ENDPOINT.refusal)
    }

    /// The attempt has its connection.
    pub(crate) fn connected(&mut self, reused: bool, now: Instant) {
        self.reused = reused;
        self.connect = (!reused).then(|| now - self.began);
        self.connects += u8::from(!reused);
    }

    /// The endpoint sent something, of which the client has nothing.
    pub(crate) fn answer_began(&mut self) {
        self.begun = true;
    }

    /// The client gets an informational response of the endpoint's.
    pub(crate) fn informed(&mut self) {
        (self.begun, self.told) = (true, true);
    }

    /// The endpoint's final head is here, with this status, and goes to the client.
    pub(crate) fn answered(&mut self, status: u16, first_byte: Duration, version: &Version) {
        if let Some(endpoint) = self.live(version) {
            self.ended_errors = endpoint.answered(status);
        }
        version.series.upstream_answered(first_byte);
        // Now, and not when the record is made: a stream may last for days.
        version.series.upstream_connected(mem::take(&mut self.connects).into());
        if mem::take(&mut self.in_budget) {
            version.retries.leave();
        }
        (self.begun, self.told) = (true, true);
        self.first_byte = Some(first_byte);
    }

    /// The request is over. Called once.
    pub(crate) fn over(&self, version: &Version) {
        version.series.upstream_connected(self.connects.into());
        if self.in_budget {
            version.retries.leave();
        }
    }

    /// No connection could be made; whether the request is tried again.
    pub(crate) fn connect_failed(&mut self, failure: Failure, version: &Version, now: Instant) -> bool {
        self.began = now;
        let verdict = self.after_connect_failure(failure, version);
        failure.charge(&version.series);
        verdict.count(version)
    }

    /// The connection failed under the request; whether it is tried again. `replay` prepares to send it from its beginning,
    /// if all of it is still here.
    pub(crate) fn broke(
        &mut self,
        failure: Failure,
        sent: Sent,
        version: &Version,
        replay: impl FnOnce() -> bool,
    ) -> bool {
        self.began = sent.now;
        // That an idle connection is closed says nothing about its endpoint.
        if !self.is_stale(failure) {
            self.blame(failure, version);
        }
        let verdict = self.after_break(failure, version, || sent.bytes <= version.retry.max_body && replay());
        failure.charge(&version.series);
        verdict.count(version)
    }

    /// The endpoint did not process the request; whether it is tried again. `sent` and `replay` as in [`Self::broke`].
    pub(crate) fn turned_away(&mut self, sent: Sent, version: &Version, replay: impl FnOnce() -> bool) -> bool {
        self.began = sent.now;
        self.after_refusal(version, || sent.bytes <= version.retry.max_body && replay()).count(version)
    }

    /// The endpoint answered with a status of the version's [`RetryConditions`](crate::snapshot::retry::RetryConditions);
    /// whether the request is tried again, and nobody gets that answer. `replay` as in [`Self::broke`].
    pub(crate) fn is_asked_again(&mut self, sent: Sent, version: &Version, replay: impl FnOnce() -> bool) -> bool {
        let began = mem::replace(&mut self.began, sent.now);
        let again = self.after_status(version, || sent.bytes <= version.retry.max_body && replay()).count(version);
        if !again {
            self.began = began;
        } else if let Some(endpoint) = self.live(version) {
            endpoint.failed(EndpointFailure::ServerError);
        }
        again
    }

    /// The endpoint was silent for too long, which ended the request.
    pub(crate) fn fell_silent(&self, failure: Failure, version: &Version) {
        self.blame(failure, version);
        failure.charge(&version.series);
    }

    /// The failure speaks against the endpoint.
    fn blame(&self, failure: Failure, version: &Version) {
        if let (Some(cause), Some(endpoint)) = (failure.speaks_against_endpoint(), self.live(version)) {
            endpoint.broke_off(self.ended_errors, cause);
        }
    }

    /// What is known of the endpoint of the attempt, whatever snapshot is in effect.
    fn live<'v>(&self, version: &'v Version) -> Option<&'v Arc<EndpointLive>> {
        version.endpoints.get(self.endpoint?).map(|endpoint| &endpoint.live)
    }

    /// Whether the attempt broke because its connection was idle before and is closed now.
    fn is_stale(&self, failure: Failure) -> bool {
        self.reused && !self.begun && failure.is_broken_connection()
    }

    /// The request failed on the version with this index for good; whether it is tried once on another one. `sent` and
    /// `replay` as in [`Self::broke`].
    pub(crate) fn is_rescued(
        &mut self,
        sent: Sent,
        (from, at): (&Version, usize),
        by: &Version,
        replay: impl FnOnce() -> bool,
    ) -> bool {
        let late = self.deadline.is_some_and(|deadline| deadline <= sent.now);
        let may = self.idempotent && !self.told && !late && self.rescued_from.is_none();
        if !may || !by.has_ready(&Tried::default()) || sent.bytes > from.retry.max_body || !replay() {
            return false;
        }
        if !by.admits_retry() {
            by.series.retry_overflowed();
            return false;
        }
        self.over(from);
        from.series.retried(RetryReason::Rescue);
        let mut retries = self.retries;
        retries.tries += 1;
        *self = Self {
            began: sent.now,
            deadline: self.deadline,
            in_budget: true,
            rescued_from: Some(at),
            retries,
            ..Self::new("", sent.now, None)
        };
        self.idempotent = true;
        true
    }

    fn after_connect_failure(&mut self, failure: Failure, version: &impl Alternatives) -> RetryVerdict {
        self.failed(Some(failure.refusal));
        let policy = version.policy();
        // What limits the version holds for each of its endpoints.
        let may = policy.on.connect && failure != OVERFLOW && self.has_tries(policy);
        if !may || !self.find_endpoint(failure.passes(), version) {
            return RetryVerdict::GiveUp;
        }
        self.retries.tries += 1;
        RetryVerdict::Retry(failure.kind.map(|_| RetryReason::Connect))
    }

    fn after_break(
        &mut self,
        failure: Failure,
        version: &impl Alternatives,
        replay: impl FnOnce() -> bool,
    ) -> RetryVerdict {
        let stale = self.is_stale(failure);
        self.failed(Some(failure.refusal));
        if self.told || !self.idempotent {
            return RetryVerdict::GiveUp;
        }
        if stale && !self.is_late() {
            if !replay() {
                return RetryVerdict::GiveUp;
            }
            self.begin_anew(version);
            self.retries.reused += 1;
            // Others in the pool may have died with it.
            self.fresh = true;
            return RetryVerdict::Retry(Some(RetryReason::Reused));
        }
        let policy = version.policy();
        let reason = failure.retried_as().filter(|reason| match reason {
            // The timeout itself is the patience with the request; only that of one try is shorter.
            RetryReason::Timeout => policy.on.timeout && policy.per_try.is_some(),
            _ => policy.on.reset,
        });
        let Some(reason) = reason else { return RetryVerdict::GiveUp };
        self.try_again(reason, failure.passes(), version, replay)
    }

    fn after_status(&mut self, version: &impl Alternatives, replay: impl FnOnce() -> bool) -> RetryVerdict {
        if self.told || !self.idempotent {
            return RetryVerdict::GiveUp;
        }
        let before = *self;
        self.failed(None);
        let verdict = self.try_again(RetryReason::Status, true, version, replay);
        if !matches!(verdict, RetryVerdict::Retry(_)) {
            // The answer is one like any other.
            *self = before;
        }
        verdict
    }

    /// Tries once more within the budget, if there is an endpoint for it. `again`: also on one that was tried.
    fn try_again(
        &mut self,
        reason: RetryReason,
        again: bool,
        version: &impl Alternatives,
        replay: impl FnOnce() -> bool,
    ) -> RetryVerdict {
        if !self.has_tries(version.policy()) || !self.find_endpoint(again, version) || !replay() {
            return RetryVerdict::GiveUp;
        }
        if !self.in_budget && !version.admits_retry() {
            return RetryVerdict::OverBudget;
        }
        self.in_budget = true;
        self.retries.tries += 1;
        RetryVerdict::Retry(Some(reason))
    }

    fn after_refusal(&mut self, version: &impl Alternatives, replay: impl FnOnce() -> bool) -> RetryVerdict {
        self.failed(None);
        let may = !self.told && !self.is_late() && self.retries.unprocessed < MAX_UNPROCESSED;
        if !may || !replay() {
            return RetryVerdict::GiveUp;
        }
        self.begin_anew(version);
        self.retries.unprocessed += 1;
        // Its first stream is the last that an endpoint turns away.
        self.fresh = true;
        RetryVerdict::Retry(Some(RetryReason::Unprocessed))
    }

    /// The attempt under way is over, and failed.
    fn failed(&mut self, why: Option<Refusal>) {
        self.failed = why.or(self.failed);
        if let Some(at) = self.endpoint {
            self.tried.insert(at);
        }
    }

    fn has_tries(&self, policy: &RetryPolicy) -> bool {
        !self.is_late() && self.rescued_from.is_none() && self.retries.tries.saturating_add(1) < policy.attempts
    }

    /// Whether the time for the request was over when its attempt failed.
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= self.began)
    }

    /// Sees to it that there is an endpoint for the next attempt; whether there is one. One that was tried is only `again`
    /// one, and after a pause.
    fn find_endpoint(&mut self, again: bool, version: &impl Alternatives) -> bool {
        if version.has_ready(&self.tried) {
            return true;
        }
        self.begin_anew(version);
        if !again || !version.has_ready(&self.tried) {
            return false;
        }
        self.pauses = self.pauses.saturating_add(1);
        let left = self.deadline.map_or(Duration::MAX, |deadline| deadline - self.began);
        self.pause = version.policy().pause(self.pauses, random()).min(left);
        true
    }

    /// Lets the endpoints be tried once more when all were, the last one last.
    fn begin_anew(&mut self, version: &impl Alternatives) {
        if version.has_ready(&self.tried) {
            return;
        }
        self.tried = Tried::default();
        let Some(last) = self.endpoint else { return };
        let mut others = Tried::default();
        others.insert(last);
        if version.has_ready(&others) {
            self.tried = others;
        }
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
    pub(crate) fn why_failed(&self) -> Option<Refusal> {
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

    /// The index of the version on which the request failed before it was tried on its own.
    pub(crate) fn rescued_from(&self) -> Option<usize> {
        self.rescued_from
    }

    /// How often the request was tried again.
    pub(crate) fn retries(&self) -> u32 {
        let Retries { tries, reused, unprocessed } = self.retries;
        u32::from(tries) + u32::from(reused) + u32::from(unprocessed)
    }
}

#[cfg(test)]
mod tests;
