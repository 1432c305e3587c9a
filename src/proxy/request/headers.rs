//! What a request's fields say about where it comes from, and what becomes of them: one rule for every lane.
//!
//! Such a field is worth as much as the peer that sends it. A trusted proxy's is passed on or continued. Anybody else's
//! ends here, whatever its name after `X-Forwarded-`, because some endpoint believes it: frameworks build links from
//! `X-Forwarded-Prefix`, and take the user from `X-Forwarded-User`. Weir's own take their place.
//!
//! `Via` says nothing about the client. It is the trace of the message, to which every intermediary appends and from
//! which none takes (RFC 9110 §7.6.3), so it is continued from everybody. As one line, since more than one makes
//! readers of the first value blind for ours.

use std::net::{IpAddr, SocketAddr};

use crate::traffic::validate::spelling::Underscore;

/// What becomes of a field on its way to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on as it is.
    Pass,
    /// It concerns this connection only.
    Hop,
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
}

/// What becomes of the field `name`; `underscore` is what is to become of names with one, if the request has any.
#[inline]
pub(crate) fn fate_of(name: &str, trusted: bool, underscore: Option<Underscore>) -> Fate {
    match underscore {
        Some(choice) if name.contains('_') => fate_of_underscored(name, trusted, choice),
        _ => fate(name),
    }
}

/// An endpoint may read the underscore as a hyphen, so it must not get a field that it would then believe.
#[cold]
fn fate_of_underscored(name: &str, trusted: bool, choice: Underscore) -> Fate {
    let read = fate(&name.replace('_', "-"));
    let ends = choice != Underscore::Allow || read == Fate::Hop || read.is_replaced(trusted);
    if ends { Fate::Drop } else { Fate::Pass }
}

/// What becomes of the field `name`, in any case.
#[inline]
pub(crate) fn fate(name: &str) -> Fate {
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    // By length first: most fields are none of these.
    match name.len() {
        2 if is("te") => Fate::Hop,
        3 if is("via") => Fate::Via,
        4 if is("host") => Fate::Host,
        7 if is("upgrade") || is("trailer") => Fate::Hop,
        9 if is("forwarded") || is("x-real-ip") => Fate::Trusted,
        10 if is("connection") || is("keep-alive") => Fate::Hop,
        // The certificate of a TLS client (RFC 9440 §2.4: what came from outside must go).
        11 if is("client-cert") || is("x-client-ip") || is("x-forwarded") => Fate::Trusted,
        12 if is("x-request-id") => Fate::RequestId,
        13 if is("forwarded-for") => Fate::Trusted,
        14 if is("http2-settings") => Fate::Hop,
        14 if is("true-client-ip") => Fate::Trusted,
        15 if is("x-forwarded-for") => Fate::ForwardedFor,
        16 if is("proxy-connection") => Fate::Hop,
        16 if is("x-forwarded-host") => Fate::ForwardedHost,
        16 if is("cf-connecting-ip") || is("fastly-client-ip") => Fate::Trusted,
        17 if is("transfer-encoding") => Fate::Hop,
        17 if is("x-forwarded-proto") => Fate::ForwardedProto,
        17 if is("client-cert-chain") => Fate::Trusted,
        18 if is("proxy-authenticate") => Fate::Hop,
        19 if is("proxy-authorization") => Fate::Hop,
        19 if is("x-cluster-client-ip") => Fate::Trusted,
        _ if is_forwarded(name) => Fate::Trusted,
        _ => Fate::Pass,
    }
}

