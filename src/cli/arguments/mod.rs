//! What can be asked for: commands, arguments and flags, exactly as they are typed.
//!
//! Values are parsed here into types that are valid, and nothing is done.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod common;
pub(in crate::cli) mod rollout;
mod server;

pub(super) use self::common::{AdminArguments, ByArguments, ConfigFile, Output};
use self::common::{BadArgument, duration, percentage};
use self::rollout::{DrillArguments, RemovableArguments, RolloutCommand};
pub(super) use self::server::parse_server;
use crate::model::Weight;

/// Weir carries a service's traffic and shifts it between versions of that service.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, long_about = None, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 configuration invalid, 4 admin not reachable, \
                          5 rolled back, 6 timed out, 7 refused in this state, 8 in effect and not stored";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the proxy until SIGTERM
    Run(ConfigFile),
    /// Check a configuration file and everything it names
    Check(CheckArguments),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Show services, versions, shares, latencies and drains
    Status(StatusArguments),
    /// Read the configuration file again, now
    Reload(ReloadArguments),
    /// Shift a service's traffic over the split that the file states
    Weight(WeightArguments),
    /// Set the percentage of clients for whom a feature flag is on
    Flag(FlagArguments),
    /// Give a service, version or endpoint no new work; what is in flight finishes
    Drain(DrainArguments),
    /// Give it work again
    Ready(StateArguments),
    /// Like drain; meant for work on the endpoint itself
    Maint(DrainArguments),
    /// Exit 0 if a running Weir is ready, for a container's health check
    Healthcheck(HealthcheckArguments),
    /// Start a rollout, watch it, and say what it shall do
    Rollout {
        #[command(subcommand)]
        what: RolloutCommand,
    },
    /// Exit 0 if a version was not used for so long that it can be removed
    Removable(RemovableArguments),
    /// Put faults into a version's responses for a while, to see its rollback work
    Drill(DrillArguments),
    /// Turn another program's configuration into Weir's, on stdout
    Import {
        #[command(subcommand)]
        from: ImportFrom,
    },
    /// Run four versions of a service, Weir before them and a modest load, and play three rollouts
    Demo(DemoArguments),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// How the result is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(super) output: CheckOutput,
    /// Do not open the certificates, keys and other files that the configuration names
    #[arg(long)]
    pub(super) offline: bool,
    /// Ask the running Weir how many requests each service gets, instead of `expected_rate`
    #[arg(long, conflicts_with = "offline")]
    pub(super) observed: bool,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

/// How the result of a check is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckOutput {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Whose configuration is imported.
#[derive(Debug, Subcommand)]
pub(super) enum ImportFrom {
    /// Canary resources of Flagger, with the MetricTemplates and AlertProviders that they refer to
    Flagger(ImportArguments),
    /// Rollout resources of Argo Rollouts, with the AnalysisTemplates and Services that they refer to
    Argo(ImportArguments),
}

