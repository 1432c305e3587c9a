//! What is known of one client connection while it lives, for its lane, its requests, and whoever must end it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::Name;
use crate::proxy::request::admit::Ingress;
use crate::proxy::seats::Seat;

/// Field names and values that the engine has no room for.
pub(crate) type Rest = Vec<(String, Vec<u8>)>;

/// What is known of one client connection while it lives.
#[derive(Debug)]
pub(crate) struct Handle {
    /// The client's address, as the socket or a trusted PROXY header has it.
    pub(crate) client: Option<IpAddr>,
    /// Whether the client speaks TLS to us.
    pub(crate) tls: bool,
    /// The listener that accepted it.
    pub(crate) listener: Name,
    /// Its seat there.
    pub(crate) seat: Arc<Seat>,
    /// It is an HTTP/2 connection, which is told before it is closed.
    pub(crate) http2: AtomicBool,
    /// The name that the client's TLS handshake asked for; unset without one.
    pub(crate) sni: OnceLock<Box<str>>,
    pub(crate) requests: AtomicU32,
    /// When the last request ended, or the connection began.
    quiet_since: Mutex<Instant>,
    /// The client's socket takes nothing now.
    pub(crate) blocked: AtomicBool,
    abandoned: Notify,
    pub(crate) head_begun: AtomicBool,
    pub(crate) timed_out: AtomicBool,
    /// The status of an answer that the engine made before there was a request.
    engine_status: AtomicU16,
    /// The protocol was switched: what follows is no HTTP/1.
    switched: AtomicBool,
    /// The body of the request in flight is not framed as it must be.
    misframed: AtomicBool,
    /// Fields of the request in flight that the engine has no room for. One task at a time touches them.
    rest: Mutex<Rest>,
}

impl Handle {
    pub(crate) fn new(client: Option<IpAddr>, tls: bool, listener: Name, seat: Arc<Seat>) -> Arc<Self> {
        Arc::new(Self {
            client,
            tls,
            listener,
            seat,
            http2: AtomicBool::new(false),
            sni: OnceLock::new(),
            requests: AtomicU32::new(0),
            quiet_since: Mutex::new(Instant::now()),
            blocked: AtomicBool::new(false),
            abandoned: Notify::new(),
            head_begun: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            engine_status: AtomicU16::new(0),
            switched: AtomicBool::new(false),
            misframed: AtomicBool::new(false),
            rest: Mutex::default(),
        })
    }

    /// Whether a head has begun to arrive.
    pub(crate) fn head_begins(&self, begun: bool) {
        self.head_begun.store(begun, Ordering::Release);
    }

    /// A head took too long.
    pub(crate) fn head_timed_out(&self) {
        self.timed_out.store(true, Ordering::Release);
    }

    /// The engine gets an HTTP/1 request; `rest` are the fields it has no room for.
    pub(crate) fn request_taken(&self, rest: Rest) {
        self.head_begins(true);
        self.switched.store(false, Ordering::Release);
        self.misframed.store(false, Ordering::Release);
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }

    /// The fields that the engine had no room for.
    pub(crate) fn take_rest(&self) -> Rest {
        std::mem::take(&mut *self.rest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The protocol is switched with this answer.
    pub(crate) fn switch(&self) {
        self.switched.store(true, Ordering::Release);
    }

    pub(crate) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Acquire)
    }

    /// The body of the request in flight is not framed as it must be.
    pub(crate) fn misframed(&self) {
        self.misframed.store(true, Ordering::Release);
    }

    pub(crate) fn is_misframed(&self) -> bool {
        self.misframed.load(Ordering::Acquire)
    }

    /// Where its requests come in.
    pub(crate) fn ingress(&self) -> Ingress<'_> {
        Ingress { listener: &self.listener, sni: self.sni.get().map(AsRef::as_ref), peer: self.client, tls: self.tls }
    }

    /// A request's head is complete; the request is in flight until [`Handle::request_ended`].
    pub(crate) fn request_begun(&self) {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.seat.busy();
        self.head_begun.store(false, Ordering::Release);
    }

    /// A request and its response are over.
    pub(crate) fn request_ended(&self) {
        if self.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.moved();
            self.seat.idle(Instant::now());
        }
    }

    /// Bytes moved that belong to a request: the end of an answer may still be on its way when the request is over.
    pub(crate) fn moved(&self) {
        if self.requests.load(Ordering::Acquire) == 0 {
            *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Ends the connection if its socket takes nothing: streams that are dropped would keep what they hold until it does.
    pub(crate) fn abandon_blocked(&self) {
        if self.blocked.load(Ordering::Relaxed) {
            self.abandoned.notify_one();
        }
    }

    /// Returns when the connection is to be ended.
    pub(crate) async fn abandoned(&self) {
        self.abandoned.notified().await;
    }

    /// Since when no request is in flight and none has begun to arrive; none if one is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then(|| *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether no request is in flight and none has begun to arrive.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0 && !self.head_begun.load(Ordering::Acquire)
    }

    /// The status of an answer that the engine made to what it could not read as a request, once.
    pub(crate) fn take_engine_status(&self) -> Option<u16> {
        Some(self.engine_status.swap(0, Ordering::AcqRel)).filter(|status| *status > 0)
    }

    /// Notes the status line of an answer to no request.
    pub(crate) fn written(&self, bytes: &[u8]) {
        if self.requests.load(Ordering::Acquire) == 0
            && self.head_begun.load(Ordering::Acquire)
            && let Some(status) = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3))
            && let Some(status) = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok())
        {
            self.engine_status.store(status, Ordering::Release);
        }
    }

    /// Whether the connection ended because a head took too long.
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }
}
