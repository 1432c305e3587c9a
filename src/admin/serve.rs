//! The accept loop of the control API and the telemetry endpoints, with a bound on everything a client can hold.
//!
//! Invariant: a client that is slow, silent or gone holds a place for a bounded time: [`HEADER_TIMEOUT`] without a
//! complete head (also between requests), [`REQUEST_TIMEOUT`] for an answer, [`WRITE_TIMEOUT`] without taking a byte
//! of it, [`MAX_CONNECTION_AGE`] and [`CLOSE_TIMEOUT`] in all.
//!
//! Invariant: a probe gets in whatever others hold. Where all places are taken, whoever has been idle the longest goes,
//! after [`IDLE_GRACE`]; only requests that are being answered are never cut for another.

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
pub(crate) enum AdminListener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix stream socket.
    Unix(UnixListener),
}

/// From the first chance to send a request's head to its end. Whoever connects here has its request ready; scrapers
/// connect again.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// A client that just came, or was just answered, is left alone for this long: its next request may be on its way. So
/// 256 places take in 2,560 silent clients a second, and a probe behind them waits less than its own timeout.
const IDLE_GRACE: Duration = Duration::from_millis(100);
/// The size of a request's head: longer than any token, host and path that are needed.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Fields of a request's head.
const MAX_HEADER_FIELDS: usize = 64;
/// From a request's head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection is used, so that a client that takes an answer byte by byte cannot stay for ever.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);
/// From the end of a connection's use to its close: for the answer that is being sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept: out of file descriptors, most likely, and trying at once would only burn a core.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts and serves until `shutdown`, at most `max_connections` at the same time, and then until open connections
/// have ended, [`CLOSE_TIMEOUT`] at most.
pub(super) async fn serve(
    listener: AdminListener,
    router: Router,
    max_connections: usize,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let (stop, stopping) = watch::channel(());
    let mut connections = Connections { max: max_connections, tasks: JoinSet::new(), slots: Vec::new() };
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
                    () = connections.make_room() => {}
                }
                let slot = Arc::new(ConnectionSlot::new());
                let connection = connection(socket, arrival, Arc::clone(&slot), router.clone(), stopping.clone());
                let task = connections.tasks.spawn(connection);
                connections.slots.push((task, slot));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin or telemetry listener could not be accepted");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = sleep(ACCEPT_RETRY_DELAY) => {}
                }
            }
        }
    }
    drop(listener);
    drop(stop);
    while connections.tasks.join_next().await.is_some() {}
}

/// The open connections of one listener.
struct Connections {
    max: usize,
    tasks: JoinSet<()>,
    slots: Vec<(AbortHandle, Arc<ConnectionSlot>)>,
}

impl Connections {
    /// Waits until there is a place: one that is free, or else that of whoever has been idle the longest.
    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            if self.tasks.len() < self.max {
                self.slots.retain(|(task, _)| !task.is_finished());
                return;
            }
            let idle = self.slots.iter().filter(|(task, _)| !task.is_finished());
            let idle = idle.filter_map(|(task, slot)| Some((slot.idle()?, task))).min_by_key(|(idle, _)| *idle);
            let Some(((_, since), task)) = idle else {
                self.tasks.join_next().await;
                continue;
            };
            if since.elapsed() >= IDLE_GRACE {
                task.abort();
                self.tasks.join_next().await;
            } else {
                tokio::select! {
                    _ = self.tasks.join_next() => {}
                    () = tokio::time::sleep_until(since + IDLE_GRACE) => {}
                }
            }
        }
    }
}

/// What one connection does with its place. Its own task writes and the accept loop looks, on the one thread of this
/// runtime: the lock is never contended.
struct ConnectionSlot(Mutex<Activity>);

#[derive(Clone, Copy)]
struct Activity {
    /// Since when it waits for a request, or an answer is being taken.
    since: Instant,
    answering: bool,
    /// Its client does not take what it was answered.
    stalled: bool,
}

impl ConnectionSlot {
    fn new() -> Self {
        Self(Mutex::new(Activity { since: Instant::now(), answering: false, stalled: false }))
    }

    fn change(&self, change: impl FnOnce(&mut Activity)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Since when it has been idle, unless its request is being answered; those that say nothing before those that take
    /// their answer slowly.
    fn idle(&self) -> Option<(bool, Instant)> {
        let activity = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!activity.answering).then_some((activity.stalled, activity.since))
    }
}

type BoxedStream = Pin<Box<dyn AdminStream>>;

trait AdminStream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> AdminStream for S {}

async fn accept(listener: &AdminListener) -> io::Result<(BoxedStream, Arrival)> {
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
    socket: BoxedStream,
    arrival: Arrival,
    slot: Arc<ConnectionSlot>,
    router: Router,
    mut stopping: watch::Receiver<()>,
) {
    let of_requests = Arc::clone(&slot);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(arrival);
        let (slot, router) = (Arc::clone(&of_requests), router.clone());
        async move {
            slot.change(|activity| activity.answering = true);
            let answer = answer(router, request.map(Body::new)).await;
            slot.change(|activity| *activity = Activity { since: Instant::now(), answering: false, stalled: false });
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADER_FIELDS)
        .max_buf_size(MAX_HEADER_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(TimedStream::new(socket, slot)), service));
    tokio::select! {
        // How it ended is the client's affair: a reset, a stall, a head that is none.
        _ = connection.as_mut() => return,
        _ = stopping.changed() => {}
        () = sleep(MAX_CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(CLOSE_TIMEOUT, connection).await);
}

async fn answer(router: Router, request: Request) -> Result<Response, Infallible> {
    match timeout(REQUEST_TIMEOUT, router.oneshot(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = "no answer within 30 s; a change may still take effect: look at the status";
            Ok(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response())
        }
    }
}

/// A socket whose writer gives up when the client takes nothing for [`WRITE_TIMEOUT`]. hyper bounds the time of
/// reading a head, but not of writing an answer.
struct TimedStream {
    socket: BoxedStream,
    slot: Arc<ConnectionSlot>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl TimedStream {
    const fn new(socket: BoxedStream, slot: Arc<ConnectionSlot>) -> Self {
        Self { socket, slot, stall: None }
    }

    /// `progress`, or an error once there has been none for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.stall.take().is_some() {
                self.slot.change(|activity| activity.stalled = false);
            }
            return progress;
        }
        let slot = &self.slot;
        let stall = self.stall.get_or_insert_with(|| {
            slot.change(|activity| activity.stalled = true);
            Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT))
        });
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for TimedStream {
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
