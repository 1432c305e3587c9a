//! What went wrong between Weir and an endpoint: one kind for metrics, one answer for the client.

use std::io;

use pingora_error::{Error, ErrorSource, ErrorType};

use super::end::End;
use crate::proxy::codec::body::Malformed;
use crate::proxy::upstream::h2;
use crate::telemetry::{UpstreamError, VersionSeries};
use crate::traffic::Refusal;

/// A failed attempt, as it is counted and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What it is counted as; none if the version is not to blame.
    pub(crate) kind: Option<UpstreamError>,
    pub(crate) refusal: Refusal,
}

const fn failure(kind: UpstreamError, status: u16, cause: &'static str, text: &'static str) -> Failure {
    Failure { kind: Some(kind), refusal: Refusal { status, cause, text, close: false } }
}

pub(crate) const NO_ENDPOINT: Failure =
    failure(UpstreamError::NoEndpoint, 503, "no_endpoint", "no endpoint of this version is ready");
const CONNECT: Failure = failure(UpstreamError::Connect, 502, "connect", "the endpoint does not accept connections");
const CONNECT_TIMEOUT: Failure =
    failure(UpstreamError::Connect, 504, "connect_timeout", "the endpoint did not accept a connection in time");
const TLS: Failure = failure(UpstreamError::Tls, 502, "tls", "no trusted TLS connection to the endpoint");
/// The endpoint was silent for too long.
pub(crate) const TIMEOUT: Failure =
    failure(UpstreamError::Timeout, 504, "timeout", "the endpoint did not answer in time");
pub(crate) const RESET: Failure = failure(UpstreamError::Reset, 502, "reset", "the endpoint closed the connection");
pub(crate) const PROTOCOL: Failure =
    failure(UpstreamError::Protocol, 502, "protocol", "the endpoint's answer is not valid HTTP");

/// This machine lacks what a connection needs: descriptors, ports, memory, leave. No endpoint was asked.
pub(crate) const LOCAL: Failure = Failure {
    kind: None,
    refusal: Refusal {
        status: 503,
        cause: "local",
        text: "the proxy's machine has nothing left to make a connection with",
        close: false,
    },
};

/// The error type of a connection that this machine could not make.
pub(crate) const NO_MEANS: ErrorType = ErrorType::Custom("weir: no means for a connection");

/// Nothing matches the request.
pub(crate) const NO_ROUTE: Refusal =
    Refusal { status: 404, cause: "no_route", text: "no route matches this request", close: false };
/// The client's connection was made for another host, whose certificate differs.
pub(crate) const MISDIRECTED: Refusal = Refusal {
    status: 421,
    cause: "misdirected",
    text: "this connection's certificate is not for the request's host",
    close: false,
};
/// The body is larger than the service takes.
pub(crate) const BODY_TOO_LARGE: Refusal =
    Refusal { status: 413, cause: "body_too_large", text: "the request's body is too large", close: true };
/// The drain's deadline passed before the endpoint answered.
pub(crate) const DRAINED: Refusal =
    Refusal { status: 503, cause: "drain_deadline", text: "the server is going away", close: true };
/// The client stopped in the middle of its request; no endpoint is to blame.
pub(crate) const SLOW_CLIENT: Refusal =
    Refusal { status: 408, cause: "slow_client", text: "the request's body did not arrive in time", close: true };
/// The endpoint turned the request away unread, again and again: it goes away or is full, and nobody knows how it would
/// have answered.
pub(crate) const UNPROCESSED: Refusal =
    Refusal { status: 503, cause: "unprocessed", text: "the endpoint took no new request", close: false };
/// What is held for clients and endpoints that do not read was too much, and this request had waited longest.
pub(crate) const UNREAD: Refusal =
    Refusal { status: 503, cause: "unread", text: "the request or its answer was not read in time", close: true };
/// The cause of a response that ended because its client took nothing of it for `limits.write_timeout`.
pub(crate) const WRITE_TIMEOUT: &str = "write_timeout";
/// A drill put an error in place of the endpoint's answer.
pub(crate) const DRILL: Refusal =
    Refusal { status: 500, cause: "drill", text: "a drill of this version put an error here on purpose", close: false };
