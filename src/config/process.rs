//! What concerns the whole process: telemetry, admin, threads, shutdown, state, access log and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;

use super::values::{self, Bytes, Period};
use crate::model::Address;

/// The listener for `/metrics`, `/livez` and `/readyz`: read-only, safe to expose.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Telemetry {
    /// Where it listens: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`.
    #[schemars(with = "values::Address")]
    pub address: Address,
}

/// The control API.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens. Beyond loopback and unix sockets, `token_file` is required.
    #[schemars(with = "values::Address", extend("default" = "127.0.0.1:9901"))]
    pub address: Address,
    /// A file with the bearer token that every request must carry.
    pub token_file: Option<PathBuf>,
    /// Names that a request's `Host` may have besides loopback names and the address itself, 16 at most.
    #[schemars(length(max = 16))]
    pub allowed_hosts: Vec<String>,
}

/// The port of the control API that every command of Weir asks when it is told nothing else.
pub const DEFAULT_ADMIN_PORT: u16 = 9901;

impl Default for Admin {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_ADMIN_PORT));
        Self { address: Address::Inet(address), token_file: None, allowed_hosts: Vec::new() }
    }
}

/// The runtime that carries the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Runtime {
    /// Worker threads, 1 to 1024. Default: the CPUs the process may use, cgroup quota included.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
}

/// How the process ends after SIGTERM. Every other timer of the shutdown derives from `deadline`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Shutdown {
    /// From SIGTERM to the end, at the latest: `1s` to `24h`. What is still open is cut and counted.
    pub deadline: Period,
    /// How long new connections are still accepted after SIGTERM, while load balancers take notice: at most
    /// the deadline. Default: a fifth of the deadline, 5 s at most.
    pub delay: Option<Period>,
}

/// Ends before the 30 s after which Kubernetes kills a pod, with room for a `preStop` hook.
pub const DEFAULT_DEADLINE: Period = Period::from_secs(25);

/// Load balancers commonly probe every 1 to 5 s; waiting longer keeps a rollout of pods waiting for nothing.
const LONGEST_DEFAULT_DELAY: Period = Period::from_secs(5);

impl Shutdown {
    /// How long new connections are still accepted after SIGTERM.
    #[must_use]
    pub fn delay(&self) -> std::time::Duration {
        self.delay.map_or_else(|| LONGEST_DEFAULT_DELAY.get().min(self.deadline.get() / 5), Period::get)
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: DEFAULT_DEADLINE, delay: None }
    }
}

/// Where durable state (shifts of weights) is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct State {
    /// A directory that survives a restart of the process.
    pub directory: Option<PathBuf>,
}

/// The access log: one line of JSON for each request.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Where the lines go: `off`, `stdout`, `stderr`, or the path of a file, absolute or with a `/` in it.
    #[schemars(with = "String", extend("default" = "off", "examples" = ["off", "stdout", "stderr", "/var/log/weir/access.log"]))]
    pub output: Output,
}

/// Where access log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Nowhere: the log is off.
    #[default]
    Off,
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// What a client may ask of Weir before it is refused. Every bound is on, and has bounds of its own.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Limits {
    /// Size of a request's header section, request line included: `1KiB` to `1MiB`.
    pub header_bytes: Bytes,
    /// Header fields of a request, 8 to 1000.
    #[schemars(range(min = 8, max = 1000))]
    pub header_fields: u16,
    /// Size of a request's target: `64B` to `64KiB`, and no more than `header_bytes`.
    pub uri_bytes: Bytes,
    /// Length of a method's name, 8 to 64.
    #[schemars(range(min = 8, max = 64))]
    pub method_bytes: u16,
    /// From the first byte of a request to the end of its header section: `100ms` to `10m`.
    pub header_timeout: Period,
    /// From the connection to the end of the TLS handshake: `100ms` to `10m`.
    pub handshake_timeout: Period,
    /// How long a client's connection may be idle between requests: `1s` to `1h`.
    pub keepalive: Period,
    /// How long a client may take none of the answer's bytes: `1s` to `1h`.
    pub write_timeout: Period,
    /// Requests at the same time on one HTTP/2 connection, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub h2_streams: u32,
    /// Size of a request's body; default: no bound. A service's `max_body` replaces it.
    pub body_bytes: Option<Bytes>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What common origins accept (nginx 4 × 8 KiB, Go 1 MiB, Node 16 KiB), and 100 fields as Apache.
            header_bytes: Bytes::kib(32),
            header_fields: 100,
            // RFC 9110 section 4.1 asks for at least 8000 octets.
            uri_bytes: Bytes::kib(8),
            // The longest registered method has 17 (`UPDATEREDIRECTREF`).
            method_bytes: 32,
            // A header that takes longer is an attack or a broken client.
            header_timeout: Period::from_secs(10),
            handshake_timeout: Period::from_secs(10),
            // Longer than the minute-long pauses of people, shorter than middleboxes forget a flow.
            keepalive: Period::from_secs(60),
            write_timeout: Period::from_secs(30),
            // What RFC 9113 section 6.5.2 recommends as the least.
            h2_streams: 100,
            body_bytes: None,
        }
    }
}
