//! Which trailers go on, from clients to endpoints and back: one rule for every lane.
//!
//! A recipient may merge trailers into the head after it has decided by the head. So what frames or routes a message, says
//! who sends it, or modifies how it is processed is no trailer (RFC 9110 §6.5.1), and neither is what only a trusted peer
//! or Weir may say ([`headers`](super::headers)). Whatever is no trailer is left out, as it was never part of the message.

use super::headers::{HeaderAction, action};
use super::response::ends_here;

/// What a recipient must know before the content (RFC 9110 §6.5.1), beside what concerns the connection, the sender or
/// Weir: framing, routing, modifiers, authentication, control data, and how the content is to be read.
const NO_TRAILERS: [&str; 27] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "vary",
    "warning",
    "www-authenticate",
];

/// Whether a trailer of this name goes on, in any case.
pub(crate) fn passes(name: &str) -> bool {
    // Who reads an underscore as a hyphen must not believe it either.
    if name.contains('_') {
        return is_harmless(&name.replace('_', "-"));
    }
    is_harmless(name)
}

/// Whether a request's trailer of this name goes on. Names with an underscore do not: what is to become of those is
/// decided with the head, of which they are no part.
pub(crate) fn passes_to_endpoint(name: &str) -> bool {
    !name.contains('_') && is_harmless(name)
}

fn is_harmless(name: &str) -> bool {
    !name.is_empty()
        && action(name) == HeaderAction::Keep
        && !ends_here(name)
        && !NO_TRAILERS.iter().any(|word| name.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_routes_or_authenticates_is_no_trailer() {
        let others = [
            "TE",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Upgrade",
            "Expect",
            "Via",
            "HTTP2-Settings",
            "Proxy-Authorization",
            "Proxy-Authenticate",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-User",
            "X-Real-IP",
            "Client-Cert",
            "X-Request-Id",
            "Weir-Error",
            "",
        ];
        for name in NO_TRAILERS.iter().chain(&others) {
            for name in [(*name).to_owned(), name.to_ascii_uppercase(), name.replace('-', "_")] {
                assert!(!passes(&name) && !passes_to_endpoint(&name), "{name}");
            }
        }
        assert!(NO_TRAILERS.is_sorted(), "so that none is there twice");
    }

    #[test]
    fn what_says_something_about_the_content_goes_on() {
        for name in
            ["grpc-status", "Grpc-Message", "ETag", "Digest", "Server-Timing", "x-checksum", "Authentication-Info"]
        {
            assert!(passes(name) && passes_to_endpoint(name), "{name}");
        }
        assert!(passes("my_key") && !passes_to_endpoint("my_key"));
    }
}
