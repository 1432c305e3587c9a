//! Which version a request gets, and why: override → affinity → weight, and failover where that one cannot.
//!
//! ```text
//! override  the request names a version and may ──────────────────────────────────────► Choice
//! affinity  hash(salt, key) → bucket → range     ─┬─► available? ─ yes ─┬─► tripped? ─ no ─► Choice
//! weight    the exact schedule (Tijdeman)        ─┘      └ no ─► failover ┘     └ yes ─► one of the rest
//! ```
//!
//! | what | file |
//! |---|---|
//! | the choice itself, and what is told of availability | `chooser` |
//! | whose turn it is by weight, and deficits across changes of weight | `weighted`, `schedule` |
//! | clients that keep their version | [`affinity`] |
//! | what replaces a version that takes no requests, or whose breaker tripped | `fallback` |
//!
//! Invariant: without affinity the shares are exact (see [`Splitter`]); with affinity the version is a pure function
//! of salt, key and weights, so every replica and every restart decide alike.

pub mod affinity;
mod choice;
mod chooser;
mod fallback;
mod schedule;
mod share;
mod weighted;

pub use self::choice::{Choice, KeySource, OverrideSource, Reason, SplitOptions};
pub use self::chooser::Chooser;
pub use self::schedule::Schedules;
pub use self::share::{BreakerFlag, VersionShare};
pub use self::weighted::Splitter;

#[cfg(test)]
mod tests;
