//! The accept loop of the control API and the telemetry endpoints, with a bound on everything a client can hold.
//!
//! Invariant: a client that is slow, silent or gone holds one of [`CONNECTIONS`] places for a bounded time:
//! [`HEAD`] without a complete head (also between requests), [`REQUEST`] for an answer, [`STALL`] without
//! taking a byte of it, [`LIFE`] and [`LAST_WORDS`] in all. Who waits for a place waits in the kernel's queue.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::ServiceExt;

use super::access::Arrival;
use super::wire::Problem;

/// A bound socket of the control API or the telemetry endpoints.
#[derive(Debug)]
pub enum AdminListener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix stream socket.
    Unix(UnixListener),
}

/// Connections at the same time. People and scrapers are few.
const CONNECTIONS: usize = 256;
/// From the first chance to send a request's head to its end.
const HEAD: Duration = Duration::from_secs(10);
/// The size of a request's head: longer than any token, host and path that are needed.
const HEAD_BYTES: usize = 16 * 1024;
/// Fields of a request's head.
const HEAD_FIELDS: usize = 64;
/// From a request's head to its answer.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a client may take nothing of an answer.
const STALL: Duration = Duration::from_secs(10);
/// How long one connection is used, so that a client that takes an answer byte by byte cannot stay for ever.
const LIFE: Duration = Duration::from_secs(300);
/// From the end of a connection's use to its close: for the answer that is being sent.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// After a failed accept: out of file descriptors, most likely, and trying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and serves until `shutdown`, and then until open connections have ended, [`LAST_WORDS`] at most.
pub(super) async fn serve(listener: AdminListener, router: Router, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((socket, arrival, place)) => {
                connections.spawn(connection(socket, arrival, place, router.clone(), stopping.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin or telemetry listener could not be accepted");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
}

type Socket = Pin<Box<dyn Duplex>>;

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

async fn accept(
    listener: &AdminListener,
    places: &Arc<Semaphore>,
) -> io::Result<(Socket, Arrival, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, arrival): (Socket, Arrival) = match listener {
        AdminListener::Tcp(listener) => {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let local = socket.local_addr()?.ip().to_canonical();
            (Box::pin(socket), Arrival::Inet(local))
        }
        AdminListener::Unix(listener) => (Box::pin(listener.accept().await?.0), Arrival::Unix),
    };
    Ok((socket, arrival, place))
}

async fn connection(
    socket: Socket,
    arrival: Arrival,
    place: OwnedSemaphorePermit,
    router: Router,
    mut stopping: watch::Receiver<()>,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(arrival);
        answer(router.clone(), request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(HEAD_FIELDS).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Paced::new(socket)), service));
    tokio::select! {
        // How it ended is the client's affair: a reset, a stall, a head that is none.
        _ = connection.as_mut() => return,
        _ = stopping.changed() => {}
        () = sleep(LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(LAST_WORDS, connection).await);
    drop(place);
}

async fn answer(router: Router, request: Request) -> Result<Response, Infallible> {
    match timeout(REQUEST, router.oneshot(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = "no answer within 30 s; a change may still take effect: look at the status";
            Ok(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response())
        }
    }
}

/// A socket whose writer gives up when the client takes nothing for [`STALL`]. hyper bounds the time of
/// reading a head, but not of writing an answer.
struct Paced {
    socket: Socket,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    const fn new(socket: Socket) -> Self {
        Self { socket, stall: None }
    }

    /// `progress`, or an error once there has been none for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stall = None;
            return progress;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = self.socket.as_mut().poll_write(cx, bytes);
        self.watch(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = self.socket.as_mut().poll_flush(cx);
        self.watch(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = self.socket.as_mut().poll_shutdown(cx);
        self.watch(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = self.socket.as_mut().poll_write_vectored(cx, buffers);
        self.watch(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
