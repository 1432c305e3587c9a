//! The express lane: HTTP/1.1 from client to endpoint, in one lean loop over borrowed bytes.
//!
//! ```text
//! wait for a head ─► validate ─ route ─ split ─► balance ─► pool or dial ─► relay ─► record ─┐
//!   ▲   │ not plain: HTTP/2, HTTP/1.0, `Expect`, anything to be refused                      │
//!   │   └──► the general lane, with the bytes as they came; the connection may come back     │
//!   └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The decisions are those of the general lane, made by the same functions; what is different is only how bytes move.
//! In steady state a request allocates nothing, sets no timer and wakes no other thread.
//!
//! Invariant: a request is handed over before anything of it was counted or sent.

mod body;
mod client;
mod forward;
mod relay;
mod request;
mod response;
mod serve;
mod tunnel;

pub(crate) use self::client::Client;
