//! A WebSocket client, on an HTTP/1 connection or on a stream of HTTP/2 (RFC 8441).

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{H1, H2, Protocol, Request};
use crate::harness::eventually::within;
use crate::harness::socket::Target;
use crate::harness::wire::ResponseHead;

/// An open WebSocket.
pub(crate) struct WebSocket {
    socket: WebSocketStream<Box<dyn Carrier>>,
    head: ResponseHead,
    /// A connection that nobody else holds.
    _own: Option<H2>,
}

/// What carries its frames: a socket, or a stream of HTTP/2.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Carrier for C {}

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
    /// The handshake request of HTTP/1 for `path`, to add fields to.
    pub(crate) fn request(path: &str) -> Request {
        Request::get(path)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
    }

    /// Connects by HTTP/1 and opens `path`; ends the story if the answer is no valid 101.
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
        let carrier: Box<dyn Carrier> = Box::new(stream);
        let socket = WebSocketStream::from_partially_read(carrier, first.to_vec(), Role::Client, None).await;
        let head = ResponseHead { status: handshake.status, version: handshake.version, headers: handshake.headers };
        Self { socket, head, _own: None }
    }

    /// Opens `path` over this protocol, on a connection of its own.
    pub(crate) async fn open_over(protocol: Protocol, target: impl Into<Target>, path: &str) -> Self {
        match protocol {
            Protocol::Http1 => Self::open(target, path).await,
            Protocol::Http2 => {
                let h2 = H2::connect(target).await;
                let socket = Self::open_on(&h2, path).await;
                Self { _own: Some(h2), ..socket }
            }
        }
    }

    /// Opens `path` as a stream of this HTTP/2 connection; ends the story if it is refused.
    pub(crate) async fn open_on(h2: &H2, path: &str) -> Self {
        let request = Request::tunnel(path, "websocket").header("sec-websocket-version", "13");
        let (head, tunnel) = h2.tunnel(&request).await;
        let carrier: Box<dyn Carrier> = Box::new(tunnel);
        let socket = WebSocketStream::from_raw_socket(carrier, Role::Client, None).await;
        Self { socket, head, _own: None }
    }

    /// Which origin answered.
    pub(crate) fn origin(&self) -> &str {
        self.head.headers.get("x-origin").unwrap_or_default()
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

    /// Closes in good order, waits for the other side's close, and for the end that follows it (RFC 6455 §7.1.1).
    pub(crate) async fn close(mut self) {
        within("the socket takes a close", self.socket.close(None)).await.expect("the socket takes a close");
        let mut answered = false;
        loop {
            match self.next().await {
                Incoming::Close(_) => {
                    answered = true;
                    self.socket.get_mut().shutdown().await.ok();
                }
                Incoming::Cut if answered => return,
                Incoming::Cut => panic!("the connection ended without an answer to the close"),
                Incoming::Text(_) | Incoming::Binary(_) => {}
            }
        }
    }
}

/// The key of RFC 6455 §1.3: nothing depends on its being random.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
