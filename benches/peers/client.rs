//! One client: asks, waits for the answer, and checks it. What protocol it speaks is inside.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio_rustls::TlsConnector;

use crate::{Failure, http1, http2};

/// What is asked for, and where.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsConnector>,
    /// A connection of its own for each request.
    pub(crate) fresh: bool,
    /// Head and body as they go over the wire, for HTTP/1.
    pub(crate) request: Vec<u8>,
    /// How many bytes one read may take.
    pub(crate) buffer: usize,
}

/// A client that has one request in flight at most.
pub(crate) enum Client {
    Http1(http1::Client),
    Http2(http2::Client),
}

impl Client {
    /// One request to its last byte. Anything but a whole answer with status 200 is a failure.
    pub(crate) async fn exchange(&mut self) -> Result<(), Failure> {
        match self {
            Self::Http1(client) => client.exchange().await,
            Self::Http2(client) => client.exchange().await,
        }
    }

    /// `count` clients with a connection each.
    pub(crate) fn http1(target: &Rc<Target>, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::Http1(http1::Client::new(Rc::clone(target)))).collect()
    }

    /// `count` clients for each of the connections.
    pub(crate) async fn http2(target: &Target, connections: usize, count: usize) -> Result<Vec<Self>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let connection = http2::Client::connect(target).await?;
            clients.extend((0..count).map(|_| Self::Http2(connection.clone())));
        }
        Ok(clients)
    }
}
