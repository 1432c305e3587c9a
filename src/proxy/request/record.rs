//! The last stage of a request: counters, in-flight, access log. One place for all of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker;
use super::end::End;
use super::failure::{Failure, SLOW_CLIENT};
use crate::drain::{Bell, Kind};
use crate::snapshot::live::CircuitBreaker;
use crate::snapshot::{Current, Route};
use crate::telemetry::access_log::Line;
use crate::telemetry::{AccessLog, Class, CutKind, DecisionReason, Lane, Outcome, Recorder, StreamKind};
use crate::traffic::split::Reason;

/// What all requests of the process share.
pub(crate) struct Gear {
    pub(crate) current: Current,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) access_log: AccessLog,
    pub(crate) bell: Bell,
    /// Every response announces that its connection closes.
    pub(crate) leaving: AtomicBool,
    pub(crate) cut: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Connections without a request must end.
    pub(crate) ending: AtomicBool,
    /// Everything in flight must end now.
    pub(crate) cutting: AtomicBool,
    /// Written only while the process is leaving, when arrivals are what it waits out.
    pub(crate) last_arrival: Mutex<Instant>,
}

impl Gear {
    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
        self.arrived();
    }

    fn arrived(&self) {
        if self.leaving.load(Ordering::Acquire) {
            *self.last_arrival.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// How long no connection and no request has arrived, as far as the process is leaving.
    pub(crate) fn quiet(&self) -> Duration {
        self.last_arrival.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// A request's head is complete.
    pub(crate) fn request_begun(&self) {
        self.recorder.lanes().entered();
        self.arrived();
    }
}

/// What is known of how a request ended.
pub(crate) struct Ending {
    /// The response's, if its head was written.
    pub(crate) status: Option<u16>,
    /// The exchange came to its regular end.
    pub(crate) complete: bool,
    pub(crate) kind: Kind,
    pub(crate) client_gone: bool,
    /// It was ended from outside.
    pub(crate) ended: Option<End>,
}

impl Ending {
    /// How the request ended, as its client saw it.
    pub(crate) fn outcome(&self) -> Outcome {
        let cut = self.ended == Some(End::Cut);
        match self.status {
            // A stream that its client leaves, or that a drain cuts, ended as streams do.
            Some(status) if self.complete || self.kind.is_stream() || cut => Outcome::Status(status),
            Some(status) if !self.client_gone => Outcome::Status(status),
            None if cut => Outcome::Status(503),
            None if self.ended == Some(End::Upload) => Outcome::Status(SLOW_CLIENT.status),
            None if !self.client_gone && self.ended.is_some() => Outcome::Status(504),
            Some(_) | None => Outcome::ClientClosed,
        }
    }
}

/// A request that is over, as every lane reports it.
pub(crate) struct Finished<'a> {
    pub(crate) lane: Lane,
    /// Its route, and the version that was chosen.
    pub(crate) route: Option<(&'a Route, usize)>,
    /// The circuit breaker of that version.
    pub(crate) breaker: Option<&'a CircuitBreaker>,
    pub(crate) kind: Kind,
    /// From its head to its end.
    pub(crate) duration: Duration,
    /// From its head to the response's.
    pub(crate) answered_after: Option<Duration>,
    /// How its client saw it end.
    pub(crate) outcome: Outcome,
    /// Its gRPC status blames the server.
    pub(crate) grpc_failed: bool,
    /// It was cut at a drain's deadline.
    pub(crate) cut: bool,
    /// Why Weir answered itself, or ended the response.
    pub(crate) cause: Option<&'static str>,
}

/// Records a request that is over. `line` makes its line for the access log, if there is one.
pub(crate) fn record(gear: &Gear, finished: &Finished<'_>, line: impl FnOnce() -> Option<Line>) {
    let Finished { kind, duration, outcome, cut, .. } = *finished;
    if cut {
        gear.cut.fetch_add(1, Ordering::Relaxed);
    }
    match finished.route {
        Some((route, version)) => {
            // Of a stream without end only the time to its first byte says something about the version.
            let long = matches!(kind, Kind::Sse | Kind::WebSocket | Kind::Upgrade);
            let seen = if long { finished.answered_after.unwrap_or(duration) } else { duration };
            if let Some(series) = route.series.get(version) {
                if route.probe || finished.cause.is_some_and(Failure::is_nobodys) {
                    series.count(outcome);
                } else {
                    series.finish(outcome, seen);
                    if finished.grpc_failed && outcome.class() != Class::ServerError {
                        series.version().grpc_failed();
                    }
                    if let Some(breaker) = finished.breaker {
                        breaker::tell(breaker, finished);
                    }
                }
                if cut {
                    series.version().cut(stream(kind).map_or(CutKind::Request, CutKind::from));
                }
            }
        }
        None => gear.recorder.unmatched().finish(outcome, duration),
    }
    if gear.access_log.enabled()
        && let Some(line) = line()
    {
        gear.access_log.log(line);
    }
    gear.recorder.lanes().left(finished.lane);
}

pub(crate) fn decision(reason: Reason) -> DecisionReason {
    match reason {
        Reason::Override => DecisionReason::Override,
        Reason::Affinity => DecisionReason::Affinity,
        Reason::Weight => DecisionReason::Weight,
        Reason::Failover => DecisionReason::Failover,
    }
}

pub(crate) fn stream(kind: Kind) -> Option<StreamKind> {
    match kind {
        Kind::Request => None,
        Kind::WebSocket => Some(StreamKind::WebSocket),
        Kind::Sse => Some(StreamKind::Sse),
        Kind::Grpc => Some(StreamKind::Grpc),
        Kind::Upgrade => Some(StreamKind::Upgrade),
    }
}
