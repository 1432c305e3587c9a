//! One HTTP client for every call out: a POST, a connection of its own, one bounded answer.
//!
//! Calls out are rare (a few in a second at most), so there is no pool: a fresh connection cannot be a stale one, and
//! a call never waits for another. It is hyper and tokio-rustls, which the control API and the engine need anyway;
//! reqwest would add 31 crates to the program, a second loader of the system's authorities among them, for what fits
//! in this file.
//!
//! * HTTP/1.1, over TLS 1.2 or 1.3 for `https`, trusting the system's authorities (`SSL_CERT_FILE` is honoured), which
//!   are read once, when the client is made.
//! * Redirects are not followed. A signed call belongs to the address that it is signed for, and a POST that is
//!   redirected often arrives as a GET.
//! * `HTTP_PROXY` and the like are ignored: a call goes where the configuration says, and not where the environment
//!   of whoever started the process does.
//!
//! Invariant: nothing waits longer than the time given, and of an answer no more than [`MAX_BODY_BYTES`] bytes are kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For a connection, TLS included, if the whole call may take longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read of an answer, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// How Weir names itself.
const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

/// An address that can be called: `http://` or `https://`, host, port, path and query.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// As `Host` carries it.
    authority: String,
    path: PathAndQuery,
}

/// Why a text is not a [`Url`]. The text itself is not in the message: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// No such syntax.
    #[error("the address is not a URL; write http://HOST[:PORT]/PATH or https://…")]
    Syntax,
    /// Neither `http` nor `https`, or none.
    #[error("the address begins with neither http:// nor https://")]
    Scheme,
    /// A user name or password before the host.
    #[error("the address has a user name or password in it; those are not sent")]
    User,
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let uri: Uri = text.parse().map_err(|_| BadUrl::Syntax)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(BadUrl::Scheme),
        };
        let authority = uri.authority().ok_or(BadUrl::Syntax)?;
        if authority.as_str().contains('@') {
            return Err(BadUrl::User);
        }
        let host = authority.host();
        // What follows a host's colon and is no port number makes none, and would be ignored.
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => authority.port_u16().ok_or(BadUrl::Syntax)?,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err(BadUrl::Syntax);
        }
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { tls, host: bare.to_owned(), port, authority: authority.as_str().to_owned(), path })
    }
}

impl Url {
    /// The same server with `path` after its own path. A query is left out.
    pub(super) fn join(&self, path: &str) -> Result<Self, BadUrl> {
        let joined = format!("{}/{path}", self.path.path().trim_end_matches('/'));
        Ok(Self { path: joined.parse().map_err(|_| BadUrl::Syntax)?, ..self.clone() })
    }
}

/// Scheme, host and port: a path may be a secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/…")
    }
}

/// What is sent.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    pub(super) content_type: &'static str,
    /// `weir-signature`, if the call is signed.
    pub(super) signature: Option<header::HeaderValue>,
    pub(super) body: Bytes,
    /// For everything, from the look-up of the name to the last byte of the answer.
    pub(super) within: Duration,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// The body was larger than [`MAX_BODY_BYTES`]; this is its beginning.
    pub(super) cut: bool,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    BadUrl(#[from] BadUrl),
    #[error("{server} cannot be reached: {why}")]
    Unreachable { server: String, why: String },
    #[error("{server} did not answer within {}", humantime::format_duration(*.within))]
    Late { server: String, within: Duration },
    #[error("{server} redirects to {to}; redirects are not followed, so name the final address")]
    Redirects { server: String, to: String },
    #[error("{server} did not answer properly: {why}")]
    Broken { server: String, why: String },
}

/// Calls out. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    /// Without authorities no certificate is good: said in the error rather than left to be guessed.
    trusts_nobody: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("trusts_nobody", &self.trusts_nobody).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that trusts the system's authorities. It reads their files: some milliseconds, once.
    ///
    /// Authorities that cannot be read are left out; without any, calls to `https` fail and say so.
    ///
    /// # Errors
    /// As [`Client::trusting`].
    pub fn system() -> Result<Self, rustls::Error> {
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
        Ok(Self { tls: Arc::new(tls), trusts_nobody })
    }

    /// Sends one request and reads its answer.
    pub(super) async fn post(&self, post: Post<'_>) -> Result<Answer, NoAnswer> {
        let (url, within) = (post.url, post.within);
        timeout(within, self.post_patiently(post))
            .await
            .unwrap_or_else(|_| Err(NoAnswer::Late { server: url.to_string(), within }))
    }

    async fn post_patiently(&self, post: Post<'_>) -> Result<Answer, NoAnswer> {
        let url = post.url;
        let unreachable = |why: String| NoAnswer::Unreachable { server: url.to_string(), why };
        let socket = timeout(CONNECT_TIMEOUT, self.connect(url))
            .await
            .map_err(|_| unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(unreachable)?;
        let broken = |why: String| NoAnswer::Broken { server: url.to_string(), why };
        let mut request = Request::post(url.path.clone())
            .header(header::HOST, &url.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, post.content_type)
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close");
        if let Some(signature) = post.signature {
            request = request.header(super::secret::SIGNATURE_HEADER, signature);
        }
        let request = request.body(Full::new(post.body)).map_err(|error| broken(error.to_string()))?;
        exchange(socket, request, url).await
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Duplex>, String> {
        let socket = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
        if !url.tls {
            return Ok(Box::new(socket));
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
        match TlsConnector::from(Arc::clone(&self.tls)).connect(name, socket).await {
            Ok(socket) => Ok(Box::new(socket)),
            Err(error) if self.trusts_nobody => Err(format!(
                "{error}; this system has no certificate authorities: install ca-certificates or set SSL_CERT_FILE"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn exchange(socket: Box<dyn Duplex>, request: Request<Full<Bytes>>, url: &Url) -> Result<Answer, NoAnswer> {
    let broken = |error: hyper::Error| NoAnswer::Broken { server: url.to_string(), why: whole(&error) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if let Some(to) = redirects_to(&response) {
            return Err(NoAnswer::Redirects { server: url.to_string(), to });
        }
        let (head, mut body) = response.into_parts();
        let (mut kept, mut cut) = (Vec::new(), false);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            let room = MAX_BODY_BYTES - kept.len();
            kept.extend(data.iter().take(room));
            cut = data.len() > room;
            if cut {
                break;
            }
        }
        Ok(Answer { status: head.status, body: kept.into(), cut })
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The last bytes of the answer may still be on their way to its reader.
        _ = connection => answer.await,
    }
}

/// Where a redirect leads: its server only, as the rest may be a secret.
fn redirects_to(response: &Response<Incoming>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = response.headers().get(header::LOCATION)?.to_str().ok().and_then(|to| to.parse::<Uri>().ok());
    Some(match to.as_ref().and_then(|to| Some((to.scheme_str()?, to.authority()?))) {
        Some((scheme, authority)) => format!("{scheme}://{authority}"),
        None => "another path".to_owned(),
    })
}

/// An error with its cause: hyper's own text says where, the cause says what.
fn whole(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

#[cfg(test)]
mod tests;
