//! The last stage of a request: counters, in-flight, access log. One place for all of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::pass::{Pass, Routed};
use crate::drain::{Bell, Kind};
use crate::snapshot::Current;
use crate::telemetry::access_log::{Line, Text};
use crate::telemetry::{AccessLog, CutKind, DecisionReason, Open, Outcome, Recorder, StreamKind};
use crate::traffic::split::Reason;

/// What all requests of the process share.
pub(crate) struct Gear {
    pub(crate) current: Current,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) access_log: AccessLog,
    pub(crate) bell: Bell,
    /// Every response announces that its connection closes.
    pub(crate) leaving: AtomicBool,
    pub(crate) requests: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) connections: AtomicU64,
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
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.arrived();
    }
}

impl Pass {
    /// The request has its version: it is in flight there.
    pub(crate) fn request_entered(&mut self) {
        let entered = self.routed().and_then(|routed| Some((&routed.version()?.series, routed.reason)));
        if let Some((series, reason)) = entered {
            series.decided(decision(reason));
            self.open.request = Some(series.enter());
        }
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
            version.series.upstream_error(super::failure::NO_ENDPOINT.kind);
        }
    }
}

/// Records a request that is over.
pub(crate) fn record(pass: &Pass, duration: Duration, outcome: Outcome, cut: bool) {
    let gear = &pass.gear;
    gear.requests.fetch_sub(1, Ordering::AcqRel);
    if cut {
        gear.cut.fetch_add(1, Ordering::Relaxed);
    }
    match pass.routed() {
        Some(routed) => {
            // Of a stream without end only the time to its first byte says something about the version.
            let long = matches!(pass.kind, Kind::Sse | Kind::WebSocket | Kind::Upgrade);
            let seen = if long { pass.answered_after.unwrap_or(duration) } else { duration };
            if let Some(series) = routed.route.series.get(routed.version) {
                series.finish(outcome, seen);
                if cut {
                    series.version().cut(stream(pass.kind).map_or(CutKind::Request, CutKind::from));
                }
            }
        }
        None => gear.recorder.unmatched().finish(outcome, duration),
    }
    if gear.access_log.enabled() {
        gear.access_log.log(line(pass, duration, outcome));
    }
}

fn decision(reason: Reason) -> DecisionReason {
    match reason {
        Reason::Override => DecisionReason::Override,
        Reason::Affinity => DecisionReason::Affinity,
        Reason::Weight => DecisionReason::Weight,
        Reason::Failover => DecisionReason::Failover,
    }
}

fn stream(kind: Kind) -> Option<StreamKind> {
    match kind {
        Kind::Request => None,
        Kind::WebSocket => Some(StreamKind::WebSocket),
        Kind::Sse => Some(StreamKind::Sse),
        Kind::Grpc => Some(StreamKind::Grpc),
        Kind::Upgrade => Some(StreamKind::Upgrade),
    }
}

fn line(pass: &Pass, duration: Duration, outcome: Outcome) -> Line {
    let routed = pass.routed();
    let head = pass.head.as_deref();
    Line {
        time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        request_id: Some(Text::word(pass.request_id.as_bytes())),
        client: pass.client,
        listener: Some(pass.exchange.handle.listener.clone()),
        protocol: head.map(|head| head.protocol).unwrap_or_default(),
        method: head.map(|head| head.method.clone()).unwrap_or_default(),
        host: head.map(|head| head.host.clone()).unwrap_or_default(),
        path: head.map(|head| head.path.clone()).unwrap_or_default(),
        route: routed.map(|routed| routed.route.name.clone()),
        service: routed.map(|routed| routed.service().name.clone()),
        version: routed.and_then(Routed::version).map(|version| version.name.clone()),
        why: routed.map(|routed| decision(routed.reason)),
        endpoint: routed.and_then(Routed::endpoint).map(|endpoint| endpoint.name.clone()),
        lane: "general",
        status: outcome,
        cause: pass.cause,
        stream: stream(pass.kind),
        bytes_in: pass.bytes_in,
        bytes_out: pass.bytes_out,
        duration,
        first_byte: pass.answered_after,
        upstream: routed.and_then(|routed| routed.first_byte),
        connect: routed.and_then(|routed| routed.connect),
        retries: routed.map_or(0, |routed| u32::from(routed.retries.connect + routed.retries.reused)),
    }
}

/// What the version counts as open for a request; dropped with it.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    request: Option<Open>,
    stream: Option<Open>,
}
