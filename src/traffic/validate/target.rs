//! The request target in its forms (RFC 9112 §3.2), taken apart without copying.

use crate::traffic::{HttpVersion, Refusal, Request};

use super::authority::Authority;
use super::limits::Limits;
use super::refusal::{HOST_INVALID, TARGET_ASTERISK, TARGET_INVALID, TARGET_TOO_LONG};
use super::spelling::NonAscii;

/// A request target, taken apart.
pub(super) struct Target<'r> {
    /// The authority of an absolute-form target, with its scheme's port.
    pub(super) authority: Option<(Authority<'r>, u16)>,
    /// The path and query as the client wrote them: starts with `/`, or is `*`, or (absolute form) lacks its
    /// path.
    pub(super) origin: &'r str,
    /// The path as the client wrote it; `/` for `*` and for an absolute form without one.
    pub(super) path: &'r str,
    /// What follows the first `?`.
    pub(super) query: Option<&'r str>,
}

/// Takes the target of `request` apart.
pub(super) fn parse<'r>(request: &'r impl Request, limits: &Limits) -> Result<Target<'r>, Refusal> {
    let bytes = request.target();
    if bytes.len() > limits.target_bytes {
        return Err(TARGET_TOO_LONG);
    }
    // Printable ASCII without `#`. Other characters that URIs must encode are let pass: browsers send them.
    let is_target = |byte: u8| (0x21..=0x7e).contains(&byte) & (byte != b'#');
    if bytes.iter().fold(false, |any, &byte| any | !is_target(byte)) {
        let beyond = limits.paths.non_ascii != NonAscii::Refuse;
        if !beyond || bytes.iter().any(|&byte| byte.is_ascii() && !is_target(byte)) {
            return Err(TARGET_INVALID);
        }
    }
    let text = str::from_utf8(bytes).map_err(|_| TARGET_INVALID)?;
    if text.starts_with('/') {
        return Ok(Target::origin(None, text));
    }
    if text == "*" {
        let options = request.method() == "OPTIONS";
        let target = Target { authority: None, origin: text, path: "/", query: None };
        return if options { Ok(target) } else { Err(TARGET_ASTERISK) };
    }
    match request.version() {
        HttpVersion::Http2 => Err(TARGET_INVALID),
        HttpVersion::Http10 | HttpVersion::Http11 => absolute(text, request.method() == "OPTIONS"),
    }
}

fn absolute(text: &str, options: bool) -> Result<Target<'_>, Refusal> {
    let (scheme, rest) = text.split_once("://").ok_or(TARGET_INVALID)?;
    let port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => 80,
        _ if scheme.eq_ignore_ascii_case("https") => 443,
        _ => return Err(TARGET_INVALID),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at_checked(end).ok_or(TARGET_INVALID)?;
    let authority = Authority::parse(authority.as_bytes()).ok_or(HOST_INVALID)?;
    // `OPTIONS http://host` asks the server as a whole (RFC 9112 §3.2.4).
    let origin = match origin {
        "" if options => "*",
        "" => "/",
        some => some,
    };
    Ok(Target::origin(Some((authority, port)), origin))
}

impl<'r> Target<'r> {
    fn origin(authority: Option<(Authority<'r>, u16)>, origin: &'r str) -> Self {
        let question = memchr::memchr(b'?', origin.as_bytes());
        let (path, query) = match question.and_then(|at| origin.split_at_checked(at)) {
            Some((path, query)) => (path, query.get(1..)),
            None => (origin, None),
        };
        let path = if path.starts_with('/') { path } else { "/" };
        Self { authority, origin, path, query }
    }
}
