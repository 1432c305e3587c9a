//! One HTTP/2 connection to an endpoint, on which many requests are at once.
//!
//! Why not the engine's: its connector pings quiet connections, which gRPC servers end them for; it leaves the `h2`
//! crate's budgets as they are, so that one client who does not read can end the connection under all others; and it
//! tells a request that the endpoint never saw from one that failed in no way that holds.
//!
//! ```text
//! open ─► task drives it ─► requests take permits ─► GOAWAY, close, drain, idle: no new ones ─► last one over: closed
//! ```
//!
//! Invariant: no PING is sent. A peer that vanished is noticed by the kernel (keepalive and user timeout of the socket),
//! a silent endpoint by the deadlines of each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ::h2::client::{Builder, SendRequest};
use bytes::Bytes;
use pingora_core::protocols::ALPN;
use pingora_error::{Error, ErrorType, OrErr, Result};
use tokio::sync::Notify;

use super::filter::FrameFilter;
use crate::proxy::upstream::connection::{self, Checkout, ConnectionHandle};
use crate::proxy::upstream::pool::Line;
use crate::snapshot::{Endpoint, Timeouts};

/// What the connections to one endpoint have in common.
#[derive(Debug)]
pub(crate) struct SharedState {
    /// Rings when requests may join a connection, or must not any more.
    pub(crate) changed: Notify,
    /// So many requests a connection may carry in all, as far as is known.
    allowance: AtomicU64,
}

impl Default for SharedState {
    fn default() -> Self {
        Self { changed: Notify::new(), allowance: AtomicU64::new(u64::MAX) }
    }
}

impl SharedState {
    pub(crate) fn allowance(&self) -> u64 {
        self.allowance.load(Ordering::Acquire)
    }

    /// An endpoint that ends connections after so many requests will do so again. Who knows it sends no more on one, and
    /// nobody is turned away.
    fn learn(&self, total: u64) {
        self.allowance.store(total.max(1), Ordering::Release);
    }

    /// A connection carried all it may, and the endpoint did not end it: that was not why it ended another.
    fn unlearn(&self, carried: u64) {
        self.allowance.fetch_max(carried.saturating_mul(2), Ordering::AcqRel);
    }
}

/// What is known of a connection beside what the `h2` crate tells.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// The endpoint's first SETTINGS arrived: how many streams it takes is known.
    settled: AtomicBool,
    /// No new request may go on it.
    over: AtomicBool,
    /// The last stream that a GOAWAY lets live.
    last_stream: AtomicU32,
    shared: Arc<SharedState>,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl ConnectionState {
    fn new(shared: Arc<SharedState>) -> Self {
        Self {
            settled: AtomicBool::new(false),
            over: AtomicBool::new(false),
            last_stream: AtomicU32::new(NO_GOAWAY),
            shared,
        }
    }

    pub(crate) fn settled(&self) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.shared.changed.notify_waiters();
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// A GOAWAY arrived: streams above `last` were not and will not be processed (RFC 9113 §6.8).
    pub(crate) fn going_away(&self, last: u32) {
        self.last_stream.fetch_min(last, Ordering::AcqRel);
        // The highest announces a close and ends nothing yet.
        if last < ANNOUNCED {
            self.shared.learn(u64::from(last.div_ceil(2)));
        }
        self.retire();
    }

    fn saw_goaway(&self) -> bool {
        self.last_stream.load(Ordering::Acquire) != NO_GOAWAY
    }

    /// Whether the endpoint said that it does not process this stream.
    pub(crate) fn excludes(&self, stream: u32) -> bool {
        stream > self.last_stream.load(Ordering::Acquire)
    }

    /// No new request goes on the connection; those under way end in their own time.
    pub(crate) fn retire(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.shared.changed.notify_waiters();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// A connection, shared by its requests and the pool. It closes when nobody holds it any more.
pub(crate) struct H2Connection {
    send: SendRequest<Bytes>,
    pub(crate) handle: Arc<ConnectionHandle>,
    pub(crate) state: Arc<ConnectionState>,
    count: Arc<StreamCounts>,
    /// It may be idle for so long.
    pub(crate) idle: Duration,
}

/// The requests of a connection.
#[derive(Debug, Default)]
struct StreamCounts {
    /// On it now.
    active: AtomicUsize,
    /// Ever.
    total: AtomicU64,
    /// Ever, at most.
    allowance: u64,
}

impl H2Connection {
    /// Connects to an endpoint; calls `closed` at the end.
    ///
    /// # Errors
    /// The engine's, so that all lanes count and answer them alike.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        timeouts: &Timeouts,
        shared: Arc<SharedState>,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<(Arc<Self>, Checkout)> {
        let (line, checkout) = connection::connect(endpoint, timeouts).await?;
        if let Line::Engine(stream) = &line
            && stream.selected_alpn_proto() != Some(ALPN::H2)
        {
            return Error::e_explain(ErrorType::H2Error, "the endpoint does not offer HTTP/2 over TLS (ALPN)");
        }
        let state = Arc::new(ConnectionState::new(Arc::clone(&shared)));
        let filter = FrameFilter::new(line, Arc::clone(&state));
        let handshake = builder().handshake(filter).await;
        let (send, driver) = handshake.or_err(ErrorType::HandshakeError, "beginning HTTP/2")?;
        let count = Arc::new(StreamCounts { allowance: shared.allowance(), ..StreamCounts::default() });
        let (told, counted) = (Arc::clone(&state), Arc::clone(&count));
        tokio::spawn(async move {
            // How it ended, its streams hear.
            let _ = driver.await;
            let carried = counted.total.load(Ordering::Acquire);
            if carried >= counted.allowance && !told.saw_goaway() {
                shared.unlearn(carried);
            }
            told.retire();
            closed();
        });
        let connection = Self { send, handle: checkout.handle(), state, count, idle: timeouts.pool_idle };
        Ok((Arc::new(connection), checkout))
    }

    /// Whether new requests may go on it, if there is room on it.
    pub(crate) fn is_open(&self) -> bool {
        !self.state.is_over() && !self.handle.is_closing()
    }

    /// A permit for a request, if there is one. Until the endpoint has said how many streams it takes, there is one.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<StreamPermit> {
        let limit = if self.state.is_settled() { self.send.current_max_send_streams().min(STREAMS) } else { 1 };
        if self.count.active.load(Ordering::Acquire) >= limit {
            return None;
        }
        self.count.active.fetch_add(1, Ordering::AcqRel);
        if self.count.total.fetch_add(1, Ordering::AcqRel) + 1 >= self.count.allowance {
            self.state.retire();
        }
        Some(StreamPermit(Arc::clone(self)))
    }

    /// How many requests were ever on it, if none is now.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        (self.count.active.load(Ordering::Acquire) == 0).then(|| self.count.total.load(Ordering::Acquire))
    }
}

