//! The composition root: reads the configuration, builds the leaves first, binds early, serves late, and
//! brings everything down in order.
//!
//! ```text
//! main thread            signals, shutdown sequence; admin and telemetry are served beside it
//! weir-control thread    the owner of what requests read, file watch, windows
//! weir-traffic threads   one runtime each: listeners and requests; nothing else runs there
//! weir-health thread     brings endpoints back, and asks those that accept no connections
//! weir-log, access-log   write what the others say, so that nobody waits for whoever reads it
//! ```
//!
//! Admin and telemetry are on a runtime of their own so that an attack on them cannot slow the traffic, and so
//! that they outlive it: `/livez`, `/readyz`, `/metrics` and the status answer until the process exits.

mod error;
mod lifecycle;
mod listeners;
mod log;
mod notify;
mod state;
mod workers;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) use self::error::StartError;
use self::error::system_error;
use self::lifecycle::{ShutdownOutcome, ShutdownPlan, Signals};
use self::listeners::Ipv4Ports;
use self::log::Log;
use crate::admin::{self, AdminState};
use crate::config::{self, Config, ProcessEnvironment};
use crate::control::{Control, Owner, Parts};
use crate::drain::Notifier;
use crate::model::Process;
use crate::proxy::accept::listener::Listener;
use crate::proxy::descriptors::Division;
use crate::proxy::{Bound, Proxy};
use crate::telemetry::{self, AccessLog, Recorder};

/// What `weir run` was asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
}

/// Runs Weir until it is told to stop.
///
/// # Errors
/// Why it could not start. Once it serves, it ends with `Ok` however it was told to stop.
pub fn run(options: &RunOptions) -> Result<(), StartError> {
    let admin_runtime = runtime(1, "weir-admin")?;
    // Before anything that takes time: from here on no signal ends the process without its leave.
    let mut signals =
        admin_runtime.block_on(async { Signals::new() }).map_err(system_error("cannot take over signals"))?;
    let config = config::load(&options.config, &ProcessEnvironment).map_err(StartError::Invalid)?;
    let log = Log::start().map_err(system_error("cannot start the log"))?;
    raise_file_limit();
    let outcome = admin_runtime.block_on(serve(options, config, &log, &mut signals));
    // Tasks that did not end by themselves are not waited for: what they had was cut and counted.
    admin_runtime.shutdown_background();
    outcome
}

/// A process that serves.
struct Serving {
    control: Control,
    proxy: Proxy,
    process: watch::Sender<Process>,
    plan: ShutdownPlan,
    access_log: AccessLog,
    log_worker: telemetry::access_log::LogWriter,
    _workers: workers::Workers,
}

async fn serve(options: &RunOptions, config: Config, log: &Log, signals: &mut Signals) -> Result<(), StartError> {
    let serving = tokio::select! {
        started = start(options, config, log) => started?,
        signal = signals.stop_signal() => {
            tracing::info!(%signal, "stopped before it was ready");
            return Ok(());
        }
    };
    let Serving { control, proxy, process, plan, access_log, log_worker, _workers } = serving;
    let signal = signals.serve(&control, &access_log).await;
    tracing::info!(%signal, deadline = ?plan.deadline, in_flight = proxy.in_flight(), "stopping");
    let (cut_before, began) = (proxy.cut(), Instant::now());
    let outcome = lifecycle::stop(&proxy, &process, &access_log, plan, signals).await;
    if matches!(outcome, ShutdownOutcome::Orderly) {
        // What was decided last is on the disk, if that answers in time.
        let left = plan.deadline.saturating_sub(began.elapsed());
        drop(tokio::time::timeout(left, control.stop()).await);
    }
    drop(access_log);
    report(outcome, (proxy.in_flight(), proxy.cut() - cut_before), log_worker);
    Ok(())
}

