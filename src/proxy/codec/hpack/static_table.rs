//! The static table (RFC 7541, appendix A), as the lines that HTTP/1 would have.

use super::name::NameKind;

/// A field that both sides know.
pub(super) struct KnownField {
    /// As HTTP/1 would write it, with its end.
    pub(super) line: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: NameKind,
}

/// The field with an index, if it is one of this table.
#[inline]
pub(super) fn known(index: usize) -> Option<&'static KnownField> {
    KNOWN.get(index.wrapping_sub(1))
}

macro_rules! known {
    ($(($name:literal, $value:literal),)*) => {
        [$(KnownField {
            line: concat!($name, ": ", $value, "\r\n"),
            name: $name,
            kind: NameKind::reserved($name.as_bytes()),
        }),*]
    };
}

/// How many there are; the dynamic table begins behind them (RFC 7541 §2.3.3).
pub(super) const KNOWN_FIELDS: usize = 61;

static KNOWN: [KnownField; KNOWN_FIELDS] = known![
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
