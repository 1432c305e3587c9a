//! What can be asked of rollouts, exactly as it is typed.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::common::{AdminArguments, BadArgument, ByArguments, ConfigFile, Output, duration, percentage};
use crate::model::Weight;

/// What is done with a rollout.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RolloutCommand {
    /// Roll a version out, or, without one, the `release` of the file
    Start(StartArguments),
    /// Show where rollouts are; with --wait, wait until one is over
    Status(RolloutStatusArguments),
    /// Stay at the weight that the canary has; failed checks still go back
    Pause(WordArguments),
    /// Go on where it was paused
    Resume(WordArguments),
    /// Skip the steps, gates and hooks that are left; while baking, end the bake
    Promote(WordArguments),
    /// Everything back to stable, at once
    Abort(WordArguments),
    /// Open the gate, or pass the hook, that is waited for
    Approve(WordArguments),
    /// Refuse at the gate: everything goes back to stable
    Reject(WordArguments),
    /// Try again what failed or was aborted
    Retry(WordArguments),
    /// Everything to the version that was stable before, at once, also after the promotion
    Undo(WordArguments),
    /// Show every decision, who made it and why
    History(HistoryArguments),
    /// Show what the rollout of a configuration file would have done with a recorded history
    Replay(ReplayArguments),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct WordArguments {
    /// The service
    pub(in crate::cli) service: String,
    #[command(flatten)]
    pub(in crate::cli) by: ByArguments,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct StartArguments {
    /// The service
    pub(in crate::cli) service: String,
    /// The version
    pub(in crate::cli) version: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) by: ByArguments,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RolloutStatusArguments {
    /// Only this service; with --wait, of which version's rollout the end is waited for
    #[arg(value_name = "SERVICE[/VERSION]", required_if_eq("wait", "true"))]
    pub(in crate::cli) target: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
    /// How the result is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: Output,
    /// Show it again each second, until Ctrl-C
    #[arg(short, long, conflicts_with = "wait")]
    pub(in crate::cli) watch: bool,
    /// Wait until the rollout is over: exit code 0 if it succeeded, 5 if it was rolled back or aborted
    #[arg(long)]
    pub(in crate::cli) wait: bool,
    /// With --wait: have the file read again first, as `weir reload` does, and wait for what that led to
    #[arg(long, requires = "wait", conflicts_with_all = ["revision", "file_hash"])]
    pub(in crate::cli) reload: bool,
    /// With --wait: not before this revision is in effect, which `weir reload` printed
    #[arg(long, value_name = "REVISION", requires = "wait", conflicts_with = "file_hash")]
    pub(in crate::cli) revision: Option<u64>,
    /// With --wait: not before the file with this hash is in effect, which `weir check -o json` and `weir reload` print
    #[arg(long, value_name = "HASH", requires = "wait")]
    pub(in crate::cli) file_hash: Option<String>,
    /// With --wait: give up after so long, with exit code 6
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration, requires = "wait")]
    pub(in crate::cli) timeout: Duration,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct HistoryArguments {
    /// The service
    pub(in crate::cli) service: String,
    /// The newest so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(in crate::cli) limit: usize,
    /// Only decisions, without analysis runs
    #[arg(long)]
    pub(in crate::cli) decisions: bool,
    /// Only what is not older: a time span such as 2h, or a moment such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "SINCE")]
    pub(in crate::cli) since: Option<Since>,
    /// How the result is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: Output,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ReplayArguments {
    /// The service
    pub(in crate::cli) service: String,
    #[command(flatten)]
    pub(in crate::cli) file: ConfigFile,
    /// What `weir rollout history -o json` wrote; else a running Weir is asked
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) history: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RemovableArguments {
    /// The version
    #[arg(value_name = "SERVICE/VERSION")]
    pub(in crate::cli) target: OneVersion,
    /// How long it must have had no request and no open stream
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(in crate::cli) idle: Duration,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct DrillArguments {
    /// The service
    pub(in crate::cli) service: String,
    /// The version, or `canary` or `stable` for the one in that role
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) version: String,
    /// The percentage of requests that are answered with 500 instead of being forwarded
    #[arg(long, value_name = "PERCENT", required_unless_present_any = ["delay", "end"])]
    pub(in crate::cli) errors: Option<Percent>,
    /// How long every request waits before it is forwarded
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(in crate::cli) delay: Option<Duration>,
    /// How long the drill goes on; it ends by itself
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "end")]
    pub(in crate::cli) lasting: Option<Duration>,
    /// End a drill that goes on
    #[arg(long, conflicts_with_all = ["errors", "delay", "lasting"])]
    pub(in crate::cli) end: bool,
    #[command(flatten)]
    pub(in crate::cli) by: ByArguments,
    #[command(flatten)]
    pub(in crate::cli) admin: AdminArguments,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(SystemTime),
}

impl Since {
    /// In milliseconds since the Unix epoch.
    pub(in crate::cli) fn unix_ms(self, now: SystemTime) -> u64 {
        let at = match self {
            Self::Ago(span) => now.checked_sub(span).unwrap_or(UNIX_EPOCH),
            Self::At(at) => at,
        };
        at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl FromStr for Since {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        let ago = humantime::parse_duration(text).map(Self::Ago);
        ago.or_else(|_| humantime::parse_rfc3339_weak(text).map(Self::At)).map_err(|_| BadArgument::NotAMoment)
    }
}

/// One `SERVICE/VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct OneVersion {
    pub(in crate::cli) service: String,
    pub(in crate::cli) version: String,
}

impl FromStr for OneVersion {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        match text.split_once('/') {
            Some((service, version)) if !service.is_empty() && !version.is_empty() && !version.contains('/') => {
                Ok(Self { service: service.to_owned(), version: version.to_owned() })
            }
            _ => Err(BadArgument::NotAVersion),
        }
    }
}

/// A percentage with or without its sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Percent(pub(in crate::cli) Weight);

impl FromStr for Percent {
    type Err = BadArgument;

    fn from_str(text: &str) -> Result<Self, BadArgument> {
        percentage(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_moment() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        let since = |text: &str| text.parse::<Since>().map(|since| since.unix_ms(now));
        assert_eq!(since("1h"), Ok(6_400_000));
        assert_eq!(since("100d"), Ok(0), "before anything");
        assert_eq!(since("1970-01-01T00:00:02Z"), Ok(2_000));
        assert_eq!(since("1970-01-01 00:01:00"), Ok(60_000));
        assert_eq!(since("yesterday"), Err(BadArgument::NotAMoment));
    }
}
