//! Every refusal of validation, as constants: the closed set of causes.
//!
//! Constants and not constructed values, so that the causes can be listed (documentation, metric labels) and
//! a refusal costs nothing. Statuses follow RFC 9110 §15 and RFC 9112.
//!
//! Invariant: a refusal that leaves doubt about where this request ends closes the connection, so that its
//! remains are never read as a second request. Only refusals after the framing was found sound keep it open.

use crate::traffic::Refusal;

const fn refusal(status: u16, cause: &'static str, text: &'static str) -> Refusal {
    Refusal { status, cause, text, close: true }
}

const fn sound(status: u16, cause: &'static str, text: &'static str) -> Refusal {
    Refusal { status, cause, text, close: false }
}

/// The method is empty or has a byte that no method may have.
pub(crate) const METHOD_INVALID: Refusal = refusal(400, "method_invalid", "the method is not a token");
/// The method is longer than [`Limits::method_bytes`](super::Limits::method_bytes) (RFC 9112 §3: 501).
pub(crate) const METHOD_TOO_LONG: Refusal = refusal(501, "method_too_long", "the method is longer than any known one");
/// `CONNECT` and `TRACE`: no route can serve them, so 501 and not 405 with a list of what is allowed.
pub(crate) const METHOD_UNSUPPORTED: Refusal =
    refusal(501, "method_unsupported", "CONNECT and TRACE are not supported here");

/// More header fields than [`Limits::fields`](super::Limits::fields).
pub(crate) const FIELDS_TOO_MANY: Refusal = refusal(431, "fields_too_many", "the request has too many header fields");
/// Larger header fields than [`Limits::header_bytes`](super::Limits::header_bytes).
pub(crate) const FIELDS_TOO_LARGE: Refusal =
    refusal(431, "fields_too_large", "the request's header fields are too large");
/// A header name is empty or has a byte that no name may have.
pub(crate) const FIELD_NAME_INVALID: Refusal = refusal(400, "field_name_invalid", "a header name is not a token");
/// A header name has an underscore, which many origins read as a hyphen, and that is refused by choice or because it
/// would frame the message (`Transfer_Encoding`).
pub(crate) const FIELD_NAME_UNDERSCORE: Refusal = refusal(
    400,
    "field_name_underscore",
    "a header of this request may not be spelled with an underscore, use a hyphen",
);
/// A header value has a control byte.
pub(crate) const FIELD_VALUE_INVALID: Refusal =
    refusal(400, "field_value_invalid", "a header value has a control byte");

/// `Content-Length` is not one plain number.
pub(crate) const CONTENT_LENGTH_INVALID: Refusal =
    refusal(400, "content_length_invalid", "Content-Length is not one plain decimal number");
/// `Content-Length` comes more than once, even with equal values.
pub(crate) const CONTENT_LENGTH_REPEATED: Refusal =
    refusal(400, "content_length_repeated", "Content-Length comes more than once");
/// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.3).
pub(crate) const FRAMING_CONFLICT: Refusal =
    refusal(400, "framing_conflict", "Content-Length and Transfer-Encoding exclude each other");
/// `Transfer-Encoding` does not end in exactly one `chunked`.
pub(crate) const TRANSFER_ENCODING_INVALID: Refusal =
    refusal(400, "transfer_encoding_invalid", "Transfer-Encoding is not exactly `chunked`");
/// `Transfer-Encoding` is well formed and has a coding beside `chunked` (RFC 9112 §6.1: 501).
pub(crate) const TRANSFER_ENCODING_UNSUPPORTED: Refusal =
    refusal(501, "transfer_encoding_unsupported", "no transfer coding but `chunked` is supported");
/// `Transfer-Encoding` in an HTTP/1.0 request (RFC 9112 §6.1).
pub(crate) const TRANSFER_ENCODING_VERSION: Refusal =
    refusal(400, "transfer_encoding_version", "HTTP/1.0 has no Transfer-Encoding");
/// The declared length is beyond [`Limits::body_bytes`](super::Limits::body_bytes).
pub(crate) const BODY_TOO_LARGE: Refusal = refusal(413, "body_too_large", "the request's body is too large");

