//! A client's connection on the express lane: what is kept of it between requests, and how it ends.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::model::Name;
use crate::proxy::codec::head::Arrival;
use crate::proxy::io::buffer::Buffer;
use crate::proxy::io::timer::Timer;
use crate::proxy::io::transport::{Transport, linger};
use crate::proxy::request::end::BODY_DRAIN;
use crate::proxy::seats::Seat;
use crate::proxy::worker::{Registered, Worker};

/// A client's connection on this lane.
pub(crate) struct Client {
    pub(super) transport: Transport,
    pub(super) input: Buffer,
    /// How much of a head that comes in pieces is there.
    pub(super) arrival: Arrival,
    pub(super) timer: Timer,
    pub(super) peer: Option<IpAddr>,
    /// The peer as text.
    pub(super) peer_text: Box<str>,
    pub(super) tls: bool,
    pub(super) listener: Name,
    pub(super) seat: Arc<Seat>,
    _registered: Registered,
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
        let mut input = Buffer::default();
        if !bytes.is_empty() {
            input.push(bytes);
        }
        let peer_text = peer.map(|peer| peer.to_string()).unwrap_or_default().into();
        let registered = worker.register().await;
        Self {
            tls: matches!(transport, Transport::Tls(_)),
            transport,
            input,
            arrival: Arrival::default(),
            timer: Timer::default(),
            peer,
            peer_text,
            listener,
            seat: Arc::clone(seat),
            _registered: registered,
        }
    }

    /// The connection, and what was read from it and belongs to the next lane.
    pub(crate) fn into_parts(self) -> (Transport, Bytes) {
        let bytes = Bytes::copy_from_slice(self.input.data());
        (self.transport, bytes)
    }

    /// Ends the connection in order, without waiting for a client that does not read.
    pub(super) async fn close(&mut self) {
        poll_fn(|cx| {
            // What cannot be sent at once is not waited for: everything that mattered was flushed before.
            let _ = Pin::new(&mut self.transport).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Ends the connection once the client has seen its answer.
    pub(super) async fn linger(&mut self) {
        linger(&mut self.transport, BODY_DRAIN).await;
    }
}
