//! What is measured: counters that cost a request a few nanoseconds, and the places where they are read.
//!
//! ```text
//! requests ──► series (sharded counters, resolved at compile time) ──► /metrics
//!                                                   │ each second
//!                                                   └─► window of the last minute ──► status
//! ```
//!
//! Invariants: no look-up by string, no lock and no allocation on a request's way; every label value comes from
//! the configuration or from a closed set of words; counters only rise; a version's series lives exactly as long
//! as somebody works with the version.

pub mod access_log;
mod code;
mod collector;
mod histogram;
mod label;
mod recorder;
mod registry;
mod series;
mod sharded;

mod window;

pub use self::access_log::{AccessLog, Line, Output};
pub use self::collector::{CONTENT_TYPE, Described, Exposed, METRICS, exposition};
pub use self::histogram::Edges;
pub use self::label::{
    Class, ConnectionRefusal, CutKind, DecisionReason, Outcome, RetryReason, StreamKind, UpstreamError,
};
pub use self::recorder::{Build, EndpointFact, Facts, Recorder, VersionFact};
pub use self::series::{ListenerSeries, RouteSeries, VersionSeries};
pub use self::window::WindowStats;
