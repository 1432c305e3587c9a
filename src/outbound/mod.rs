//! Calls out of the process: hooks, alerts, and questions to those who measure for the judge.
//!
//! ```text
//! hook ──────────────────────────┐            secret files, read at each call
//! provider ─ prometheus ─────────┤                  │
//!          └ webhook ────────────┼─► Client ─► one POST, one connection, one bounded response
//! alert ─ delivery ─ slack ──────┤
//!                  ├ pagerduty ──┤
//!                  └ cloudevents ┘
//! ```
//!
//! Everything here is bounded: a call has a timeout, an answer a size, a queue a length. A receiver that is dead or
//! slow costs its own call and nothing else.
//!
//! Invariant: no secret (a signing key, a routing key, a URL that is one) appears in a message, an error or `Debug`
//! output. Errors name a server by scheme, host and port only.

pub(crate) mod alert;
mod backoff;
pub(crate) mod hook;
mod post;
pub mod provider;
mod secret;
mod text;
