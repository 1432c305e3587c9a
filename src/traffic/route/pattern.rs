//! What a rule may ask of a request's host, path and headers.

use std::fmt;
use std::str::FromStr;

use crate::traffic::validate::authority::is_host;

/// Which hosts a rule is for.
///
/// It parses from `*`, `*.example.com` and `shop.example.com`; case and a final dot do not matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host, in lower case.
    Exact(String),
    /// Every host that ends in a dot and this suffix, with one or more labels before it; the suffix itself is
    /// not one of them.
    Wildcard(String),
    /// Every host, and requests without one.
    Any,
}

/// Why a text is not a [`HostPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a host: write `shop.example.com`, `*.example.com` or `*`, without port or path")]
pub struct NotAHost {
    /// The text that was found.
    pub(crate) found: String,
}

impl HostPattern {
    /// Whether the pattern can match any valid host.
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Self::Exact(name) | Self::Wildcard(name) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => false,
            Self::Exact(name) => is_host(name),
            Self::Wildcard(suffix) => is_host(suffix) && !suffix.starts_with('['),
            Self::Any => true,
        }
    }
}

impl FromStr for HostPattern {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let pattern = match text.strip_prefix("*.") {
            _ if text == "*" => Self::Any,
            Some(suffix) => Self::Wildcard(name(suffix)),
            None => Self::Exact(name(text)),
        };
        if pattern.is_valid() { Ok(pattern) } else { Err(NotAHost { found: text.to_owned() }) }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Which paths a rule is for. Paths are matched in normal form, see validation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathPattern {
    /// This path and no other, to the final slash.
    Exact(String),
    /// This path and all below it: `/checkout` is for `/checkout`, `/checkout/` and `/checkout/cart`, not for
    /// `/checkouts`. A final slash does not matter.
    Prefix(String),
    /// Every path that this regular expression matches as a whole, from its first to its last byte.
    Regex(String),
}

/// What one header must be. Of a header that comes more than once, the first value counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderMatch {
    /// The header's name; case does not matter.
    pub(crate) name: String,
    /// What its value must be.
    pub(crate) test: HeaderTest,
}

/// What a header's value must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HeaderTest {
    /// Anything, if the header is there.
    Present,
    /// Nothing: the header must not be there.
    Absent,
    /// This value, byte for byte.
    Exact(String),
    /// A value that starts with this.
    Prefix(String),
    /// A value that this regular expression matches as a whole.
    Regex(String),
}
