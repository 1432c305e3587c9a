//! The WebSocket endpoint of an origin: echoes messages, sends what the story pushes.

use std::io;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::exchange::{End, Exchange, Length};
use super::{Counted, Event, Shared};
use crate::harness::wire::Fields;

/// Answers `/ws`: 101 and the tunnel, 426 to what is no handshake.
pub(super) async fn answer(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let headers = &exchange.head().headers;
    let wants = headers.lists("upgrade", "websocket") && headers.lists("connection", "upgrade");
    let key = headers.get("sec-websocket-key").filter(|_| wants).map(|key| derive_accept_key(key.as_bytes()));
    let Some(key) = key else {
        return exchange.respond(426, &Fields::default(), "speak WebSocket here").await;
    };
    let mut head = Fields::default();
    head.push("upgrade", "websocket");
    head.push("connection", "upgrade");
    head.push("sec-websocket-accept", key);
    // Subscribed before the client can know that the stream is open, so that it misses nothing.
    let mut events = shared.events.subscribe();
    exchange.start(101, &head, Length::None).await?;
    let Exchange::H1(h1) = exchange else { return Ok(End::Close) };
    let _open = Counted::new(&shared.streams);
    let first = h1.connection.inbound.buffer.split().to_vec();
    let mut socket = WebSocketStream::from_partially_read(&mut h1.connection.stream, first, Role::Server, None).await;
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
                None => return Ok(End::CloseAfter),
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
