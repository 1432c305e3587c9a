//! The socket under a client connection: TCP or unix, plain or TLS, with bytes that were read ahead.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A stream socket with the bytes that were read from it before its protocol was known.
#[derive(Debug)]
pub(crate) struct Socket {
    kind: SocketKind,
    ahead: Bytes,
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
        Self { kind: SocketKind::Tcp(stream), ahead: Bytes::new() }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { kind: SocketKind::Unix(stream), ahead: Bytes::new() }
    }
}

impl Socket {
    /// Gives back bytes that were read and belong to the next protocol.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// What can be read, if anything: the end of the stream or a byte, which is lost. The system is asked only if the runtime knows of something,
    /// and the runtime's budget plays no part: with it spent, what is over would look alive.
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

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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

/// What the client's bytes come through.
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

    /// The name that the client's handshake asked for.
    pub(crate) fn sni(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.server_name(),
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
