//! The WebSocket endpoint of an origin: echoes messages, sends what the story pushes.

use std::io;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::exchange::{End, Exchange, Length};
use super::{Counted, Event, Shared};
use crate::harness::wire::Fields;

/// Answers `/ws`: 101 and the tunnel, over HTTP/2 200 and the tunnel (RFC 8441); 426 to what is no handshake.
pub(super) async fn answer(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let Some((status, head, length)) = handshake(exchange) else {
        return exchange.respond(426, &Fields::default(), "speak WebSocket here").await;
    };
    // Subscribed before the client can know that the stream is open, so that it misses nothing.
    let events = shared.events.subscribe();
    exchange.start(status, &head, length).await?;
    let _open = Counted::new(&shared.streams);
    match exchange {
        Exchange::H1(h1) => {
            let first = h1.connection.inbound.buffer.split().to_vec();
            let stream = &mut h1.connection.stream;
            talk(&mut WebSocketStream::from_partially_read(stream, first, Role::Server, None).await, events).await?;
            Ok(End::CloseAfter)
        }
        Exchange::H2(h2) => {
            let Some(tunnel) = h2.tunnel() else { return Ok(End::Leave) };
            let mut socket = WebSocketStream::from_raw_socket(tunnel, Role::Server, None).await;
            talk(&mut socket, events).await?;
            socket.get_mut().shutdown().await?;
            Ok(End::Done)
        }
    }
}

/// How a WebSocket is agreed to; none if none is asked for.
fn handshake(exchange: &Exchange<'_>) -> Option<(u16, Fields, Length)> {
    if let Exchange::H2(h2) = exchange {
        return h2.wants_websocket().then(|| (200, Fields::default(), Length::Open));
    }
    let headers = &exchange.head().headers;
    let wants = headers.lists("upgrade", "websocket") && headers.lists("connection", "upgrade");
    let key = headers.get("sec-websocket-key").filter(|_| wants)?;
    let mut head = Fields::default();
    head.push("upgrade", "websocket");
    head.push("connection", "upgrade");
    head.push("sec-websocket-accept", derive_accept_key(key.as_bytes()));
    Some((101, head, Length::None))
}

/// Sends back what comes, and what the story pushes, to the end.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    mut events: Receiver<Event>,
) -> io::Result<()> {
    // Nothing may be sent any more once either side has sent its close.
    let mut open = true;
    loop {
        tokio::select! {
            event = events.recv(), if open => match event.map_err(io::Error::other)? {
                Event::Push(text) => socket.send(Message::text(text)).await.map_err(io::Error::other)?,
                Event::End => {
                    open = false;
                    socket.close(None).await.map_err(io::Error::other)?;
                }
            },
            message = socket.next() => match message {
                None => return Ok(()),
                Some(message) => match message.map_err(io::Error::other)? {
                    // The answer is queued; reading on sends it.
                    Message::Close(_) => open = false,
                    message @ (Message::Text(_) | Message::Binary(_)) if open => {
                        socket.send(message).await.map_err(io::Error::other)?;
                    }
                    _ => {}
                },
            },
        }
    }
}
