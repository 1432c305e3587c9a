//! A stream of HTTP/2 as bytes both ways, for either side: what carries a WebSocket after an extended CONNECT (RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{RecvStream, SendStream};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Dropping it before its end resets the stream.
pub(crate) struct Tunnel {
    send: SendStream<Bytes>,
    body: RecvStream,
    /// What was received and not read yet.
    left: Bytes,
}

impl Tunnel {
    pub(crate) fn new(send: SendStream<Bytes>, body: RecvStream) -> Self {
        Self { send, body, left: Bytes::new() }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            // The end is a read of nothing.
            let Some(piece) = ready!(self.body.poll_data(cx)) else { return Poll::Ready(Ok(())) };
            self.left = piece.map_err(io::Error::other)?;
            let length = self.left.len();
            // Fails only on a stream that is over, whose window nobody needs.
            self.body.flow_control().release_capacity(length).ok();
        }
        let length = self.left.len().min(buf.remaining());
        buf.put_slice(&self.left[..length]);
        self.left.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(buf.len());
        // What is there already is not told again.
        while self.send.capacity() == 0 && !buf.is_empty() {
            let Some(granted) = ready!(self.send.poll_capacity(cx)) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            granted.map_err(io::Error::other)?;
        }
        let length = self.send.capacity().min(buf.len());
        self.send.send_data(Bytes::copy_from_slice(&buf[..length]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
