//! Arguments that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::server::parse_server;
use crate::http_client::Server;
use crate::model::{NotAWeight, Weight};

/// Which configuration file.
#[derive(Args, Debug)]
pub(in crate::cli) struct ConfigFile {
    /// The configuration file; default: ./weir.yaml, then /etc/weir/weir.yaml
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}

/// How the result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// How to reach a running Weir.
#[derive(Args, Debug)]
pub(in crate::cli) struct AdminArguments {
    /// The control API: a URL or `unix:PATH`
    #[arg(long, value_name = "URL", env = "WEIR_ADMIN", default_value = "http://127.0.0.1:9901", value_parser = parse_server)]
    pub(in crate::cli) admin: Server,
    /// A file with the bearer token; else the variable WEIR_TOKEN is used
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
}

/// Who does it, and why.
#[derive(Args, Debug)]
pub(in crate::cli) struct ByArguments {
    /// Why; shown next to the change
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    /// Who does it; default: your user name at this host
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) author: Option<String>,
}

/// Why an argument is not understood; clap shows it beside the argument.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(in crate::cli) enum BadArgument {
    #[error("write SERVICE/VERSION, such as shop/v1")]
    NotAVersion,
    #[error("write VERSION=PERCENT, such as v2=10")]
    NotAShare,
    #[error("the name of the version is missing before `=`")]
    ShareOfNobody,
    #[error("write SERVICE, SERVICE/VERSION or SERVICE/VERSION/ENDPOINT")]
    NotATarget,
    #[error(transparent)]
    NotAWeight(#[from] NotAWeight),
    #[error("write a time span such as 2h, or a moment such as 2026-01-31T12:00:00Z")]
    NotAMoment,
    #[error("{0}; write 30s, 5m or 1h30m")]
    NotADuration(#[from] humantime::DurationError),
}

/// A time span as people write it.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, BadArgument> {
    Ok(humantime::parse_duration(text)?)
}

/// A percentage with or without its sign.
pub(in crate::cli) fn percentage(text: &str) -> Result<Weight, BadArgument> {
    Ok(text.strip_suffix('%').unwrap_or(text).parse()?)
}
