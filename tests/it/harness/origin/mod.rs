//! The servers behind Weir: one behaviour per path, everything that arrives on record.
//!
//! An [`Origin`] speaks HTTP/1.1, HTTP/2 by prior knowledge and, with a certificate, both by ALPN on one port. Each
//! response carries `x-origin: NAME` and the request's own `x-nonce`. The paths are listed in [`behaviour`].
//!
//! The server is written on raw sockets: what stories need most is what a decent server library refuses to do.
//!
//! Invariant: the port of a stopped or killed origin stays reserved for it, so connections to it are refused and not
//! answered by a stranger, and [`Origin::restart`] finds it free.

mod behaviour;
mod connection;
mod exchange;
mod grpc;
mod h1;
mod h2;
mod journal;
mod websocket;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;
use weir::model::Address;

pub(crate) use journal::{Entry, Progress};

use super::certs::{Authority, Identity};
use super::eventually::{eventually, within};
use super::socket::server_config;
use journal::Journal;

/// A server with a name. Dropping it ends it at once.
pub(crate) struct Origin {
    shared: Arc<Shared>,
    plan: Plan,
    address: Address,
    /// Bound and never listening; see the module's invariant.
    _reservation: Option<Socket>,
    serving: Mutex<Option<Serving>>,
}

struct Serving {
    accept: JoinHandle<()>,
    stopping: watch::Sender<bool>,
}

/// What connections and the story share.
struct Shared {
    name: String,
    journal: Journal,
    held: Mutex<VecDeque<oneshot::Sender<()>>>,
    events: broadcast::Sender<Event>,
    connections: AtomicUsize,
    accepted: AtomicUsize,
    streams: AtomicUsize,
    mood: Mutex<Mood>,
}

/// How an origin answers where no path says otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct Mood {
    /// Percentage of answers that are 500, evenly.
    errors: u32,
    /// How long each takes.
    delay: std::time::Duration,
    turns: u64,
}

impl Mood {
    /// Whether the next answer is an error, and how long it takes.
    fn turn(&mut self) -> (bool, std::time::Duration) {
        let errors = |turns: u64| turns * u64::from(self.errors) / 100;
        let fails = errors(self.turns + 1) > errors(self.turns);
        self.turns += 1;
        (fails, self.delay)
    }
}

/// What the story says to open streams.
#[derive(Clone, Debug)]
enum Event {
    /// Send this text.
    Push(String),
    /// End in good order.
    End,
}

/// How an [`Origin`] shall listen; [`Origin::plan`] begins one.
#[derive(Clone)]
pub(crate) struct Plan {
    name: String,
    place: Place,
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Clone)]
enum Place {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl Plan {
    /// Listens on `[::1]`.
    pub(crate) fn ipv6(mut self) -> Self {
        self.place = Place::Inet(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)));
        self
    }

    /// Listens on `127.0.0.{last}`, on the port of another origin: as hosts that one DNS name stands for.
    pub(crate) fn beside(mut self, other: &Origin, last: u8) -> Self {
        let Address::Inet(address) = other.address() else { panic!("a unix socket has no port") };
        self.place = Place::Inet(SocketAddr::from(([127, 0, 0, last], address.port())));
        self
    }

    /// Listens on a unix socket.
    pub(crate) fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Unix(path.into());
        self
    }

    /// Speaks TLS with this identity.
    pub(crate) fn tls(mut self, identity: &Identity) -> Self {
        self.tls = Some(server_config(identity, None));
        self
    }

    /// Speaks TLS with this identity, and only with clients that this authority signed.
    pub(crate) fn mutual_tls(mut self, identity: &Identity, clients: &Authority) -> Self {
        self.tls = Some(server_config(identity, Some(&clients.pem())));
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> Origin {
        let origin = self.down();
        origin.restart().await;
        origin
    }

    /// Has an address, where every connection is refused until [`Origin::restart`].
    pub(crate) fn down(self) -> Origin {
        let (address, reservation) = match &self.place {
            Place::Unix(path) => (Address::Unix(path.clone()), None),
            Place::Inet(address) => {
                let socket = bound_socket(*address);
                (Address::Inet(socket.local_addr().unwrap().as_socket().unwrap()), Some(socket))
            }
        };
        let shared = Shared {
            name: self.name.clone(),
            journal: Journal::default(),
            held: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            connections: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            mood: Mutex::default(),
        };
        Origin { shared: Arc::new(shared), plan: self, address, _reservation: reservation, serving: Mutex::new(None) }
    }
}

impl Origin {
    /// From now on, this percentage of ordinary answers are 500.
    pub(crate) fn fail(&self, percent: u32) {
        let mut mood = self.shared.mood.lock().unwrap();
        *mood = Mood { errors: percent, turns: 0, ..*mood };
    }

    /// From now on, ordinary answers take so long.
    pub(crate) fn slow(&self, delay: std::time::Duration) {
        self.shared.mood.lock().unwrap().delay = delay;
    }

