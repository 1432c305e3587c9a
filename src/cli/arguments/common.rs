//! Arguments that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::server::parse_server;
use crate::http_client::Server;

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

/// A time span as people write it.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 30s, 5m or 1h30m"))
}
