//! Connections to endpoints: how they are dialled, when they may be reused, how they are closed.
//!
//! Each connection that we dial carries a [`ConnectionHandle`] with its own duplicate of the socket. A drain shuts idle sockets
//! down through it (the pool sees the end of stream and forgets them), a deadline ends the connection under a request,
//! and a connection that must not be reused says so at the moment somebody takes it from the pool.
//!
//! Idle HTTP/1 connections are in the worker's [`pool`](crate::proxy::upstream::pool), for both lanes: the engine gets one through a
//! [`door`](crate::proxy::upstream::door), for one request, and its answer in [`canonical`](crate::proxy::pingora::canonical) form. Those over
//! HTTP/2 are in [`h2`](crate::proxy::upstream::h2)'s.
//!
//! Invariant: a connection whose response began before its request was fully written is never reused; the
//! endpoint could take the rest of that request for the start of the next one. See [`upload`](crate::proxy::request::upload).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{Digest, GetProxyDigest};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::proxy::descriptors;
use crate::proxy::io::tcp_info::TcpInfo;
use crate::proxy::request::failure::NO_MEANS;
pub(crate) use crate::proxy::upstream::reach::{connect, key, peer};
use crate::snapshot::live::{EndpointLive, UpstreamConnection};
use crate::snapshot::{Endpoint, Timeouts};

/// An open upstream connection, told apart from its stream so that others can end it.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    socket: OwnedFd,
    live: Arc<EndpointLive>,
    max_idle: usize,
    /// Whether several requests may be on it at once, as over HTTP/2.
    shared: bool,
    /// Whether TLS is spoken on it.
    tls: bool,
    /// Whether the request on it is not its first. Not for shared ones, of which the engine knows.
    reused: AtomicBool,
    /// Holds on it now. Over HTTP/1 its stream has one and the request another, which may last a little longer.
    busy: AtomicUsize,
    /// Not to be used again once it is free.
    closing: AtomicBool,
    /// Whether it counts among the endpoint's idle connections.
    counted_idle: AtomicBool,
    /// Bytes that were read since the client took some.
    ahead: AtomicUsize,
}

impl ConnectionHandle {
    /// Bytes that were read since the client took some.
    pub(crate) fn ahead(&self) -> usize {
        self.ahead.load(Ordering::Relaxed)
    }

    /// The engine read bytes of an answer.
    pub(crate) fn read(&self, bytes: usize) {
        self.ahead.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Something came on it while no request was.
    pub(crate) fn unsolicited(&self) {
        self.live.unsolicited();
    }

    /// Whether the endpoint has sent something that was not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(&self.socket, &mut byte, flags).is_ok_and(|(_, read)| read > 0)
    }

