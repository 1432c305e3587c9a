//! What requests read: the configuration in compiled form, replaced by the next and never edited.
//!
//! ```text
//! config + shifts + states + live ── compile ──► Snapshot ── Publisher ──► Current ──► every request, once
//! ```
//!
//! A request loads [`Current`] once and finishes on what it got. A snapshot shares with the one before it what did not
//! change: services, each by itself, and the route table, in which a route holds the index of its service. What must
//! outlive a snapshot (availability, work in flight, counters, positions) is in [`live`] and [`crate::telemetry`],
//! found again by identity.
//!
//! Invariant: [`Publisher`] is not `Clone`; only the control owner holds it, so nothing else can change what
//! requests read.

pub mod compile;
mod compiled;
mod health_check;
mod limits;
pub(crate) mod live;
mod mirror;
mod publish;
pub(crate) mod retry;
mod service;

pub(crate) use self::compile::FLAG_HEADER;
pub use self::compiled::Snapshot;
pub(crate) use self::compiled::{ClientLimits, ListenerTls, Route, ServiceChange, all_services, changed_services};
pub(crate) use self::health_check::{CheckKind, HealthCheck};
pub(crate) use self::mirror::Mirror;
pub use self::publish::Current;
pub use self::publish::Publisher;
pub(crate) use self::service::{
    AffinityCookie, ClientPair, CookieSecure, DrainTimes, Endpoint, FlagSwitch, Service, ServiceCohort, Timeouts,
    Upstream, UpstreamTls, VERSION_HEADER, Version,
};
