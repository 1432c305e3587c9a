//! Where the control API is, as it is typed: `http://HOST[:PORT]` or `unix:PATH`.

use std::path::PathBuf;

use crate::http_client::{Server, Url};

/// Why a text is not the address of a control API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum BadServer {
    /// Another scheme, a path, a user, or no address at all.
    #[error("write http://HOST:PORT or unix:/path/to/socket")]
    Syntax,
    /// TLS.
    #[error("the control API speaks plain HTTP; reach it through a tunnel or a unix socket")]
    Https,
}

/// The server that `text` names. A port is added where there is none, so that messages show it.
pub(in crate::cli) fn parse_server(text: &str) -> Result<Server, BadServer> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err(BadServer::Syntax) } else { Ok(Server::Unix(PathBuf::from(path))) };
    }
    let url: Url = if text.contains("://") { text.parse() } else { format!("http://{text}").parse() }
        .map_err(|_| if text.starts_with("https:") { BadServer::Https } else { BadServer::Syntax })?;
    match url.server {
        Server::Https(_) => Err(BadServer::Https),
        Server::Http(authority) if url.path == "/" => {
            let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            Ok(Server::Http(if has_port { authority } else { format!("{authority}:80") }))
        }
        Server::Http(_) | Server::Unix(_) => Err(BadServer::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_plain_url_or_a_unix_socket() {
        let tcp = |authority: &str| Ok(Server::Http(authority.to_owned()));
        assert_eq!(parse_server("http://127.0.0.1:9901"), tcp("127.0.0.1:9901"));
        assert_eq!(parse_server("http://weir.internal/"), tcp("weir.internal:80"));
        assert_eq!(parse_server("http://[::1]:9901"), tcp("[::1]:9901"));
        assert_eq!(parse_server("http://[::1]"), tcp("[::1]:80"));
        assert_eq!(parse_server("localhost:9901"), tcp("localhost:9901"));
        assert_eq!(parse_server("unix:/run/weir.sock"), Ok(Server::Unix("/run/weir.sock".into())));
        assert_eq!(parse_server("unix:///run/weir.sock"), Ok(Server::Unix("/run/weir.sock".into())));
        for wrong in ["", "unix:", "https://x", "http://", "http://x/path", "http://x/?q", "http://u@x", "ftp://x"] {
            assert!(parse_server(wrong).is_err(), "{wrong}");
        }
    }
}
