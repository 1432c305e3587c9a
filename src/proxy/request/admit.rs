//! Admission: the decisions on one request before anything goes to an endpoint, in their order, for every lane.
//!
//! ```text
//! who sent it ─ validate ─ route ─ does this lane carry it? ─ split ─ has its version an endpoint, is it too large?
//! ```
//!
//! Invariant: nothing is counted, and no version has its turn, before the lane said that it carries the request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::context::{Assignment, Logged};
use super::decision::decision;
use super::failure::{BODY_TOO_LARGE, INTERNAL, MISDIRECTED, NO_ENDPOINT, NO_ROUTE};
use super::flags::FlagValues;
use super::upload::BodyLimit;
use super::{headers, token};
use crate::model::Name;
use crate::proxy::codec::h2::requests;
use crate::proxy::shared::Shared;
use crate::snapshot::{Route, Service, Snapshot, Version};
use crate::traffic::split::Choice;
use crate::traffic::validate::refusal::FIELD_NAME_UNDERSCORE;
use crate::traffic::validate::spelling::Underscore;
use crate::traffic::validate::{self, Framing, Validated};
use crate::traffic::{HttpVersion, Refusal, Request};

/// A request's head as a lane read it.
pub(crate) trait RequestHead: Request {
    /// Whom [`Request::client`] names from now on.
    fn set_client(&mut self, client: Option<IpAddr>);
}

/// Where a request came in, and from whom.
pub(crate) struct Ingress<'r> {
    pub(crate) listener: &'r Name,
    /// The name that the client's TLS handshake asked for.
    pub(crate) sni: Option<&'r str>,
    /// As the socket or a trusted PROXY header has it.
    pub(crate) peer: Option<IpAddr>,
    /// The client's connection is under TLS.
    pub(crate) tls: bool,
}

/// What is known of every request whose head is complete, whatever becomes of it.
pub(crate) struct Identified<'r, H> {
    /// Its head, which names the client.
    pub(crate) head: &'r H,
    /// Whether its sender is believed what it says of itself.
    pub(crate) trusted: bool,
    pub(crate) request_id: RequestId<'r>,
    /// None without an access log.
    pub(crate) logged: Option<Box<Logged>>,
}

/// Why a request has no version.
pub(crate) enum Rejected {
    /// It is refused.
    Refused(Refusal),
    /// The lane carries no such requests.
    NotCarried,
}

/// A request that has a version.
pub(crate) struct Admitted<'r, 's> {
    pub(crate) routed: RoutedRequest<'r, 's>,
    pub(crate) version: &'s Version,
    /// Why that version, and the client's affinity key.
    pub(crate) choice: Choice,
    /// The cookie that keeps its client on its version, for the response to set; none if the client has it.
    pub(crate) set_cookie: Option<String>,
    /// The service's flags for it.
    pub(crate) flags: FlagValues<'s>,
    /// The local response that it gets instead of going to an endpoint.
    pub(crate) refusal: Option<Refusal>,
}

/// A request that may pass, and where it goes.
pub(crate) struct RoutedRequest<'r, 's> {
    /// The request as every later stage reads it.
    pub(crate) validated: Validated<'r>,
    /// The route it takes.
    pub(crate) route: &'s Arc<Route>,
    /// The service that the route leads to.
    pub(crate) service: &'s Arc<Service>,
    /// What becomes of header names with an underscore; none if no name has one.
    pub(crate) underscore: Option<Underscore>,
    /// Whether the body is longer than the service takes, as far as its length is declared.
    pub(crate) too_large: bool,
}

/// A request's id: one that a trusted sender gave, or a new one.
pub(crate) enum RequestId<'r> {
    Given(&'r [u8]),
    New([u8; 32]),
}

impl<'r, H: RequestHead> Identified<'r, H> {
    /// Decides who sent a request, which comes before everything else.
    #[inline]
    pub(crate) fn of(head: &'r mut H, ingress: &Ingress<'_>, shared: &Shared, snapshot: &Snapshot) -> Self {
        let trusted = identify(head, snapshot, ingress);
        let head = &*head;
        let request_id = RequestId::of(head, trusted);
        let logged =
            shared.access_log.enabled().then(|| Box::new(Logged::of(head, request_id.as_bytes(), ingress.listener)));
        Self { head, trusted, request_id, logged }
    }
}

/// Admits a request: decides whether it may pass, and which route and version it takes. Of a request that a lane does not
/// carry, as `carries` says, nothing is counted.
#[inline]
pub(crate) fn admit<'r, 's, H: RequestHead>(
    head: &'r H,
    ingress: &Ingress<'_>,
    snapshot: &'s Snapshot,
    carries: impl FnOnce(&RoutedRequest<'r, 's>) -> bool,
) -> Result<Admitted<'r, 's>, Rejected> {
    let routed = decide(head, snapshot, ingress).map_err(Rejected::Refused)?;
    if !carries(&routed) {
        return Err(Rejected::NotCarried);
    }
    let mut choice = routed.service.chooser.choose(head, token::random_token, unix_seconds);
    // The chooser knows the service's versions and no others.
    let version = routed.service.versions.get(choice.version).ok_or(Rejected::Refused(INTERNAL))?;
    version.series.decided(decision(choice.reason));
    if let Some(series) = choice.cohort.and_then(|at| routed.service.cohorts.get(at)?.series.get(choice.version)) {
        series.decided();
    }
    let mut refusal = routed.too_large.then_some(BODY_TOO_LARGE);
    // Where nobody takes over, endpoints that are wanted are tried all the same: it is that or a refusal.
    if !choice.available && !version.panics() {
        NO_ENDPOINT.charge(&version.series);
        refusal = Some(NO_ENDPOINT.refusal);
    }
    let cookie = choice.new_cookie.as_deref().zip(routed.service.affinity_cookie.as_ref());
    let set_cookie = cookie.map(|(value, cookie)| cookie.set(value, came_over_tls(head, snapshot, ingress)));
    let flags = FlagValues::choose(snapshot, routed.route.service, head, choice.key);
    if routed.service.hashes_addresses {
        choice.key = routed.service.chooser.address_key(head);
    }
    Ok(Admitted { routed, version, choice, set_cookie, flags, refusal })
}

