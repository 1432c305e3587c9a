//! Connections are real ones, on loopback; the endpoints are tasks of the same thread.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::connection::PooledConnection;
use super::connector::connect;
use super::destination::{Destination, PoolKey};
use super::error::{ConnectError, TlsError};
use super::{Pools, tls};
use crate::model::{Address, EndpointState};
use crate::proxy::io::transport::Transport;
use crate::snapshot::live::EndpointRegistry;
use crate::snapshot::{ClientPair, Endpoint, Timeouts, Upstream, UpstreamTls};
use crate::tls::provider;

pub(super) const PLAIN: Upstream = Upstream { http2: false, tls: None, max_idle: 8, connections: None };

/// An endpoint that no other call gives.
pub(super) fn endpoint(address: &Address, spelled: &str, upstream: Upstream) -> Endpoint {
    static REGISTRY: LazyLock<Mutex<(EndpointRegistry, usize)>> = LazyLock::new(Mutex::default);
    let mut registry = REGISTRY.lock().unwrap();
    registry.1 += 1;
    let version = format!("v{}", registry.1).into();
    Endpoint {
        name: spelled.into(),
        spelled: spelled.into(),
        address: address.clone(),
        weight: 1,
        declared: Default::default(),
        upstream: Arc::new(upstream),
        live: {
            let version = registry.0.version(&"shop".into(), &version);
            registry.0.endpoint(&version, address, EndpointState::Ready)
        },
        tls_hash: Default::default(),
    }
}

pub(super) fn destination(address: &Address, spelled: &str, upstream: Upstream) -> Destination {
    let second = Duration::from_secs(1);
    let timeouts = Timeouts { connect: second / 5, first_byte: second, idle: second, request: None, pool_idle: second };
    Destination::of(&endpoint(address, spelled, upstream), &timeouts)
}

pub(super) async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Inet(listener.local_addr().unwrap());
    (listener, address)
}

fn failed(connected: Result<PooledConnection, ConnectError>) -> ConnectError {
    connected.map(drop).expect_err("a connection")
}

#[tokio::test]
async fn each_failure_to_connect_has_its_error() {
    let pools = Pools::default();
    let to = |address: &Address| destination(address, "v1:80", PLAIN);
    let (listener, address) = listen().await;
    assert!(connect(&to(&address), &pools.tls).await.is_ok());
    drop(listener);
    assert!(matches!(failed(connect(&to(&address), &pools.tls).await), ConnectError::Refused));
    let folder = tempfile::tempdir().unwrap();
    let missing = Address::Unix(folder.path().join("v1.sock"));
    assert!(matches!(failed(connect(&to(&missing), &pools.tls).await), ConnectError::Io(_)));
    let long = Address::Unix(format!("/{}", "x".repeat(200)).into());
    assert!(matches!(failed(connect(&to(&long), &pools.tls).await), ConnectError::BadAddress));
    // The listener's queue takes the connection; nobody shakes hands, and the time for connecting covers that too.
    let (_silent, address) = listen().await;
    let to = destination(&address, "v1:80", Upstream { tls: Some(unverified()), ..PLAIN });
    assert!(matches!(failed(connect(&to, &pools.tls).await), ConnectError::TimedOut));
}

#[tokio::test]
async fn an_idle_connection_is_used_again_unless_it_is_over() {
    let pools = Pools::default();
    let (listener, address) = listen().await;
    let to = destination(&address, "v1:80", PLAIN);
    let now = Instant::now();
    let (mut far, mut near) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        near.push(connect(&to, &pools.tls).await.unwrap());
        far.push(listener.accept().await.unwrap().0);
    }
    let numbers: Vec<i32> = near.iter().map(|near| near.transport.raw_fd()).collect();
    let unusable = near.pop().unwrap();
    unusable.checkout.mark_unusable();
    pools.http1.put(to.key, unusable, now + Duration::from_secs(9), false);
    for (connection, seconds) in near.into_iter().zip([9, 1, 9]) {
        pools.http1.put(to.key, connection, now + Duration::from_secs(seconds), false);
    }
    assert_eq!(to.live.idle.load(std::sync::atomic::Ordering::Relaxed), 3);
    let other = destination(&address, "v1:80", PLAIN);
    assert!(pools.http1.checkout(other.key, now).is_none(), "of another endpoint, if at the same address");
    // The youngest one was ended by the endpoint, the next one's time is up.
    drop(far.remove(2));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let found = pools.http1.checkout(to.key, now + Duration::from_secs(5)).unwrap();
    assert_eq!(found.transport.raw_fd(), numbers[0]);
    assert!(pools.http1.checkout(to.key, now).is_none());
    pools.http1.put(to.key, found, now + Duration::from_secs(1), false);
    pools.http1.sweep(now + Duration::from_secs(2));
    assert!(pools.http1.checkout(to.key, now).is_none());
}

/// An authority, and what it signs.
struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> ClientPair {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        ClientPair { chain: vec![cert.der().to_vec()], key: key.serialize_der() }
    }
}

fn unverified() -> UpstreamTls {
    UpstreamTls { sni: None, verify: false, ca: None, client: None }
}

fn trusting(authority: &Authority) -> UpstreamTls {
    UpstreamTls { verify: true, ca: Some(vec![authority.der.clone()]), ..unverified() }
}

