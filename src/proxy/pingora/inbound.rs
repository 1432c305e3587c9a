//! The one HTTP/1 request that the engine reads from a connection, and what follows it.
//!
//! The engine reads ahead of what it asks for: it drops a request whose successor came with it, and takes chunks that
//! others would read differently. So it gets exactly one message, framed anew after our own reading of it; what the
//! client sent beyond stays here for the next one, and is read only as far as is needed to see the client leave.
//!
//! Invariant: not one byte after the end of a request is given to the engine, unless it switched the protocol.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::exchange::{EXCHANGE, Side};
use super::handle::Handle;
use crate::proxy::codec::body::{Body, Malformed, Piece};
use crate::proxy::io::transport::Transport;
use crate::proxy::request::end::HALF_CLOSED_CHECK;

/// A request on its way to the engine.
pub(crate) struct Inbound {
    /// What the engine reads next: the head, later chunks.
    ready: BytesMut,
    /// What the client sent and nobody looked at.
    pub(crate) input: BytesMut,
    /// What is missing of the body.
    body: Body,
    /// When to look next whether a client that sends no more is still there.
    half_closed: Option<Pin<Box<Sleep>>>,
}

/// What is read at once, and the most that is read ahead of a request that is being answered.
pub(crate) const READ: usize = 16 * 1024;

impl Inbound {
    /// A request with this head and body; `input` is what came after its head.
    pub(crate) fn new(head: BytesMut, body: Body, input: BytesMut) -> Self {
        Self { ready: head, input, body, half_closed: None }
    }

    /// Whether all of the request was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.ready.is_empty() && self.body.is_done()
    }

    /// Whether the client may still send what nobody will read: to close at once would take the answer from it.
    pub(crate) fn is_owed_more(&self) -> bool {
        !self.body.is_done() || self.input.len() >= READ
    }

    /// Reads what the engine may have.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        handle: &Handle,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !self.ready.is_empty() {
                give(&mut self.ready, buf);
                return Poll::Ready(Ok(()));
            }
            if handle.is_switched() {
                return self.poll_tunnel(cx, transport, buf);
            }
            if self.body.is_done() {
                return self.poll_departure(cx, transport).map(Err);
            }
            if let (Body::Length(left), true) = (self.body, self.input.is_empty()) {
                // Nothing is read ahead, so nothing need be copied.
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining());
                let mut room = ReadBuf::new(buf.initialize_unfilled_to(most));
                ready!(Pin::new(transport).poll_read(cx, &mut room))?;
                let read = room.filled().len();
                buf.advance(read);
                self.body.took(read);
                return Poll::Ready(Ok(()));
            }
            if self.frame(buf).inspect_err(|_| handle.misframed())? {
                return Poll::Ready(Ok(()));
            }
            if self.ready.is_empty() && !self.body.is_done() && ready!(self.poll_fill(cx, transport))? == 0 {
                // In the middle of a request: the engine sees the end.
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads what the client sends through a tunnel. Its end goes to the endpoint as such (`canonical`); the engine, which
    /// would end the whole tunnel, sees it when both sides have ended and the client has everything.
    fn poll_tunnel(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.half_closed.is_some() {
            // The engine asks again whenever the client has taken something.
            return match EXCHANGE.try_with(|exchange| exchange.is_over(Side::Client)) {
                Ok(true) => Poll::Ready(Ok(())),
                _ => self.poll_departure(cx, transport).map(Err),
            };
        }
        let before = buf.filled().len();
        if self.input.is_empty() {
            ready!(Pin::new(&mut *transport).poll_read(cx, buf))?;
        } else {
            give(&mut self.input, buf);
        }
        let read = buf.filled().len() - before;
        let over = EXCHANGE.try_with(|exchange| match read {
            0 => exchange.ended_half(Side::Client),
            _ => {
                exchange.entered(Side::Endpoint, read);
                false
            }
        });
        if read > 0 || over.unwrap_or(true) {
            return Poll::Ready(Ok(()));
        }
        self.half_closed = Some(Box::pin(tokio::time::sleep(HALF_CLOSED_CHECK)));
        // Whoever writes to the endpoint was perhaps polled before.
        cx.waker().wake_by_ref();
        self.poll_departure(cx, transport).map(Err)
    }

    /// Moves the next piece of the body out of the input: of a length into `buf`, of chunks into `ready`. Whether `buf`
    /// got something.
    fn frame(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let chunked = matches!(self.body, Body::Chunked(_));
        let Piece { framing, data } = self.body.next(&self.input).map_err(|Malformed| io::ErrorKind::InvalidData)?;
        self.input.advance(framing);
        if !chunked {
            let taken = data.min(buf.remaining());
            buf.put_slice(&self.input.split_to(taken));
            self.body.took(taken);
            return Ok(taken > 0);
        }
        if data > 0 {
            self.ready.extend_from_slice(format!("{data:x}\r\n").as_bytes());
            self.ready.extend_from_slice(&self.input.split_to(data));
            self.ready.extend_from_slice(b"\r\n");
            self.body.took(data);
        } else if self.body.is_done() {
            self.ready.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(false)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, transport: &mut Transport) -> Poll<io::Result<usize>> {
        self.input.reserve(READ.saturating_sub(self.input.len()));
        let read = pin!(transport.read_buf(&mut self.input)).poll(cx);
        if read.is_pending() && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        read
    }

    /// Waits for the client to leave. That it sends no more is no reason to take its answer from it (RFC 9112 §9.6).
    fn poll_departure(&mut self, cx: &mut Context<'_>, transport: &mut Transport) -> Poll<io::Error> {
        loop {
            if let Some(look) = &mut self.half_closed {
                ready!(look.as_mut().poll(cx));
                if transport.is_broken() {
                    return Poll::Ready(io::ErrorKind::ConnectionReset.into());
                }
                look.as_mut().reset(Instant::now() + HALF_CLOSED_CHECK);
                continue;
            }
            if self.input.len() >= READ {
                return Poll::Pending;
            }
            match ready!(self.poll_fill(cx, transport)) {
                Ok(0) => {
                    self.half_closed = Some(Box::pin(tokio::time::sleep(HALF_CLOSED_CHECK)));
                    // No exchange, no request: then nobody waits for an answer.
                    let _ = EXCHANGE.try_with(|exchange| exchange.half_closed());
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
    }
}

fn give(from: &mut BytesMut, buf: &mut ReadBuf<'_>) {
    let n = from.len().min(buf.remaining());
    buf.put_slice(&from.split_to(n));
    if from.is_empty() {
        *from = BytesMut::new();
    }
}
