//! The general lane for one client connection: HTTP/2 until it ends, or one HTTP/1 request at a time.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Connection;
use super::engine::Engine;
use super::exchange::{EXCHANGE, Exchange};
use super::handle::Handle;
use super::intake::Taken;
use crate::proxy::io::transport::Transport;
use crate::proxy::shared::{Phase, Shared};
use crate::proxy::unread::Holder;
use crate::snapshot::ClientLimits;
use crate::telemetry::Outcome;

/// The general lane for one connection.
pub(crate) struct GeneralLane {
    engine: Arc<Engine>,
    handle: Arc<Handle>,
    options: HttpServerOptions,
}

impl GeneralLane {
    /// The lane for a connection that this handle tells of.
    pub(crate) fn new(engine: Arc<Engine>, handle: Arc<Handle>) -> Arc<Self> {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        Arc::new(Self { engine, handle, options })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.engine.worker.shared
    }

    /// Tells an HTTP/2 client with GOAWAY that its connection ends, when the process says so, when it has been idle
    /// for `keepalive` or when it gives way to another, and returns when it is to be closed without waiting for the
    /// client any more.
    ///
    /// The engine sends the GOAWAY in two steps (RFC 9113 §6.8), so that a request that crosses the first one is served.
    async fn leave_idle(&self, goaway: &watch::Sender<bool>, keepalive: Duration) {
        let mut phases = self.shared().phases();
        loop {
            let due = self.handle.idle_since().unwrap_or_else(Instant::now) + keepalive;
            tokio::select! {
                _ = phases.changed() => break,
                () = self.handle.seat.evicted() => break,
                () = tokio::time::sleep_until(due) => {}
            }
            if self.handle.idle_since().is_some_and(|since| since + keepalive <= Instant::now()) {
                break;
            }
        }
        goaway.send_replace(true);
        // The process waits less for what is idle in the end, but for the GOAWAY: a request that crosses an end without
        // one is lost.
        let closing = async { phases.wait_for(|phase| *phase >= Phase::Closing).await.is_ok() };
        tokio::select! {
            () = self.gone(if self.handle.seat.is_evicted() { GIVE_WAY } else { GOODBYE }) => {}
            _ = closing => self.gone(GIVE_WAY).await,
        }
    }

    /// Until a client that was told to go has been idle for as long as it may take to do so.
    async fn gone(&self, goodbye: Duration) {
        let mut from = Instant::now();
        loop {
            tokio::time::sleep_until(from + goodbye).await;
            match self.handle.idle_since() {
                Some(since) if since.max(from) + goodbye <= Instant::now() => return,
                Some(since) => from = from.max(since),
                None => from = Instant::now(),
            }
        }
    }

    /// An HTTP/2 connection until it ends.
    pub(crate) async fn http2(self: &Arc<Self>, connection: Connection) {
        self.handle.http2.store(true, Ordering::Release);
        // What came so far began no request.
        self.handle.seat.idle(Instant::now());
        let client = self.shared().current.peek().client;
        let (goaway, announced) = watch::channel(false);
        let served = self.process_new(Box::new(connection), &announced);
        tokio::select! {
            _ = served => {}
            () = self.leave_idle(&goaway, client.keepalive) => {}
            () = self.handle.abandoned() => {}
        }
    }

    /// One HTTP/1 request. The connection comes back if another one may follow.
    pub(crate) async fn http1(self: &Arc<Self>, mut connection: Connection) -> Option<(Transport, Bytes)> {
        match connection.take_request(self.shared()).await {
            Taken::Request => {}
            Taken::Http2 => {
                self.http2(connection).await;
                return None;
            }
            Taken::End => return None,
        }
        let session = ServerSession::new_http1(Box::new(connection));
        let (stream, _) = self.process_new_http(session, &self.engine.shutdown.subscribe()).await?.consume();
        stream.into_any().downcast::<Connection>().ok()?.into_parts()
    }

    /// What `served` comes to, unless the connection is told to end while it is idle. One of HTTP/2 ends by itself then,
    /// once its client was told.
    pub(crate) async fn unless_ended<T>(&self, served: impl Future<Output = T>) -> Option<T> {
        let mut phases = self.shared().phases();
        tokio::pin!(served);
        loop {
            let closing = *phases.borrow_and_update() >= Phase::Closing;
            if closing && self.handle.is_idle() && !self.handle.http2.load(Ordering::Acquire) {
                return None;
            }
            tokio::select! {
                served = &mut served => return Some(served),
                Ok(()) = phases.changed() => {}
                () = self.gives_way() => return None,
            }
        }
    }

    /// Until an HTTP/1 connection is to give way to another; it is idle then. One of HTTP/2 is told before.
    async fn gives_way(&self) {
        poll_fn(|_| {
            let now = self.handle.seat.is_evicted() && !self.handle.http2.load(Ordering::Acquire);
            if now { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[async_trait]
impl HttpServerApp for GeneralLane {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.handle)));
        let holder: Weak<dyn Holder> = Arc::<Exchange>::downgrade(&exchange);
        self.engine.worker.unread.watch(holder);
        let notifier = self.shared().notifier.subscribe();
        let phases = self.shared().phases();
        let carried = self.engine.proxy.process_new_http(session, shutdown);
        let watched = Arc::clone(&exchange);
        let reused = EXCHANGE
            .scope(exchange, async move {
                tokio::select! {
                    biased;
                    reused = carried => reused,
                    () = watched.watch(notifier, phases) => None,
                }
            })
            .await;
        // What the engine cannot read it answers itself, without any of our hooks.
        if let Some(status) = self.handle.take_engine_status() {
            self.shared().recorder.unmatched().finish(Outcome::Status(status), Duration::ZERO);
        }
        reused
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(h2_options(&self.shared().current.peek().client))
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// How long an idle client may take to close a connection after it was told to.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long an HTTP/2 client that gives way to another may take to hear of it: somebody waits for its place, or for the
/// end of the process.
const GIVE_WAY: Duration = Duration::from_millis(250);

/// How the engine speaks HTTP/2 with a client, from the file as it is when the connection begins.
fn h2_options(client: &ClientLimits) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_header_list_size(client.header_bytes)
        .max_concurrent_streams(client.h2_streams)
        .initial_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(client.h2_streams.saturating_mul(H2_STREAM_WINDOW).min(H2_LARGEST_WINDOW))
        .max_send_buffer_size(H2_SEND_BUFFER)
        .data_frame_budget(H2_SMALL_FRAMES)
        // Counted by time on the way out; the crate's count never goes down.
        .max_local_error_reset_streams(None);
    options
}

/// Request body bytes a client may send ahead on one HTTP/2 stream. The connection may be sent as much on each of its
/// streams: uploads whose endpoints do not read take nothing away from the others.
const H2_STREAM_WINDOW: u32 = 128 * 1024;

/// The largest window that there is (RFC 9113 §6.9.1).
const H2_LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// What small DATA frames that wait to be read may waste, 256 bytes each: 32,000 of them, and 10 MB. The crate's own
/// bound ended connections with a few calls of short messages.
const H2_SMALL_FRAMES: usize = 8 << 20;

/// Bytes of one stream's answer that wait for the client to take them. What a fast path needs is in the kernel's buffer.
const H2_SEND_BUFFER: usize = 64 * 1024;
