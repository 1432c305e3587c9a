//! A connection to an HTTP/1 endpoint as the engine sees it: every answer arrives in canonical form, or not at all.
//!
//! The engine reads what is odd in its own way, and keeps connections in a pool of its own. Below it, this stream
//! reads answers by the rules of the express lane ([`response`], [`body`](crate::proxy::codec::body)), hands on one
//! canonical head and chunks framed anew, and gives the connection back to the worker's pool after an answer that
//! ended exactly where it should. TLS is below it too.
//!
//! The engine would read 64 KiB at once, and keeps up to nine such pieces between an endpoint and a client that does not
//! read. So it gets pieces whose sum is bounded while the client takes none. No read is held back for that: nothing waits
//! for bytes that this does not let in.
//!
//! ```text
//! engine ─ one request ─► as it is ─────────────────────────────────► endpoint
//! engine ◄─ head, body ◄─ out ◄─ answer · body ◄─ input ◄──────────── endpoint
//!    └ shut down ─► clean? the pool : closed
//! ```
//!
//! Invariant: one request. Nothing of an answer is handed on before all of it that arrived with its head was found
//! valid, so that an invalid one can still become an error of our own.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::exchange::{EXCHANGE, Side};
use crate::proxy::codec::body::{Body, Malformed, Sender};
use crate::proxy::codec::reframing::{Reframing, gather};
use crate::proxy::codec::response::{self, Head, MAX_INFORMATIONAL, Read, SWITCHING};
use crate::proxy::io::buffer::{Buffer, GATHERED, SIZE};
use crate::proxy::request::response as rewrite;
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::connection::{ConnectionHandle, PooledConnection};
use crate::proxy::upstream::destination::PoolKey;

/// The most that the engine gets at once.
const PIECE: usize = 16 * 1024;

/// What it gets ahead of a client before pieces become small: three pieces keep a fast client busy.
const AHEAD: usize = 3 * PIECE;

/// A piece after that. The engine takes nine more before it stops reading.
const SMALL_PIECE: usize = 2 * 1024;

/// How chunks are handed on.
const CHUNKS: Reframing = Reframing::Chunked(|_| false);

/// A connection that carries one request of the engine.
pub(crate) struct Canonical {
    handle: Arc<ConnectionHandle>,
    /// None once the pool has it again.
    connection: Option<PooledConnection>,
    pools: Arc<Pools>,
    key: PoolKey,
    /// How long it may be idle in the pool.
    idle_timeout: Duration,
    /// Whether the request is `HEAD`; known from its first byte on.
    head_only: Option<bool>,
    input: Buffer,
    out: Buffer,
    stage: Stage,
    informational: u8,
    /// The engine has something of the final head.
    head_begun: bool,
    /// The endpoint ends its connection after this answer, or might.
    closes: bool,
    malformed: bool,
    /// The endpoint takes nothing of what is written.
    blocked: bool,
    /// What of the tunnel's ends was passed on.
    ends: Ends,
}

/// The ends of a tunnel's halves.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    /// The endpoint sends no more.
    seen: bool,
    /// The endpoint knows that the client sends no more.
    passed_on: bool,
}

/// What of the answer comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body(Body),
    /// The endpoint took the upgrade: what it sends is no HTTP any more.
    Tunnel,
}

/// What a head that was handed on leads to.
enum After {
    /// Another head.
    Head,
    Body(Body, bool),
    Tunnel,
}

impl Canonical {
    pub(crate) fn new(connection: PooledConnection, pools: Arc<Pools>, key: PoolKey, idle_timeout: Duration) -> Self {
        Self {
            handle: connection.checkout.handle(),
            connection: Some(connection),
            pools,
            key,
            idle_timeout,
            head_only: None,
            input: Buffer::default(),
            out: Buffer::default(),
            stage: Stage::Head,
            informational: 0,
            head_begun: false,
            closes: false,
            malformed: false,
            blocked: false,
            ends: Ends::default(),
        }
    }

    /// Moves what arrived into `out`, as far as it goes.
    fn advance(&mut self) {
        if !self.malformed && self.heads().and_then(|()| self.chunks()).is_err() {
            self.malformed = true;
            if !self.head_begun {
                self.out.clear();
            }
        }
    }

    fn heads(&mut self) -> Result<(), Malformed> {
        while self.stage == Stage::Head && !self.input.is_empty() {
            let head_only = self.head_only.unwrap_or_default();
            let out = &mut self.out;
            let read = response::read(self.input.data(), |head, length| (write(head, head_only, out), length));
            let (after, length) = match read {
                Read::Partial => return Ok(()),
                Read::Invalid => return Err(Malformed),
                Read::Head(read) => read,
            };
            self.input.consume(length);
            match after {
                After::Head if self.informational == MAX_INFORMATIONAL => return Err(Malformed),
                After::Head => self.informational += 1,
                After::Body(body, closes) => (self.stage, self.closes) = (Stage::Body(body), closes),
                After::Tunnel => self.stage = Stage::Tunnel,
            }
        }
        Ok(())
    }

    /// The engine wants no trailers.
    fn chunks(&mut self) -> Result<(), Malformed> {
        while let Stage::Body(body @ Body::Chunked(_)) = &mut self.stage
            && self.out.len() < GATHERED
            && gather(body, Sender::Endpoint, &mut self.input, &mut self.out, CHUNKS)? > 0
        {}
        Ok(())
    }

