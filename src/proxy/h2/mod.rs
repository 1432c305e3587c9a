//! The express lane for HTTP/2: one task for a client's connection and all its streams.
//!
//! ```text
//! client ─► input ─► frames ─► HPACK ─► a place for the stream ─► exchange: validate ─ route ─ split ─ balance ─┐
//!                                                                  (polled when something happened)               ▼
//! client ◄─ one write for all ◄─ output ◄─ frames ◄─ HPACK ◄──────────── HTTP/1.1 or HTTP/2 ◄─► endpoint
//! ```
//!
//! The decisions are those of the other lanes, made by the same functions. An exchange is a future that borrows the
//! snapshot it began with; its connection polls it, so no stream is a task and none wakes another thread. Memory of
//! streams belongs to the worker, and what a client does not take is left with the endpoint.
//!
//! Invariants: a turn is bounded, so neither a client nor a stream holds up others; nothing is read from a client that
//! does not take what it was told.

mod budget;
mod closed;
mod connection;
mod deadlines;
mod ended;
mod exchange;
mod fields;
mod head;
mod http1;
mod http2;
mod leaving;
mod local;
mod output;
mod places;
mod receive;
mod request;
mod response;
mod spare;
mod state;
mod turn;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};

use tokio::time::Instant;

use self::connection::Connection;
use self::places::Woken;
use self::state::{Common, State};
use crate::model::Name;
use crate::proxy::codec::frame::PREFACE;
use crate::proxy::express::Exit;
use crate::proxy::io::transport::Transport;
use crate::proxy::seats::Seat;
use crate::proxy::unread::Holder;
use crate::proxy::worker::{Registered, Worker};

/// A connection that speaks HTTP/2: its client began with the preface, or chose it in the TLS handshake.
pub(crate) struct Client {
    connection: Connection,
    _registered: Registered,
}

/// Whether `bytes` are the beginning of an HTTP/2 connection, as far as they go.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    let length = bytes.len().min(PREFACE.len());
    length > 0 && bytes.get(..length) == PREFACE.get(..length)
}

impl Client {
    /// A connection whose client is at `peer`; `bytes` were read from it already.
    pub(crate) async fn new(
        worker: &Arc<Worker>,
        transport: Transport,
        bytes: &[u8],
        peer: Option<IpAddr>,
        listener: Name,
        seat: &Arc<Seat>,
    ) -> Self {
        let places = usize::try_from(worker.shared.current.peek().client.h2_streams).unwrap_or(usize::MAX);
        let common = Common {
            worker: Arc::clone(worker),
            listener,
            peer,
            peer_text: peer.map(|peer| peer.to_string()).unwrap_or_default().into(),
            tls: matches!(transport, Transport::Tls(_)),
            sni: transport.sni().map(Box::from),
            woken: Woken::new(places),
            state: Mutex::new(State::new(places)),
        };
        let common = Arc::new(common);
        let holder: Weak<dyn Holder> = Arc::<Common>::downgrade(&common);
        worker.unread.watch(holder);
        let registered = worker.register().await;
        Self { connection: Connection::new(common, transport, bytes, seat), _registered: registered }
    }

    /// Serves requests until the connection ends. `began` is since when its first bytes are waited for.
    pub(crate) async fn serve(&mut self, began: Option<Instant>) -> Exit {
        self.connection.serve(began).await
    }
}
