//! Accepting, TLS, and telling HTTP/2 from HTTP/1 by its first bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{Counted, Shared, h1, h2};
use crate::harness::socket::Stream;
use crate::harness::wire::Inbound;

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts until `stopping`, then closes the listener and waits for the connections. Dropping it ends all of them.
pub(super) async fn accept(
    shared: Arc<Shared>,
    listener: Listener,
    tls: Option<Arc<ServerConfig>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = next(&listener) => accepted.unwrap(),
            _ = connections.join_next(), if !connections.is_empty() => continue,
            () = stop(&mut stopping) => break,
        };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let (shared, tls, stopping) = (shared.clone(), tls.clone(), stopping.clone());
        connections.spawn(async move {
            let _counted = Counted::new(&shared.connections);
            // What a connection dies of is the client's to tell; the journal shows which requests broke.
            serve(&shared, stream, tls, number, stopping).await.ok();
        });
    }
    drop(listener);
    connections.join_all().await;
}

/// Returns when the origin shall stop.
pub(super) async fn stop(stopping: &mut watch::Receiver<bool>) {
    // The other side is gone only if the origin is, and then this is, too.
    stopping.wait_for(|stop| *stop).await.ok();
}

async fn next(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    stream: Stream,
    tls: Option<Arc<ServerConfig>>,
    number: usize,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut stream = match (stream, tls) {
        (Stream::Tcp(tcp), Some(config)) => {
            let accepted = TlsAcceptor::from(config).accept(tcp).await?;
            Stream::Tls(Box::new(TlsStream::Server(accepted)))
        }
        (stream, _) => stream,
    };
    let mut inbound = Inbound::default();
    if begins_with_preface(&mut stream, &mut inbound, stopping.clone()).await? {
        h2::serve(shared, Replayed { first: inbound.buffer, stream }, number, stopping).await
    } else {
        h1::serve(shared, h1::Connection::new(stream, inbound, number), stopping).await
    }
}

/// Whether the connection begins with HTTP/2's preface; the bytes read stay in `inbound`.
async fn begins_with_preface(
    stream: &mut Stream,
    inbound: &mut Inbound,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    loop {
        let seen = inbound.buffer.len().min(PREFACE.len());
        if inbound.buffer[..seen] != PREFACE[..seen] {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        tokio::select! {
            read = inbound.fill(stream) => if read? == 0 { return Ok(false) },
            () = stop(&mut stopping) => return Ok(false),
        }
    }
}

/// A stream whose first bytes were read already.
pub(super) struct Replayed {
    first: BytesMut,
    stream: Stream,
}

impl AsyncRead for Replayed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let take = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..take]);
        self.first.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
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
