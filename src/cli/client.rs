//! A small HTTP client for the control API, over TCP and unix sockets: one request, one connection, bounded.
//!
//! Invariant: nothing waits longer than [`CONNECT`] and [`TOTAL`], and no answer is read beyond [`ANSWER`].

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::arguments::{AdminArguments, Server};
use super::failure::{Exit, Failure};
use crate::admin::wire::{Problem, kind};
use crate::config::{Diagnostic, Snippet};

/// For a connection. Admin is near: loopback, a unix socket, or the same network.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole request. A reload of a large file takes a fraction of it.
const TOTAL: Duration = Duration::from_secs(30);
/// The largest answer: the status of a hundred thousand services.
const ANSWER: usize = 256 << 20;
/// The largest token file; a token is a line.
const TOKEN: u64 = 64 * 1024;

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// There is no connection.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Whom.
        server: Server,
        /// Why.
        why: String,
    },
    /// It took longer than [`TOTAL`].
    #[error("{server} did not answer within {} s", TOTAL.as_secs())]
    Late {
        /// Who.
        server: Server,
    },
    /// What came back is not an answer.
    #[error("{server} did not answer properly: {why}")]
    Broken {
        /// Who.
        server: Server,
        /// Why.
        why: String,
    },
}

impl Server {
    /// Sends one request and reads its answer.
    pub(super) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        timeout(TOTAL, self.ask_patiently(request))
            .await
            .unwrap_or_else(|_| Err(NoAnswer::Late { server: self.clone() }))
    }

    async fn ask_patiently(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let unreachable = |why: String| NoAnswer::Unreachable { server: self.clone(), why };
        let host = match self {
            Self::Tcp { authority } => authority.parse().map_err(|_| unreachable("not a host name".to_owned()))?,
            Self::Unix(_) => header::HeaderValue::from_static("localhost"),
        };
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let connect = async {
            let socket: Box<dyn Duplex> = match self {
                Self::Tcp { authority } => Box::new(TcpStream::connect(authority).await?),
                Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            };
            Ok::<_, std::io::Error>(socket)
        };
        let socket = timeout(CONNECT, connect)
            .await
            .map_err(|_| unreachable(format!("no connection within {} s", CONNECT.as_secs())))?
            .map_err(|error| unreachable(error.to_string()))?;
        self.exchange(socket, request).await.map_err(|why| NoAnswer::Broken { server: self.clone(), why })
    }

    async fn exchange(&self, socket: Box<dyn Duplex>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status: head.status, body: body.to_bytes() })
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The last bytes of the answer may still be on their way to its reader.
            _ = connection => answer.await,
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// The control API of one running Weir.
#[derive(Debug)]
pub(super) struct Client {
    server: Server,
    token: Option<header::HeaderValue>,
}

impl Client {
    /// A client for the server that was named, with the token that was named.
    pub(super) fn new(arguments: &AdminArguments) -> Result<Self, Failure> {
        let token = match (&arguments.token_file, std::env::var("WEIR_TOKEN")) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Ok(token)) if !token.trim().is_empty() => Some(token),
            (None, _) => None,
        };
        let bearer = |token: String| -> Result<_, Failure> {
            let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| Failure::new(Exit::USAGE, "the token has characters that HTTP does not carry"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self { server: arguments.admin.clone(), token: token.map(bearer).transpose()? })
    }

    /// A client without a token.
    pub(super) const fn plain(server: Server) -> Self {
        Self { server, token: None }
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Asks for a change, with a JSON body if there is one.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let broken = |why: String| {
            Failure::new(Exit::FAILURE, format!("{}: {why}", self.server)).help("is this the control API of a Weir?")
        };
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| broken(error.to_string()))?.into()
            }
        };
        let request = request.body(Full::new(bytes)).map_err(|error| broken(error.to_string()))?;
        let answer = self.server.ask(request).await?;
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|error| broken(format!("unexpected answer: {error}")));
        }
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => Err(refused(&problem)),
            Err(_) => Err(broken(format!("status {}", answer.status))),
        }
    }
}

impl From<NoAnswer> for Failure {
    fn from(none: NoAnswer) -> Self {
        let exit = match none {
            NoAnswer::Unreachable { .. } => Exit::UNREACHABLE,
            NoAnswer::Late { .. } => Exit::TIMED_OUT,
            NoAnswer::Broken { .. } => Exit::FAILURE,
        };
        let help = match none {
            NoAnswer::Unreachable { .. } => "is Weir running? name its control API with --admin or WEIR_ADMIN",
            NoAnswer::Late { .. } => "a change may still take effect; `weir status` shows it",
            NoAnswer::Broken { .. } => "is this the control API of a Weir?",
        };
        Self::new(exit, none.to_string()).help(help)
    }
}

