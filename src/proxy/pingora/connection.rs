//! One client connection as the engine sees it: bytes, in the order and at the time at which it may have them.
//!
//! pingora limits each read but not a whole header, and peeks for the HTTP/2 preface without any limit.
//! [`Connection`] repairs that below the engine:
//!
//! * of an HTTP/1 client the engine reads one request at a time, which was looked at before (`intake`, `inbound`);
//! * the HTTP/2 preface and header blocks must be complete within `head_timeout` of their first byte, the preface
//!   of the connection's beginning;
//! * an HTTP/2 client's frames are tidied, so that sound ones end no connection (see [`crate::proxy::codec::h2::frames`]), and a
//!   malformed head is a request to refuse (see [`crate::proxy::codec::h2::requests`]);
//! * writes are gathered, so that a header and a small body leave in one system call;
//! * [`Handle`] tells others whether work is in flight on it, so that it is never closed under a request.
//!
//! Invariant: no timer exists while a head arrives in one piece or a request is in flight.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::exchange::{EXCHANGE, Side};
use super::handle::Handle;
use super::inbound;
use crate::proxy::codec::h2::frames::{Bucket, FAULTS, INTERNAL_ERROR, Inbound, Outbound};
use crate::proxy::codec::h2::requests::Heads;
use crate::proxy::io::transport::{Transport, linger};
use crate::proxy::request::end::BODY_DRAIN;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the first byte of a head to its end.
    pub(crate) head: Duration,
    /// Without a request.
    pub(crate) keepalive: Duration,
    /// Since when the connection's first head is waited for, if it is the first: it has its time from there.
    pub(crate) began: Option<Instant>,
    /// Of a request's header list over HTTP/2.
    pub(crate) header_bytes: u32,
}

/// A client connection, ready for pingora's HTTP/1 and HTTP/2 sessions.
pub(crate) struct Connection {
    /// None once another lane has it.
    pub(crate) transport: Option<Transport>,
    pub(crate) handle: Arc<Handle>,
    pub(crate) limits: Limits,
    /// Bytes read ahead (a peeked preface), served before the transport's.
    pub(crate) ahead: Bytes,
    /// The HTTP/1 request that the engine reads, and what follows it.
    pub(crate) inbound: Option<inbound::Inbound>,
    /// Bytes written by the engine and not yet sent.
    pending: BytesMut,
    /// Since when the connection waits for a head or for the rest of one.
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    h2: Option<Frames>,
    /// The client knows that no more comes through its tunnel.
    told_end: bool,
}

/// The frames of an HTTP/2 connection.
struct Frames {
    inbound: Inbound,
    heads: Heads,
    outbound: Outbound,
    faults: Bucket,
}

impl Frames {
    fn new(header_bytes: u32) -> Self {
        Self {
            inbound: Inbound::default(),
            heads: Heads::new(header_bytes),
            outbound: Outbound::default(),
            faults: Bucket::full(FAULTS),
        }
    }
}

/// Responses up to this size leave in one write; the buffer is freed when it is empty.
const GATHER_BYTES: usize = 16 * 1024;

