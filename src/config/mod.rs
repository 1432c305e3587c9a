//! The configuration file: what it says, as types whose values are valid.
//!
//! ```text
//! bytes ─ yaml ─► tree with places ─ environment ─► tree ─ read ─► Config ─ rules ─► Config
//!                       └───────────────┴─ every fault found on the way ─┴──► Diagnostics
//! ```
//!
//! A derive of `Deserialize` would be shorter, but serde stops at the first fault and forgets where a value
//! stood, and whoever edits this file at night deserves all faults at once, each with its line. So the YAML
//! crate's parser yields a small tree in which every value knows its place, and each type reads itself from it.
//!
//! Invariant: a [`Config`] that exists is valid as a whole: names it mentions exist, weights sum to 100 %,
//! every number is inside its bounds, paths are resolved against the file's directory.
//! Invariant: no type of the YAML crate leaves this folder.

mod import;
mod load;
mod restart;
mod rules;
mod schema;
mod section;
mod stable;
mod syntax;
pub mod watch;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;

pub use self::import::{Foreign, foreign};
pub use self::load::{MAX_FILE, load, parse, read_file};
pub use self::schema::{SCHEMA_ID, schema};
pub use self::section::affinity::{Affinity, AffinityKey, Override, OverrideFrom};
pub use self::section::alerts::{ALERTS_DEFAULT, Alert, PAGERDUTY_URL};
pub use self::section::limits::Limits;
pub use self::section::listener::{
    Certificate, ClientAuth, ClientCertificates, DEFAULT_MAX_CONNECTIONS, Listener, ProxyProtocol, Tls, TlsVersion,
};
pub use self::section::normalization::{Backslash, EncodedSlash, Headers, NonAscii, Paths, Underscore};
pub use self::section::process::{
    AccessLog, Admin, DEFAULT_ADMIN_PORT, DEFAULT_DEADLINE, Output, Runtime, Shutdown, State, Telemetry,
};
pub use self::section::route::{HeaderMatch, HostMatch, Match, PathMatch, Route};
pub use self::section::service::{
    Balance, Drain, Endpoint, HostHeader, Pool, Protocol, Service, Timeouts, UpstreamTls, Version,
};
pub use self::syntax::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Snippet};
pub use self::syntax::environment::{Environment, ProcessEnvironment};
pub use self::syntax::map::Map;
pub use self::syntax::values::{Bytes, Cidr, EndpointAddress, MAX_NAME, MAX_UNIX_PATH, NotAValue, Period};

/// The whole configuration file, valid.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// The format of the file.
    pub version: Format,
    /// Where clients connect, 1 to 256.
    #[schemars(length(min = 1, max = 256))]
    pub listeners: Vec<Listener>,
    /// The listener for `/metrics`, `/livez` and `/readyz`; default: none.
    pub telemetry: Option<Telemetry>,
    /// The control API.
    #[schemars(default)]
    pub admin: Admin,
    /// The runtime that carries the traffic.
    #[schemars(default)]
    pub runtime: Runtime,
    /// How the process ends after SIGTERM.
    #[schemars(default)]
    pub shutdown: Shutdown,
    /// Where durable state is kept.
    #[schemars(default)]
    pub state: State,
    /// The access log.
    #[schemars(default)]
    pub access_log: AccessLog,
    /// What a client may ask of Weir before it is refused.
    #[schemars(default)]
    pub limits: Limits,
    /// What becomes of paths that servers read in different ways. A listener may say it of its own.
    #[schemars(default)]
    pub paths: Paths,
    /// What becomes of headers whose names servers read in different ways. A listener may say it of its own.
    #[schemars(default)]
    pub headers: Headers,
    /// Proxies whose `X-Forwarded-*` and request id headers are believed; default: none.
    #[schemars(default, length(max = 1024))]
    pub trusted_proxies: Vec<Cidr>,
    /// The services, 100000 at most, in the order of the file.
    #[schemars(default)]
    pub services: Map<Service>,
    /// Who is told about rollouts, 64 at most, by the name that rollouts use.
    #[schemars(default, with = "Map<self::section::alerts::shape::Alert>")]
    pub alerts: Map<Alert>,
    /// Which requests go to which service, 200000 at most.
    #[schemars(default, length(max = 200_000))]
    pub routes: Vec<Route>,
    #[schemars(skip)]
    origin: Origin,
}

/// The format of the file. There is one so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `version: 1`.
    #[default]
    V1,
}

impl JsonSchema for Format {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Format".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": 1, "description": "The format of the file." })
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug, Default)]
struct Origin {
    file: PathBuf,
    directory: PathBuf,
    hash: u64,
    marks: Vec<restart::Mark>,
    unsaid: Vec<stable::Unsaid>,
}

impl Config {
    /// The file that this was read from, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.origin.file
    }

    /// A path of the file's world: relative paths are relative to the file's directory, not to the directory
    /// that the process happens to run in. The paths inside this configuration are resolved already.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.origin.directory.join(path)
    }

    /// A hash of what the file says after substitution, as 16 hexadecimal digits. Comments and layout do not
    /// count. Stable across processes, machines and releases of Weir; not a protection against forgery.
    #[must_use]
    pub fn hash(&self) -> String {
        format!("{:016x}", self.origin.hash)
    }
}

#[cfg(test)]
mod tests;
