//! Heads and trailers between the engine and a stream to an HTTP/2 endpoint.

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Response};

use crate::proxy::codec::hpack::{Encoder, FieldLines};

/// Writes a request's header block: `Host` becomes `:authority` (RFC 9113 §8.3.1), `authority` where there is none.
pub(crate) fn write(head: &Parts, authority: &str, tls: bool, encoder: &mut Encoder, block: &mut Vec<u8>) {
    let of_target = head.uri.authority().map_or(authority, |authority| authority.as_str());
    let authority = head.headers.get(header::HOST).map_or(of_target.as_bytes(), HeaderValue::as_bytes);
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let scheme = if tls { "https" } else { "http" };
    encoder.request(head.method.as_str(), scheme, authority, target.as_bytes(), block);
    for (name, value) in head.headers.iter().filter(|(name, _)| **name != header::HOST) {
        encoder.field(name.as_str().as_bytes(), value.as_bytes(), block);
    }
}

/// A response's head; none if the engine's types cannot hold it.
pub(crate) fn response(section: &FieldLines) -> Option<Response<()>> {
    let mut response = Response::builder().status(section.status()?).body(()).ok()?;
    *response.headers_mut() = fields(section)?;
    Some(response)
}

/// The fields of a section; none if there are more than a map holds.
pub(crate) fn fields(section: &FieldLines) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for field in section.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        map.try_append(name, HeaderValue::from_bytes(field.value).ok()?).ok()?;
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;
    use crate::proxy::codec::hpack::{Decoder, Pseudo};

    /// What an endpoint reads of a request.
    fn read(request: http::request::Builder, authority: &str, tls: bool) -> FieldLines {
        let mut block = Vec::new();
        let mut encoder = Encoder::new();
        encoder.begin(&mut block);
        write(&request.body(()).unwrap().into_parts().0, authority, tls, &mut encoder, &mut block);
        let mut lines = FieldLines::new();
        lines.clear(1_000);
        Decoder::new().decode(&block, &mut lines).unwrap();
        assert_eq!(lines.flaw(), None);
        lines
    }

    fn pseudo(lines: &FieldLines) -> [Option<&str>; 4] {
        let all = [Pseudo::Method, Pseudo::Scheme, Pseudo::Authority, Pseudo::Path];
        all.map(|one| lines.pseudo(one).map(|value| str::from_utf8(value).unwrap()))
    }

    #[test]
    fn host_becomes_the_authority() {
        let request = Request::builder().version(Version::HTTP_11).uri("http://other.test/a?b");
        let lines = read(request.header("host", "shop.test:81").header("accept", "*/*"), "none.test", false);
        assert_eq!(pseudo(&lines), [Some("GET"), Some("http"), Some("shop.test:81"), Some("/a?b")]);
        assert_eq!(lines.iter().map(|field| field.name.to_owned()).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn without_host_the_authority_is_the_clients() {
        let request = Request::builder().version(Version::HTTP_2).uri("/grpc").header("te", "trailers");
        let lines = read(request, "shop.test", true);
        assert_eq!(pseudo(&lines), [Some("GET"), Some("https"), Some("shop.test"), Some("/grpc")]);
        assert_eq!(lines.iter().count(), 1);
    }
}
