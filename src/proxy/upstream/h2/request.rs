//! The head of a request as HTTP/2 has it (RFC 9113 §8.3).

use http::header::{self, HeaderName};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri, Version};

use super::error::StreamError;

/// Takes out what concerns only the client's connection (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
pub(crate) fn strip(head: &mut Parts) {
    let nominated: Vec<HeaderName> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in nominated.into_iter().chain(CONNECTION_SPECIFIC) {
        head.headers.remove(name);
    }
    if head.version != Version::HTTP_2 {
        head.headers.remove(header::TE);
        head.headers.remove(header::TRAILER);
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
/// If authority or target do not parse, which those of a valid request always do.
pub(crate) fn write(mut head: Parts, authority: &str, tls: bool) -> Result<Request<()>, StreamError> {
    let authority = match head.headers.remove(header::HOST) {
        Some(host) => Authority::try_from(host.as_bytes()),
        None => head.uri.authority().cloned().map_or_else(|| authority.parse(), Ok),
    };
    let authority = authority.map_err(|error| StreamError::Unsendable(error.into()))?;
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(if tls { "https" } else { "http" }).authority(authority).path_and_query(target);
    head.uri = uri.build().map_err(|error| StreamError::Unsendable(error.into()))?;
    head.version = Version::HTTP_2;
    Ok(Request::from_parts(head, ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, target: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_head_of_http_1_becomes_one_of_http_2() {
        let fields = [
            ("host", "shop.test:81"),
            ("connection", "keep-alive, x-mine, Upgrade"),
            ("x-mine", "1"),
            ("upgrade", "websocket"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ];
        let mut head = head(Version::HTTP_11, "http://other.test/a?b", &fields);
        strip(&mut head);
        let request = write(head, "none.test", false).unwrap();
        assert_eq!(request.uri(), "http://shop.test:81/a?b");
        let left: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }

    #[test]
    fn te_stays_between_http_2_and_http_2() {
        let mut head = head(Version::HTTP_2, "/grpc", &[("te", "trailers")]);
        strip(&mut head);
        let request = write(head, "shop.test", true).unwrap();
        assert_eq!((request.headers().len(), request.uri().to_string()), (1, "https://shop.test/grpc".to_owned()));
    }
}
