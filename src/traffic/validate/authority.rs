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
    /// The host has upper-case letters.
    upper: bool,
    port: Option<u16>,
}

impl<'r> Authority<'r> {
    /// Parses `host[:port]`.
    pub(super) fn parse(bytes: &'r [u8]) -> Option<Self> {
        let HostSpan { host, end, upper } = HostSpan::read(bytes)?;
        let text = str::from_utf8(bytes).ok()?;
        let port = match text.get(end..)? {
            "" => None,
            port => Some(parse_port(port.strip_prefix(':')?)?),
        };
        Some(Self { text, host: text.get(..host)?, upper, port })
    }

    /// The host in lower case, without port and final dot.
    pub(super) fn lower_host(&self) -> Cow<'r, str> {
        if self.upper { Cow::Owned(self.host.to_ascii_lowercase()) } else { Cow::Borrowed(self.host) }
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
    HostSpan::read(text.as_bytes()).is_some_and(|name| name.host == text.len())
}

/// Where a valid host at the beginning of some bytes is.
struct HostSpan {
    /// Its length, without a final dot.
    host: usize,
    /// Its length: what comes then is no part of it.
    end: usize,
    /// It has upper-case letters.
    upper: bool,
}

impl HostSpan {
    /// The host that `bytes` begin with, up to a colon or their end.
    // In one pass, byte by byte: each request has one, and it is too short for searches to pay.
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.first() == Some(&b'[') {
            return Self::read_address(bytes);
        }
        let (mut label, mut upper, mut end) = (0, false, bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            match HOST_BYTES.get(usize::from(*byte))? {
                HostByte::Lower => {}
                HostByte::Upper => upper = true,
                HostByte::Dot if is_label(label, at) => label = at + 1,
                HostByte::Colon => {
                    end = at;
                    break;
                }
                HostByte::Dot | HostByte::Other => return None,
            }
        }
        // A final dot has nothing behind it.
        let host = if label == end { end.checked_sub(1)? } else { end };
        let valid = host < label || is_label(label, host);
        (valid && host <= NAME_BYTES).then_some(Self { host, end, upper })
    }

    /// The same in brackets, whose colons begin no port.
    #[cold]
    fn read_address(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|byte| *byte == b']')? + 1;
        let address = str::from_utf8(bytes.get(1..end - 1)?).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        // What stands behind a dot there is a port all the same.
        let dot = usize::from(bytes.get(end) == Some(&b'.'));
        let upper = address.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(Self { host: end, end: end + dot, upper })
    }
}

/// Whether what is between these places may be a label.
const fn is_label(begin: usize, end: usize) -> bool {
    end > begin && end - begin <= LABEL_BYTES
}

/// What a byte is in a host.
#[derive(Clone, Copy)]
enum HostByte {
    /// Part of a label.
    Lower,
    /// The same, an upper-case letter.
    Upper,
    Dot,
    Colon,
    /// No part of a host.
    Other,
}

const HOST_BYTES: [HostByte; 256] = {
    let mut bytes = [HostByte::Other; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
        {
            bytes[byte as usize] = match byte {
                b'A'..=b'Z' => HostByte::Upper,
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => HostByte::Lower,
                b'.' => HostByte::Dot,
                b':' => HostByte::Colon,
                _ => HostByte::Other,
            };
        }
        byte += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Host in lower case and port, piece by piece.
    fn naive(text: &str) -> Option<(String, Option<u16>)> {
        let bracket = text.starts_with('[').then(|| text.rfind(']')).map(|at| at.map(|at| at + 1));
        let end = bracket.unwrap_or(Some(0))?;
        let (host, port) = match text[end..].split_once(':') {
            Some((host, port)) => (&text[..end + host.len()], Some(port)),
            None => (text, None),
        };
        let port = match port {
            Some(port) if port.starts_with('0') || !port.bytes().all(|byte| byte.is_ascii_digit()) => return None,
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_label = |label: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=LABEL_BYTES).contains(&label.len()) && label.bytes().all(is_part)
        };
        let valid = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => host.split('.').all(is_label) && host.len() <= NAME_BYTES,
        };
        valid.then(|| (host.to_ascii_lowercase(), port))
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_piece_by_piece_does(
            text in prop_oneof![
                "[a-cA-C0-9.:_-]{0,12}",
                r"(\[[0-9aF:]{0,8}\]?)?[a.:]{0,3}[0-9]{0,6}",
                "([a-z]{1,70}[.]){1,5}[a-z]{0,3}(:[0-9]{1,6})?",
                ".{0,6}",
            ]
        ) {
            let parsed = Authority::parse(text.as_bytes());
            let found = parsed.map(|authority| (authority.lower_host().into_owned(), authority.port));
            prop_assert_eq!(found, naive(&text));
            prop_assert_eq!(is_host(&text), naive(&text).is_some_and(|(host, _)| host.len() == text.len()));
        }
    }
}