/// A request's permit on a connection.
#[must_use = "the permit is free when it is dropped"]
pub(crate) struct StreamPermit(Arc<H2Connection>);

impl StreamPermit {
    pub(crate) fn connection(&self) -> &H2Connection {
        &self.0
    }

    /// What sends the request; none if the connection turns out to take no more.
    pub(crate) async fn ready(&self) -> Option<SendRequest<Bytes>> {
        let ready = self.0.send.clone().ready().await.ok();
        if ready.is_none() {
            self.0.state.retire();
        }
        ready
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.count.active.fetch_sub(1, Ordering::AcqRel);
        if self.0.state.is_over() {
            self.0.handle.retire();
        } else {
            self.0.state.shared.changed.notify_waiters();
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS)
        .max_concurrent_streams(1)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_local_error_reset_streams(None);
    builder
}

/// The last stream while no GOAWAY names one; ids end at 2³¹−1.
const NO_GOAWAY: u32 = u32::MAX;

/// The last stream of a GOAWAY that only announces the end, 2³¹−1 (RFC 9113 §6.8).
const ANNOUNCED: u32 = u32::MAX >> 1;

/// Streams at once on one connection, as most servers allow.
pub(crate) const STREAMS: usize = 100;

/// What an endpoint may send ahead on one stream: what Weir holds of an answer whose client does not read. 256 KiB
/// fill 1 Gbit/s over 2 ms, and keep a hundred such clients at 25 MiB.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What an endpoint may send ahead on a connection: all streams' windows together, so that clients who do not read
/// never keep others waiting.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;

/// The largest frame. Larger ones than the least allowed cost fewer turns for large bodies.
pub(crate) const FRAME: u32 = 64 * 1024;

/// The largest header block, fields with 32 bytes each on top (RFC 9113 §6.5.2): twice the largest head that is passed on.
pub(crate) const HEADER_LIST: u32 = 128 * 1024;

/// What the `h2` crate may hold of frames that are small, in missing bytes (256 less the frame's): beyond it the crate
/// ends the connection under all its streams. Every stream is emptied as frames come, whether its client reads or not
/// (see `relay`), and the reader gives way every 64 KiB, so that some 7,000 frames, 1.8 MiB, are the most that wait.
const SMALL_FRAMES: usize = 64 * 1024 * 1024;
