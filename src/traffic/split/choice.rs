//! What a choice of version is made by, and what comes of it.

use ipnet::IpNet;

/// Why a request got its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It named the version.
    Override,
    /// Its client belongs to the version.
    Affinity,
    /// By the weights.
    Weight,
    /// The version that was due takes no requests.
    Failover,
}

/// What a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Choice {
    /// The version, as an index into the service's versions.
    pub(crate) version: usize,
    /// Why.
    pub(crate) reason: Reason,
    /// Whether the version takes requests; if not, no version with a weight does.
    pub(crate) available: bool,
    /// The client's affinity key, hashed.
    pub(crate) key: Option<u64>,
    /// A key made for a client that had none, to be given to it as a cookie.
    pub(crate) new_key: Option<String>,
}

/// What besides weights decides.
#[derive(Clone, Debug, Default)]
pub struct SplitOptions {
    /// Makes the buckets of one service independent of another's.
    pub salt: String,
    /// Where the affinity key is, if clients are kept on their version.
    pub affinity: Option<KeySource>,
    /// How a request may name its version.
    pub overrides: Option<OverrideSource>,
}

/// Where a client's affinity key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The value of this header, in lower case.
    Header(Box<str>),
    /// The value of a cookie.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// Whether a client without it gets one; if not, the application sets it.
        make: bool,
    },
    /// The client's address.
    Address,
}

/// How a request may name its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideSource {
    /// By the value of this header, in lower case.
    pub(crate) header: Option<Box<str>>,
    /// By the value of this cookie.
    pub(crate) cookie: Option<Box<str>>,
    /// From these addresses only; `None` from anywhere.
    pub(crate) from: Option<Vec<IpNet>>,
}
