//! An endpoint that is scripted frame by frame, and one that the `h2` crate plays.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::proxy::codec::frame::{self, ErrorCode, FrameHead, kind};
use crate::proxy::codec::hpack::Encoder;
use crate::proxy::io::buffer::Buffer;

/// One connection of an endpoint that is scripted.
pub(super) struct Peer {
    socket: TcpStream,
    read: BytesMut,
}

/// A frame that Weir sent.
pub(super) type Sent = (FrameHead, Vec<u8>);

/// Waits for something that must come soon.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it comes in time")
}

impl Peer {
    /// Accepts a connection and says these SETTINGS.
    pub(super) async fn accept(listener: &TcpListener, settings: &[(u16, u32)]) -> Self {
        let (socket, _) = within(listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut peer = Self { socket, read: BytesMut::new() };
        assert_eq!(peer.take(frame::PREFACE.len()).await.unwrap(), frame::PREFACE[..]);
        peer.send(|out| frame::settings(out, settings)).await;
        peer
    }

    /// Sends what `write` writes.
    pub(super) async fn send(&mut self, write: impl FnOnce(&mut Buffer)) {
        let mut out = Buffer::default();
        write(&mut out);
        self.socket.write_all(out.data()).await.unwrap();
    }

    /// Sends bytes.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next frame of this type; none at the end.
    pub(super) async fn next(&mut self, wanted: u8) -> Option<Sent> {
        loop {
            let frame = within(self.frame()).await?;
            if frame.0.kind == wanted {
                return Some(frame);
            }
        }
    }

    /// The next frame; none at the end.
    pub(super) async fn frame(&mut self) -> Option<Sent> {
        // Nothing is taken before all of it is here: who waits may leave.
        self.fill(FrameHead::SIZE).await?;
        let head = FrameHead::read(&self.read)?;
        self.fill(FrameHead::SIZE + head.length).await?;
        let payload = self.take(FrameHead::SIZE + head.length).await?[FrameHead::SIZE..].to_vec();
        if head.kind == kind::SETTINGS && head.flags == 0 {
            self.send(frame::settings_ack).await;
        }
        Some((head, payload))
    }

    /// Reads to the end; whether it comes.
    pub(super) async fn ends(&mut self) -> bool {
        while within(self.frame()).await.is_some() {}
        true
    }

    async fn take(&mut self, length: usize) -> Option<BytesMut> {
        self.fill(length).await?;
        Some(self.read.split_to(length))
    }

    async fn fill(&mut self, length: usize) -> Option<()> {
        while self.read.len() < length {
            if self.socket.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        }
        Some(())
    }
}

/// `:status: 200`, and fields without indexing.
pub(super) fn head(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    Encoder::new().status(status, &mut block);
    block.extend(trailers(fields));
    block
}

/// Fields as they are, without indexing (RFC 7541 §6.2.2), with short names and values.
pub(super) fn trailers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        for (at, text) in [name, value].into_iter().enumerate() {
            if at == 0 {
                block.push(0);
            }
            assert!(text.len() < 127, "its length is one byte");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A 200 that ends at once.
pub(super) fn ok(out: &mut Buffer, stream: u32) {
    frame::header_frames(out, stream, true, &head(200, &[]), 100);
}

/// Serves as the `h2` crate does: each request's body comes back, in pieces, with the trailers that came.
pub(super) async fn echo(listener: TcpListener, builder: h2::server::Builder) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).unwrap();
        let builder = builder.clone();
        connections.spawn(async move {
            let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                // A client may leave at any time.
                tokio::spawn(async move { answer(request, respond).await.ok() });
            }
        });
    }
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let mut head = Response::new(());
    head.headers_mut().extend(parts.headers.get("x-wish").map(|wish| (http::header::SERVER, wish.clone())));
    let mut send = respond.send_response(head, false)?;
    while let Some(piece) = body.data().await {
        let mut piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        while !piece.is_empty() {
            send.reserve_capacity(piece.len());
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.ok_or(h2::Reason::CANCEL)??;
            send.send_data(piece.split_to(room.min(piece.len())), false)?;
        }
    }
    match body.trailers().await? {
        Some(trailers) => send.send_trailers(trailers),
        None => send.send_trailers(HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )])),
    }
}

/// The code of an RST_STREAM or the second half of a GOAWAY.
pub(super) fn code((head, payload): &Sent) -> ErrorCode {
    let at = if head.kind == kind::GOAWAY { 4 } else { 0 };
    ErrorCode(u32::from_be_bytes(payload[at..at + 4].try_into().unwrap()))
}
