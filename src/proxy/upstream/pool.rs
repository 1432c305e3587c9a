//! Idle connections to HTTP/1 endpoints, of one worker: most recently used first.
//!
//! ```text
//! checkout ─► is it alive? asks the runtime, not the system ─► request ─► put, or drop
//!                  ▲ a drain shuts it down (its handle), the endpoint closes it, or its time is up: dropped by `sweep`
//! ```
//!
//! How many idle connections an endpoint may have is counted for all workers together, by their handles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::connection::{ConnectionHandle, PooledConnection};
use super::destination::PoolKey;
use crate::proxy::io::transport::{Transport, UnreadData};

/// One worker's idle connections.
#[derive(Default)]
pub(crate) struct H1Pool(Mutex<Connections>);

type Connections = HashMap<PoolKey, Vec<Idle>, ahash::RandomState>;

/// A connection that no request uses.
struct Idle {
    transport: Transport,
    handle: Arc<ConnectionHandle>,
    until: Instant,
    /// Its last request had a body. An endpoint that knows no bodies answers that too, at once: the system is asked.
    bodied: bool,
}

impl H1Pool {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection with this key, the most recently used one.
    pub(crate) fn checkout(&self, key: PoolKey, now: Instant) -> Option<PooledConnection> {
        loop {
            let mut idle = self.connections().get_mut(&key).and_then(Vec::pop)?;
            if idle.until > now
                && !idle.has_unread_data()
                && let Some(checkout) = idle.handle.check_out_again()
            {
                return Some(PooledConnection { transport: idle.transport, checkout });
            }
        }
    }

    /// Keeps a connection for the next request, at most until then, unless it is not to be used again.
    pub(crate) fn put(&self, key: PoolKey, connection: PooledConnection, until: Instant, bodied: bool) {
        let handle = connection.checkout.release();
        if !handle.is_closing() {
            let idle = Idle { transport: connection.transport, handle, until, bodied };
            self.connections().entry(key).or_default().push(idle);
        }
    }

    /// Drops connections that are closed, are to be closed, or were idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.connections().retain(|_, idle| {
            idle.retain_mut(|idle| idle.until > now && !idle.handle.is_closing() && !idle.has_unread_data());
            !idle.is_empty()
        });
    }
}

impl Idle {
    /// Whether something arrived that nobody asked for: usually the end of the stream. Anything else could be taken for
    /// the answer to the next request.
    fn has_unread_data(&mut self) -> bool {
        let mut unread = self.transport.unread_data();
        if unread.is_none() && self.bodied && self.handle.has_unread() {
            unread = Some(UnreadData::Bytes);
        }
        if unread == Some(UnreadData::Bytes) {
            self.handle.unsolicited();
        }
        unread.is_some()
    }
}
