//! The decisions on one request before anything goes to an endpoint: guard, route, split.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::http::server::Session as ServerSession;
use tokio::time::Instant;

use super::failure::{BODY_TOO_LARGE, MISDIRECTED, NO_ENDPOINT, NO_ROUTE};
use super::headers;
use crate::model::Name;
use crate::proxy::codec::h2::requests;
use crate::proxy::pingora::context::{Attempt, Head, Pass, Retries, Routed, Stage};
use crate::proxy::pingora::message::{self, View};
use crate::snapshot::{Route, Service, Snapshot, Version};
use crate::telemetry::access_log::LogText;
use crate::traffic::balance::Tried;
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
    /// Whether the body is longer than the service takes, as far as its length is declared.
    pub(crate) fn is_too_large(&self, snapshot: &Snapshot) -> bool {
        let length = match self.admitted.framing {
            Framing::Length(length) | Framing::Frames { length: Some(length) } => length,
            _ => 0,
        };
        self.service.body_limit(snapshot).is_some_and(|limit| length > limit)
    }
}

impl Service {
    /// The largest request body that is passed on, in bytes.
    pub(crate) fn body_limit(&self, snapshot: &Snapshot) -> Option<u64> {
        self.body_bytes.or(snapshot.limits.body_bytes)
    }
}

/// Admits a request and chooses its route and version.
///
/// # Errors
/// The refusal to answer with; the pass knows what was chosen before it.
pub(crate) fn admit(session: &ServerSession, pass: &mut Pass) -> Result<(), Refusal> {
    let head = session.req_header();
    let snapshot = pass.gear.current.load();
    let handle = Arc::clone(&pass.exchange.handle);
    let trusted = snapshot.trusts(handle.client);
    let mut view = View { head, client: handle.client, hidden_length: message::hides_length(session) };
    if trusted {
        view.client = forwarded_client(&view).or(handle.client);
    }
    pass.client = view.client;
    pass.request_id = given_request_id(&view, trusted).map_or_else(message::random_token, str::to_owned);
    if pass.gear.access_log.enabled() {
        pass.head = Some(Box::new(logged_head(&view)));
    }
    let decision = decide(&view, &snapshot, &handle.entrance())?;
    let too_large = decision.is_too_large(&snapshot);
    let Decision { admitted, route, service, underscore } = decision;
    let choice = service.chooser.choose(&view, message::random_token);
    let upgrade = admitted.upgrade.and_then(|offer| offer.choose(&service.upgrades)).map(Box::from);
    let routed = Routed {
        version: choice.version,
        reason: choice.reason,
        key: choice.key,
        new_key: choice.new_key,
        target: admitted.target_changed.then(|| admitted.target.as_bytes().into()),
        authority: admitted.authority.into(),
        upgrade,
        underscore,
        has_body: admitted.framing.has_body(),
        length: match admitted.framing {
            Framing::Length(length) | Framing::Frames { length: Some(length) } => Some(length),
            _ => None,
        },
        expects: admitted.expect_continue,
        manner: None,
        ahead: BytesMut::new(),
        tried: Tried::default(),
        endpoint: None,
        attempt: Attempt { began: Instant::now(), fresh: false, reused: false, failed: None },
        retries: Retries::default(),
        informational: 0,
        first_byte: None,
        connect: None,
        route: Arc::clone(route),
        service: Arc::clone(service),
        snapshot,
    };
    pass.stage = Stage::Routed(Box::new(routed));
    pass.request_entered();
    if !choice.available {
        pass.no_endpoint();
        return Err(NO_ENDPOINT.refusal);
    }
    if too_large { Err(BODY_TOO_LARGE) } else { Ok(()) }
}

/// The client that a trusted proxy names: the last address of `X-Forwarded-For`.
pub(crate) fn forwarded_client(view: &impl Request) -> Option<IpAddr> {
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

/// What the access log says of a request's head.
pub(crate) fn logged_head(view: &impl Request) -> Head {
    Head {
        method: LogText::word(view.method().as_bytes()),
        host: LogText::host(view.authority().or_else(|| view.header("host")).unwrap_or_default()),
        path: LogText::path(view.target()),
        protocol: match view.version() {
            HttpVersion::Http10 => "HTTP/1.0",
            HttpVersion::Http11 => "HTTP/1.1",
            HttpVersion::Http2 => "HTTP/2",
        },
    }
}
