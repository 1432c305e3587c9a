//! HTTP/1 connections of an origin.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::Shared;
use super::behaviour;
use super::connection::stop;
use super::exchange::{self, End, Length};
use crate::harness::socket::Stream;
use crate::harness::wire::{Body, Fields, Inbound, RequestHead};

pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) inbound: Inbound,
    number: usize,
    /// No request follows: one side said so.
    close: bool,
}

/// One request on a connection.
pub(super) struct Exchange<'c> {
    pub(super) head: RequestHead,
    pub(super) connection: &'c mut Connection,
    name: String,
    body: Body,
    /// The client waits for a 100 before it sends the body.
    expects: bool,
    chunked: bool,
    /// No body is sent: the answer to a HEAD.
    mute: bool,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    pub(super) fn new(stream: Stream, inbound: Inbound, number: usize) -> Self {
        Self { stream, inbound, number, close: false }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut connection: Connection,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut stale = false;
    loop {
        let idle = connection.inbound.buffer.is_empty();
        let head = tokio::select! {
            biased;
            head = connection.inbound.request(&mut connection.stream) => head,
            () = stop(&mut stopping), if idle => return connection.stream.shutdown().await,
        };
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return connection.stream.shutdown().await,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                connection.stream.write_all(answer).await?;
                return connection.stream.shutdown().await;
            }
            Err(error) => return Err(error),
        };
        if stale {
            shared.journal.enter_dropped(&head, connection.number);
            return connection.stream.shutdown().await;
        }
        let record = shared.journal.enter(&head, connection.number);
        let mut exchange = exchange::Exchange::H1(Exchange::new(shared, head, &mut connection, stopping.clone()));
        let end = behaviour::answer(&mut exchange, shared).await?;
        if matches!(end, End::Done | End::Stale | End::CloseAfter) {
            while exchange.read().await?.is_some() {}
            record.complete();
        }
        drop(exchange);
        match end {
            End::Done if !connection.close => {}
            End::Stale => stale = true,
            End::Done | End::CloseAfter | End::Close | End::Leave => return connection.stream.shutdown().await,
            End::Reset(_) => {
                connection.stream.reset();
                return Ok(());
            }
        }
    }
}

impl<'c> Exchange<'c> {
    fn new(
        shared: &Shared,
        head: RequestHead,
        connection: &'c mut Connection,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        connection.close = head.headers.lists("connection", "close") || head.version == http::Version::HTTP_10;
        Self {
            body: Body::of_request(&head),
            expects: head.headers.lists("expect", "100-continue"),
            mute: head.method == "HEAD",
            chunked: false,
            name: shared.name.clone(),
            head,
            connection,
            stopping,
        }
    }

    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        if std::mem::take(&mut self.expects) {
            self.inform(100, &Fields::default()).await?;
        }
        self.connection.inbound.body(&mut self.connection.stream, &mut self.body).await
    }

    /// The 100 is sent already.
    pub(super) fn continued(&mut self) {
        self.expects = false;
    }

    pub(super) fn trailers(&self) -> Fields {
        if let Body::Done(trailers) = &self.body { trailers.clone() } else { Fields::default() }
    }

    pub(super) async fn inform(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        self.raw(&encode(status, fields)).await
    }

    pub(super) async fn start(&mut self, status: u16, fields: &Fields, length: Length) -> io::Result<()> {
        // Nobody needs a 100 once the final answer is there; what the client still sends is read without.
        self.expects = false;
        let mut fields = fields.clone();
        fields.push("x-origin", &self.name);
        if let Some(nonce) = self.head.headers.bytes("x-nonce") {
            fields.push("x-nonce", nonce);
        }
        match length {
            Length::Known(length) => fields.push("content-length", length.to_string()),
            Length::Open if self.head.version == http::Version::HTTP_10 => self.connection.close = true,
            Length::Open => {
                self.chunked = true;
                fields.push("transfer-encoding", "chunked");
            }
            Length::None if matches!(status, 101 | 204 | 304) => {}
            Length::None => fields.push("content-length", "0"),
        }
        self.connection.close |= *self.stopping.borrow();
        if self.connection.close {
            fields.push("connection", "close");
        }
        self.raw(&encode(status, &fields)).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.mute || bytes.is_empty() {
            return Ok(());
        }
        if !self.chunked {
            return self.raw(bytes).await;
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.raw(&chunk).await
    }

    pub(super) async fn end(&mut self, trailers: &Fields) -> io::Result<()> {
        if self.mute || !self.chunked {
            return Ok(());
        }
        let mut last = b"0\r\n".to_vec();
        last.extend_from_slice(&trailers.encode());
        last.extend_from_slice(b"\r\n");
        self.raw(&last).await
    }

    /// Writes bytes as they are.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.stream.write_all(bytes).await?;
        self.connection.stream.flush().await
    }

    pub(super) async fn gone(&mut self) {
        while matches!(self.connection.inbound.fill(&mut self.connection.stream).await, Ok(1..)) {}
    }
}

/// A response head as bytes.
fn encode(status: u16, fields: &Fields) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut bytes = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Unknown")).into_bytes();
    bytes.extend_from_slice(&fields.encode());
    bytes.extend_from_slice(b"\r\n");
    bytes
}
