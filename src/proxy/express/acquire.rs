//! Finds an endpoint of a request's version, and a connection over HTTP/1 or a stream over HTTP/2 to it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::context::ExpressContext;
use crate::drain::{Ledger, Ticket};
use crate::proxy::request::context::Assignment;
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{CONNECT_TIMEOUT, DRAINED, Failure};
use crate::proxy::upstream::connection::PooledConnection;
use crate::proxy::upstream::connector::connect;
use crate::proxy::upstream::destination::{Destination, PoolKey};
use crate::proxy::upstream::multiplex::stream::Stream;
use crate::proxy::upstream::{Pools, multiplex};
use crate::snapshot::{Endpoint, Timeouts};
use crate::traffic::Refusal;

/// A way to an endpoint while a request uses it.
pub(crate) struct Acquired<'s, C> {
    pub(crate) connection: C,
    pub(crate) endpoint: &'s Endpoint,
    /// Since when it is acquired.
    pub(crate) since: Instant,
    pub(crate) ticket: Ticket<&'s Ledger>,
}

/// A connection over HTTP/1 to an endpoint while a request uses it.
pub(crate) type AcquiredConnection<'s> = Acquired<'s, PooledConnection>;

/// A stream over HTTP/2 to an endpoint while a request uses it.
pub(crate) type AcquiredStream<'s> = Acquired<'s, Stream>;

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

/// Finds an endpoint and a connection over HTTP/1 to it, trying another endpoint where that is allowed. `fresh`: no
/// pooled connection may be used.
///
/// # Errors
/// What to answer.
pub(crate) async fn connection<'s>(
    context: &mut ExpressContext<'s>,
    pools: &Pools,
    first: Option<ChosenEndpoint<'s>>,
    fresh: bool,
) -> Result<AcquiredConnection<'s>, Refusal> {
    acquire(context, first, |want| http1(pools, Want { fresh: want.fresh || fresh, ..want })).await
}

/// Finds an endpoint and a stream over HTTP/2 to it, trying another endpoint where that is allowed.
///
/// # Errors
/// What to answer.
pub(crate) async fn stream<'s>(context: &mut ExpressContext<'s>, pools: &Pools) -> Result<AcquiredStream<'s>, Refusal> {
    acquire(context, None, |want| http2(pools, want)).await
}

/// What an attempt wants to be connected to.
struct Want<'s> {
    endpoint: &'s Endpoint,
    timeouts: &'s Timeouts,
    /// No connection may be used that carried a request.
    fresh: bool,
    began: Instant,
}

/// Finds an endpoint and what `connect` makes of it, which also says whether it is reused.
async fn acquire<'s, C, F: Future<Output = Result<(C, bool), Failure>>>(
    context: &mut ExpressContext<'s>,
    mut first: Option<ChosenEndpoint<'s>>,
    connect: impl Fn(Want<'s>) -> F,
) -> Result<Acquired<'s, C>, Refusal> {
    loop {
        let Assignment { version, service, .. } = context.assigned;
        if let Some(pause) = context.attempts.take_pause() {
            wait(context, pause).await;
            context.attempts.began = Instant::now();
        }
        let Some(ChosenEndpoint { endpoint, ticket }) = first.take().or_else(|| context.choose()) else {
            return Err(context.attempts.no_endpoint(version));
        };
        let began = context.attempts.began;
        let want = Want { endpoint, timeouts: &service.timeouts, fresh: context.attempts.is_fresh(), began };
        let mut connecting = pin!(connect(want));
        let is_cut = || context.is_cut() || ticket.is_due();
        let (deadline, mut late) = (context.attempts.deadline(), None);
        let connected = poll_fn(|cx| {
            if is_cut() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Some(connected));
            }
            let Some(deadline) = deadline else { return Poll::Pending };
            let late = late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            late.as_mut().poll(cx).map(|()| Some(Err(CONNECT_TIMEOUT)))
        })
        .await;
        let failure = match connected {
            None => {
                ticket.count_cut();
                context.progress.ended = Some(End::Cut);
                return Err(DRAINED);
            }
            Some(Ok((connection, reused))) => {
                let since = if reused { began } else { Instant::now() };
                context.attempts.connected(reused, since);
                return Ok(Acquired { connection, endpoint, since, ticket });
            }
            Some(Err(failure)) => failure,
        };
        let attempts = &mut context.attempts;
        let refusal = failure.refusal;
        if !attempts.connect_failed(failure, version, Instant::now())
            && !context.is_rescued((refusal.status, Some(refusal.cause)), || true)
        {
            return Err(refusal);
        }
    }
}

/// Waits before an endpoint is tried again, unless everything must end.
async fn wait(context: &ExpressContext<'_>, pause: Duration) {
    // Boxed because it is large and rare.
    let mut over = Box::pin(tokio::time::sleep(pause));
    poll_fn(|cx| if context.is_cut() { Poll::Ready(()) } else { over.as_mut().poll(cx) }).await;
}

/// A connection to an endpoint: a pooled one, or a new one; whether it is reused.
async fn http1(pools: &Pools, want: Want<'_>) -> Result<(PooledConnection, bool), Failure> {
    let Want { endpoint, timeouts, fresh, began } = want;
    if !fresh && let Some(connection) = pools.http1.checkout(PoolKey::of(endpoint), began) {
        return Ok((connection, true));
    }
    let to = Destination::of(endpoint, timeouts);
    // Boxed because it is large and rare.
    let connection = Box::pin(connect(&to, &pools.tls)).await.map_err(|error| Failure::from(&error))?;
    Ok((connection, false))
}

/// A stream to an endpoint; whether its connection carried a request before.
async fn http2(pools: &Pools, want: Want<'_>) -> Result<(Stream, bool), Failure> {
    let Want { endpoint, timeouts, fresh, .. } = want;
    if !fresh && let Some(stream) = pools.multiplex.try_acquire(PoolKey::of(endpoint)) {
        let reused = stream.is_reused();
        return Ok((stream, reused));
    }
    let to = Destination::of(endpoint, timeouts);
    // Boxed because it is large and rare.
    let acquired = Box::pin(multiplex::acquire(pools, &to, fresh)).await;
    let stream = acquired.map_err(|error| Failure::from(&error))?;
    let reused = stream.is_reused();
    Ok((stream, reused))
}
