//! Servers and URLs, as they are written and as they are shown: never with a path, which may be a secret.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

/// Where requests are sent. Host and port are as `Host` carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// `http`, at this `host[:port]`.
    Http(String),
    /// `https`, at this `host[:port]`.
    Https(String),
    /// Plain HTTP over a unix socket.
    Unix(PathBuf),
}

impl Server {
    /// Host, an IPv6 address without its brackets, and port; none if there is no such host, as for a unix socket.
    pub(super) fn host_and_port(&self) -> Option<(String, u16)> {
        let (text, default_port) = match self {
            Self::Http(text) => (text, 80),
            Self::Https(text) => (text, 443),
            Self::Unix(_) => return None,
        };
        let authority: Authority = text.parse().ok()?;
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some((bare.to_owned(), authority.port_u16().unwrap_or(default_port)))
    }

    /// As `Host` carries it.
    pub(super) fn host_header(&self) -> &str {
        match self {
            Self::Http(authority) | Self::Https(authority) => authority,
            Self::Unix(_) => "localhost",
        }
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::Http(address.to_string())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An `http://` or `https://` address: a server, and a path with its query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Where it leads.
    pub(crate) server: Server,
    /// What is asked there.
    pub(crate) path: PathAndQuery,
}

/// Why a text is not a [`Url`]. The text itself is not in the message: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUrl {
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
        let uri = text.parse::<Uri>().map_err(|_| BadUrl::Syntax)?.into_parts();
        let https = match uri.scheme {
            Some(scheme) if scheme == Scheme::HTTP => false,
            Some(scheme) if scheme == Scheme::HTTPS => true,
            _ => return Err(BadUrl::Scheme),
        };
        let authority = uri.authority.ok_or(BadUrl::Syntax)?;
        if authority.as_str().contains('@') {
            return Err(BadUrl::User);
        }
        // What follows a host's colon and is no port number makes none, and would be ignored.
        let host = authority.host();
        let has_port = authority.as_str().len() > host.len();
        if matches!(host, "" | "[]") || (has_port && authority.port_u16().is_none()) {
            return Err(BadUrl::Syntax);
        }
        let authority = authority.as_str().to_owned();
        let server = if https { Server::Https(authority) } else { Server::Http(authority) };
        Ok(Self { server, path: uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")) })
    }
}

impl Url {
    /// The same server with `path` after its own path. A query is left out.
    ///
    /// # Errors
    /// If `path` has bytes that no path has.
    pub(crate) fn join(&self, path: &str) -> Result<Self, BadUrl> {
        let joined = format!("{}/{path}", self.path.path().trim_end_matches('/'));
        Ok(Self { path: joined.parse().map_err(|_| BadUrl::Syntax)?, ..self.clone() })
    }
}

/// Scheme, host and port: a path may be a secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/…")
    }
}
