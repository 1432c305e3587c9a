//! The label values that are not names of the configuration: closed sets of words.
//!
//! Every label value is either a name that the configuration file spells or a word from here, so no client
//! can add a series. They are plain enums on purpose: other modules have richer types for the same facts and
//! map them at the call, so telemetry depends on none of them.
//!
//! Invariant: the words are those of docs/metrics.md, which dashboards and alerts rely on.

/// Defines an enum whose variants are label values, with the list of all and the word of each.
macro_rules! label_values {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All values, in the order in which they are exposed.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on `/metrics` and in the access log.
            #[must_use]
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The position in [`Self::ALL`].
            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_values! {
    /// What a long-lived exchange is. Requests that are none of these are no streams.
    pub(crate) StreamKind {
        /// A WebSocket connection (RFC 6455), also by extended CONNECT (RFC 8441).
        WebSocket = "websocket",
        /// Server-sent events (`text/event-stream`).
        Sse = "sse",
        /// A gRPC call.
        Grpc = "grpc",
        /// Any other upgraded connection.
        Upgrade = "upgrade",
    }
}

label_values! {
    /// Why an HTTP/2 connection of a client was ended: it cost more than it was worth.
    pub(crate) H2Abuse {
        /// Requests that the client reset (CVE-2023-44487).
        Reset = "reset",
        /// Errors of streams that the client brought about (CVE-2025-8671).
        StreamError = "stream_error",
        /// PING.
        Ping = "ping",
        /// SETTINGS.
        Settings = "settings",
        /// PRIORITY.
        Priority = "priority",
        /// DATA without data.
        EmptyData = "empty_data",
        /// DATA of a few bytes.
        SmallData = "small_data",
        /// WINDOW_UPDATE.
        WindowUpdate = "window_update",
        /// Frames of no use: of unknown kinds, and on streams that are gone.
        Stray = "stray",
        /// CONTINUATION frames of one header block.
        Continuation = "continuation",
        /// A header list far beyond the limit.
        HeaderList = "header_list",
    }
}

label_values! {
    /// Which lane of the data plane carries a request.
    pub(crate) Lane {
        /// Our own: HTTP/1.1 and HTTP/2.
        Express = "express",
        /// The engine's, for all else.
        General = "general",
    }
}

label_values! {
    /// Why an attempt to get a response from an endpoint failed.
    pub(crate) UpstreamError {
        /// No connection came about: refused, unreachable, or not within the connect timeout.
        Connect = "connect",
        /// The endpoint did not answer or went silent for longer than its timeout.
        Timeout = "timeout",
        /// The endpoint closed or reset the connection before its response was complete.
        Reset = "reset",
        /// What the endpoint sent is not HTTP.
        Protocol = "protocol",
        /// The TLS handshake with the endpoint failed.
        Tls = "tls",
        /// The version has no endpoint that takes requests.
        NoEndpoint = "no_endpoint",
        /// The endpoint sent something on a connection without a request, which was closed. No request failed by it.
        Overflow = "overflow",
        Unsolicited = "unsolicited",
    }
}

label_values! {
    /// How a lookup of a DNS name ended.
    pub(crate) LookupResult {
        /// With addresses.
        Answered = "answered",
        /// There is no such name (NXDOMAIN).
        NoName = "no_name",
        /// The name has no addresses.
        Empty = "empty",
        /// The servers could not be reached, or say that they cannot or will not answer.
        Failed = "failed",
        /// No server answered in time.
        Timeout = "timeout",
    }
}

label_values! {
    /// What happened on an endpoint that speaks against it.
    pub(crate) EndpointFailure {
        /// It refused a connection.
        Refused = "refused",
        /// There is no way to it.
        NoRoute = "no_route",
        /// It did not accept a connection within the connect timeout.
        ConnectTimeout = "connect_timeout",
        /// Connecting failed otherwise.
        Connect = "connect",
        /// No trusted TLS connection came about.
        Tls = "tls",
        /// It did not answer, or went silent, for longer than its timeout.
        Timeout = "timeout",
        /// It closed or reset a connection before its response was complete.
        Reset = "reset",
        /// What it sent is not HTTP.
        Protocol = "protocol",
        /// It answered with a status of 500 or above.
        ServerError = "server_error",
    }
}

label_values! {
    /// Why an endpoint was taken out.
    pub(crate) EjectionReason {
        /// Errors in a row.
        ConsecutiveErrors = "consecutive_errors",
        /// A success rate too far below the others'.
        SuccessRate = "success_rate",
        /// It accepted no connections.
        Unreachable = "unreachable",
        /// It failed its checks.
        Unhealthy = "unhealthy",
    }
}

label_values! {
    /// How a check of an endpoint ended.
    pub(crate) CheckResult {
        /// The endpoint is well.
        Pass = "pass",
        /// It is not, or did not answer.
        Fail = "fail",
    }
}

label_values! {
    /// Why an attempt was repeated.
    pub(crate) RetryReason {
        /// The connection to an endpoint could not be made; another endpoint was tried.
        Connect = "connect",
        /// A pooled connection died before any byte came back; a fresh one was tried.
        Reused = "reused",
        /// The endpoint provably did not process it: REFUSED_STREAM, or a GOAWAY that excludes its stream.
        Unprocessed = "unprocessed",
        /// The connection ended before the response was there; another was made.
        Reset = "reset",
        /// What came was not HTTP; another endpoint was tried.
        Protocol = "protocol",
        /// The response did not begin within the time of one try.
        Timeout = "timeout",
        /// The endpoint answered with a status after which others are asked.
        Status = "status",
        /// It failed on the canary of a rollout; stable was tried.
        Rescue = "rescue",
    }
}

label_values! {
    /// Why a request went to its version.
    pub DecisionReason {
        /// By the weights.
        Weight = "weight",
        /// By the client's affinity.
        Affinity = "affinity",
        /// The request named its version.
        Override = "override",
        /// The version that was due takes no requests; another took this one.
        Failover = "failover",
    }
}

label_values! {
    /// What became of a copy of a request for a mirror.
    pub(crate) MirrorOutcome {
        /// It was answered with a status below 500.
        Answered = "answered",
        /// It was answered with 500 or above.
        Error = "error",
        /// It was not answered: no endpoint, no connection, or not in time.
        Failed = "failed",
        /// It was not sent: as many as may be were under way.
        Overflow = "overflow",
        /// It was not sent: its body was too large, or not here in time.
        Body = "body",
    }
}

label_values! {
    /// How the responses to a copy of a request differ: that of its own version and that of the mirror.
    pub(crate) MirrorComparison {
        /// Not at all.
        Same = "same",
        /// By their statuses.
        Status = "status",
        /// By headers that are compared.
        Headers = "headers",
        /// By their bodies.
        Body = "body",
        /// One of them did not come, or is too long to be compared.
        Unknown = "unknown",
    }
}

label_values! {
    /// What a drain cut when its deadline came.
    pub(crate) CutKind {
        /// A request in flight that is no stream.
        Request = "request",
        /// A [`StreamKind::WebSocket`].
        WebSocket = "websocket",
        /// A [`StreamKind::Sse`].
        Sse = "sse",
        /// A [`StreamKind::Grpc`].
        Grpc = "grpc",
        /// A [`StreamKind::Upgrade`].
        Upgrade = "upgrade",
    }
}

impl From<StreamKind> for CutKind {
    fn from(kind: StreamKind) -> Self {
        match kind {
            StreamKind::WebSocket => Self::WebSocket,
            StreamKind::Sse => Self::Sse,
            StreamKind::Grpc => Self::Grpc,
            StreamKind::Upgrade => Self::Upgrade,
        }
    }
}

label_values! {
    /// What fault injection did to a request.
    pub(crate) InjectedFault {
        /// It was answered with an error.
        Error = "error",
        /// It had to wait.
        Delay = "delay",
    }
}

label_values! {
    /// Why a client connection was closed before it carried a request.
    pub(crate) ConnectionRefusal {
        /// The listener's cap on connections was reached, and this one had been idle longest.
        Limit = "limit",
        /// Its address had as many connections as it may have.
        AddressLimit = "address_limit",
        /// The TLS handshake failed or took too long.
        TlsHandshake = "tls_handshake",
        /// The header of the request (or the HTTP/2 preface) was not complete within its deadline.
        HeaderTimeout = "header_timeout",
        /// A trusted address sent no valid PROXY protocol header.
        ProxyProtocol = "proxy_protocol",
    }
}

/// The class of an outcome, as totals by version distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// 100 to 199; as a final status only 101.
    Informational,
    /// 200 to 299.
    Success,
    /// 300 to 399.
    Redirection,
    /// 400 to 499.
    ClientError,
    /// 500 and above; RFC 9110 §15 has invalid codes treated as 5xx.
    ServerError,
    /// The client went away before it had its response.
    ClientClosed,
}

