//! One request's way through Weir: what is known of it so far, and its record at the end.
//!
//! A request moves forward only: `Arrived` → `Routed`, or → refused. What a later stage needs is in the variant
//! of the earlier one, so a stage cannot run on what is not known yet.
//!
//! Invariant: every request whose head was read is recorded exactly once, when its context is dropped, however it
//! ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use pingora_core::protocols::http::ServerSession;
use pingora_error::Result;
use pingora_http::RequestHeader;
use tokio::time::Instant;

use super::exchange::Exchange;
use super::message;
use crate::proxy::request::attempts::Attempts;
use crate::proxy::request::context::{Assignment, Logged, RequestProgress};
use crate::proxy::request::end::End;
use crate::proxy::request::failure::Failure;
use crate::proxy::request::fault;
use crate::proxy::request::flags::FlagValues;
use crate::proxy::request::local_response::Circumstances;
use crate::proxy::request::mirror::MirrorCopy;
use crate::proxy::request::permit;
use crate::proxy::request::record::{self, Finished, stream};
use crate::proxy::request::upload::Manner;
use crate::proxy::shared::Shared;
use crate::proxy::upstream::connection::Checkout;
use crate::snapshot::live::Permit;
use crate::snapshot::{Endpoint, Route, Service, Snapshot, Timeouts, Version};
use crate::telemetry::{Lane, OpenGuard};
use crate::traffic::Refusal;
use crate::traffic::split::Reason;
use crate::traffic::validate::spelling::Underscore;

/// The engine's context of one request.
pub(crate) struct EngineContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) exchange: Arc<Exchange>,
    /// When the head was complete; none if it never was.
    pub(crate) began: Option<Instant>,
    /// When the response was with the client; what follows is not the request's time.
    pub(crate) over_at: Option<Instant>,
    pub(crate) stage: RequestStage,
    pub(crate) progress: RequestProgress,
    /// The engine reported the end that came from outside, so it is counted.
    pub(crate) end_reported: bool,
    pub(crate) open: Counted,
    pub(crate) logged: Option<Box<Logged>>,
    pub(crate) request_id: String,
    /// Its permit, where requests of its version are limited.
    pub(super) permit: Option<Permit>,
}

/// How far a request is.
pub(crate) enum RequestStage {
    /// The head may have arrived.
    Arrived,
    /// Route and version are chosen.
    Routed(Box<Routed>),
}

/// A request whose route and version are chosen.
pub(crate) struct Routed {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) route: Arc<Route>,
    pub(crate) service: Arc<Service>,
    pub(crate) version: usize,
    pub(crate) reason: Reason,
    /// The client's affinity key, hashed: it also keeps the client on one endpoint.
    pub(crate) key: Option<u64>,
    /// The cohort whose split decided, by its index in the service.
    pub(crate) cohort: Option<usize>,
    /// A cookie that keeps its client on its version.
    pub(crate) set_cookie: Option<String>,
    /// Which of the service's flags are on.
    pub(crate) flags: u16,
    /// The target to forward where it differs from the client's.
    pub(crate) target: Option<Box<[u8]>>,
    pub(crate) authority: Box<str>,
    pub(crate) upgrade: Option<Box<str>>,
    /// What becomes of header names with an underscore; none if no name has one.
    pub(crate) underscore: Option<Underscore>,
    pub(crate) has_body: bool,
    /// The length that the client declared.
    pub(crate) length: Option<u64>,
    /// The client waits for `100 Continue`.
    pub(crate) expects: bool,
    /// How the body goes to an HTTP/1.1 endpoint, once that is known.
    pub(crate) manner: Option<Manner>,
    /// What was read of the body and must go first.
    pub(crate) ahead: BytesMut,
    pub(crate) attempts: Attempts,
    /// Its copy for a mirror, until that is handed over.
    pub(crate) copy: Option<Box<MirrorCopy>>,
    pub(crate) informational: u8,
}

impl Routed {
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// How long the endpoint of the attempt that begins may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        let mut timeouts = self.service.timeouts;
        if let Some(version) = self.version() {
            timeouts.first_byte = self.attempts.first_byte_limit(version, timeouts.first_byte);
        }
        if let Some(deadline) = self.attempts.deadline() {
            timeouts.connect = timeouts.connect.min(deadline.saturating_duration_since(self.attempts.began));
        }
        timeouts
    }

    /// The chosen version.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.service.versions.get(self.version)
    }

    /// The endpoint of the attempt under way.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.version()?.endpoints.get(self.attempts.endpoint()?)
    }

    /// Where the request goes.
    pub(crate) fn assignment(&self) -> Option<Assignment<'_>> {
        let (route, service, version_at, reason) = (&*self.route, &*self.service, self.version, self.reason);
        let (key, flags, cohort) = (self.key, self.flags(), service.cohort_name(self.cohort));
        Some(Assignment { route, service, version: self.version()?, version_at, reason, cohort, key, flags })
    }

    /// The service's flags for the request.
    pub(crate) fn flags(&self) -> FlagValues<'_> {
        FlagValues::decided(&self.snapshot, self.route.service, self.flags)
    }

    /// The version and the attempts on it.
    pub(crate) fn attempt_on(&mut self) -> Option<(&Version, &mut Attempts)> {
        Some((self.service.versions.get(self.version)?, &mut self.attempts))
    }
}

impl EngineContext {
    pub(crate) fn new(shared: Arc<Shared>, exchange: Arc<Exchange>) -> Self {
        Self {
            shared,
            exchange,
            began: None,
            over_at: None,
            stage: RequestStage::Arrived,
            progress: RequestProgress::new(),
            end_reported: false,
            open: Counted::default(),
            logged: None,
            request_id: String::new(),
            permit: None,
        }
    }

