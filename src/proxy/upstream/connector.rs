//! New connections to endpoints: TCP or unix, with TLS where the endpoint speaks it.
//!
//! ```text
//! socket ─► connection handle, known to drains ─► TLS ─► checked out for its first request
//! └──────────────────────── timeouts.connect ─────────┘
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::{TcpSocket, UnixStream};

use super::connection::{ConnectionHandle, PooledConnection};
use super::destination::Destination;
use super::error::ConnectError;
use super::tls::TlsConnectors;
use crate::model::Address;
use crate::proxy::descriptors;
use crate::proxy::io::transport::{Socket, Transport};
use crate::snapshot::live::Permit;

/// Makes a connection, for one request at once.
///
/// # Errors
/// Why there is none.
pub(crate) async fn connect(to: &Destination, tls: &TlsConnectors) -> Result<PooledConnection, ConnectError> {
    let permit = permit(to).await?;
    let began = std::time::Instant::now();
    let connected = establish_in_time(to, tls, permit).await;
    match &connected {
        Ok(_) => to.live.connected(),
        Err(error) => {
            if let Some(cause) = error.blames_endpoint() {
                to.live.connect_failed(cause, error.to_string(), began);
            }
        }
    }
    connected.inspect_err(|error| {
        tracing::debug!(endpoint = %to.spelled, %error, "no connection to an endpoint");
        /// When this was last said.
        static SAID: AtomicU64 = AtomicU64::new(0);
        if let ConnectError::NoResources(error) = error
            && descriptors::is_log_due(&SAID)
        {
            tracing::warn!(%error, "this machine cannot make connections to endpoints; requests are answered with 503");
        }
    })
}

/// Makes a connection for a question about the endpoint's health: it counts for nothing and is not used again.
///
/// # Errors
/// Why there is none.
pub(crate) async fn probe(to: &Destination, tls: &TlsConnectors) -> Result<PooledConnection, ConnectError> {
    establish_in_time(to, tls, None).await.inspect(|connection| connection.checkout.handle().retire())
}

/// The permit of a new connection, where its version's are limited. Where all are in use, an idle one makes way.
async fn permit(to: &Destination) -> Result<Option<Permit>, ConnectError> {
    let Some(limit) = &to.upstream.connections else { return Ok(None) };
    if limit.is_full() {
        let _ = to.live.make_way();
    }
    limit.enter(None).await.map(Some).map_err(|_| ConnectError::Full)
}

async fn establish_in_time(
    to: &Destination,
    tls: &TlsConnectors,
    permit: Option<Permit>,
) -> Result<PooledConnection, ConnectError> {
    let connected = tokio::time::timeout(to.connect_timeout, establish(to, tls, permit)).await;
    connected.unwrap_or(Err(ConnectError::TimedOut))
}

async fn establish(
    to: &Destination,
    tls: &TlsConnectors,
    permit: Option<Permit>,
) -> Result<PooledConnection, ConnectError> {
    let (socket, duplicate) = match &to.address {
        Address::Inet(address) => tcp(*address).await,
        Address::Unix(path) => {
            std::os::unix::net::SocketAddr::from_pathname(path).map_err(|_| ConnectError::BadAddress)?;
            unix(path).await
        }
    }
    .map_err(|error| ConnectError::of_system(&to.address, error))?;
    let checkout = ConnectionHandle::open(duplicate, to, permit).check_out();
    let transport = match &to.upstream.tls {
        None => Transport::Plain(socket),
        Some(settings) => Transport::Tls(Box::new(tls.connect(to, settings, socket).await?.into())),
    };
    Ok(PooledConnection { transport, checkout })
}

/// A socket, and its duplicate for the connection's handle.
async fn tcp(address: SocketAddr) -> io::Result<(Socket, OwnedFd)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let duplicate = socket.as_fd().try_clone_to_owned()?;
    descriptors::for_endpoint(&socket, &duplicate)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    // A peer that vanished without a word is noticed: while something is on its way to it by the one,
    // while its answer is waited for, in a stream for ever, by the other.
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    Ok((stream.into(), duplicate))
}

async fn unix(path: &Path) -> io::Result<(Socket, OwnedFd)> {
    let stream = UnixStream::connect(path).await?;
    let duplicate = stream.as_fd().try_clone_to_owned()?;
    descriptors::for_endpoint(&stream, &duplicate)?;
    Ok((stream.into(), duplicate))
}

/// Data sent and not acknowledged for this long ends the connection (`TCP_USER_TIMEOUT`, RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing comes is asked after 15 s, then each 5 s, and is over after 3 of those without answer.
const KEEPALIVE: socket2::TcpKeepalive = socket2::TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);
