//! The one pass over the header fields: limits, syntax, and all that frames the message.
//!
//! One pass and not a look-up per rule: a rule that asks for the first value of a field does not see its
//! second one, and that second one is how requests are smuggled.
//!
//! Invariant: what the pass accepts has at most one `Content-Length` or one `Transfer-Encoding: chunked`,
//! never both, and no field that another hop may read as one of them.

use crate::algorithm::decimal::decimal;
use crate::traffic::{HttpVersion, Refusal, Request};

use super::framing::Framing;
use super::limits::Limits;
use super::refusal::{
    BODY_TOO_LARGE, CONNECTION_INVALID, CONNECTION_NOMINATES, CONNECTION_SPECIFIC, CONTENT_LENGTH_INVALID,
    CONTENT_LENGTH_REPEATED, EXPECTATION_UNKNOWN, FIELD_NAME_INVALID, FIELD_NAME_UNDERSCORE, FIELD_VALUE_INVALID,
    FIELDS_TOO_LARGE, FIELDS_TOO_MANY, FRAMING_CONFLICT, HOST_REPEATED, TRANSFER_ENCODING_INVALID,
    TRANSFER_ENCODING_UNSUPPORTED, TRANSFER_ENCODING_VERSION,
};

/// What the pass found.
pub(super) struct Fields {
    /// Whether there is a `Host`; there is at most one.
    pub(super) host: bool,
    /// How the body is framed.
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expect_continue: bool,
    /// Whether the client offers to upgrade this connection: HTTP/1.1, `Upgrade`, and `Connection: upgrade`.
    pub(super) upgrade: bool,
    /// Whether a name has an underscore.
    pub(super) underscores: bool,
}

/// Passes once over the fields of `request`.
pub(super) fn read(request: &impl Request, limits: &Limits) -> Result<Fields, Refusal> {
    let mut pass = Pass { version: request.version(), ..Pass::default() };
    let mut refused = None;
    request.for_each_header(&mut |name, value| {
        if refused.is_none() {
            refused = pass.field(name, value, limits).err();
        }
    });
    match refused {
        Some(refusal) => Err(refusal),
        None => pass.finish(limits),
    }
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && classes(text) & NOT_TOKEN == 0
}

/// The classes of all bytes of `text` together. There is no early exit: names are short, and the loop without
/// branches is the faster one.
fn classes(text: &[u8]) -> u8 {
    text.iter().fold(0, |all, &byte| all | CLASSES.get(usize::from(byte)).copied().unwrap_or(NOT_TOKEN))
}

/// No part of a token.
const NOT_TOKEN: u8 = 1;
/// An underscore.
const UNDERSCORE: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut classes = [NOT_TOKEN; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
        {
            classes[byte as usize] = match byte {
                b'_' => UNDERSCORE,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~' => 0,
                _ if byte.is_ascii_alphanumeric() => 0,
                _ => NOT_TOKEN,
            };
        }
        byte += 1;
    }
    classes
};

/// A value without control bytes; a tab is a blank (RFC 9110 §5.5). Eight bytes at a time: most values are short.
#[inline]
pub(crate) fn is_value(value: &[u8]) -> bool {
    let (chunks, rest) = value.as_chunks();
    let plain = chunks.iter().all(|chunk| is_plain(*chunk));
    // The last eight bytes again, if there are so many.
    let plain = plain
        && match value.last_chunk() {
            _ if rest.is_empty() => true,
            Some(last) => is_plain(*last),
            None => rest.iter().all(|&byte| byte >= b' ' && byte != 0x7f),
        };
    plain || value.iter().all(|&byte| (byte >= b' ' || byte == b'\t') && byte != 0x7f)
}

