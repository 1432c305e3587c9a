//! HTTP/2 connections of an origin.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use ::h2::ext::Protocol;
use ::h2::server::{Builder, SendResponse};
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::{Response, Version};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{Replayed, stop};
use super::exchange::{self, End, Length};
use super::{Shared, behaviour};
use crate::harness::tunnel::Tunnel;
use crate::harness::wire::{Fields, RequestHead};

/// What a stream asks of its connection.
enum Ask {
    /// Close it at once.
    Close,
    /// Announce the close.
    GoAway,
}

/// One request stream.
pub(super) struct Exchange {
    pub(super) head: RequestHead,
    pub(super) trailers: Fields,
    name: String,
    /// None once a tunnel has it.
    body: Option<RecvStream>,
    /// The protocol of the tunnel that is asked for (RFC 8441).
    protocol: Option<Protocol>,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    mute: bool,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    stream: Replayed,
    number: usize,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut builder = Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.map_err(io::Error::other)?;
    let mut streams = JoinSet::new();
    let (asks, mut asked) = mpsc::channel(1);
    let mut told = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted.map_err(io::Error::other)?;
                streams.spawn(answer(shared.clone(), number, Exchange::new(shared, request, respond), asks.clone()));
            }
            () = stop(&mut stopping), if !told => {
                told = true;
                connection.graceful_shutdown();
            }
            Some(ask) = asked.recv() => match ask {
                Ask::Close => return Ok(()),
                Ask::GoAway => connection.graceful_shutdown(),
            },
            _ = streams.join_next(), if !streams.is_empty() => {}
        }
    }
}

async fn answer(shared: Arc<Shared>, number: usize, exchange: Exchange, asks: mpsc::Sender<Ask>) {
    let record = shared.journal.enter(&exchange.head, number);
    let mut exchange = exchange::Exchange::H2(exchange);
    // An error is the stream's or the connection's end; the client sees it, the journal says broken.
    let Ok(end) = behaviour::answer(&mut exchange, &shared).await else { return };
    match end {
        End::Done | End::Stale | End::CloseAfter => {
            while matches!(exchange.read().await, Ok(Some(_))) {}
            record.complete();
            if end == End::CloseAfter {
                asks.send(Ask::GoAway).await.ok();
            }
        }
        End::Leave => {}
        End::Close => asks.send(Ask::Close).await.unwrap_or_default(),
        End::Reset(reason) => {
            if let exchange::Exchange::H2(exchange) = &mut exchange {
                exchange.reset(reason);
            }
        }
    }
}

impl Exchange {
    fn new(shared: &Shared, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let head = RequestHead {
            method: parts.method.to_string(),
            target: parts.uri.path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
            authority: parts.uri.authority().map(ToString::to_string),
            version: Version::HTTP_2,
            headers: Fields::from(&parts.headers),
        };
        let mute = head.method == "HEAD";
        let (name, protocol) = (shared.name.clone(), parts.extensions.get().cloned());
        Self { head, trailers: Fields::default(), name, body: Some(body), protocol, respond, send: None, mute }
    }

    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let Some(body) = &mut self.body else { return Ok(None) };
        if let Some(piece) = body.data().await {
            let piece = piece.map_err(io::Error::other)?;
            body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
            return Ok(Some(piece));
        }
        if let Some(trailers) = body.trailers().await.map_err(io::Error::other)? {
            self.trailers = Fields::from(&trailers);
        }
        Ok(None)
    }

    pub(super) fn inform(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        self.respond.send_informational(response(status, fields)).map_err(io::Error::other)
    }

    pub(super) fn start(&mut self, status: u16, fields: &Fields, length: Length) -> io::Result<()> {
        let mut fields = fields.clone();
        fields.push("x-origin", &self.name);
        if let Some(nonce) = self.head.headers.bytes("x-nonce") {
            fields.push("x-nonce", nonce);
        }
        if let Length::Known(length) = length {
            fields.push("content-length", length.to_string());
        }
        let ends = self.mute || length == Length::None;
        self.send = Some(self.respond.send_response(response(status, &fields), ends).map_err(io::Error::other)?);
        Ok(())
    }

    pub(super) async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let Some(send) = self.send.as_mut().filter(|_| !self.mute) else { return Ok(()) };
        while !bytes.is_empty() {
            send.reserve_capacity(bytes.len());
            let granted = poll_fn(|cx| send.poll_capacity(cx)).await.ok_or(io::ErrorKind::BrokenPipe)?;
            let granted = granted.map_err(io::Error::other)?.min(bytes.len());
            send.send_data(bytes.split_to(granted), false).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Whether a WebSocket is asked for.
    pub(super) fn wants_websocket(&self) -> bool {
        self.protocol.as_ref().is_some_and(|protocol| protocol.as_str() == "websocket")
    }

    /// What follows the head in both directions; nothing of it is left here.
    pub(super) fn tunnel(&mut self) -> Option<Tunnel> {
        Some(Tunnel::new(self.send.take()?, self.body.take()?))
    }

    pub(super) fn end(&mut self, trailers: &Fields) -> io::Result<()> {
        let Some(send) = self.send.as_mut().filter(|_| !self.mute) else { return Ok(()) };
        if trailers.0.is_empty() {
            send.send_data(Bytes::new(), true).map_err(io::Error::other)
        } else {
            send.send_trailers(trailers.to_map()).map_err(io::Error::other)
        }
    }

    pub(super) async fn gone(&mut self) {
        // Either way, a reset or the end of the connection, nobody listens any more.
        poll_fn(|cx| match &mut self.send {
            Some(send) => send.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        })
        .await;
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

fn response(status: u16, fields: &Fields) -> Response<()> {
    let mut response = Response::builder().status(status).body(()).unwrap();
    *response.headers_mut() = fields.to_map();
    response
}

/// Streams that a client may have open at once on one connection.
const STREAMS: u32 = 250;
/// A window that lets large bodies flow without a wait per frame.
const WINDOW: u32 = 1 << 20;
