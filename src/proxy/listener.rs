//! Where clients come in: bind, accept up to a cap, read a PROXY header, shake hands, hand to a lane.
//!
//! Invariant: a connection that was accepted by the kernel before the listener closes is served; closing a
//! socket with a full accept queue would reset those clients.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::FutureExt;
use ipnet::IpNet;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Handle, Patience};
use super::exchange::{EXCHANGE, Exchange};
use super::general::General;
use super::proxy_protocol::{self, Parsed};
use super::transport::{Socket, Transport};
use super::{Bound, Order, Proxy};
use crate::model::{Address, Name};
use crate::telemetry::{ConnectionRefusal, ListenerSeries, OpenConnection};

/// One listener, as the composition root wants it.
pub struct Settings {
    /// Its name.
    pub name: Name,
    /// Where to listen.
    pub address: Address,
    /// TLS towards clients.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// From whom a PROXY header is read.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections open at once.
    pub max_connections: usize,
}

/// From whom a PROXY header is read.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    /// Their addresses.
    pub from: Vec<IpNet>,
    /// Whether they must send one.
    pub required: bool,
}

/// A listening socket that does not accept yet.
pub struct Listener {
    settings: Settings,
    socket: Listening,
    series: Arc<ListenerSeries>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Connections the kernel may keep waiting for us.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Binds the listener's socket.
    ///
    /// # Errors
    /// The system's, for example when the address is taken.
    pub fn bind(settings: Settings, series: Arc<ListenerSeries>) -> io::Result<Self> {
        let socket = match &settings.address {
            Address::Inet(address) => Listening::Tcp(bind_tcp(*address)?),
            Address::Unix(path) => Listening::Unix(bind_unix(path)?),
        };
        Ok(Self { settings, socket, series })
    }

    /// What is told about it.
    ///
    /// # Errors
    /// The system's, if it does not tell the bound address.
    pub fn bound(&self) -> io::Result<Bound> {
        let address = match &self.socket {
            Listening::Tcp(socket) => socket.local_addr()?.to_string(),
            Listening::Unix(_) => self.settings.address.to_string(),
        };
        Ok(Bound { name: self.settings.name.clone(), address, series: Arc::clone(&self.series) })
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds a unix socket, taking away one that a process left behind.
pub(crate) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
            Err(_) => fs::remove_file(path)?,
        }
    }
    UnixListener::bind(path)
}

/// Accepts connections until told to stop, then empties the accept queue and closes the socket.
pub async fn serve(listener: Listener, proxy: Proxy) {
    let Listener { settings, socket, series } = listener;
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let door = Arc::new(Door { settings, series, proxy });
    let mut order = door.proxy.order.subscribe();
    loop {
        let refuse = *order.borrow_and_update() >= Order::Refuse;
        let slot = if refuse {
            match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => break,
            }
        } else {
            tokio::select! {
                Ok(slot) = Arc::clone(&slots).acquire_owned() => slot,
                _ = order.changed() => continue,
            }
        };
        let accepted = if refuse {
            // Whoever the kernel let in before is still served; nobody new is waited for.
            match socket.accept().now_or_never() {
                Some(accepted) => accepted,
                None => break,
            }
        } else {
            tokio::select! {
                accepted = socket.accept() => accepted,
                _ = order.changed() => continue,
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                let door = Arc::clone(&door);
                door.proxy.gear.connected();
                tokio::spawn(async move {
                    let _open = Open::new(Arc::clone(&door));
                    door.admit(stream, peer).await;
                    drop(slot);
                });
            }
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(listener = %door.settings.name, %error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Address::Unix(path) = &door.settings.address {
        // Another process may have taken the path's place already.
        let _ = fs::remove_file(path);
    }
}

/// Without file descriptors or memory accepting again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

impl Listening {
    async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer): (TcpStream, SocketAddr) = listener.accept().await?;
                // Without delay: messages are gathered before they are written.
                stream.set_nodelay(true)?;
                Ok((stream.into(), Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                let (stream, _): (UnixStream, _) = listener.accept().await?;
                Ok((stream.into(), None))
            }
        }
    }
}

/// What the connections of one listener share.
struct Door {
    settings: Settings,
    series: Arc<ListenerSeries>,
    proxy: Proxy,
}