    fn shut(&self) {
        // The peer may have closed it first; there is nobody to tell.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Whether it must not be used again.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Notes whether the request on it is not its first.
    pub(crate) fn set_reused(&self, reused: bool) {
        self.reused.store(reused, Ordering::Relaxed);
    }

    /// Not to be used again: it closes with its last request.
    pub(crate) fn retire(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Whether nobody uses it and the endpoint has closed it.
    pub(crate) fn is_closed_idle(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        self.busy.load(Ordering::SeqCst) == 0
            && rustix::net::recv(&self.socket, &mut byte, flags).is_ok_and(|(_, read)| read == 0)
    }

    /// Takes the connection for one request. `None` if it must not be reused.
    pub(crate) fn check_out(self: &Arc<Self>, reused: bool) -> Option<Checkout> {
        let others = self.busy.fetch_add(1, Ordering::SeqCst);
        let checkout = Checkout(Arc::clone(self));
        if self.counted_idle.swap(false, Ordering::AcqRel) {
            self.live.idle.fetch_sub(1, Ordering::Relaxed);
        }
        // Of a shared connection only the first request decides; others on it would be ended with it.
        let refusable = reused && (others == 0 || !self.shared);
        if refusable && self.closing.load(Ordering::SeqCst) { None } else { Some(checkout) }
    }
}

impl UpstreamConnection for ConnectionHandle {
    fn close_idle(&self) {
        self.closing.store(true, Ordering::SeqCst);
        if self.busy.load(Ordering::SeqCst) == 0 {
            self.shut();
        }
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        if *self.counted_idle.get_mut() {
            self.live.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The handle of a connection, as the engine carries it.
pub(crate) fn handle_of(digest: Option<&ProxyDigest>) -> Option<&Arc<ConnectionHandle>> {
    digest?.user_data.as_ref()?.downcast_ref()
}

/// A request's hold on an upstream connection.
#[derive(Debug)]
#[must_use = "the connection is busy only while its checkout lives"]
pub(crate) struct Checkout(Arc<ConnectionHandle>);

impl Checkout {
    /// Whether the request is not the connection's first.
    pub(crate) fn is_reused(&self) -> bool {
        self.0.reused.load(Ordering::Relaxed)
    }

    /// Whether TLS is spoken on the connection.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.tls
    }

    /// The request is over; the connection may be used for another unless the handle says that it is closing.
    pub(crate) fn release(self) -> Arc<ConnectionHandle> {
        Arc::clone(&self.0)
    }

    /// The connection that it holds.
    pub(crate) fn handle(&self) -> Arc<ConnectionHandle> {
        Arc::clone(&self.0)
    }

    /// The checkout of a connection that the engine just made or took from its pool.
    ///
    /// # Errors
    /// [`ErrorType::Custom`] with [`NOT_REUSABLE`] if the connection must not be reused; nothing was sent on it.
    pub(crate) fn of(digest: Option<&Digest>, reused: bool) -> Result<Option<Self>> {
        Self::held_by(digest.and_then(|digest| digest.proxy_digest.as_deref()), reused)
    }

    pub(crate) fn held_by(digest: Option<&ProxyDigest>, reused: bool) -> Result<Option<Self>> {
        let Some(handle) = handle_of(digest) else { return Ok(None) };
        match handle.check_out(reused) {
            Some(checkout) => Ok(Some(checkout)),
            None => Error::e_explain(NOT_REUSABLE, "the pooled connection was to be closed"),
        }
    }

    /// The endpoint may take the rest of this request for the next one: the connection must not be reused.
    /// HTTP/2 frames keep requests apart, so a shared connection stays as it is.
    pub(crate) fn mark_unusable(&self) {
        if !self.0.shared {
            self.0.closing.store(true, Ordering::SeqCst);
        }
    }

    /// Whether bytes of an answer over HTTP/1 wait behind what the client takes.
    pub(crate) fn is_held_up(&self) -> bool {
        self.0.ahead() > 0
    }

    /// The client takes what was read so far.
    pub(crate) fn taken(&self) {
        self.0.ahead.store(0, Ordering::Relaxed);
    }

    /// Holds what is written back in the kernel, or lets it go; whether it is held. Unix sockets hold nothing.
    pub(crate) fn cork(&self, hold: bool) -> bool {
        rustix::net::sockopt::set_tcp_cork(&self.0.socket, hold).is_ok() && hold
    }

    /// Whether the endpoint has sent something that was not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        self.0.has_unread()
    }

    /// How many bytes the endpoint sent since the connection was made, read or not; none where the kernel does not tell.
    pub(crate) fn received(&self) -> Option<u64> {
        // Frames keep requests apart on a shared connection: nobody needs to know.
        let told = !self.0.shared;
        told.then(|| TcpInfo::of(&self.0.socket).ok()).flatten().map(|info| info.bytes_received())
    }

    /// Whether the endpoint acknowledged all that was written to it. What was written to a unix socket is there.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.0.shared || TcpInfo::of(&self.0.socket).map_or(true, |info| info.is_acknowledged())
    }

    /// Whether an answer whose first byte is here now can only be one to the whole request; not where nobody knows.
    pub(crate) fn is_answered_late(&self) -> bool {
        self.0.shared || TcpInfo::of(&self.0.socket).is_ok_and(|info| info.is_answered_late())
    }

    /// Ends the connection now if this request is the only one on it; whether it did.
    pub(crate) fn end(&self) -> bool {
        self.0.closing.store(true, Ordering::SeqCst);
        let alone = !self.0.shared || self.0.busy.load(Ordering::SeqCst) <= 1;
        if alone {
            self.0.shut();
        }
        alone
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let handle = &self.0;
        if handle.busy.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        // What closes now is no idle connection any more.
        if !handle.is_closing()
            && !handle.counted_idle.swap(true, Ordering::AcqRel)
            && handle.live.idle.fetch_add(1, Ordering::Relaxed) >= handle.max_idle
        {
            handle.closing.store(true, Ordering::SeqCst);
        }
        if handle.closing.load(Ordering::SeqCst) || !handle.live.is_accepting() {
            handle.close_idle();
        }
    }
}

/// The error type of a pooled connection that is not to be reused: take another one.
pub(crate) const NOT_REUSABLE: ErrorType = ErrorType::Custom("weir: pooled connection not reusable");

/// Dials one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    live: Arc<EndpointLive>,
    max_idle: usize,
    shared: bool,
    tls: bool,
    connect: Duration,
}

/// A socket to an endpoint.
pub(crate) enum Dialled {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connector {
    pub(crate) fn new(endpoint: &Endpoint, timeouts: &Timeouts) -> Self {
        Self {
            live: Arc::clone(&endpoint.live),
            max_idle: endpoint.upstream.max_idle,
            shared: endpoint.upstream.http2,
            tls: endpoint.upstream.tls.is_some(),
            connect: timeouts.connect,
        }
    }

