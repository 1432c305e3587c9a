//! The clients: how requests reach Weir in each case.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConnection, StreamOwned};

use crate::lean::{Call, Client, Http2Client};

/// One client connection in lockstep.
pub(crate) trait Connection {
    /// Sends one request, or as many as it has at a time.
    fn send(&mut self);
    /// Reads the whole answer to each.
    fn receive(&mut self);
}

/// HTTP/1, over whatever stream.
pub(crate) struct Http1<S> {
    client: Client<S>,
    request: Vec<u8>,
}

/// HTTP/1 in plaintext.
pub(crate) fn plain(address: SocketAddr, request: Vec<u8>) -> Box<dyn Connection> {
    Box::new(Http1 { client: Client::connect(address), request })
}

/// HTTP/1 over TLS 1.3 with this authority. The cipher is fixed: which one is fastest depends on the processor.
pub(crate) fn tls(address: SocketAddr, request: Vec<u8>, authority: &rcgen::Certificate) -> Box<dyn Connection> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 with that cipher")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "shop.example.com".try_into().expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = TcpStream::connect(address).expect("Weir accepts");
    stream.set_nodelay(true).expect("no delay");
    Box::new(Http1 { client: Client::over(StreamOwned::new(session, stream)), request })
}

impl<S: std::io::Read + std::io::Write> Connection for Http1<S> {
    fn send(&mut self) {
        self.client.send(&self.request);
    }

    fn receive(&mut self) {
        self.client.receive();
    }
}

/// HTTP/2 with prior knowledge, so many calls at a time.
pub(crate) fn http2(address: SocketAddr, call: Call, at_once: u32) -> Box<dyn Connection> {
    Box::new(Http2Client::connect(address, call, at_once))
}

impl Connection for Http2Client {
    fn send(&mut self) {
        Self::send(self);
    }

    fn receive(&mut self) {
        Self::receive(self);
    }
}
