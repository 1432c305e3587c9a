//! gRPC by hand: length-prefixed messages on HTTP/2 streams, the status in the trailers.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Failure, H2, H2Stream, Request};
use crate::harness::wire::{Fields, ResponseHead};

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The `grpc-status`, from the trailers, or from the head of a trailers-only answer.
    pub(crate) status: u8,
    /// The `grpc-message`.
    pub(crate) message: String,
    /// The messages received.
    pub(crate) messages: Vec<Bytes>,
    /// The head of the response.
    pub(crate) head: ResponseHead,
    /// The trailers; empty for a trailers-only answer.
    pub(crate) trailers: Fields,
}

/// An open bidirectional call.
pub(crate) struct Call {
    stream: H2Stream,
    head: Option<ResponseHead>,
    received: BytesMut,
}

/// A message with its prefix.
pub(crate) fn encode(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + PREFIX);
    bytes.put_u8(0);
    bytes.put_u32(message.len().try_into().expect("a message is below 4 GiB"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// Takes the first message out of what was received, if it is whole.
pub(crate) fn decode(received: &mut BytesMut) -> Option<Bytes> {
    let prefix = received.get(..PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
    if received.len() < PREFIX + length {
        return None;
    }
    received.advance(PREFIX);
    Some(received.split_to(length).freeze())
}

/// Calls `path` with one message and waits for the end.
///
/// # Errors
/// The [`Failure`] that the client saw.
pub(crate) async fn unary(h2: &H2, path: &str, message: &[u8]) -> Result<Answer, Failure> {
    let mut request = request(path);
    request.body = encode(message);
    let response = h2.try_send(&request).await?;
    let head = ResponseHead { status: response.status, version: response.version, headers: response.headers };
    let mut received = BytesMut::from(&*response.body);
    let messages = std::iter::from_fn(|| decode(&mut received)).collect();
    Ok(answer(head, response.trailers, messages))
}

/// Opens a call to `path` whose messages the story sends and receives one by one.
pub(crate) async fn open(h2: &H2, path: &str) -> Call {
    Call { stream: h2.open(&request(path)).await, head: None, received: BytesMut::new() }
}

impl Call {
    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &[u8]) {
        self.stream
            .write(encode(message))
            .await
            .unwrap_or_else(|failure| panic!("the call takes no message: {failure}"));
    }

    /// The next message; none when the server has sent its last one.
    ///
    /// # Errors
    /// [`Failure::Truncated`], [`Failure::Timeout`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.head.is_none() {
            self.head = Some(self.stream.head().await);
        }
        loop {
            if let Some(message) = decode(&mut self.received) {
                return Ok(Some(message));
            }
            match self.stream.piece().await? {
                Some(piece) => self.received.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    /// Ends the sending side, reads what is left and gives the status.
    ///
    /// # Errors
    /// [`Failure::Truncated`], [`Failure::Timeout`].
    pub(crate) async fn finish(mut self) -> Result<Answer, Failure> {
        self.stream.finish();
        let mut messages = Vec::new();
        while let Some(message) = self.next().await? {
            messages.push(message);
        }
        let trailers = self.stream.trailers().await?;
        Ok(answer(self.head.expect("the head is read with the first message"), trailers, messages))
    }
}

fn request(path: &str) -> Request {
    Request::post(path, Bytes::new()).chunked().header("content-type", "application/grpc").header("te", "trailers")
}

fn answer(head: ResponseHead, trailers: Fields, messages: Vec<Bytes>) -> Answer {
    let field = |name| trailers.get(name).or_else(|| head.headers.get(name));
    let status = field("grpc-status").and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no grpc-status in {head:?} {trailers:?}")),
        message: field("grpc-message").unwrap_or_default().to_owned(),
        messages,
        head,
        trailers,
    }
}

/// A flag byte and the length.
const PREFIX: usize = 5;
