//! The HTTP/2 connections of one worker: which one a request goes on.
//!
//! The first with room for a stream, else a new one. A request that finds one being made waits for it, so that a burst of
//! first requests makes one connection and not one each; if that one fails, all who waited have failed.
//!
//! Connections are as many as requests at once need, with a hundred on each; idle ones are bounded for an endpoint over
//! all workers by their [`ConnectionHandle`](crate::proxy::upstream::connection::ConnectionHandle)s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::connection::{H2Connection, StreamPermit};
use super::settings::STREAMS;
use super::state::SharedState;
use crate::proxy::upstream::connection::Checkout;
use crate::proxy::upstream::destination::{Destination, PoolKey};
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::tls::TlsConnectors;

/// One worker's connections to HTTP/2 endpoints.
#[derive(Clone, Default)]
pub(crate) struct H2Pool(Arc<Mutex<Endpoints>>);

type Endpoints = HashMap<PoolKey, EndpointConnections, ahash::RandomState>;

/// The connections to one endpoint.
#[derive(Default)]
struct EndpointConnections {
    connections: Vec<Pooled>,
    /// Connections being made.
    connecting: usize,
    /// How often that failed, and how it did the last time.
    failures: u64,
    failure: Option<ConnectError>,
    /// Requests that wait for one.
    waiting: usize,
    shared: Arc<SharedState>,
}

struct Pooled {
    connection: Arc<H2Connection>,
    /// Since when nobody used it, and how many had.
    idle_since: Option<(Instant, u64)>,
}

/// What there is for a request.
enum Lookup {
    Ready(StreamPermit),
    /// A connection is being made on which there will be one. How often that failed before, and the wait for it.
    Pending(u64, Waiter),
    /// A connection must be made. How often that failed before.
    Nothing(u64),
}

/// What a request holds of a connection.
pub(crate) struct Acquired {
    pub(crate) permit: StreamPermit,
    pub(crate) checkout: Checkout,
    /// The connection was there before.
    pub(crate) reused: bool,
}

impl H2Pool {
    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit on a connection to this endpoint; on a `fresh` one the request is the first.
    ///
    /// # Errors
    /// If no connection can be made.
    pub(crate) async fn acquire(
        &self,
        to: &Destination,
        tls: &TlsConnectors,
        fresh: bool,
    ) -> Result<Acquired, ConnectError> {
        if !fresh && let Some(joined) = self.join(to.key, Instant::now() + to.connect_timeout).await {
            return joined;
        }
        self.connect(to, tls).await
    }

    /// A permit on a connection that is there, or is being made and there in time; none if a new one must be made.
    async fn join(&self, key: PoolKey, until: Instant) -> Option<Result<Acquired, ConnectError>> {
        let mut failures = None;
        loop {
            let (now, waiting) = match self.find(key) {
                Lookup::Ready(permit) => {
                    if let Some(checkout) = check_out(&permit) {
                        return Some(Ok(Acquired { permit, checkout, reused: true }));
                    }
                    permit.connection().state.retire();
                    continue;
                }
                Lookup::Pending(now, waiting) => (now, Some(waiting)),
                Lookup::Nothing(now) => (now, None),
            };
            if now != *failures.get_or_insert(now)
                && let Some(failure) = self.last_failure(key)
            {
                return Some(Err(failure));
            }
            if tokio::time::timeout_at(until, waiting?.shared.changed.notified()).await.is_err() {
                return None;
            }
        }
    }

