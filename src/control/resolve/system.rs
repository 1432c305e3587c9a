//! The resolver library, with what the system says: `/etc/resolv.conf` and `/etc/hosts`.
//!
//! glibc reads both again when they change, so this does too: at most once a second, when something is to be looked up.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::lookup::{Ask, NoAnswer, Records, Service};
use crate::config::Dns;

/// Where the resolver in use comes from.
#[derive(Default)]
pub(super) struct Source {
    current: Option<Current>,
}

struct Current {
    settings: Dns,
    files: Stamps,
    looked: Instant,
    resolver: Arc<SystemResolver>,
}

/// When the system's files were last written, and how long they are.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// The system's files.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// How long they are believed not to have changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Source {
    /// The resolver for these settings and the files as they are.
    pub(super) async fn resolver(&mut self, settings: &Dns) -> Arc<SystemResolver> {
        if let Some(current) = &mut self.current
            && current.settings == *settings
        {
            if current.looked.elapsed() < LOOK_INTERVAL {
                return Arc::clone(&current.resolver);
            }
            let known = current.files;
            if spawn_blocking(move || stamps() == known).await.unwrap_or_default() {
                current.looked = Instant::now();
                return Arc::clone(&current.resolver);
            }
        }
        let (wanted, looked) = (settings.clone(), Instant::now());
        // The stamps are older than what is read: a change in between is seen the next time.
        let read = spawn_blocking(move || (stamps(), SystemResolver::read(&wanted))).await;
        let (files, resolver) = read.unwrap_or_default();
        let resolver = Arc::new(resolver);
        let settings = settings.clone();
        self.current = Some(Current { settings, files, looked, resolver: Arc::clone(&resolver) });
        resolver
    }
}

fn stamps() -> Stamps {
    FILES.map(|file| fs::metadata(file).and_then(|file| Ok((file.modified()?, file.len()))).ok())
}

/// The library, and what it would do otherwise than we do.
#[derive(Default)]
pub(super) struct SystemResolver {
    /// None where it cannot be built.
    library: Option<TokioResolver>,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

impl SystemResolver {
    /// Reads the system's files. It blocks.
    fn read(settings: &Dns) -> Self {
        let (config, options) = read_system_conf().unwrap_or_else(|error| {
            // What resolv.conf(5) says of a file that is not there.
            tracing::info!(%error, "no DNS servers are known from /etc/resolv.conf; 127.0.0.1 is asked");
            let local = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        let hosts = Hosts::from_system().unwrap_or_default();
        Self::new(settings, config, options, hosts)
    }

    /// The resolver for these settings, with this `resolv.conf` and this hosts file.
    fn new(settings: &Dns, config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Self {
        let (domain, mut search, system) = config.into_parts();
        if search.is_empty() {
            search.extend(domain);
        }
        let servers = if settings.servers.is_empty() {
            system
        } else {
            settings.servers.iter().map(|server| name_server(server.address())).collect()
        };
        options.timeout = settings.timeout.get();
        // The library sends again what got no answer; what failed the table asks for again.
        options.attempts = 0;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let ndots = options.ndots;
        let mut builder = TokioResolver::builder_with_config(
            ResolverConfig::from_name_servers(servers),
            TokioRuntimeProvider::default(),
        );
        *builder.options_mut() = options;
        let library = builder.build().inspect_err(|error| tracing::error!(%error, "names cannot be looked up")).ok();
        Self { library, hosts, search, ndots }
    }
}

fn name_server(address: std::net::SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    // As the system's own: who says that there is no such name is believed.
    NameServerConfig::new(address.ip(), true, vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())])
}

/// Questions of one lookup, which ends at its deadline.
pub(super) struct Questions<'a> {
    pub(super) resolver: &'a SystemResolver,
    pub(super) deadline: Instant,
}

impl Questions<'_> {
    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Records<T>, NoAnswer> {
        let library = self.resolver.library.as_ref().ok_or_else(|| NoAnswer::failed("there is no resolver"))?;
        let name = absolute(name).ok_or_else(|| NoAnswer::failed("it is no name of the DNS"))?;
        let found = timeout_at(self.deadline, library.lookup(name, kind)).await.map_err(|_| NoAnswer::timeout())?;
        let found = found.map_err(|error| no_answer(&error))?;
        let records: Vec<T> = found.answers().iter().filter_map(|record| pick(&record.data)).collect();
        let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        if records.is_empty() {
            return Err(NoAnswer::empty());
        }
        Ok(Records { records, ttl: Duration::from_secs(ttl.into()) })
    }
}

fn no_answer(error: &NetError) -> NoAnswer {
    match error {
        NetError::Timeout => NoAnswer::timeout(),
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code: ResponseCode::NXDomain, .. })) => {
            NoAnswer::no_name()
        }
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code: ResponseCode::NoError, .. })) => {
            NoAnswer::empty()
        }
        NetError::Dns(DnsError::ResponseCode(code)) => NoAnswer::failed(format!("the DNS server answers: {code}")),
        other => NoAnswer::failed(format!("the DNS servers cannot be asked: {other}")),
    }
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

impl Ask for Questions<'_> {
    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let Some(name) = absolute(name) else { return Vec::new() };
        let look_up = |kind| self.resolver.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(look_up);
        found
            .flat_map(|found| found.answers().iter().filter_map(|one| one.data.ip_addr()).collect::<Vec<_>>())
            .collect()
    }

    /// By `search` and `ndots` (resolv.conf(5)).
    fn candidates(&self, name: &str) -> Vec<String> {
        let Ok(name) = Name::from_ascii(name) else { return Vec::new() };
        let mut as_it_is = name.clone();
        as_it_is.set_fqdn(true);
        // RFC 6761 §6.3: localhost is never completed.
        if name.is_fqdn() || name.is_localhost() {
            return vec![as_it_is.to_string()];
        }
        let completed = self.resolver.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut candidates: Vec<Name> = completed.collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        if dots >= self.resolver.ndots {
            candidates.insert(0, as_it_is);
        } else {
            candidates.push(as_it_is);
        }
        candidates.iter_mut().for_each(|name| name.set_fqdn(true));
        let mut names: Vec<String> = Vec::with_capacity(candidates.len());
        for name in candidates.iter().map(ToString::to_string) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    async fn v4(&self, name: &str) -> Result<Records<IpAddr>, NoAnswer> {
        let pick = |data: &RData| if let RData::A(address) = data { Some(IpAddr::V4(address.0)) } else { None };
        self.records(name, RecordType::A, pick).await
    }

    async fn v6(&self, name: &str) -> Result<Records<IpAddr>, NoAnswer> {
        let pick = |data: &RData| if let RData::AAAA(address) = data { Some(IpAddr::V6(address.0)) } else { None };
        self.records(name, RecordType::AAAA, pick).await
    }

    async fn services(&self, name: &str) -> Result<Records<Service>, NoAnswer> {
        let pick = |data: &RData| {
            let RData::SRV(srv) = data else { return None };
            Some(Service { priority: srv.priority, weight: srv.weight, port: srv.port, target: srv.target.to_string() })
        };
        self.records(name, RecordType::SRV, pick).await
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
