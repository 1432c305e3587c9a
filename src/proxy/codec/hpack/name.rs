//! What a field's name makes of it, found once: an indexed field keeps what was found when it came first.

use crate::traffic::validate::{is_token, is_value};

/// Pseudo-header fields (RFC 9113 §8.3, RFC 8441 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

/// What makes a message malformed (RFC 9113 §8.1.1), whatever kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A name that is none, or has an upper-case letter.
    Name,
    /// A value with a control byte, or with a blank at an end.
    Value,
    /// A field about one connection.
    ConnectionSpecific,
    /// A pseudo-header field that nobody knows.
    UnknownPseudo,
    /// A pseudo-header field that came before.
    RepeatedPseudo,
    /// A pseudo-header field behind a regular one.
    LatePseudo,
    /// The value of a pseudo-header field with a control byte, or with a blank at an end.
    PseudoValue(Pseudo),
}

/// What a name makes of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    Regular,
    Pseudo(Pseudo),
    /// A pseudo-header field that no RFC of ours defines.
    Unknown,
    /// About one connection, which HTTP/2 has no fields for (RFC 9113 §8.2.2).
    Connection,
    /// `te`, which may say one thing only.
    Te,
    /// No name, or one with an upper-case letter (RFC 9113 §8.2.1).
    Invalid,
}

impl NameKind {
    /// That of a name that was spelled out.
    pub(super) fn of(name: &[u8]) -> Self {
        match Self::reserved(name) {
            Self::Regular if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) => Self::Invalid,
            kind => kind,
        }
    }

    /// That of a name that is valid, if it is regular.
    pub(super) const fn reserved(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Pseudo(Pseudo::Method),
            b":scheme" => Self::Pseudo(Pseudo::Scheme),
            b":authority" => Self::Pseudo(Pseudo::Authority),
            b":path" => Self::Pseudo(Pseudo::Path),
            b":protocol" => Self::Pseudo(Pseudo::Protocol),
            b":status" => Self::Pseudo(Pseudo::Status),
            [b':', ..] => Self::Unknown,
            b"te" => Self::Te,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => Self::Connection,
            _ => Self::Regular,
        }
    }

    /// What is wrong with a field of such a name and this value, by itself (RFC 9113 §8.2).
    #[inline]
    pub(super) fn flaw(self, value: &[u8]) -> Option<Flaw> {
        match self {
            Self::Invalid => Some(Flaw::Name),
            Self::Unknown => Some(Flaw::UnknownPseudo),
            Self::Pseudo(which) if !is_field_value(value) => Some(Flaw::PseudoValue(which)),
            Self::Pseudo(_) => None,
            _ if !is_field_value(value) => Some(Flaw::Value),
            Self::Connection => Some(Flaw::ConnectionSpecific),
            Self::Te if value != b"trailers" => Some(Flaw::ConnectionSpecific),
            Self::Te | Self::Regular => None,
        }
    }
}

/// Whether a value has no control bytes and neither begins nor ends with a blank (RFC 9113 §8.2.1, RFC 9110 §5.5).
#[inline]
fn is_field_value(value: &[u8]) -> bool {
    let blank = |end: Option<&u8>| matches!(end, Some(b' ' | b'\t'));
    !blank(value.first()) && !blank(value.last()) && is_value(value)
}
