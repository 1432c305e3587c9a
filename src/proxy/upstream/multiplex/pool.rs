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

use super::connection::Connection;
use super::driver;
use super::settings::STREAMS;
use super::sharing::Sharing;
use super::stream::Stream;
use crate::proxy::upstream::destination::{Destination, PoolKey};
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::tls::TlsConnectors;

/// One worker's connections to HTTP/2 endpoints.
#[derive(Clone, Default)]
pub(crate) struct Multiplex(Arc<Mutex<Endpoints>>);

type Endpoints = HashMap<PoolKey, EndpointConnections, ahash::RandomState>;

/// The connections to one endpoint.
#[derive(Default)]
struct EndpointConnections {
    /// Until their tasks are over.
    connections: Vec<Pooled>,
    /// Connections being made.
    connecting: usize,
    /// How often that failed, and how it did the last time.
    failures: u64,
    failure: Option<ConnectError>,
    /// Requests that wait for one.
    waiting: usize,
    sharing: Arc<Sharing>,
}

struct Pooled {
    connection: Arc<Connection>,
    /// Since when nobody used it, and how many had.
    idle_since: Option<(Instant, u64)>,
}

/// What there is for a request.
enum Lookup {
    Ready(Stream),
    /// A connection is being made on which there will be a place. How often that failed before, and the wait for it.
    Pending(u64, Waiter),
    /// A connection must be made. How often that failed before.
    Nothing(u64),
}

impl Multiplex {
    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream on a connection that is there and has room.
    pub(crate) fn try_acquire(&self, key: PoolKey) -> Option<Stream> {
        self.endpoints().get(&key).and_then(EndpointConnections::join)
    }

    /// A stream on a connection to this endpoint; on a `fresh` one the request is the first.
    ///
    /// # Errors
    /// If no connection can be made.
    pub(super) async fn acquire(
        &self,
        to: &Destination,
        tls: &TlsConnectors,
        fresh: bool,
    ) -> Result<Stream, ConnectError> {
        if !fresh && let Some(joined) = self.join(to.key, Instant::now() + to.connect_timeout).await {
            return joined;
        }
        self.connect(to, tls).await
    }

    /// A stream on a connection that is there, or is being made and there in time; none if a new one must be made.
    async fn join(&self, key: PoolKey, until: Instant) -> Option<Result<Stream, ConnectError>> {
        let mut failures = None;
        loop {
            let (now, waiting) = match self.find(key) {
                Lookup::Ready(stream) => return Some(Ok(stream)),
                Lookup::Pending(now, waiting) => (now, Some(waiting)),
                Lookup::Nothing(now) => (now, None),
            };
            if now != *failures.get_or_insert(now)
                && let Some(failure) = self.last_failure(key)
            {
                return Some(Err(failure));
            }
            if tokio::time::timeout_at(until, waiting?.sharing.wait()).await.is_err() {
                return None;
            }
        }
    }

    fn find(&self, key: PoolKey) -> Lookup {
        let mut endpoints = self.endpoints();
        let endpoint = endpoints.entry(key).or_default();
        if let Some(stream) = endpoint.join() {
            return Lookup::Ready(stream);
        }
        let unsettled = endpoint.connections.iter().filter(|pooled| pooled.connection.is_unsettled()).count();
        // Whoever makes it, or found it first, has a place on it.
        let others = usize::try_from(endpoint.sharing.allowance()).unwrap_or(STREAMS).min(STREAMS) - 1;
        if endpoint.waiting < (endpoint.connecting + unsettled) * others {
            endpoint.waiting += 1;
            Lookup::Pending(
                endpoint.failures,
                Waiter { pool: self.clone(), key, sharing: Arc::clone(&endpoint.sharing) },
            )
        } else {
            Lookup::Nothing(endpoint.failures)
        }
    }

    fn last_failure(&self, key: PoolKey) -> Option<ConnectError> {
        self.endpoints().get(&key).and_then(|endpoint| endpoint.failure.clone())
    }

    /// Makes a connection that others may join.
    async fn connect(&self, to: &Destination, tls: &TlsConnectors) -> Result<Stream, ConnectError> {
        let connecting = Connecting::begin(self, to.key);
        let (pool, key) = (self.clone(), to.key);
        let opened = driver::open(to, tls, Arc::clone(&connecting.sharing), move || pool.forget_closed(key)).await;
        let mut endpoints = self.endpoints();
        let endpoint = endpoints.entry(key).or_default();
        let (connection, checkout) = opened.inspect_err(|error| {
            endpoint.failures += 1;
            endpoint.failure = Some(error.clone());
        })?;
        endpoint.connections.push(Pooled { connection: Arc::clone(&connection), idle_since: None });
        Ok(Stream::new(connection, checkout, false))
    }

    /// Lets go of the connections to an endpoint that are gone.
    fn forget_closed(&self, key: PoolKey) {
        if let Some(endpoint) = self.endpoints().get_mut(&key) {
            endpoint.connections.retain(|pooled| !pooled.connection.lock().is_gone());
        }
    }

    /// How many connections there are to an endpoint.
    #[cfg(test)]
    pub(super) fn connections_to(&self, key: PoolKey) -> usize {
        self.endpoints().get(&key).map_or(0, |endpoint| endpoint.connections.len())
    }

    /// Whether the newest connection to an endpoint takes no new requests.
    #[cfg(test)]
    pub(super) fn is_retired(&self, key: PoolKey) -> bool {
        let endpoints = self.endpoints();
        let newest = endpoints.get(&key).and_then(|endpoint| endpoint.connections.last());
        newest.is_some_and(|pooled| !pooled.connection.is_open())
    }

    /// Looks after all connections; those that were idle for too long end.
    pub(crate) fn sweep(&self, now: Instant) {
        self.endpoints().retain(|_, endpoint| {
            for pooled in &mut endpoint.connections {
                let since = pooled.idle_since(now);
                pooled.connection.look(since, now);
            }
            !endpoint.connections.is_empty() || endpoint.connecting > 0 || endpoint.waiting > 0
        });
    }
}

impl EndpointConnections {
    fn join(&self) -> Option<Stream> {
        self.connections.iter().find_map(|Pooled { connection, .. }| {
            let checkout = connection.join()?;
            Some(Stream::new(Arc::clone(connection), checkout, true))
        })
    }
}

impl Pooled {
    /// Since when nobody uses it, as looks so far have found.
    fn idle_since(&mut self, now: Instant) -> Option<Instant> {
        let carried = self.connection.carried_if_idle();
        self.idle_since = carried.map(|carried| match self.idle_since {
            Some((since, before)) if before == carried => (since, carried),
            _ => (now, carried),
        });
        self.idle_since.map(|(since, _)| since)
    }
}

/// A request waits for a connection that is being made, until this is dropped.
struct Waiter {
    pool: Multiplex,
    key: PoolKey,
    sharing: Arc<Sharing>,
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
    pool: Multiplex,
    key: PoolKey,
    sharing: Arc<Sharing>,
}

impl Connecting {
    fn begin(pool: &Multiplex, key: PoolKey) -> Self {
        let mut endpoints = pool.endpoints();
        let endpoint = endpoints.entry(key).or_default();
        endpoint.connecting += 1;
        Self { pool: pool.clone(), key, sharing: Arc::clone(&endpoint.sharing) }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(endpoint) = self.pool.endpoints().get_mut(&self.key) {
            endpoint.connecting -= 1;
        }
        self.sharing.changed();
    }
}
