//! The words of Weir as values: weights, splits, states and addresses.
//!
//! They sit at the bottom of the crate so that every layer shares one type for one concept. A value that
//! exists is valid: parsing happens once, at the edge, and a [`Split`] that does not sum to 100 % cannot be
//! built.
//!
//! Invariant: no float carries a share of traffic. A [`Weight`] is an integer in basis points.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a service, a version or a listener, as the configuration file spells it.
///
/// Shared and cheap to clone; it is a metric label, so it only ever comes from the configuration.
pub type Name = Arc<str>;

/// What the name of the service begins with that a feature flag is inside. No service of the file has such a name.
pub(crate) const FLAG_PREFIX: &str = "flag:";

/// A version's share of a service's traffic in basis points: 0 is nothing, [`Weight::FULL`] is everything.
///
/// It prints and parses as a percentage with at most two decimals.
///
/// ```
/// use weir::model::Weight;
/// let one_percent: Weight = "1".parse().unwrap();
/// assert_eq!(Weight::from_basis_points(100), Some(one_percent));
/// assert_eq!("0.01".parse::<Weight>().unwrap().to_string(), "0.01");
/// assert!("100.01".parse::<Weight>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// Nothing.
    pub(crate) const ZERO: Self = Self(0);
    /// Everything: 100 %.
    pub(crate) const FULL: Self = Self(10_000);

    /// The weight of `basis_points` hundredths of a percent, or `None` above 10 000.
    #[must_use]
    pub const fn from_basis_points(basis_points: u16) -> Option<Self> {
        if basis_points <= Self::FULL.0 { Some(Self(basis_points)) } else { None }
    }

    /// The weight in hundredths of a percent, 0 to 10 000.
    #[must_use]
    pub(crate) const fn basis_points(self) -> u16 {
        self.0
    }

    /// The weight as a ratio between 0 and 1, for display and metrics only.
    #[must_use]
    pub(crate) fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}"),
            p if p % 10 == 0 => write!(f, "{whole}.{}", p / 10),
            p => write!(f, "{whole}.{p:02}"),
        }
    }
}

/// Why a text is not a [`Weight`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a percentage from 0 to 100 with at most two decimals")]
pub struct NotAWeight {
    /// The text that was found.
    pub(crate) found: String,
}

impl FromStr for Weight {
    type Err = NotAWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAWeight { found: text.to_owned() };
        let digits = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(wrong());
        }
        let whole: u16 = whole.parse().map_err(|_| wrong())?;
        let hundredths: u16 = part.parse().map_err(|_| wrong())?;
        let hundredths = if part.len() == 1 { hundredths * 10 } else { hundredths };
        Self::from_basis_points(whole.saturating_mul(100).saturating_add(hundredths)).ok_or_else(wrong)
    }
}

/// The weights of all versions of a service, in the file's order. They always sum to 100 %.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split(Vec<(Name, Weight)>);

/// Why a set of weights is not a [`Split`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASplit {
    /// No version is named.
    #[error("a split names at least one version")]
    Empty,
    /// One version is named twice.
    #[error("version `{0}` is named twice")]
    Twice(Name),
    /// The weights do not sum to 100 %.
    #[error("the weights sum to {}.{:02}, not to 100", .basis_points / 100, .basis_points % 100)]
    Sum {
        /// What they sum to, in basis points.
        basis_points: u64,
    },
}

impl Split {
    /// The split of these weights.
    ///
    /// # Errors
    /// [`NotASplit`] if no version is named, one is named twice, or the weights do not sum to 100 %.
    pub(crate) fn new(weights: Vec<(Name, Weight)>) -> Result<Self, NotASplit> {
        if weights.is_empty() {
            return Err(NotASplit::Empty);
        }
        for (at, (name, _)) in weights.iter().enumerate() {
            if weights.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(NotASplit::Twice(name.clone()));
            }
        }
        let basis_points: u64 = weights.iter().map(|(_, weight)| u64::from(weight.basis_points())).sum();
        if basis_points == u64::from(Weight::FULL.basis_points()) {
            Ok(Self(weights))
        } else {
            Err(NotASplit::Sum { basis_points })
        }
    }

    /// The split in which one version has everything.
    #[must_use]
    pub(crate) fn all_to(version: Name) -> Self {
        Self(vec![(version, Weight::FULL)])
    }

    /// The weight of `version`; a version that the split does not name has none of the traffic.
    #[must_use]
    pub(crate) fn weight(&self, version: &str) -> Weight {
        self.0.iter().find(|(name, _)| &**name == version).map_or(Weight::ZERO, |(_, weight)| *weight)
    }

    /// Versions and weights, in the order they were given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, Weight)> {
        self.0.iter().map(|(name, weight)| (name, *weight))
    }
}

