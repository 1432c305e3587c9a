//! Requests to HTTP/2 endpoints: connections that many requests share, and the exchange on each stream.
//!
//! ```text
//! a lane ─► pool ─► connection ─► filter ─► transport (plain or TLS)
//!      └─► stream   └ the h2 crate speaks the protocol
//! ```
//!
//! The lane keeps the client's side; see [`connection`] for why the engine's own HTTP/2 connector is not used.

pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod filter;
pub(crate) mod pool;
pub(crate) mod request;
pub(crate) mod response_rules;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod stream;