/// An endpoint that has a certificate of this authority for this name, and wants one of it from clients, or not.
fn server(authority: &Authority, name: &str, wants: bool) -> TlsAcceptor {
    let ClientPair { chain, key } = authority.sign(name);
    let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = if wants {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone().into()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        versions.with_client_cert_verifier(verifier)
    } else {
        versions.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let mut config = builder.with_single_cert(chain.into_iter().map(Into::into).collect(), key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Says one byte on each connection, so that the client reads the tickets before it.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    async fn answer(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<()> {
        let mut stream = acceptor.accept(stream).await?;
        stream.write_all(b"1").await?;
        stream.read_u8().await.map(drop)
    }
    loop {
        // Who is refused hears why.
        let _ = answer(&acceptor, listener.accept().await.unwrap().0).await;
    }
}

/// How the handshake went, with the protocol that was chosen.
async fn shaken(to: &Destination, pools: &Pools) -> Result<(HandshakeKind, String), TlsError> {
    let mut transport = match connect(to, &pools.tls).await {
        Ok(connection) => connection.transport,
        Err(ConnectError::Tls(error)) => return Err(error),
        Err(error) => panic!("{error}"),
    };
    // Over TLS 1.3 a client hears only now that its certificate was refused.
    let read = transport.read_u8().await;
    read.map_err(|error| TlsError::Handshake(Arc::new(error)))?;
    let Transport::Tls(stream) = &transport else { panic!("plain") };
    let TlsStream::Client(stream) = &**stream else { panic!("a server's") };
    let connection = stream.get_ref().1;
    let protocol = String::from_utf8(connection.alpn_protocol().unwrap_or_default().to_vec()).unwrap();
    Ok((connection.handshake_kind().unwrap(), protocol))
}

#[tokio::test]
async fn an_endpoint_is_believed_only_under_its_name_and_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pools = Pools::default();
    let of = |settings: UpstreamTls| Upstream { tls: Some(settings), ..PLAIN };
    let own = || of(trusting(&authority));
    let named = |name: &str| of(UpstreamTls { sni: Some(name.into()), ..trusting(&authority) });
    let with = |client| of(UpstreamTls { client: Some(client), ..trusting(&authority) });
    for (certified, wants, spelled, upstream, works) in [
        ("shop.test", false, "shop.test:443", own(), true),
        ("shop.test", false, "other.test:443", own(), false),
        ("shop.test", false, "other.test:443", named("shop.test"), true),
        ("127.0.0.1", false, "127.0.0.1:443", own(), true),
        ("v-1.shop.test", false, "v_1.shop.test:443", own(), true),
        ("shop.test", false, "shop.test:443", named("not a name"), false),
        ("shop.test", false, "shop.test:443", of(trusting(&stranger)), false),
        ("shop.test", false, "shop.test:443", of(UpstreamTls { ca: None, ..trusting(&stranger) }), false),
        ("shop.test", false, "other.test:443", of(unverified()), true),
        ("shop.test", true, "shop.test:443", own(), false),
        ("shop.test", true, "shop.test:443", with(authority.sign("weir.test")), true),
        ("shop.test", true, "shop.test:443", with(stranger.sign("weir.test")), false),
    ] {
        let (listener, address) = listen().await;
        let serving = tokio::spawn(serve(listener, server(&authority, certified, wants)));
        let to = destination(&address, spelled, upstream);
        let tls = to.upstream.tls.clone();
        let found = shaken(&to, &pools).await;
        assert_eq!(found.is_ok(), works, "{certified} as {spelled} with {tls:?}: {found:?}");
        serving.abort();
    }
}

#[tokio::test]
async fn sessions_are_resumed_with_their_endpoint_only() {
    let authority = Authority::new();
    let pools = Pools::default();
    let (listener, address) = listen().await;
    tokio::spawn(serve(listener, server(&authority, "shop.test", false)));
    let to = destination(&address, "shop.test:443", Upstream { tls: Some(trusting(&authority)), ..PLAIN });
    let h2 = Upstream { http2: true, tls: Some(trusting(&authority)), ..PLAIN };
    let http1 = |kind| (kind, "http/1.1".to_owned());
    assert_eq!(shaken(&to, &pools).await.unwrap(), http1(HandshakeKind::Full));
    assert_eq!(shaken(&to, &pools).await.unwrap(), http1(HandshakeKind::Resumed));
    let other = destination(&address, "shop.test:443", Upstream::clone(&to.upstream));
    assert_eq!(shaken(&other, &pools).await.unwrap(), http1(HandshakeKind::Full));
    let h2 = destination(&address, "shop.test:443", h2);
    assert_eq!(shaken(&h2, &pools).await.unwrap(), (HandshakeKind::Full, "h2".to_owned()));
    // What was not used for long is forgotten.
    pools.tls.sweep(Instant::now() + tls::FORGET);
    assert_eq!(shaken(&to, &pools).await.unwrap(), http1(HandshakeKind::Full));
}

#[test]
fn connections_are_alike_only_under_the_same_settings() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let address: Address = "127.0.0.1:1".parse().unwrap();
    let plain = endpoint(&address, "v1:1", PLAIN);
    let with = |spelled: &str, settings: UpstreamTls| {
        let upstream = Arc::new(Upstream { tls: Some(settings), ..PLAIN });
        let (name, address, live) = (plain.name.clone(), address.clone(), Arc::clone(&plain.live));
        let (declared, tls_hash) = (plain.declared, Default::default());
        PoolKey::of(&Endpoint { name, spelled: spelled.into(), address, weight: 1, declared, upstream, live, tls_hash })
    };
    let own = || trusting(&authority);
    let keys = [
        PoolKey::of(&plain),
        with("v1:1", own()),
        with("v2:1", own()),
        with("v1:1", UpstreamTls { verify: false, ..own() }),
        with("v1:1", UpstreamTls { sni: Some("v1".into()), ..own() }),
        with("v1:1", UpstreamTls { client: Some(authority.sign("weir.test")), ..own() }),
        with("v1:1", UpstreamTls { ca: None, ..own() }),
        with("v1:1", trusting(&stranger)),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[at + 1..].contains(key), "{at}");
    }
    assert_eq!(keys[1], with("v1:1", own()));
}
