//! What of an endpoint's response goes on to the client: one rule for every lane, for heads and trailers.
//!
//! What concerns only the connection to the endpoint ends here, and so does what is Weir's to say. The length goes on
//! where it frames the message; a client that is to keep its affinity gets a cookie, and may be told its version.

use httparse::Header;

use super::context::Assignment;
use super::headers::{VERSION, VERSION_REASON};
use crate::proxy::codec::response::{Head, write_status};
use crate::proxy::io::buffer::Buffer;
use crate::snapshot::{AffinityCookie, CookieSecure};

/// The header that names the cause of an answer that is Weir's own; no endpoint's may have it.
pub(crate) const CAUSE: &str = "weir-error";

/// Whether a field of a response goes no further, whatever the response's `Connection` names: it concerns only the
/// connection to the endpoint (RFC 9110 §7.6.1, RFC 9113 §8.2.2), or is not the endpoint's to say.
// Asked for each field of each response; the compiler would make it a call.
#[inline(always)]
pub(crate) fn ends_here(name: &str) -> bool {
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    // By length first: most fields are none of these.
    match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive") || is(CAUSE),
        12 => is(VERSION),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        19 => is(VERSION_REASON),
        _ => false,
    }
}

/// Whether a response field is passed on; `nominated`: `Connection` names it.
#[inline(always)]
pub(crate) fn passes(name: &str, nominated: bool) -> bool {
    !ends_here(name) && (!nominated || name.eq_ignore_ascii_case("content-length"))
}

/// Calls `field` with each field of an HTTP/1 endpoint's response that is passed on.
#[inline]
pub(crate) fn each(head: &Head<'_, '_>, mut field: impl FnMut(&str, &[u8])) {
    let drops_length = head.found.drops_length();
    for &Header { name, value } in head.fields {
        let reframed = drops_length && name.eq_ignore_ascii_case("content-length");
        if !reframed && passes(name, head.found.nominates(name)) {
            field(name, value);
        }
    }
}

/// Writes the status line of an HTTP/1 endpoint's response, and the fields that are passed on.
#[inline]
pub(crate) fn write(head: &Head<'_, '_>, out: &mut Buffer) {
    write_status(head.status, head.reason, out);
    each(head, |name, value| out.push_field(name, value));
}

/// Writes the head with which an HTTP/1 endpoint takes an upgrade, without its end.
pub(crate) fn write_switching(head: &Head<'_, '_>, out: &mut Buffer) {
    write(head, out);
    head.upgrades().for_each(|protocols| out.push_field("upgrade", protocols));
    out.push(b"connection: upgrade\r\n");
}

/// Whether a 101 with these values of `Upgrade` takes the protocol that was offered, and no other. One that names none
/// takes that.
pub(crate) fn takes<'v>(upgrades: impl IntoIterator<Item = &'v [u8]>, offered: &str) -> bool {
    let mut protocols = upgrades.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
    protocols.all(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(offered.as_bytes()))
}

/// What a client is told with an endpoint's response, beside what the endpoint wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientFields<'a> {
    /// A `Set-Cookie` that keeps the client on its version.
    pub(crate) set_cookie: Option<&'a str>,
    /// The version that answers, by name.
    pub(crate) version: Option<&'a str>,
}

impl ClientFields<'_> {
    /// Calls `field` with each of them.
    #[inline]
    pub(crate) fn each(&self, mut field: impl FnMut(&'static str, &[u8])) {
        if let Some(cookie) = self.set_cookie {
            field("set-cookie", cookie.as_bytes());
        }
        if let Some(version) = self.version {
            field(VERSION, version.as_bytes());
        }
    }
}

impl<'s> Assignment<'s> {
    /// What the client is told; `set_cookie`: the cookie that it gets, if any.
    pub(crate) fn client_fields<'a>(&self, set_cookie: Option<&'a str>) -> ClientFields<'a>
    where
        's: 'a,
    {
        let version = self.service.tells_clients.then_some(&*self.version.name);
        ClientFields { set_cookie, version }
    }
}

impl AffinityCookie {
    /// The `Set-Cookie` that gives a client this value; `tls`: it came over TLS.
    pub(crate) fn set(&self, value: &str, tls: bool) -> String {
        let (name, max_age, same_site) = (&self.name, self.max_age.as_secs(), self.same_site);
        let secure = match self.secure {
            CookieSecure::Auto => tls,
            CookieSecure::Always => true,
            CookieSecure::Never => false,
        };
        let secure = if secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={max_age}{secure}")
    }
}
