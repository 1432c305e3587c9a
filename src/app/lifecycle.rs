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
//! SIGINT and SIGQUIT are the same. A second one of them ends the process at once. One number, the deadline, governs
//! all of it.

use std::fmt;
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::task::Poll;
use std::time::Duration;

use rustix::process::Signal as ProcessSignal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::notify::notify;
use crate::control::Control;
use crate::model::Process;
use crate::proxy::Proxy;
use crate::telemetry::AccessLog;

/// The signals of the process: every one that would end it by the system's default and can be taken over. Those that
/// tell of a fault of the program (SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP) keep the default: a
/// program that goes on after one is wrong about what it does.
pub(super) struct Signals(Vec<(Signal, SignalName, Meaning)>);

/// What a signal is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalName {
    Known(&'static str),
    /// A real-time signal, which has no name that all C libraries share.
    Number(i32),
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name) => f.write_str(name),
            Self::Number(number) => write!(f, "signal {number}"),
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Stop in good order.
    Stop,
    /// Read the configuration again.
    Reload,
    /// Open log files anew.
    Reopen,
    /// Nothing that Weir knows. It must not end the process all the same: a script that was written for another
    /// program would cut every request.
    Nothing,
}

/// Those to stop come first, so that nothing keeps them waiting.
const MEANINGS: [(ProcessSignal, &str, Meaning); 14] = [
    (ProcessSignal::TERM, "SIGTERM", Meaning::Stop),
    (ProcessSignal::INT, "SIGINT", Meaning::Stop),
    (ProcessSignal::QUIT, "SIGQUIT", Meaning::Stop),
    (ProcessSignal::HUP, "SIGHUP", Meaning::Reload),
    (ProcessSignal::USR1, "SIGUSR1", Meaning::Reopen),
    (ProcessSignal::USR2, "SIGUSR2", Meaning::Nothing),
    (ProcessSignal::ALARM, "SIGALRM", Meaning::Nothing),
    (ProcessSignal::VTALARM, "SIGVTALRM", Meaning::Nothing),
    (ProcessSignal::PROF, "SIGPROF", Meaning::Nothing),
    (ProcessSignal::IO, "SIGIO", Meaning::Nothing),
    (ProcessSignal::STKFLT, "SIGSTKFLT", Meaning::Nothing),
    (ProcessSignal::POWER, "SIGPWR", Meaning::Nothing),
    (ProcessSignal::XCPU, "SIGXCPU", Meaning::Nothing),
    // A write beyond the limit of a file's size fails instead, and is counted where it happened.
    (ProcessSignal::XFSZ, "SIGXFSZ", Meaning::Nothing),
];

/// Real-time signals. They mean nothing to Weir.
const REAL_TIME: RangeInclusive<i32> = 32..=64;

impl Signals {
    /// Takes the signals over from the system's defaults, for good.
    pub(super) fn new() -> std::io::Result<Self> {
        let take = |(what, name, meaning): (ProcessSignal, _, _)| {
            Ok((signal(SignalKind::from_raw(what.as_raw()))?, SignalName::Known(name), meaning))
        };
        let mut all = MEANINGS.into_iter().map(take).collect::<std::io::Result<Vec<_>>>()?;
        for number in REAL_TIME {
            // The C library keeps the first two or three for itself, and refuses to give them.
            if let Ok(taken) = signal(SignalKind::from_raw(number)) {
                all.push((taken, SignalName::Number(number), Meaning::Nothing));
            }
        }
        Ok(Self(all))
    }

    /// The next signal of those `wanted`; others stay until they are.
    async fn next(&mut self, wanted: impl Fn(Meaning) -> bool) -> (SignalName, Meaning) {
        poll_fn(|cx| {
            for (signal, name, meaning) in &mut self.0 {
                if wanted(*meaning) && signal.poll_recv(cx).is_ready() {
                    return Poll::Ready((*name, *meaning));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until the process is told to stop, and by what.
    pub(super) async fn stop_signal(&mut self) -> SignalName {
        self.next(|meaning| meaning == Meaning::Stop).await.0
    }

    /// Waits until the process is told to stop; reloads and opens logs anew meanwhile.
    pub(super) async fn serve(&mut self, control: &Control, access_log: &AccessLog) -> SignalName {
        loop {
            match self.next(|_| true).await {
                (name, Meaning::Stop) => return name,
                (_, Meaning::Reload) => {
                    notify("RELOADING=1");
                    access_log.reopen();
                    tokio::select! {
                        // The outcome is logged, counted and shown by the status.
                        _ = control.reload(false) => {}
                        // A resolver that does not answer must not hold the stop up.
                        name = self.stop_signal() => return name,
                    }
                    notify("READY=1");
                }
                (name, Meaning::Reopen) => reopen(name, access_log),
                (name, Meaning::Nothing) => tracing::info!("{name} means nothing to weir and is ignored"),
            }
        }
    }

    /// Waits for another order to stop.
    async fn second_stop(&mut self, access_log: &AccessLog) -> SignalName {
        loop {
            match self.next(|_| true).await {
                (name, Meaning::Stop) => return name,
                (name, Meaning::Reopen) => reopen(name, access_log),
                (name, _) => tracing::info!("{name} is ignored: the process stops"),
            }
        }
    }
}

fn reopen(name: SignalName, access_log: &AccessLog) {
    tracing::info!("{name}: the access log is opened anew if it is a file");
    access_log.reopen();
}

/// How a process stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShutdownPlan {
    /// From the signal to the exit, at most.
    pub(super) deadline: Duration,
    /// How long new connections are accepted, at least.
    pub(super) delay: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownOutcome {
    /// Everything in flight finished or was cut at the deadline.
    Orderly,
    /// A second signal, this one, ended it.
    AtOnce(SignalName),
}

/// Nothing arriving for this long is a quiet moment.
const QUIET_PERIOD: Duration = Duration::from_millis(500);
/// How often the way down is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl ShutdownPlan {
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
pub(super) async fn stop(
    proxy: &Proxy,
    process: &watch::Sender<Process>,
    access_log: &AccessLog,
    plan: ShutdownPlan,
    signals: &mut Signals,
) -> ShutdownOutcome {
    process.send_replace(Process::Draining);
    notify("STOPPING=1");
    proxy.announce_close();
    tokio::select! {
        () = wind_down(proxy, plan) => ShutdownOutcome::Orderly,
        name = signals.second_stop(access_log) => ShutdownOutcome::AtOnce(name),
    }
}

async fn wind_down(proxy: &Proxy, plan: ShutdownPlan) {
    let began = Instant::now();
    until(began, plan.latest_stop(), || began.elapsed() >= plan.delay && proxy.quiet() >= QUIET_PERIOD.min(plan.delay))
        .await;
    proxy.stop_accepting();
    tracing::info!(in_flight = proxy.in_flight(), connections = proxy.connections(), "accepting no more connections");
    let quiet = || proxy.in_flight() == 0 && (proxy.connections() == 0 || proxy.quiet() >= QUIET_PERIOD);
    if !until(began, plan.cut(), quiet).await {
        tracing::warn!(in_flight = proxy.in_flight(), "the deadline is near: what is left is cut");
        proxy.cut_all();
        until(began, plan.deadline, || proxy.in_flight() == 0).await;
    }
    proxy.end_idle();
    // Connections that were told to end do so at once; one that does not is not waited for.
    until(Instant::now(), QUIET_PERIOD, || proxy.connections() == 0).await;
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
        sleep(POLL_INTERVAL).await;
    }
}
