//! Turns what the file says of sockets and logs into bound sockets and open logs.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::{StartError, system_error};
use crate::admin::{AdminListener, Auth};
use crate::config::{self, Config};
use crate::model::{Address, Name};
use crate::proxy::accept::listener::{self, Families, Listener, ProxyProtocol, Settings};
use crate::snapshot::Current;
use crate::telemetry::access_log::{LogOutput, LogWriter, MAX_QUEUED_LINES};
use crate::telemetry::{AccessLog, Recorder};
use crate::tls::{self, ClientAuth, Demand, MinVersion, Resumption};

/// The ports that the configuration takes at IPv4 addresses.
pub(super) struct Ipv4Ports(Vec<u16>);

impl Ipv4Ports {
    /// Those of `config`.
    pub(super) fn of(config: &Config) -> Self {
        let all = config.listeners.iter().map(|listener| &listener.address);
        let all = all.chain([&config.admin.address]).chain(config.telemetry.iter().map(|telemetry| &telemetry.address));
        let ipv4 = all.filter_map(|address| match address {
            Address::Inet(address) if address.is_ipv4() => Some(address.port()),
            _ => None,
        });
        Self(ipv4.collect())
    }

    /// `[::]` takes IPv4 too, unless the file has something else at that port for IPv4.
    fn families(&self, address: &Address) -> Families {
        match address {
            Address::Inet(address) if address.port() == 0 || !self.0.contains(&address.port()) => Families::Both,
            _ => Families::Own,
        }
    }
}

/// Binds all traffic listeners, a socket for each worker; they do not accept yet.
///
/// # Errors
/// Which one could not be bound, and why.
pub(super) fn bind(
    listeners: &[config::Listener],
    ipv4_ports: &Ipv4Ports,
    current: &Current,
    recorder: &Recorder,
    workers: usize,
) -> Result<Vec<Vec<Listener>>, StartError> {
    let resumption = Resumption::new().map_err(|error| StartError::System {
        what: "no randomness for session tickets".to_owned(),
        error: io::Error::other(error),
    })?;
    listeners
        .iter()
        .map(|listener| {
            let series = recorder.listener(&listener.name);
            let settings = settings(listener, ipv4_ports, current, &resumption)?;
            let what = format!("listener {} cannot listen on {}", listener.name, listener.address);
            Listener::bind(settings, series, workers).map_err(system_error(what))
        })
        .collect()
}

fn settings(
    listener: &config::Listener,
    ipv4_ports: &Ipv4Ports,
    current: &Current,
    resumption: &Resumption,
) -> Result<Settings, StartError> {
    let tls = listener.tls.as_ref().map(|tls| server_config(&listener.name, tls, current, resumption)).transpose()?;
    Ok(Settings {
        name: listener.name.clone(),
        address: listener.address.clone(),
        families: ipv4_ports.families(&listener.address),
        tls,
        proxy_protocol: listener.proxy_protocol.as_ref().map(|wanted| ProxyProtocol {
            from: wanted.from.iter().map(|cidr| cidr.get()).collect(),
            required: wanted.required,
        }),
        max_connections: usize::try_from(listener.max_connections).unwrap_or(usize::MAX),
        max_connections_per_address: listener.max_connections_per_address,
    })
}

