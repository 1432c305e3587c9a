//! `host[:port]`, as `Host`, `:authority` and absolute-form targets carry it.
//!
//! Stricter than RFC 3986's `authority`: no user information, no percent-encoding, no sub-delimiters. Names
//! of that kind cannot be looked up in DNS and serve only to make two hops see two hosts.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// The longest host name that DNS can hold, without the final dot.
const NAME_BYTES: usize = 253;
/// The longest label of a DNS name.
const LABEL_BYTES: usize = 63;

/// A valid `host[:port]`.
#[derive(Clone, Copy)]
pub(super) struct Authority<'r> {
    /// As it was written.
    pub(super) text: &'r str,
    /// The host without port and final dot, in the client's case.
    host: &'r str,
    port: Option<u16>,
}

impl<'r> Authority<'r> {
    /// Parses `host[:port]`.
    pub(super) fn parse(bytes: &'r [u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        // A colon inside the brackets of an IPv6 address does not start a port.
        let end_of_host =
            if bytes.first() == Some(&b'[') { bytes.iter().rposition(|byte| *byte == b']')? + 1 } else { 0 };
        // Byte by byte: a host is too short for a search to pay.
        let (host, port) = match bytes.get(end_of_host..)?.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let (host, port) = text.split_at_checked(end_of_host + colon)?;
                (host, Some(parse_port(port.get(1..)?)?))
            }
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        is_host(host).then_some(Self { text, host, port })
    }

    /// The host in lower case, without port and final dot.
    pub(super) fn lower_host(&self) -> Cow<'r, str> {
        if self.host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(self.host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(self.host)
        }
    }

    /// Whether both name the same host and port, where no port means `default_port`.
    pub(super) fn agrees(&self, other: &Self, default_port: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(other.host) && self.port.or(default_port) == other.port.or(default_port)
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = matches!(digits.as_bytes(), [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    if plain { digits.parse().ok() } else { None }
}

/// Whether `text` is a DNS-like name, an IPv4 address or a bracketed IPv6 address. Underscores pass: internal
/// names have them.
pub(in crate::traffic) fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let mut label = 0;
    let valid = text.bytes().all(|byte| {
        if byte == b'.' {
            return std::mem::take(&mut label) > 0;
        }
        label += 1;
        label <= LABEL_BYTES && IN_LABEL.get(usize::from(byte)).is_some_and(|is| *is)
    });
    valid && label > 0 && text.len() <= NAME_BYTES
}

/// Whether a byte may be in a label.
const IN_LABEL: [bool; 256] = {
    let mut in_label = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
        {
            in_label[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        }
        byte += 1;
    }
    in_label
};
