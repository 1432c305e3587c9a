//! Connections to endpoints: how they are made, kept for the next request, and closed.
//!
//! ```text
//! lanes ─► H1Pool ──────────────► connector ─► tls
//!      └─► Multiplex (multiplex/) ─►
//! ```
//!
//! Nothing here knows a request: it takes bytes or an HTTP/2 head, and says what became of them.

pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod destination;
pub(crate) mod error;
pub(crate) mod multiplex;
pub(crate) mod pool;
pub(crate) mod tls;

#[cfg(test)]
mod tests;

use tokio::time::Instant;

/// One worker's connections to endpoints, and what it needs to make new ones. Only the worker's own thread uses them, so
/// its locks are never contended; none is held while something is waited for.
#[derive(Default)]
pub(crate) struct Pools {
    /// Idle connections over HTTP/1.
    pub(crate) http1: pool::H1Pool,
    /// Connections over HTTP/2.
    pub(crate) multiplex: multiplex::pool::Multiplex,
    /// TLS for both.
    pub(crate) tls: tls::TlsConnectors,
}

impl Pools {
    /// Lets go of what is over, or was not used for too long.
    pub(crate) fn sweep(&self) {
        self.sweep_at(Instant::now());
    }

    fn sweep_at(&self, now: Instant) {
        self.http1.sweep(now);
        self.multiplex.sweep(now);
        self.tls.sweep(now);
    }
}
