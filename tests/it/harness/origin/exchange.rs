//! One request and its answer, whichever protocol carries them: what behaviours are written against.

use std::io;

use ::h2::Reason;
use bytes::Bytes;

use super::{h1, h2};
use crate::harness::wire::{Fields, RequestHead};

/// One request being answered.
pub(super) enum Exchange<'c> {
    H1(h1::Exchange<'c>),
    H2(h2::Exchange),
}

/// What is known of the length of an answer's body when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// This many bytes follow.
    Known(u64),
    /// Unknown; the end is marked.
    Open,
    /// There is no body; the head ends the message.
    None,
}

/// How a behaviour leaves the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered to the end; the connection goes on.
    Done,
    /// Answered to the end; the connection goes on, and the next request on it is thrown away with it.
    Stale,
    /// Answered to the end; then the idle connection is closed.
    CloseAfter,
    /// Not answered to the end: the connection is closed as it is, of HTTP/2 with all its streams.
    Close,
    /// Nothing more is read or sent: HTTP/1 closes the connection, HTTP/2 gives up the stream and goes on.
    Leave,
    /// Not answered to the end: HTTP/1 resets the connection, HTTP/2 the stream with this code.
    Reset(Reason),
}

impl Exchange<'_> {
    pub(super) fn head(&self) -> &RequestHead {
        match self {
            Self::H1(exchange) => &exchange.head,
            Self::H2(exchange) => &exchange.head,
        }
    }

    /// The next piece of the request's body; none at its end.
    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::H1(exchange) => exchange.read().await,
            Self::H2(exchange) => exchange.read().await,
        }
    }

    /// The request's trailers, once its body has been read.
    pub(super) fn trailers(&self) -> Fields {
        match self {
            Self::H1(exchange) => exchange.trailers(),
            Self::H2(exchange) => exchange.trailers.clone(),
        }
    }

    /// Sends an interim (1xx) response.
    pub(super) async fn inform(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        match self {
            Self::H1(exchange) => exchange.inform(status, fields).await,
            Self::H2(exchange) => exchange.inform(status, fields),
        }
    }

    /// Sends the head of the answer.
    pub(super) async fn start(&mut self, status: u16, fields: &Fields, length: Length) -> io::Result<()> {
        match self {
            Self::H1(exchange) => exchange.start(status, fields, length).await,
            Self::H2(exchange) => exchange.start(status, fields, length),
        }
    }

    /// Sends a piece of the answer's body.
    pub(super) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::H1(exchange) => exchange.write(&bytes).await,
            Self::H2(exchange) => exchange.write(bytes).await,
        }
    }

    /// Ends the answer.
    pub(super) async fn end(&mut self, trailers: &Fields) -> io::Result<()> {
        match self {
            Self::H1(exchange) => exchange.end(trailers).await,
            Self::H2(exchange) => exchange.end(trailers),
        }
    }

    /// Returns when the client has gone away.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::H1(exchange) => exchange.gone().await,
            Self::H2(exchange) => exchange.gone().await,
        }
    }

    /// Sends a whole answer.
    pub(super) async fn respond(&mut self, status: u16, fields: &Fields, body: impl Into<Bytes>) -> io::Result<End> {
        let body = body.into();
        if matches!(status, 204 | 304) {
            self.start(status, fields, Length::None).await?;
        } else {
            self.start(status, fields, Length::Known(body.len() as u64)).await?;
            self.write(body).await?;
            self.end(&Fields::default()).await?;
        }
        Ok(End::Done)
    }
}
