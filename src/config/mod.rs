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

mod file;
mod import;
mod load;
mod remarks;
mod restart;
mod rules;
mod schema;
mod section;
mod syntax;
pub mod watch;

pub use self::file::{Config, Format};
pub use self::import::{ImportedValue, import_documents};
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
    AccessLog, AccessLogOutput, Admin, DEFAULT_ADMIN_PORT, DEFAULT_DEADLINE, Runtime, Shutdown, State, Telemetry,
};
pub use self::section::route::{HeaderMatch, HostMatch, Match, PathMatch, Route};
pub use self::section::service::Service;
pub use self::section::upstream::{Balance, Drain, HostHeader, Pool, Protocol, Timeouts, UpstreamTls};
pub use self::section::version::{Endpoint, Version};
pub use self::syntax::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Snippet};
pub use self::syntax::environment::{Environment, ProcessEnvironment};
pub use self::syntax::map::Map;
pub use self::syntax::values::{Bytes, Cidr, EndpointAddress, MAX_NAME, MAX_UNIX_PATH, NotAValue, Period};

#[cfg(test)]
mod tests;
