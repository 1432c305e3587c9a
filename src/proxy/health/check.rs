//! One active check: a connection of its own, a question, an answer.

use std::future::Future;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join, split};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::health::grpc;
use crate::proxy::io::transport::Transport;
use crate::proxy::upstream::connection::PooledConnection;
use crate::proxy::upstream::connector;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::tls::TlsConnectors;
use crate::snapshot::{CheckKind, HealthCheck};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passes,
    /// It fails, for this reason.
    Fails(String),
    /// It could not be made, which is not the endpoint's fault.
    Unknown,
}

/// How Weir names itself.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
/// What is read ahead of an answer over HTTP/1 at most: its head has to fit.
const MAX_HEAD: usize = 64 * 1_024;

/// What is read of an answer over all, informational ones included: who sends them without end would keep the one who checks.
const MAX_READ: u64 = 256 * 1_024;

/// Asks an endpoint whether it is well.
pub(super) async fn check(to: &Destination, tls: &TlsConnectors, how: &HealthCheck) -> Verdict {
    match timeout(how.timeout, ask(to, tls, how)).await {
        Ok(Ok(())) => Verdict::Passes,
        Ok(Err(CheckError::Connect(error))) if error.blames_endpoint().is_none() => {
            tracing::debug!(%error, "an endpoint could not be checked");
            Verdict::Unknown
        }
        Ok(Err(error)) => Verdict::Fails(error.to_string()),
        Err(_) => Verdict::Fails(format!("no answer within {:?}", how.timeout)),
    }
}

async fn ask(to: &Destination, tls: &TlsConnectors, how: &HealthCheck) -> Result<(), CheckError> {
    // The checkout keeps the connection known to drains, until the answer is here.
    let PooledConnection { transport, checkout: _checkout } = connector::probe(to, tls).await?;
    if to.speaks_tls() && to.speaks_http2() && !transport.alpn_h2() {
        return Err(ConnectError::NoHttp2.into());
    }
    let host = || how.host.as_deref().map_or_else(|| to.authority(), str::to_owned);
    match &how.kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { target, statuses } => {
            let status = get(transport, to, (&host(), target)).await?.as_u16();
            let passes = statuses.iter().any(|range| range.contains(&status));
            if passes { Ok(()) } else { Err(CheckError::Status(status)) }
        }
        CheckKind::Grpc { service } => call(transport, to, (&host(), service)).await,
    }
}

fn scheme(to: &Destination) -> &'static str {
    if to.speaks_tls() { "https" } else { "http" }
}

/// The status of a GET.
async fn get(transport: Transport, to: &Destination, (host, target): (&str, &str)) -> Result<StatusCode, CheckError> {
    let request =
        Request::get(if to.speaks_http2() { format!("{}://{host}{target}", scheme(to)) } else { target.to_owned() });
    let request = request.header(header::USER_AGENT, USER_AGENT);
    let mut driver = JoinSet::new();
    let response = if to.speaks_http2() {
        over_http2(transport, request.body(Empty::<Bytes>::new())?, &mut driver).await?
    } else {
        let request = request.header(header::HOST, host).header(header::CONNECTION, "close");
        let builder = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(bounded(transport));
        let (mut sender, connection) = builder.await?;
        drive(&mut driver, connection);
        sender.send_request(request.body(Empty::<Bytes>::new())?).await?
    };
    Ok(response.status())
}

/// A call of gRPC's health service.
async fn call(transport: Transport, to: &Destination, (host, service): (&str, &str)) -> Result<(), CheckError> {
    let request = Request::post(format!("{}://{host}{}", scheme(to), grpc::PATH))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::<Bytes>::from(grpc::question(service)))?;
    let mut driver = JoinSet::new();
    let response = over_http2(transport, request, &mut driver).await?;
    if response.status() != StatusCode::OK {
        return Err(CheckError::Status(response.status().as_u16()));
    }
    let early = grpc_status(response.headers().get("grpc-status"));
    let body = Limited::new(response.into_body(), grpc::MAX_ANSWER).collect().await.map_err(CheckError::Body)?;
    let late = body.trailers().and_then(|trailers| grpc_status(trailers.get("grpc-status")));
    match early.or(late) {
        Some(0) => grpc::is_serving(&body.to_bytes()).map_err(CheckError::Answer),
        Some(code) => Err(CheckError::Answer(format!("gRPC status {code}"))),
        None => Err(CheckError::Answer("the answer has no gRPC status".to_owned())),
    }
}

fn grpc_status(value: Option<&HeaderValue>) -> Option<u32> {
    value?.to_str().ok()?.parse().ok()
}

async fn over_http2<B>(
    transport: Transport,
    request: Request<B>,
    driver: &mut JoinSet<()>,
) -> Result<Response<Incoming>, CheckError>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(bounded(transport)).await?;
    drive(driver, connection);
    Ok(sender.send_request(request).await?)
}

/// A connection that ends for its reader after [`MAX_READ`].
fn bounded(transport: Transport) -> TokioIo<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let (read, write) = split(transport);
    TokioIo::new(join(read.take(MAX_READ), write))
}

/// Drives a connection until the check is over. How it ends, the request's answer says.
fn drive<E>(driver: &mut JoinSet<()>, connection: impl Future<Output = Result<(), E>> + Send + 'static) {
    driver.spawn(async move {
        let _ended = connection.await;
    });
}

/// Why a check does not pass.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("it cannot be asked so: {0}")]
    Question(#[from] http::Error),
    #[error("no answer: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Answer(String),
}
