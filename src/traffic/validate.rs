//! Request validation, the first stage: refuses what is ambiguous or too large, before anything is chosen.
//!
//! A proxy is attacked through the difference between what it reads and what the origin reads. So validation
//! does not repair: where two servers could see two requests it refuses, and where one request has several
//! spellings it chooses one, and that one is both matched and forwarded.
//!
//! It reads the [`Request`] view only and so holds every lane of the data plane to the same rules, also where
//! the parser in front of it is more lenient. What never reaches it (line ends, folded lines, versions, chunk
//! sizes) is the parser's part.
//!
//! Decisions where the RFCs leave a choice:
//! * HTTP/1.0 without `Host` is valid; its host is empty and only routes for any host match.
//! * `CONNECT` and `TRACE` are answered 501: nothing here tunnels, and a trace would show what other hops add.
//! * What becomes of header names with an underscore, and of odd spellings of paths, the operator chooses; see
//!   [`spelling`]. Names that frame the message once `_` is read as `-` are always refused.
//! * An expectation of an HTTP/1.0 client is ignored (RFC 9110 §10.1.1).
//! * `OPTIONS *` is matched like the path `/` and forwarded as `*`.
//! * An upgrade offered with a body is not an upgrade.
//!
//! Invariant: what is valid has one host, one body framing and one path for every reader.

use std::borrow::Cow;

use crate::traffic::{HttpVersion, Refusal, Request};

pub(in crate::traffic) mod authority;
pub(in crate::traffic) mod fields;
mod framing;
mod limits;
pub(in crate::traffic) mod path;
pub(crate) mod refusal;
pub(crate) mod spelling;
mod target;

use self::authority::Authority;
pub(crate) use self::fields::{is_token, is_value};
pub use self::framing::Framing;
pub use self::limits::Limits;
use self::refusal::{
    HOST_INVALID, HOST_MISMATCH, HOST_MISSING, METHOD_INVALID, METHOD_TOO_LONG, METHOD_UNSUPPORTED, UPGRADE_INVALID,
};
use self::spelling::{NonAscii, Paths};
use self::target::Target;

/// A valid request, as every later stage shall read it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Validated<'r> {
    /// The host to match: lower case, no port, no final dot. Empty only for HTTP/1.0 without one.
    pub(crate) host: Cow<'r, str>,
    /// The `host[:port]` to forward, as the client wrote it. Empty only for HTTP/1.0 without one.
    pub(crate) authority: &'r str,
    /// The path to match: that of [`Self::target`], with triplets in upper case and without the `;parameters` of its
    /// segments.
    pub(crate) path: Cow<'r, str>,
    /// What follows the first `?`, as the client wrote it.
    pub(crate) query: Option<&'r str>,
    /// The target to forward: origin form with the path in normal form and the query, or `*`.
    pub(crate) target: Cow<'r, str>,
    /// Whether the name of a header has an underscore.
    pub(crate) underscores: bool,
    /// Whether [`Self::target`] differs from the target that arrived.
    pub(crate) target_changed: bool,
    /// How the body is framed.
    pub(crate) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expect_continue: bool,
    /// The protocols that the client offers to upgrade to.
    pub(crate) upgrade: Option<Upgrade<'r>>,
}

/// An offer to change the protocol of an HTTP/1.1 connection: `Upgrade`, confirmed by `Connection: upgrade`,
/// in a request without body.
///
/// An offer that is not taken must not be forwarded, and the connection should close after the answer: the
/// client may already have sent bytes of the other protocol (RFC 9931).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade<'r>(&'r str);

impl<'r> Upgrade<'r> {
    /// The first offered protocol that is in `allowed`, ignoring case, as the client wrote it. It alone is to
    /// be forwarded.
    #[must_use]
    pub(crate) fn choose(&self, allowed: &[impl AsRef<str>]) -> Option<&'r str> {
        self.protocols().find(|offer| allowed.iter().any(|token| token.as_ref().eq_ignore_ascii_case(offer)))
    }

    /// The offered protocols, in the client's order.
    pub(crate) fn protocols(&self) -> impl Iterator<Item = &'r str> + use<'r> {
        self.0.split(',').map(str::trim_ascii).filter(|protocol| !protocol.is_empty())
    }
}

