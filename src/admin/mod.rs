//! What people and tools see of a running Weir: the control API, and the telemetry endpoints.
//!
//! ```text
//! accept (bounded) ─ serve ─ access ─► api ─► Control ─► answer        the control API
//!                    │                  └► status ◄─ snapshot, control, recorder
//!                    └────────────────► telemetry ◄─ recorder, process  /metrics /livez /readyz
//! ```
//!
//! Two listeners, because they have different readers: telemetry is read-only and safe to expose, control
//! changes traffic and stays on loopback, a unix socket or behind a token. Both belong on a runtime of their
//! own, so that an attack on them cannot slow the traffic.
//!
//! Invariant: a handler parses, calls one function and converts; it decides nothing.
//! Invariant: no GET changes state.

mod access;
mod api;
mod body;
mod extractors;
mod problem;
mod rollouts;
mod serve;
mod status;
mod telemetry;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

pub(crate) use self::access::Auth;
pub(crate) use self::serve::AdminListener;
use crate::control::Control;
use crate::model::Process;
use crate::proxy::Bound;
use crate::snapshot::Current;
use crate::telemetry::Recorder;

/// What the control API and the telemetry endpoints show and act on.
pub(crate) struct AdminState {
    /// Where changes are proposed.
    pub(crate) control: Control,
    /// What requests read.
    pub(crate) current: Current,
    /// What was counted.
    pub(crate) recorder: Arc<Recorder>,
    /// What the process is doing.
    pub(crate) process: watch::Receiver<Process>,
    /// The traffic listeners.
    pub(crate) listeners: Vec<Bound>,
    /// Where telemetry is served, if it is: the bound address.
    pub(crate) telemetry_address: Option<String>,
    /// Connections at the same time, to each of the two.
    pub(crate) max_connections: usize,
    /// When the process started.
    pub(crate) started: Instant,
}

/// Serves the control API until `shutdown`, and then until open requests are answered, a few seconds at most.
pub(crate) async fn serve_admin(
    listener: AdminListener,
    admin: Arc<AdminState>,
    auth: Auth,
    shutdown: impl Future<Output = ()>,
) {
    let max_connections = admin.max_connections;
    serve::serve(listener, api::router(admin, auth), max_connections, shutdown).await;
}

/// Serves `/metrics`, `/livez` and `/readyz` until `shutdown`, as [`serve_admin`] does.
pub(crate) async fn serve_telemetry(
    listener: AdminListener,
    admin: Arc<AdminState>,
    shutdown: impl Future<Output = ()>,
) {
    let max_connections = admin.max_connections;
    serve::serve(listener, telemetry::router(admin), max_connections, shutdown).await;
}

#[cfg(test)]
mod tests;
