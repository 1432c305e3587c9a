//! The decisions on one request before anything goes to an endpoint: guard, route, split.

use std::net::IpAddr;
use std::sync::Arc;

use super::failure::{MISDIRECTED, NO_ROUTE};
use super::headers;
use crate::model::Name;
use crate::proxy::codec::h2::requests;
use crate::snapshot::{Route, Service, Snapshot, Version};
use crate::traffic::validate::refusal::FIELD_NAME_UNDERSCORE;
use crate::traffic::validate::spelling::Underscore;
use crate::traffic::validate::{self, Framing, Validated};
use crate::traffic::{HttpVersion, Refusal, Request};

/// A request that may pass, and where it goes.
pub(crate) struct Decision<'r, 's> {
    /// The request as every later stage reads it.
    pub(crate) admitted: Validated<'r>,
    /// The route it takes.
    pub(crate) route: &'s Arc<Route>,
    /// The service that the route leads to.
    pub(crate) service: &'s Arc<Service>,
    /// What becomes of header names with an underscore; none if no name has one.
    pub(crate) underscore: Option<Underscore>,
}

/// Where a request came in.
pub(crate) struct Entrance<'r> {
    pub(crate) listener: &'r Name,
    /// The name that the client's TLS handshake asked for.
    pub(crate) sni: Option<&'r str>,
}

impl Entrance<'_> {
    /// Whether a request for `host` may not come in here: a certificate of its own would have been shown to it. What
    /// else TLS asks of clients is the same for all of a listener.
    fn misdirects(&self, snapshot: &Snapshot, host: &str) -> bool {
        let Some(sni) = self.sni.filter(|sni| !host.is_empty() && !sni.eq_ignore_ascii_case(host)) else {
            return false;
        };
        snapshot.certificates.get(self.listener).is_some_and(|tls| !tls.certificates.serve_alike(sni, host))
    }
}

/// Decides whether a request may pass and which route it takes; every lane asks here.
///
/// # Errors
/// The refusal to answer with.
pub(crate) fn decide<'r, 's>(
    view: &'r impl Request,
    snapshot: &'s Snapshot,
    entrance: &Entrance<'_>,
) -> Result<Decision<'r, 's>, Refusal> {
    if view.version() == HttpVersion::Http2
        && let Some(cause) = view.header(requests::MALFORMED)
    {
        return Err(requests::refusal(cause));
    }
    let limits = snapshot.limits_of(entrance.listener);
    let admitted = validate::validate(view, limits)?;
    if entrance.misdirects(snapshot, &admitted.host) {
        return Err(MISDIRECTED);
    }
    let route = snapshot.table.find(&admitted.host, &admitted.path, view).ok_or(NO_ROUTE)?;
    let service = snapshot.service_of(route).ok_or(NO_ROUTE)?;
    let underscore =
        if admitted.underscores { Some(underscore(view, (route, service), limits.underscore)?) } else { None };
    Ok(Decision { admitted, route, service, underscore })
}

/// What becomes of header names with an underscore in a request that takes `route`; `listener` is its listener's choice.
#[cold]
fn underscore(
    view: &impl Request,
    (route, service): (&Route, &Service),
    listener: Underscore,
) -> Result<Underscore, Refusal> {
    // Names of gRPC's metadata may have one, and servers of gRPC do not read it as a hyphen. Whether a call is one, its
    // client says; so the endpoints have to speak gRPC's protocol as well.
    if validate::is_grpc(view) && service.versions.iter().all(Version::speaks_http2) {
        return Ok(Underscore::Allow);
    }
    match route.underscore.unwrap_or(listener) {
        Underscore::Refuse => Err(FIELD_NAME_UNDERSCORE),
        choice => Ok(choice),
    }
}

impl Decision<'_, '_> {
    /// The length of the body, if the client declared it.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.admitted.framing {
            Framing::Length(length) | Framing::Frames { length: Some(length) } => Some(length),
            _ => None,
        }
    }

    /// Whether the body is longer than the service takes, as far as its length is declared.
    pub(crate) fn is_too_large(&self, snapshot: &Snapshot) -> bool {
        let length = self.length().unwrap_or_default();
        self.service.body_limit(snapshot).is_some_and(|limit| length > limit)
    }
}

impl Service {
    /// The largest request body that is passed on, in bytes.
    pub(crate) fn body_limit(&self, snapshot: &Snapshot) -> Option<u64> {
        self.body_bytes.or(snapshot.limits.body_bytes)
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// Whether what it says of itself is believed.
    pub(crate) trusted: bool,
    /// The client: the peer, or the one that a trusted proxy names.
    pub(crate) client: Option<IpAddr>,
}

/// Who sent a request that came from `peer`.
pub(crate) fn sender(view: &impl Request, snapshot: &Snapshot, peer: Option<IpAddr>) -> Sender {
    let trusted = snapshot.trusts(peer);
    let named = if trusted { forwarded_client(view) } else { None };
    Sender { trusted, client: named.or(peer) }
}

/// The client that a trusted proxy names: the last address of `X-Forwarded-For`.
fn forwarded_client(view: &impl Request) -> Option<IpAddr> {
    let mut client = None;
    view.for_each_header(&mut |name, value| {
        if name.eq_ignore_ascii_case(b"x-forwarded-for") {
            let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            client = str::from_utf8(last).ok().and_then(headers::address);
        }
    });
    client
}

/// The request id that a trusted peer gave, if it is one.
pub(crate) fn given_request_id(view: &impl Request, trusted: bool) -> Option<&str> {
    let given = if trusted { view.header("x-request-id") } else { None };
    given.and_then(|value| str::from_utf8(value).ok()).filter(|id| {
        !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    })
}
