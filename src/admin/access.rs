//! Who may talk to the control API.
//!
//! Three questions, cheapest first, all answered from the head of the request, so that an attempt costs a
//! comparison and nothing else: is it meant for this host, does it come from this host's own pages, does it
//! carry the token.
//!
//! The first two are for browsers, which will send a request to loopback for any page in the world. A page
//! that makes its own name resolve to 127.0.0.1 (DNS rebinding) shows in `Host`; a form or script of a foreign
//! page shows in `Origin` or `Sec-Fetch-Site` (Fetch Metadata). No browser lets a page forge these.
//!
//! Invariant: the token appears in no message, log line or `Debug` output.

use std::fmt;
use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use subtle::ConstantTimeEq;

use super::wire::Problem;

/// What a request to the control API must show.
#[derive(Clone, Default)]
pub(crate) struct Auth {
    /// The bearer token, if one is demanded.
    pub(crate) token: Option<String>,
    /// Names that `Host` may have besides loopback and the address that the connection came in on.
    pub(crate) allowed_hosts: Vec<String>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("allowed_hosts", &self.allowed_hosts).finish_non_exhaustive()
    }
}

/// How a connection came in; an extension of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Over TCP, to this address of ours.
    Inet(IpAddr),
    /// Over a unix socket, which no browser can reach.
    Unix,
}

impl Auth {
    /// Whether the request may go on.
    ///
    /// # Errors
    /// 400, 401 or 403 and why.
    pub(super) fn admit(&self, head: &Parts) -> Result<(), Problem> {
        let arrival = head.extensions.get::<Arrival>().copied();
        if arrival != Some(Arrival::Unix) {
            self.own_host(head, arrival)?;
        }
        own_origin(&head.headers)?;
        self.token(&head.headers)
    }

    fn own_host(&self, head: &Parts, arrival: Option<Arrival>) -> Result<(), Problem> {
        let authority = authority(&head.headers)?;
        // A target in absolute form has its own authority, which must not say something else.
        for authority in head.uri.authority().map(|of_target| of_target.as_str()).into_iter().chain([authority]) {
            let host = host_of(authority).unwrap_or_default();
            if !self.is_own(host, arrival) {
                let detail = "the request's Host is not this control API; use its address, or add the name to \
                              `admin.allowed_hosts` in the configuration";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
        }
        Ok(())
    }

    fn is_own(&self, host: &str, arrival: Option<Arrival>) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback()
                || arrival == Some(Arrival::Inet(address))
                || self.allowed_hosts.iter().any(|allowed| allowed == host);
        }
        let allowed = |allowed: &str| host_of(allowed).is_some_and(|name| name.eq_ignore_ascii_case(host));
        host.eq_ignore_ascii_case("localhost") || self.allowed_hosts.iter().any(|name| allowed(name))
    }

    fn token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        match shown {
            // The length may be learnt by timing, the content may not.
            Some(shown) if bool::from(shown.as_bytes().ct_eq(token.as_bytes())) => Ok(()),
            Some(_) => Err(Problem::new(StatusCode::UNAUTHORIZED, "the bearer token is not the right one")),
            None => {
                let detail = "a bearer token is needed: `weir --token-file FILE …`, WEIR_TOKEN, or the header \
                              `Authorization: Bearer …`";
                Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
            }
        }
    }
}

/// The credentials of the scheme `Bearer`, whose name is compared without case (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The value of the one `Host`.
fn authority(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        (Some(host), None) => Ok(host.to_str().unwrap_or_default()),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "a request has exactly one Host")),
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address and the dot of the root.
fn host_of(authority: &str) -> Option<&str> {
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let host = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (port.is_empty() || port.strip_prefix(':').is_some_and(digits)).then_some(address)?
    } else {
        match authority.split_once(':') {
            Some((host, port)) => digits(port).then_some(host)?,
            None => authority,
        }
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty() && !host.contains(['@', '/'])).then_some(host)
}

/// Refuses what a browser sends on behalf of a page that is not this host's own.
fn own_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let foreign = || {
        let detail = "the request comes from a web page of another site; only this control API's own pages may do that";
        Problem::new(StatusCode::FORBIDDEN, detail)
    };
    for site in headers.get_all(SEC_FETCH_SITE) {
        if site != "same-origin" && site != "none" {
            return Err(foreign());
        }
    }
    let own = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for origin in headers.get_all(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, authority)| authority);
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own)) {
            return Err(foreign());
        }
    }
    Ok(())
}