    /// Hands on what is in `out`.
    fn hand(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.out.len().min(buf.remaining());
        buf.put_slice(self.out.data().get(..n).unwrap_or_default());
        self.out.consume(n);
        self.out.rest();
        self.head_begun |= self.stage != Stage::Head;
    }

    /// Reads what comes next, as much of it as `buf` takes; nothing at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            self.advance();
            if !self.out.is_empty() {
                self.hand(buf);
                return Poll::Ready(Ok(()));
            }
            if self.malformed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Malformed)));
            }
            match self.stage {
                Stage::Body(Body::Done) => return Poll::Ready(Ok(())),
                Stage::Body(Body::Length(_) | Body::UntilClose) => return self.poll_plain(cx, buf),
                Stage::Tunnel => return self.poll_tunnel(cx, buf),
                Stage::Head | Stage::Body(Body::Chunked(_)) => {}
            }
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
            self.input.grow(SIZE);
            if ready!(self.input.poll_fill(cx, Pin::new(&mut connection.transport)))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads on where nothing is framed anew: what was read ahead, then from the connection, never past the body's end.
    fn poll_plain(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = match self.stage {
            Stage::Body(Body::Length(left)) => usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining()),
            _ => buf.remaining(),
        };
        let ahead = self.input.len().min(room);
        let n = if ahead > 0 {
            buf.put_slice(self.input.data().get(..ahead).unwrap_or_default());
            self.input.consume(ahead);
            self.input.rest();
            ahead
        } else {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(Pin::new(&mut connection.transport).poll_read(cx, &mut part))?;
            let n = part.filled().len();
            buf.advance(n);
            n
        };
        if let Stage::Body(body) = &mut self.stage {
            body.took(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the endpoint through a tunnel. An end goes to the client as such (`connection`), and to the endpoint;
    /// the engine, which would end the whole tunnel, sees it when both sides have ended.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ends.passed_on
            && EXCHANGE.try_with(|exchange| exchange.may_end(Side::Endpoint)).unwrap_or(false)
            && let Some(connection) = &mut self.connection
        {
            // If it cannot be told, reading says why.
            self.ends.passed_on = Pin::new(&mut connection.transport).poll_shutdown(cx).is_ready();
        }
        if self.ends.seen {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(self.poll_plain(cx, buf))?;
        let read = buf.filled().len() - before;
        let over = EXCHANGE.try_with(|exchange| match read {
            0 => exchange.ended_half(Side::Endpoint),
            _ => {
                exchange.entered(Side::Client, read);
                false
            }
        });
        if read > 0 || over.unwrap_or(true) {
            return Poll::Ready(Ok(()));
        }
        self.ends.seen = true;
        // Whoever writes to the client was perhaps polled before.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether another request may use the connection, as far as this one's answer says.
    fn is_clean(&self) -> bool {
        self.stage == Stage::Body(Body::Done) && self.input.is_empty() && !self.closes && !self.malformed
    }
}

/// Writes the canonical form of a head.
fn write(head: &Head<'_, '_>, head_only: bool, out: &mut Buffer) -> After {
    if head.status == SWITCHING {
        rewrite::write_switching(head, out);
        out.push(b"\r\n");
        return After::Tunnel;
    }
    rewrite::write(head, out);
    if head.status < 200 {
        out.push(b"\r\n");
        return After::Head;
    }
    let body = head.body(head_only);
    if matches!(body, Body::Chunked(_)) {
        out.push(b"transfer-encoding: chunked\r\n");
    }
    if let Some(length) = head.found.restated_length() {
        // Writing to a buffer cannot fail.
        let _ = fmt::Write::write_fmt(out, format_args!("content-length: {length}\r\n"));
    }
    // The engine shall not keep the connection.
    out.push(b"connection: close\r\n\r\n");
    After::Body(body, head.closes(body))
}

impl AsyncRead for Canonical {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let most = if this.handle.ahead() < AHEAD { PIECE } else { SMALL_PIECE };
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(most.min(buf.remaining())));
        ready!(this.poll_piece(cx, &mut piece))?;
        let n = piece.filled().len();
        buf.advance(n);
        this.handle.read(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Canonical {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // The engine writes a head in one piece.
        this.head_only.get_or_insert_with(|| buf.starts_with(b"HEAD "));
        let Some(connection) = &mut this.connection else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(&mut connection.transport).poll_write(cx, buf);
        if this.blocked != written.is_pending() {
            this.blocked = written.is_pending();
            // Without an exchange nobody counts.
            let _ = EXCHANGE.try_with(|exchange| exchange.request_waits(this.blocked.then(Instant::now)));
        }
        let written = ready!(written)?;
        if this.stage == Stage::Tunnel {
            // Without an exchange nobody counts.
            let _ = EXCHANGE.try_with(|exchange| exchange.left(written));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.connection {
            Some(connection) => Pin::new(&mut connection.transport).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_clean()
            && let Some(connection) = this.connection.take()
        {
            // What of the request was a body is not known here.
            this.pools.http1.put(this.key, connection, Instant::now() + this.idle_timeout, true);
        }
        match &mut this.connection {
            Some(connection) => Pin::new(&mut connection.transport).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl VirtualSocket for Canonical {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        // Those that matter were set when it was dialled.
        Ok(())
    }
}

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canonical").field("key", &self.key).field("stage", &self.stage).finish_non_exhaustive()
    }
}
