//! Weir beside its peers: HAProxy, nginx, Envoy and a byte relay without HTTP, each with an equivalent configuration
//! under the same load, and one table per scenario. `make bench-peers` runs it; docs/BENCHMARKS.md says what it means.
//!
//! ```text
//!   CPU 1: this program + wrk/h2load ──►  CPU 0: one contender at a time  ──►  CPU 1: origin (this program, `origin`)
//! ```
//!
//! Invariant: every response is checked, and one that is not as it should be makes the whole run fail.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is read on a terminal")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts and medians, far below the limits")]

mod alone;
mod bars;
mod client;
mod configs;
mod contender;
mod http1;
mod http2;
mod load;
mod origin;
mod origin_http2;
mod process;
mod relay;
mod run;
mod scenario;
mod tls;
mod tool;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why a run stopped, for a person.
pub(crate) type Failure = String;

/// What a client asks for by name; the route of every contender matches this host.
pub(crate) const HOST: &str = "shop.example.com";

#[derive(Parser)]
struct Arguments {
    /// What cargo adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the contenders one after the other and print the tables.
    Run(Options),
    /// The origin server, with one port for each version.
    #[command(hide = true)]
    Origin,
    /// The floor: moves bytes, knows no HTTP.
    #[command(hide = true)]
    Relay { listen: SocketAddr, to: SocketAddr },
}

/// How to run.
#[derive(Parser, Clone)]
pub(crate) struct Options {
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds of each measured part.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) seconds: u64,
    /// Only these scenarios, as `scenario::ALL` has them: h1, h2c, h2-tls, grpc, get-1m, ….
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only these contenders: relay, weir, weir-general, haproxy, nginx, envoy.
    #[arg(long, value_delimiter = ',')]
    pub(crate) contenders: Vec<String>,
    /// The binary of Weir; by default the one that cargo built beside this benchmark.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_weir"))]
    pub(crate) weir: PathBuf,
    /// The binary of Envoy.
    #[arg(long, default_value = "target/peers/envoy")]
    pub(crate) envoy: PathBuf,
    /// The CPU of the proxy.
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_cpu: u32,
    /// The CPU of load and origin.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_cpu: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(command) = arguments.command else {
        println!("peers: nothing measured; `make bench-peers` does");
        return ExitCode::SUCCESS;
    };
    let done = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string());
    let done = done.and_then(|runtime| {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            match command {
                Command::Run(options) => run::run(&options).await,
                Command::Origin => origin::serve().await,
                Command::Relay { listen, to } => relay::serve(listen, to).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\npeers: FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}
