//! One request's way through Weir: what is known of it so far, and its record at the end.
//!
//! A pass moves forward only: `Arrived` → `Routed`, or → refused. What a later stage needs is in the variant
//! of the earlier one, so a stage cannot run on what is not known yet.
//!
//! Invariant: every request whose head was read is recorded exactly once, when its pass is dropped, however it
//! ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::Method;
use pingora_core::protocols::http::ServerSession;
use pingora_error::Result;
use tokio::time::Instant;

use super::exchange::Exchange;
use super::message;
use crate::drain::Kind;
use crate::proxy::request::context::Logged;
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{DRAINED, NO_ENDPOINT, TIMEOUT, UNREAD};
use crate::proxy::request::record::{self, Ending, Finished, Gear, decision, stream};
use crate::proxy::request::upload::Manner;
use crate::snapshot::{Endpoint, Route, Service, Snapshot, Version};
use crate::telemetry::access_log::Line;
use crate::telemetry::{Lane, OpenGuard, Outcome};
use crate::traffic::Refusal;
use crate::traffic::balance::Tried;
use crate::traffic::split::Reason;
use crate::traffic::validate::spelling::Underscore;

/// The engine's context of one request.
pub(crate) struct Pass {
    pub(crate) gear: Arc<Gear>,
    pub(crate) exchange: Arc<Exchange>,
    /// When the head was complete; none if it never was.
    pub(crate) began: Option<Instant>,
    /// When the response was with the client; what follows is not the request's time.
    pub(crate) over_at: Option<Instant>,
    pub(crate) stage: Stage,
    /// How the client sees it so far.
    pub(crate) status: Option<u16>,
    pub(crate) cause: Option<&'static str>,
    /// The client went away first.
    pub(crate) client_gone: bool,
    /// The exchange came to its regular end.
    pub(crate) complete: bool,
    /// The engine reported the end that came from outside, so it is counted.
    pub(crate) end_reported: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) kind: Kind,
    /// The gRPC status of the response blames the server.
    pub(crate) grpc_failed: bool,
    pub(crate) open: Counted,
    /// From the request's head to the response's.
    pub(crate) answered_after: Option<Duration>,
    pub(crate) logged: Option<Box<Logged>>,
    pub(crate) request_id: String,
}

/// How far a pass is.
pub(crate) enum Stage {
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
    /// A key made for this client, to be set as a cookie.
    pub(crate) new_key: Option<String>,
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
    pub(crate) tried: Tried,
    pub(crate) endpoint: Option<usize>,
    pub(crate) attempt: Attempt,
    pub(crate) retries: Retries,
    pub(crate) informational: u8,
    /// Time from the start of the last attempt to its response head.
    pub(crate) first_byte: Option<Duration>,
    /// What making the connection took; none if one was reused.
    pub(crate) connect: Option<Duration>,
}

/// The attempt under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) began: Instant,
    /// Use no pooled connection.
    pub(crate) fresh: bool,
    /// The connection had carried another request before.
    pub(crate) reused: bool,
    /// Why the last attempt failed.
    pub(crate) failed: Option<Refusal>,
}

/// What was tried again so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retries {
    pub(crate) connect: u8,
    pub(crate) reused: u8,
    /// Attempts that the endpoint did not process, whatever became of their connection.
    pub(crate) unprocessed: u8,
    /// Pooled connections that turned out not to be reusable before anything was sent.
    pub(crate) passed_over: u8,
}

impl Retries {
    /// How often the request was tried again.
    pub(crate) fn count(self) -> u32 {
        u32::from(self.connect + self.reused + self.unprocessed)
    }
}

impl Routed {
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The chosen version.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.service.versions.get(self.version)
    }

    /// The endpoint of the attempt under way.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.version()?.endpoints.get(self.endpoint?)
    }

    /// The next endpoint to try: of the chosen version, ready, not tried yet.
    pub(crate) fn pick(&self) -> Option<usize> {
        let version = self.version()?;
        version.balancer.pick(
            |at| version.endpoints.get(at).map_or(u64::MAX, |endpoint| endpoint.live.ledger.in_flight()),
            &self.tried,
            self.key,
        )
    }
}

impl Pass {
    pub(crate) fn new(gear: Arc<Gear>, exchange: Arc<Exchange>) -> Self {
        Self {
            gear,
            exchange,
            began: None,
            over_at: None,
            stage: Stage::Arrived,
            status: None,
            cause: None,
            client_gone: false,
            complete: false,
            end_reported: false,
            bytes_in: 0,
            bytes_out: 0,
            kind: Kind::Request,
            grpc_failed: false,
            open: Counted::default(),
            answered_after: None,
            logged: None,
            request_id: String::new(),
        }
    }

    /// Notes an answer of our own.
    pub(crate) fn answered(&mut self, refusal: Refusal) {
        self.status = Some(refusal.status);
        self.cause = Some(refusal.cause);
    }