/// From the configuration to a process that is ready.
async fn start(options: &RunOptions, config: Config, log: &Log) -> Result<Serving, StartError> {
    let threads = config.runtime.threads.map_or_else(cpus, usize::from);
    let express = config.runtime.express_lane;
    let started = Instant::now();
    let (version, revision) = build();
    let recorder = Recorder::new(telemetry::RecorderOptions { threads: threads + 1, version, revision, started });
    recorder.count_log_drops(log.dropped());
    let (access_log, log_worker) = listeners::access_log(&config, &recorder)?;
    let notifier = Notifier::default();
    let plan = ShutdownPlan { deadline: config.shutdown.deadline.get(), delay: config.shutdown.delay() };
    let (telemetry_at, admin_at) = (config.telemetry.clone(), config.admin.clone());
    let (listener_settings, ipv4_ports) = (config.listeners.clone(), Ipv4Ports::of(&config));
    let parts = Parts {
        path: options.config.clone(),
        journal: state::open(&config)?,
        config,
        environment: Box::new(ProcessEnvironment),
        recorder: Arc::clone(&recorder),
        notifier: notifier.clone(),
    };
    let (owner, control, current) = Owner::new(parts).await.map_err(|error| StartError::Unusable(error.lines()))?;
    let proxy = Proxy::new(current.clone(), Arc::clone(&recorder), access_log.clone(), notifier, express);
    let ready = workers::prepare(&proxy, threads)?;
    let sockets = listeners::bind(&listener_settings, &ipv4_ports, &current, &recorder, threads)?;
    let bound: Vec<Bound> = sockets
        .iter()
        .filter_map(|listener| listener.first())
        .map(Listener::bound)
        .collect::<io::Result<_>>()
        .map_err(system_error("listeners"))?;
    let telemetry = listeners::telemetry(telemetry_at.as_ref(), &ipv4_ports)?;
    let admin = listeners::admin(&admin_at, &ipv4_ports)?;
    let (process, process_now) = watch::channel(Process::Starting);
    let admin_state = Arc::new(AdminState {
        control: control.clone(),
        current,
        recorder: Arc::clone(&recorder),
        process: process_now,
        listeners: bound.clone(),
        telemetry_address: telemetry.as_ref().map(|socket| socket.address.clone()),
        max_connections: Division::now().operator_connections,
        started,
    });
    if let Some(socket) = telemetry {
        tokio::spawn(admin::serve_telemetry(socket.listener, Arc::clone(&admin_state), std::future::pending()));
    }
    let admin_address = admin.address.clone();
    tokio::spawn(admin::serve_admin(admin.listener, admin_state, admin.auth, std::future::pending()));
    start_thread("weir-control", move || run_control(owner))?;
    let (followed, mirrored) = (proxy.clone(), proxy.clone());
    start_thread("weir-health", move || run_health(&followed))?;
    start_thread("weir-mirror", move || run_mirror(&mirrored))?;
    let workers = workers::start(ready, sockets)?;
    process.send_replace(Process::Ready);
    for listener in &bound {
        tracing::info!(listener = %listener.name, address = %listener.address, "listening");
    }
    tracing::info!(admin = %admin_address, config = %options.config.display(), "ready");
    notify::notify("READY=1");
    Ok(Serving { control, proxy, process, plan, access_log, log_worker, _workers: workers })
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Says how it ended, and lets the last access log lines out.
fn report(outcome: ShutdownOutcome, (left, cut): (u64, u64), log_worker: telemetry::access_log::LogWriter) {
    match outcome {
        ShutdownOutcome::Orderly => tracing::info!(cut, left, "stopped"),
        ShutdownOutcome::AtOnce(signal) => tracing::warn!(%signal, cut, left, "stopped at once by a second signal"),
    }
    if log_worker.finish(FLUSH_TIMEOUT) == telemetry::access_log::Flushed::TimedOut {
        tracing::warn!("the last access log lines were not taken in time");
    }
}

/// How long the last access log lines may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts a thread beside the workers.
fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(system_error("cannot start a thread"))
}

/// How far the control thread steps back: where every CPU is busy with requests it still gets a tenth of one, and a
/// reload of many routes does not make a request wait for its turn.
const CONTROL_NICE: i32 = 10;

/// The control thread: one task, and what it blocks on blocks nobody else.
fn run_control(owner: Owner) {
    // No process is named, which is this thread alone (setpriority(2), "C library/kernel differences").
    if let Err(error) = rustix::process::setpriority_process(None, CONTROL_NICE) {
        tracing::debug!(%error, "the control thread keeps the priority of the others");
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(owner.run()),
        Err(error) => tracing::error!(%error, "the control thread has no runtime; changes are not possible"),
    }
}

/// The health thread: it is neither slowed by requests nor by changes of the configuration, or it would find endpoints slow
/// that are not.
fn run_health(proxy: &Proxy) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(proxy.follow_health()),
        Err(error) => tracing::error!(%error, "the health thread has no runtime; endpoints are not brought back"),
    }
}

/// The mirror thread: what copies of requests cost is not paid by those who carry the requests.
fn run_mirror(proxy: &Proxy) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(proxy.send_mirrored()),
        Err(error) => tracing::error!(%error, "the mirror thread has no runtime; copies of requests are not sent"),
    }
}

fn runtime(threads: usize, name: &str) -> Result<Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(8)
        .thread_name(name)
        .on_thread_start(telemetry::enlist_thread)
        .enable_all()
        .build()
        .map_err(system_error("cannot start threads"))
}

/// What was built: version and source revision.
#[must_use]
pub(crate) fn build() -> (&'static str, &'static str) {
    (env!("CARGO_PKG_VERSION"), option_env!("WEIR_REVISION").unwrap_or("unknown"))
}

/// Each client connection and each upstream connection needs a descriptor (upstream ones two).
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    Division::now().apply();
}
