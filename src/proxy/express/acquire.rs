//! Finds an endpoint of a request's version and a connection over HTTP/1 to it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::time::Instant;

use super::context::ExpressContext;
use crate::drain::{Ledger, Ticket};
use crate::proxy::request::context::Assignment;
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{DRAINED, Failure};
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::connection::PooledConnection;
use crate::proxy::upstream::connector::connect;
use crate::proxy::upstream::destination::{Destination, PoolKey};
use crate::snapshot::{Endpoint, Timeouts};
use crate::traffic::Refusal;

/// A connection to an endpoint while a request uses it.
pub(crate) struct AcquiredConnection<'s> {
    pub(crate) connection: PooledConnection,
    /// Where it belongs in the pool.
    pub(crate) key: PoolKey,
    /// Since when it is acquired.
    pub(crate) since: Instant,
    pub(crate) ticket: Ticket<&'s Ledger>,
}

/// The endpoint of a request that is not on its way yet; a drain waits for it.
pub(crate) struct ChosenEndpoint<'s> {
    pub(crate) endpoint: &'s Endpoint,
    pub(crate) ticket: Ticket<&'s Ledger>,
}

impl<'s> ExpressContext<'s> {
    /// Chooses the next endpoint and enters it.
    pub(crate) fn choose(&mut self) -> Option<ChosenEndpoint<'s>> {
        let Assignment { version, key, .. } = self.assigned;
        let endpoint = version.endpoints.get(self.attempts.choose(version, key)?)?;
        Some(ChosenEndpoint { endpoint, ticket: endpoint.live.ledger.enter_borrowed() })
    }
}

/// Finds an endpoint and a connection to it, trying another endpoint where that is allowed. `fresh`: no pooled connection
/// may be used.
///
/// # Errors
/// What to answer.
pub(crate) async fn acquire<'s>(
    context: &mut ExpressContext<'s>,
    pools: &Pools,
    mut first: Option<ChosenEndpoint<'s>>,
    fresh: bool,
) -> Result<AcquiredConnection<'s>, Refusal> {
    let Assignment { version, service, key: client, .. } = context.assigned;
    loop {
        let Some(ChosenEndpoint { endpoint, ticket }) = first.take().or_else(|| context.choose()) else {
            return Err(context.attempts.no_endpoint(&version.series));
        };
        let began = context.attempts.began;
        let fresh = context.attempts.is_fresh() || fresh;
        let mut connecting = pin!(connection(pools, endpoint, &service.timeouts, fresh, began));
        let is_cut = || context.is_cut() || ticket.is_due();
        let connected =
            poll_fn(|cx| if is_cut() { Poll::Ready(None) } else { connecting.as_mut().poll(cx).map(Some) }).await;
        let failure = match connected {
            None => {
                ticket.count_cut();
                context.progress.ended = Some(End::Cut);
                return Err(DRAINED);
            }
            Some(Ok((connection, reused, key))) => {
                let since = if reused { began } else { Instant::now() };
                context.attempts.connected(reused, since);
                return Ok(AcquiredConnection { connection, key, since, ticket });
            }
            Some(Err(failure)) => failure,
        };
        let attempts = &mut context.attempts;
        if !attempts.connect_failed(failure, version, client) {
            return Err(failure.refusal);
        }
        attempts.began = Instant::now();
    }
}

/// A connection to an endpoint: a pooled one, or a new one; whether it is reused, and its key in the pool.
async fn connection(
    pools: &Pools,
    endpoint: &Endpoint,
    timeouts: &Timeouts,
    fresh: bool,
    now: Instant,
) -> Result<(PooledConnection, bool, PoolKey), Failure> {
    let key = PoolKey::of(endpoint);
    if !fresh && let Some(connection) = pools.http1.checkout(key, now) {
        return Ok((connection, true, key));
    }
    let to = Destination::of(endpoint, timeouts);
    // Boxed because it is large and rare.
    let connection = Box::pin(connect(&to, &pools.tls)).await.map_err(|error| Failure::from(&error))?;
    Ok((connection, false, key))
}
