//! Which version a request gets, and why: override → affinity → weight, and failover where that one cannot.
//!
//! ```text
//! override  the request names a version and may ──────────────────────────────────────► Choice
//! affinity  hash(salt, key) → bucket → range     ─┬─► available? ─ yes ─┬─► tripped? ─ no ─► Choice
//! weight    the exact schedule (Tijdeman)        ─┘      └ no ─► failover ┘     └ yes ─► one of the rest
//! ```
//!
//! Invariant: without affinity the shares are exact (see [`Splitter`]); with affinity the version is a pure function
//! of salt, key and weights, so every replica and every restart decide alike.

pub mod affinity;
mod breaker;
mod schedule;
mod weighted;

use std::net::IpAddr;

use ipnet::IpNet;

use self::affinity::HashRanges;
pub use self::breaker::Breaker;
use self::breaker::Breakers;
pub use self::schedule::Schedules;
pub use self::weighted::Splitter;
use super::Request;
use crate::model::{Name, Split, Weight};

/// Why a request got its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
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
    pub version: usize,
    /// Why.
    pub reason: Reason,
    /// Whether the version takes requests; if not, no version with a weight does.
    pub available: bool,
    /// The client's affinity key, hashed.
    pub key: Option<u64>,
    /// A key made for a client that had none, to be given to it as a cookie.
    pub new_key: Option<String>,
}

/// One version, as the choice needs it.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its name.
    pub name: Name,
    /// Its share by the file or a shift.
    pub weight: Weight,
    /// Whether it takes requests: by its state, and because an endpoint of it is ready.
    pub available: bool,
    /// What takes it out at once, if it has a breaker.
    pub breaker: Option<Breaker>,
}

/// What besides weights decides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Makes the buckets of one service independent of another's.
    pub salt: String,
    /// Where the affinity key is, if clients are kept on their version.
    pub affinity: Option<KeySource>,
    /// How a request may name its version.
    pub overrides: Option<Override>,
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
pub struct Override {
    /// By the value of this header, in lower case.
    pub header: Option<Box<str>>,
    /// By the value of this cookie.
    pub cookie: Option<Box<str>>,
    /// From these addresses only; `None` from anywhere.
    pub from: Option<Vec<IpNet>>,
}

/// Chooses versions for one service. Shared by all threads.
#[derive(Debug)]
pub struct Chooser {
    versions: Vec<Share>,
    options: Options,
    weights: Splitter,
    ranges: HashRanges,
    /// Weights among the available versions, where some with a weight are not.
    failover: Option<Failover>,
    /// The schedule of the last failover while there is none: the next one goes on there, or a version that
    /// comes and goes would always play its beginning.
    resting: Option<Splitter>,
    /// What happens in place of a version that trips, where one has a breaker.
    breakers: Option<Breakers>,
}

#[derive(Debug)]
struct Failover {
    /// `None` when no version with a weight is available.
    among: Option<(Splitter, HashRanges)>,
    effective: Vec<Weight>,
}

impl Chooser {
    /// The chooser of a service's versions. `previous`, the one in use for the same service, hands over
    /// deficits.
    ///
    /// Weights that do not sum to 100 % (the configuration sees that they do) give the first version everything.
    #[must_use]
    pub fn compile(versions: &[Share], options: Options, previous: Option<&Self>, schedules: &mut Schedules) -> Self {
        let configured: Vec<Weight> = versions.iter().map(|version| version.weight).collect();
        let weights =
            Splitter::compile(&split(versions, &configured), previous.map(|before| &before.weights), schedules);
        let ranges = HashRanges::new(&configured);
        let out = versions.iter().any(|version| !version.available && version.weight > Weight::ZERO);
        let before = previous.and_then(Self::last_failover);
        let failover = out.then(|| {
            let effective = among_available(versions);
            let among = effective.iter().any(|weight| *weight > Weight::ZERO).then(|| {
                let splitter = Splitter::compile(&split(versions, &effective), before, schedules);
                (splitter, HashRanges::new(&effective))
            });
            Failover { among, effective }
        });
        let going_on = failover.as_ref().is_some_and(|failover| failover.among.is_some());
        let resting = if going_on { None } else { before.cloned() };
        let breakers = Breakers::compile(versions, previous.and_then(|before| before.breakers.as_ref()), schedules);
        Self { versions: versions.to_vec(), options, weights, ranges, failover, resting, breakers }
    }

    /// The share that requests without affinity or override really get, by version.
    pub fn effective(&self) -> impl Iterator<Item = Weight> {
        let tripped = self.breakers.as_ref().and_then(Breakers::effective);
        let instead = tripped.or_else(|| self.failover.as_ref().map(|failover| &*failover.effective));
        self.versions.iter().enumerate().map(move |(at, version)| match instead {
            Some(weights) => weights.get(at).copied().unwrap_or_default(),
            None => version.weight,
        })
    }