impl Class {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::ClientClosed as usize + 1;

    /// The position in totals.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// How a request ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With this status, from an endpoint or from Weir.
    Status(u16),
    /// The client went away before it had its response.
    ClientClosed,
}

impl Outcome {
    /// The class that totals by version count it under.
    #[must_use]
    pub(crate) const fn class(self) -> Class {
        match self {
            Self::Status(100..=199) => Class::Informational,
            Self::Status(200..=299) => Class::Success,
            Self::Status(300..=399) => Class::Redirection,
            Self::Status(400..=499) => Class::ClientError,
            Self::Status(_) => Class::ServerError,
            Self::ClientClosed => Class::ClientClosed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_word_is_its_place_in_the_list() {
        for (at, kind) in UpstreamError::ALL.iter().enumerate() {
            assert_eq!(kind.index(), at);
        }
    }

    #[test]
    fn the_words_are_those_of_the_contract() {
        let words = |all: Vec<&'static str>| all.join(", ");
        assert_eq!(words(StreamKind::ALL.iter().map(|k| k.as_str()).collect()), "websocket, sse, grpc, upgrade");
        assert_eq!(
            words(UpstreamError::ALL.iter().map(|k| k.as_str()).collect()),
            "connect, timeout, reset, protocol, tls, no_endpoint, overflow, unsolicited"
        );
        assert_eq!(
            words(RetryReason::ALL.iter().map(|k| k.as_str()).collect()),
            "connect, reused, unprocessed, reset, protocol, timeout, status, rescue"
        );
        assert_eq!(
            words(DecisionReason::ALL.iter().map(|k| k.as_str()).collect()),
            "weight, affinity, override, failover"
        );
        assert_eq!(words(CutKind::ALL.iter().map(|k| k.as_str()).collect()), "request, websocket, sse, grpc, upgrade");
    }

    #[test]
    fn a_stream_is_cut_under_its_own_word() {
        for kind in StreamKind::ALL {
            assert_eq!(CutKind::from(*kind).as_str(), kind.as_str());
        }
    }

    #[test]
    fn an_invalid_status_counts_as_a_server_error() {
        assert_eq!(Outcome::Status(0).class(), Class::ServerError);
        assert_eq!(Outcome::Status(600).class(), Class::ServerError);
        assert_eq!(Outcome::Status(404).class(), Class::ClientError);
        assert_eq!(Outcome::Status(101).class(), Class::Informational);
    }
}
