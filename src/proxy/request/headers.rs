//! What becomes of a request's fields on their way to the endpoint, and which Weir adds: one rule for every lane.
//!
//! A field that says where a request comes from is worth as much as the peer that sends it. A trusted proxy's is
//! passed on or continued. Anybody else's ends here, whatever its name after `X-Forwarded-`, because some endpoint
//! believes it: frameworks build links from `X-Forwarded-Prefix`, and take the user from `X-Forwarded-User`. Weir's
//! own take their place.
//!
//! `Via` says nothing about the client. It is the trace of the message, to which every intermediary appends and from
//! which none takes (RFC 9110 §7.6.3), so it is continued from everybody. As one line, since more than one makes
//! readers of the first value blind for ours.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName};

use super::context::Assignment;
use super::flags::FlagValues;
use crate::snapshot::{FLAG_HEADER, FlagSwitch, VERSION_HEADER};
use crate::traffic::split::{OverrideSource, Reason};
use crate::traffic::validate::spelling::Underscore;
use crate::traffic::{HttpVersion, cookie};

/// What becomes of a field on its way to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderAction {
    /// It goes on as it is.
    Keep,
    /// It concerns the client's connection only (RFC 9110 §7.6.1).
    HopByHop,
    /// It ends here.
    Drop,
    /// It is passed from trusted peers only.
    Trusted,
    /// It is continued from trusted peers.
    ForwardedFor,
    /// It stands if a trusted peer wrote it.
    ForwardedProto,
    /// It stands if a trusted peer wrote it.
    ForwardedHost,
    /// The service may have one of its own.
    Host,
    /// Weir writes it; a trusted peer's value is taken over.
    RequestId,
    /// It is continued.
    Via,
    /// It stands if the client may wait for `100 Continue`.
    Expect,
    /// It goes on without the cookie that names a version.
    Cookie,
}

/// What Weir adds to a request for its endpoint, and what decides about the fields that came.
#[derive(Clone, Copy)]
pub(crate) struct RequestRewrite<'a> {
    /// Where the client connected from; empty on a unix socket.
    pub(crate) peer: &'a str,
    /// Whether what the client says about itself is believed.
    pub(crate) trusted: bool,
    /// What becomes of names with an underscore, if there are any.
    pub(crate) underscore: Option<Underscore>,
    pub(crate) tls: bool,
    /// As the client wrote it.
    pub(crate) authority: &'a str,
    pub(crate) request_id: &'a [u8],
    /// What the client speaks.
    pub(crate) version: HttpVersion,
    /// The client may wait for `100 Continue`: it has a body and speaks HTTP/1.1 or later (RFC 9110 §10.1.1).
    pub(crate) may_wait: bool,
    /// How the request may have named its version, which ends here: it is for Weir alone.
    pub(crate) overrides: Option<&'a OverrideSource>,
    /// The version that it got, and why, if the endpoint is told.
    pub(crate) told: Option<ToldVersion<'a>>,
    /// Feature flags, each a field.
    pub(crate) flags: FlagValues<'a>,
}

/// Which fields came that Weir continues or leaves alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CameFields {
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
    via: bool,
}

/// A head to which Weir adds its fields.
pub(crate) trait AddFields {
    /// Why it takes none.
    type Error;

    /// Adds a field with this value alone.
    fn field(&mut self, name: &'static str, value: &[u8]) -> Result<(), Self::Error>;

    /// The same for a field that is written already: `line` is its line in HTTP/1.1.
    #[inline]
    fn line(&mut self, name: &'static str, line: &str) -> Result<(), Self::Error> {
        let value = line.get(name.len() + 2..line.len().saturating_sub(2)).unwrap_or_default();
        self.field(name, value.as_bytes())
    }

    /// Adds a field whose name the configuration made.
    fn named(&mut self, name: &HeaderName, value: &'static str) -> Result<(), Self::Error>;

    /// Adds one line of the members that came, as far as they are text, and `own` behind them.
    fn member(&mut self, name: &'static str, own: &str) -> Result<(), Self::Error>;
}

impl RequestRewrite<'_> {
    /// What becomes of the field `name`.
    // Asked for each field of each request; the compiler would make it a call.
    #[inline(always)]
    pub(crate) fn action(&self, name: &str) -> HeaderAction {
        let action = action_of(name, self.trusted, self.underscore);
        if action == HeaderAction::Keep {
            return self.overrides.map_or(action, |overrides| action_of_overriding(name, overrides));
        }
        let drops = action.is_replaced(self.trusted) || (action == HeaderAction::Expect && !self.may_wait);
        if drops { HeaderAction::Drop } else { action }
    }

    /// What goes on of a `Cookie` field's value; none if nothing does.
    pub(crate) fn cookies<'v>(&self, value: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        match self.overrides.and_then(|overrides| overrides.cookie.as_deref()) {
            Some(name) => cookie::without(value, name),
            None => Some(Cow::Borrowed(value)),
        }
    }