/// Fetch Metadata (W3C): where the request was made, in relation to its target.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn outcome(auth: &Auth, arrival: Arrival, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get("/api/v1/status").extension(arrival);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        auth.admit(&request.body(()).unwrap().into_parts().0).err().map_or(200, |problem| problem.status)
    }

    fn loopback() -> Arrival {
        Arrival::Inet("127.0.0.1".parse().unwrap())
    }

    #[test]
    fn loopback_names_and_the_bound_address_are_this_host() {
        let auth = Auth { token: None, allowed_hosts: vec!["weir.internal".to_owned()] };
        let bound = Arrival::Inet("10.1.2.3".parse().unwrap());
        let own = [
            "localhost:9901",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:9901",
            "10.1.2.3:9901",
            "Weir.Internal",
            "weir.internal.:80",
        ];
        for host in own {
            assert_eq!(outcome(&auth, bound, &[("host", host)]), 200, "{host}");
        }
    }

    #[test]
    fn every_other_host_is_refused_because_of_dns_rebinding() {
        let auth = Auth::default();
        let foreign = [
            "evil.example",
            "127.0.0.1.nip.io:9901",
            "localhost.evil.example",
            "10.1.2.3",
            "[::1",
            "[::1]evil",
            "localhost@evil",
            "localhost:evil",
            "",
            ".",
            "[2001:db8::1]:9901",
        ];
        for host in foreign {
            assert_eq!(outcome(&auth, loopback(), &[("host", host)]), 403, "{host}");
        }
        assert_eq!(outcome(&auth, loopback(), &[]), 400);
        assert_eq!(outcome(&auth, loopback(), &[("host", "localhost"), ("host", "evil.example")]), 400);
    }

    #[test]
    fn a_target_in_absolute_form_must_be_this_host_too() {
        let request = Request::get("http://evil.example/api/v1/status")
            .header("host", "localhost:9901")
            .extension(loopback())
            .body(())
            .unwrap();
        assert_eq!(Auth::default().admit(&request.into_parts().0).unwrap_err().status, 403);
    }

    #[test]
    fn a_unix_socket_needs_no_host_but_still_the_token() {
        let auth = Auth { token: Some("s3cret".to_owned()), allowed_hosts: Vec::new() };
        assert_eq!(outcome(&Auth::default(), Arrival::Unix, &[("host", "anything")]), 200);
        assert_eq!(outcome(&Auth::default(), Arrival::Unix, &[]), 200);
        assert_eq!(outcome(&auth, Arrival::Unix, &[]), 401);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let ask = |name, value| outcome(&Auth::default(), loopback(), &[("host", "localhost:9901"), (name, value)]);
        for origin in
            ["http://evil.example", "null", "http://localhost:8080", "http://localhost:9901.evil.example", "file://"]
        {
            assert_eq!(ask("origin", origin), 403, "{origin}");
        }
        assert_eq!(ask("origin", "http://localhost:9901"), 200);
        for site in ["cross-site", "same-site", "anything"] {
            assert_eq!(ask("sec-fetch-site", site), 403, "{site}");
        }
        assert_eq!(ask("sec-fetch-site", "same-origin"), 200);
        assert_eq!(ask("sec-fetch-site", "none"), 200);
    }

    #[test]
    fn only_the_right_token_opens() {
        let auth = Auth { token: Some("s3cret".to_owned()), allowed_hosts: Vec::new() };
        let ask = |value| outcome(&auth, loopback(), &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(ask("Bearer s3cret"), 200);
        assert_eq!(ask("bearer  s3cret"), 200);
        for wrong in ["Bearer s3cre", "Bearer s3cretx", "Bearer ", "Bearer", "Basic s3cret", "s3cret", "Bearer S3CRET"]
        {
            assert_eq!(ask(wrong), 401, "{wrong}");
        }
        assert_eq!(outcome(&auth, loopback(), &[("host", "localhost")]), 401);
        assert!(!format!("{auth:?}").contains("s3cret"));
    }
}