/// The bytes with which an HTTP/2 connection with prior knowledge begins (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Connection {
    /// A connection of which `ahead` was read already.
    pub(crate) fn new(transport: Transport, ahead: Bytes, handle: Arc<Handle>, limits: Limits) -> Self {
        if let Some(sni) = transport.sni() {
            handle.sni.get_or_init(|| sni.into());
        }
        let h2 = transport.alpn_h2().then(|| Frames::new(limits.header_bytes));
        // A client that chose HTTP/2 in its handshake owes the preface, and the engine waits for it without limit.
        handle.head_begun.store(h2.is_some() || !ahead.is_empty(), Ordering::Release);
        Self {
            transport: Some(transport),
            handle,
            waiting_since: limits.began,
            limits,
            ahead,
            inbound: None,
            pending: BytesMut::new(),
            timer: None,
            h2,
            told_end: false,
        }
    }

    /// The transport, and what was read from it ahead; none if something was not sent or read yet.
    pub(crate) fn into_parts(mut self) -> Option<(Transport, Bytes)> {
        if !self.pending.is_empty() || self.h2.is_some() {
            return None;
        }
        let ahead = match self.inbound.take() {
            Some(inbound) if !inbound.is_complete() => return None,
            Some(inbound) => inbound.input.freeze(),
            None => std::mem::take(&mut self.ahead),
        };
        Some((self.transport.take()?, ahead))
    }

    fn transport(&mut self) -> io::Result<Pin<&mut Transport>> {
        self.transport.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Notes what arrived: the head deadline runs from the first byte of a head.
    fn arrived(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let in_head = match &mut self.h2 {
            Some(frames) => frames.inbound.in_head(),
            None => self.handle.requests.load(Ordering::Acquire) == 0,
        };
        let was = self.handle.head_begun.swap(in_head, Ordering::AcqRel);
        if in_head != was || !in_head {
            self.waiting_since = None;
            self.timer = None;
        }
    }

    /// Called when the transport has nothing to read: waits at most as long as the client may take over a head. Those
    /// of HTTP/1 were read before (`intake`); idle HTTP/2 connections are told to leave by their listener.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.handle.head_begun.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(since + self.limits.head)));
        ready!(timer.as_mut().poll(cx));
        self.handle.head_timed_out();
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to send a request head"))
    }

    /// Tells the client that an endpoint sends no more through a tunnel, once it has all that was sent.
    fn poll_pass_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let due = !self.told_end && EXCHANGE.try_with(|exchange| exchange.may_end(Side::Client)).unwrap_or(false);
        if due && let Poll::Ready(shut) = Pin::new(&mut *self).poll_shutdown(cx) {
            self.told_end = true;
            return shut;
        }
        Ok(())
    }

    fn poll_send_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let Some(transport) = &mut self.transport else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let sent = ready!(Pin::new(transport).poll_write(cx, &self.pending))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(sent);
        }
        if self.pending.capacity() > 0 {
            self.pending = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// What was written of a response that breaks off is the client's: it goes as far as it can without waiting.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let send = std::future::poll_fn(|cx| {
            ready!(self.poll_send_pending(cx))?;
            // TLS may have it still.
            self.transport()?.poll_flush(cx)
        });
        // Without the runtime's budget: with it spent, a socket that takes everything would look full.
        let send = std::pin::pin!(tokio::task::unconstrained(send));
        let _ = send.poll(&mut Context::from_waker(std::task::Waker::noop()));
    }
}

impl Connection {
    /// Reads what is left of a client's frames.
    fn poll_read_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() >= ROOM {
            return self.poll_pass_frames(cx, buf);
        }
        let mut room = [0; ROOM];
        let mut read = ReadBuf::new(&mut room);
        ready!(self.poll_pass_frames(cx, &mut read))?;
        let mut read = BytesMut::from(read.filled());
        buf.put_slice(&read.split_to(read.len().min(buf.remaining())));
        read.extend_from_slice(&self.ahead);
        self.ahead = read.freeze();
        Poll::Ready(Ok(()))
    }

    fn poll_pass_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            let (Some(frames), Some(transport)) = (&mut self.h2, &mut self.transport) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            buf.put_slice(frames.inbound.held());
            let held = buf.filled().len();
            let read = Pin::new(transport).poll_read(cx, buf);
            if !matches!(read, Poll::Ready(Ok(()))) || buf.filled().len() == held {
                buf.set_filled(before);
                return if read.is_pending() { self.poll_patience(cx).map(Err) } else { read };
            }
            let arrived = buf.filled_mut().get_mut(before..).unwrap_or_default();
            let Ok(kept) = frames.inbound.pass(arrived, Instant::now()) else {
                return Poll::Ready(Err(flooded()));
            };
            let other = frames.heads.pass(arrived.get(..kept).unwrap_or_default());
            self.arrived(buf.filled().get(before..).unwrap_or_default());
            buf.set_filled(before + kept);
            let mut kept = kept;
            if let Some(other) = other {
                buf.set_filled(before);
                kept = other.len().min(buf.remaining());
                let mut other = Bytes::from(other);
                buf.put_slice(&other.split_to(kept));
                self.ahead = other;
            }
            // Without a byte this would be the end of the stream.
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes frames, and says of a stream that was dropped that it failed.
    fn poll_write_frames(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let (Some(Frames { outbound, faults, .. }), Some(transport)) = (&mut self.h2, &mut self.transport) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let mut ahead = *outbound;
        let mut clean = 0;
        let mut cancel = None;
        for buf in bufs {
            cancel = ahead.cancel(buf);
            if cancel.is_some() {
                break;
            }
            ahead.wrote(buf);
            clean += 1;
        }
        let transport = Pin::new(transport);
        let unchanged = bufs.get(..clean).unwrap_or_default();
        let first = bufs.get(clean).and_then(|buf| buf.get(..cancel?)).unwrap_or_default();
        let written = if unchanged.iter().any(|buf| !buf.is_empty()) {
            transport.poll_write_vectored(cx, unchanged)
        } else if !first.is_empty() {
            transport.poll_write(cx, first)
        } else if cancel.is_some() {
            transport.poll_write(cx, &[INTERNAL_ERROR])
        } else {
            Poll::Ready(Ok(0))
        };
        self.handle.blocked.store(written.is_pending(), Ordering::Relaxed);
        let written = ready!(written)?;
        let mut left = written;
        for buf in bufs {
            let n = left.min(buf.len());
            outbound.wrote(buf.get(..n).unwrap_or_default());
            left -= n;
        }
        if (0..outbound.take_faults()).any(|_| !faults.take(Instant::now())) {
            return Poll::Ready(Err(flooded()));
        }
        if outbound.take_moved() {
            self.handle.moved();
        }
        Poll::Ready(Ok(written))
    }
}