/// A fault of our own.
const INTERNAL: Refusal = Refusal { status: 500, cause: "internal", text: "an error inside the proxy", close: true };
/// The engine found the request wrong where the guard did not.
pub(crate) const BAD_REQUEST: Refusal =
    Refusal { status: 400, cause: "bad_request", text: "the request is not valid HTTP", close: true };

/// The engine's error types for chunks and trailers that are none; its constants are private there.
const INVALID_CHUNKS: [&str; 2] = ["InvalidChunk", "InvalidTrailerEnd"];

impl Failure {
    /// What an error of the engine means, given that the exchange may have been ended from outside. `None` if
    /// the endpoint is not to blame.
    pub(crate) fn of(error: &Error, ended: Option<End>) -> Option<Self> {
        match ended {
            Some(End::FirstByte | End::Idle) => return Some(TIMEOUT),
            Some(End::Cut | End::Upload | End::Left | End::Unread) => return None,
            None => {}
        }
        if matches!(error.esource(), ErrorSource::Downstream) || *error.etype() == h2::UNPROCESSED {
            return None;
        }
        // What our own stream found wrong with the answer, the engine passes on as an error of reading.
        let cause = error.root_cause().downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if cause.is_some_and(|cause| cause.is::<Malformed>()) {
            return Some(PROTOCOL);
        }
        Some(match error.etype() {
            kind if *kind == NO_MEANS => LOCAL,
            ErrorType::ConnectTimedout => CONNECT_TIMEOUT,
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::BindError
            | ErrorType::SocketError => CONNECT,
            ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
            | ErrorType::TLSWantX509Lookup => TLS,
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => TIMEOUT,
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => RESET,
            ErrorType::InvalidHTTPHeader
            | ErrorType::H1Error
            | ErrorType::H2Error
            | ErrorType::InvalidH2
            | ErrorType::H2Downgrade => PROTOCOL,
            _ if matches!(error.esource(), ErrorSource::Upstream) => RESET,
            _ => return None,
        })
    }

    /// Counts it against the version, if that is to blame.
    pub(crate) fn charge(self, version: &VersionSeries) {
        if let Some(kind) = self.kind {
            version.upstream_error(kind);
        }
    }

    /// Whether `cause` is that of a failure that the version brought about.
    pub(crate) fn is_named(cause: &str) -> bool {
        [NO_ENDPOINT, CONNECT, CONNECT_TIMEOUT, TLS, TIMEOUT, RESET, PROTOCOL].iter().any(|f| f.refusal.cause == cause)
    }

    /// Whether `cause` is that of an answer that says nothing about the version: no endpoint of it had the request, or
    /// the fault is Weir's.
    pub(crate) fn is_nobodys(cause: &str) -> bool {
        [UNPROCESSED, LOCAL.refusal, INTERNAL].iter().any(|refusal| refusal.cause == cause)
    }

    /// Whether the connection broke, as an idle one does when its peer closes it at the same moment.
    pub(crate) fn is_broken_connection(self) -> bool {
        self == RESET
    }
}

/// The answer for an error that no endpoint is to blame for; `None` when the client is gone.
pub(crate) fn own_answer(error: &Error, ended: Option<End>) -> Option<Refusal> {
    match ended {
        Some(End::Cut) => return Some(DRAINED),
        Some(End::Upload) => return Some(SLOW_CLIENT),
        Some(End::Unread) => return Some(UNREAD),
        _ => {}
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::HTTPStatus(413)) => Some(BODY_TOO_LARGE),
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(_)) => Some(BAD_REQUEST),
        (ErrorSource::Downstream, kind) if INVALID_CHUNKS.contains(&kind.as_str()) => Some(BAD_REQUEST),
        (ErrorSource::Downstream, _) => None,
        (_, kind) if *kind == h2::UNPROCESSED => Some(UNPROCESSED),
        _ => Some(INTERNAL),
    }
}
