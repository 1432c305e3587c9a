//! Idle connections to endpoints, of one worker: most recently used first.
//!
//! ```text
//! checkout ─► is it alive? asks the runtime, not the system ─► request ─► put back, or drop
//!              ▲ a drain shuts it down (ConnectionHandle), the endpoint closes it, or its time is up: dropped by `sweep`
//! ```
//!
//! Only the worker's own thread comes here, so nothing is locked. How many idle connections an endpoint may have is
//! counted for all workers together, by [`ConnectionHandle`](crate::proxy::upstream::connection::ConnectionHandle).

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::{Checkout, ConnectionHandle};
use crate::proxy::io::transport::{Socket, UnreadData};

/// The bytes of a connection to an endpoint.
pub(crate) enum Line {
    /// Plain.
    Plain(Socket),
    /// As the engine dialled it: TLS.
    Engine(Stream),
}

/// A connection that no request uses.
struct Idle {
    line: Line,
    handle: Arc<ConnectionHandle>,
    until: Instant,
    /// Its last request had a body. An endpoint that knows no bodies answers that too, at once: the system is asked.
    bodied: bool,
}

thread_local! {
    static POOL: RefCell<HashMap<u64, Vec<Idle>, ahash::RandomState>> = RefCell::default();
}

/// An idle connection of the endpoint with this key, the most recently used one.
pub(crate) fn checkout(key: u64, now: Instant) -> Option<(Line, Checkout)> {
    loop {
        let mut idle = POOL.with_borrow_mut(|pool| pool.get_mut(&key).and_then(Vec::pop))?;
        if idle.until > now
            && !idle.has_unread_data()
            && let Some(checkout) = idle.handle.check_out(true)
        {
            return Some((idle.line, checkout));
        }
    }
}

/// Keeps a connection for the next request, at most until then, unless it is not to be used again.
pub(crate) fn put(key: u64, line: Line, checkout: Checkout, until: Instant, bodied: bool) {
    let handle = checkout.release();
    if handle.is_closing() {
        return;
    }
    let idle = Idle { line, handle, until, bodied };
    POOL.with_borrow_mut(|pool| pool.entry(key).or_default().push(idle));
}

/// Drops connections that are closed, are to be closed, or were idle for too long.
pub(crate) fn sweep() {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, idle| {
            idle.retain_mut(|idle| idle.until > now && !idle.handle.is_closing() && !idle.has_unread_data());
            !idle.is_empty()
        });
    });
}

impl Idle {
    /// Whether something arrived that nobody asked for: usually the end of the stream. Anything else could be taken for
    /// the answer to the next request.
    fn has_unread_data(&mut self) -> bool {
        let mut unread = self.line.unread_data();
        if unread.is_none() && self.bodied && self.handle.has_unread() {
            unread = Some(UnreadData::Bytes);
        }
        if unread == Some(UnreadData::Bytes) {
            self.handle.unsolicited();
        }
        unread.is_some()
    }
}

impl Line {
    /// What arrived. It costs a system call only if the runtime says that there is something.
    fn unread_data(&mut self) -> Option<UnreadData> {
        match self {
            Self::Plain(socket) => socket.unread_data(),
            // What TLS says for itself, a session ticket for instance, is read on the way and is not meant here.
            Self::Engine(stream) => {
                let mut byte = [0];
                let mut read = ReadBuf::new(&mut byte);
                let reads = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut read));
                // Without the runtime's budget: with it spent, what is over would look alive.
                let reads = std::pin::pin!(tokio::task::unconstrained(reads));
                let came = reads.poll(&mut Context::from_waker(Waker::noop())).is_ready();
                came.then(|| if read.filled().is_empty() { UnreadData::End } else { UnreadData::Bytes })
            }
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Engine(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Engine(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Engine(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Engine(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Engine(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Engine(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
