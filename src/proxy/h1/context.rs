//! One request's way over the express lane: what is known of it, and its record at the end.
//!
//! Invariant: it is recorded exactly once, when its passage is dropped, however it ended.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::response::Answer;
use crate::drain::Kind;
use crate::proxy::request::context::Logged;
use crate::proxy::request::end::End;
use crate::proxy::request::record::{self, Ending, Finished, Gear, decision, stream};
use crate::snapshot::{Endpoint, Route, Service, Version};
use crate::telemetry::access_log::Line;
use crate::telemetry::{Lane, OpenGuard, Outcome, VersionSeries};
use crate::traffic::Refusal;
use crate::traffic::balance::Tried;
use crate::traffic::split::Reason;

/// A request whose route and version are chosen.
pub(super) struct Passage<'s> {
    pub(super) gear: &'s Gear,
    pub(super) route: &'s Route,
    pub(super) service: &'s Service,
    pub(super) version: &'s Version,
    pub(super) version_at: usize,
    pub(super) reason: Reason,
    pub(super) began: Instant,
    /// When the response was with the client.
    pub(super) ended_at: Option<Instant>,
    pub(super) tried: Tried,
    pub(super) endpoint: Option<&'s Endpoint>,
    pub(super) status: Option<u16>,
    pub(super) cause: Option<&'static str>,
    pub(super) client_gone: bool,
    pub(super) complete: bool,
    pub(super) ended: Option<End>,
    pub(super) kind: Kind,
    /// The answer's head says that the gRPC call failed.
    grpc_failed: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) answered_after: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) retries: u8,
    pub(super) logged: Option<Box<Logged>>,
    /// None for a health probe.
    _request: Option<OpenGuard<&'s VersionSeries>>,
    stream: Option<OpenGuard<&'s VersionSeries>>,
}

impl<'s> Passage<'s> {
    /// Enters a request into its version.
    pub(super) fn enter(
        gear: &'s Gear,
        (route, service): (&'s Route, &'s Service),
        (version_at, version): (usize, &'s Version),
        reason: Reason,
        logged: Option<Box<Logged>>,
    ) -> Self {
        gear.request_begun();
        version.series.decided(decision(reason));
        Self {
            gear,
            route,
            service,
            version,
            version_at,
            reason,
            began: Instant::now(),
            ended_at: None,
            tried: Tried::default(),
            endpoint: None,
            status: None,
            cause: None,
            client_gone: false,
            complete: false,
            ended: None,
            kind: Kind::Request,
            grpc_failed: false,
            bytes_in: 0,
            bytes_out: 0,
            answered_after: None,
            first_byte: None,
            connect: None,
            retries: 0,
            logged,
            _request: (!route.probe).then(|| version.series.enter_borrowed()),
            stream: None,
        }
    }

    /// The endpoint's final head is here, now; the attempt began at `attempt`.
    pub(super) fn answered(&mut self, answer: &Answer, attempt: Instant, now: Instant) {
        let &Answer { status, kind, grpc_failed, .. } = answer;
        let first_byte = now - attempt;
        self.version.series.upstream_answered(first_byte);
        self.first_byte = Some(first_byte);
        self.answered_after = Some(now - self.began);
        self.status = Some(status);
        self.kind = kind;
        self.grpc_failed = grpc_failed;
        if let Some(kind) = stream(kind) {
            self.stream = Some(self.version.series.stream_borrowed(kind));
        }
    }

    /// The final head turned out to be of no use before anything of it was sent on: the client gets another.
    pub(super) fn unanswered(&mut self) {
        (self.status, self.kind, self.answered_after, self.stream) = (None, Kind::Request, None, None);
        self.grpc_failed = false;
    }

    /// Notes an answer of our own.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.status = Some(refusal.status);
        self.cause = Some(refusal.cause);
    }

    /// Whether the process was told to stop, so that every response announces the close.
    pub(super) fn is_leaving(&self) -> bool {
        self.gear.is_leaving()
    }

    /// Whether everything in flight must end now.
    pub(super) fn is_cut(&self) -> bool {
        self.gear.cutting.load(Ordering::Relaxed)
    }

    fn line(&self, logged: &Logged, duration: Duration, outcome: Outcome) -> Line {
        Line {
            time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
            request_id: Some(logged.request_id.clone()),
            client: logged.client,
            listener: Some(logged.listener.clone()),
            protocol: logged.protocol,
            method: logged.method.clone(),
            host: logged.host.clone(),
            path: logged.path.clone(),
            route: Some(self.route.name.clone()),
            service: Some(self.service.name.clone()),
            version: Some(self.version.name.clone()),
            why: Some(decision(self.reason)),
            endpoint: self.endpoint.map(|endpoint| endpoint.name.clone()),
            lane: Lane::Express.as_str(),
            status: outcome,
            cause: self.cause,
            stream: stream(self.kind),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration,
            first_byte: self.answered_after,
            upstream: self.first_byte,
            connect: self.connect,
            retries: u32::from(self.retries),
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let &mut Self { status, complete, kind, client_gone, ended, .. } = self;
        let outcome = Ending { status, complete, kind, client_gone, ended }.outcome();
        let duration = self.ended_at.unwrap_or_else(Instant::now) - self.began;
        let finished = Finished {
            lane: Lane::Express,
            route: Some((self.route, self.version_at)),
            breaker: self.version.breaker.as_deref(),
            kind,
            duration,
            answered_after: self.answered_after,
            outcome,
            grpc_failed: self.grpc_failed,
            cut: ended == Some(End::Cut),
            cause: self.cause,
        };
        record::record(self.gear, &finished, || Some(self.line(self.logged.as_deref()?, duration, outcome)));
    }
}
