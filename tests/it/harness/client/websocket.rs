//! A WebSocket client on one HTTP/1 connection.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{H1, Request, Response};
use crate::harness::eventually::within;
use crate::harness::socket::{Stream, Target};

/// An open WebSocket.
pub(crate) struct WebSocket {
    socket: WebSocketStream<Stream>,
    handshake: Response,
}

/// What came next on a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame, with its code if it had one; it has been answered.
    Close(Option<u16>),
    /// The connection ended without a close frame.
    Cut,
}

impl WebSocket {
    /// The handshake request for `path`, to add fields to.
    pub(crate) fn request(path: &str) -> Request {
        Request::get(path)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
    }

    /// Connects and opens `path`; ends the story if the answer is no valid 101.
    pub(crate) async fn open(target: impl Into<Target>, path: &str) -> Self {
        Self::open_with(target, &Self::request(path)).await
    }

    /// Connects and opens with this request.
    pub(crate) async fn open_with(target: impl Into<Target>, request: &Request) -> Self {
        let mut h1 = H1::connect(target).await;
        let handshake = h1.send(request).await.expect(101);
        assert_eq!(handshake.header("sec-websocket-accept"), derive_accept_key(KEY.as_bytes()), "{handshake:?}");
        assert!(handshake.headers.lists("connection", "upgrade"), "{handshake:?}");
        assert!(handshake.headers.lists("upgrade", "websocket"), "{handshake:?}");
        let (stream, first) = h1.into_parts();
        let socket = WebSocketStream::from_partially_read(stream, first.to_vec(), Role::Client, None).await;
        Self { socket, handshake }
    }

    /// Which origin answered.
    pub(crate) fn origin(&self) -> &str {
        self.handshake.origin()
    }

    /// Sends a text message.
    pub(crate) async fn send(&mut self, text: &str) {
        let sent = within("the socket takes a message", self.socket.send(Message::text(text))).await;
        sent.expect("the socket takes a message");
    }

    /// Sends a binary message.
    pub(crate) async fn send_binary(&mut self, bytes: Vec<u8>) {
        let sent = within("the socket takes a message", self.socket.send(Message::binary(bytes))).await;
        sent.expect("the socket takes a message");
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Incoming {
        loop {
            return match within("something comes on the socket", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => Incoming::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    // The answer is queued by now; that it cannot be sent any more is the other side's choice.
                    within("the answer to the close is sent", self.socket.flush()).await.ok();
                    Incoming::Close(frame.map(|frame| frame.code.into()))
                }
                Some(Ok(_)) => continue,
                Some(Err(Error::Protocol(_) | Error::Io(_))) | None => Incoming::Cut,
                Some(Err(error)) => panic!("not WebSocket: {error}"),
            };
        }
    }

    /// The next text message; ends the story if something else comes.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Incoming::Text(text) => text,
            other => panic!("{other:?} instead of a text message"),
        }
    }

    /// Closes in good order and waits for the other side's close.
    pub(crate) async fn close(mut self) {
        within("the socket takes a close", self.socket.close(None)).await.expect("the socket takes a close");
        loop {
            match self.next().await {
                Incoming::Close(_) => return,
                Incoming::Cut => panic!("the connection ended without an answer to the close"),
                Incoming::Text(_) | Incoming::Binary(_) => {}
            }
        }
    }
}

/// The key of RFC 6455 §1.3: nothing depends on its being random.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
