//! What outlives a snapshot, found again by identity: (service, version, address).
//!
//! | fact | who writes | who reads |
//! |---|---|---|
//! | the state of an endpoint ([`StateCell`]), and so whether it is available | control | balance, split, status |
//! | work in flight ([`crate::drain::Ledger`]) | requests | balance, drain, status |
//! | whether connections may be kept | control | the data plane, before it reuses a connection |
//! | since when an endpoint is new | control | balance |
//! | open upstream connections | the data plane | control, to close idle ones when a drain begins |
//! | what happened on an endpoint, and whether it is out for that (`EndpointLive::health`) | requests, whoever follows health | balance, split, status |
//! | what checks found of it | whoever follows health | balance, split, rollouts, status |
//! | a canary's errors ([`CircuitBreaker`]) | finished requests | the split, control |
//! | a version's retries under way ([`RetryCount`]) | requests | requests, before they are tried again |
//! | requests and connections of a version, and who waits for one ([`Limiter`]) | requests | requests, before they begin |
//! | copies of requests under way for a mirror, and whose turn is next ([`MirrorLive`]) | requests, the mirror | requests |
//! | how many requests a fault injection has seen ([`FaultInjection`]) | requests | the injection itself |
//!
//! Invariant: an endpoint that leaves the file and comes back while it still drains is the same one.

mod breaker;
mod check_record;
mod checks;
mod ejection;
mod endpoint;
mod fault;
mod health;
mod health_changes;
mod limiter;
mod mirror;
mod registry;
mod retry;
mod slow_start;
mod state;
mod version_health;

pub(crate) use self::breaker::CircuitBreaker;
pub(crate) use self::check_record::LastCheck;
pub(crate) use self::endpoint::{EndpointLive, UpstreamConnection};
pub(crate) use self::fault::{Fault, FaultInjection, MAX_DELAY};
pub(crate) use self::health::{LastFailure, counted};
pub(crate) use self::limiter::{Capacity, Limit, Limiter, Permit};
pub(crate) use self::mirror::{MirrorLive, MirrorPermit};
pub(crate) use self::registry::{EndpointRegistry, Limited};
pub(crate) use self::retry::RetryCount;
pub use self::state::States;
pub(in crate::snapshot) use self::state::desired;
pub(crate) use self::state::{Out, StateCell};

/// What the endpoints of one version have in common where health is concerned.
pub(crate) type VersionHealth = version_health::VersionHealth<EndpointLive>;
/// Endpoints whose health changed.
pub(crate) type HealthChanges = health_changes::HealthChanges<EndpointLive>;
