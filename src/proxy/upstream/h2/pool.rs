//! The HTTP/2 connections of one worker: which one a request goes on.
//!
//! The first with room for a stream, else a new one. A request that finds one being made waits for it, so that a burst of
//! first requests makes one connection and not one each; if that one fails, all who waited have failed.
//!
//! Only the worker's own thread comes here, so nothing is locked. Connections are as many as requests at once need, with
//! a hundred on each; idle ones are bounded for an endpoint over all workers by [`ConnectionHandle`](crate::proxy::upstream::connection::ConnectionHandle).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pingora_error::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::connection::{H2Connection, STREAMS, SharedState, StreamPermit};
use crate::proxy::upstream::connection::Checkout;
use crate::snapshot::{Endpoint, Timeouts};

/// The connections to one endpoint.
#[derive(Default)]
struct EndpointConnections {
    connections: Vec<PooledH2>,
    /// Connections being made.
    connecting: usize,
    /// How often that failed, and how it did the last time.
    failures: u64,
    failure: Option<(ErrorType, String)>,
    /// Requests that wait for one.
    waiting: usize,
    shared: Arc<SharedState>,
}

struct PooledH2 {
    connection: Arc<H2Connection>,
    /// Since when nobody used it, and how many had.
    idle_since: Option<(Instant, u64)>,
}

thread_local! {
    static POOL: RefCell<HashMap<u64, EndpointConnections, ahash::RandomState>> = RefCell::default();
}

/// What there is for a request.
enum Lookup {
    Ready(StreamPermit),
    /// A connection is being made on which there will be one. How often that failed before, and the wait for it.
    Pending(u64, Waiter),
    Nothing,
}

/// What a request holds of a connection.
pub(crate) struct Acquired {
    pub(crate) permit: StreamPermit,
    pub(crate) checkout: Checkout,
    /// The connection was there before.
    pub(crate) reused: bool,
}

/// A permit on a connection to this endpoint; on a `fresh` one the request is the first.
///
/// # Errors
/// If no connection can be made.
pub(crate) async fn acquire(key: u64, endpoint: &Endpoint, timeouts: &Timeouts, fresh: bool) -> Result<Acquired> {
    if !fresh && let Some(joined) = join(key, Instant::now() + timeouts.connect).await {
        return joined;
    }
    dial(key, endpoint, timeouts).await
}

/// A permit on a connection that is there, or is being made and there in time; none if a new one must be made.
async fn join(key: u64, until: Instant) -> Option<Result<Acquired>> {
    let mut failures = None;
    loop {
        let (now, waiting) = match find(key) {
            Lookup::Ready(permit) => {
                if let Some(checkout) = hold(&permit) {
                    return Some(Ok(Acquired { permit, checkout, reused: true }));
                }
                permit.connection().state.retire();
                continue;
            }
            Lookup::Pending(now, waiting) => (now, Some(waiting)),
            Lookup::Nothing => (failed(key), None),
        };
        if now != *failures.get_or_insert(now) {
            return Some(Err(last_failure(key)));
        }
        if tokio::time::timeout_at(until, waiting?.shared.changed.notified()).await.is_err() {
            return None;
        }
    }
}

/// The checkout of a connection that was there; none if it is not to be used after all.
fn hold(permit: &StreamPermit) -> Option<Checkout> {
    let handle = &permit.connection().handle;
    // Its end may have arrived and not been read yet: what is sent after it, nobody can say was not processed.
    if handle.is_closed_idle() { None } else { handle.check_out(true) }
}

