//! The accept loop of the control API and the telemetry endpoints, with a bound on everything a client can hold.
//!
//! Invariant: a client that is slow, silent or gone holds a place for a bounded time: [`HEAD`] without a complete head
//! (also between requests), [`REQUEST`] for an answer, [`STALL`] without taking a byte of it, [`LIFE`] and
//! [`LAST_WORDS`] in all.
//!
//! Invariant: a probe gets in whatever others hold. Where all places are taken, whoever has been idle the longest goes,
//! after [`MERCY`]; only requests that are being answered are never cut for another.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
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
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
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

/// From the first chance to send a request's head to its end. Whoever connects here has its request ready; scrapers
/// connect again.
const HEAD: Duration = Duration::from_secs(1);
/// A client that just came, or was just answered, is left alone for this long: its next request may be on its way. So
/// 256 places take in 2,560 silent clients a second, and a probe behind them waits less than its own timeout.
const MERCY: Duration = Duration::from_millis(100);
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

/// Accepts and serves until `shutdown`, at most `places` at the same time, and then until open connections have ended,
/// [`LAST_WORDS`] at most.
pub(super) async fn serve(listener: AdminListener, router: Router, places: usize, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let (stop, stopping) = watch::channel(());
    let mut room = Room { places, connections: JoinSet::new(), seats: Vec::new() };
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((socket, arrival)) => {
                tokio::select! {
                    biased;
                    () = &mut shutdown => break,
                    () = room.make_place() => {}
                }
                let seat = Arc::new(Seat::new());
                let connection = connection(socket, arrival, Arc::clone(&seat), router.clone(), stopping.clone());
                let task = room.connections.spawn(connection);
                room.seats.push((task, seat));
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
    while room.connections.join_next().await.is_some() {}
}

/// The open connections of one listener.
struct Room {
    places: usize,
    connections: JoinSet<()>,
    seats: Vec<(AbortHandle, Arc<Seat>)>,
}

impl Room {
    /// Waits until there is a place: one that is free, or else that of whoever has been idle the longest.
    async fn make_place(&mut self) {
        loop {
            while self.connections.try_join_next().is_some() {}
            if self.connections.len() < self.places {
                self.seats.retain(|(task, _)| !task.is_finished());
                return;
            }
            let idle = self.seats.iter().filter(|(task, _)| !task.is_finished());
            let idle = idle.filter_map(|(task, seat)| Some((seat.idle()?, task))).min_by_key(|(idle, _)| *idle);
            let Some(((_, since), task)) = idle else {
                self.connections.join_next().await;
                continue;
            };
            if since.elapsed() >= MERCY {
                task.abort();
                self.connections.join_next().await;
            } else {
                tokio::select! {
                    _ = self.connections.join_next() => {}
                    () = tokio::time::sleep_until(since + MERCY) => {}
                }
            }
        }
    }
}

/// What one connection does with its place. Its own task writes and the accept loop looks, on the one thread of this
/// runtime: the lock is never contended.
struct Seat(Mutex<Doing>);

#[derive(Clone, Copy)]
struct Doing {
    /// Since when it waits for a request, or an answer is being taken.
    since: Instant,
    answering: bool,
    /// Its client does not take what it was answered.
    stalled: bool,
}

impl Seat {
    fn new() -> Self {
        Self(Mutex::new(Doing { since: Instant::now(), answering: false, stalled: false }))
    }

    fn change(&self, change: impl FnOnce(&mut Doing)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Since when it has been idle, unless its request is being answered; those that say nothing before those that take
    /// their answer slowly.
    fn idle(&self) -> Option<(bool, Instant)> {
        let doing = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!doing.answering).then_some((doing.stalled, doing.since))
    }
}

type Socket = Pin<Box<dyn Duplex>>;

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

async fn accept(listener: &AdminListener) -> io::Result<(Socket, Arrival)> {
    match listener {
        AdminListener::Tcp(listener) => {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let local = socket.local_addr()?.ip().to_canonical();
            Ok((Box::pin(socket), Arrival::Inet(local)))
        }
        AdminListener::Unix(listener) => Ok((Box::pin(listener.accept().await?.0), Arrival::Unix)),
    }
}

async fn connection(
    socket: Socket,
    arrival: Arrival,
    seat: Arc<Seat>,
    router: Router,
    mut stopping: watch::Receiver<()>,
) {
    let asked = Arc::clone(&seat);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(arrival);
        let (seat, router) = (Arc::clone(&asked), router.clone());
        async move {
            seat.change(|doing| doing.answering = true);
            let answer = answer(router, request.map(Body::new)).await;
            seat.change(|doing| *doing = Doing { since: Instant::now(), answering: false, stalled: false });
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(HEAD_FIELDS).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Paced::new(socket, seat)), service));
    tokio::select! {
        // How it ended is the client's affair: a reset, a stall, a head that is none.
        _ = connection.as_mut() => return,
        _ = stopping.changed() => {}
        () = sleep(LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(LAST_WORDS, connection).await);
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
    seat: Arc<Seat>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    const fn new(socket: Socket, seat: Arc<Seat>) -> Self {
        Self { socket, seat, stall: None }
    }

    /// `progress`, or an error once there has been none for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.stall.take().is_some() {
                self.seat.change(|doing| doing.stalled = false);
            }
            return progress;
        }
        let seat = &self.seat;
        let stall = self.stall.get_or_insert_with(|| {
            seat.change(|doing| doing.stalled = true);
            Box::pin(tokio::time::sleep_until(Instant::now() + STALL))
        });
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

#[cfg(test)]
mod tests;
