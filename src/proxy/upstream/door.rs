//! The way to an HTTP/1 endpoint: a connection from the worker's pool or a new one, with TLS where the endpoint speaks it.
//!
//! The express lane takes the connection itself. The engine gets it for one request, and its answer in
//! [`canonical`](crate::proxy::pingora::canonical) form; so it knows neither the pool nor TLS.

use std::cell::OnceCell;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::connectors::{L4Connect, TransportConnector};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::VirtualSocketStream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{ErrorType, OkOrErr, Result};
use tokio::time::Instant;

use super::connection::{Checkout, Connector, Dialled, with_handle};
use super::pool::{self, Line};
use crate::proxy::pingora::canonical::{Canonical, Home};

/// Where the engine gets its connections to one HTTP/1 endpoint.
#[derive(Clone, Debug)]
pub(crate) struct EngineConnector {
    dialler: Connector,
    /// How to connect where the endpoint speaks TLS.
    tls: Option<HttpPeer>,
    home: Home,
    /// Use no pooled connection.
    fresh: bool,
}

impl EngineConnector {
    /// The way to an endpoint; `tls`: how to connect where it speaks TLS.
    pub(crate) fn new(dialler: Connector, tls: Option<HttpPeer>, home: Home) -> Self {
        Self { dialler, tls, home, fresh: false }
    }

    /// The same, without the pool.
    pub(crate) fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    /// Where its connections are while no request uses them.
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// A new connection.
    ///
    /// # Errors
    /// The engine's, so that both lanes count and answer them alike.
    pub(crate) async fn open(&self, address: &SocketAddr) -> Result<(Line, Checkout)> {
        if let Some(peer) = &self.tls {
            let connector = CONNECTOR
                .with(|connector| Arc::clone(connector.get_or_init(|| Arc::new(TransportConnector::new(None)))));
            let stream = connector.new_stream(peer).await?;
            let checkout = Checkout::held_by(stream.get_proxy_digest().as_deref(), false)?;
            let checkout = checkout.or_err(ErrorType::InternalError, "the connection has no handle")?;
            return Ok((Line::Engine(stream), checkout));
        }
        let (dialled, handle) = self.dialler.dial(address).await?;
        let socket = match dialled {
            Dialled::Tcp(stream) => stream.into(),
            Dialled::Unix(stream) => stream.into(),
        };
        let checkout = handle.check_out(false).or_err(ErrorType::InternalError, "a new connection is always free")?;
        Ok((Line::Plain(socket), checkout))
    }
}

#[async_trait]
impl L4Connect for EngineConnector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let pooled = if self.fresh { None } else { pool::checkout(self.home.key, Instant::now()) };
        let reused = pooled.is_some();
        let (line, checkout) = match pooled {
            Some(pooled) => pooled,
            None => self.open(address).await?,
        };
        let handle = checkout.handle();
        handle.set_reused(reused);
        let canonical = Canonical::new(line, checkout, self.home);
        with_handle(Stream::from(VirtualSocketStream::new(Box::new(canonical))), handle)
    }
}

thread_local! {
    /// The engine's connector for TLS; its certificate authorities are read when an endpoint first needs them.
    static CONNECTOR: OnceCell<Arc<TransportConnector>> = const { OnceCell::new() };
}
