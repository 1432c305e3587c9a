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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ::h2::SendStream;
use ::h2::client::SendRequest;
use bytes::Bytes;
use http::Request;

use super::error::StreamError;
use super::filter::FrameFilter;
use super::settings::{STREAMS, builder};
use super::state::{ConnectionState, SharedState};
use super::stream::ResponseStream;
use crate::proxy::io::transport::Transport;
use crate::proxy::upstream::connection::{Checkout, ConnectionHandle, PooledConnection};
use crate::proxy::upstream::connector;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::tls::TlsConnectors;

/// A connection, shared by its requests and the pool. It closes when nobody holds it any more.
pub(crate) struct H2Connection {
    send: SendRequest<Bytes>,
    pub(crate) handle: Arc<ConnectionHandle>,
    pub(crate) state: Arc<ConnectionState>,
    count: Arc<StreamCounts>,
    /// It may be idle for so long.
    pub(super) idle_timeout: Duration,
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
    /// Why there is no connection.
    pub(super) async fn open(
        to: &Destination,
        tls: &TlsConnectors,
        shared: Arc<SharedState>,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<(Arc<Self>, Checkout), ConnectError> {
        let PooledConnection { transport, checkout } = connector::connect(to, tls).await?;
        if matches!(transport, Transport::Tls(_)) && !transport.alpn_h2() {
            return Err(ConnectError::NoHttp2);
        }
        let state = Arc::new(ConnectionState::new(Arc::clone(&shared)));
        let filter = FrameFilter::new(transport, Arc::clone(&state));
        let handshake = builder().handshake(filter).await;
        let (send, driver) = handshake.map_err(|error| ConnectError::Preface(Arc::new(error)))?;
        let count = Arc::new(StreamCounts { allowance: shared.allowance(), ..StreamCounts::default() });
        let (seen, counted) = (Arc::clone(&state), Arc::clone(&count));
        tokio::spawn(async move {
            // How it ended, its streams hear.
            let _ = driver.await;
            let carried = counted.total.load(Ordering::Acquire);
            if carried >= counted.allowance && !seen.saw_goaway() {
                shared.unlearn(carried);
            }
            seen.retire();
            closed();
        });
        let connection = Self { send, handle: checkout.handle(), state, count, idle_timeout: to.idle_timeout };
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
    pub(super) fn requests_if_idle(&self) -> Option<u64> {
        (self.count.active.load(Ordering::Acquire) == 0).then(|| self.count.total.load(Ordering::Acquire))
    }
}

/// A request's permit on a connection.
#[must_use = "the permit is free when it is dropped"]
pub(crate) struct StreamPermit(Arc<H2Connection>);

impl StreamPermit {
    pub(super) fn connection(&self) -> &H2Connection {
        &self.0
    }

    /// Sends the head of a request; `ends`: nothing comes after it.
    ///
    /// # Errors
    /// If it was not sent.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(SendStream<Bytes>, ResponseStream), StreamError> {
        let Ok(mut ready) = self.0.send.clone().ready().await else {
            self.0.state.retire();
            return Err(StreamError::Unprocessed);
        };
        let (response, send) = ready.send_request(request, ends).map_err(StreamError::of_unsent)?;
        let stream = send.stream_id().as_u32();
        Ok((send, ResponseStream::new(response, stream, Arc::clone(&self.0.state))))
    }

    /// The connection takes no new requests: it may hang as a whole.
    pub(crate) fn retire(&self) {
        self.0.state.retire();
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
