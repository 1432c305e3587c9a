//! How single values read themselves: numbers, names, addresses, paths and words.

use std::path::PathBuf;

use http::HeaderName;

use super::read::{Read, Reader};
use super::tree::Node;
use super::values::{self, Bytes, Cidr, EndpointAddress, NotAValue, Period};
use crate::model::{Address, EndpointState, Name, Weight};

/// Reads a type that parses itself and says what is expected.
macro_rules! read_by_parsing {
    ($($type:ty),+) => {
        $(impl Read for $type {
            fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
                reader.parse(node)
            }
        })+
    };
}
read_by_parsing!(Period, Bytes, Cidr, EndpointAddress);

/// Reads a whole number.
macro_rules! read_number {
    ($($type:ty),+) => {
        $(impl Read for $type {
            fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
                const EXPECTED: &str = "a whole number";
                let text = reader.text(node, EXPECTED)?;
                if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                    if let Ok(number) = text.parse() {
                        return Some(number);
                    }
                    return reader.wrong(node, format!("a whole number up to {}", <$type>::MAX), None);
                }
                reader.wrong(node, EXPECTED, None)
            }
        })+
    };
}
read_number!(u16, u32);

impl Read for f64 {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a number, such as `0.5` or `99`";
        let text = reader.text(node, EXPECTED)?;
        // Of what a float can be, only what people write; the length keeps it finite.
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |text: &str| !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
        if digits(integer)
            && digits(fraction)
            && let Ok(number) = text.parse()
        {
            return Some(number);
        }
        reader.wrong(node, EXPECTED, text.ends_with('%').then_some("leave out the `%`"))
    }
}

impl Read for bool {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(node, &[("true", true), ("false", false)])
    }
}

impl Read for EndpointState {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(node, &Self::ALL.map(|state| (state.as_str(), state)))
    }
}

impl Read for Name {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let text = reader.text(node, values::NAME_EXPECTED)?;
        if values::is_name(text) { Some(Self::from(text)) } else { reader.wrong(node, values::NAME_EXPECTED, None) }
    }
}

impl Read for Address {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "`IP:PORT`, `[IPv6]:PORT` or `unix:/absolute/path`";
        let text = reader.text(node, EXPECTED)?;
        let help = match text.parse() {
            Ok(Self::Inet(address)) => return Some(Self::Inet(address)),
            Ok(Self::Unix(_)) => match text.strip_prefix("unix:").and_then(values::unix_path) {
                Some(path) => return Some(Self::Unix(path)),
                None => Some("the path of a unix socket has 2 to 107 bytes"),
            },
            Err(_) => address_help(text),
        };
        reader.wrong(node, EXPECTED, help)
    }
}

/// What to do about a text that is no address to listen on.
fn address_help(text: &str) -> Option<&'static str> {
    let port = |text: &str| text.parse::<u16>().is_ok();
    if text.starts_with("unix:") {
        Some("the path of a unix socket begins with `/`")
    } else if port(text.trim_start_matches(':')) {
        Some("for every address of the machine, put `0.0.0.0:` or `[::]:` before the port")
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        Some("add a port; an IPv6 address needs brackets around it")
    } else if text.rsplit_once(':').is_some_and(|(host, tail)| port(tail) && values::host_name(host).is_some()) {
        Some("a listener is bound to an IP address, not to a name: `127.0.0.1` instead of `localhost`")
    } else {
        None
    }
}

impl Read for Weight {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a percentage from 0 to 100 with at most two decimals";
        let text = reader.text(node, EXPECTED)?;
        let help = match text.parse() {
            Ok(weight) => return Some(weight),
            Err(_) if text.ends_with('%') => Some("leave out the `%`"),
            Err(_) if text.starts_with('.') => Some("begin with a zero: `0.5`"),
            Err(_) => None,
        };
        reader.wrong(node, EXPECTED, help)
    }
}

impl Read for PathBuf {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "the path of a file or directory, absolute or relative to this file's directory";
        let text = reader.text(node, EXPECTED)?;
        if text.is_empty() || text.contains('\0') || text.len() > MAX_PATH {
            return reader.wrong(node, EXPECTED, None);
        }
        Some(reader.resolve(text))
    }
}

/// `PATH_MAX` of Linux.
const MAX_PATH: usize = 4_096;

impl Read for HeaderName {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let text = reader.text(node, HEADER_EXPECTED)?;
        match header_name(text) {
            Some(name) => Some(name),
            None => reader.wrong(node, HEADER_EXPECTED, None),
        }
    }
}

/// What a header's name looks like, for help.
pub(crate) const HEADER_EXPECTED: &str = "the name of an HTTP header, such as `x-user-id`";

/// The header of that name, if it is one and not too long to be looked up in every request.
pub(crate) fn header_name(text: &str) -> Option<HeaderName> {
    const MAX: usize = 128;
    (text.len() <= MAX).then(|| HeaderName::from_bytes(text.as_bytes()).ok()).flatten()
}

/// `true`, the only thing that a switch without another side may say.
pub(crate) fn only_true<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<bool> {
    reader.choose(node, &[("true", true)])
}

/// The name of a host, without a port.
pub(crate) fn host_value<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    match host(reader.text(node, "a host name")?) {
        Ok(host) => Some(host),
        Err(wrong) => reader.wrong(node, wrong.expected, wrong.help),
    }
}

/// A cookie's name: a token (RFC 6265 section 4.1.1) of 1 to 128 bytes.
pub(crate) fn cookie_name<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<String> {
    const EXPECTED: &str = "the name of a cookie: 1 to 128 letters, digits, `.`, `_` and `-`";
    let text = reader.text(node, EXPECTED)?;
    if is_token(text) { Some(text.to_owned()) } else { reader.wrong(node, EXPECTED, None) }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2) of 1 to 128 bytes.
pub(crate) fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(tchar)
}

/// A host name or an IP address without a port, in the form in which it is compared; help if it is neither.
pub(crate) fn host(text: &str) -> Result<String, NotAValue> {
    const EXPECTED: &str = "a host name or an IP address, without a port";
    let wrong = |help| NotAValue { expected: EXPECTED, help };
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<std::net::IpAddr>() {
        return Ok(address.to_string());
    }
    if let Some(name) = values::host_name(text) {
        return Ok(name);
    }
    Err(wrong(if text.contains("://") || text.contains('/') {
        Some("leave out the scheme and the path")
    } else if text.contains(':') {
        Some("leave out the port")
    } else if !text.is_ascii() {
        Some("write the name in its ASCII form (`xn--…`), which is what clients send")
    } else {
        None
    }))
}