    /// Starts an origin on a free port of 127.0.0.1.
    pub(crate) async fn start(name: &str) -> Self {
        Self::plan(name).start().await
    }

    /// Begins a plan for one that listens elsewhere or otherwise.
    pub(crate) fn plan(name: &str) -> Plan {
        Plan { name: name.to_owned(), place: Place::Inet(SocketAddr::from(([127, 0, 0, 1], 0))), tls: None }
    }

    /// Its name, as `x-origin` says it.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens, as a configuration spells it.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Listens again, on the same port, after [`Self::stop`] or [`Self::kill`].
    pub(crate) async fn restart(&self) {
        let listener = match &self.address {
            Address::Inet(address) => {
                let socket = bound_socket(*address);
                socket.listen(BACKLOG).unwrap();
                socket.set_nonblocking(true).unwrap();
                connection::Listener::Tcp(TcpListener::from_std(socket.into()).unwrap())
            }
            Address::Unix(path) => {
                std::fs::remove_file(path).ok();
                connection::Listener::Unix(UnixListener::bind(path).unwrap())
            }
        };
        let (stopping, stopped) = watch::channel(false);
        let accept = connection::accept(self.shared.clone(), listener, self.plan.tls.clone(), stopped);
        let serving = Serving { accept: tokio::spawn(accept), stopping };
        assert!(self.serving.lock().unwrap().replace(serving).is_none(), "{} runs already", self.name());
    }

    /// Stops as a decent server does: takes no new connection, finishes what is in flight, announces the end of each
    /// connection, and returns when the last one is closed.
    pub(crate) async fn stop(&self) {
        let Some(serving) = self.serving.lock().unwrap().take() else { return };
        serving.stopping.send(true).ok();
        within("the origin finishes what is in flight", serving.accept).await.unwrap();
    }

    /// Dies as a killed process does: listener and connections are gone at once.
    pub(crate) async fn kill(&self) {
        let Some(serving) = self.serving.lock().unwrap().take() else { return };
        serving.accept.abort();
        serving.accept.await.ok();
        eventually("the killed origin's connections are gone", async || self.connections() == 0).await;
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Streams (`/sse`, `/ws`, bidirectional gRPC) open now.
    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }

    /// Requests that arrived so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.journal.total()
    }

    /// The requests that arrived, oldest first; only the last few thousand are kept.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        self.shared.journal.entries()
    }

    /// The request with this nonce that arrived last.
    pub(crate) fn entry(&self, nonce: &str) -> Option<Entry> {
        self.shared.journal.entries().into_iter().rev().find(|entry| entry.nonce.as_deref() == Some(nonce))
    }

    /// How often the request with this nonce was executed here. Nonces are kept longer than entries.
    pub(crate) fn executions(&self, nonce: &str) -> u32 {
        self.shared.journal.executions(nonce)
    }

    /// Requests that wait in `/hold` now.
    pub(crate) fn held(&self) -> usize {
        let mut held = self.shared.held.lock().unwrap();
        held.retain(|waiting| !waiting.is_closed());
        held.len()
    }

    /// Waits until `count` requests are held.
    pub(crate) async fn wait_held(&self, count: usize) {
        let held = async || if self.held() == count { Ok(()) } else { Err(self.held()) };
        eventually(&format!("{count} requests are held in {}", self.name()), held).await;
    }

    /// Lets all held requests be answered; says how many.
    pub(crate) fn release(&self) -> usize {
        let held: Vec<_> = self.shared.held.lock().unwrap().drain(..).collect();
        held.into_iter().filter_map(|waiting| waiting.send(()).ok()).count()
    }

    /// Lets the request that is held longest be answered.
    pub(crate) fn release_one(&self) {
        self.held();
        let first = self.shared.held.lock().unwrap().pop_front();
        first.expect("a request is held").send(()).expect("the held request's client is there");
    }

    /// Waits until `count` streams are open.
    pub(crate) async fn wait_streams(&self, count: usize) {
        let open = async || if self.streams() == count { Ok(()) } else { Err(self.streams()) };
        eventually(&format!("{count} streams are open in {}", self.name()), open).await;
    }

    /// Sends a text to every open stream: an event of `/sse`, a text message of `/ws`.
    pub(crate) fn push(&self, text: &str) {
        self.shared.events.send(Event::Push(text.to_owned())).expect("a stream is open");
    }

    /// Ends every open stream in good order.
    pub(crate) fn end_streams(&self) {
        self.shared.events.send(Event::End).expect("a stream is open");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().unwrap().take() {
            serving.accept.abort();
        }
    }
}

/// A counter that is one higher as long as this lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A TCP socket bound so that another one of ours may bind beside it as long as only one listens.
fn bound_socket(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// Enough for every connection that a story opens at once.
const BACKLOG: i32 = 1024;
/// Pushed texts that a stream may lag behind before the story fails.
const EVENTS: usize = 1024;
