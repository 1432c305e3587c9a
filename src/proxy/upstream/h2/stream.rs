//! What comes from the endpoint on one stream, and what of it waits for a client that does not read.
//!
//! Frames are taken from the `h2` crate as they come and their bytes are put together, but the endpoint may send more
//! only when bytes are with the client: so a stream holds its window at most, however small its frames.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::client::ResponseFuture;
use ::h2::{Reason, RecvStream};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};

use super::error::StreamError;
use super::state::ConnectionState;

/// Something that came from the endpoint.
pub(crate) enum ResponseEvent {
    /// A 1xx.
    Informational(Response<()>),
    /// The final head.
    Head(Response<()>),
    /// Bytes of the body. They count against the stream's window until [`ResponseStream::forwarded`].
    Data(Bytes),
    /// The end, with trailers if there are any.
    End(Option<HeaderMap>),
}

/// The endpoint's side of a stream.
pub(crate) struct ResponseStream {
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    waiting: VecDeque<Result<ResponseEvent, ::h2::Error>>,
    /// The end of the body that waits, still growing.
    tail: BytesMut,
    over: bool,
    /// The final head was taken.
    answered: bool,
    stream: u32,
    state: Arc<ConnectionState>,
}

/// Pieces of a body below this size are put together; larger ones stay as they are.
const SMALL: usize = 4 * 1024;

/// What is put together grows up to this size.
const PIECE: usize = 16 * 1024;

impl ResponseStream {
    pub(super) fn new(head: ResponseFuture, stream: u32, state: Arc<ConnectionState>) -> Self {
        Self {
            head: Some(head),
            body: None,
            waiting: VecDeque::new(),
            tail: BytesMut::new(),
            over: false,
            answered: false,
            stream,
            state,
        }
    }

    /// What comes next. Nothing is lost if it is not waited for.
    ///
    /// # Errors
    /// The stream's or the connection's end.
    pub(crate) async fn next(&mut self) -> Result<ResponseEvent, StreamError> {
        let event = poll_fn(|cx| {
            // All that is there at once: small frames become one piece.
            while let Poll::Ready(()) = self.poll_take(cx) {}
            if self.waiting.is_empty() {
                self.cut();
            }
            self.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.answered |= matches!(event, Ok(ResponseEvent::Head(_)));
        event.map_err(|error| StreamError::of(error, self.answered, self.stream, &self.state))
    }

    /// Whether nothing but the end is left, without trailers, and it is there already.
    pub(crate) fn ends(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // The waker is set anew when the next event is waited for.
        while let Poll::Ready(()) = self.poll_take(&mut cx) {}
        self.tail.is_empty()
            && self.waiting.len() == 1
            && matches!(self.waiting.front(), Some(Ok(ResponseEvent::End(None))))
    }

    /// Takes frames for as long as `other` takes; its result.
    pub(crate) async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        poll_fn(|cx| {
            if let Poll::Ready(result) = other.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            while let Poll::Ready(()) = self.poll_take(cx) {}
            Poll::Pending
        })
        .await
    }

    /// The client has these bytes; the endpoint may send as many more.
    pub(crate) fn forwarded(&mut self, bytes: usize) {
        if let Some(body) = &mut self.body {
            // Fails only on a stream that is over, whose window nobody needs.
            let _ = body.flow_control().release_capacity(bytes);
        }
    }

    /// Moves what comes next to what waits. Pending also when nothing more will come.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over {
            return Poll::Pending;
        }
        match ready!(self.poll_event(cx)) {
            Ok(ResponseEvent::Data(bytes)) if bytes.len() < SMALL => {
                if self.tail.len() + bytes.len() > PIECE {
                    self.cut();
                }
                self.tail.extend_from_slice(&bytes);
            }
            event => {
                self.over = matches!(event, Ok(ResponseEvent::End(_)) | Err(_));
                self.cut();
                self.waiting.push_back(event);
            }
        }
        Poll::Ready(())
    }

    /// Ends the piece that grows.
    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.waiting.push_back(Ok(ResponseEvent::Data(std::mem::take(&mut self.tail).freeze())));
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, ::h2::Error>> {
        if let Some(response) = &mut self.head {
            match response.poll_informational(cx) {
                Poll::Ready(Some(informational)) => {
                    return Poll::Ready(informational.map(ResponseEvent::Informational));
                }
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
            let (head, body) = ready!(Pin::new(response).poll(cx))?.into_parts();
            (self.head, self.body) = (None, Some(body));
            return Poll::Ready(Ok(ResponseEvent::Head(Response::from_parts(head, ()))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(ResponseEvent::End(None))) };
        if let Some(data) = ready!(body.poll_data(cx)) {
            return Poll::Ready(end_in_good_order(data.map(ResponseEvent::Data)));
        }
        let trailers = ready!(body.poll_trailers(cx)).map(ResponseEvent::End);
        Poll::Ready(end_in_good_order(trailers))
    }
}

/// An endpoint that wants no more of a request says so after its whole answer (RFC 9113 §8.1).
fn end_in_good_order(event: Result<ResponseEvent, ::h2::Error>) -> Result<ResponseEvent, ::h2::Error> {
    match event {
        Err(error) if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) => {
            Ok(ResponseEvent::End(None))
        }
        event => event,
    }
}