    /// Gives an answer of our own.
    ///
    /// # Errors
    /// The client did not take it.
    pub(crate) async fn answer(&mut self, session: &mut ServerSession, refusal: Refusal) -> Result<()> {
        self.answered(refusal);
        let head_only = session.req_header().method == Method::HEAD;
        message::answer(session, refusal, head_only).await?;
        self.bytes_out = refusal.body_bytes(head_only);
        Ok(())
    }

    pub(crate) fn routed(&self) -> Option<&Routed> {
        match &self.stage {
            Stage::Routed(routed) => Some(routed),
            Stage::Arrived => None,
        }
    }

    pub(crate) fn routed_mut(&mut self) -> Option<&mut Routed> {
        match &mut self.stage {
            Stage::Routed(routed) => Some(routed),
            Stage::Arrived => None,
        }
    }

    /// Counts a timeout of the endpoint that ended the exchange by dropping it: the engine reports none of those.
    fn count_timeout(&mut self) {
        match self.exchange.ended() {
            Some(End::Unread) => self.cause = Some(UNREAD.cause),
            Some(End::Cut) => self.cause = Some(DRAINED.cause),
            _ => {}
        }
        if self.end_reported || !matches!(self.exchange.ended(), Some(End::FirstByte | End::Idle)) {
            return;
        }
        self.cause = Some(TIMEOUT.refusal.cause);
        if let Some(version) = self.routed().and_then(Routed::version) {
            TIMEOUT.charge(&version.series);
        }
    }

    /// How the request ended, as its client saw it.
    fn outcome(&self) -> Outcome {
        let ended = self.exchange.ended();
        Ending { status: self.status, complete: self.complete, kind: self.kind, client_gone: self.client_gone, ended }
            .outcome()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            self.count_timeout();
            let cut = self.exchange.ended() == Some(End::Cut);
            let over = self.over_at.unwrap_or_else(Instant::now);
            self.record(over.saturating_duration_since(began), self.outcome(), cut);
            self.exchange.over();
            self.exchange.handle.request_ended();
        }
    }
}

impl Pass {
    /// The request has its version: it is in flight there.
    pub(crate) fn request_entered(&mut self) {
        let entered = self.routed().and_then(|routed| {
            let series = &routed.version()?.series;
            series.decided(decision(routed.reason));
            (!routed.route.probe).then(|| series.enter())
        });
        self.open.request = entered;
    }

    /// The response is a stream, if it is one.
    pub(crate) fn stream_opened(&mut self) {
        if let (Some(kind), Some(version)) = (stream(self.kind), self.routed().and_then(Routed::version)) {
            self.open.stream = Some(version.series.stream(kind));
        }
    }

    /// No endpoint takes the request.
    pub(crate) fn no_endpoint(&self) {
        if let Some(version) = self.routed().and_then(Routed::version) {
            NO_ENDPOINT.charge(&version.series);
        }
    }
}

impl Pass {
    /// Records the request of the general lane, which is over.
    pub(crate) fn record(&self, duration: Duration, outcome: Outcome, cut: bool) {
        let finished = Finished {
            lane: Lane::General,
            route: self.routed().map(|routed| (&*routed.route, routed.version)),
            breaker: self.routed().and_then(Routed::version).and_then(|version| version.breaker.as_deref()),
            kind: self.kind,
            duration,
            answered_after: self.answered_after,
            outcome,
            grpc_failed: self.grpc_failed,
            cut,
            cause: self.cause,
        };
        record::record(&self.gear, &finished, || {
            let headless = || Logged::without_head(b"", &self.exchange.handle.listener, None);
            let made = self.logged.is_none().then(headless);
            Some(line(self, self.logged.as_deref().or(made.as_ref())?, duration, outcome))
        });
    }
}

fn line(pass: &Pass, logged: &Logged, duration: Duration, outcome: Outcome) -> Line {
    let routed = pass.routed();
    Line {
        time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        request_id: Some(logged.request_id.clone()),
        client: logged.client,
        listener: Some(logged.listener.clone()),
        protocol: logged.protocol,
        method: logged.method.clone(),
        host: logged.host.clone(),
        path: logged.path.clone(),
        route: routed.map(|routed| routed.route.name.clone()),
        service: routed.map(|routed| routed.service().name.clone()),
        version: routed.and_then(Routed::version).map(|version| version.name.clone()),
        why: routed.map(|routed| decision(routed.reason)),
        endpoint: routed.and_then(Routed::endpoint).map(|endpoint| endpoint.name.clone()),
        lane: Lane::General.as_str(),
        status: outcome,
        cause: pass.cause,
        stream: stream(pass.kind),
        bytes_in: pass.bytes_in,
        bytes_out: pass.bytes_out,
        duration,
        first_byte: pass.answered_after,
        upstream: routed.and_then(|routed| routed.first_byte),
        connect: routed.and_then(|routed| routed.connect),
        retries: routed.map_or(0, |routed| routed.retries.count()),
    }
}

/// What the version counts as open for a request; dropped with it.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    request: Option<OpenGuard>,
    stream: Option<OpenGuard>,
}
