//! Connections to HTTP/1 endpoints for the engine: from the worker's pool or new, each for one request.
//!
//! The engine knows neither the pool nor TLS: it gets the connection with its answer in
//! [`canonical`](super::canonical) form, and the hooks find the connection's handle in its digest.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr as EngineAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::VirtualSocketStream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{Digest, GetProxyDigest};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use tokio::time::Instant;

use super::canonical::Canonical;
use super::error;
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::connection::{Checkout, ConnectionHandle};
use crate::proxy::upstream::connector::connect;
use crate::proxy::upstream::destination::Destination;
use crate::snapshot::{Endpoint, Timeouts};

/// Where the engine gets its connection for one request.
struct EngineConnector {
    pools: Arc<Pools>,
    to: Destination,
    /// Use no connection that was used before.
    fresh: bool,
}

/// How the engine connects to an HTTP/1 endpoint for one request; `fresh`: over no connection that was used before.
pub(crate) fn peer(pools: &Arc<Pools>, endpoint: &Endpoint, timeouts: &Timeouts, fresh: bool) -> HttpPeer {
    // The connector knows the address; the engine only wants to have one.
    let mut peer = HttpPeer::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), false, String::new());
    let to = Destination::of(endpoint, timeouts);
    // It keeps no connection, for each answer says that its connection closes. If it did, it would be this endpoint's.
    peer.group_key = to.key.number();
    peer.options.write_timeout = Some(timeouts.idle);
    peer.options.custom_l4 = Some(Arc::new(EngineConnector { pools: Arc::clone(pools), to, fresh }));
    peer
}

#[async_trait]
impl L4Connect for EngineConnector {
    async fn connect(&self, _: &EngineAddress) -> Result<Stream> {
        let pooled = if self.fresh { None } else { self.pools.http1.checkout(self.to.key, Instant::now()) };
        let reused = pooled.is_some();
        let connection = match pooled {
            Some(pooled) => pooled,
            None => connect(&self.to, &self.pools.tls).await.map_err(error::of_connect)?,
        };
        let handle = connection.checkout.handle();
        handle.set_reused(reused);
        let canonical = Canonical::new(connection, Arc::clone(&self.pools), self.to.key, self.to.idle_timeout);
        let mut stream = Stream::from(VirtualSocketStream::new(Box::new(canonical)));
        let no_response = Box::new(ResponseHeader::build_no_case(200, Some(0))?);
        stream.set_proxy_digest(ProxyDigest::new(no_response, Some(Box::new(handle))));
        Ok(stream)
    }
}

impl fmt::Debug for EngineConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConnector").field("key", &self.to.key).field("fresh", &self.fresh).finish_non_exhaustive()
    }
}

/// The request's own checkout of the connection that the engine just got.
pub(crate) fn check_out(digest: Option<&Digest>) -> Option<Checkout> {
    let data = digest?.proxy_digest.as_deref()?.user_data.as_ref()?;
    data.downcast_ref::<Arc<ConnectionHandle>>().map(ConnectionHandle::check_out)
}