    /// Gives a local response; `attempted` as in [`Circumstances`].
    ///
    /// # Errors
    /// The client did not take it.
    pub(crate) async fn answer(
        &mut self,
        session: &mut ServerSession,
        refusal: Refusal,
        attempted: bool,
    ) -> Result<()> {
        self.progress.answered_locally(refusal);
        let head_only = session.req_header().method == Method::HEAD;
        let (unread, last) = (!session.is_body_done(), session.get_keepalive().is_none());
        let circumstances = Circumstances { attempted, unread, last, draining: self.shared.is_draining() };
        message::answer(session, refusal, head_only, circumstances.close(refusal)).await?;
        self.progress.bytes_out = refusal.body_bytes(head_only);
        Ok(())
    }

    /// An attempt has its connection; `settled` as in [`Exchange::connected`].
    pub(crate) fn connected(&mut self, checkout: Option<Checkout>, reused: bool, settled: bool) {
        let now = Instant::now();
        self.exchange.connected(checkout, settled, now);
        if let Some(routed) = self.routed_mut() {
            routed.attempts.connected(reused, now);
        }
    }

    /// Takes the request's permit, where requests of its version are limited, and waits for it as long as that may take.
    ///
    /// # Errors
    /// What to answer if there is none.
    pub(crate) async fn take_permit(&mut self) -> Result<(), Refusal> {
        let Some(routed) = self.routed() else { return Ok(()) };
        let Some(version) = routed.version() else { return Ok(()) };
        // Who ends the exchange drops this wait with it.
        self.permit = permit::take(version, routed.attempts.deadline()).await?;
        Ok(())
    }

    /// Puts the request through its version's faults; the answer if that is an error.
    pub(crate) async fn inject_fault(&mut self) -> Option<Refusal> {
        let RequestStage::Routed(routed) = &self.stage else { return None };
        let fault = fault::begin(routed.version()?, &mut self.progress)?;
        if !fault.delay.is_zero() {
            // Who ends the exchange drops this wait with it.
            tokio::time::sleep(fault.delay).await;
        }
        fault::end(fault, &self.routed().and_then(Routed::version)?.series)
    }

    pub(crate) fn routed(&self) -> Option<&Routed> {
        match &self.stage {
            RequestStage::Routed(routed) => Some(routed),
            RequestStage::Arrived => None,
        }
    }

    pub(crate) fn routed_mut(&mut self) -> Option<&mut Routed> {
        match &mut self.stage {
            RequestStage::Routed(routed) => Some(routed),
            RequestStage::Arrived => None,
        }
    }

    /// Counts a timeout of the endpoint that ended the exchange by dropping it: the engine reports none of those.
    fn count_timeout(&mut self) {
        let Some(end) = self.exchange.ended() else { return };
        match Failure::of_end(end) {
            Some(failure) if !self.end_reported => {
                self.progress.cause = Some(failure.refusal.cause);
                if let Some((version, attempts)) = self.routed_mut().and_then(Routed::attempt_on) {
                    attempts.fell_silent(failure, version);
                }
            }
            None if matches!(end, End::Cut | End::Unread) => {
                self.progress.cause = end.refusal().map(|refusal| refusal.cause);
            }
            _ => {}
        }
    }
}

impl Drop for EngineContext {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            self.count_timeout();
            self.progress.ended = self.exchange.ended();
            let over = self.over_at.unwrap_or_else(Instant::now);
            self.record(over.saturating_duration_since(began));
            self.exchange.over();
            self.exchange.handle.request_ended();
        }
    }
}

impl EngineContext {
    /// The request has its version: it is in flight there.
    pub(crate) fn request_entered(&mut self) {
        self.open.request = self.routed().and_then(Routed::assignment).and_then(Assignment::enter);
    }

    /// An endpoint gets the request with this head; so does a mirror, if the request is copied.
    pub(crate) fn copy_head(&mut self, head: &RequestHeader) {
        let queue = &self.shared.mirrored;
        let RequestStage::Routed(routed) = &mut self.stage else { return };
        let Some(copy) = &mut routed.copy else { return };
        if !copy.has_head() {
            copy.set_head(message::http1_head(head, &routed.authority));
        }
        copy.restart();
        if !routed.has_body
            && let Some(copy) = routed.copy.take()
        {
            copy.send(queue);
        }
    }

    /// An endpoint gets a piece of the body; so does a mirror, once all is here.
    pub(crate) fn copy_body(&mut self, piece: &[u8], ends: bool) {
        let queue = &self.shared.mirrored;
        let RequestStage::Routed(routed) = &mut self.stage else { return };
        let Some(copy) = &mut routed.copy else { return };
        copy.push(piece);
        if ends && let Some(copy) = routed.copy.take() {
            copy.send(queue);
        }
    }

    /// The response is a stream, if it is one.
    pub(crate) fn stream_opened(&mut self) {
        if let (Some(kind), Some(version)) = (stream(self.progress.kind), self.routed().and_then(Routed::version)) {
            self.open.stream = Some(version.series.stream(kind));
        }
    }
}

impl EngineContext {
    /// Records the request, which is over.
    fn record(&mut self, duration: Duration) {
        if self.logged.is_none() && self.shared.access_log.enabled() {
            let logged = Logged::without_head(self.request_id.as_bytes(), &self.exchange.handle.listener, None);
            self.logged = Some(Box::new(logged));
        }
        let finished = Finished {
            lane: Lane::General,
            assigned: self.routed().and_then(|routed| Some((routed.assignment()?, &routed.attempts))),
            progress: &self.progress,
            duration,
            logged: self.logged.as_deref(),
        };
        record::record(&self.shared, &finished);
    }
}

/// What the version counts as open for a request; dropped with it.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    request: Option<OpenGuard>,
    stream: Option<OpenGuard>,
}