    /// Dials, and makes the connection's handle known to whoever drains the endpoint.
    pub(crate) async fn dial(&self, address: &SocketAddr) -> Result<(Dialled, Arc<ConnectionHandle>)> {
        let dial = async {
            match address {
                SocketAddr::Inet(address) => {
                    let socket = match address {
                        std::net::SocketAddr::V4(_) => TcpSocket::new_v4(),
                        std::net::SocketAddr::V6(_) => TcpSocket::new_v6(),
                    }?;
                    let handle = socket.as_fd().try_clone_to_owned()?;
                    descriptors::for_endpoint(&socket, &handle)?;
                    let stream = socket.connect(*address).await?;
                    stream.set_nodelay(true)?;
                    // A peer that vanished without a word is noticed: while something is on its way to it by the one,
                    // while its answer is waited for, in a stream for ever, by the other.
                    let socket = socket2::SockRef::from(&stream);
                    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
                    socket.set_tcp_keepalive(&KEEPALIVE)?;
                    Ok((Dialled::Tcp(stream), handle))
                }
                SocketAddr::Unix(address) => {
                    let path = address.as_pathname().ok_or(io::ErrorKind::InvalidInput)?;
                    let stream = UnixStream::connect(path).await?;
                    let handle = stream.as_fd().try_clone_to_owned()?;
                    descriptors::for_endpoint(&stream, &handle)?;
                    Ok((Dialled::Unix(stream), handle))
                }
            }
        };
        let (stream, socket) = match tokio::time::timeout(self.connect, dial).await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(error)) => return Error::e_because(connect_error(address, &error), "dialling the endpoint", error),
            Err(_) => {
                return Error::e_explain(
                    ErrorType::ConnectTimedout,
                    format!("no connection within {:?}", self.connect),
                );
            }
        };
        let handle = Arc::new(ConnectionHandle {
            socket,
            live: Arc::clone(&self.live),
            max_idle: self.max_idle,
            shared: self.shared,
            tls: self.tls,
            reused: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            counted_idle: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
        });
        let weak: std::sync::Weak<dyn UpstreamConnection> = Arc::<ConnectionHandle>::downgrade(&handle);
        self.live.opened(weak);
        Ok((stream, handle))
    }
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let (dialled, handle) = self.dial(address).await?;
        let stream = match dialled {
            Dialled::Tcp(stream) => Stream::from(stream),
            Dialled::Unix(stream) => Stream::from(stream),
        };
        with_handle(stream, handle)
    }
}

