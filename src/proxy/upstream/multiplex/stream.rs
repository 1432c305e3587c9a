//! One request on a connection to an endpoint: its head and body go out, its answer comes in.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::connection::Connection;
use super::failure::StreamFailure;
use super::settings::{LARGEST_WINDOW, STREAM_WINDOW};
use super::slot::{Event, Opening, Slot};
use super::spare;
use super::state::State;
use crate::proxy::codec::hpack::{Encoder, FieldLines};
use crate::proxy::upstream::connection::Checkout;

/// A request's stream. It has a place on its connection from the beginning and is open from [`Stream::open`] on; whoever
/// drops it before both sides have ended resets it.
#[must_use = "the place is free when it is dropped"]
pub(crate) struct Stream {
    connection: Arc<Connection>,
    /// Its place among the open streams.
    at: Option<usize>,
    /// The field section that was told last.
    fields: Option<Box<FieldLines>>,
    reused: bool,
    // Dropped last: it may close the connection.
    checkout: Checkout,
}

impl Stream {
    pub(super) fn new(connection: Arc<Connection>, checkout: Checkout, reused: bool) -> Self {
        Self { connection, at: None, fields: None, reused, checkout }
    }

    /// Whether the connection carried a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The request's use of the connection.
    pub(crate) fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    /// Opens the stream; `write` writes the header block.
    ///
    /// # Errors
    /// If the connection went meanwhile.
    pub(crate) fn open(
        &mut self,
        opening: Opening,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), StreamFailure> {
        self.at = Some(self.connection.lock().open(opening, write)?);
        Ok(())
    }

    /// Sends as much of a body as windows and the connection's output allow; how many bytes were taken, and with all of
    /// them the `end`. Pending: nothing can be taken now.
    ///
    /// # Errors
    /// The stream's end. An endpoint that [wants no more](Self::wants_no_more) is none: bytes are taken and dropped.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        end: bool,
    ) -> Poll<Result<usize, StreamFailure>> {
        match self.at {
            Some(at) => self.connection.lock().send(at, cx.waker(), bytes, end),
            None => Poll::Ready(Err(StreamFailure::Unprocessed)),
        }
    }

    /// Ends the request with trailers, after all of its body.
    ///
    /// # Errors
    /// The stream's end.
    pub(crate) fn send_trailers(
        &mut self,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), StreamFailure> {
        let at = self.at.ok_or(StreamFailure::Unprocessed)?;
        self.connection.lock().trailers(at, write)
    }

    /// Whether the endpoint said, after its whole answer, that it wants no more of the request (RFC 9113 §8.1).
    pub(crate) fn wants_no_more(&self) -> bool {
        self.slot(|slot| slot.wants_no_more()).unwrap_or(false)
    }

    /// What the endpoint sent next. Bytes of a body are told as long as some [wait](Self::buffered); the end, again and
    /// again.
    ///
    /// # Errors
    /// The stream's end, when all that came before it was told.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, StreamFailure>> {
        let Some(at) = self.at else { return Poll::Ready(Err(StreamFailure::Unprocessed)) };
        let mut state = self.connection.lock();
        let Some(slot) = state.streams.at(at) else { return Poll::Ready(Err(StreamFailure::Broken)) };
        match slot.next() {
            Some(Ok((event, fields))) => {
                if let Some(told) = fields.and_then(|fields| self.fields.replace(fields)) {
                    spare::keep_fields(told);
                }
                Poll::Ready(Ok(event))
            }
            Some(Err(failure)) => Poll::Ready(Err(failure)),
            None => {
                slot.wait_to_read(cx.waker());
                Poll::Pending
            }
        }
    }

    /// The fields of the section that was told last; none before the first.
    pub(crate) fn fields(&self) -> Option<&FieldLines> {
        self.fields.as_deref()
    }

    /// How many bytes of the answer's body wait.
    pub(crate) fn buffered(&self) -> usize {
        self.slot(|slot| slot.buffered()).unwrap_or(0)
    }

    /// `take` uses some of what waits and says how many bytes; the endpoint may send as many more. The connection is
    /// locked meanwhile: `take` uses no other stream.
    pub(crate) fn read(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        let Some(at) = self.at else { return 0 };
        self.connection.lock().read(at, |bytes| (take(bytes), LARGEST_WINDOW)).0
    }

    /// As [`Self::read`]; `take` says, too, by how much the window may have grown in all, once all that waits is used. By
    /// how much it has.
    pub(crate) fn read_within(&mut self, take: impl FnOnce(&[u8]) -> (usize, u32)) -> u32 {
        let Some(at) = self.at else { return 0 };
        let take = |bytes: &[u8]| {
            let (used, growth) = take(bytes);
            (used, growth.saturating_add(STREAM_WINDOW).min(LARGEST_WINDOW))
        };
        self.connection.lock().read(at, take).1.saturating_sub(STREAM_WINDOW)
    }

    /// Whether nothing but the end is left, without trailers, and it is here.
    pub(crate) fn ends(&self) -> bool {
        self.slot(|slot| slot.ends()).unwrap_or(false)
    }

    /// The connection takes no new requests: it may hang as a whole.
    pub(crate) fn retire(&self) {
        self.connection.lock().retire();
    }

    fn slot<T>(&self, ask: impl FnOnce(&Slot) -> T) -> Option<T> {
        let mut state = self.connection.lock();
        self.at.and_then(|at| state.streams.at(at)).map(|slot| ask(slot))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.connection.lock();
        if let Some(at) = self.at {
            state.close(at);
        }
        State::leave(&mut state);
        if state.is_over() {
            self.connection.handle.retire();
        }
        drop(state);
        if let Some(told) = self.fields.take() {
            spare::keep_fields(told);
        }
    }
}