/// Whether none of eight bytes is a control byte, with the carries of one subtraction for all of them
/// ("Bit Twiddling Hacks", Determine if a word has a byte less than n, or equal to n).
#[inline]
fn is_plain(bytes: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(bytes);
    let delete = word ^ (EACH * 0x7f);
    let low = word.wrapping_sub(EACH * 0x20) & !word;
    (low | (delete.wrapping_sub(EACH) & !delete)) & (EACH * 0x80) == 0
}

/// The fields that validation reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Connection,
    ContentLength,
    Expect,
    Host,
    /// `Keep-Alive` or `Proxy-Connection`: of interest only where HTTP/2 forbids them.
    PerConnection,
    Te,
    TransferEncoding,
    Upgrade,
}

fn known(name: &[u8]) -> Option<Known> {
    // By length first, so that most fields of a request cost one comparison of a number.
    let (lower, field): (&[u8], _) = match name.len() {
        2 => (b"te", Known::Te),
        4 => (b"host", Known::Host),
        6 => (b"expect", Known::Expect),
        7 => (b"upgrade", Known::Upgrade),
        10 if matches!(name.first(), Some(b'k' | b'K')) => (b"keep-alive", Known::PerConnection),
        10 => (b"connection", Known::Connection),
        14 => (b"content-length", Known::ContentLength),
        16 => (b"proxy-connection", Known::PerConnection),
        17 => (b"transfer-encoding", Known::TransferEncoding),
        _ => return None,
    };
    name.eq_ignore_ascii_case(lower).then_some(field)
}

struct Pass {
    version: HttpVersion,
    fields: usize,
    bytes: usize,
    host: bool,
    length: Option<u64>,
    transfer: Transfer,
    connection_upgrade: bool,
    upgrade: bool,
    underscores: bool,
    expect_continue: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    None,
    Chunked,
    /// Well formed, but with a coding that is not carried.
    Unsupported,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            version: HttpVersion::Http11,
            fields: 0,
            bytes: 0,
            host: false,
            length: None,
            transfer: Transfer::None,
            connection_upgrade: false,
            upgrade: false,
            underscores: false,
            expect_continue: false,
        }
    }
}

impl Pass {
    fn field(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Refusal> {
        self.fields += 1;
        // Four more bytes a field: the colon, a blank and the line end.
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(value.len()).saturating_add(4);
        if self.fields > limits.fields {
            return Err(FIELDS_TOO_MANY);
        }
        if self.bytes > limits.header_bytes {
            return Err(FIELDS_TOO_LARGE);
        }
        match classes(name) {
            0 if !name.is_empty() => {}
            UNDERSCORE if frames(name) => return Err(FIELD_NAME_UNDERSCORE),
            UNDERSCORE => self.underscores = true,
            _ => return Err(FIELD_NAME_INVALID),
        }
        if !is_value(value) {
            return Err(FIELD_VALUE_INVALID);
        }
        known(name).map_or(Ok(()), |field| self.known(field, value))
    }

    fn known(&mut self, field: Known, value: &[u8]) -> Result<(), Refusal> {
        let http2 = self.version == HttpVersion::Http2;
        match field {
            Known::Host if self.host => return Err(HOST_REPEATED),
            Known::Host => self.host = true,
            Known::ContentLength if self.length.is_some() => return Err(CONTENT_LENGTH_REPEATED),
            Known::ContentLength => self.length = Some(length(value).ok_or(CONTENT_LENGTH_INVALID)?),
            Known::Connection | Known::PerConnection | Known::TransferEncoding | Known::Upgrade if http2 => {
                return Err(CONNECTION_SPECIFIC);
            }
            Known::Te if http2 && !value.eq_ignore_ascii_case(b"trailers") => return Err(CONNECTION_SPECIFIC),
            Known::Te | Known::PerConnection => {}
            Known::TransferEncoding if self.version == HttpVersion::Http10 => return Err(TRANSFER_ENCODING_VERSION),
            Known::TransferEncoding if self.transfer != Transfer::None => return Err(TRANSFER_ENCODING_INVALID),
            Known::TransferEncoding => self.transfer = transfer(value)?,
            Known::Connection => self.connection_upgrade |= connection(value)?,
            Known::Upgrade => self.upgrade = true,
            Known::Expect if self.version == HttpVersion::Http10 => {}
            Known::Expect if self.expect_continue || !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(EXPECTATION_UNKNOWN);
            }
            Known::Expect => self.expect_continue = true,
        }
        Ok(())
    }