#[derive(Args, Debug)]
pub(super) struct ImportArguments {
    /// The YAML files; `-` reads stdin
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct StatusArguments {
    /// Only this service
    pub(super) service: Option<String>,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// How the result is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Output,
    /// Show it again each second, until Ctrl-C
    #[arg(short, long)]
    pub(super) watch: bool,
    /// With --watch: end after showing it so many times
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

#[derive(Args, Debug)]
pub(super) struct WeightArguments {
    /// The service
    pub(super) service: String,
    /// The weights in percent, with at most two decimals; they sum to 100, and versions left out get 0
    #[arg(value_name = "VERSION=PERCENT", required_unless_present = "reset")]
    pub(super) weights: Vec<Share>,
    /// Of this cohort of the service, instead of whoever is in none
    #[arg(long, value_name = "NAME")]
    pub(super) cohort: Option<String>,
    /// End the shift: the split that the file states is in effect again
    #[arg(long, conflicts_with = "weights")]
    pub(super) reset: bool,
    #[command(flatten)]
    pub(super) by: ByArguments,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(super) struct FlagArguments {
    /// The flag
    pub(super) name: String,
    /// For how many of its clients or requests it is on, such as 25%
    #[arg(value_name = "PERCENT", required_unless_present = "reset", value_parser = percentage)]
    pub(super) percent: Option<Weight>,
    /// End the shift: the percentage that the file states is in effect again
    #[arg(long, conflicts_with = "percent")]
    pub(super) reset: bool,
    #[command(flatten)]
    pub(super) by: ByArguments,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(super) struct ReloadArguments {
    /// Even if the file leaves a version fewer ready endpoints than its min_ready
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(super) struct StateArguments {
    /// The service, one of its versions, or one endpoint of that
    #[arg(value_name = "SERVICE[/VERSION[/ENDPOINT]]")]
    pub(super) target: TargetArgument,
    #[command(flatten)]
    pub(super) by: ByArguments,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    pub(super) state: StateArguments,
    /// Even if it leaves a version fewer ready endpoints than its min_ready
    #[arg(long)]
    pub(super) force: bool,
    /// Wait until nothing is in flight on it any more
    #[arg(long)]
    pub(super) wait: bool,
    /// With --wait: give up after so long, with exit code 6
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, requires = "wait")]
    pub(super) timeout: Duration,
}

#[derive(Args, Debug)]
pub(super) struct HealthcheckArguments {
    /// What to ask, such as http://127.0.0.1:9902/readyz; default: the telemetry address of the configuration file
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    #[command(flatten)]
    pub(super) file: ConfigFile,
}

#[derive(Args, Debug)]
pub(super) struct DemoArguments {
    /// Where the configuration file and the log are written
    #[arg(long, value_name = "DIRECTORY", default_value = "weir-demo")]
    pub(super) dir: PathBuf,
    /// End after so long; default: at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(super) length: Option<Duration>,
    /// The first of the ports to use; default: 8080, 9901 and 9902 where they are free, others where not
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub(super) port_base: Option<u16>,
}

/// One `VERSION=PERCENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) version: String,
    pub(super) weight: Weight,
}

impl FromStr for Share {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        let (version, weight) = text.split_once('=').ok_or(BadArgument::NotAShare)?;
        if version.is_empty() {
            return Err(BadArgument::ShareOfNobody);
        }
        Ok(Self { version: version.to_owned(), weight: percentage(weight)? })
    }
}

/// A service, a version or an endpoint. The endpoint is everything after the second `/`: it may hold more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetArgument {
    pub(super) service: String,
    pub(super) version: Option<String>,
    pub(super) endpoint: Option<String>,
}

impl FromStr for TargetArgument {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        let mut parts = text.splitn(3, '/');
        let service = parts.next().unwrap_or_default().to_owned();
        let (version, endpoint) = (parts.next().map(str::to_owned), parts.next().map(str::to_owned));
        if service.is_empty() || [&version, &endpoint].into_iter().flatten().any(String::is_empty) {
            return Err(BadArgument::NotATarget);
        }
        Ok(Self { service, version, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(std::iter::once("weir").chain(line.split_whitespace())).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn weights_are_named_percentages() {
        let share = |text: &str| text.parse::<Share>().map(|share| (share.version, share.weight.basis_points()));
        assert_eq!(share("v1=90"), Ok(("v1".to_owned(), 9_000)));
        assert_eq!(share("v2=0.5%"), Ok(("v2".to_owned(), 50)));
        for wrong in ["v1", "=10", "v1=", "v1=101", "v1=-1", "v1=0.001", "v1=10%%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_is_everything_after_the_second_slash() {
        let target = |text: &str| text.parse::<TargetArgument>().map(|t| (t.service, t.version, t.endpoint));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(target("shop"), Ok(("shop".to_owned(), None, None)));
        assert_eq!(target("shop/v1"), Ok(("shop".to_owned(), some("v1"), None)));
        assert_eq!(
            target("shop/v1/unix:/run/app.sock"),
            Ok(("shop".to_owned(), some("v1"), some("unix:/run/app.sock")))
        );
        for wrong in ["", "/", "shop/", "shop//x", "shop/v1/"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reset_names_no_weights_and_a_shift_names_some() {
        assert!(matches!(parse("weight shop v1=90 v2=10"), Ok(Command::Weight(w)) if w.weights.len() == 2 && !w.reset));
        assert!(matches!(parse("weight shop --reset"), Ok(Command::Weight(w)) if w.reset));
        assert!(parse("weight shop").is_err());
        assert!(parse("weight shop v1=100 --reset").is_err());
    }

    #[test]
    fn a_drain_waits_only_when_told_so() {
        assert!(matches!(parse("drain shop/v1"), Ok(Command::Drain(d)) if !d.wait));
        let waits = parse("drain shop/v1 --wait --timeout 90s");
        assert!(matches!(waits, Ok(Command::Drain(d)) if d.wait && d.timeout == Duration::from_secs(90)));
        assert!(parse("drain shop/v1 --timeout 90s").is_err());
        assert!(parse("drain shop/v1 --wait --timeout soon").is_err());
    }

    #[test]
    fn a_bounded_watch_is_a_watch() {
        assert!(matches!(parse("status --watch --count 3"), Ok(Command::Status(s)) if s.count == Some(3)));
        assert!(parse("status --count 3").is_err());
        assert!(parse("status --watch --count 0").is_err());
    }
}
