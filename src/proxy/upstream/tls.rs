//! TLS towards endpoints.
//!
//! A worker has one configuration for each endpoint: rustls keeps the sessions in it, so a new connection to the same
//! endpoint resumes one. They are made when first needed and forgotten when no connection was made for an hour.
//!
//! Invariant: a certificate is verified against the name that the file has for the endpoint, unless `verify: false`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::destination::{Destination, PoolKey};
use super::error::TlsError;
use crate::proxy::io::transport::Socket;
use crate::snapshot::{Upstream, UpstreamTls};
use crate::tls::provider;

/// One worker's configurations, with the sessions that can be resumed.
#[derive(Default)]
pub(crate) struct TlsConnectors {
    configs: Mutex<HashMap<PoolKey, Config, ahash::RandomState>>,
}

struct Config {
    config: Arc<ClientConfig>,
    /// The settings that it was made from.
    upstream: Weak<Upstream>,
    last_used: Instant,
}

/// Sessions that are kept for each endpoint: as many tickets as rustls takes from one server.
const SESSIONS: usize = 8;

/// After this time without a new connection the sessions of an endpoint are forgotten.
pub(super) const FORGET: Duration = Duration::from_secs(3600);

impl TlsConnectors {
    /// Speaks TLS over `socket` with an endpoint that wants it as in `settings`.
    pub(super) async fn connect(
        &self,
        to: &Destination,
        settings: &UpstreamTls,
        socket: Socket,
    ) -> Result<TlsStream<Socket>, TlsError> {
        let name = server_name(to, settings);
        let name = ServerName::try_from(&*name).map_err(|_| TlsError::ServerName(name.as_str().into()))?.to_owned();
        let config = self.config(to, settings).await?;
        let connected = TlsConnector::from(config).connect(name, socket.reading_ahead()).await;
        connected.map_err(|error| TlsError::Handshake(Arc::new(error)))
    }

    async fn config(&self, to: &Destination, settings: &UpstreamTls) -> Result<Arc<ClientConfig>, TlsError> {
        let authorities = match &settings.ca {
            None if settings.verify => Some(system_authorities().await?),
            _ => None,
        };
        let now = Instant::now();
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = configs.get_mut(&to.key) {
            known.last_used = now;
            return Ok(Arc::clone(&known.config));
        }
        // Endpoints of one version share all but their sessions.
        let alike = configs.values().find(|known| std::ptr::eq(known.upstream.as_ptr(), &*to.upstream));
        let mut config = match alike {
            Some(alike) => ClientConfig::clone(&alike.config),
            None => client_config(&to.upstream, settings, authorities)?,
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let (config, upstream) = (Arc::new(config), Arc::downgrade(&to.upstream));
        configs.insert(to.key, Config { config: Arc::clone(&config), upstream, last_used: now });
        Ok(config)
    }

    /// Forgets the sessions of endpoints to which no connection was made for long.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        configs.retain(|_, known| now.saturating_duration_since(known.last_used) < FORGET);
    }
}

/// A configuration; `authorities` are the system's, for who has none of its own.
fn client_config(
    upstream: &Upstream,
    settings: &UpstreamTls,
    authorities: Option<Arc<RootCertStore>>,
) -> Result<ClientConfig, TlsError> {
    let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = versions.map_err(TlsError::Unsupported)?;
    let builder = if settings.verify {
        let authorities = match authorities {
            Some(system) => system,
            None => Arc::new(own_authorities(settings)?),
        };
        builder.with_root_certificates(authorities)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate))
    };
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = pair.chain.iter().cloned().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::try_from(pair.key.clone()).map_err(TlsError::ClientKey)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::ClientCertificate)?
        }
    };
    let protocol: &[u8] = if upstream.http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn own_authorities(settings: &UpstreamTls) -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    for der in settings.ca.iter().flatten() {
        authorities.add(CertificateDer::from_slice(der)).map_err(TlsError::Authority)?;
    }
    Ok(authorities)
}

/// The system's authorities (`SSL_CERT_FILE` is honoured), read when an endpoint first needs them.
async fn system_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    static AUTHORITIES: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    AUTHORITIES.get_or_try_init(read_authorities).await.map(Arc::clone)
}

async fn read_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let read = read.map_err(io::Error::other).flatten();
    let certificates = read.map_err(|error| TlsError::SystemAuthorities(Arc::new(error)))?;
    let mut authorities = RootCertStore::empty();
    // One that this system has and rustls cannot read is left out.
    authorities.add_parsable_certificates(certificates);
    Ok(Arc::new(authorities))
}

/// The name that the endpoint's certificate must be for.
fn server_name(to: &Destination, settings: &UpstreamTls) -> String {
    let name = settings.sni.as_deref().unwrap_or_else(|| {
        // As the file spells it: of a DNS name with several addresses, the name is what is certified.
        let host = to.spelled.rsplit_once(':').map_or(&*to.spelled, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    });
    match name.split_once('.') {
        // Certificates have no underscores, but names of services do: `*.shop.test` is meant for `v_1.shop.test`.
        Some((first, rest)) if settings.verify && rest.contains('.') => format!("{}.{rest}", first.replace('_', "-")),
        _ => name.to_owned(),
    }
}

/// Takes any certificate, for `verify: false`. The endpoint must still have the key that belongs to it.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