/// Less room than this is not read into: the beginning of a frame's head must fit, and more.
const ROOM: usize = 512;

fn flooded() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the client floods: frames that ask for nothing, or faulty streams")
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.handle.is_switched() {
            this.poll_pass_end(cx)?;
        }
        if let (Some(inbound), Some(transport)) = (&mut this.inbound, &mut this.transport) {
            return inbound.poll_read(cx, transport, &this.handle, buf);
        }
        if !this.ahead.is_empty() {
            let n = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        if this.h2.is_some() {
            return this.poll_read_frames(cx, buf);
        }
        let before = buf.filled().len();
        match this.transport()?.poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let bytes = buf.filled().get(before..).unwrap_or_default();
                this.arrived(bytes);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_patience(cx).map(Err),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.h2.is_some() {
            // HTTP/2 gathers its frames itself.
            return this.poll_write_frames(cx, &[IoSlice::new(buf)]);
        }
        this.handle.written(buf);
        if this.pending.len() + buf.len() > GATHER_BYTES {
            ready!(this.poll_send_pending(cx))?;
            if buf.len() > GATHER_BYTES {
                return this.transport()?.poll_write(cx, buf);
            }
        }
        this.pending.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.h2.is_some() {
            return self.poll_write_frames(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.h2.is_some() && self.transport.as_ref().is_some_and(Transport::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_pending(cx))?;
        self.transport()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_pending(cx))?;
        self.transport()?.poll_shutdown(cx)
    }
}

#[async_trait]
impl Peek for Connection {
    /// Reads until the bytes are the HTTP/2 preface or cannot become it, within the head deadline. Answers
    /// with the preface or with zeros, so that a short HTTP/1 request is never waited upon.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        buf.fill(0);
        if self.handle.tls || buf.len() != PREFACE.len() {
            return Ok(true);
        }
        let mut read = BytesMut::from(std::mem::take(&mut self.ahead));
        while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
            if self.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if read.starts_with(PREFACE) {
            buf.copy_from_slice(PREFACE);
            let mut frames = Frames::new(self.limits.header_bytes);
            let kept = frames.inbound.pass(&mut read, Instant::now()).map_err(|_| flooded())?;
            read.truncate(kept);
            if let Some(other) = frames.heads.pass(&read) {
                read = BytesMut::from(&*other);
            }
            self.handle.head_begun.store(frames.inbound.in_head(), Ordering::Release);
            self.h2 = Some(frames);
        }
        self.ahead = read.freeze();
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may be gone already, and nobody is left to be told.
        if self.inbound.as_ref().is_some_and(inbound::Inbound::is_owed_more) {
            let _ = AsyncWriteExt::flush(self).await;
            if let Some(transport) = &mut self.transport {
                linger(transport, BODY_DRAIN).await;
            }
        } else {
            let _ = AsyncWriteExt::shutdown(self).await;
        }
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.handle.tls.then(|| Arc::new(SslDigest::new("", "", None, None, Vec::new())))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.transport.as_ref().is_some_and(Transport::alpn_h2).then_some(ALPN::H2)
    }
}

impl UniqueID for Connection {
    fn id(&self) -> i32 {
        self.transport.as_ref().map_or(-1, Transport::raw_fd)
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("handle", &self.handle).finish_non_exhaustive()
    }
}
