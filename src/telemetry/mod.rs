//! What happened: counters, gauges, histograms, the last minute of each version, and the access log.
//!
//! ```text
//!               handles, held by the snapshot
//! request ──►  RouteSeries · VersionSeries · ListenerSeries ──► sharded counters
//!    │                                                              │
//!    │                                      Recorder ◄──────────────┤
//!    │                                     /        \               │
//!    │                            exposition        window ─► status, judge
//!    └─ Line ──► AccessLog ─(bounded queue)─► its thread ─► stdout, stderr, file
//! ```
//!
//! The recorder is our own because the hot path must not look anything up, lock or allocate; the
//! `prometheus` crate is the format on the way out. A request's handles are found when a snapshot is
//! compiled and live as long as somebody uses them, so series survive reloads and end with their drain.
//!
//! Invariants: this module knows only `model`; label values never come from a client; a blocked scrape or a
//! blocked log never blocks a request.

pub mod access_log;
mod code;
mod exposition;
mod facts;
mod histogram;
mod label;
mod lane;
mod last_use;
mod listener;
mod metric;
mod recorder;
mod registry;
mod ring;
mod series;
mod sharded;
mod window;

pub use access_log::AccessLog;
pub use exposition::{CONTENT_TYPE, MetricFamilies, exposition};
pub use facts::{EndpointFact, FactSource, RolloutFact, SnapshotFacts, WeightFact};
pub use histogram::Edges;
pub use label::{
    Class, ConnectionRefusal, CutKind, DecisionReason, InjectedFault, Lane, Outcome, RetryReason, StreamKind,
    UpstreamError,
};
pub use lane::{LaneSeries, Unread};
pub use last_use::LastUse;
pub use listener::{ListenerSeries, OpenConnection};
pub use metric::{METRICS, Metric, MetricKind};
pub use recorder::{Recorder, RecorderOptions};
pub use ring::SampleRing;
pub use series::{OpenGuard, RouteSeries, VersionSeries};
pub use sharded::enlist_thread;
pub use window::{Totals, WindowStats};