/// Counts a connection while it is open.
struct Open {
    door: Arc<Door>,
    _counted: OpenConnection,
}

impl Open {
    fn new(door: Arc<Door>) -> Self {
        let counted = door.series.accepted();
        Self { door, _counted: counted }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.door.proxy.gear.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Door {
    async fn admit(self: &Arc<Self>, mut socket: Socket, peer: Option<IpAddr>) {
        let client = self.proxy.gear.current.peek().client;
        let header = tokio::time::timeout(client.head_timeout, self.read_proxy_header(&mut socket, peer));
        let Ok(Ok(peer)) = header.await else {
            self.series.refused(ConnectionRefusal::ProxyProtocol);
            return;
        };
        let transport = match &self.settings.tls {
            None => Transport::Plain(socket),
            Some(config) => {
                let handshake = TlsAcceptor::from(Arc::clone(config)).accept(socket);
                let Ok(Ok(stream)) = tokio::time::timeout(client.handshake_timeout, handshake).await else {
                    self.series.refused(ConnectionRefusal::TlsHandshake);
                    return;
                };
                Transport::Tls(Box::new(stream))
            }
        };
        let handle = Handle::new(peer, self.settings.tls.is_some(), self.settings.name.clone());
        let patience = Patience { head: client.head_timeout, keepalive: client.keepalive };
        let connection = Connection::new(transport, Arc::clone(&handle), patience);
        self.carry(connection, &handle).await;
        if handle.timed_out() {
            self.series.refused(ConnectionRefusal::HeaderTimeout);
        }
    }

    /// Gives the connection to the general lane until it ends or is told to.
    async fn carry(self: &Arc<Self>, connection: Connection, handle: &Arc<Handle>) {
        let lane = Arc::new(Lane {
            engine: Arc::clone(&self.proxy.engine),
            door: Arc::clone(self),
            handle: Arc::clone(handle),
        });
        let announced = self.proxy.announce.subscribe();
        let mut order = self.proxy.order.subscribe();
        let served = lane.process_new(Box::new(connection), &announced);
        tokio::pin!(served);
        loop {
            tokio::select! {
                _ = &mut served => return,
                Ok(()) = order.changed() => {
                    if *order.borrow_and_update() == Order::EndIdle && handle.is_idle() {
                        return;
                    }
                }
            }
        }
    }

    /// The client's address: from a PROXY header if the peer may and does send one.
    async fn read_proxy_header(&self, socket: &mut Socket, peer: Option<IpAddr>) -> io::Result<Option<IpAddr>> {
        let Some(wanted) = &self.settings.proxy_protocol else { return Ok(peer) };
        let trusted = peer.is_none_or(|peer| wanted.from.iter().any(|net| net.contains(&peer)));
        if !trusted {
            return Ok(peer);
        }
        let mut read = BytesMut::with_capacity(256);
        loop {
            if socket.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match proxy_protocol::parse(&read) {
                Ok(Parsed::Incomplete) => {}
                Ok(Parsed::Header(header)) => {
                    let rest = read.split_off(header.consumed);
                    socket.unread(rest.freeze());
                    return Ok(header.source.map_or(peer, |source| Some(source.ip().to_canonical())));
                }
                Err(_) if !wanted.required => {
                    socket.unread(read.freeze());
                    return Ok(peer);
                }
                Err(invalid) => return Err(io::Error::new(io::ErrorKind::InvalidData, invalid)),
            }
        }
    }
}

/// The general lane for one connection.
struct Lane {
    engine: Arc<HttpProxy<General>>,
    door: Arc<Door>,
    handle: Arc<Handle>,
}

#[async_trait]
impl HttpServerApp for Lane {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.handle)));
        let bell = self.door.proxy.gear.bell.listen();
        let all = self.door.proxy.all.subscribe();
        let carried = self.engine.process_new_http(session, shutdown);
        let watched = Arc::clone(&exchange);
        EXCHANGE
            .scope(exchange, async move {
                tokio::select! {
                    biased;
                    reused = carried => reused,
                    () = watched.watch(bell, all) => None,
                }
            })
            .await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.engine.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.engine.server_options()
    }
}
