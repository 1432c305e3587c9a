//! An HTTP/1.1 client for rare calls: one request, one connection, one bounded response.
//!
//! Calls are rare (a few in a second at most), so there is no pool: a fresh connection cannot be a stale one, and
//! a call never waits for another. It is hyper and tokio-rustls, which the control API and the engine need anyway;
//! reqwest would add 31 crates to the program, a second loader of the system's authorities among them, for what fits
//! in this folder.
//!
//! * HTTP/1.1, over TCP or a unix socket; over TLS 1.2 or 1.3 for `https`, trusting the system's authorities
//!   (`SSL_CERT_FILE` is honoured), which are read once, when the client is made.
//! * Redirects are not followed. A signed call belongs to the address that it is signed for, and a POST that is
//!   redirected often arrives as a GET.
//! * `HTTP_PROXY` and the like are ignored: a call goes where the configuration says, and not where the environment
//!   of whoever started the process does.
//!
//! Invariant: nothing waits longer than [`CallLimits::timeout`], and no more than [`CallLimits::body_bytes`] of a
//! response are kept.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

#[cfg(test)]
pub(crate) mod stub;
mod url;

pub(crate) use self::url::{BadUrl, Server, Url};

/// For a connection, TLS included, if the whole call may take longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How Weir names itself.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));

