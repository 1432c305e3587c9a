//! One HTTP/2 connection to an endpoint, on which many requests are at once.
//!
//! ```text
//! open ─► its task moves the bytes ─► requests take places ─► GOAWAY, close, drain, idle: no new ones ─► last one over: closed
//! ```
//!
//! Invariants: only the worker's own thread locks a connection, so nobody ever waits for the lock; it is not held over an
//! await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::driver::Driver;
use super::liveness::Pulse;
use super::sharing::Sharing;
use super::state::State;
use super::stream::Stream;
use crate::proxy::codec::frame;
use crate::proxy::io::transport::Transport;
use crate::proxy::upstream::connection::{ConnectionHandle, PooledConnection};
use crate::proxy::upstream::connector;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::tls::TlsConnectors;

/// A connection, shared by its streams, its task and the pool.
pub(super) struct Connection {
    state: Mutex<State>,
    pub(super) handle: Arc<ConnectionHandle>,
    /// It may be idle for so long.
    idle_timeout: Duration,
}

impl Connection {
    /// Connects to an endpoint, for one request at once; calls `closed` at the end.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn open(
        to: &Destination,
        tls: &TlsConnectors,
        sharing: Arc<Sharing>,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<(Arc<Self>, Stream), ConnectError> {
        let PooledConnection { transport, checkout } = connector::connect(to, tls).await?;
        if matches!(transport, Transport::Tls(_)) && !transport.alpn_h2() {
            return Err(ConnectError::NoHttp2);
        }
        let connection = Arc::new(Self {
            state: Mutex::new(State::new(sharing)),
            handle: checkout.handle(),
            idle_timeout: to.idle_timeout,
        });
        connection.lock().reserve();
        let stream = Stream::new(Arc::clone(&connection), checkout, false);
        let driver = Driver::new(Arc::clone(&connection), transport);
        tokio::spawn(async move {
            driver.run().await;
            closed();
        });
        Ok((connection, stream))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream on it, if there is room.
    pub(super) fn join(self: &Arc<Self>) -> Option<Stream> {
        if self.handle.is_closing() || !self.lock().reserve() {
            return None;
        }
        // Its end may have arrived and not been read yet: what is sent after it, nobody can say was not processed.
        let checkout = if self.handle.is_closed_idle() { None } else { self.handle.check_out_again() };
        let Some(checkout) = checkout else {
            let mut state = self.lock();
            state.retire();
            state.leave();
            return None;
        };
        Some(Stream::new(Arc::clone(self), checkout, true))
    }

    /// Whether new requests may go on it, if there is room on it.
    pub(super) fn is_open(&self) -> bool {
        !self.handle.is_closing() && !self.lock().is_over()
    }

    /// Whether it is open and the endpoint has not said yet how many streams it takes.
    pub(super) fn is_unsettled(&self) -> bool {
        self.is_open() && !self.lock().settled
    }

    /// How many requests were ever on it, if none is now.
    pub(super) fn carried_if_idle(&self) -> Option<u64> {
        let state = self.lock();
        (state.active() == 0).then_some(state.carried)
    }

    /// What is to be done about each second. `since`: nobody has used it since then.
    pub(super) fn look(&self, since: Option<Instant>, now: Instant) {
        let mut state = self.lock();
        state.tokens.passed(now);
        if since.is_some_and(|since| now.saturating_duration_since(since) >= self.idle_timeout) {
            state.retire();
        }
        let busy = state.active() > 0;
        match state.liveness.look(busy, now) {
            Pulse::Fine => {}
            Pulse::Ask => {
                frame::ping(&mut state.out, false, &PING);
                state.tell();
            }
            Pulse::Faint => state.retire(),
            Pulse::Dead => {
                state.dead = true;
                state.tell();
            }
        }
    }
}

/// What our PINGs say: nothing, since one is under way at most and any word from the endpoint answers it.
const PING: [u8; 8] = [0; 8];