/// What an operator wants of an endpoint or a version.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Takes traffic.
    #[default]
    Ready,
    /// Takes no new work; what is in flight finishes.
    Drain,
    /// Takes nothing at all: like drain, and, once there are health checks, also out of those.
    Maint,
}

impl EndpointState {
    /// All states, in the order they are shown.
    pub(crate) const ALL: [Self; 3] = [Self::Ready, Self::Drain, Self::Maint];

    /// The word used in the file, the API, metrics and on the screen.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl EndpointState {
    /// Of two states that both count, the one that takes less.
    #[must_use]
    pub(crate) const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Maint, _) | (_, Self::Maint) => Self::Maint,
            (Self::Drain, _) | (_, Self::Drain) => Self::Drain,
            (Self::Ready, Self::Ready) => Self::Ready,
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the process is doing, as readiness and the status tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    /// It does not accept traffic yet.
    #[default]
    Starting,
    /// It serves.
    Ready,
    /// It was told to stop: it still serves, announces the close, and will go.
    Draining,
}

impl Process {
    /// The word used in the API and on the screen.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// Whose split it is: a service's own, or that of one of its cohorts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SplitKey {
    /// The service.
    pub(crate) service: Name,
    /// The cohort; none: whoever is in none.
    pub(crate) cohort: Option<Name>,
}

impl From<&str> for SplitKey {
    /// The own split of the service of this name.
    fn from(service: &str) -> Self {
        Self { service: service.into(), cohort: None }
    }
}

impl fmt::Display for SplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cohort {
            None => f.write_str(&self.service),
            Some(cohort) => write!(f, "cohort {cohort} of {}", self.service),
        }
    }
}

/// An address behind a DNS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ResolvedAddress {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// How many requests it gets beside the others of its name, 1 to 256.
    pub(crate) weight: u16,
}

impl From<SocketAddr> for ResolvedAddress {
    /// It counts as much as each other.
    fn from(address: SocketAddr) -> Self {
        Self { address, weight: 1 }
    }
}

/// Where a socket is: an internet address or a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A unix stream socket, written `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not an address: write `IP:PORT`, `[IPv6]:PORT` or `unix:/absolute/path`")]
pub struct NotAnAddress {
    /// The text that was found.
    pub(crate) found: String,
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAnAddress { found: text.to_owned() };
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(wrong()),
            None => text.parse().map(Self::Inet).map_err(|_| wrong()),
        }
    }
}

/// Texts that the tests of any module change.
#[cfg(test)]
pub(crate) mod fixture {
    /// A text that a test changes.
    pub(crate) trait Fixture {
        /// This text with every `from` replaced by `to`. A `from` that is not there is a fault of the test: it would
        /// go on with the text as it was, and prove nothing.
        fn changed(&self, from: &str, to: &str) -> String;
    }

    impl Fixture for str {
        #[track_caller]
        fn changed(&self, from: &str, to: &str) -> String {
            assert!(self.contains(from), "`{from}` is not in the text:\n{self}");
            self.replace(from, to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_prints_as_it_is_written() {
        for text in ["0", "0.01", "0.1", "1", "9.99", "33.33", "99.5", "100"] {
            assert_eq!(text.parse::<Weight>().map(|w| w.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_not_a_percentage_with_two_decimals_is_no_weight() {
        for text in ["", "-1", "1.", ".5", "1.001", "100.01", "101", "1e2", "NaN", " 1", "1%", "99999999999"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_split_sums_to_one_hundred() {
        let weight = |bp| Weight::from_basis_points(bp).unwrap_or_default();
        assert!(Split::new(vec![("a".into(), weight(9_999)), ("b".into(), weight(1))]).is_ok());
        assert_eq!(
            Split::new(vec![("a".into(), weight(9_000)), ("b".into(), weight(999))]),
            Err(NotASplit::Sum { basis_points: 9_999 })
        );
        assert_eq!(Split::new(vec![]), Err(NotASplit::Empty));
        assert_eq!(
            Split::new(vec![("a".into(), weight(5_000)), ("a".into(), weight(5_000))]),
            Err(NotASplit::Twice("a".into()))
        );
    }

    #[test]
    fn an_address_is_inet_or_an_absolute_unix_path() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "localhost:80", "127.0.0.1", "unix:run/app.sock", "unix:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
