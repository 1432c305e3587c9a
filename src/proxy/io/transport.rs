//! The bytes of a connection, to a client or an endpoint: TCP or unix, plain or TLS, with bytes that were read ahead.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A stream socket with the bytes that were read from it before its protocol was known.
#[derive(Debug)]
pub(crate) struct Socket {
    kind: SocketKind,
    ahead: Bytes,
    reads_ahead: bool,
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What came on a connection on which nothing should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnreadData {
    /// It is over.
    End,
    /// Something that nobody asked for.
    Bytes,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self { kind: SocketKind::Tcp(stream), ahead: Bytes::new(), reads_ahead: false }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { kind: SocketKind::Unix(stream), ahead: Bytes::new(), reads_ahead: false }
    }
}

impl Socket {
    /// The same socket, which is read in large pieces from now on: rustls asks for 4 KiB at a time. What was not asked
    /// for yet waits here.
    pub(crate) fn reading_ahead(mut self) -> Self {
        self.reads_ahead = true;
        self
    }

    /// Reads a large piece.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Memory is taken only when there is something.
        match &self.kind {
            SocketKind::Tcp(stream) => ready!(stream.poll_read_ready(cx))?,
            SocketKind::Unix(stream) => ready!(stream.poll_read_ready(cx))?,
        }
        let mut ahead = BytesMut::with_capacity(READ_AHEAD);
        match &mut self.kind {
            SocketKind::Tcp(stream) => ready!(pin!(stream.read_buf(&mut ahead)).poll(cx))?,
            SocketKind::Unix(stream) => ready!(pin!(stream.read_buf(&mut ahead)).poll(cx))?,
        };
        self.ahead = ahead.freeze();
        Poll::Ready(Ok(()))
    }

    /// Gives back bytes that were read and belong to the next protocol.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// What can be read, if anything: the end of the stream or a byte, which is lost. The system is asked only if the
    /// runtime knows of something, and the runtime's budget plays no part: with it spent, what is over would look
    /// alive.
    pub(crate) fn unread_data(&self) -> Option<UnreadData> {
        let mut byte = [0];
        let read = match &self.kind {
            SocketKind::Tcp(stream) => stream.try_read(&mut byte),
            SocketKind::Unix(stream) => stream.try_read(&mut byte),
        };
        match read {
            Ok(1..) => Some(UnreadData::Bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(UnreadData::End),
        }
    }

    /// Whether the peer reset the connection. It ended its half before, so the runtime tells of nothing more.
    fn is_broken(&self) -> bool {
        let error = match &self.kind {
            SocketKind::Tcp(stream) => stream.take_error(),
            SocketKind::Unix(stream) => stream.take_error(),
        };
        !matches!(error, Ok(None))
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        match &self.kind {
            SocketKind::Tcp(stream) => stream.as_raw_fd(),
            SocketKind::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// What is read at once where more is read than was asked for: two records of TLS.
const READ_AHEAD: usize = 32 * 1024;

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() && self.reads_ahead && buf.remaining() < READ_AHEAD {
            ready!(self.poll_read_ahead(cx))?;
            if self.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            SocketKind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            SocketKind::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            SocketKind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What the bytes of a connection come through.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The socket itself.
    Plain(Socket),
    /// TLS over the socket.
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    /// Whether the TLS handshake chose HTTP/2.
    pub(crate) fn alpn_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Whether a peer that ended its half is gone for good.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_broken(),
            Self::Tls(stream) => stream.get_ref().0.is_broken(),
        }
    }

    /// What came on a connection on which nothing should. It costs a system call only if the runtime says that there is
    /// something.
    pub(crate) fn unread_data(&mut self) -> Option<UnreadData> {
        let stream = match self {
            Self::Plain(socket) => return socket.unread_data(),
            Self::Tls(stream) => stream,
        };
        // What TLS says for itself, a session ticket for instance, is read on the way and is not meant here.
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        let reads = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut read));
        // Without the runtime's budget: with it spent, what is over would look alive.
        let reads = pin!(tokio::task::unconstrained(reads));
        let came = reads.poll(&mut Context::from_waker(Waker::noop())).is_ready();
        came.then(|| if read.filled().is_empty() { UnreadData::End } else { UnreadData::Bytes })
    }

    /// The name that the client's handshake asked for.
    pub(crate) fn sni(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => match &**stream {
                TlsStream::Server(stream) => stream.get_ref().1.server_name(),
                TlsStream::Client(_) => None,
            },
        }
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        match self {
            Self::Plain(socket) => socket.raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.raw_fd(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Ends a connection on which the client may still send: it is told that no more comes, and what it sends is read for a
/// moment, because closing a socket with unread bytes resets it and takes the answer along (RFC 9112 §9.6).
pub(crate) async fn linger(transport: &mut Transport, limit: Duration) {
    let drain = async {
        transport.shutdown().await.ok()?;
        let mut dropped = BytesMut::with_capacity(DROPPED);
        while transport.read_buf(&mut dropped).await.ok()? > 0 {
            dropped.clear();
        }
        Some(())
    };
    // A client that is gone already is what is waited for.
    let _ = tokio::time::timeout(limit, drain).await;
}

/// What is read at once and dropped.
const DROPPED: usize = 8 * 1024;
