//! Where clients come in: bind, accept up to a cap, read a PROXY header, shake hands, hand to a lane.
//!
//! Invariant: a connection that was accepted by the kernel before the listener closes is served; closing a
//! socket with a full accept queue would reset those clients.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::proxy_protocol::{self, Parsed};
pub(crate) use super::socket::Families;
use super::socket::{self, Queue};
use crate::model::{Address, Name};
use crate::proxy::express::Exit;
use crate::proxy::io::transport::{Socket, Transport};
use crate::proxy::pingora::connection::{Connection, Limits};
use crate::proxy::pingora::handle::Handle;
use crate::proxy::pingora::serve::GeneralLane;
use crate::proxy::seats::{Seat, Seats};
use crate::proxy::shared::{Phase, Shared};
use crate::proxy::{Bound, Lanes, descriptors};
use crate::proxy::{h1, h2};
use crate::telemetry::{ConnectionRefusal, ListenerSeries, OpenConnection};

/// One listener, as the composition root wants it.
pub(crate) struct Settings {
    /// Its name.
    pub(crate) name: Name,
    /// Where to listen.
    pub(crate) address: Address,
    /// Which families that takes.
    pub(crate) families: Families,
    /// TLS towards clients.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// From whom a PROXY header is read.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Connections open at once.
    pub(crate) max_connections: usize,
    /// Connections open at once of one client's address.
    pub(crate) max_connections_per_address: Option<u32>,
}

/// From whom a PROXY header is read.
#[derive(Clone, Debug)]
pub(crate) struct ProxyProtocol {
    /// Their addresses.
    pub(crate) from: Vec<IpNet>,
    /// Whether they must send one.
    pub(crate) required: bool,
}

/// One worker's socket of a listener; it does not accept yet.
pub(crate) struct Listener {
    common: Arc<Common>,
    socket: socket::Bound,
}

/// What the sockets of one listener share.
struct Common {
    settings: Settings,
    series: Arc<ListenerSeries>,
    /// One for each connection that may be open.
    slots: Arc<Semaphore>,
    /// Who has them.
    seats: Arc<Seats>,
}

impl Listener {
    /// Binds a listener: a socket for each of `workers`, all at the same address.
    ///
    /// # Errors
    /// The system's, for example when the address is taken.
    pub(crate) fn bind(settings: Settings, series: Arc<ListenerSeries>, workers: usize) -> io::Result<Vec<Self>> {
        let sockets = socket::bind(&settings.address, settings.families, workers)?;
        let slots = Arc::new(Semaphore::new(settings.max_connections));
        let seats = Seats::new(settings.max_connections_per_address);
        let common = Arc::new(Common { settings, series, slots, seats });
        Ok(sockets.into_iter().map(|socket| Self { common: Arc::clone(&common), socket }).collect())
    }

    /// What is told about it.
    ///
    /// # Errors
    /// The system's, if it does not tell the bound address.
    pub(crate) fn bound(&self) -> io::Result<Bound> {
        let Settings { name, address, .. } = &self.common.settings;
        let address = self.socket.address()?.map_or_else(|| address.to_string(), |address| address.to_string());
        Ok(Bound { name: name.clone(), address, series: Arc::clone(&self.common.series) })
    }
}

/// Binds a unix socket for the runtime that calls, taking away one that a process left behind.
pub(crate) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    UnixListener::from_std(socket::listen_unix(path)?)
}

/// Binds a socket for the runtime that calls.
pub(crate) fn bind_tcp(address: SocketAddr, families: Families) -> io::Result<TcpListener> {
    TcpListener::from_std(socket::listen_tcp(address, families, false)?)
}

/// Accepts connections until told to stop, then empties the accept queue and closes the socket.
pub(crate) async fn serve(listener: Listener, lanes: Arc<Lanes>) {
    let Listener { common, socket } = listener;
    let acceptor = Arc::new(Acceptor { common, lanes });
    let listening = match socket.listen() {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!(listener = %acceptor.settings().name, %error, "this worker cannot accept connections");
            return;
        }
    };
    let mut phases = acceptor.shared().phases();
    let mut last = 0;
    loop {
        if *phases.borrow_and_update() >= Phase::Refusing {
            break;
        }
        // First somebody who waits, then a slot: a slot that is held for nobody would be missing on another worker.
        let mut ready = tokio::select! {
            Ok(ready) = listening.readable() => ready,
            _ = phases.changed() => continue,
        };
        let slot = tokio::select! {
            slot = acceptor.slot(listening.get_ref()) => slot,
            _ = phases.changed() => continue,
        };
        let Some(slot) = slot else {
            ready.clear_ready();
            continue;
        };
        // Whoever waits in the kernel's queue loses nothing; whoever is let in and has to go does.
        if !descriptors::has_room(last, listening.get_ref()).unwrap_or(false) {
            acceptor.wait_for_descriptors(None).await;
            continue;
        }
        let Ok(accepted) = ready.try_io(|listening| listening.get_ref().next()) else { continue };
        match accepted {
            Ok((stream, peer)) => {
                last = stream.raw_fd();
                if descriptors::may_stay(last) {
                    acceptor.open(stream, peer, slot);
                }
            }
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => acceptor.wait_for_descriptors(Some(error)).await,
        }
    }
    if let Err(error) = acceptor.empty(&listening.into_inner()) {
        tracing::warn!(listener = %acceptor.settings().name, %error, "the accept queue could not be emptied");
    }
    if let Address::Unix(path) = &acceptor.settings().address {
        // Another process may have taken the path's place already.
        let _ = fs::remove_file(path);
    }
}

