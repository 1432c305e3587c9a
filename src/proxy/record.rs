//! The last stage of a request: counters, in-flight, access log. One place for all of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::pass::{Pass, Routed};
use crate::drain::{Bell, Kind};
use crate::snapshot::Current;
use crate::telemetry::access_log::{Line, timestamp};
use crate::telemetry::{AccessLog, CutKind, DecisionReason, Outcome, Recorder, StreamKind};
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
    pub(crate) fn request_entered(&self) {
        if let Some(version) = self.routed().and_then(|routed| Some((routed.version()?, routed.reason))) {
            version.0.series.entered(decision(version.1));
        }
    }

    /// The response is a stream, if it is one.
    pub(crate) fn stream_opened(&mut self) {
        if let (Some(kind), Some(version)) = (stream(self.kind), self.routed().and_then(Routed::version)) {
            version.series.stream_opened(kind);
            self.stream_counted = true;
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
            if let Some(series) = routed.route.series.get(routed.version) {
                series.finished(outcome);
            }
            if let Some(version) = routed.version() {
                // Of a stream without end only the time to its first byte says something about the version.
                let long = matches!(pass.kind, Kind::Sse | Kind::WebSocket | Kind::Upgrade);
                let seen = if long { pass.answered_after.unwrap_or(duration) } else { duration };
                version.series.finished(outcome, seen);
                if let Some(kind) = stream(pass.kind).filter(|_| pass.stream_counted) {
                    version.series.stream_closed(kind);
                }
                if cut {
                    version.series.cut(stream(pass.kind).map_or(CutKind::Request, CutKind::from));
                }
            }
        }
        None => gear.recorder.unmatched().finished(outcome),
    }
    if gear.access_log.enabled() {
        gear.access_log.log(line(pass, duration, outcome, cut));
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

fn line(pass: &Pass, duration: Duration, outcome: Outcome, cut: bool) -> Line {
    let routed = pass.routed();
    let head = pass.head.as_deref();
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let began = SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH);
    Line {
        time: timestamp(began),
        request_id: pass.request_id.clone(),
        client: pass.client.map(|client| client.to_string()),
        method: head.map(|head| head.method.clone()).unwrap_or_default(),
        host: head.map(|head| head.host.clone()).unwrap_or_default(),
        path: head.map(|head| head.path.clone()).unwrap_or_default(),
        protocol: head.map(|head| head.protocol).unwrap_or_default(),
        route: routed.map(|routed| routed.route.name.to_string()),
        service: routed.map(|routed| routed.service().name.to_string()),
        version: routed.and_then(Routed::version).map(|version| version.name.to_string()),
        reason: routed.map(|routed| decision(routed.reason).as_str()),
        endpoint: routed.and_then(Routed::endpoint).map(|endpoint| endpoint.name.to_string()),
        lane: "general",
        status: match outcome {
            Outcome::Status(status) => status.to_string(),
            Outcome::ClientClosed => "client_closed".to_owned(),
        },
        error: pass.cause,
        stream: stream(pass.kind).map(StreamKind::as_str),
        cut,
        bytes_in: pass.bytes_in,
        bytes_out: pass.bytes_out,
        duration_ms: millis(duration),
        first_byte_ms: routed.and_then(|routed| routed.first_byte).map(millis),
        retries: routed.map_or(0, |routed| routed.retries.connect + routed.retries.reused),
    }
}