/// What a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallLimits {
    /// For everything, from the look-up of the name to the last byte of the response.
    pub(crate) timeout: Duration,
    /// What is kept of the response's body.
    pub(crate) body_bytes: usize,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct HttpResponse {
    /// The status; never one of a redirect that names its target.
    pub(crate) status: StatusCode,
    /// The body, or its beginning.
    pub(crate) body: Bytes,
    /// The body was larger than [`CallLimits::body_bytes`]; this is its beginning.
    pub(crate) truncated: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum NoConnection {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a host name")]
    NoHost,
    #[error(transparent)]
    BadName(#[from] InvalidDnsNameError),
    #[error("only plain HTTP is spoken")]
    PlainOnly,
    #[error("{0}; this system has no certificate authorities: install ca-certificates or set SSL_CERT_FILE")]
    NoAuthorities(io::Error),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// The address cannot be called.
    #[error(transparent)]
    BadUrl(#[from] BadUrl),
    /// There is no connection.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Scheme, host and port.
        server: String,
        /// Why.
        why: String,
    },
    /// It took longer than [`CallLimits::timeout`].
    #[error("{server} did not answer within {}", humantime::format_duration(*.timeout))]
    TimedOut {
        /// Scheme, host and port.
        server: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The response is a redirect.
    #[error("{server} redirects to {to}; redirects are not followed, so name the final address")]
    Redirected {
        /// Scheme, host and port.
        server: String,
        /// The server that it leads to; its path may be a secret.
        to: String,
    },
    /// What came back is not a response.
    #[error("{server} did not answer properly: {why}")]
    Protocol {
        /// Scheme, host and port.
        server: String,
        /// Why.
        why: String,
    },
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    /// None: only plain HTTP is spoken.
    tls: Option<Arc<ClientConfig>>,
    /// Without authorities no certificate is good: the error says so, rather than leaving it to be guessed.
    trusts_nobody: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("trusts_nobody", &self.trusts_nobody).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that speaks plain HTTP only.
    #[must_use]
    pub(crate) const fn without_tls() -> Self {
        Self { tls: None, trusts_nobody: true }
    }

    /// A client that trusts the system's authorities. It reads their files: some milliseconds, once.
    ///
    /// Authorities that cannot be read are left out; without any, calls to `https` fail and say so.
    ///
    /// # Errors
    /// As [`Client::trusting`].
    pub(crate) fn system() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().unwrap_or_default());
        Self::trusting(roots)
    }

    /// A client that trusts these authorities.
    ///
    /// # Errors
    /// If *ring* and rustls have no version of TLS in common, which is a fault of the build.
    pub fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let trusts_nobody = roots.is_empty();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Some(Arc::new(tls)), trusts_nobody })
    }

    /// Sends one request and reads its response. `Host`, `User-Agent` and `Connection` are added.
    ///
    /// # Errors
    /// If no response came back within the limits, or one that redirects.
    pub(crate) async fn send(
        &self,
        server: &Server,
        request: Request<Full<Bytes>>,
        limits: CallLimits,
    ) -> Result<HttpResponse, HttpError> {
        let CallLimits { timeout: within, body_bytes } = limits;
        timeout(within, self.exchange(server, request, body_bytes))
            .await
            .unwrap_or_else(|_| Err(HttpError::TimedOut { server: server.to_string(), timeout: within }))
    }

    async fn exchange(
        &self,
        server: &Server,
        mut request: Request<Full<Bytes>>,
        body_bytes: usize,
    ) -> Result<HttpResponse, HttpError> {
        let host = HeaderValue::from_str(server.host_header()).map_err(|error| protocol(server, &error))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let socket = timeout(CONNECT_TIMEOUT, self.connect(server))
            .await
            .unwrap_or(Err(NoConnection::TimedOut))
            .map_err(|error| HttpError::Unreachable { server: server.to_string(), why: error.to_string() })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| protocol(server, &error))?;
        let response = async {
            let response = sender.send_request(request).await.map_err(|error| protocol(server, &error))?;
            if let Some(to) = redirects_to(&response) {
                return Err(HttpError::Redirected { server: server.to_string(), to });
            }
            let (head, body) = response.into_parts();
            let (body, truncated) = read_body(body, body_bytes).await.map_err(|error| protocol(server, &error))?;
            Ok(HttpResponse { status: head.status, body, truncated })
        };
        let mut response = std::pin::pin!(response);
        tokio::select! {
            biased;
            response = &mut response => response,
            // The last bytes of the response may still be on their way to its reader.
            _ = connection => response.await,
        }
    }

    async fn connect(&self, server: &Server) -> Result<Box<dyn ByteStream>, NoConnection> {
        if let Server::Unix(path) = server {
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        let (host, port) = server.host_and_port().ok_or(NoConnection::NoHost)?;
        let socket = TcpStream::connect((host.as_str(), port)).await?;
        if !matches!(server, Server::Https(_)) {
            return Ok(Box::new(socket));
        }
        let tls = self.tls.clone().ok_or(NoConnection::PlainOnly)?;
        let name = ServerName::try_from(host)?;
        match TlsConnector::from(tls).connect(name, socket).await {
            Ok(socket) => Ok(Box::new(socket)),
            Err(error) if self.trusts_nobody => Err(NoConnection::NoAuthorities(error)),
            Err(error) => Err(error.into()),
        }
    }
}

/// An error with its cause: hyper's own text says where, the cause says what.
fn protocol(server: &Server, error: &dyn std::error::Error) -> HttpError {
    let why = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    HttpError::Protocol { server: server.to_string(), why }
}

/// At most `limit` bytes of a body, and whether there are more.
async fn read_body(mut body: Incoming, limit: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        match data.get(..limit - kept.len()) {
            Some(beginning) if beginning.len() < data.len() => {
                kept.extend_from_slice(beginning);
                return Ok((kept.into(), true));
            }
            _ => kept.extend_from_slice(&data),
        }
    }
    Ok((kept.into(), false))
}

/// Where a redirect leads: its server only, as the rest may be a secret.
fn redirects_to(response: &hyper::Response<Incoming>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = response.headers().get(header::LOCATION)?.to_str().ok().and_then(|to| to.parse::<Uri>().ok());
    Some(match to.as_ref().and_then(|to| Some((to.scheme_str()?, to.authority()?))) {
        Some((scheme, authority)) => format!("{scheme}://{authority}"),
        None => "another path".to_owned(),
    })
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

#[cfg(test)]
mod tests;