    /// Adds what Weir writes to `head`, after the fields that came.
    ///
    /// # Errors
    /// Those of `head`.
    #[inline]
    pub(crate) fn add_to<H: AddFields>(&self, came: CameFields, head: &mut H) -> Result<(), H::Error> {
        const FORWARDED_FOR: &str = "x-forwarded-for";
        if came.forwarded_for {
            head.member(FORWARDED_FOR, self.peer)?;
        } else if !self.peer.is_empty() {
            head.field(FORWARDED_FOR, self.peer.as_bytes())?;
        }
        if !came.forwarded_proto {
            let line = if self.tls { "x-forwarded-proto: https\r\n" } else { "x-forwarded-proto: http\r\n" };
            head.line("x-forwarded-proto", line)?;
        }
        if !came.forwarded_host {
            head.field("x-forwarded-host", self.authority.as_bytes())?;
        }
        head.field("x-request-id", self.request_id)?;
        if let Some(told) = self.told {
            let [version, reason] = told.lines();
            head.line(VERSION, version)?;
            head.line(VERSION_REASON, reason)?;
        }
        for (_, flag, version) in self.flags.iter() {
            head.named(&flag.header, if version == FlagSwitch::ON { "on" } else { "off" })?;
        }
        let own = match self.version {
            HttpVersion::Http10 => "1.0 weir",
            HttpVersion::Http11 => "1.1 weir",
            HttpVersion::Http2 => "2.0 weir",
        };
        if came.via { head.member("via", own) } else { head.field("via", own.as_bytes()) }
    }
}

impl CameFields {
    /// Notes what becomes of a field that came.
    #[inline]
    pub(crate) fn note(&mut self, action: HeaderAction) {
        match action {
            HeaderAction::ForwardedFor => self.forwarded_for = true,
            HeaderAction::ForwardedProto => self.forwarded_proto = true,
            HeaderAction::ForwardedHost => self.forwarded_host = true,
            HeaderAction::Via => self.via = true,
            _ => {}
        }
    }
}

/// The version that a request got, by name.
pub(crate) const VERSION: &str = VERSION_HEADER;
/// Why it got that version: `weight`, `affinity`, `override` or `failover`.
pub(crate) const VERSION_REASON: &str = "weir-version-reason";

/// On the copies of requests that a mirror gets: the version that has the request itself.
pub(crate) const MIRROR: &str = "weir-mirror";

/// What an endpoint is told of the version that a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToldVersion<'a> {
    /// The line of [`VERSION`].
    pub(crate) version: &'a str,
    pub(crate) reason: Reason,
}

impl<'s> Assignment<'s> {
    /// The version and the reason, if endpoints are told.
    #[inline]
    pub(crate) fn told(&self) -> Option<ToldVersion<'s>> {
        let version = self.version.told.as_deref()?;
        Some(ToldVersion { version, reason: self.reason })
    }
}

impl<'a> ToldVersion<'a> {
    /// The lines of [`VERSION`] and [`VERSION_REASON`].
    pub(crate) const fn lines(self) -> [&'a str; 2] {
        let reason = match self.reason {
            Reason::Override => "weir-version-reason: override\r\n",
            Reason::Affinity => "weir-version-reason: affinity\r\n",
            Reason::Weight => "weir-version-reason: weight\r\n",
            Reason::Failover => "weir-version-reason: failover\r\n",
        };
        [self.version, reason]
    }
}

/// What becomes of a field that otherwise goes on, where requests may name their version.
#[cold]
fn action_of_overriding(name: &str, overrides: &OverrideSource) -> HeaderAction {
    let is_header = overrides.header.as_deref().is_some_and(|header| name.eq_ignore_ascii_case(header));
    match overrides.cookie {
        _ if is_header => HeaderAction::Drop,
        Some(_) if name.eq_ignore_ascii_case("cookie") => HeaderAction::Cookie,
        _ => HeaderAction::Keep,
    }
}

/// What becomes of the field `name`; `underscore` is what is to become of names with one, if the request has any.
#[inline(always)]
fn action_of(name: &str, trusted: bool, underscore: Option<Underscore>) -> HeaderAction {
    match underscore {
        Some(choice) if name.contains('_') => action_of_underscored(name, trusted, choice),
        _ => action(name),
    }
}

/// An endpoint may read the underscore as a hyphen, so it must not get a field that it would then believe.
#[cold]
fn action_of_underscored(name: &str, trusted: bool, choice: Underscore) -> HeaderAction {
    let read = action(&name.replace('_', "-"));
    let ends = choice != Underscore::Allow || read == HeaderAction::HopByHop || read.is_replaced(trusted);
    if ends { HeaderAction::Drop } else { HeaderAction::Keep }
}