/// `Connection` is not a list of tokens.
pub(crate) const CONNECTION_INVALID: Refusal = refusal(400, "connection_invalid", "Connection is not a list of tokens");
/// `Connection` names a field that every hop needs, to have it stripped on the way.
pub(crate) const CONNECTION_NOMINATES: Refusal =
    refusal(400, "connection_nominates", "Connection names a header that is not hop-by-hop");
/// An HTTP/2 request with a field that belongs to HTTP/1 connections (RFC 9113 §8.2.2).
pub(crate) const CONNECTION_SPECIFIC: Refusal =
    refusal(400, "connection_specific", "a connection-specific header in an HTTP/2 request");
/// `Upgrade` is not a list of protocols.
pub(crate) const UPGRADE_INVALID: Refusal = refusal(400, "upgrade_invalid", "Upgrade is not a list of protocols");
/// An expectation other than `100-continue`. It closes: nobody knows whether the body will follow.
pub(crate) const EXPECTATION_UNKNOWN: Refusal =
    refusal(417, "expectation_unknown", "no expectation but 100-continue can be met");

/// No `Host` and no `:authority`.
pub(crate) const HOST_MISSING: Refusal = refusal(400, "host_missing", "the request names no host");
/// More than one `Host`, even with equal values.
pub(crate) const HOST_REPEATED: Refusal = refusal(400, "host_repeated", "Host comes more than once");
/// The host is empty or not one `host[:port]`.
pub(crate) const HOST_INVALID: Refusal = refusal(400, "host_invalid", "the host is not one plain host[:port]");
/// `Host` differs from the target's or the `:authority`'s host.
pub(crate) const HOST_MISMATCH: Refusal = refusal(400, "host_mismatch", "the request names two different hosts");

/// The target is longer than [`Limits::target_bytes`](super::Limits::target_bytes).
pub(crate) const TARGET_TOO_LONG: Refusal = sound(414, "target_too_long", "the request target is too long");
/// The target has no valid form, or a byte that no target may have.
pub(crate) const TARGET_INVALID: Refusal = refusal(400, "target_invalid", "the request target is not a valid one");
/// `*` with another method than `OPTIONS` (RFC 9112 §3.2.4).
pub(crate) const TARGET_ASTERISK: Refusal = refusal(400, "target_asterisk", "the target `*` is for OPTIONS only");
/// A `%` in the path without two hexadecimal digits.
pub(crate) const PATH_ENCODING_INVALID: Refusal =
    sound(400, "path_encoding_invalid", "the path has a % without two hexadecimal digits");
/// The path is one that origins read differently: an encoded or backward slash that is refused by choice, an encoded
/// control byte, an overlong UTF-8 sequence, or a dot segment with parameters.
pub(crate) const PATH_AMBIGUOUS: Refusal =
    sound(400, "path_ambiguous", "the path has bytes that servers read in different ways");

/// All refusals of validation.
#[cfg(test)]
pub(crate) const ALL: [Refusal; 29] = [
    METHOD_INVALID,
    METHOD_TOO_LONG,
    METHOD_UNSUPPORTED,
    FIELDS_TOO_MANY,
    FIELDS_TOO_LARGE,
    FIELD_NAME_INVALID,
    FIELD_NAME_UNDERSCORE,
    FIELD_VALUE_INVALID,
    CONTENT_LENGTH_INVALID,
    CONTENT_LENGTH_REPEATED,
    FRAMING_CONFLICT,
    TRANSFER_ENCODING_INVALID,
    TRANSFER_ENCODING_UNSUPPORTED,
    TRANSFER_ENCODING_VERSION,
    BODY_TOO_LARGE,
    CONNECTION_INVALID,
    CONNECTION_NOMINATES,
    CONNECTION_SPECIFIC,
    UPGRADE_INVALID,
    EXPECTATION_UNKNOWN,
    HOST_MISSING,
    HOST_REPEATED,
    HOST_INVALID,
    HOST_MISMATCH,
    TARGET_TOO_LONG,
    TARGET_INVALID,
    TARGET_ASTERISK,
    PATH_ENCODING_INVALID,
    PATH_AMBIGUOUS,
];
