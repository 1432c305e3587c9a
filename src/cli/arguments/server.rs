//! Where a server is, as it is typed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

/// Where a server is: `http://HOST[:PORT]` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Server {
    /// TCP, with host (an IPv6 address in brackets) and port.
    Tcp {
        /// As it is written in `Host`.
        authority: String,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write http://HOST:PORT or unix:/path/to/socket";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(WRITE.to_owned()) } else { Ok(Self::Unix(PathBuf::from(path))) };
        }
        if text.starts_with("https:") {
            return Err("the control API speaks plain HTTP; reach it through a tunnel or a unix socket".to_owned());
        }
        let uri: Uri = if text.contains("://") { text.parse() } else { format!("http://{text}").parse() }
            .map_err(|error| format!("{error}; {WRITE}"))?;
        let authority = uri.authority().ok_or(WRITE)?;
        let bare = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        if !bare || authority.as_str().contains('@') {
            return Err(WRITE.to_owned());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self::Tcp { authority: format!("{}:{port}", authority.host()) })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority } => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_plain_url_or_a_unix_socket() {
        let tcp = |authority: &str| Ok(Server::Tcp { authority: authority.to_owned() });
        assert_eq!("http://127.0.0.1:9901".parse(), tcp("127.0.0.1:9901"));
        assert_eq!("http://weir.internal/".parse(), tcp("weir.internal:80"));
        assert_eq!("http://[::1]:9901".parse(), tcp("[::1]:9901"));
        assert_eq!("localhost:9901".parse(), tcp("localhost:9901"));
        assert_eq!("unix:/run/weir.sock".parse(), Ok(Server::Unix("/run/weir.sock".into())));
        assert_eq!("unix:///run/weir.sock".parse(), Ok(Server::Unix("/run/weir.sock".into())));
        for wrong in ["", "unix:", "https://x", "http://", "http://x/path", "http://x/?q", "http://u@x", "ftp://x"] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
