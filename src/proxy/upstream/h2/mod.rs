//! Requests to HTTP/2 endpoints: connections that many requests share, and the exchange on each stream.
//!
//! ```text
//! general lane's hooks ─► relay ─► pool ─► connection ─► filter ─► Line (plain or TLS)
//!      ▲ decide, count, change messages ┘        └ the h2 crate speaks the protocol
//! ```
//!
//! The engine keeps the client's side; see [`connection`] for why its own HTTP/2 connector is not used.

pub(crate) mod connection;
pub(crate) mod filter;
pub(crate) mod heads;
pub(crate) mod pool;
pub(crate) mod request;
pub(crate) mod stream;

pub(crate) use self::pool::sweep;

use pingora_error::ErrorType;

/// The error type of a request that the endpoint provably did not process: its stream was refused, is above the last
/// one of a GOAWAY, or never came to be (RFC 9113 §8.7). It may be tried again whatever its method.
pub(crate) const UNPROCESSED: ErrorType = ErrorType::Custom("weir: request not processed");
