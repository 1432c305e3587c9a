//! The clients: how requests reach Weir in each case.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use rustls::{ClientConnection, StreamOwned};
use tokio::runtime::Runtime;

use crate::lean::Client;

/// One client connection in lockstep.
pub(crate) trait Connection {
    /// Sends one request.
    fn send(&mut self);
    /// Reads its whole answer.
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

/// HTTP/2 with prior knowledge, one stream at a time.
struct Http2 {
    runtime: Runtime,
    sender: h2::client::SendRequest<Bytes>,
    request: http::Request<()>,
}

/// HTTP/2 in plaintext, prior knowledge.
pub(crate) fn http2(address: SocketAddr) -> Box<dyn Connection> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sender = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("Weir accepts");
        stream.set_nodelay(true).expect("no delay");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        sender
    });
    let request = http::Request::get("http://shop.example.com/checkout")
        .header("user-agent", "lean/1.0")
        .header("accept", "*/*")
        .body(())
        .expect("a request");
    Box::new(Http2 { runtime, sender, request })
}

impl Connection for Http2 {
    /// Nothing yet: the runtime that would carry it stands still until [`Self::receive`].
    fn send(&mut self) {}

    fn receive(&mut self) {
        let Self { runtime, sender, request } = self;
        runtime.block_on(async {
            *sender = sender.clone().ready().await.expect("a stream");
            let (answer, _) = sender.send_request(request.clone(), true).expect("a request is taken");
            let answer = answer.await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            let mut length = 0;
            while let Some(data) = body.data().await {
                let data = data.expect("the body goes on");
                length += data.len();
                body.flow_control().release_capacity(data.len()).expect("what was read is given back");
            }
            assert_eq!(length, 128);
        });
    }
}
