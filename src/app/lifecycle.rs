//! From ready to gone: signals, and the order in which a process that must stop does so without harm.
//!
//! ```text
//! SIGTERM ─ /readyz 503, every response announces the close, still accepting
//!   │ at least `delay`, then until nothing has arrived for a moment
//!   ├ accept queues emptied, listeners closed
//!   │ in flight = 0, then idle connections end
//!   ├ exit 0                                    or, shortly before the deadline, what is left is cut and counted
//! ```
//!
//! A second SIGTERM or SIGINT ends the process at once. One number, the deadline, governs all of it.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::notify::notify;
use crate::control::Control;
use crate::model::Process;
use crate::proxy::Proxy;
use crate::telemetry::AccessLog;

/// The signals of the process.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until the process is told to stop; reloads on SIGHUP meanwhile.
    pub(super) async fn serve(&mut self, control: &Control, access_log: &AccessLog) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.int.recv() => return "SIGINT",
                _ = self.hup.recv() => {
                    notify("RELOADING=1");
                    access_log.reopen();
                    tokio::select! {
                        // The outcome is logged, counted and shown by the status.
                        _ = control.reload() => {}
                        // A resolver that does not answer must not hold the stop up.
                        _ = self.term.recv() => return "SIGTERM",
                        _ = self.int.recv() => return "SIGINT",
                    }
                    notify("READY=1");
                }
            }
        }
    }

    /// Waits for another order to stop.
    async fn again(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// How a process stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// From the signal to the exit, at most.
    pub(super) deadline: Duration,
    /// How long new connections are accepted, at least.
    pub(super) delay: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything in flight finished or was cut at the deadline.
    Orderly,
    /// A second signal ended it.
    AtOnce,
}

/// Nothing arriving for this long is a quiet moment.
const QUIET: Duration = Duration::from_millis(500);
/// How often the way down is looked at.
const LOOK: Duration = Duration::from_millis(20);

impl Plan {
    /// New connections are refused at the latest after this, however many still come.
    fn latest_stop(&self) -> Duration {
        self.delay.max(self.deadline * 3 / 5)
    }

    /// What is left is cut this long after the signal, so that the cut is over before the deadline.
    fn cut(&self) -> Duration {
        self.deadline.saturating_sub(Duration::from_secs(1).min(self.deadline / 5))
    }
}

/// Brings the process down in order; a second signal ends it at once.
pub(super) async fn stop(proxy: &Proxy, process: &watch::Sender<Process>, plan: Plan, signals: &mut Signals) -> Ending {
    process.send_replace(Process::Draining);
    notify("STOPPING=1");
    proxy.announce_close();
    tokio::select! {
        () = wind_down(proxy, plan) => Ending::Orderly,
        () = signals.again() => Ending::AtOnce,
    }
}

async fn wind_down(proxy: &Proxy, plan: Plan) {
    let began = Instant::now();
    until(began, plan.latest_stop(), || began.elapsed() >= plan.delay && proxy.quiet() >= QUIET.min(plan.delay)).await;
    proxy.stop_accepting();
    tracing::info!(in_flight = proxy.in_flight(), connections = proxy.connections(), "accepting no more connections");
    let quiet = || proxy.in_flight() == 0 && (proxy.connections() == 0 || proxy.quiet() >= QUIET);
    if !until(began, plan.cut(), quiet).await {
        tracing::warn!(in_flight = proxy.in_flight(), "the deadline is near: what is left is cut");
        proxy.cut_all();
        until(began, plan.deadline, || proxy.in_flight() == 0).await;
    }
    proxy.end_idle();
    // Connections that were told to end do so at once; one that does not is not waited for.
    until(Instant::now(), QUIET, || proxy.connections() == 0).await;
    // A request that came in at the last moment was accepted, so it is served.
    if !until(began, plan.cut(), || proxy.in_flight() == 0).await {
        proxy.cut_all();
    }
    until(began, plan.deadline, || proxy.in_flight() == 0).await;
}

/// Waits until `done`, at most until `limit` after `began`; whether it was done.
async fn until(began: Instant, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        if began.elapsed() >= limit {
            return false;
        }
        sleep(LOOK).await;
    }
}
