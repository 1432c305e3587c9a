//! One lookup: from a name of the file to its addresses.
//!
//! The hosts file comes first. A name without a dot at its end is then completed by the search domains, one after the
//! other, until one has an address (resolv.conf(5)). One that cannot be asked for ends the walk, as musl does it and
//! glibc does after a timeout: the next candidate may be another host, which would get the traffic for the time of the
//! failure.
//!
//! A and AAAA are asked at once. Where one of the two cannot be had and the other is answered, the answer says which is
//! missing, so that those addresses can stay as they are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::{join, join_all};

use crate::config::AddressFamily;
use crate::model::ResolvedAddress;
use crate::telemetry::LookupResult;

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A and AAAA records of a host.
    Addresses {
        /// The host.
        host: String,
        /// The port to add.
        port: u16,
    },
    /// SRV records, which name hosts and ports (RFC 2782).
    Services(String),
}

/// What was found: at least one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The addresses, in order, each once.
    pub(super) addresses: Vec<ResolvedAddress>,
    /// How long that holds.
    pub(super) ttl: Duration,
    /// The families that could not be asked for.
    pub(super) missing: Missing,
}

/// The families of addresses that could not be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// IPv4.
    pub(super) v4: bool,
    /// IPv6.
    pub(super) v6: bool,
}

impl Missing {
    /// Whether addresses like this one could not be asked for.
    pub(super) const fn has(self, address: SocketAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }

    const fn or(self, other: Self) -> Self {
        Self { v4: self.v4 || other.v4, v6: self.v6 || other.v6 }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct NoAnswer {
    /// The word for it.
    pub(super) result: LookupResult,
    /// For people.
    pub(super) why: String,
}

impl NoAnswer {
    pub(super) fn no_name() -> Self {
        Self { result: LookupResult::NoName, why: "there is no such name (NXDOMAIN)".to_owned() }
    }

    pub(super) fn empty() -> Self {
        Self { result: LookupResult::Empty, why: "it has no addresses".to_owned() }
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self { result: LookupResult::Failed, why: why.into() }
    }

    pub(super) fn timeout() -> Self {
        Self { result: LookupResult::Timeout, why: "no DNS server answered in time".to_owned() }
    }

    /// Whether the servers said that there is nothing; otherwise nobody knows.
    fn is_certain(&self) -> bool {
        matches!(self.result, LookupResult::NoName | LookupResult::Empty)
    }

    /// Of two reasons, the one that says more: nobody knows, before no addresses, before no such name.
    fn or(self, other: Self) -> Self {
        if !self.is_certain() || other.result == LookupResult::NoName { self } else { other }
    }
}

/// Records of one kind.
#[derive(Clone, Debug)]
pub(super) struct Records<T> {
    /// The records; at least one.
    pub(super) records: Vec<T>,
    /// The shortest time that one of them holds.
    pub(super) ttl: Duration,
}

/// An SRV record.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// The host, an absolute name.
    pub(super) target: String,
}

/// Whoever answers single questions.
pub(super) trait Ask: Sync {
    /// What the hosts file says of a name.
    fn hosts(&self, name: &str) -> Vec<IpAddr>;
    /// The absolute names that a name may mean, the likeliest first.
    fn candidates(&self, name: &str) -> Vec<String>;
    /// The A records of an absolute name.
    fn v4(&self, name: &str) -> impl Future<Output = Result<Records<IpAddr>, NoAnswer>> + Send;
    /// The AAAA records of an absolute name.
    fn v6(&self, name: &str) -> impl Future<Output = Result<Records<IpAddr>, NoAnswer>> + Send;
    /// The SRV records of an absolute name.
    fn services(&self, name: &str) -> impl Future<Output = Result<Records<Service>, NoAnswer>> + Send;
}

/// Addresses taken of one name.
const MAX_ADDRESSES: usize = 256;
/// Hosts looked up of one name's SRV records.
const MAX_TARGETS: usize = 64;

/// The addresses of a hosts file hold until it is read again.
const HOSTS_TTL: Duration = Duration::MAX;

/// Hosts that were found.
struct Found {
    hosts: Vec<IpAddr>,
    ttl: Duration,
    missing: Missing,
}

/// Looks a name up.
///
/// # Errors
/// Why there is no address.
pub(super) async fn look_up(ask: &impl Ask, question: &Question, family: AddressFamily) -> Result<Answer, NoAnswer> {
    match question {
        Question::Addresses { host, port } => {
            let found = look_up_host(ask, host, family).await?;
            let addresses = found.hosts.iter().map(|ip| SocketAddr::new(*ip, *port).into()).collect();
            answer(addresses, found.ttl, found.missing)
        }
        Question::Services(name) => look_up_services(ask, name, family).await,
    }
}

fn answer(mut addresses: Vec<ResolvedAddress>, ttl: Duration, missing: Missing) -> Result<Answer, NoAnswer> {
    // In order, so that the same records in another order are the same answer, and of too many the same are kept.
    addresses.sort_unstable();
    addresses.dedup_by_key(|one| one.address);
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() { Err(NoAnswer::empty()) } else { Ok(Answer { addresses, ttl, missing }) }
}

async fn look_up_host(ask: &impl Ask, host: &str, family: AddressFamily) -> Result<Found, NoAnswer> {
    let mut hosts = ask.hosts(host);
    hosts.retain(|ip| match family {
        AddressFamily::Any => true,
        AddressFamily::Ipv4 => ip.is_ipv4(),
        AddressFamily::Ipv6 => ip.is_ipv6(),
    });
    if !hosts.is_empty() {
        return Ok(Found { hosts, ttl: HOSTS_TTL, missing: Missing::default() });
    }
    let mut none = NoAnswer::no_name();
    for candidate in ask.candidates(host) {
        let found = match family {
            AddressFamily::Any => {
                let (v4, v6) = join(ask.v4(&candidate), ask.v6(&candidate)).await;
                both(v4, v6)
            }
            AddressFamily::Ipv4 => ask.v4(&candidate).await.map(Found::whole),
            AddressFamily::Ipv6 => ask.v6(&candidate).await.map(Found::whole),
        };
        match found {
            Ok(found) => return Ok(found),
            Err(why) if why.is_certain() => none = why.or(none),
            Err(why) => return Err(why),
        }
    }
    Err(none)
}

impl Found {
    fn whole(records: Records<IpAddr>) -> Self {
        Self { hosts: records.records, ttl: records.ttl, missing: Missing::default() }
    }
}

/// What the answers about both families come to.
fn both(v4: Result<Records<IpAddr>, NoAnswer>, v6: Result<Records<IpAddr>, NoAnswer>) -> Result<Found, NoAnswer> {
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => {
            let ttl = v4.ttl.min(v6.ttl);
            let hosts = v4.records.into_iter().chain(v6.records).collect();
            Ok(Found { hosts, ttl, missing: Missing::default() })
        }
        (Ok(v4), Err(why)) => Ok(Found { missing: Missing { v4: false, v6: !why.is_certain() }, ..Found::whole(v4) }),
        (Err(why), Ok(v6)) => Ok(Found { missing: Missing { v4: !why.is_certain(), v6: false }, ..Found::whole(v6) }),
        (Err(v4), Err(v6)) => Err(v4.or(v6)),
    }
}

