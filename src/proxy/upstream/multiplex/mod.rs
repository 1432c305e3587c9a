//! Requests to HTTP/2 endpoints: one connection of a worker carries the streams of many clients.
//!
//! ```text
//! a lane ─► pool ─► stream ─► state ─► driver ─► transport (plain or TLS)
//!                     ▲       │ frames, HPACK (codec), windows, floods, liveness
//!                     └───────┘ wakes
//! ```
//!
//! Frames and HPACK are our own ([`codec`](crate::proxy::codec)): a library would hide what decides whether a request may be
//! tried again, and cost several times as much.

pub(super) mod connection;
pub(super) mod driver;
pub(crate) mod failure;
pub(super) mod flood;
pub(super) mod incoming;
pub(super) mod liveness;
pub(crate) mod pool;
pub(super) mod settings;
pub(super) mod sharing;
pub(crate) mod slot;
pub(super) mod spare;
pub(super) mod state;
pub(crate) mod stream;
pub(super) mod streams;
pub(super) mod window;

#[cfg(test)]
mod tests;

use self::stream::Stream;
use super::Pools;
use super::destination::Destination;
use super::error::ConnectError;

/// A stream on a connection to an endpoint, which is made where there is none with room; on a `fresh` one the request is
/// the first.
///
/// # Errors
/// If no connection can be made.
pub(crate) async fn acquire(pools: &Pools, to: &Destination, fresh: bool) -> Result<Stream, ConnectError> {
    pools.multiplex.acquire(to, &pools.tls, fresh).await
}