/// The time, for what expires.
#[cold]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether the client's own connection was under TLS: this one, or the one to a trusted proxy that says so.
#[cold]
fn came_over_tls(head: &impl Request, snapshot: &Snapshot, ingress: &Ingress<'_>) -> bool {
    let says_so = || head.header("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"));
    ingress.tls || (snapshot.trusts(ingress.peer) && says_so())
}

impl Ingress<'_> {
    /// Whether a request for `host` may not come in here: a certificate of its own would have been shown to it. What
    /// else TLS asks of clients is the same for all of a listener.
    fn misdirects(&self, snapshot: &Snapshot, host: &str) -> bool {
        let Some(sni) = self.sni.filter(|sni| !host.is_empty() && !sni.eq_ignore_ascii_case(host)) else {
            return false;
        };
        snapshot.certificates.get(self.listener).is_some_and(|tls| !tls.certificates.serve_alike(sni, host))
    }
}

/// Decides whether a request may pass and which route it takes. Whoever asks before [`admit`] does gets the same answer.
///
/// # Errors
/// The refusal to answer with.
pub(crate) fn decide<'r, 's>(
    view: &'r impl Request,
    snapshot: &'s Snapshot,
    ingress: &Ingress<'_>,
) -> Result<RoutedRequest<'r, 's>, Refusal> {
    if view.version() == HttpVersion::Http2
        && let Some(cause) = view.header(requests::MALFORMED)
    {
        return Err(requests::refusal(cause));
    }
    let limits = snapshot.limits_of(ingress.listener);
    let validated = validate::validate(view, limits)?;
    if ingress.misdirects(snapshot, &validated.host) {
        return Err(MISDIRECTED);
    }
    let route = snapshot.table.find(&validated.host, &validated.path, view).ok_or(NO_ROUTE)?;
    let service = snapshot.service_of(route).ok_or(NO_ROUTE)?;
    let underscore =
        if validated.underscores { Some(underscore(view, (route, service), limits.underscore)?) } else { None };
    let limit = service.body_limit(snapshot);
    let too_large = declared(validated.framing).is_some_and(|length| limit.check(length).is_err());
    Ok(RoutedRequest { validated, route, service, underscore, too_large })
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

impl RoutedRequest<'_, '_> {
    /// The length of the body, if the client declared it.
    pub(crate) fn length(&self) -> Option<u64> {
        declared(self.validated.framing)
    }
}

/// The length that a body of this framing is declared to have.
fn declared(framing: Framing) -> Option<u64> {
    match framing {
        Framing::Length(length) | Framing::Frames { length: Some(length) } => Some(length),
        _ => None,
    }
}

impl<'s> Admitted<'_, 's> {
    /// Where the request goes.
    pub(crate) fn assignment(&self) -> Assignment<'s> {
        let &Self { ref routed, version, ref choice, flags, .. } = self;
        let (route, service) = (&**routed.route, &**routed.service);
        let &Choice { version: version_at, reason, key, cohort, .. } = choice;
        Assignment { route, service, version, version_at, reason, cohort: service.cohort_name(cohort), key, flags }
    }
}

impl Service {
    /// The largest request body that is passed on.
    pub(crate) fn body_limit(&self, snapshot: &Snapshot) -> BodyLimit {
        BodyLimit(self.body_bytes.or(snapshot.limits.body_bytes))
    }
}

/// Finds out who sent a request: the peer, or the one that a trusted proxy names. Whether it is believed what it says of
/// itself.
pub(crate) fn identify(head: &mut impl RequestHead, snapshot: &Snapshot, ingress: &Ingress<'_>) -> bool {
    let trusted = snapshot.trusts(ingress.peer);
    let named = if trusted { forwarded_client(head) } else { None };
    head.set_client(named.or(ingress.peer));
    trusted
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

impl<'r> RequestId<'r> {
    /// The id of a request: the one that it says if it is trusted and that is one, or a new one.
    pub(crate) fn of(view: &'r impl Request, trusted: bool) -> Self {
        let given = if trusted { view.header("x-request-id") } else { None };
        match given.filter(|id| is_request_id(id)) {
            Some(id) => Self::Given(id),
            None => Self::New(token::token()),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Given(id) => id,
            Self::New(token) => token,
        }
    }
}

/// Whether a value may be a request id: short, and visible.
fn is_request_id(value: &[u8]) -> bool {
    (1..=128).contains(&value.len()) && value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
}
