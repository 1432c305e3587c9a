//! Rollouts: moving a service from its stable version to a canary by steps, judged by what happens to requests.
//!
//! Everything here is pure: no socket, no disk, no clock. Time comes in as a [`Duration`](std::time::Duration)
//! since some fixed moment of a monotonic clock, measurements come in as values, and what is to be done goes out
//! as values. So the whole of it is tested with simulated time.
//!
//! ```text
//! plan ───────────────► engine: (state, event, observation, now) ─► (state, effects)
//! counters ─► judge ─► verdicts ──┘
//! ```

pub(crate) mod advice;
pub(crate) mod alerts;
pub(crate) mod breaker;
pub(crate) mod engine;
pub(crate) mod evidence;
mod format;
pub(crate) mod judge;
pub(crate) mod limits;
pub mod plan;
pub mod reading;
pub(crate) mod replay;
pub mod verdict;
