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
//! | clients that keep their version | [`affinity`]; `jwt` reads a key from a token |
//! | what a client may only say if Weir signed it | `signature` |
//! | requests that are split by weights of their own | `cohort`; each split is a `plan` |
//! | what replaces a version that takes no requests, or whose breaker tripped | `fallback` |
//!
//! Invariant: without affinity the shares are exact (see [`Splitter`](weighted::Splitter)); with affinity the version
//! is a pure function of salt, key and weights, and where clients are sticky of what their cookie says too, so every
//! replica and every restart decide alike.

pub(crate) mod affinity;
mod choice;
mod chooser;
mod cohort;
mod fallback;
mod jwt;
mod plan;
mod schedule;
mod share;
mod signature;
mod weighted;

pub(crate) use self::choice::{Choice, OverrideSource, Reason};
pub use self::choice::{Failover, KeySource, SplitOptions, TokenSource};
pub use self::chooser::Chooser;
pub use self::cohort::Cohort;
pub(crate) use self::cohort::CohortCondition;
pub use self::schedule::Schedules;
pub(crate) use self::share::BreakerFlag;
pub use self::share::VersionShare;
pub use self::signature::{NotKeys, SigningKeys};

#[cfg(test)]
mod tests;
