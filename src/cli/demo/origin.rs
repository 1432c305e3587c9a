//! A small HTTP server that says which version it is, after a moment, and fails now and then if it shall.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::cli::failure::Failure;

/// Names the version in each answer; the load reads it.
pub(super) const VERSION: &str = "x-demo-version";
/// Connections at the same time; the proxy keeps a few.
const CONNECTIONS: usize = 256;
/// After an accept that failed, for want of descriptors most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// What an origin is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Character {
    /// Its version.
    pub(super) version: &'static str,
    /// How long an answer takes.
    pub(super) delay: Duration,
    /// Every so many answers one is an error; none if 0.
    pub(super) fails: u64,
}

/// Starts an origin on a port of its own, for as long as the runtime lives.
pub(super) async fn start(character: Character) -> Result<u16, Failure> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| Failure::io("an origin's port", &error))?;
    let port = listener.local_addr().map_err(|error| Failure::io("an origin's port", &error))?.port();
    tokio::spawn(serve(listener, character));
    Ok(port)
}

async fn serve(listener: TcpListener, character: Character) {
    let answered = Arc::new(AtomicU64::new(0));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((socket, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let answered = Arc::clone(&answered);
        tokio::spawn(async move {
            let service =
                service_fn(move |request| answer(request, character, answered.fetch_add(1, Ordering::Relaxed)));
            // How a connection ends is the proxy's affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    Character { version, delay, fails }: Character,
    turn: u64,
) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(delay).await;
    let mut response = Response::new(Full::from(format!("{version} answers {}\n", request.uri().path())));
    if fails > 0 && turn.is_multiple_of(fails) {
        *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert(VERSION, hyper::header::HeaderValue::from_static(version));
    Ok(response)
}