/// What a problem is on the command line.
fn refused(problem: &Problem) -> Failure {
    match &*problem.kind {
        kind::INVALID_CONFIGURATION => {
            let list: Vec<String> = problem.diagnostics.iter().map(draw).collect();
            Failure::new(Exit::CONFIGURATION, format!("{}\n\n{}", problem.detail, list.join("\n\n")))
        }
        kind::STOPPING | kind::REFUSED => Failure::new(Exit::REFUSED, &problem.detail),
        _ => Failure::new(Exit::FAILURE, &problem.detail),
    }
}

/// A diagnostic of the API, drawn as `weir check` draws it, as far as its fields are there.
fn draw(diagnostic: &serde_json::Value) -> String {
    let field = |name: &str| diagnostic.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let number = |of: &serde_json::Value, name: &str| {
        of.get(name).and_then(serde_json::Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
    };
    let message = field("message").unwrap_or_else(|| "the configuration is refused".to_owned());
    let Some(file) = field("file") else { return format!("error: {message}") };
    let snippet = diagnostic.get("snippet").filter(|snippet| snippet.is_object()).map(|snippet| Snippet {
        text: snippet.get("text").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned(),
        start: number(snippet, "start").min(SOURCE),
        width: number(snippet, "width").min(SOURCE),
    });
    let diagnostic = Diagnostic {
        file,
        line: number(diagnostic, "line"),
        column: number(diagnostic, "column"),
        path: field("path").unwrap_or_default(),
        message,
        found: field("found"),
        expected: field("expected"),
        nearest: field("nearest"),
        help: field("help"),
        snippet,
    };
    diagnostic.to_string()
}

/// More of a source line than the API shows.
const SOURCE: u32 = 200;

/// The token in a file: its content without surrounding blanks.
fn read_token(file: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::new(Exit::USAGE, format!("token file {}: {why}", file.display()));
    let size = fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > TOKEN {
        return Err(wrong(format!("{size} bytes are no token")));
    }
    let token = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    if token.trim().is_empty() { Err(wrong("it is empty".to_owned())) } else { Ok(token) }
}

/// A name as one segment of a path (RFC 3986 section 3.3).
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_whatever_it_holds() {
        assert_eq!(segment("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(segment("unix:/run/a b.sock"), "unix:%2Frun%2Fa%20b.sock");
        assert_eq!(segment("[::1]:80"), "%5B::1%5D:80");
        assert_eq!(segment("é?#%"), "%C3%A9%3F%23%25");
    }

    #[test]
    fn a_problem_has_its_exit_code() {
        let problem = |kind: &str, status| Problem {
            kind: kind.to_owned(),
            title: String::new(),
            status,
            detail: "why".to_owned(),
            diagnostics: Vec::new(),
        };
        assert_eq!(refused(&problem(kind::INVALID_CONFIGURATION, 422)).exit, Exit::CONFIGURATION);
        assert_eq!(refused(&problem(kind::STOPPING, 409)).exit, Exit::REFUSED);
        assert_eq!(refused(&problem(kind::UNKNOWN_NAME, 404)).exit, Exit::FAILURE);
        assert_eq!(refused(&problem(kind::BLANK, 401)).exit, Exit::FAILURE);
    }

    #[test]
    fn a_diagnostic_of_the_api_reads_like_one_of_check() {
        let diagnostic = serde_json::json!({
            "file": "weir.yaml", "line": 3, "column": 7, "path": "services.shop", "message": "no such version",
            "nearest": "v2", "snippet": { "text": "  split: { v3: 100 }", "start": 11, "width": 2 }
        });
        let expected = "\
error: no such version
 --> weir.yaml:3:7
  |
3 |   split: { v3: 100 }
  |            ^^
  = field: services.shop
  = help: did you mean `v2`?";
        assert_eq!(draw(&diagnostic), expected);
        assert_eq!(draw(&serde_json::json!({ "message": "no key" })), "error: no key");
        assert_eq!(draw(&serde_json::json!([])), "error: the configuration is refused");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unreachable() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::Unix(directory.path().join("none.sock"));
        let failure = Client::plain(server).get::<serde_json::Value>("/").await.unwrap_err();
        assert_eq!(failure.exit, Exit::UNREACHABLE);
    }
}
