//! How an endpoint is reached: what its snapshot says, as the engine and its TLS want it, derived once for an endpoint.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::{HttpPeer, Peer, PeerOptions};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora_error::{Error, ErrorType, OkOrErr, Result};

use super::connection::{Checkout, Connector};
use super::door::EngineConnector;
use super::pool::Line;
use crate::model::Address;
use crate::proxy::pingora::canonical::Home;
use crate::snapshot::{Endpoint, Timeouts, UpstreamTls};

/// Connects to an endpoint for a lane that carries the connection itself.
///
/// # Errors
/// The engine's, so that both lanes count and answer them alike.
pub(crate) async fn connect(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<(Line, Checkout)> {
    let address = match &endpoint.address {
        Address::Inet(address) => SocketAddr::Inet(*address),
        Address::Unix(path) => std::os::unix::net::SocketAddr::from_pathname(path)
            .map(SocketAddr::Unix)
            .map_err(|_| Error::explain(ErrorType::InternalError, "the socket's path is too long"))?,
    };
    kept(endpoint, timeouts)?.door.open(&address).await
}

/// The key of an endpoint's connections in a worker's pool.
///
/// # Errors
/// If the endpoint's address is none the engine can take.
pub(crate) fn key(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<u64> {
    if endpoint.upstream.tls.is_none() {
        return Ok(endpoint.live.id);
    }
    Ok(kept(endpoint, timeouts)?.door.home().key)
}

/// How the engine connects to an endpoint for one request; `fresh`: over no connection that was used before.
///
/// # Errors
/// If the endpoint's address is none the engine can take.
pub(crate) fn peer(endpoint: &Endpoint, timeouts: &Timeouts, fresh: bool) -> Result<HttpPeer> {
    let kept = kept(endpoint, timeouts)?;
    let mut peer = kept.peer.clone();
    if fresh && endpoint.upstream.http2 {
        peer.group_key = one_time_key();
        peer.options.idle_timeout = Some(Duration::ZERO);
    } else if fresh {
        peer.options.custom_l4 = Some(Arc::new(kept.door.clone().fresh()));
    }
    Ok(peer)
}

/// What does not change from request to request about the connections to an endpoint.
struct Kept {
    /// For the engine.
    peer: HttpPeer,
    door: EngineConnector,
}

/// Derives what does not change once.
fn kept(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Arc<Kept>> {
    let known = endpoint.engine.get().map(Arc::clone).and_then(|kept| kept.downcast::<Kept>().ok());
    if let Some(known) = known {
        return Ok(known);
    }
    let direct = template(endpoint, timeouts)?;
    let tls = endpoint.upstream.tls.as_ref().map(|_| direct.clone());
    // Ids count up from 0; hashes fill the rest of the numbers.
    let key = tls.as_ref().map_or(endpoint.live.id, |peer| peer.reuse_hash() | 1 << 63);
    let home = Home { key, idle: timeouts.pool_idle };
    let door = EngineConnector::new(Connector::new(endpoint, timeouts), tls, home);
    let peer = if endpoint.upstream.http2 { direct } else { through(&door, endpoint, direct)? };
    let kept = Arc::new(Kept { peer, door });
    // Another request may have been first; both are alike.
    let _ = endpoint.engine.set(Arc::<Kept>::clone(&kept));
    Ok(kept)
}

/// How the engine connects to an HTTP/1 endpoint: through `door`, behind which TLS is.
fn through(door: &EngineConnector, endpoint: &Endpoint, direct: HttpPeer) -> Result<HttpPeer> {
    let mut peer = bare(endpoint, false, String::new())?;
    peer.group_key = direct.group_key;
    peer.options = direct.options;
    peer.options.custom_l4 = Some(Arc::new(door.clone()));
    Ok(peer)
}

/// A pool key that no other request has: forces a new connection.
fn one_time_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The pool key of an endpoint. The engine's own key leaves out whom a connection trusted when it was made, so
/// what was verified against authorities that are no longer believed must not be reused.
fn pool_key(endpoint: &Endpoint) -> u64 {
    let authorities = endpoint.upstream.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let mut hasher = DefaultHasher::new();
    (endpoint.live.id, authorities).hash(&mut hasher);
    // The upper half belongs to one-time keys.
    hasher.finish() >> 1
}

/// An endpoint's address, as the engine has it.
fn bare(endpoint: &Endpoint, tls: bool, sni: String) -> Result<HttpPeer> {
    match &endpoint.address {
        Address::Inet(address) => Ok(HttpPeer::new(*address, tls, sni)),
        Address::Unix(path) => {
            let path = path.to_str().or_err(ErrorType::InternalError, "the socket's path is not text")?;
            HttpPeer::new_uds(path, tls, sni)
        }
    }
}

/// How to connect to an endpoint without anything between.
fn template(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<HttpPeer> {
    let upstream = &endpoint.upstream;
    let sni = upstream.tls.as_ref().map_or_else(String::new, |tls| server_name(endpoint, tls));
    let mut peer = bare(endpoint, upstream.tls.is_some(), sni)?;
    // Connections of one endpoint are never another's, whatever the address says.
    peer.group_key = pool_key(endpoint);
    let options: &mut PeerOptions = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.write_timeout = Some(timeouts.idle);
    options.idle_timeout = Some(timeouts.pool_idle);
    options.custom_l4 = Some(Arc::new(Connector::new(endpoint, timeouts)));
    if upstream.http2 {
        options.set_http_version(2, 2);
    }
    if let Some(tls) = &upstream.tls {
        options.verify_cert = tls.verify;
        options.verify_hostname = tls.verify;
        options.ca = tls.ca.as_ref().map(|authorities| {
            let parsed: Vec<WrappedX509> =
                authorities.iter().map(|der| WrappedX509::new(der.clone(), parse_x509)).collect();
            Arc::from(parsed.into_boxed_slice())
        });
        peer.client_cert_key =
            tls.client.as_ref().map(|pair| Arc::new(CertKey::new(pair.chain.clone(), pair.key.clone())));
    }
    Ok(peer)
}

/// The name to verify: never empty, because the engine skips verification without one.
fn server_name(endpoint: &Endpoint, tls: &UpstreamTls) -> String {
    tls.sni.as_deref().map_or_else(
        || {
            // As the file spells it: of a DNS name with several addresses, the name is what is certified.
            let host = endpoint.spelled.rsplit_once(':').map_or(&*endpoint.spelled, |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']').to_owned()
        },
        str::to_owned,
    )
}
