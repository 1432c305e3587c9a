//! The head of a request as HTTP/2 has it (RFC 9113 §8.3).

use http::header;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri, Version};

use super::error::StreamError;

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
    use http::header::HeaderName;

    use super::*;

    fn head(version: Version, target: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn host_becomes_the_authority() {
        let head = head(Version::HTTP_11, "http://other.test/a?b", &[("host", "shop.test:81"), ("accept", "*/*")]);
        let request = write(head, "none.test", false).unwrap();
        assert_eq!(request.uri(), "http://shop.test:81/a?b");
        let left: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }

    #[test]
    fn without_host_the_authority_is_the_clients() {
        let request = write(head(Version::HTTP_2, "/grpc", &[("te", "trailers")]), "shop.test", true).unwrap();
        assert_eq!((request.headers().len(), request.uri().to_string()), (1, "https://shop.test/grpc".to_owned()));
    }
}