/// What becomes of the field `name`, in any case.
#[inline(always)]
pub(super) fn action(name: &str) -> HeaderAction {
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    // By length first: most fields are none of these.
    match name.len() {
        2 if is("te") => HeaderAction::HopByHop,
        3 if is("via") => HeaderAction::Via,
        4 if is("host") => HeaderAction::Host,
        6 if is("expect") => HeaderAction::Expect,
        7 if is("upgrade") || is("trailer") => HeaderAction::HopByHop,
        9 if is("forwarded") || is("x-real-ip") => HeaderAction::Trusted,
        10 if is("connection") || is("keep-alive") => HeaderAction::HopByHop,
        // The certificate of a TLS client (RFC 9440 §2.4: what came from outside must go).
        11 if is(MIRROR) => HeaderAction::Drop,
        11 if is("client-cert") || is("x-client-ip") || is("x-forwarded") => HeaderAction::Trusted,
        12 if is("x-request-id") => HeaderAction::RequestId,
        12 if is(VERSION) => HeaderAction::Drop,
        13 if is("forwarded-for") => HeaderAction::Trusted,
        14 if is("http2-settings") => HeaderAction::HopByHop,
        14 if is("true-client-ip") => HeaderAction::Trusted,
        15 if is("x-forwarded-for") => HeaderAction::ForwardedFor,
        16 if is("proxy-connection") => HeaderAction::HopByHop,
        16 if is("x-forwarded-host") => HeaderAction::ForwardedHost,
        16 if is("cf-connecting-ip") || is("fastly-client-ip") => HeaderAction::Trusted,
        17 if is("transfer-encoding") => HeaderAction::HopByHop,
        17 if is("x-forwarded-proto") => HeaderAction::ForwardedProto,
        17 if is("client-cert-chain") => HeaderAction::Trusted,
        18 if is("proxy-authenticate") => HeaderAction::HopByHop,
        19 if is("proxy-authorization") => HeaderAction::HopByHop,
        19 if is("x-cluster-client-ip") => HeaderAction::Trusted,
        19 if is(VERSION_REASON) => HeaderAction::Drop,
        // Its first letter alone tells it from nearly every other.
        _ if matches!(name.as_bytes().first(), Some(b'x' | b'X')) => action_of_family(name),
        _ => HeaderAction::Keep,
    }
}

/// What becomes of a field whose name begins as several do.
fn action_of_family(name: &str) -> HeaderAction {
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if begins("x-forwarded-") {
        HeaderAction::Trusted
    } else if begins(FLAG_HEADER) {
        HeaderAction::Drop
    } else {
        HeaderAction::Keep
    }
}

impl HeaderAction {
    /// Whether the field must not go on as its sender wrote it.
    fn is_replaced(self, trusted: bool) -> bool {
        match self {
            Self::Trusted | Self::ForwardedFor | Self::ForwardedProto | Self::ForwardedHost => !trusted,
            Self::RequestId | Self::Drop => true,
            Self::Keep | Self::HopByHop | Self::Host | Self::Via | Self::Expect | Self::Cookie => false,
        }
    }
}

/// The fields that `Connection` names: they concern the connection only (RFC 9110 §7.6.1).
pub(crate) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|token| token.trim().parse().ok()).collect()
}

/// Takes out of a request for an HTTP/2 endpoint what concerns only the client's connection (RFC 9110 §7.6.1,
/// RFC 9113 §8.2.2); `version` is what the client speaks.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, version: HttpVersion) {
    let nominated = nominated(headers);
    let ending = headers.keys().filter(|name| is_hop_by_hop(name, version, nominated.contains(*name)));
    let ending: Vec<HeaderName> = ending.cloned().collect();
    for name in ending {
        headers.remove(name);
    }
}

/// Whether a field, which `Connection` names or does not, concerns only the connection of a client of this version, and is
/// not for an HTTP/2 endpoint.
fn is_hop_by_hop(name: &HeaderName, version: HttpVersion, nominated: bool) -> bool {
    // Between HTTP/2 and HTTP/2 they may stay.
    let stays = version == HttpVersion::Http2 && [header::TE, header::TRAILER].contains(name);
    !stays && (nominated || action(name.as_str()) == HeaderAction::HopByHop)
}

/// The address of a member of `X-Forwarded-For`. Some proxies (Azure's, IIS) write the client's port behind it.
pub(crate) fn address(member: &str) -> Option<IpAddr> {
    let member = member.trim();
    let bare = || member.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || member.parse::<SocketAddr>().map(|address| address.ip()).ok();
    member.parse().ok().or_else(with_port).or_else(bare).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests;
