//! One byte stream for TCP, TLS and unix sockets, for both sides.
//!
//! An enum, not a trait object, because odd behaviours reach through it to the socket: [`Stream::reset`] must set
//! `SO_LINGER` on what is below TLS.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, TlsStream};
use weir::model::Address;

use super::certs::Identity;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP, either side.
    Tls(Box<TlsStream<TcpStream>>),
    /// A unix stream socket.
    Unix(UnixStream),
}

/// Where a client connects to and how.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The socket.
    pub(crate) address: Address,
    /// TLS, if it is spoken.
    pub(crate) tls: Option<Tls>,
    /// Bytes written before anything else, TLS included: a PROXY protocol header.
    pub(crate) preamble: Vec<u8>,
}

impl Target {
    /// The same target, spoken to with TLS.
    pub(crate) fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// The same target with these bytes before anything else.
    pub(crate) fn preamble(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.preamble = bytes.into();
        self
    }
}

impl From<Address> for Target {
    fn from(address: Address) -> Self {
        Self { address, tls: None, preamble: Vec::new() }
    }
}

impl From<&Address> for Target {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<&Self> for Target {
    fn from(target: &Self) -> Self {
        target.clone()
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Address::Inet(address).into()
    }
}

impl From<&str> for Target {
    fn from(address: &str) -> Self {
        address.parse::<Address>().unwrap().into()
    }
}

/// How a client speaks TLS: whom it trusts, whom it asks for, who it is.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    roots: Vec<String>,
    name: String,
    identity: Option<Identity>,
    versions: Vec<&'static SupportedProtocolVersion>,
    sessions: Option<Sessions>,
}

/// Configurations by ALPN offer, each with its own tickets: rustls resumes only within one configuration.
type Sessions = Arc<Mutex<HashMap<Vec<Vec<u8>>, Arc<ClientConfig>>>>;

impl Tls {
    /// Trusts this authority (PEM) and asks for `name` by SNI; an IP address asks without SNI.
    pub(crate) fn trusting(authority: &super::Authority, name: &str) -> Self {
        Self {
            roots: vec![authority.pem()],
            name: name.to_owned(),
            identity: None,
            versions: vec![&rustls::version::TLS12, &rustls::version::TLS13],
            sessions: None,
        }
    }

    /// Shows this client certificate when asked.
    pub(crate) fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Speaks TLS 1.2 and nothing else.
    pub(crate) fn only_tls12(mut self) -> Self {
        self.versions = vec![&rustls::version::TLS12];
        self
    }

    /// Speaks TLS 1.3 and nothing else.
    pub(crate) fn only_tls13(mut self) -> Self {
        self.versions = vec![&rustls::version::TLS13];
        self
    }

    /// Keeps session tickets and offers them again: connections made with clones of this resume.
    pub(crate) fn resuming(mut self) -> Self {
        self.sessions = Some(Sessions::default());
        self
    }

    /// The rustls configuration that offers `alpn`: a fresh one, or the shared one if sessions are resumed.
    fn config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let offer: Vec<Vec<u8>> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        match &self.sessions {
            None => {
                let mut config = self.build(offer);
                config.resumption = Resumption::disabled();
                Arc::new(config)
            }
            Some(sessions) => {
                let mut sessions = sessions.lock().unwrap();
                sessions.entry(offer.clone()).or_insert_with(|| Arc::new(self.build(offer))).clone()
            }
        }
    }

    fn build(&self, alpn: Vec<Vec<u8>>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for pem in &self.roots {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(identity) => config.with_client_auth_cert(chain(identity), key(identity)).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn;
        config
    }
}

/// What a client learnt in the TLS handshake.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    /// The server's own certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// The protocol agreed on by ALPN.
    pub(crate) alpn: Option<String>,
    /// The TLS version.
    pub(crate) version: rustls::ProtocolVersion,
    /// Whether an earlier session was resumed.
    pub(crate) resumed: bool,
}

impl TlsFacts {
    /// Whether the server showed this identity.
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        chain(identity).first().is_some_and(|own| own.as_ref() == self.certificate)
    }
}

/// The TLS side of a server with this identity; with `client_ca`, only clients signed by it are let in.
pub(crate) fn server_config(identity: &Identity, client_ca: Option<&str>) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = match client_ca {
        None => config.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_single_cert(chain(identity), key(identity)).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(identity.cert.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()
}

impl Stream {
    /// Connects, writes the preamble, and shakes hands if the target speaks TLS.
    ///
    /// # Errors
    /// What the socket or the handshake says.
    pub(crate) async fn connect(target: &Target, alpn: &[&[u8]]) -> io::Result<Self> {
        use tokio::io::AsyncWriteExt;
        let mut tcp = match &target.address {
            Address::Unix(path) => {
                let mut unix = UnixStream::connect(path).await?;
                unix.write_all(&target.preamble).await?;
                assert!(target.tls.is_none(), "the harness speaks TLS over TCP only");
                return Ok(Self::Unix(unix));
            }
            Address::Inet(address) => TcpStream::connect(address).await?,
        };
        tcp.set_nodelay(true)?;
        tcp.write_all(&target.preamble).await?;
        let Some(tls) = &target.tls else { return Ok(Self::Tcp(tcp)) };
        let name = ServerName::try_from(tls.name.clone()).unwrap();
        let stream = TlsConnector::from(tls.config(alpn)).connect(name, tcp).await?;
        Ok(Self::Tls(Box::new(TlsStream::Client(stream))))
    }

    /// What the TLS handshake told this client; none without TLS.
    pub(crate) fn tls_facts(&self) -> Option<TlsFacts> {
        let Self::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        Some(TlsFacts {
            certificate: session.peer_certificates()?.first()?.to_vec(),
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            version: session.protocol_version()?,
            resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        })
    }

    /// Whether ALPN chose HTTP/2.
    pub(crate) fn speaks_h2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            _ => false,
        }
    }

    /// Closes at once with a TCP reset instead of an orderly end. A unix socket has no reset: it just closes.
    pub(crate) fn reset(self) {
        match &self {
            Self::Tcp(tcp) => tcp.set_zero_linger().unwrap(),
            Self::Tls(tls) => tls.get_ref().0.set_zero_linger().unwrap(),
            Self::Unix(_) => {}
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
