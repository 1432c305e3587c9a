//! One HTTP/2 connection to an endpoint, on which many requests are at once.
//!
//! ```text
//! made ─► its task moves the bytes ─► requests take places ─► GOAWAY, close, drain, idle: no new ones ─► last one over: closed
//! ```
//!
//! Invariants: only the worker's own thread locks a connection, so nobody ever waits for the lock; it is not held over an
//! await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::liveness::Pulse;
use super::sharing::Sharing;
use super::state::State;
use crate::proxy::codec::frame;
use crate::proxy::upstream::connection::{Checkout, ConnectionHandle};
use crate::proxy::upstream::destination::Destination;

/// A connection, shared by its streams, its task and the pool.
pub(super) struct Connection {
    state: Mutex<State>,
    pub(super) handle: Arc<ConnectionHandle>,
    /// It may be idle for so long.
    idle_timeout: Duration,
}

impl Connection {
    /// A connection that was just made, with a place for the request that it was made for.
    pub(super) fn new(to: &Destination, handle: Arc<ConnectionHandle>, sharing: Arc<Sharing>) -> Self {
        let mut state = State::new(sharing);
        state.reserve();
        Self { state: Mutex::new(state), handle, idle_timeout: to.idle_timeout }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a request, if there is room.
    pub(super) fn join(&self) -> Option<Checkout> {
        if self.handle.is_closing() || !self.lock().reserve() {
            return None;
        }
        // Its end may have arrived and not been read yet: what is sent after it, nobody can say was not processed.
        let checkout = if self.handle.is_closed_idle() { None } else { self.handle.check_out_again() };
        if checkout.is_none() {
            let mut state = self.lock();
            state.retire();
            state.leave();
        }
        checkout
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