    fn finish(self, limits: &Limits) -> Result<Fields, Refusal> {
        let framing = match (self.transfer, self.length) {
            (Transfer::None, length) if self.version == HttpVersion::Http2 => Framing::Frames { length },
            (Transfer::None, None) => Framing::None,
            (Transfer::None, Some(length)) => Framing::Length(length),
            (_, Some(_)) => return Err(FRAMING_CONFLICT),
            (Transfer::Chunked, None) => Framing::Chunked,
            (Transfer::Unsupported, None) => return Err(TRANSFER_ENCODING_UNSUPPORTED),
        };
        if let (Some(length), Some(limit)) = (self.length, limits.body_bytes)
            && length > limit
        {
            return Err(BODY_TOO_LARGE);
        }
        let http11 = self.version == HttpVersion::Http11;
        Ok(Fields {
            host: self.host,
            framing,
            // Who sends nothing does not wait.
            expect_continue: self.expect_continue && framing.has_body(),
            upgrade: self.upgrade && self.connection_upgrade && http11,
            underscores: self.underscores,
        })
    }
}

/// Whether a name frames the message for who reads `_` as `-`.
fn frames(name: &[u8]) -> bool {
    [b"transfer-encoding".as_slice(), b"content-length"].iter().any(|known| {
        let read = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        known.len() == name.len() && known.iter().zip(name).all(|(known, byte)| *known == read(*byte))
    })
}

/// One plain decimal number: no sign, blank, list, leading zero or overflow.
fn length(value: &[u8]) -> Option<u64> {
    match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => decimal(value),
        _ => None,
    }
}

fn transfer(value: &[u8]) -> Result<Transfer, Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Transfer::Chunked);
    }
    // Known to end where `chunked` says, so it is only unsupported; anything else has no certain end.
    let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let ends_chunked = codings.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    if ends_chunked && codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked")) {
        return Ok(Transfer::Unsupported);
    }
    Err(TRANSFER_ENCODING_INVALID)
}

/// Whether this `Connection` says `upgrade`; refuses one that nominates what is not hop-by-hop.
fn connection(value: &[u8]) -> Result<bool, Refusal> {
    let mut upgrade = false;
    for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if option.is_empty() {
            continue;
        }
        if !is_token(option) {
            return Err(CONNECTION_INVALID);
        }
        if is_end_to_end(option) {
            return Err(CONNECTION_NOMINATES);
        }
        upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    Ok(upgrade)
}

/// Whether a field named in `Connection` is one that must reach the origin or is ours to write. To nominate it
/// has no use but to have it stripped (RFC 9110 §7.6.1).
fn is_end_to_end(option: &[u8]) -> bool {
    const NAMES: [&[u8]; 24] = [
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"forwarded",
        b"host",
        b"max-forwards",
        b"origin",
        b"proxy-authorization",
        b"range",
        b"referer",
        b"set-cookie",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"user-agent",
        b"via",
        b"x-real-ip",
        b"x-request-id",
    ];
    const PREFIXES: [&[u8]; 4] = [b"x-forwarded-", b"weir-", b"sec-", b"if-"];
    // What nearly every `Connection` says, before the list.
    if [b"close".as_slice(), b"keep-alive", b"upgrade"].iter().any(|name| option.eq_ignore_ascii_case(name)) {
        return false;
    }
    NAMES.iter().any(|name| option.eq_ignore_ascii_case(name))
        || PREFIXES
            .iter()
            .any(|prefix| option.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}
