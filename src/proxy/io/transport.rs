//! The bytes of a connection, to a client or an endpoint: TCP or unix, plain or TLS, with bytes that were read ahead.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::buffer::Buffer;

/// A stream socket with the bytes that were read from it before its protocol was known.
#[derive(Debug)]
pub(crate) struct Socket {
    kind: SocketKind,
    ahead: Bytes,
    reads_ahead: bool,
    /// Bytes written so far, as long as there are few.
    written: u16,
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
        Self { kind: SocketKind::Tcp(stream), ahead: Bytes::new(), reads_ahead: false, written: 0 }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { kind: SocketKind::Unix(stream), ahead: Bytes::new(), reads_ahead: false, written: 0 }
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

/// The most that is written at once: 44 segments of 1,448 bytes, as they are over Ethernet. The kernel makes one packet
/// of so much (`sk_gso_max_size`), and of 64 KiB two, each with its own way through the system: on loopback a relayed
/// MiB took 300 µs in pieces of 57 to 63 KiB, 465 µs in pieces of 64 KiB, 350 µs in pieces of 32 KiB.
pub(crate) const MAX_WRITE: usize = 44 * 1_448;

/// Pieces that are written at once, at most, where they are too much in all.
const MAX_PIECES: usize = 8;

/// The beginning of these pieces, `most` bytes in all, and how many pieces that is.
fn beginning<'a>(pieces: &'a [IoSlice<'_>], most: usize) -> ([IoSlice<'a>; MAX_PIECES], usize) {
    let mut beginning = [IoSlice::new(&[]); MAX_PIECES];
    let (mut count, mut room) = (0, most);
    for (place, piece) in beginning.iter_mut().zip(pieces) {
        let piece = piece.get(..room).unwrap_or(piece);
        *place = IoSlice::new(piece);
        room -= piece.len();
        count += 1;
        if room == 0 {
            break;
        }
    }
    (beginning, count)
}

