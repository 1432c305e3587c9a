//! The head of a request as HTTP/2 has it (RFC 9113 §8.3).

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri, Version};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;

/// Takes out what concerns only the client's connection (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
pub(crate) fn strip(head: &mut RequestHeader) {
    let nominated: Vec<HeaderName> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in &nominated {
        head.remove_header(name);
    }
    for name in CONNECTION_SPECIFIC {
        head.remove_header(&name);
    }
    if head.version != Version::HTTP_2 {
        head.remove_header(&header::TE);
        head.remove_header(&header::TRAILER);
    }
}

const CONNECTION_SPECIFIC: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// The head that goes out: `Host` becomes `:authority`.
///
/// # Errors
/// If authority or target are none, which what the guard admitted always are.
pub(crate) fn write(mut head: RequestHeader, authority: &str, tls: bool) -> Result<Request<()>> {
    let host = head.remove_header(&header::HOST);
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes()),
        None => head.uri.authority().cloned().map_or_else(|| authority.parse(), Ok),
    };
    let authority = authority.or_err(ErrorType::InternalError, "the authority does not parse")?;
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(if tls { "https" } else { "http" }).authority(authority).path_and_query(target);
    let uri = uri.build().or_err(ErrorType::InternalError, "the target is no URI")?;
    let mut parts: http::request::Parts = head.into();
    parts.uri = uri;
    parts.version = Version::HTTP_2;
    Ok(Request::from_parts(parts, ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_http_1_becomes_one_of_http_2() {
        let mut head = RequestHeader::build("GET", b"http://other.test/a?b", None).unwrap();
        for (name, value) in [
            ("host", "shop.test:81"),
            ("connection", "keep-alive, x-mine, Upgrade"),
            ("x-mine", "1"),
            ("upgrade", "websocket"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ] {
            head.insert_header(name, value).unwrap();
        }
        strip(&mut head);
        let request = write(head, "none.test", false).unwrap();
        assert_eq!(request.uri(), "http://shop.test:81/a?b");
        let left: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }

    #[test]
    fn te_stays_between_http_2_and_http_2() {
        let mut head = RequestHeader::build("POST", b"/grpc", None).unwrap();
        head.set_version(Version::HTTP_2);
        head.insert_header("te", "trailers").unwrap();
        strip(&mut head);
        let request = write(head, "shop.test", true).unwrap();
        assert_eq!((request.headers().len(), request.uri().to_string()), (1, "https://shop.test/grpc".to_owned()));
    }
}
