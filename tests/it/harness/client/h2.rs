//! One HTTP/2 connection of a client, with any number of streams at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use ::h2::client::{Builder, ResponseFuture, SendRequest};
use ::h2::ext::Protocol;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tap::{GoAway, Seen, Tap};
use super::{Failure, Framing, Request, Response};
use crate::harness::eventually::{eventually, patience, within};
use crate::harness::socket::{Target, TlsFacts};
use crate::harness::tunnel::Tunnel;
use crate::harness::wire::{Fields, ResponseHead};

/// One HTTP/2 connection. Its methods take `&self`: join several futures to have several streams.
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
    seen: Seen,
    closed: watch::Receiver<Option<String>>,
    driver: JoinHandle<()>,
    tls: Option<TlsFacts>,
}

/// One open stream. Dropping it cancels it.
pub(crate) struct H2Stream {
    send: SendStream<Bytes>,
    reading: Reading,
}

/// The receiving side of a stream.
struct Reading {
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    seen: Seen,
}

impl H2 {
    /// Connects, by prior knowledge or with TLS by ALPN; ends the story if that fails.
    pub(crate) async fn connect(target: impl Into<Target>) -> Self {
        Self::try_connect(target).await.unwrap_or_else(|failure| panic!("no connection: {failure}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Refused`], [`Failure::Handshake`] (also if ALPN does not choose HTTP/2) or [`Failure::Timeout`].
    pub(crate) async fn try_connect(target: impl Into<Target>) -> Result<Self, Failure> {
        let stream = super::h1::connect(&target.into(), &[b"h2"]).await?;
        let tls = stream.tls_facts();
        if tls.is_some() && !stream.speaks_h2() {
            return Err(Failure::Handshake(std::io::Error::other("ALPN did not choose h2")));
        }
        let (tap, seen) = Tap::new(stream);
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW * 4).enable_push(false);
        let (send, connection) = builder
            .handshake::<_, Bytes>(tap)
            .await
            .map_err(|error| Failure::Handshake(std::io::Error::other(error)))?;
        let (tell, closed) = watch::channel(None);
        let driver = tokio::spawn(async move {
            let ending = connection.await.map_or_else(|error| error.to_string(), |()| "in good order".to_owned());
            tell.send(Some(ending)).ok();
        });
        Ok(Self { send, seen, closed, driver, tls })
    }

    /// What the TLS handshake showed.
    pub(crate) fn tls(&self) -> &TlsFacts {
        self.tls.as_ref().expect("this connection speaks TLS")
    }

    /// The GOAWAY frames that arrived so far.
    pub(crate) fn goaways(&self) -> Vec<GoAway> {
        self.seen.lock().unwrap().clone()
    }

    /// Whether the server announced the end: no new stream belongs on this connection.
    pub(crate) fn announced_close(&self) -> bool {
        !self.seen.lock().unwrap().is_empty()
    }

    /// Waits for the first GOAWAY.
    pub(crate) async fn wait_goaway(&self) -> GoAway {
        eventually("the server announces the end by GOAWAY", async || self.goaways().first().copied()).await
    }

    /// Whether the connection has not ended by now.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    /// Waits for the end of the connection; says how it ended.
    pub(crate) async fn ended(&self) -> String {
        let mut closed = self.closed.clone();
        let ending = within("the connection ends", closed.wait_for(Option::is_some)).await.unwrap().clone();
        ending.unwrap_or_default()
    }

    /// Sends `GET target` and reads the response; ends the story if that fails.
    pub(crate) async fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target)).await
    }

    /// Sends a request and reads the response; ends the story if that fails.
    pub(crate) async fn send(&self, request: &Request) -> Response {
        let outcome = self.try_send(request).await;
        outcome.unwrap_or_else(|failure| panic!("{} {}: {failure}", request.method, request.target))
    }

    /// Sends a request and reads the response, the body while it is still sending.
    ///
    /// # Errors
    /// The [`Failure`] that the client saw.
    pub(crate) async fn try_send(&self, request: &Request) -> Result<Response, Failure> {
        let exchange = async {
            let whole = request.body.is_empty() && request.trailers.0.is_empty();
            let H2Stream { mut send, mut reading } = self.begin(request, whole).await?;
            let write = async {
                // What a failed write means, the reader sees: an early answer, a reset, the connection's end.
                if !whole && write(&mut send, request.body.clone()).await.is_ok() {
                    finish(&mut send, &request.trailers);
                }
            };
            let mut read = std::pin::pin!(reading.response());
            tokio::select! {
                response = &mut read => response,
                () = write => read.await,
            }
        };
        timeout(patience(), exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Opens a stream whose response the story reads itself; a request made with a body (which is not sent) is open for
    /// writing until [`H2Stream::finish`].
    pub(crate) async fn open(&self, request: &Request) -> H2Stream {
        let ends = request.framing == Framing::None && request.tunnel.is_none();
        let stream = within("the connection takes a stream", self.begin(request, ends)).await;
        stream.unwrap_or_else(|failure| panic!("{} {}: {failure}", request.method, request.target))
    }

    /// Opens a tunnel (RFC 8441), once the server has said that it takes one; ends the story if it is refused.
    pub(crate) async fn tunnel(&self, request: &Request) -> (ResponseHead, Tunnel) {
        let offered = async || self.send.is_extended_connect_protocol_enabled();
        eventually("the server offers the extended CONNECT", offered).await;
        let mut stream = self.open(request).await;
        let head = stream.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        let body = stream.reading.body.expect("the head is read");
        (head, Tunnel::new(stream.send, body))
    }

    async fn begin(&self, request: &Request, ends: bool) -> Result<H2Stream, Failure> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = request.host.as_deref().expect("an HTTP/2 request has a host");
        let uri = format!("{scheme}://{host}{}", request.target);
        let mut head = http::Request::builder().method(&*request.method).uri(uri).body(()).unwrap();
        *head.headers_mut() = request.fields.to_map();
        if request.framing == Framing::Length {
            head.headers_mut().insert("content-length", request.body.len().into());
        }
        if let Some(protocol) = request.tunnel {
            head.extensions_mut().insert(Protocol::from_static(protocol));
        }
        let mut ready = self.send.clone().ready().await.map_err(|error| sort(&error, &self.seen))?;
        let (response, send) = ready.send_request(head, ends).map_err(|error| sort(&error, &self.seen))?;
        Ok(H2Stream { send, reading: Reading { response: Some(response), body: None, seen: self.seen.clone() } })
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl H2Stream {
    /// Sends a piece of the request's body.
    ///
    /// # Errors
    /// The [`Failure`] that the client saw.
    pub(crate) async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), Failure> {
        let written = timeout(patience(), write(&mut self.send, bytes.into())).await;
        written.map_err(|_| Failure::Timeout)?.map_err(|error| sort(&error, &self.reading.seen))
    }

    /// Ends the request.
    pub(crate) fn finish(&mut self) {
        finish(&mut self.send, &Fields::default());
    }

    /// Waits for the response's head; ends the story if none comes.
    pub(crate) async fn head(&mut self) -> ResponseHead {
        let head = within("a response begins", self.reading.head()).await;
        head.unwrap_or_else(|failure| panic!("no response: {failure}")).1
    }

    /// The next piece of the response's body; none at its end. Reads the head first if nobody did.
    ///
    /// # Errors
    /// [`Failure::Truncated`], [`Failure::Timeout`].
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        timeout(patience(), self.reading.piece()).await.unwrap_or(Err(Failure::Timeout))
    }

    /// The response's trailers, once its body has been read.
    ///
    /// # Errors
    /// [`Failure::Truncated`], [`Failure::Timeout`].
    pub(crate) async fn trailers(&mut self) -> Result<Fields, Failure> {
        timeout(patience(), self.reading.trailers()).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Resets the stream with CANCEL, as a client that lost interest.
    pub(crate) fn cancel(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

impl Reading {
    /// Reads the head, and what comes before it.
    async fn head(&mut self) -> Result<(Vec<ResponseHead>, ResponseHead), Failure> {
        let mut response = self.response.take().expect("the head is read once");
        let mut interim = Vec::new();
        let head = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
                interim.push(to_head(&head));
            }
            Pin::new(&mut response).poll(cx)
        })
        .await
        .map_err(|error| sort(&error, &self.seen))?;
        let (parts, body) = head.into_parts();
        self.body = Some(body);
        Ok((interim, to_head(&http::Response::from_parts(parts, ()))))
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.response.is_some() {
            self.head().await?;
        }
        let body = self.body.as_mut().expect("the head is read before the body");
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| truncated(&error))?;
            // Fails only on a stream that is over, whose window nobody needs.
            body.flow_control().release_capacity(piece.len()).ok();
            // The frame that ends a stream is often empty, and no piece.
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    async fn trailers(&mut self) -> Result<Fields, Failure> {
        let body = self.body.as_mut().expect("the head is read before the trailers");
        let trailers = body.trailers().await.map_err(|error| truncated(&error))?;
        Ok(trailers.as_ref().map(Fields::from).unwrap_or_default())
    }

    /// Reads all of it.
    async fn response(&mut self) -> Result<Response, Failure> {
        let (interim, head) = self.head().await?;
        let mut body = BytesMut::new();
        let trailers = loop {
            let failure = match self.piece().await {
                Ok(Some(piece)) => {
                    body.extend_from_slice(&piece);
                    continue;
                }
                Ok(None) => match self.trailers().await {
                    Ok(trailers) => break trailers,
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            let Failure::Truncated { how, .. } = failure else { return Err(failure) };
            return Err(Failure::Truncated { head: Some(head), received: body.len(), how });
        };
        Ok(Response {
            status: head.status,
            version: head.version,
            interim,
            headers: head.headers,
            body: body.freeze(),
            trailers,
            announced_close: !self.seen.lock().unwrap().is_empty(),
        })
    }
}

async fn write(send: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), ::h2::Error> {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let Some(granted) = poll_fn(|cx| send.poll_capacity(cx)).await else {
            return Err(Reason::STREAM_CLOSED.into());
        };
        send.send_data(bytes.split_to(granted?.min(bytes.len())), false)?;
    }
    Ok(())
}

/// Ends the sending side. A stream that is over already needs no end; the reader tells how it ended.
fn finish(send: &mut SendStream<Bytes>, trailers: &Fields) {
    if trailers.0.is_empty() { send.send_data(Bytes::new(), true) } else { send.send_trailers(trailers.to_map()) }.ok();
}

fn to_head(response: &http::Response<()>) -> ResponseHead {
    ResponseHead {
        status: response.status().as_u16(),
        version: response.version(),
        headers: Fields::from(response.headers()),
    }
}

/// Which failure an error before the head is.
fn sort(error: &::h2::Error, seen: &Seen) -> Failure {
    let how = error.to_string();
    let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    if refused || error.is_go_away() && error.is_remote() {
        Failure::Unprocessed(how)
    } else if error.is_reset() && error.is_remote() {
        Failure::ResetBeforeByte(how)
    } else if error.is_io() || error.is_remote() || !seen.lock().unwrap().is_empty() {
        let reset = error.get_io().is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        if reset { Failure::ResetBeforeByte(how) } else { Failure::EofBeforeByte }
    } else {
        Failure::Garbage(how)
    }
}

fn truncated(error: &::h2::Error) -> Failure {
    Failure::Truncated { head: None, received: 0, how: error.to_string() }
}

/// A window that lets large bodies flow without a wait per frame.
const WINDOW: u32 = 1 << 20;
