//! The command line: what was asked, and the one place where that ends as text and an exit code.
//!
//! ```text
//! arguments ─ clap ─► Command ─► run · check · operate · status · rollout · import · demo ─► () or Failure ─► exit code
//! ```
//!
//! Data goes to stdout, everything else to stderr; colours only where a person looks at it. Commands that talk
//! to a running Weir know its JSON ([`crate::admin::wire`]) and nothing of its insides.
//!
//! Invariant: only [`run`] turns a failure into text; commands return it.

mod arguments;
mod check;
mod control_api;
mod demo;
mod failure;
mod import;
mod operate;
mod rollout;
mod screen;
mod status;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};

use self::arguments::{Cli, Command, ConfigFile, ImportFrom};
use self::failure::{Exit, Failure};
use crate::model::EndpointState;
use crate::{app, config};

/// Does what the arguments of this process ask for.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, mistakes to stderr with 2. There is nowhere to report that
            // this failed.
            drop(error.print());
            return if error.use_stderr() { Exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let serves = matches!(cli.command, Command::Run(_));
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            let write = move || drop(write!(anstream::stderr(), "{text}"));
            if serves {
                in_time(write)
            } else {
                write()
            }
            failure.exit.into()
        }
    }
}

/// Writes, but waits for a reader only so long: whoever supervises a server waits for it to end, and may not read.
fn in_time(write: impl FnOnce() + Send + 'static) {
    let (writing, written) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        write();
        drop(writing);
    });
    // What comes of it is known by the exit code.
    let _ = written.recv_timeout(Duration::from_secs(1));
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(file) => run_proxy(&file),
        Command::Check(arguments) => check::run(&arguments),
        Command::Schema => print(&config::schema()),
        Command::Completions { shell } => print(&completions(shell)),
        Command::Status(arguments) => block_on(status::run(&arguments)),
        Command::Reload(arguments) => block_on(operate::reload(&arguments)),
        Command::Weight(arguments) => block_on(operate::weight(&arguments)),
        Command::Flag(arguments) => block_on(operate::flag(arguments)),
        Command::Drain(arguments) => block_on(operate::drain(&arguments, EndpointState::Drain)),
        Command::Maint(arguments) => block_on(operate::drain(&arguments, EndpointState::Maint)),
        Command::Ready(arguments) => block_on(operate::ready(&arguments)),
        Command::Healthcheck(arguments) => block_on(operate::healthcheck(&arguments)),
        Command::Rollout { what } => block_on(rollout::run(&what)),
        Command::Removable(arguments) => block_on(rollout::removable(&arguments)),
        Command::Drill(arguments) => block_on(rollout::drill(&arguments)),
        Command::Import { from: ImportFrom::Flagger(arguments) } => import::flagger(&arguments),
        Command::Import { from: ImportFrom::Argo(arguments) } => import::argo(&arguments),
        Command::Demo(arguments) => block_on(demo::run(&arguments)),
    }
}

fn run_proxy(file: &ConfigFile) -> Result<(), Failure> {
    app::run(&app::RunOptions { config: file.path() })
        .map_err(|failure| Failure::new(Exit::of(failure.exit_code()), failure.to_string()))
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Runs a command that waits for the network, on this thread.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::FAILURE, format!("no event loop: {error}")))?;
    runtime.block_on(command)
}

/// Writes data to stdout.
fn print(text: &str) -> Result<(), Failure> {
    emit(text).map(drop)
}

/// Writes data to stdout. Whether anybody still reads it: a reader that has gone (`weir status | head`) is the
/// end of the work, but not a failure.
fn emit(text: &str) -> Result<bool, Failure> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::FAILURE, format!("stdout: {error}"))),
    }
}

/// Writes to stderr what goes on, for a person. There is nowhere to report that this failed.
fn notify(text: &str) {
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// Waits for Ctrl-C, SIGTERM, or the end of the terminal.
async fn interrupted() {
    let received = async |kind| match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = received(SignalKind::interrupt()) => {}
        () = received(SignalKind::terminate()) => {}
        () = received(SignalKind::hangup()) => {}
    }
}

/// Where the configuration is looked for when nobody names it, in this order.
const CONFIG_FILES: [&str; 2] = ["weir.yaml", "/etc/weir/weir.yaml"];

impl ConfigFile {
    /// The file that was named, or the first of [`CONFIG_FILES`] that exists, or else the first: the message
    /// that it is not there says what to do.
    fn path(&self) -> PathBuf {
        let exists = |path: &PathBuf| path.exists();
        let usual = || CONFIG_FILES.iter().map(PathBuf::from).find(exists);
        self.config.clone().or_else(usual).unwrap_or_else(|| PathBuf::from(CONFIG_FILES[0]))
    }
}
