//! One HTTP/1 connection of a client.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::{Failure, Framing, Request, Response};
use crate::harness::eventually::{patience, within};
use crate::harness::socket::{Stream, Target, TlsFacts};
use crate::harness::wire::{Body, Fields, Inbound, ResponseHead};

/// One HTTP/1 connection.
pub(crate) struct H1 {
    receiving: Receiving,
    writer: WriteHalf<Stream>,
    tls: Option<TlsFacts>,
}

/// The receiving side, apart so that a response can be read while its request is still being written.
struct Receiving {
    reader: ReadHalf<Stream>,
    inbound: Inbound,
    /// What is left of the present response's body.
    body: Body,
    announced_close: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// In good order.
    Eof,
    /// By a reset.
    Reset,
}

impl H1 {
    /// Connects; ends the story if that fails.
    pub(crate) async fn connect(target: impl Into<Target>) -> Self {
        Self::try_connect(target).await.unwrap_or_else(|failure| panic!("no connection: {failure}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Refused`], [`Failure::Handshake`] or [`Failure::Timeout`].
    pub(crate) async fn try_connect(target: impl Into<Target>) -> Result<Self, Failure> {
        let stream = connect(&target.into(), &[b"http/1.1"]).await?;
        let tls = stream.tls_facts();
        let (reader, writer) = tokio::io::split(stream);
        let body = Body::Done(Fields::default());
        let receiving = Receiving { reader, inbound: Inbound::default(), body, announced_close: false };
        Ok(Self { receiving, writer, tls })
    }

    /// What the TLS handshake showed.
    pub(crate) fn tls(&self) -> &TlsFacts {
        self.tls.as_ref().expect("this connection speaks TLS")
    }

    /// Whether a response said `Connection: close`, or HTTP/1.0 without keep-alive.
    pub(crate) fn announced_close(&self) -> bool {
        self.receiving.announced_close
    }

    /// Sends `GET target` and reads the response; ends the story if that fails.
    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.send(&Request::get(target)).await
    }

    /// Sends a request and reads the response; ends the story if that fails.
    pub(crate) async fn send(&mut self, request: &Request) -> Response {
        let outcome = self.try_send(request).await;
        outcome.unwrap_or_else(|failure| panic!("{} {}: {failure}", request.method, request.target))
    }

    /// Sends a request and reads the response, the body while it is still sending.
    ///
    /// # Errors
    /// The [`Failure`] that the client saw.
    pub(crate) async fn try_send(&mut self, request: &Request) -> Result<Response, Failure> {
        let exchange = async {
            let (mut interim, early) = self.write_head(request).await?;
            if let Some(head) = early {
                return self.receiving.rest(&request.method, interim, head).await;
            }
            let body = encode_body(request);
            let Self { receiving, writer, .. } = self;
            let read = async {
                let head = receiving.head(&mut interim).await?;
                receiving.rest(&request.method, interim, head).await
            };
            let mut read = std::pin::pin!(read);
            tokio::select! {
                // A body that the server has not read when its answer is whole is given up.
                response = &mut read => response,
                () = write(writer, &body) => read.await,
            }
        };
        timeout(patience(), exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Sends a request, all of it, and reads only the head of the response; [`Self::piece`] reads its body.
    pub(crate) async fn open(&mut self, request: &Request) -> ResponseHead {
        let exchange = async {
            let (mut interim, early) = self.write_head(request).await?;
            let head = match early {
                Some(head) => head,
                None => {
                    let body = encode_body(request);
                    tokio::join!(self.receiving.head(&mut interim), write(&mut self.writer, &body)).0?
                }
            };
            self.receiving.begin(&request.method, &head);
            Ok(head)
        };
        let outcome: Result<_, Failure> = within("a response begins", exchange).await;
        outcome.unwrap_or_else(|failure| panic!("{} {}: {failure}", request.method, request.target))
    }

    /// The next piece of the present response's body; none at its end.
    ///
    /// # Errors
    /// [`Failure::Truncated`], [`Failure::Timeout`].
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let receiving = &mut self.receiving;
        let piece = receiving.inbound.body(&mut receiving.reader, &mut receiving.body);
        let piece = timeout(patience(), piece).await.map_err(|_| Failure::Timeout)?;
        piece.map_err(|error| Failure::Truncated { head: None, received: 0, how: error.to_string() })
    }

    /// Writes bytes as they are: half a request, two at once, nonsense.
    pub(crate) async fn write_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.write_all(bytes.as_ref()).await.expect("the connection takes bytes");
        self.writer.flush().await.expect("the connection takes bytes");
    }

    /// Ends the sending side; the receiving side stays open.
    pub(crate) async fn finish_writing(&mut self) {
        self.writer.shutdown().await.expect("the connection takes an end");
    }

    /// Reads one whole response to a request with this method: for what was sent by [`Self::write_raw`].
    ///
    /// # Errors
    /// The [`Failure`] that the client saw.
    pub(crate) async fn read_response(&mut self, method: &str) -> Result<Response, Failure> {
        let response = async {
            let mut interim = Vec::new();
            let head = self.receiving.head(&mut interim).await?;
            self.receiving.rest(method, interim, head).await
        };
        timeout(patience(), response).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Waits for the end of the connection; ends the story if bytes come instead.
    pub(crate) async fn ended(&mut self) -> Ending {
        let Receiving { reader, inbound, .. } = &mut self.receiving;
        loop {
            let read = within("the connection ends", inbound.fill(reader)).await;
            let bytes = inbound.buffer.split();
            assert!(bytes.is_empty(), "bytes instead of the end: {bytes:?}");
            match read {
                Ok(0) => return Ending::Eof,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ending::Eof,
                Err(_) => return Ending::Reset,
            }
        }
    }

    /// Whether the connection has not ended by now, as far as this side was told.
    pub(crate) async fn is_open(&mut self) -> bool {
        // A ready socket answers the first poll; an idle one answers none.
        let mut fill = std::pin::pin!(self.receiving.inbound.fill(&mut self.receiving.reader));
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match fill.as_mut().poll(cx) {
                std::task::Poll::Pending => true,
                std::task::Poll::Ready(read) => matches!(read, Ok(1..)),
            })
        })
        .await
    }

