//! Certificates are made here; handshakes are real ones, between rustls and rustls, in memory.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

use super::{Certificate, Certificates, Pair, Source, provider};

mod certificate;
mod handshake;

/// An authority that signs what the tests need.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
struct Made {
    cert: String,
    key: String,
}

impl Made {
    fn pair(&self) -> Pair<'_> {
        Pair {
            cert_file: Path::new("tls.crt"),
            cert: self.cert.as_bytes(),
            key_file: Path::new("tls.key"),
            key: self.key.as_bytes(),
        }
    }
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, params: &CertificateParams) -> Made {
        self.sign_with(params, &KeyPair::generate().unwrap())
    }

    fn sign_with(&self, params: &CertificateParams, key: &KeyPair) -> Made {
        Made { cert: params.signed_by(key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn server(&self, names: &[&str]) -> Made {
        self.sign(&params(names))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// 2026-11-01, well inside the life of what the tests make.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200)
}

fn load(made: &[&Made]) -> Certificates {
    Certificates::new(made.iter().map(|made| Certificate::load(&made.pair(), now()).unwrap()).collect())
}

/// A source that always gives this.
fn fixed<T: Send + Sync + 'static>(value: T) -> Source<T> {
    let value = Arc::new(value);
    Arc::new(move || Arc::clone(&value))
}

/// A source and what replaces its value.
fn replaceable<T: Send + Sync + 'static>(value: T) -> (Source<T>, Arc<ArcSwap<T>>) {
    let swap = Arc::new(ArcSwap::from_pointee(value));
    let source = Arc::clone(&swap);
    (Arc::new(move || source.load_full()), swap)
}

/// A client that trusts `authority` and shows `own`, if there is one.
fn client(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
    own: Option<&Made>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    match own {
        None => builder.with_no_client_auth(),
        Some(made) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// What both sides know after a handshake and one byte in each direction.
#[derive(Debug)]
struct Shaken {
    served: CertificateDer<'static>,
    client_cert: Option<CertificateDer<'static>>,
    kind: HandshakeKind,
    version: rustls::ProtocolVersion,
    alpn: Option<Vec<u8>>,
}

fn shake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> Result<Shaken, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    client.writer().write_all(b"?").unwrap();
    server.writer().write_all(b"!").unwrap();
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let forth = wire.len();
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if forth == 0 && wire.is_empty() {
            break;
        }
    }
    let mut byte = [0];
    client.reader().read_exact(&mut byte).unwrap();
    server.reader().read_exact(&mut byte).unwrap();
    Ok(Shaken {
        served: client.peer_certificates().unwrap()[0].clone().into_owned(),
        client_cert: server.peer_certificates().map(|chain| chain[0].clone().into_owned()),
        kind: server.handshake_kind().unwrap(),
        version: server.protocol_version().unwrap(),
        alpn: server.alpn_protocol().map(<[u8]>::to_vec),
    })
}

fn der(made: &Made) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap()
}