/// Whether these pieces are more than `most` bytes in all.
fn exceed(pieces: &[IoSlice<'_>], most: usize) -> bool {
    pieces.iter().map(|piece| piece.len()).sum::<usize>() > most
}

impl Socket {
    fn wrote(&mut self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = result {
            self.written = self.written.saturating_add(u16::try_from(*n).unwrap_or(u16::MAX));
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let buf = buf.get(..MAX_WRITE).unwrap_or(buf);
        let result = match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if exceed(bufs, MAX_WRITE) {
            let (pieces, count) = beginning(bufs, MAX_WRITE);
            return self.poll_write_vectored(cx, pieces.get(..count).unwrap_or_default());
        }
        let result = match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.wrote(&result);
        result
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

/// How much is given to TLS at once. A peer can use nothing of a record before all of it is there: the first ones are
/// small, so that what arrives of a new connection's first ten segments (RFC 6928) is of use; later ones are as large as
/// TLS has them.
fn max_record(stream: &TlsStream<Socket>) -> usize {
    if stream.get_ref().0.written < FIRST_BYTES { SMALL_RECORD } else { usize::MAX }
}

/// A record at the beginning of a connection: three of them and a handshake fit into ten segments.
const SMALL_RECORD: usize = 4 * 1024;
/// What goes in small records, what a handshake takes included.
const FIRST_BYTES: u16 = 20 * 1024;

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
            Self::Tls(stream) => {
                let buf = buf.get(..max_record(stream)).unwrap_or(buf);
                Pin::new(stream).poll_write(cx, buf)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => {
                let most = max_record(stream);
                let (pieces, count) = beginning(bufs, most);
                let bufs = if exceed(bufs, most) { pieces.get(..count).unwrap_or_default() } else { bufs };
                Pin::new(stream).poll_write_vectored(cx, bufs)
            }
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
    let mut dropped = Buffer::default();
    let drain = poll_fn(|cx| {
        // A client that is gone already is what is waited for.
        let _ = Pin::new(&mut *transport).poll_shutdown(cx);
        loop {
            match ready!(dropped.poll_fill(cx, Pin::new(&mut *transport))) {
                Ok(n) if n > 0 => dropped.clear(),
                _ => return Poll::Ready(()),
            }
        }
    });
    // Who still sends when the time is over is not waited for.
    let _ = tokio::time::timeout(limit, drain).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::AsyncWriteExt;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls::provider;

    #[test]
    fn the_beginning_of_pieces_has_as_much_as_was_said() {
        let (one, two) = ([1_u8; 10], [2_u8; 20]);
        let pieces = [IoSlice::new(&one), IoSlice::new(&[]), IoSlice::new(&two)];
        for (most, lengths) in [(5, &[5][..]), (10, &[10]), (11, &[10, 0, 1]), (30, &[10, 0, 20]), (31, &[10, 0, 20])] {
            let (found, count) = beginning(&pieces, most);
            let found: Vec<usize> = found[..count].iter().map(|piece| piece.len()).collect();
            assert_eq!(found, lengths, "{most}");
            assert_eq!(exceed(&pieces, most), most < 30);
        }
        let many = [IoSlice::new(&one); 20];
        assert_eq!(beginning(&many, 1_000).1, MAX_PIECES);
    }

    #[tokio::test]
    async fn no_write_is_larger_than_the_kernel_takes_well() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut socket = Socket::from(near);
        let large = vec![0; 1 << 20];
        assert_eq!(socket.write(&large[..MAX_WRITE - 1]).await.unwrap(), MAX_WRITE - 1);
        for pieces in [&[large.as_slice()][..], &[&large[..100], &large[..MAX_WRITE]]] {
            let (near, _far) = UnixStream::pair().unwrap();
            let mut socket = Socket::from(near);
            let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            assert_eq!(socket.write_vectored(&pieces).await.unwrap(), MAX_WRITE);
        }
    }

    /// The lengths of records of application data that come on a socket, until so much has come.
    async fn records(mut far: UnixStream, until: usize, mut client: rustls::ClientConnection) -> Vec<usize> {
        let (mut lengths, mut total, mut waiting) = (Vec::new(), 0, Vec::new());
        while total < until {
            let mut bytes = [0; 4096];
            let n = far.read(&mut bytes).await.unwrap();
            assert!(n > 0);
            waiting.extend_from_slice(&bytes[..n]);
            while let Some((head, _)) = waiting.split_at_checked(5)
                && let end = 5 + usize::from(u16::from_be_bytes([head[3], head[4]]))
                && waiting.len() >= end
            {
                let record: Vec<u8> = waiting.drain(..end).collect();
                if client.is_handshaking() {
                    client.read_tls(&mut record.as_slice()).unwrap();
                    client.process_new_packets().unwrap();
                    let mut out = Vec::new();
                    while client.wants_write() {
                        client.write_tls(&mut out).unwrap();
                    }
                    far.write_all(&out).await.unwrap();
                } else {
                    // Beside the data there is the tag, and the type of the record (RFC 8446 §5.2).
                    let length = end - 5 - 17;
                    if length >= 1_000 {
                        total += length;
                        lengths.push(length);
                    }
                }
            }
        }
        lengths
    }

    #[tokio::test]
    async fn records_are_small_at_first_and_then_of_full_size() {
        let made = rcgen::generate_simple_self_signed(["weir.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        for vectored in [false, true] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let name = ServerName::try_from("weir.test").unwrap();
            let mut client = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            far.write_all(&hello).await.unwrap();
            let reads = tokio::spawn(records(far, 200_000, client));
            let stream = TlsAcceptor::from(Arc::new(server.clone())).accept(Socket::from(near)).await.unwrap();
            let mut transport = Transport::Tls(Box::new(stream.into()));
            let body = vec![7; 200_000];
            let mut left = body.as_slice();
            while !left.is_empty() {
                let piece = &left[..left.len().min(48 * 1024)];
                let pieces = [
                    IoSlice::new(&piece[..1_000.min(piece.len())]),
                    IoSlice::new(piece.get(1_000..).unwrap_or_default()),
                ];
                let n = if vectored { transport.write_vectored(&pieces).await } else { transport.write(piece).await };
                left = &left[n.unwrap()..];
            }
            transport.flush().await.unwrap();
            let records = reads.await.unwrap();
            let small = records.iter().take_while(|length| **length <= SMALL_RECORD).count();
            assert!((3..=5).contains(&small), "{records:?}");
            assert!(records[small..].iter().filter(|length| **length == 16 * 1024).count() >= 9, "{records:?}");
        }
    }
}