/// The TLS of a listener; its certificates are those of the snapshot in effect at each handshake.
fn server_config(
    name: &Name,
    tls: &config::Tls,
    current: &Current,
    resumption: &Resumption,
) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let none = Arc::new(tls::Certificates::default());
    let (listener, now) = (name.clone(), current.clone());
    let certificates: tls::Source<tls::Certificates> = Arc::new(move || {
        now.peek().certificates.get(&listener).map_or_else(|| Arc::clone(&none), |tls| Arc::clone(&tls.certificates))
    });
    let client_auth = match &tls.client {
        None => None,
        Some(client) => {
            // Without authorities the listener has no certificates either; see `control::files`.
            let nobody = Arc::new(tls::ClientRoots::nobody());
            let (listener, now) = (name.clone(), current.clone());
            let roots: tls::Source<tls::ClientRoots> = Arc::new(move || {
                let roots = now.peek().certificates.get(&listener).and_then(|tls| tls.client_roots.clone());
                roots.unwrap_or_else(|| Arc::clone(&nobody))
            });
            let demand = match client.auth {
                config::ClientAuth::Required => Demand::Required,
                config::ClientAuth::Optional => Demand::Optional,
            };
            Some(ClientAuth { demand, roots })
        }
    };
    let options = tls::Options {
        min_version: match tls.min_version {
            config::TlsVersion::V1_2 => MinVersion::Tls12,
            config::TlsVersion::V1_3 => MinVersion::Tls13,
        },
        client_auth,
    };
    tls::server_config(&options, certificates, resumption)
        .map_err(|error| StartError::Unusable(vec![format!("listener {name}: {error}")]))
}

/// A bound socket of a face, and where it is.
pub(super) struct BoundSocket {
    pub(super) listener: AdminListener,
    pub(super) address: String,
    pub(super) auth: Auth,
}

/// Binds the telemetry socket, if there is to be one.
pub(super) fn telemetry(
    wanted_at: Option<&config::Telemetry>,
    ipv4_ports: &Ipv4Ports,
) -> Result<Option<BoundSocket>, StartError> {
    let Some(telemetry) = wanted_at else { return Ok(None) };
    let (listener, address) = bind_admin_socket("telemetry", &telemetry.address, ipv4_ports)?;
    Ok(Some(BoundSocket { listener, address, auth: Auth::default() }))
}

/// Binds the admin socket and reads its token.
pub(super) fn admin(admin: &config::Admin, ipv4_ports: &Ipv4Ports) -> Result<BoundSocket, StartError> {
    let token = match &admin.token_file {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(system_error(format!("the admin token {}", path.display())))?;
            let token = text.trim();
            if token.is_empty() {
                return Err(StartError::Unusable(vec![format!("{}: the admin token is empty", path.display())]));
            }
            Some(token.to_owned())
        }
    };
    let loopback = match &admin.address {
        Address::Inet(address) => is_loopback(address.ip()),
        Address::Unix(_) => true,
    };
    if token.is_none() && !loopback {
        return Err(StartError::Unusable(vec!["admin beyond loopback needs `token_file`".to_owned()]));
    }
    let (listener, address) = bind_admin_socket("admin", &admin.address, ipv4_ports)?;
    Ok(BoundSocket { listener, address, auth: Auth { token, allowed_hosts: admin.allowed_hosts.clone() } })
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn bind_admin_socket(what: &str, at: &Address, ipv4_ports: &Ipv4Ports) -> Result<(AdminListener, String), StartError> {
    let failed = format!("{what} cannot listen on {at}");
    match at {
        Address::Inet(address) => {
            let socket = listener::bind_tcp(*address, ipv4_ports.families(at)).map_err(system_error(failed.clone()))?;
            let address = socket.local_addr().map_err(system_error(failed))?.to_string();
            Ok((AdminListener::Tcp(socket), address))
        }
        Address::Unix(path) => {
            // Who may write to the socket may shift traffic: it is ours alone from its first moment.
            let mask = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
            let bound = listener::bind_unix(path);
            rustix::process::umask(mask);
            let socket = bound.map_err(system_error(failed))?;
            Ok((AdminListener::Unix(socket), at.to_string()))
        }
    }
}

/// Opens the access log.
///
/// # Errors
/// If its file cannot be opened.
pub(super) fn access_log(config: &Config, recorder: &Recorder) -> Result<(AccessLog, LogWriter), StartError> {
    let output = match &config.access_log.output {
        config::AccessLogOutput::Off => LogOutput::Off,
        config::AccessLogOutput::Stdout => LogOutput::Stdout,
        config::AccessLogOutput::Stderr => LogOutput::Stderr,
        config::AccessLogOutput::File(path) => LogOutput::File(path.clone()),
    };
    AccessLog::start(output, MAX_QUEUED_LINES, recorder.lines_dropped())
        .map_err(system_error("the access log cannot be opened"))
}
