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

mod advice;
mod file;
mod import;
mod lint;
mod load;
mod remarks;
mod restart;
mod rules;
mod schema;
mod section;
mod syntax;
pub(crate) mod watch;

pub(crate) use self::advice::Rates;
pub use self::file::{Config, Format};
pub(crate) use self::import::{ImportedValue, import_documents};
pub(crate) use self::load::{MAX_FILE, read_file};
pub use self::load::{load, parse};
pub(crate) use self::remarks::NotStartable;
pub(crate) use self::schema::schema;
pub(crate) use self::section::affinity::{AffinityKey, AffinityMode, OverrideFrom, SameSite, SecureCookie, Token};
pub(crate) use self::section::cohort::{Cohort, CohortMatch};
pub(crate) use self::section::concurrency::Concurrency;
pub(crate) use self::section::dns::{AddressFamily, Dns};
pub(crate) use self::section::health::OutlierDetection;
pub(crate) use self::section::health_check::{HealthCheck, StartHealth};
pub(crate) use self::section::limits::Limits;
pub(crate) use self::section::listener::{Certificate, ClientAuth, Listener, Tls, TlsVersion};
pub(crate) use self::section::mirror::Mirror;
pub(crate) use self::section::normalization::{Backslash, EncodedSlash, Headers, NonAscii, Paths, Underscore};
pub(crate) use self::section::process::{AccessLogOutput, Admin, Telemetry};
pub(crate) use self::section::retry::RetryOn;
pub(crate) use self::section::route::{HeaderMatch, HostMatch, Match, PathMatch};
pub(crate) use self::section::service::{FlagSettings, Service};
pub(crate) use self::section::upstream::{Balance, HostHeader, Protocol, UpstreamTls};
pub(crate) use self::section::version::{Endpoint, Version};
pub(crate) use self::syntax::diagnostic::{Diagnostic, Diagnostics, Snippet};
pub(crate) use self::syntax::environment::Environment;
pub use self::syntax::environment::ProcessEnvironment;
pub(crate) use self::syntax::values::{Bytes, EndpointAddress, Period};

#[cfg(test)]
mod tests;