async fn look_up_services(ask: &impl Ask, name: &str, family: AddressFamily) -> Result<Answer, NoAnswer> {
    let mut none = NoAnswer::no_name();
    for candidate in ask.candidates(name) {
        match ask.services(&candidate).await {
            Ok(services) => return targets(ask, services, family).await,
            Err(why) if why.is_certain() => none = why.or(none),
            Err(why) => return Err(why),
        }
    }
    Err(none)
}

/// The addresses of the hosts that are preferred: those of the lowest priority (RFC 2782).
async fn targets(ask: &impl Ask, services: Records<Service>, family: AddressFamily) -> Result<Answer, NoAnswer> {
    let Records { records, mut ttl } = services;
    // The target "." says that the service is decidedly not available.
    let mut usable: Vec<Service> = records.into_iter().filter(|one| one.target != "." && one.port != 0).collect();
    let preferred = usable.iter().map(|one| one.priority).min();
    usable.retain(|one| Some(one.priority) == preferred);
    usable.sort_unstable_by(|a, b| (&a.target, a.port).cmp(&(&b.target, b.port)));
    usable.dedup_by(|b, a| (&a.target, a.port) == (&b.target, b.port));
    usable.truncate(MAX_TARGETS);
    let heaviest = usable.iter().map(|one| one.weight).max().unwrap_or_default();
    let found = join_all(usable.iter().map(|one| look_up_host(ask, &one.target, family))).await;
    let (mut addresses, mut missing, mut none) = (Vec::new(), Missing::default(), NoAnswer::empty());
    for (service, found) in usable.iter().zip(found) {
        match found {
            Ok(found) => {
                let weight = weight(service.weight, heaviest);
                let at = |ip: &IpAddr| ResolvedAddress { address: SocketAddr::new(*ip, service.port), weight };
                addresses.extend(found.hosts.iter().map(at));
                ttl = ttl.min(found.ttl);
                missing = missing.or(found.missing);
            }
            Err(why) if why.is_certain() => {}
            Err(why) => {
                missing = Missing { v4: true, v6: true };
                none = why;
            }
        }
    }
    answer(addresses, ttl, missing).map_err(|_| none)
}

/// The weight of an SRV record, 0 to 65535, as that of an endpoint, 1 to 256, in proportion to the heaviest one. Records of
/// weight 0 "should have a very small chance" beside others, and the same where all have it (RFC 2782).
fn weight(weight: u16, heaviest: u16) -> u16 {
    let most = u32::from(heaviest.max(MAX_WEIGHT));
    let scaled = u32::from(weight) * u32::from(MAX_WEIGHT) / most;
    u16::try_from(scaled).unwrap_or(MAX_WEIGHT).max(1)
}

/// The largest weight of an endpoint.
const MAX_WEIGHT: u16 = 256;

#[cfg(test)]
mod tests;
