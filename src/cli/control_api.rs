//! The control API of a running Weir, as the command line calls it: the token, JSON both ways, and what a problem is.
//!
//! Invariant: nothing waits longer than [`LIMITS`] say, and no response is read beyond them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::AdminArguments;
use super::failure::{Exit, Failure};
use crate::admin::wire::{Problem, kind};
use crate::config::{Diagnostic, Snippet};
use crate::http_client::{CallLimits, Client, HttpError, HttpResponse, Server};

/// For one call. A reload of a large file takes a fraction of the time, and the status of a hundred thousand services
/// has room.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(30), body_bytes: 256 << 20 };
/// The largest token file; a token is a line.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// Sends a request to a running Weir, whatever it is asked.
pub(super) async fn send(server: &Server, request: Request<Full<Bytes>>) -> Result<HttpResponse, HttpError> {
    Client::without_tls().send(server, request, LIMITS).await
}

/// The control API of one running Weir.
#[derive(Debug)]
pub(super) struct ControlApi {
    server: Server,
    token: Option<header::HeaderValue>,
}

impl ControlApi {
    /// The API of the server that was named, with the token that was named.
    pub(super) fn new(arguments: &AdminArguments) -> Result<Self, Failure> {
        let token = match (&arguments.token_file, std::env::var("WEIR_TOKEN")) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Ok(token)) if !token.trim().is_empty() => Some(token),
            (None, _) => None,
        };
        Ok(Self { server: arguments.admin.clone(), token: token.as_deref().map(bearer).transpose()? })
    }

    /// Without a token.
    pub(super) const fn without_token(server: Server) -> Self {
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
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| self.broken(error))?.into()
            }
        };
        let request = request.body(Full::new(bytes)).map_err(|error| self.broken(error))?;
        let response = send(&self.server, request).await?;
        if response.truncated {
            return Err(self.broken("the response is too large"));
        }
        if response.status.is_success() {
            return serde_json::from_slice(&response.body)
                .map_err(|error| self.broken(format!("unexpected answer: {error}")));
        }
        match serde_json::from_slice::<Problem>(&response.body) {
            Ok(problem) => Err(refused(&problem)),
            Err(_) => Err(self.broken(format!("status {}", response.status))),
        }
    }

    fn broken(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(Exit::FAILURE, format!("{}: {why}", self.server)).help(IS_THIS_WEIR)
    }
}

const IS_THIS_WEIR: &str = "is this the control API of a Weir?";

/// The value of `Authorization`.
fn bearer(token: &str) -> Result<header::HeaderValue, Failure> {
    let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| Failure::new(Exit::USAGE, "the token has characters that HTTP does not carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let (exit, help) = match error {
            HttpError::Unreachable { .. } => {
                (Exit::UNREACHABLE, "is Weir running? name its control API with --admin or WEIR_ADMIN")
            }
            HttpError::TimedOut { .. } => (Exit::TIMED_OUT, "a change may still take effect; `weir status` shows it"),
            HttpError::BadUrl(_) | HttpError::Redirected { .. } | HttpError::Protocol { .. } => {
                (Exit::FAILURE, IS_THIS_WEIR)
            }
        };
        Self::new(exit, error.to_string()).help(help)
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
        start: number(snippet, "start").min(MAX_SNIPPET_COLUMNS),
        width: number(snippet, "width").min(MAX_SNIPPET_COLUMNS),
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
const MAX_SNIPPET_COLUMNS: u32 = 200;

/// The token in a file: its content without surrounding blanks.
fn read_token(file: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::new(Exit::USAGE, format!("token file {}: {why}", file.display()));
    let size = fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_TOKEN_BYTES {
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
        let failure = ControlApi::without_token(server).get::<serde_json::Value>("/").await.unwrap_err();
        assert_eq!(failure.exit, Exit::UNREACHABLE);
    }
}
