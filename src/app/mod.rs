//! The composition root: reads the configuration, builds the leaves first, binds early, serves late, and
//! brings everything down in order.
//!
//! ```text
//! main thread            signals, shutdown sequence; admin and telemetry are served beside it
//! weir-control thread    the owner of what requests read, file watch, windows
//! weir-traffic threads   one runtime each: listeners and requests; nothing else runs there
//! weir-log, access-log   write what the others say, so that nobody waits for whoever reads it
//! ```
//!
//! Admin and telemetry are on a runtime of their own so that an attack on them cannot slow the traffic, and so
//! that they outlive it: `/livez`, `/readyz`, `/metrics` and the status answer until the process exits.

mod lifecycle;
mod listeners;
mod log;
mod notify;
mod state;
mod workers;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::lifecycle::{Ending, Plan, Signals};
use self::listeners::Taken;
use self::log::Log;
use crate::admin::{self, Faces};
use crate::config::{self, Config, Diagnostics, ProcessEnvironment};
use crate::control::{Control, Owner, Parts};
use crate::drain::Bell;
use crate::model::Process;
use crate::proxy::accept::listener::Listener;
use crate::proxy::descriptors::Division;
use crate::proxy::{Bound, Lanes, Proxy};
use crate::telemetry::{self, AccessLog, Recorder};

/// What `weir run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
}

