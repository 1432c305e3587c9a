//! An endpoint that is sound, or fails in one of the ways that endpoints have ([`Fault`]); a story changes it at any time.
//!
//! It speaks HTTP/1.1 and answers 200 with its name. What it is asked, it writes down with the body, so a story can tell how
//! often a request was tried, and whether a retry brought all of it.
//!
//! Invariant: while it refuses connections, its port stays its own, so no stranger answers there.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use weir::model::Address;

use super::fault::Fillers;
use super::wire::{Body, Fields, Inbound, RequestHead};

/// How an endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// It refuses connections, as where no process is; those that were open are reset.
    Refuse,
    /// Packets to it are lost: no connection comes about, and nothing is heard on open ones.
    BlackHole,
    /// It takes connections and reads nothing, as a process that hangs, or a host that is gone without a word.
    HalfOpen,
    /// It resets the connection when it has the request.
    ResetBefore,
    /// The same so much later.
    SlowReset(Duration),
    /// It resets the connection in the middle of the response's head.
    ResetMidHead,
    /// It resets the connection in the middle of the response's body.
    ResetMidBody,
    /// What it answers is not HTTP.
    Garbage,
    /// Its response begins so late.
    SlowFirstByte(Duration),
    /// Its response's body pauses so long in the middle.
    SlowBody(Duration),
    /// It answers with this status.
    Status(u16),
    /// It answers with this status, and `retry-after: 1`.
    RetryAfter(u16),
    /// It fails every second request with this status, and answers the others.
    EverySecond(u16),
    /// By turns it is sound and refuses connections, each for so long.
    Flapping(Duration),
}

/// A request that arrived whole.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: String,
    pub(crate) nonce: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// The endpoint. Dropping it ends it.
pub(crate) struct FaultyOrigin {
    address: SocketAddr,
    /// Bound and never listening; see the module's invariant.
    _reservation: Socket,
    shared: Arc<Shared>,
    fault: watch::Sender<Fault>,
    serving: JoinHandle<()>,
    settled: watch::Receiver<Fault>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    arrived: Mutex<Vec<Arrived>>,
}

impl FaultyOrigin {
    /// Starts a sound one on a free port of 127.0.0.1.
    pub(crate) async fn start(name: &str) -> Self {
        Self::failing(name, Fault::None).await
    }

    /// Starts one that fails so.
    pub(crate) async fn failing(name: &str, fault: Fault) -> Self {
        let reservation = bound(([127, 0, 0, 1], 0).into());
        let address = reservation.local_addr().unwrap().as_socket().unwrap();
        let shared = Arc::new(Shared { name: name.to_owned(), arrived: Mutex::default() });
        let (fault, faults) = watch::channel(fault);
        // Never equal to a fault that is set first, so that the first one is waited for too.
        let (settling, settled) = watch::channel(Fault::Flapping(Duration::MAX));
        let serving = tokio::spawn(serve(Arc::clone(&shared), address, faults, settling));
        let origin = Self { address, _reservation: reservation, shared, fault, serving, settled };
        origin.wait_settled().await;
        origin
    }

    /// From now on it fails so; returns when that is in effect.
    pub(crate) async fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
        self.wait_settled().await;
    }

    async fn wait_settled(&self) {
        let wanted = *self.fault.borrow();
        let mut settled = self.settled.clone();
        super::within("the fault is in effect", settled.wait_for(|now| *now == wanted)).await.unwrap();
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Address {
        Address::Inet(self.address)
    }

    /// How many requests arrived whole.
    pub(crate) fn requests(&self) -> usize {
        self.shared.arrived.lock().unwrap().len()
    }

    /// The requests that arrived whole, oldest first.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().unwrap().clone()
    }
}

impl Drop for FaultyOrigin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Who takes connections now.
enum Door {
    Open(TcpListener),
    Closed,
    /// A listener whose queue is full.
    Silent(Socket, Fillers),
}

impl Door {
    fn of(fault: Fault, up: bool, address: SocketAddr) -> Self {
        match fault {
            Fault::Refuse => Self::Closed,
            Fault::Flapping(_) if !up => Self::Closed,
            Fault::BlackHole => {
                let listener = bound(address);
                listener.listen(0).unwrap();
                let fillers = Fillers::of(&listener);
                Self::Silent(listener, fillers)
            }
            _ => {
                let listener = bound(address);
                listener.listen(BACKLOG).unwrap();
                listener.set_nonblocking(true).unwrap();
                Self::Open(TcpListener::from_std(listener.into()).unwrap())
            }
        }
    }

    /// The next connection; there may never be one.
    async fn accept(&self) -> TcpStream {
        let Self::Open(listener) = self else { return std::future::pending().await };
        loop {
            if let Ok((socket, _)) = listener.accept().await {
                return socket;
            }
        }
    }
}

