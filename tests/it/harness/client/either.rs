//! A client of either protocol, for stories that hold for both.

use super::{Failure, H1, H2, Request, Response};
use crate::harness::socket::{Target, TlsFacts};
use crate::harness::weir::express_lane;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The same for WebSockets: the general lane carries those over HTTP/1.1 only.
    pub(crate) fn of_websockets(self) -> Self {
        if express_lane() { self } else { Self::Http1 }
    }
}

/// One connection of a client.
pub(crate) enum Client {
    /// It speaks HTTP/1.1.
    Http1(H1),
    /// It speaks HTTP/2.
    Http2(H2),
}

impl Client {
    /// Connects; ends the story if that fails.
    pub(crate) async fn connect(protocol: Protocol, target: impl Into<Target>) -> Self {
        Self::try_connect(protocol, target).await.unwrap_or_else(|failure| panic!("no connection: {failure}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Refused`], [`Failure::Handshake`] or [`Failure::Timeout`].
    pub(crate) async fn try_connect(protocol: Protocol, target: impl Into<Target>) -> Result<Self, Failure> {
        Ok(match protocol {
            Protocol::Http1 => Self::Http1(H1::try_connect(target).await?),
            Protocol::Http2 => Self::Http2(H2::try_connect(target).await?),
        })
    }

    /// What the TLS handshake showed.
    pub(crate) fn tls(&self) -> &TlsFacts {
        match self {
            Self::Http1(h1) => h1.tls(),
            Self::Http2(h2) => h2.tls(),
        }
    }

    /// Sends a request and reads the response.
    ///
    /// # Errors
    /// The [`Failure`] that the client saw.
    pub(crate) async fn try_send(&mut self, request: &Request) -> Result<Response, Failure> {
        match self {
            Self::Http1(h1) => h1.try_send(request).await,
            Self::Http2(h2) => h2.try_send(request).await,
        }
    }

    /// Sends a request and reads the response; ends the story if that fails.
    pub(crate) async fn send(&mut self, request: &Request) -> Response {
        let outcome = self.try_send(request).await;
        outcome.unwrap_or_else(|failure| panic!("{} {}: {failure}", request.method, request.target))
    }

    /// Sends `GET target` and reads the response; ends the story if that fails.
    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.send(&Request::get(target)).await
    }

    /// Whether the connection has not ended by now.
    pub(crate) async fn is_open(&mut self) -> bool {
        match self {
            Self::Http1(h1) => h1.is_open().await,
            Self::Http2(h2) => h2.is_open(),
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        match self {
            Self::Http1(h1) => {
                h1.ended().await;
            }
            Self::Http2(h2) => {
                h2.ended().await;
            }
        }
    }

    /// Waits until the server says that the connection ends: over HTTP/1.1 with its next answer, over HTTP/2 by GOAWAY.
    pub(crate) async fn told_to_go(&mut self) {
        match self {
            Self::Http1(h1) => {
                let response = h1.get("/").await.expect(200);
                assert!(response.announced_close, "the end is announced: {response:?}");
            }
            Self::Http2(h2) => assert_eq!(h2.wait_goaway().await.code, 0, "in good order"),
        }
    }
}
