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

pub(crate) mod access_log;
mod client_groups;
mod code;
mod cohort;
mod exposition;
mod facts;
mod histogram;
mod label;
mod lane;
mod last_use;
mod listener;
mod lookups;
mod metric;
mod mirror;
mod recorder;
mod registry;
mod series;
mod sharded;
mod window;

pub(crate) use access_log::AccessLog;
pub(crate) use cohort::CohortSeries;
pub(crate) use exposition::CONTENT_TYPE;
pub use exposition::exposition;
pub(crate) use facts::{
    EndpointCounts, EndpointFact, FactSource, LimitFact, NameFact, RolloutFact, SnapshotFacts, WeightFact,
};
pub(crate) use label::{
    CheckResult, Class, ConnectionRefusal, CutKind, EjectionReason, EndpointFailure, H2Abuse, InjectedFault, Lane,
    LookupResult, MirrorComparison, MirrorOutcome, RetryReason, StreamKind, UpstreamError,
};
pub use label::{DecisionReason, Outcome};
pub(crate) use listener::{ListenerSeries, OpenConnection};
pub(crate) use mirror::MirrorSeries;
pub use recorder::{Recorder, RecorderOptions};
pub use series::RouteSeries;
pub(crate) use series::{OpenGuard, VersionSeries};
pub(crate) use sharded::enlist_thread;
pub(crate) use window::WindowStats;