/// Validates `request`: as every later stage shall read it, or why it is refused.
///
/// Nothing is allocated unless the host has upper-case letters or the path is not in normal form.
///
/// # Errors
/// One of those in [`refusal`].
pub fn validate<'r>(request: &'r impl Request, limits: &Limits) -> Result<Validated<'r>, Refusal> {
    check_method(request.method(), limits)?;
    // Framing before all else that may be refused, so that those refusals know whether the connection is sound.
    let fields = fields::read(request, limits)?;
    let target = target::parse(request, limits)?;
    let authority = find_authority(request, &target, fields.host)?;
    let normal = path::normalise(target.path, limits.paths)?;
    let upgrade = if fields.upgrade && !fields.framing.has_body() { offered(request)? } else { None };

    let forwarded = forwarded(&target, &normal.forwarded, limits.paths);
    Ok(Validated {
        host: authority.map_or(Cow::Borrowed(""), |authority| authority.lower_host()),
        authority: authority.map_or("", |authority| authority.text),
        path: normal.into_matched(),
        query: target.query,
        underscores: fields.underscores,
        target_changed: forwarded.as_bytes() != request.target(),
        target: forwarded,
        framing: fields.framing,
        expect_continue: fields.expect_continue,
        upgrade,
    })
}

/// Whether `request` is a gRPC call. There is none over HTTP/1, so there it would be only said.
#[must_use]
pub(crate) fn is_grpc(request: &impl Request) -> bool {
    request.version() == HttpVersion::Http2
        && request.header("content-type").is_some_and(|value| value.starts_with(b"application/grpc"))
}

/// How the body of `request` is framed, whatever else is wrong with it.
///
/// # Errors
/// One of those in [`refusal`], if that is in doubt.
pub(crate) fn framing(request: &impl Request, limits: &Limits) -> Result<Framing, Refusal> {
    fields::read(request, limits).map(|fields| fields.framing)
}

fn check_method(method: &str, limits: &Limits) -> Result<(), Refusal> {
    if method.len() > limits.method_bytes {
        return Err(METHOD_TOO_LONG);
    }
    if !is_token(method.as_bytes()) {
        return Err(METHOD_INVALID);
    }
    if matches!(method, "CONNECT" | "TRACE") { Err(METHOD_UNSUPPORTED) } else { Ok(()) }
}

/// The one host that `request` names, wherever it names it.
fn find_authority<'r>(
    request: &'r impl Request,
    target: &Target<'r>,
    has_host: bool,
) -> Result<Option<Authority<'r>>, Refusal> {
    let parse = |bytes: &'r [u8]| Authority::parse(bytes).ok_or(HOST_INVALID);
    let host = if has_host { request.header("host").map(parse).transpose()? } else { None };
    let (other, default_port) = match request.version() {
        HttpVersion::Http2 => (request.authority().map(parse).transpose()?, None),
        HttpVersion::Http11 if host.is_none() => return Err(HOST_MISSING),
        HttpVersion::Http10 | HttpVersion::Http11 => target.authority.unzip(),
    };
    match (other, host) {
        (Some(other), Some(host)) if !other.agrees(&host, default_port) => Err(HOST_MISMATCH),
        (None, None) if request.version() != HttpVersion::Http10 => Err(HOST_MISSING),
        (other, host) => Ok(other.or(host)),
    }
}

/// The target to forward: what arrived, where that is in normal form.
fn forwarded<'r>(target: &Target<'r>, normal: &Cow<'r, str>, paths: Paths) -> Cow<'r, str> {
    let encodes = paths.non_ascii == NonAscii::Encode;
    let query = target.query.map(|query| if encodes { path::encode(query) } else { Cow::Borrowed(query) });
    // `*`, and an origin form whose path stayed as it was. `http://host?query` lacks its path.
    let unchanged = matches!(normal, Cow::Borrowed(_)) && (target.origin.starts_with('/') || target.origin == "*");
    match query {
        None | Some(Cow::Borrowed(_)) if unchanged => Cow::Borrowed(target.origin),
        None => normal.clone(),
        Some(query) => Cow::Owned([&**normal, "?", &query].concat()),
    }
}

/// The upgrade that `request` offers.
fn offered(request: &impl Request) -> Result<Option<Upgrade<'_>>, Refusal> {
    let Some(value) = request.header("upgrade") else { return Ok(None) };
    let upgrade = Upgrade(str::from_utf8(value).map_err(|_| UPGRADE_INVALID)?);
    // `name[/version]`, both tokens (RFC 9110 §7.8).
    let is_protocol = |protocol: &str| protocol.splitn(2, '/').all(|part| is_token(part.as_bytes()));
    if upgrade.protocols().next().is_none() || !upgrade.protocols().all(is_protocol) {
        return Err(UPGRADE_INVALID);
    }
    Ok(Some(upgrade))
}

#[cfg(test)]
pub(in crate::traffic) mod tests;