    /// Chooses a version for `request`. `new_key` makes a key for a client that is to get one.
    pub fn choose(&self, request: &impl Request, new_key: impl FnOnce() -> String) -> Choice {
        let mut made = None;
        let key = self.options.affinity.as_ref().and_then(|source| {
            affinity::key(source, request, &self.options.salt).or_else(|| {
                if !matches!(source, KeySource::Cookie { make: true, .. }) {
                    return None;
                }
                let fresh = made.insert(new_key());
                Some(affinity::hash(&self.options.salt, fresh.as_bytes()))
            })
        });
        let mut choice = match (self.overridden(request), key) {
            (Some(version), _) => Choice { version, reason: Reason::Override, available: true, key, new_key: None },
            (None, Some(bucket)) => self.due(self.ranges.version(bucket), Reason::Affinity, key),
            (None, None) => self.due(self.weights.choose(), Reason::Weight, None),
        };
        choice.new_key = made;
        choice
    }

    fn last_failover(&self) -> Option<&Splitter> {
        let among = self.failover.as_ref().and_then(|failover| failover.among.as_ref());
        among.map(|(splitter, _)| splitter).or(self.resting.as_ref())
    }

    /// `version` if it takes requests, else one that does.
    fn due(&self, version: usize, reason: Reason, key: Option<u64>) -> Choice {
        let available = self.versions.get(version).is_some_and(|version| version.available);
        let choice = Choice { version, reason, available, key, new_key: None };
        let choice = match self.failover.as_ref().and_then(|failover| failover.among.as_ref()) {
            Some((splitter, ranges)) if !available => {
                let version = key.map_or_else(|| splitter.choose(), |key| ranges.version(affinity::mix(key)));
                Choice { version, reason: Reason::Failover, available: true, ..choice }
            }
            _ => choice,
        };
        match &self.breakers {
            None => choice,
            Some(breakers) => breakers.instead_of(choice),
        }
    }

    fn overridden(&self, request: &impl Request) -> Option<usize> {
        let options = self.options.overrides.as_ref()?;
        let contains = |nets: &Vec<IpNet>, client: IpAddr| nets.iter().any(|net| net.contains(&client));
        let allowed = match (&options.from, request.client()) {
            (None, _) => true,
            (Some(nets), Some(client)) => contains(nets, client),
            (Some(_), None) => false,
        };
        if !allowed {
            return None;
        }
        let named = |value: &[u8]| {
            self.versions.iter().position(|version| version.available && version.name.as_bytes() == value)
        };
        let by_header = options.header.as_ref().and_then(|header| request.header(header)).and_then(named);
        by_header.or_else(|| {
            let cookie = options.cookie.as_ref()?;
            affinity::with_cookie(request, cookie, named).flatten()
        })
    }
}

fn split(versions: &[Share], weights: &[Weight]) -> Split {
    let pairs: Vec<(Name, Weight)> = versions.iter().map(|v| v.name.clone()).zip(weights.iter().copied()).collect();
    Split::new(pairs).unwrap_or_else(|_| {
        let whole = |at: usize| if at == 0 { Weight::FULL } else { Weight::ZERO };
        let pairs = versions.iter().enumerate().map(|(at, version)| (version.name.clone(), whole(at))).collect();
        Split::new(pairs).unwrap_or_else(|_| Split::all_to(Name::from("none")))
    })
}

/// The weights of the available versions, scaled to sum to 100 %: largest remainder, first version first.
fn among_available(versions: &[Share]) -> Vec<Weight> {
    let bp = |version: &Share| if version.available { u32::from(version.weight.basis_points()) } else { 0 };
    let sum: u32 = versions.iter().map(bp).sum();
    if sum == 0 {
        return vec![Weight::ZERO; versions.len()];
    }
    let full = u32::from(Weight::FULL.basis_points());
    let mut scaled: Vec<(u32, u32)> = versions.iter().map(|v| (bp(v) * full / sum, bp(v) * full % sum)).collect();
    let mut missing = full - scaled.iter().map(|(whole, _)| whole).sum::<u32>();
    while missing > 0 {
        let most = scaled.iter().map(|(_, rest)| *rest).max().unwrap_or_default();
        let Some(one) = scaled.iter_mut().find(|(_, rest)| *rest == most) else { break };
        *one = (one.0 + 1, 0);
        missing -= 1;
    }
    let weight = |whole: u32| u16::try_from(whole).ok().and_then(Weight::from_basis_points).unwrap_or_default();
    scaled.into_iter().map(|(whole, _)| weight(whole)).collect()
}

#[cfg(test)]
mod tests;
