//! The HTTP/2 connections of one worker: which one a request goes on.
//!
//! The first with a free place, else a new one. A request that finds one being made waits for it, so that a burst of
//! first requests makes one connection and not one each; if that one fails, all who waited have failed.
//!
//! Only the worker's own thread comes here, so nothing is locked. Connections are as many as requests at once need, with
//! a hundred on each; idle ones are bounded for an endpoint over all workers by [`Link`](crate::proxy::upstream::connection::Link).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pingora_error::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::connection::{Connection, Place, STREAMS, Shared};
use crate::proxy::upstream::connection::Lease;
use crate::snapshot::{Endpoint, Timeouts};

/// The connections to one endpoint.
#[derive(Default)]
struct Endpoints {
    connections: Vec<Kept>,
    /// Connections being made.
    dialling: usize,
    /// How often that failed, and how it did the last time.
    failures: u64,
    failure: Option<(ErrorType, String)>,
    /// Requests that wait for one.
    waiting: usize,
    shared: Arc<Shared>,
}

struct Kept {
    connection: Arc<Connection>,
    /// Since when nobody used it, and how many had.
    unused: Option<(Instant, u64)>,
}

thread_local! {
    static POOL: RefCell<HashMap<u64, Endpoints, ahash::RandomState>> = RefCell::default();
}

/// What there is for a request.
enum Found {
    Place(Place),
    /// A connection is being made on which there will be one. How often that failed before, and the wait for it.
    Soon(u64, Waiting),
    Nothing,
}

/// What a request holds of a connection.
pub(crate) struct Held {
    pub(crate) place: Place,
    pub(crate) lease: Lease,
    /// The connection was there before.
    pub(crate) reused: bool,
}

/// A place on a connection to this endpoint; on a `fresh` one the request is the first.
///
/// # Errors
/// If no connection can be made.
pub(crate) async fn acquire(key: u64, endpoint: &Endpoint, timeouts: &Timeouts, fresh: bool) -> Result<Held> {
    if !fresh && let Some(joined) = join(key, Instant::now() + timeouts.connect).await {
        return joined;
    }
    dial(key, endpoint, timeouts).await
}

/// A place on a connection that is there, or is being made and there in time; none if a new one must be made.
async fn join(key: u64, until: Instant) -> Option<Result<Held>> {
    let mut failures = None;
    loop {
        let (now, waiting) = match find(key) {
            Found::Place(place) => {
                if let Some(lease) = hold(&place) {
                    return Some(Ok(Held { place, lease, reused: true }));
                }
                place.connection().signals.retire();
                continue;
            }
            Found::Soon(now, waiting) => (now, Some(waiting)),
            Found::Nothing => (failed(key), None),
        };
        if now != *failures.get_or_insert(now) {
            return Some(Err(last_failure(key)));
        }
        if tokio::time::timeout_at(until, waiting?.shared.changed.notified()).await.is_err() {
            return None;
        }
    }
}

/// The lease of a connection that was there; none if it is not to be used after all.
fn hold(place: &Place) -> Option<Lease> {
    let link = &place.connection().link;
    // Its end may have arrived and not been read yet: what is sent after it, nobody can say was not processed.
    if link.is_closed_idle() { None } else { link.take(true) }
}

fn find(key: u64) -> Found {
    POOL.with_borrow_mut(|pool| {
        let endpoints = pool.entry(key).or_default();
        endpoints.connections.retain(|kept| kept.connection.is_open());
        if let Some(place) = endpoints.connections.iter().find_map(|kept| kept.connection.place()) {
            return Found::Place(place);
        }
        let unsettled = endpoints.connections.iter().filter(|kept| !kept.connection.signals.is_settled()).count();
        // Whoever makes it, or found it first, has a place on it.
        let others = usize::try_from(endpoints.shared.allowance()).unwrap_or(STREAMS).min(STREAMS) - 1;
        if endpoints.waiting < (endpoints.dialling + unsettled) * others {
            endpoints.waiting += 1;
            Found::Soon(endpoints.failures, Waiting { key, shared: Arc::clone(&endpoints.shared) })
        } else {
            Found::Nothing
        }
    })
}

/// A request waits for a connection that is being made, until this is dropped.
struct Waiting {
    key: u64,
    shared: Arc<Shared>,
}

impl Drop for Waiting {
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
async fn dial(key: u64, endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Held> {
    let dialling = Dialling::begin(key);
    let opened = Connection::open(endpoint, timeouts, Arc::clone(&dialling.shared), move || forget(key)).await;
    let known = POOL.with_borrow_mut(|pool| {
        let endpoints = pool.entry(key).or_default();
        match &opened {
            Ok((connection, _)) => {
                let place = connection.place();
                endpoints.connections.push(Kept { connection: Arc::clone(connection), unused: None });
                place
            }
            Err(error) => {
                endpoints.failures += 1;
                endpoints.failure = Some((error.etype().clone(), error.to_string()));
                None
            }
        }
    });
    let (_, lease) = opened?;
    match known {
        Some(place) => Ok(Held { place, lease, reused: false }),
        None => Error::e_explain(ErrorType::H2Error, "the endpoint takes no streams"),
    }
}

/// A connection is being made, until this is dropped.
struct Dialling {
    key: u64,
    shared: Arc<Shared>,
}

impl Dialling {
    fn begin(key: u64) -> Self {
        let shared = POOL.with_borrow_mut(|pool| {
            let endpoints = pool.entry(key).or_default();
            endpoints.dialling += 1;
            Arc::clone(&endpoints.shared)
        });
        Self { key, shared }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| {
            if let Some(endpoints) = pool.get_mut(&self.key) {
                endpoints.dialling -= 1;
            }
        });
        self.shared.changed.notify_waiters();
    }
}

/// Lets go of the connections to an endpoint that are over.
fn forget(key: u64) {
    POOL.with_borrow_mut(|pool| {
        if let Some(endpoints) = pool.get_mut(&key) {
            endpoints.connections.retain(|kept| kept.connection.is_open());
        }
    });
}

/// Lets go of connections that are over or were idle for too long.
pub(crate) fn sweep() {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, endpoints| {
            endpoints.connections.retain_mut(|kept| kept.connection.is_open() && !kept.is_stale(now));
            !endpoints.connections.is_empty() || endpoints.dialling > 0 || endpoints.waiting > 0
        });
    });
}

impl Kept {
    fn is_stale(&mut self, now: Instant) -> bool {
        let Some(served) = self.connection.unused() else {
            self.unused = None;
            return false;
        };
        match self.unused {
            Some((since, before)) if before == served => now - since >= self.connection.idle,
            _ => {
                self.unused = Some((now, served));
                false
            }
        }
    }
}