/// Why Weir does not run.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is not valid.
    Invalid(Diagnostics),
    /// What the configuration names cannot be used.
    Unusable(Vec<String>),
    /// The system refused something.
    System {
        /// What was wanted.
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Failure {
    /// The exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::Unusable(_) => 3,
            Self::System { .. } => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(diagnostics) => diagnostics.fmt(f),
            Self::Unusable(lines) => write!(f, "the configuration cannot be used:\n{}", lines.join("\n")),
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

/// Attaches to a system error what was wanted.
fn wanted(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let what = what.into();
    move |error| Failure::System { what, error }
}

/// Runs Weir until it is told to stop.
///
/// # Errors
/// Why it could not start. Once it serves, it ends with `Ok` however it was told to stop.
pub fn run(options: &Options) -> Result<(), Failure> {
    let faces = runtime(1, "weir-admin")?;
    // Before anything that takes time: from here on no signal ends the process without its leave.
    let mut signals = faces.block_on(async { Signals::new() }).map_err(wanted("cannot take over signals"))?;
    let config = config::load(&options.config, &ProcessEnvironment).map_err(Failure::Invalid)?;
    let log = Log::start().map_err(wanted("cannot start the log"))?;
    raise_file_limit();
    let ending = faces.block_on(serve(options, config, &log, &mut signals));
    // Tasks that did not end by themselves are not waited for: what they had was cut and counted.
    faces.shutdown_background();
    ending
}

/// A process that serves.
struct Serving {
    control: Control,
    proxy: Proxy,
    process: watch::Sender<Process>,
    plan: Plan,
    access_log: AccessLog,
    log_worker: telemetry::access_log::Worker,
    _workers: workers::Workers,
}

async fn serve(options: &Options, config: Config, log: &Log, signals: &mut Signals) -> Result<(), Failure> {
    let serving = tokio::select! {
        started = start(options, config, log) => started?,
        signal = signals.told_to_stop() => {
            tracing::info!(%signal, "stopped before it was ready");
            return Ok(());
        }
    };
    let Serving { control, proxy, process, plan, access_log, log_worker, _workers } = serving;
    let signal = signals.serve(&control, &access_log).await;
    tracing::info!(%signal, deadline = ?plan.deadline, in_flight = proxy.in_flight(), "stopping");
    let cut_before = proxy.cut();
    let ending = lifecycle::stop(&proxy, &process, &access_log, plan, signals).await;
    drop(access_log);
    report(ending, (proxy.in_flight(), proxy.cut() - cut_before), log_worker);
    Ok(())
}

/// From the configuration to a process that is ready.
async fn start(options: &Options, config: Config, log: &Log) -> Result<Serving, Failure> {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = config.runtime.threads.map_or_else(cores, usize::from);
    let started = std::time::Instant::now();
    let (version, revision) = build();
    let recorder = Recorder::new(telemetry::Options { threads: threads + 1, version, revision, started });
    recorder.count_log_drops(log.dropped());
    let (access_log, log_worker) = listeners::access_log(&config, &recorder)?;
    let bell = Bell::default();
    let plan = Plan { deadline: config.shutdown.deadline.get(), delay: config.shutdown.delay() };
    let (telemetry_at, admin_at) = (config.telemetry.clone(), config.admin.clone());
    let (listener_settings, taken) = (config.listeners.clone(), Taken::of(&config));
    let lanes = Lanes { workers: threads, express: config.runtime.express_lane };
    let parts = Parts {
        path: options.config.clone(),
        store: state::open(&config)?,
        config,
        environment: Box::new(ProcessEnvironment),
        recorder: Arc::clone(&recorder),
        bell: bell.clone(),
    };
    let (owner, control, current) = Owner::new(parts).await.map_err(Failure::Unusable)?;
    let proxy = Proxy::new(current.clone(), Arc::clone(&recorder), access_log.clone(), bell, lanes);
    let ready = workers::prepare(&proxy, threads)?;
    let sockets = listeners::bind(&listener_settings, &taken, &current, &recorder, threads)?;
    let bound: Vec<Bound> = sockets
        .iter()
        .filter_map(|listener| listener.first())
        .map(Listener::bound)
        .collect::<io::Result<_>>()
        .map_err(wanted("listeners"))?;
    let telemetry = listeners::telemetry(telemetry_at.as_ref(), &taken)?;
    let admin = listeners::admin(&admin_at, &taken)?;
    let (process, process_now) = watch::channel(Process::Starting);
    let faces = Arc::new(Faces {
        control: control.clone(),
        current,
        recorder: Arc::clone(&recorder),
        process: process_now,
        listeners: bound.clone(),
        telemetry_address: telemetry.as_ref().map(|socket| socket.address.clone()),
        places: Division::now().faces,
        started,
    });
    if let Some(socket) = telemetry {
        tokio::spawn(admin::serve_telemetry(socket.listener, Arc::clone(&faces), std::future::pending()));
    }
    let admin_address = admin.address.clone();
    tokio::spawn(admin::serve_admin(admin.listener, faces, admin.auth, std::future::pending()));
    std::thread::Builder::new()
        .name("weir-control".to_owned())
        .spawn(move || own(owner))
        .map_err(wanted("cannot start the control thread"))?;
    let workers = workers::start(ready, sockets)?;
    process.send_replace(Process::Ready);
    for listener in &bound {
        tracing::info!(listener = %listener.name, address = %listener.address, "listening");
    }
    tracing::info!(admin = %admin_address, config = %options.config.display(), "ready");
    notify::notify("READY=1");
    Ok(Serving { control, proxy, process, plan, access_log, log_worker, _workers: workers })
}

/// Says how it ended, and lets the last access log lines out.
fn report(ending: Ending, (left, cut): (u64, u64), log_worker: telemetry::access_log::Worker) {
    match ending {
        Ending::Orderly => tracing::info!(cut, left, "stopped"),
        Ending::AtOnce(signal) => tracing::warn!(%signal, cut, left, "stopped at once by a second signal"),
    }
    if log_worker.finish(FLUSH) == telemetry::access_log::Flushed::TimedOut {
        tracing::warn!("the last access log lines were not taken in time");
    }
}

/// How long the last access log lines may take.
const FLUSH: Duration = Duration::from_secs(1);

/// How far the control thread steps back: where every CPU is busy with requests it still gets a tenth of one, and a
/// reload of many routes does not make a request wait for its turn.
const CONTROL_NICE: i32 = 10;

/// The control thread: one task, and what it blocks on blocks nobody else.
fn own(owner: Owner) {
    // No process is named, which is this thread alone (setpriority(2), "C library/kernel differences").
    if let Err(error) = rustix::process::setpriority_process(None, CONTROL_NICE) {
        tracing::debug!(%error, "the control thread keeps the priority of the others");
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(owner.run()),
        Err(error) => tracing::error!(%error, "the control thread has no runtime; changes are not possible"),
    }
}

fn runtime(threads: usize, name: &str) -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(8)
        .thread_name(name)
        .on_thread_start(telemetry::enlist_thread)
        .enable_all()
        .build()
        .map_err(wanted("cannot start threads"))
}

/// What was built: version and source revision.
#[must_use]
pub fn build() -> (&'static str, &'static str) {
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
    Division::now().keep();
}