    fn find(&self, key: PoolKey) -> Lookup {
        let mut endpoints = self.endpoints();
        let endpoint = endpoints.entry(key).or_default();
        endpoint.connections.retain(|pooled| pooled.connection.is_open());
        if let Some(permit) = endpoint.connections.iter().find_map(|pooled| pooled.connection.try_acquire()) {
            return Lookup::Ready(permit);
        }
        let unsettled = endpoint.connections.iter().filter(|pooled| !pooled.connection.state.is_settled()).count();
        // Whoever makes it, or found it first, has a permit on it.
        let others = usize::try_from(endpoint.shared.allowance()).unwrap_or(STREAMS).min(STREAMS) - 1;
        if endpoint.waiting < (endpoint.connecting + unsettled) * others {
            endpoint.waiting += 1;
            Lookup::Pending(endpoint.failures, Waiter { pool: self.clone(), key, shared: Arc::clone(&endpoint.shared) })
        } else {
            Lookup::Nothing(endpoint.failures)
        }
    }

    fn last_failure(&self, key: PoolKey) -> Option<ConnectError> {
        self.endpoints().get(&key).and_then(|endpoint| endpoint.failure.clone())
    }

    /// Makes a connection that others may join.
    async fn connect(&self, to: &Destination, tls: &TlsConnectors) -> Result<Acquired, ConnectError> {
        let connecting = Connecting::begin(self, to.key);
        let (pool, key) = (self.clone(), to.key);
        let opened = H2Connection::open(to, tls, Arc::clone(&connecting.shared), move || pool.forget_closed(key)).await;
        let mut endpoints = self.endpoints();
        let endpoint = endpoints.entry(key).or_default();
        let (connection, checkout) = opened.inspect_err(|error| {
            endpoint.failures += 1;
            endpoint.failure = Some(error.clone());
        })?;
        let permit = connection.try_acquire();
        endpoint.connections.push(Pooled { connection, idle_since: None });
        let permit = permit.ok_or(ConnectError::NoStreams)?;
        Ok(Acquired { permit, checkout, reused: false })
    }

    /// Lets go of the connections to an endpoint that are over.
    fn forget_closed(&self, key: PoolKey) {
        if let Some(endpoint) = self.endpoints().get_mut(&key) {
            endpoint.connections.retain(|pooled| pooled.connection.is_open());
        }
    }

    /// Lets go of connections that are over or were idle for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.endpoints().retain(|_, endpoint| {
            endpoint.connections.retain_mut(|pooled| pooled.connection.is_open() && !pooled.is_stale(now));
            !endpoint.connections.is_empty() || endpoint.connecting > 0 || endpoint.waiting > 0
        });
    }
}

/// Takes a connection that was there; none if it is not to be used after all.
fn check_out(permit: &StreamPermit) -> Option<Checkout> {
    let handle = &permit.connection().handle;
    // Its end may have arrived and not been read yet: what is sent after it, nobody can say was not processed.
    if handle.is_closed_idle() { None } else { handle.check_out_again() }
}

/// A request waits for a connection that is being made, until this is dropped.
struct Waiter {
    pool: H2Pool,
    key: PoolKey,
    shared: Arc<SharedState>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(endpoint) = self.pool.endpoints().get_mut(&self.key) {
            endpoint.waiting -= 1;
        }
    }
}

/// A connection is being made, until this is dropped.
struct Connecting {
    pool: H2Pool,
    key: PoolKey,
    shared: Arc<SharedState>,
}

impl Connecting {
    fn begin(pool: &H2Pool, key: PoolKey) -> Self {
        let mut endpoints = pool.endpoints();
        let endpoint = endpoints.entry(key).or_default();
        endpoint.connecting += 1;
        Self { pool: pool.clone(), key, shared: Arc::clone(&endpoint.shared) }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(endpoint) = self.pool.endpoints().get_mut(&self.key) {
            endpoint.connecting -= 1;
        }
        self.shared.changed.notify_waiters();
    }
}

impl Pooled {
    fn is_stale(&mut self, now: Instant) -> bool {
        let Some(total) = self.connection.requests_if_idle() else {
            self.idle_since = None;
            return false;
        };
        match self.idle_since {
            Some((since, before)) if before == total => now - since >= self.connection.idle_timeout,
            _ => {
                self.idle_since = Some((now, total));
                false
            }
        }
    }
}