fn find(key: u64) -> Lookup {
    POOL.with_borrow_mut(|pool| {
        let endpoints = pool.entry(key).or_default();
        endpoints.connections.retain(|pooled| pooled.connection.is_open());
        if let Some(permit) = endpoints.connections.iter().find_map(|pooled| pooled.connection.try_acquire()) {
            return Lookup::Ready(permit);
        }
        let unsettled = endpoints.connections.iter().filter(|pooled| !pooled.connection.state.is_settled()).count();
        // Whoever makes it, or found it first, has a permit on it.
        let others = usize::try_from(endpoints.shared.allowance()).unwrap_or(STREAMS).min(STREAMS) - 1;
        if endpoints.waiting < (endpoints.connecting + unsettled) * others {
            endpoints.waiting += 1;
            Lookup::Pending(endpoints.failures, Waiter { key, shared: Arc::clone(&endpoints.shared) })
        } else {
            Lookup::Nothing
        }
    })
}

/// A request waits for a connection that is being made, until this is dropped.
struct Waiter {
    key: u64,
    shared: Arc<SharedState>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| {
            if let Some(endpoints) = pool.get_mut(&self.key) {
                endpoints.waiting -= 1;
            }
        });
    }
}

fn failed(key: u64) -> u64 {
    POOL.with_borrow(|pool| pool.get(&key).map_or(0, |endpoints| endpoints.failures))
}

fn last_failure(key: u64) -> Box<Error> {
    let failure = POOL.with_borrow(|pool| pool.get(&key).and_then(|endpoints| endpoints.failure.clone()));
    let (kind, text) = failure.unwrap_or((ErrorType::ConnectError, "no connection".to_owned()));
    Error::explain(kind, text)
}

/// Makes a connection that others may join.
async fn dial(key: u64, endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Acquired> {
    let connecting = ConnectGuard::begin(key);
    let opened = H2Connection::open(endpoint, timeouts, Arc::clone(&connecting.shared), move || forget(key)).await;
    let known = POOL.with_borrow_mut(|pool| {
        let endpoints = pool.entry(key).or_default();
        match &opened {
            Ok((connection, _)) => {
                let permit = connection.try_acquire();
                endpoints.connections.push(PooledH2 { connection: Arc::clone(connection), idle_since: None });
                permit
            }
            Err(error) => {
                endpoints.failures += 1;
                endpoints.failure = Some((error.etype().clone(), error.to_string()));
                None
            }
        }
    });
    let (_, checkout) = opened?;
    match known {
        Some(permit) => Ok(Acquired { permit, checkout, reused: false }),
        None => Error::e_explain(ErrorType::H2Error, "the endpoint takes no streams"),
    }
}

/// A connection is being made, until this is dropped.
struct ConnectGuard {
    key: u64,
    shared: Arc<SharedState>,
}

impl ConnectGuard {
    fn begin(key: u64) -> Self {
        let shared = POOL.with_borrow_mut(|pool| {
            let endpoints = pool.entry(key).or_default();
            endpoints.connecting += 1;
            Arc::clone(&endpoints.shared)
        });
        Self { key, shared }
    }
}

impl Drop for ConnectGuard {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| {
            if let Some(endpoints) = pool.get_mut(&self.key) {
                endpoints.connecting -= 1;
            }
        });
        self.shared.changed.notify_waiters();
    }
}

/// Lets go of the connections to an endpoint that are over.
fn forget(key: u64) {
    POOL.with_borrow_mut(|pool| {
        if let Some(endpoints) = pool.get_mut(&key) {
            endpoints.connections.retain(|pooled| pooled.connection.is_open());
        }
    });
}

/// Lets go of connections that are over or were idle for too long.
pub(crate) fn sweep() {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, endpoints| {
            endpoints.connections.retain_mut(|pooled| pooled.connection.is_open() && !pooled.is_stale(now));
            !endpoints.connections.is_empty() || endpoints.connecting > 0 || endpoints.waiting > 0
        });
    });
}

impl PooledH2 {
    fn is_stale(&mut self, now: Instant) -> bool {
        let Some(total) = self.connection.idle_since() else {
            self.idle_since = None;
            return false;
        };
        match self.idle_since {
            Some((since, before)) if before == total => now - since >= self.connection.idle,
            _ => {
                self.idle_since = Some((now, total));
                false
            }
        }
    }
}
