//! What concerns the whole process: telemetry, admin, threads, shutdown, state and the access log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;

use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::values::{self, Period};
use crate::config::syntax::yaml::Node;
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
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Runtime {
    /// Worker threads, 1 to 1024. Default: the CPUs the process may use, cgroup quota included.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
    /// Whether plain HTTP/1.1 requests take the express lane. Off, every request takes the general one: the
    /// answers are the same, at more cost.
    pub express_lane: bool,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { threads: None, express_lane: true }
    }
}

/// How the process ends after SIGTERM. Every other timer of the shutdown derives from `deadline`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Shutdown {
    /// From SIGTERM to the end, at the latest: `1s` to `24h`. What is still open is cut and counted.
    pub deadline: Period,
    /// How long new connections are accepted after SIGTERM at least, while load balancers take notice; then until
    /// nothing has arrived for half a second, and to 60 % of the deadline at most where they still come. At most the
    /// deadline. Default: a fifth of the deadline, 5 s at most.
    pub delay: Option<Period>,
}

/// Ends before the 30 s after which Kubernetes kills a pod, with room for a `preStop` hook.
pub const DEFAULT_DEADLINE: Period = Period::from_secs(25);

/// Load balancers commonly probe every 1 to 5 s; waiting longer keeps a rollout of pods waiting for nothing.
const LONGEST_DEFAULT_DELAY: Period = Period::from_secs(5);

impl Shutdown {
    /// How long new connections are still accepted after SIGTERM, at least.
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

impl Read for Telemetry {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["address"])?;
        let address = fields.required("address");
        fields.done()?;
        Some(Self { address: address? })
    }
}

/// How many names of the control API are compared with each request's `Host`.
const MAX_ALLOWED_HOSTS: usize = 16;

impl Read for Admin {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["address", "token_file", "allowed_hosts"])?;
        let default = Self::default();
        let address = fields.or("address", default.address);
        let token_file: Option<Option<PathBuf>> = fields.optional("token_file");
        let allowed_hosts = fields.with("allowed_hosts", |reader, node| {
            let hosts = reader.items(node, "a list", admin_host)?;
            reader.count(hosts.total, &(0..=MAX_ALLOWED_HOSTS), node.place)?;
            hosts.all()
        });
        if let (Some(Address::Inet(inet)), Some(None)) = (&address, &token_file)
            && !inet.ip().to_canonical().is_loopback()
        {
            fields.fault_at("address", |place| {
                Problem::new(place, "the control API would be open to the network without a token")
                    .expected("a loopback address, a unix socket, or a `token_file`")
                    .help("add `token_file: FILE` with a secret in it, or listen on 127.0.0.1")
            });
            return None;
        }
        fields.done()?;
        Some(Self { address: address?, token_file: token_file?, allowed_hosts: allowed_hosts?.unwrap_or_default() })
    }
}

fn admin_host<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    match scalar::host(reader.text(node, "a host name")?) {
        Ok(host) => Some(host),
        Err(wrong) => reader.wrong(node, wrong.expected, wrong.help),
    }
}

impl Read for Runtime {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["threads", "express_lane"])?;
        let threads = fields.within("threads", 1..=1_024);
        let express_lane = fields.or("express_lane", true);
        fields.done()?;
        Some(Self { threads: threads?, express_lane: express_lane? })
    }
}

const SECOND: Period = Period::from_secs(1);
const DAY: Period = Period::from_secs(86_400);

impl Read for Shutdown {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["deadline", "delay"])?;
        let deadline = fields.bounded("deadline", DEFAULT_DEADLINE, SECOND..=DAY);
        let delay = fields.within("delay", Period::from_secs(0)..=deadline.unwrap_or(DAY));
        fields.done()?;
        Some(Self { deadline: deadline?, delay: delay? })
    }
}

impl Read for State {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["directory"])?;
        let directory = fields.optional("directory");
        fields.done()?;
        Some(Self { directory: directory? })
    }
}

impl Read for AccessLog {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["output"])?;
        let output = fields.or("output", Output::Off);
        fields.done()?;
        Some(Self { output: output? })
    }
}

impl Read for Output {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "`off`, `stdout`, `stderr`, or the path of a file with a `/` in it";
        match reader.text(node, EXPECTED)? {
            "off" => Some(Self::Off),
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            path if path.contains('/') => PathBuf::read(node, reader).map(Self::File),
            _ => reader.wrong(node, EXPECTED, None),
        }
    }
}
