//! What concerns the whole process: telemetry, admin, threads, shutdown, state and the access log.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::Period;
use crate::model::Address;

section! {
    /// The listener for `/metrics`, `/livez` and `/readyz`: read-only, safe to expose.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Telemetry {
        /// Where it listens: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`.
        pub(crate) address: Address = required(),
    }
}

section! {
    /// The control API.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Admin {
        /// Where it listens. Beyond loopback and unix sockets, `token_file` is required.
        pub(crate) address: Address = or(default_admin_address()),
        /// A file with the bearer token that every request must carry.
        pub(crate) token_file: Option<PathBuf> = optional(),
        /// Names that a request's `Host` may have besides loopback names and the address itself, 16 at most.
        pub(crate) allowed_hosts: Vec<String> = list(0..=MAX_ALLOWED_HOSTS, read_hosts),
    }
    default
    rules(fields) {
        check_token(&mut fields, address.as_ref());
    }
}

/// How many names of the control API are compared with each request's `Host`.
const MAX_ALLOWED_HOSTS: usize = 16;

/// The port of the control API that every command of Weir asks when it is told nothing else.
pub(crate) const DEFAULT_ADMIN_PORT: u16 = 9901;

fn default_admin_address() -> Address {
    Address::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_ADMIN_PORT)))
}

fn read_hosts<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<String>> {
    let hosts = reader.items(node, "a list", scalar::host_value)?;
    reader.count(hosts.total, &bounds, node.place)?;
    hosts.all()
}

fn check_token(fields: &mut Fields<'_, '_>, address: Option<&Address>) {
    let Some(Address::Inet(inet)) = address else { return };
    if inet.ip().to_canonical().is_loopback() || fields.get("token_file").is_some() {
        return;
    }
    fields.fault_at("address", |place| {
        Problem::new(place, "the control API would be open to the network without a token")
            .expected("a loopback address, a unix socket, or a `token_file`")
            .help("add `token_file: FILE` with a secret in it, or listen on 127.0.0.1")
    });
}

section! {
    /// The runtime that carries the traffic.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Runtime {
        /// Worker threads, 1 to 1024. Default: the CPUs the process may use, cgroup quota included.
        pub(crate) threads: Option<u16> = within(1..=1_024),
        /// Whether HTTP/1.1 and HTTP/2 take the express lane. Off, every request takes the general one: the
        /// answers are the same, at more cost.
        pub(crate) express_lane: bool = or(true),
    }
    default
}

section! {
    /// How the process ends after SIGTERM. Every other timer of the shutdown derives from `deadline`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Shutdown {
        /// From SIGTERM to the end, at the latest: `1s` to `24h`. What is still open is cut and counted.
        pub(crate) deadline: Period = bounded(DEFAULT_DEADLINE, Period::SECOND..=Period::DAY),
        /// How long new connections are accepted after SIGTERM at least, while load balancers take notice; then until
        /// nothing has arrived for half a second, and to 60 % of the deadline at most where they still come. At most the
        /// deadline. Default: a fifth of the deadline, 5 s at most.
        pub(crate) delay: Option<Period> = optional(),
    }
    default
    rules(fields) {
        fields.check_within("delay", delay.flatten(), &(Period::ZERO..=deadline.unwrap_or(Period::DAY)));
    }
}

/// Ends before the 30 s after which Kubernetes kills a pod, with room for a `preStop` hook.
pub(crate) const DEFAULT_DEADLINE: Period = Period::from_secs(25);

/// Load balancers commonly probe every 1 to 5 s; waiting longer keeps a rollout of pods waiting for nothing.
const LONGEST_DEFAULT_DELAY: Period = Period::from_secs(5);

impl Shutdown {
    /// How long new connections are still accepted after SIGTERM, at least.
    #[must_use]
    pub(crate) fn delay(&self) -> std::time::Duration {
        self.delay.map_or_else(|| LONGEST_DEFAULT_DELAY.get().min(self.deadline.get() / 5), Period::get)
    }
}

section! {
    /// Where durable state (shifts of weights) is kept.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub(crate) struct State {
        /// A directory that survives a restart of the process.
        pub(crate) directory: Option<PathBuf> = optional(),
    }
}

section! {
    /// The access log: one line of JSON for each request.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub(crate) struct AccessLog {
        /// Where the lines go: `off`, `stdout`, `stderr`, or the path of a file, absolute or with a `/` in it.
        pub(crate) output: AccessLogOutput = or(AccessLogOutput::Off),
    }
}

/// Where access log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AccessLogOutput {
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

impl Read for AccessLogOutput {
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

impl Serialize for AccessLogOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Stdout => serializer.serialize_str("stdout"),
            Self::Stderr => serializer.serialize_str("stderr"),
            Self::File(path) => path.serialize(serializer),
        }
    }
}

impl JsonSchema for AccessLogOutput {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AccessLogOutput".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["off", "stdout", "stderr", "/var/log/weir/access.log"] })
    }
}