/// Whether the name begins with `X-Forwarded-`.
fn is_forwarded(name: &str) -> bool {
    // Its first letter alone tells it from nearly every other.
    matches!(name.as_bytes().first(), Some(b'x' | b'X'))
        && name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

const PREFIX: &str = "x-forwarded-";

impl Fate {
    /// Whether the field must not go on as its sender wrote it.
    pub(crate) fn is_replaced(self, trusted: bool) -> bool {
        match self {
            Self::Trusted | Self::ForwardedFor | Self::ForwardedProto | Self::ForwardedHost => !trusted,
            Self::RequestId | Self::Drop => true,
            Self::Pass | Self::Hop | Self::Host | Self::Via => false,
        }
    }
}

/// The address of a member of `X-Forwarded-For`. Some proxies (Azure's, IIS) write the client's port behind it.
pub(crate) fn address(member: &str) -> Option<IpAddr> {
    let member = member.trim();
    let bare = || member.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || member.parse::<SocketAddr>().map(|address| address.ip()).ok();
    member.parse().ok().or_else(with_port).or_else(bare).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_says_where_a_request_comes_from_is_known_in_any_case() {
        for name in [
            "X-Forwarded-Port",
            "x-forwarded-prefix",
            "X-FORWARDED-SSL",
            "X-Forwarded-Server",
            "X-Forwarded-Scheme",
            "X-Forwarded-Uri",
            "X-Forwarded-User",
            "X-Forwarded-Email",
            "X-Forwarded-Client-Cert",
            "X-Forwarded-Preferred-Username",
            "X-Forwarded-",
            "X-Forwarded",
            "Forwarded",
            "Forwarded-For",
            "X-Real-IP",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "Client-Cert",
            "Client-Cert-Chain",
        ] {
            assert_eq!(fate(name), Fate::Trusted, "{name}");
            assert!(fate(name).is_replaced(false) && !fate(name).is_replaced(true), "{name}");
        }
        for (name, known) in [
            ("X-Forwarded-For", Fate::ForwardedFor),
            ("x-forwarded-proto", Fate::ForwardedProto),
            ("X-Forwarded-HOST", Fate::ForwardedHost),
            ("X-Request-ID", Fate::RequestId),
            ("Via", Fate::Via),
            ("HOST", Fate::Host),
            ("Te", Fate::Hop),
        ] {
            assert_eq!(fate(name), known, "{name}");
        }
        for name in ["", "x", "Accept", "X-Forward", "X-ForwardedFor", "XX-Forwarded-For", "Cookie", "X-Api-Key", "x-é"]
        {
            assert_eq!(fate(name), Fate::Pass, "{name}");
        }
    }

    #[test]
    fn a_name_with_an_underscore_is_read_as_endpoints_may_read_it() {
        let fate = |name, trusted, choice| fate_of(name, trusted, Some(choice));
        for name in ["x_forwarded_for", "X_Forwarded-Port", "x-forwarded_user", "X_REAL_IP", "client_cert"] {
            assert_eq!(fate(name, false, Underscore::Allow), Fate::Drop, "{name}");
            assert_eq!(fate(name, true, Underscore::Allow), Fate::Pass, "{name}");
            assert_eq!(fate(name, true, Underscore::Drop), Fate::Drop, "{name}");
        }
        for name in ["x_request_id", "keep_alive", "proxy_connection", "http2_settings"] {
            assert_eq!(fate(name, true, Underscore::Allow), Fate::Drop, "{name}");
        }
        for trusted in [false, true] {
            assert_eq!(fate("api_key", trusted, Underscore::Allow), Fate::Pass);
            assert_eq!(fate("api_key", trusted, Underscore::Drop), Fate::Drop);
            assert_eq!(fate("api-key", trusted, Underscore::Drop), Fate::Pass);
        }
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        for (member, found) in [
            ("203.0.113.7", "203.0.113.7"),
            (" 203.0.113.7:4711 ", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ] {
            assert_eq!(address(member), Some(found.parse().unwrap()), "{member}");
        }
        for member in [
            "",
            "unknown",
            "_hidden",
            "203.0.113.7:",
            "203.0.113.7:x",
            "203.0.113.7:65536",
            "[2001:db8::1",
            "[203.0.113.7]:",
        ] {
            assert_eq!(address(member), None, "{member}");
        }
    }
}
