//! What a choice of version is made by, and what comes of it.

use ipnet::IpNet;

use super::signature::SigningKeys;

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
    /// The cohort whose split decided, by its index.
    pub(crate) cohort: Option<usize>,
    /// The value of the cookie that the client is to get: it has none, or one that says something else.
    pub(crate) new_cookie: Option<String>,
}

/// What besides weights decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitOptions {
    /// The service's name: what is signed is signed for it.
    pub service: String,
    /// Makes the buckets of one service independent of another's.
    pub salt: String,
    /// Where the affinity key is, if clients are kept on their version.
    pub affinity: Option<KeySource>,
    /// Whether cookies that Weir makes and signs say which version their client was given.
    pub remembers: bool,
    /// With that: who was given this version, by its index, stays there while it takes requests, whatever the weights.
    pub sticky: Option<usize>,
    /// How a request may name its version.
    pub overrides: Option<OverrideSource>,
    /// What becomes of the share of a version that takes no requests.
    pub failover: Failover,
}

/// What becomes of the share of a version that takes no requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// The others take it.
    #[default]
    ToOthers,
    /// Nobody does.
    Never,
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
        /// With these Weir signs those that it makes, and believes no others.
        keys: Option<SigningKeys>,
    },
    /// A claim of a JSON Web Token, whose signature is not checked.
    Claim {
        /// Where the token is.
        token: TokenSource,
        /// The claim's name.
        name: Box<str>,
    },
    /// The client's address.
    Address,
}

/// Where a client's token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The value of this header, in lower case, maybe behind a scheme.
    Header(Box<str>),
    /// The value of this cookie.
    Cookie(Box<str>),
}

/// How a request may name its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideSource {
    /// By the value of this header, in lower case.
    pub(crate) header: Option<Box<str>>,
    /// By the value of this cookie.
    pub(crate) cookie: Option<Box<str>>,
    /// From these addresses; `None` from anywhere.
    pub(crate) from: Option<Vec<IpNet>>,
    /// From anywhere too, if it is signed with these.
    pub(crate) keys: Option<SigningKeys>,
}
