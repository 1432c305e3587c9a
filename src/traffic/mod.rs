//! What is decided for one request: valid or refused, which route, which version and why, which endpoint.
//!
//! ```text
//! validate ─ route ─ split ─ balance
//! ```
//!
//! Every stage is synchronous, takes what it needs and returns a value. None reads a clock, does I/O, waits
//! or locks, and none knows the proxy engine: a request is seen through the small borrowed [`Request`] view,
//! so every lane of the data plane uses the same stages and they are tested and measured without a socket.

pub mod balance;
pub(crate) mod cookie;
pub mod route;
pub mod split;
pub mod validate;

use std::net::IpAddr;

/// The version of HTTP that the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// A borrowed view of one request's head.
///
/// Header names are compared without case. Values are bytes, as they arrived, without surrounding blanks.
pub trait Request {
    /// The HTTP version of the request.
    fn version(&self) -> HttpVersion;
    /// The method, as the client wrote it.
    fn method(&self) -> &str;
    /// The request target as the client wrote it: origin form (`/path?query`), absolute form, `*`, or for
    /// HTTP/2 the `:path`.
    fn target(&self) -> &[u8];
    /// The `:authority` of an HTTP/2 request. HTTP/1 requests have none: their authority is in `Host` or in
    /// an absolute-form target.
    fn authority(&self) -> Option<&[u8]>;
    /// The first value of the header `name` (given in lower case), if the request has one.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// Calls `visit` with each header field's name and value, in order of arrival where known.
    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8]));
    /// The client's address as the connection or a trusted proxy states it; `None` on a unix socket.
    fn client(&self) -> Option<IpAddr>;
}

/// Why a request gets an answer from Weir itself instead of from an endpoint.
///
/// A value with a status and a metric label, not an error: the refusal is the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The status code of the answer.
    pub(crate) status: u16,
    /// The cause: the value of the `weir-error` header and of log fields, `snake_case`, from a closed set.
    pub(crate) cause: &'static str,
    /// One line for the person who reads the body.
    pub(crate) text: &'static str,
    /// Whether the connection must be closed because its framing can no longer be trusted.
    pub(crate) close: bool,
}

impl Refusal {
    /// How many bytes the body of the answer has: `STATUS TEXT` and a line break, and none for `HEAD`.
    #[must_use]
    pub(crate) const fn body_bytes(&self, head_only: bool) -> u64 {
        if head_only { 0 } else { 3 + 1 + self.text.len() as u64 + 1 }
    }
}
