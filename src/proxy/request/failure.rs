//! What went wrong between Weir and an endpoint: one kind for metrics, one answer for the client.

use super::end::End;
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::telemetry::{EndpointFailure, RetryReason, UpstreamError, VersionSeries};
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
/// As much of the version is in use as may be, and as many wait as may, or this request waited for too long.
pub(crate) const OVERFLOW: Failure = failure(
    UpstreamError::Overflow,
    503,
    "overflow",
    "this version has as many requests or connections as it may have",
);
const CONNECT: Failure = failure(UpstreamError::Connect, 502, "connect", "the endpoint does not accept connections");
/// No connection in time.
pub(crate) const CONNECT_TIMEOUT: Failure =
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
pub(crate) const INJECTED_FAULT: Refusal =
    Refusal { status: 500, cause: "drill", text: "a drill of this version put an error here on purpose", close: false };
/// A fault of our own.
pub(crate) const INTERNAL: Refusal =
    Refusal { status: 500, cause: "internal", text: "an error inside the proxy", close: true };

impl Failure {
    /// What it means that a request on a stream failed. `None` if the endpoint is not to blame.
    pub(crate) fn of_stream(failure: StreamFailure) -> Option<Self> {
        match failure {
            StreamFailure::Unprocessed => None,
            StreamFailure::Reset(_) | StreamFailure::Broken => Some(RESET),
            StreamFailure::Protocol => Some(PROTOCOL),
        }
    }

    /// What the version is to blame for if the exchange was ended from outside. `None` if for nothing.
    pub(crate) fn of_end(end: End) -> Option<Self> {
        match end {
            End::FirstByte | End::Idle => Some(TIMEOUT),
            End::Upload | End::Left | End::Cut | End::Unread => None,
        }
    }

    /// Counts it against the version, if that is to blame.
    pub(crate) fn charge(self, version: &VersionSeries) {
        if let Some(kind) = self.kind {
            version.upstream_error(kind);
        }
    }

    /// What it says about the endpoint that a connection was made to.
    pub(crate) fn speaks_against_endpoint(self) -> Option<EndpointFailure> {
        match self.kind? {
            UpstreamError::Timeout => Some(EndpointFailure::Timeout),
            UpstreamError::Reset => Some(EndpointFailure::Reset),
            UpstreamError::Protocol => Some(EndpointFailure::Protocol),
            // Whoever connects counts it; the others are no failure of a request on it.
            UpstreamError::Connect
            | UpstreamError::Tls
            | UpstreamError::NoEndpoint
            | UpstreamError::Overflow
            | UpstreamError::Unsolicited => None,
        }
    }

    /// Whether `cause` is that of a failure that the version brought about.
    pub(crate) fn is_named(cause: &str) -> bool {
        [NO_ENDPOINT, OVERFLOW, CONNECT, CONNECT_TIMEOUT, TLS, TIMEOUT, RESET, PROTOCOL]
            .iter()
            .any(|f| f.refusal.cause == cause)
    }

    /// Whether `cause` is that of an answer that says nothing about the version: no endpoint of it had the request, or
    /// the fault is Weir's.
    pub(crate) fn is_nobodys(cause: &str) -> bool {
        [UNPROCESSED, LOCAL.refusal, INTERNAL].iter().any(|refusal| refusal.cause == cause)
    }

    /// Whether the same endpoint may well do better a moment later.
    pub(crate) fn passes(self) -> bool {
        [CONNECT, CONNECT_TIMEOUT, TIMEOUT, RESET].contains(&self)
    }

    /// What it is counted as when a request that had its connection is tried again after it. `None` if none is.
    pub(crate) fn retried_as(self) -> Option<RetryReason> {
        match self {
            RESET => Some(RetryReason::Reset),
            PROTOCOL => Some(RetryReason::Protocol),
            TIMEOUT => Some(RetryReason::Timeout),
            _ => None,
        }
    }

    /// Whether the connection broke, as an idle one does when its peer closes it at the same moment.
    pub(crate) fn is_broken_connection(self) -> bool {
        self == RESET
    }
}

impl End {
    /// The local response to a request that was ended so before it had another. `None` if its client is gone.
    pub(crate) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::FirstByte | Self::Idle => Some(TIMEOUT.refusal),
            Self::Upload => Some(SLOW_CLIENT),
            Self::Cut => Some(DRAINED),
            Self::Unread => Some(UNREAD),
            Self::Left => None,
        }
    }
}

impl From<&ConnectError> for Failure {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::BadAddress => NO_ENDPOINT,
            ConnectError::NoResources(_) => LOCAL,
            ConnectError::Full => OVERFLOW,
            ConnectError::Refused | ConnectError::Unreachable | ConnectError::Io(_) => CONNECT,
            ConnectError::TimedOut => CONNECT_TIMEOUT,
            ConnectError::Tls(_) => TLS,
            ConnectError::NoHttp2 => PROTOCOL,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;
    use std::sync::Arc;

    use super::*;
    use crate::proxy::upstream::error::TlsError;

    #[test]
    fn each_way_to_have_no_connection_has_its_kind_and_its_response() {
        let io = || Arc::new(Error::other("reset"));
        for (error, kind, status, cause) in [
            (ConnectError::BadAddress, Some(UpstreamError::NoEndpoint), 503, "no_endpoint"),
            (ConnectError::NoResources(io()), None, 503, "local"),
            (ConnectError::Full, Some(UpstreamError::Overflow), 503, "overflow"),
            (ConnectError::Refused, Some(UpstreamError::Connect), 502, "connect"),
            (ConnectError::Unreachable, Some(UpstreamError::Connect), 502, "connect"),
            (ConnectError::Io(io()), Some(UpstreamError::Connect), 502, "connect"),
            (ConnectError::TimedOut, Some(UpstreamError::Connect), 504, "connect_timeout"),
            (TlsError::Handshake(io()).into(), Some(UpstreamError::Tls), 502, "tls"),
            (TlsError::SystemAuthorities(io()).into(), Some(UpstreamError::Tls), 502, "tls"),
            (TlsError::ServerName("".into()).into(), Some(UpstreamError::Tls), 502, "tls"),
            (ConnectError::NoHttp2, Some(UpstreamError::Protocol), 502, "protocol"),
        ] {
            let Failure { kind: found, refusal } = Failure::from(&error);
            assert_eq!((found, refusal.status, refusal.cause), (kind, status, cause), "{error}");
        }
    }
}
