//! A tap on the bytes that an HTTP/2 server sends: it sees GOAWAY the moment it arrives.
//!
//! The h2 crate reports a GOAWAY only when the connection ends; whether a close was announced in time is what drain
//! stories are about.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::harness::socket::Stream;

/// A GOAWAY frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoAway {
    /// Streams above this id are not processed.
    pub(crate) last_stream: u32,
    /// The error code; 0 is a shutdown in good order.
    pub(crate) code: u32,
}

/// The GOAWAY frames that arrived so far.
pub(super) type Seen = Arc<Mutex<Vec<GoAway>>>;

pub(super) struct Tap {
    stream: Stream,
    seen: Seen,
    /// The bytes of the present frame's header, then of what is kept of its payload.
    head: Vec<u8>,
    /// Bytes left of the present frame's payload.
    left: usize,
}

impl Tap {
    pub(super) fn new(stream: Stream) -> (Self, Seen) {
        let seen = Seen::default();
        (Self { stream, seen: seen.clone(), head: Vec::new(), left: 0 }, seen)
    }

    fn see(&mut self, bytes: &[u8]) {
        const HEADER: usize = 9;
        const GOAWAY: u8 = 7;
        for byte in bytes {
            if self.head.len() < HEADER {
                self.head.push(*byte);
                if self.head.len() == HEADER {
                    self.left =
                        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2]);
                }
            } else {
                self.left -= 1;
                if self.head.len() < HEADER + 8 {
                    self.head.push(*byte);
                }
            }
            if self.head.len() >= HEADER && self.left == 0 {
                if self.head[3] == GOAWAY && self.head.len() == HEADER + 8 {
                    let word = |at: usize| u32::from_be_bytes(self.head[at..at + 4].try_into().unwrap());
                    let goaway = GoAway { last_stream: word(HEADER) & 0x7fff_ffff, code: word(HEADER + 4) };
                    self.seen.lock().unwrap().push(goaway);
                }
                self.head.clear();
            }
        }
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.see(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