/// Makes a connection's handle known to the engine's hooks.
pub(crate) fn with_handle(mut stream: Stream, handle: Arc<ConnectionHandle>) -> Result<Stream> {
    let no_response = Box::new(ResponseHeader::build_no_case(200, Some(0))?);
    stream.set_proxy_digest(ProxyDigest::new(no_response, Some(Box::new(handle))));
    Ok(stream)
}

/// Data sent and not acknowledged for this long ends the connection (`TCP_USER_TIMEOUT`, RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing comes is asked after 15 s, then each 5 s, and is over after 3 of those without answer.
const KEEPALIVE: socket2::TcpKeepalive = socket2::TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// Whether this machine could not even ask the endpoint. What a path does not allow is the endpoint's affair.
fn lacks_means(address: &SocketAddr, error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    let forbidden = [Errno::ACCESS, Errno::PERM];
    Errno::from_io_error(error).is_some_and(|errno| {
        lacking.contains(&errno) || (matches!(address, SocketAddr::Inet(_)) && forbidden.contains(&errno))
    })
}

fn connect_error(address: &SocketAddr, error: &io::Error) -> ErrorType {
    /// When this was last told.
    static TOLD: AtomicU64 = AtomicU64::new(0);
    if lacks_means(address, error) {
        if descriptors::is_news(&TOLD) {
            tracing::warn!(%error, "this machine cannot make connections to endpoints; requests are answered with 503");
        }
        return NO_MEANS;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::live::Registry;

    fn handle(shared: bool) -> Arc<ConnectionHandle> {
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let live = Registry::default().endpoint(&"shop".into(), &"v1".into(), &"127.0.0.1:1".parse().unwrap());
        Arc::new(ConnectionHandle {
            socket: socket.into(),
            live,
            max_idle: 8,
            shared,
            tls: false,
            reused: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            counted_idle: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
        })
    }

    #[test]
    fn a_spoiled_connection_is_refused_even_while_its_last_request_still_ends() {
        let handle = handle(false);
        let first = handle.check_out(false).unwrap();
        first.mark_unusable();
        assert!(handle.check_out(true).is_none(), "the engine pooled it before the first request was over");
        drop(first);
        assert!(handle.check_out(true).is_none());
    }

    #[test]
    fn an_early_answer_does_not_cost_a_shared_connection() {
        let handle = handle(true);
        let first = handle.check_out(false).unwrap();
        first.mark_unusable();
        let second = handle.check_out(true).unwrap();
        assert!(!second.end(), "another stream is on it");
        drop(first);
        assert!(second.end());
    }

    #[test]
    fn what_this_machine_lacks_is_told_from_what_an_endpoint_does() {
        let inet = SocketAddr::Inet("127.0.0.1:1".parse().unwrap());
        let unix = SocketAddr::Unix(std::os::unix::net::SocketAddr::from_pathname("/run/v1.sock").unwrap());
        let of = |errno: rustix::io::Errno, address| connect_error(address, &errno.into());
        for errno in ["EMFILE 24", "ENFILE 23", "ENOMEM 12", "ENOBUFS 105", "EADDRNOTAVAIL 99", "EPERM 1", "EACCES 13"]
        {
            let number: i32 = errno.rsplit(' ').next().unwrap().parse().unwrap();
            let errno_of = rustix::io::Errno::from_raw_os_error(number);
            assert_eq!(of(errno_of, &inet), NO_MEANS, "{errno}");
            // A socket in the file system that does not let Weir in is a fault of whoever made it.
            let expected = if [1, 13].contains(&number) { ErrorType::ConnectError } else { NO_MEANS };
            assert_eq!(of(errno_of, &unix), expected, "{errno}");
        }
        for errno in ["ECONNREFUSED 111", "EHOSTUNREACH 113", "ENETUNREACH 101", "ETIMEDOUT 110", "ECONNRESET 104"] {
            let number: i32 = errno.rsplit(' ').next().unwrap().parse().unwrap();
            assert_ne!(of(rustix::io::Errno::from_raw_os_error(number), &inet), NO_MEANS, "{errno}");
        }
    }
}
