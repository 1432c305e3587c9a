//! An endpoint's HTTP/1 connection as the engine reads it: in pieces whose sum is bounded while the client takes none.
//!
//! The engine reads up to 64 KiB at once and keeps up to nine such pieces between an endpoint and a client that does
//! not read; a hundred streams of one client held 60 MB by it. Its reads cannot be made smaller by a setting, and a
//! stream of its own virtual kind has no descriptor, by which its pool tells connections apart. So the engine's
//! connector for protocols of others hands it this one.
//!
//! Invariant: no read is held back, so whatever the framing is, nothing waits for bytes that this does not let in.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::connectors::http::custom;
use pingora_core::protocols::l4;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use pingora_core::upstreams::peer::Peer;
use pingora_error::{ErrorType, OkOrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::upstream::{self, Link};

/// The most that is read at once.
const PIECE: usize = 16 * 1024;

/// What is read ahead of a client before pieces become small: three pieces keep a fast client busy.
const AHEAD: usize = 3 * PIECE;

/// A piece after that. The engine takes nine more before it stops reading.
const SMALL_PIECE: usize = 2 * 1024;

/// The engine's connector to HTTP/1 endpoints without TLS. Over TLS a record is a piece, and has 16 KiB at most.
pub(crate) struct Connector;

/// What tells the engine to ask [`Connector`]. It is never sent: there is no TLS.
pub(super) fn alpn() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"weir".to_vec()))
}

#[async_trait]
impl custom::Connector for Connector {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(custom::Connection<()>, bool)> {
        let dialler = peer.get_peer_options().and_then(|options| options.custom_l4.as_ref());
        let dialler = dialler.or_err(ErrorType::InternalError, "the endpoint has no dialler")?;
        let stream = dialler.connect(peer.address()).await?;
        Ok((custom::Connection::Stream(Box::new(Metered::new(stream))), false))
    }

    /// Connections are the engine's own HTTP/1 ones, and in its own pool.
    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        _session: (),
        _peer: &P,
        _idle_timeout: Option<std::time::Duration>,
    ) {
    }
}

/// A connection to an endpoint that is read in pieces.
struct Metered {
    stream: l4::stream::Stream,
    link: Option<Arc<Link>>,
}

impl Metered {
    fn new(stream: l4::stream::Stream) -> Self {
        let link = upstream::link_of(stream.get_proxy_digest().as_deref()).cloned();
        Self { stream, link }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let ahead = this.link.as_ref().map_or(0, |link| link.ahead());
        let most = if ahead < AHEAD { PIECE } else { SMALL_PIECE };
        if buf.remaining() <= most {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.read(buf.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
        let n = piece.filled().len();
        buf.advance(n);
        this.read(n);
        Poll::Ready(Ok(()))
    }
}

impl Metered {
    fn read(&self, bytes: usize) {
        if let Some(link) = &self.link {
            link.read(bytes);
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        self.stream.shutdown().await;
    }
}

impl UniqueID for Metered {
    fn id(&self) -> i32 {
        self.stream.id()
    }
}

impl Ssl for Metered {}

impl Peek for Metered {}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("stream", &self.stream).finish_non_exhaustive()
    }
}