/// Serves until it is dropped; each change of the fault changes who takes connections.
async fn serve(
    shared: Arc<Shared>,
    address: SocketAddr,
    mut faults: watch::Receiver<Fault>,
    settling: watch::Sender<Fault>,
) {
    let mut connections = JoinSet::new();
    let mut up = true;
    loop {
        let fault = *faults.borrow_and_update();
        let door = Door::of(fault, up, address);
        if matches!(door, Door::Closed) {
            // A process that dies takes its connections with it: each is reset when its task is dropped.
            connections.shutdown().await;
        }
        settling.send_replace(fault);
        let turn = async {
            match fault {
                Fault::Flapping(each) => tokio::time::sleep(each).await,
                _ => std::future::pending().await,
            }
        };
        tokio::pin!(turn);
        loop {
            tokio::select! {
                socket = door.accept() => {
                    connections.spawn(connection(Arc::clone(&shared), socket, faults.clone()));
                    while connections.try_join_next().is_some() {}
                }
                changed = faults.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    up = true;
                    break;
                }
                () = &mut turn => {
                    up = !up;
                    break;
                }
            }
        }
        if let Door::Silent(listener, fillers) = door {
            // The queue goes with its listener.
            drop((listener, fillers));
        }
    }
}

/// Answers what comes on a connection, each request as the fault of that moment has it.
async fn connection(shared: Arc<Shared>, mut socket: TcpStream, mut faults: watch::Receiver<Fault>) {
    // What ends without ceremony is reset.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    let mut inbound = Inbound::default();
    loop {
        let fault = *faults.borrow_and_update();
        if fault == Fault::HalfOpen {
            // Until the fault is another; what was asked meanwhile is answered then, to whoever still waits.
            if faults.changed().await.is_err() {
                return;
            }
            continue;
        }
        let request = tokio::select! {
            request = request(&mut inbound, &mut socket) => request,
            // Read anew: nothing is lost, for what came stays in `inbound` up to the head's end.
            _ = faults.changed(), if inbound.buffer.is_empty() => continue,
        };
        let Ok(Some((head, body))) = request else { break };
        let nonce = head.headers.get("x-nonce").map(str::to_owned);
        let number = {
            let mut arrived = shared.arrived.lock().unwrap();
            arrived.push(Arrived { method: head.method.clone(), nonce, body });
            arrived.len()
        };
        match answer(&shared.name, &mut socket, &head, fault, number).await {
            Ok(true) => {}
            // The reset comes with the drop.
            Ok(false) | Err(_) => return,
        }
    }
    // The client ended it: so does this side, in good order.
    let _ = SockRef::from(&socket).set_linger(None);
}

/// The next request and its body; none at the end of the connection.
async fn request(inbound: &mut Inbound, socket: &mut TcpStream) -> io::Result<Option<(RequestHead, Vec<u8>)>> {
    let Some(head) = inbound.request(socket).await? else { return Ok(None) };
    let mut body = Body::of_request(&head);
    let mut all = BytesMut::new();
    while let Some(piece) = inbound.body(socket, &mut body).await? {
        all.extend_from_slice(&piece);
    }
    Ok(Some((head, all.to_vec())))
}

/// Answers one request; whether the connection goes on.
async fn answer(
    name: &str,
    socket: &mut TcpStream,
    head: &RequestHead,
    fault: Fault,
    number: usize,
) -> io::Result<bool> {
    let text = response(name, head, 200, "");
    // Where the body begins.
    let body_at = text.len() - name.len();
    let (middle, end) = text.split_at(if head.method == "HEAD" { text.len() } else { body_at + name.len() / 2 });
    match fault {
        Fault::ResetBefore => return Ok(false),
        Fault::SlowReset(pause) => {
            tokio::time::sleep(pause).await;
            return Ok(false);
        }
        Fault::ResetMidHead => return part(socket, &text.as_bytes()[..12]).await,
        Fault::ResetMidBody => return part(socket, middle.as_bytes()).await,
        Fault::Garbage => {
            socket.write_all(b"\x16\x03\x01 is not HTTP\r\n\r\n").await?;
            return part(socket, b"").await;
        }
        Fault::BlackHole => std::future::pending().await,
        Fault::SlowFirstByte(pause) => {
            tokio::time::sleep(pause).await;
            socket.write_all(text.as_bytes()).await?;
        }
        Fault::SlowBody(pause) => {
            socket.write_all(middle.as_bytes()).await?;
            tokio::time::sleep(pause).await;
            socket.write_all(end.as_bytes()).await?;
        }
        Fault::Status(status) => socket.write_all(response(name, head, status, "").as_bytes()).await?,
        Fault::EverySecond(status) if number.is_multiple_of(2) => {
            socket.write_all(response(name, head, status, "").as_bytes()).await?;
        }
        Fault::RetryAfter(status) => {
            socket.write_all(response(name, head, status, "retry-after: 1\r\n").as_bytes()).await?;
        }
        Fault::None | Fault::Refuse | Fault::HalfOpen | Fault::EverySecond(_) | Fault::Flapping(_) => {
            socket.write_all(text.as_bytes()).await?;
        }
    }
    Ok(true)
}

/// Sends the part and lets it arrive before the reset takes back what did not.
async fn part(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<bool> {
    socket.write_all(bytes).await?;
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(false)
}

/// A response whose body is the endpoint's name.
fn response(name: &str, head: &RequestHead, status: u16, fields: &str) -> String {
    let nonce = Fields::get(&head.headers, "x-nonce").map(|nonce| format!("x-nonce: {nonce}\r\n")).unwrap_or_default();
    let body = if head.method == "HEAD" { "" } else { name };
    format!(
        "HTTP/1.1 {status} So\r\nx-origin: {name}\r\n{nonce}{fields}content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        name.len()
    )
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// Enough for every connection that a story opens at once.
const BACKLOG: i32 = 1024;