    /// Gives the socket back, with the bytes that were read and not used.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.receiving.reader.unsplit(self.writer), self.receiving.inbound.buffer)
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        self.into_parts().0.reset();
    }

    /// Sends a request's head. If it expects a 100, waits for that, or for the final head that came instead.
    async fn write_head(&mut self, request: &Request) -> Result<(Vec<ResponseHead>, Option<ResponseHead>), Failure> {
        write(&mut self.writer, &encode_head(request)).await;
        let mut interim = Vec::new();
        if !request.expects {
            return Ok((interim, None));
        }
        loop {
            let head = self.receiving.one_head().await?;
            match head.status {
                100 => {
                    interim.push(head);
                    return Ok((interim, None));
                }
                101..200 => interim.push(head),
                _ => return Ok((interim, Some(head))),
            }
        }
    }
}

impl Receiving {
    /// Reads heads up to the final one, or to the 101 that ends HTTP.
    async fn head(&mut self, interim: &mut Vec<ResponseHead>) -> Result<ResponseHead, Failure> {
        loop {
            let head = self.one_head().await?;
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
            interim.push(head);
        }
    }

    /// Reads one head, interim or final.
    async fn one_head(&mut self) -> Result<ResponseHead, Failure> {
        let read = self.inbound.response(&mut self.reader).await;
        let begun = !self.inbound.buffer.is_empty();
        match read {
            Ok(Some(head)) => Ok(head),
            Ok(None) => Err(Failure::EofBeforeByte),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Failure::Garbage(format!("{error}: {:?}", self.inbound.buffer)))
            }
            Err(error) if begun => Err(Failure::Truncated { head: None, received: 0, how: error.to_string() }),
            // TLS without close_notify: an end all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Failure::EofBeforeByte),
            Err(error) => Err(Failure::ResetBeforeByte(error.to_string())),
        }
    }

    /// Notes what a head says of its body and of the connection.
    fn begin(&mut self, method: &str, head: &ResponseHead) {
        self.body = Body::of_response(method, head);
        let kept = head.version == http::Version::HTTP_11 || head.headers.lists("connection", "keep-alive");
        self.announced_close |= !kept || head.headers.lists("connection", "close");
    }

    /// Reads what follows this head; a switched protocol has no body.
    async fn rest(
        &mut self,
        method: &str,
        interim: Vec<ResponseHead>,
        head: ResponseHead,
    ) -> Result<Response, Failure> {
        self.begin(method, &head);
        let mut body = BytesMut::new();
        if head.status == 101 {
            return Ok(self.response(interim, head, body));
        }
        loop {
            match self.inbound.body(&mut self.reader, &mut self.body).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(self.response(interim, head, body)),
                Err(error) => {
                    let (received, how) = (body.len(), error.to_string());
                    return Err(Failure::Truncated { head: Some(head), received, how });
                }
            }
        }
    }

    fn response(&self, interim: Vec<ResponseHead>, head: ResponseHead, body: BytesMut) -> Response {
        let trailers = if let Body::Done(trailers) = &self.body { trailers.clone() } else { Fields::default() };
        Response {
            status: head.status,
            version: head.version,
            interim,
            headers: head.headers,
            body: body.freeze(),
            trailers,
            announced_close: self.announced_close,
        }
    }
}

/// Connects and sorts what can go wrong.
pub(super) async fn connect(target: &Target, alpn: &[&[u8]]) -> Result<Stream, Failure> {
    match timeout(patience(), Stream::connect(target, alpn)).await {
        Err(_) => Err(Failure::Timeout),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused || target.tls.is_none() => {
            Err(Failure::Refused(error))
        }
        Ok(Err(error)) => Err(Failure::Handshake(error)),
    }
}

/// Writes. What a failed write means, the reader sees: an early answer, or the connection's end.
async fn write(writer: &mut WriteHalf<Stream>, bytes: &[u8]) {
    if writer.write_all(bytes).await.is_ok() {
        writer.flush().await.ok();
    }
}

fn encode_head(request: &Request) -> Vec<u8> {
    let version = if request.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{} {} {version}\r\n", request.method, request.target).into_bytes();
    if let Some(host) = &request.host {
        head.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
    }
    head.extend_from_slice(&request.fields.encode());
    head.extend_from_slice(&request.framing_fields().encode());
    head.extend_from_slice(b"\r\n");
    head
}

fn encode_body(request: &Request) -> Vec<u8> {
    if request.framing != Framing::Chunked {
        return request.body.to_vec();
    }
    let mut encoded = Vec::with_capacity(request.body.len() + 64);
    for chunk in request.body.chunks(CHUNK) {
        encoded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n");
    encoded.extend_from_slice(&request.trailers.encode());
    encoded.extend_from_slice(b"\r\n");
    encoded
}

/// Small enough that bodies have several chunks.
const CHUNK: usize = 4096;
