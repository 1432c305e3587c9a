//! One request's way over the express lane, of HTTP/1 or HTTP/2: what is known of it, and its record at the end.
//!
//! Invariant: it is recorded exactly once, when its context is dropped, however it ended.

use std::future::{Future as _, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::response::ResponseHead;
use crate::drain::Kind;
use crate::proxy::request::attempts::{Attempts, Sent};
use crate::proxy::request::context::{Assignment, Logged, RequestProgress};
use crate::proxy::request::end::End;
use crate::proxy::request::failure::DRAINED;
use crate::proxy::request::mirror::MirrorCopy;
use crate::proxy::request::permit;
use crate::proxy::request::record::{self, Finished, stream};
use crate::proxy::request::rescue::{FailedRequest, Rescued, rescue};
use crate::proxy::shared::{Phase, Shared};
use crate::snapshot::live::Permit;
use crate::telemetry::{Lane, OpenGuard, VersionSeries};
use crate::traffic::Refusal;

/// A request whose route and version are chosen.
pub(crate) struct ExpressContext<'s> {
    pub(crate) shared: &'s Shared,
    pub(crate) assigned: Assignment<'s>,
    pub(crate) began: Instant,
    /// When the response was with the client.
    pub(crate) ended_at: Option<Instant>,
    pub(crate) attempts: Attempts,
    pub(crate) progress: RequestProgress,
    pub(crate) logged: Option<Box<Logged>>,
    /// Its copy for a mirror, until that is handed over.
    pub(crate) copy: Option<Box<MirrorCopy>>,
    /// What its version has in flight; none for a health probe.
    request: Option<OpenGuard<&'s VersionSeries>>,
    stream: Option<OpenGuard<&'s VersionSeries>>,
    /// Its permit, where requests of its version are limited.
    permit: Option<Permit>,
}

impl<'s> ExpressContext<'s> {
    /// Enters a request with this method into its version.
    // Large: it is to be made where it stays.
    #[inline(always)]
    pub(crate) fn enter(
        shared: &'s Shared,
        assigned: Assignment<'s>,
        method: &str,
        logged: Option<Box<Logged>>,
    ) -> Self {
        shared.request_begun();
        let began = Instant::now();
        Self {
            shared,
            assigned,
            began,
            ended_at: None,
            attempts: Attempts::new(method, began, assigned.service.timeouts.request),
            progress: RequestProgress::new(),
            logged,
            copy: None,
            request: assigned.enter_borrowed(),
            stream: None,
            permit: None,
        }
    }

    /// Takes the request's permit, where requests of its version are limited, and waits for it as long as that may take.
    ///
    /// # Errors
    /// What to answer if there is none.
    pub(crate) async fn take_permit(&mut self) -> Result<(), Refusal> {
        // Boxed because it is large and rare.
        let mut taking = Box::pin(permit::take(self.assigned.version, self.attempts.deadline()));
        let taken = poll_fn(|cx| match self.is_cut() {
            true => Poll::Ready(None),
            false => taking.as_mut().poll(cx).map(Some),
        });
        let Some(taken) = taken.await else {
            self.progress.ended = Some(End::Cut);
            return Err(DRAINED);
        };
        self.permit = taken?;
        self.attempts.began = Instant::now();
        Ok(())
    }

    /// Counters of the version.
    pub(crate) fn series(&self) -> &'s VersionSeries {
        &self.assigned.version.series
    }

    /// The endpoint's final head is here, now.
    pub(crate) fn answered(&mut self, answer: &ResponseHead, now: Instant) {
        let &ResponseHead { status, kind, grpc_failed, .. } = answer;
        let first_byte = now - self.attempts.began;
        self.attempts.answered(status, first_byte, self.assigned.version);
        let is_first = self.attempts.began == self.began;
        let progress = &mut self.progress;
        (progress.status, progress.kind, progress.grpc_failed) = (Some(status), kind, grpc_failed);
        progress.answered_after = Some(if is_first { first_byte } else { now - self.began });
        if let Some(kind) = stream(kind) {
            self.stream = Some(self.series().stream_borrowed(kind));
        }
    }

    /// The final head turned out to be of no use before anything of it was sent on: the client gets another.
    pub(crate) fn unanswered(&mut self) {
        let progress = &mut self.progress;
        (progress.status, progress.kind, progress.grpc_failed) = (None, Kind::Request, false);
        progress.answered_after = None;
        self.stream = None;
    }

    /// How far the request is, now.
    pub(crate) fn sent(&self) -> Sent {
        Sent { bytes: self.progress.bytes_in, now: Instant::now() }
    }

    /// How long the endpoint may take to begin its response.
    #[inline]
    pub(crate) fn first_byte_limit(&self) -> Duration {
        self.attempts.first_byte_limit(self.assigned.version, self.assigned.service.timeouts.first_byte)
    }

    /// Until when the request must be over, if it must: a stream goes on once it has begun.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.attempts.deadline().filter(|_| !self.progress.kind.is_stream())
    }

    /// Whether the request is tried again instead of giving its client this answer. `later`: it says when to come again.
    /// `replay` prepares to send the request from its beginning, if all of it is still here.
    #[inline]
    pub(crate) fn is_asked_again(&mut self, status: u16, later: bool, mut replay: impl FnMut() -> bool) -> bool {
        let version = self.assigned.version;
        let again = version.retry.on.has_answer(status, later) && {
            let sent = self.sent();
            self.attempts.is_asked_again(sent, version, &mut replay)
        };
        again || (status >= 500 && self.is_rescued((status, None), replay))
    }

    /// Whether the request, which failed on its version for good, is tried on another. `replay` as in
    /// [`Self::is_asked_again`].
    pub(crate) fn is_rescued(
        &mut self,
        (status, cause): (u16, Option<&'static str>),
        replay: impl FnOnce() -> bool,
    ) -> bool {
        if self.assigned.version.rescuer.is_none() {
            return false;
        }
        let sent = self.sent();
        let failed = FailedRequest { status, cause, sent, duration: sent.now - self.began };
        let rescued = rescue(self.assigned, &mut self.attempts, failed, replay);
        let Some(Rescued { to, permit }) = rescued else { return false };
        self.permit = permit;
        self.request = to.enter_borrowed();
        self.assigned = to;
        true
    }

    /// All of the request was copied for a mirror, if it is copied.
    pub(crate) fn send_copy(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.send(&self.shared.mirrored);
        }
    }

    /// Whether the process was told to stop, so that every response announces the close.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Whether everything in flight must end now.
    pub(crate) fn is_cut(&self) -> bool {
        self.shared.is_in(Phase::ForceClosing)
    }
}

impl Drop for ExpressContext<'_> {
    fn drop(&mut self) {
        let finished = Finished {
            lane: Lane::Express,
            assigned: Some((self.assigned, &self.attempts)),
            progress: &self.progress,
            duration: self.ended_at.unwrap_or_else(Instant::now) - self.began,
            logged: self.logged.as_deref(),
        };
        record::record(self.shared, &finished);
    }
}