/// Without file descriptors or memory accepting again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that gives way may take before another one has to.
const EVICT_PAUSE: Duration = Duration::from_millis(50);

fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// What the connections that one worker accepted on one listener share.
struct Acceptor {
    common: Arc<Common>,
    lanes: Arc<Lanes>,
}

/// Counts a connection while it is open.
struct Open {
    acceptor: Arc<Acceptor>,
    _counted: OpenConnection,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.acceptor.shared().disconnected();
    }
}

impl Acceptor {
    fn settings(&self) -> &Settings {
        &self.common.settings
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.lanes.worker.shared
    }

    /// A slot for somebody who waits; none if nobody does any more. Where all are taken, who has been idle longest gives
    /// way. The system is asked whether anybody waits: the runtime's readiness lags, and nobody gives way for nobody.
    async fn slot(&self, queue: &Queue) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.common.slots).try_acquire_owned() {
            return Some(slot);
        }
        let slot = Arc::clone(&self.common.slots).acquire_owned();
        tokio::pin!(slot);
        while queue.has_waiting() {
            self.common.seats.evict();
            // What gives way may take a moment, and where none is idle one may soon be.
            if let Ok(slot) = tokio::time::timeout(EVICT_PAUSE, &mut slot).await {
                return slot.ok();
            }
        }
        None
    }

    /// Waits a moment before the next try to accept, and says why, though not each time.
    async fn wait_for_descriptors(&self, error: Option<io::Error>) {
        /// When this was last told.
        static TOLD: AtomicU64 = AtomicU64::new(0);
        if descriptors::is_log_due(&TOLD) {
            let error = error.map_or_else(|| "too many open files; the rest is reserved".to_owned(), |e| e.to_string());
            tracing::warn!(listener = %self.settings().name, error, "clients wait: raise the limit of open files");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Serves whom the kernel let in, and waits for nobody new. The system is asked: the runtime's readiness lags.
    fn empty(self: &Arc<Self>, queue: &Queue) -> io::Result<()> {
        while let Ok(slot) = Arc::clone(&self.common.slots).try_acquire_owned() {
            match queue.next() {
                Ok((stream, peer)) => self.open(stream, peer, slot),
                Err(error) if is_about_the_client(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Serves an accepted connection in a task of its own.
    fn open(self: &Arc<Self>, stream: Socket, peer: Option<IpAddr>, slot: OwnedSemaphorePermit) {
        self.shared().connected();
        let open = Open { acceptor: Arc::clone(self), _counted: self.common.series.accepted(), _slot: slot };
        let seat = self.common.seats.take();
        tokio::spawn(async move {
            let acceptor = &open.acceptor;
            seat.settle().await;
            let accepted = tokio::select! {
                accepted = acceptor.greet(stream, peer, &seat) => Some(accepted),
                () = seat.evicted() => None,
            };
            match accepted {
                Some(Ok(accepted)) => acceptor.admit(accepted, &seat).await,
                Some(Err(refusal)) => acceptor.common.series.refused(refusal),
                None => {}
            }
            if seat.is_evicted() {
                acceptor.common.series.refused(ConnectionRefusal::Limit);
            }
        });
    }

    /// What comes before the first request: the PROXY header, how many connections the client has, and the handshake.
    async fn greet(
        &self,
        mut socket: Socket,
        peer: Option<IpAddr>,
        seat: &Seat,
    ) -> Result<AcceptedClient, ConnectionRefusal> {
        let began = Instant::now();
        let client = self.shared().current.peek().client;
        let header = tokio::time::timeout(client.head_timeout, self.read_proxy_header(&mut socket, peer));
        let Ok(Ok(peer)) = header.await else { return Err(ConnectionRefusal::ProxyProtocol) };
        if !seat.is_admitted(peer) {
            return Err(ConnectionRefusal::AddressLimit);
        }
        let Some(config) = &self.settings().tls else {
            return Ok(AcceptedClient { transport: Transport::Plain(socket), peer, began });
        };
        let handshake = TlsAcceptor::from(Arc::clone(config)).accept(socket);
        match tokio::time::timeout(client.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => {
                Ok(AcceptedClient { transport: Transport::Tls(Box::new(stream.into())), peer, began: Instant::now() })
            }
            _ => Err(ConnectionRefusal::TlsHandshake),
        }
    }

    async fn admit(self: &Arc<Self>, accepted: AcceptedClient, seat: &Arc<Seat>) {
        let AcceptedClient { transport, peer, began } = accepted;
        let tls = self.settings().tls.is_some();
        seat.idle(began);
        let mut connection = ClientConnection { acceptor: self, peer, tls, seat, began: Some(began), handle: None };
        if transport.alpn_h2() && self.lanes.express {
            connection.express_http2(transport, &Bytes::new()).await;
        } else if transport.alpn_h2() {
            connection.http2(transport, Bytes::new()).await;
        } else if self.lanes.express {
            connection.express(transport).await;
        } else {
            connection.general(transport).await;
        }
        if connection.handle.is_some_and(|handle| handle.timed_out()) {
            self.common.series.refused(ConnectionRefusal::HeaderTimeout);
        }
    }

    /// The client's address: from a PROXY header if the peer may and does send one.
    async fn read_proxy_header(&self, socket: &mut Socket, peer: Option<IpAddr>) -> io::Result<Option<IpAddr>> {
        let Some(wanted) = &self.settings().proxy_protocol else { return Ok(peer) };
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

/// A client that was let in, before its first request.
struct AcceptedClient {
    transport: Transport,
    peer: Option<IpAddr>,
    /// From when its first head has its time: it was accepted, or its handshake was over.
    began: Instant,
}

/// One client's connection, which either lane may serve.
struct ClientConnection<'d> {
    acceptor: &'d Arc<Acceptor>,
    peer: Option<IpAddr>,
    tls: bool,
    seat: &'d Arc<Seat>,
    /// Since when its first head is waited for; none once it was there.
    began: Option<Instant>,
    /// How the connection is, for the general lane; made when it first comes there.
    handle: Option<Arc<Handle>>,
}

impl ClientConnection<'_> {
    /// The express lane, and the general one for each request that is not for it.
    async fn express(&mut self, transport: Transport) {
        let (mut transport, mut bytes) = (transport, Bytes::new());
        loop {
            let name = self.acceptor.settings().name.clone();
            let mut client =
                h1::Client::new(&self.acceptor.lanes.worker, transport, &bytes, self.peer, name, self.seat).await;
            match client.serve(&self.acceptor.lanes.worker, &mut self.began).await {
                Exit::Over => return,
                Exit::SlowHead => {
                    self.acceptor.common.series.refused(ConnectionRefusal::HeaderTimeout);
                    return;
                }
                Exit::Other => {}
            }
            (transport, bytes) = client.into_parts();
            // Over TLS the protocol was chosen in the handshake.
            if h2::begins(&bytes) && !self.tls {
                return self.express_http2(transport, &bytes).await;
            }
            match self.general_once(transport, bytes).await {
                Some(returned) => (transport, bytes) = returned,
                None => return,
            }
        }
    }

    /// The express lane for an HTTP/2 connection until it ends.
    async fn express_http2(&mut self, transport: Transport, bytes: &Bytes) {
        let name = self.acceptor.settings().name.clone();
        let worker = &self.acceptor.lanes.worker;
        let mut client = h2::Client::new(worker, transport, bytes, self.peer, name, self.seat).await;
        if client.serve(self.began.take()).await == Exit::SlowHead {
            self.acceptor.common.series.refused(ConnectionRefusal::HeaderTimeout);
        }
    }

    fn connection(&mut self, transport: Transport, bytes: Bytes) -> (Connection, Arc<GeneralLane>) {
        let client = self.acceptor.shared().current.peek().client;
        let limits = Limits {
            head: client.head_timeout,
            keepalive: client.keepalive,
            began: self.began.take(),
            header_bytes: client.header_bytes,
        };
        let made = || Handle::new(self.peer, self.tls, self.acceptor.settings().name.clone(), Arc::clone(self.seat));
        let handle = Arc::clone(self.handle.get_or_insert_with(made));
        let connection = Connection::new(transport, bytes, Arc::clone(&handle), limits);
        (connection, GeneralLane::new(Arc::clone(&self.acceptor.lanes.engine), handle))
    }

    /// The general lane for an HTTP/2 connection until it ends.
    async fn http2(&mut self, transport: Transport, bytes: Bytes) {
        let (connection, lane) = self.connection(transport, bytes);
        // Boxed here and below because it is large, and what waits on the express lane would have room for it all the time.
        Box::pin(lane.http2(connection)).await;
    }

    /// The general lane for each request until the connection ends.
    async fn general(&mut self, transport: Transport) {
        let (mut transport, mut bytes) = (transport, Bytes::new());
        while let Some(returned) = self.general_once(transport, bytes).await {
            (transport, bytes) = returned;
        }
    }

    /// The general lane for one HTTP/1 request. The connection comes back if another one may follow.
    async fn general_once(&mut self, transport: Transport, bytes: Bytes) -> Option<(Transport, Bytes)> {
        let (connection, lane) = self.connection(transport, bytes);
        Box::pin(lane.unless_ended(lane.http1(connection))).await?
    }
}
