//! How the endpoints of a version are checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::health::check::Thresholds;

/// How the endpoints of a version are checked, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// What is asked.
    pub(crate) kind: CheckKind,
    /// The `Host` that is sent; the endpoint's own if none.
    pub(crate) host: Option<Box<str>>,
    /// The port, instead of the endpoint's own.
    pub(crate) port: Option<u16>,
    /// From the beginning of one check to that of the next.
    pub(crate) interval: Duration,
    /// How long one may take.
    pub(crate) timeout: Duration,
    /// What answers make of an endpoint.
    pub(crate) thresholds: Thresholds,
    /// A new endpoint takes no requests before its first check passed.
    pub(crate) starts_unhealthy: bool,
}

impl HealthCheck {
    /// Whether an answer to `other` is one to this, too.
    pub(crate) fn asks_the_same(&self, other: &Self) -> bool {
        (&self.kind, &self.host, self.port) == (&other.kind, &other.host, other.port)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckKind {
    /// Whether a connection is accepted.
    Tcp,
    /// A GET.
    Http {
        /// Its target.
        target: Box<str>,
        /// The statuses that pass.
        statuses: Vec<RangeInclusive<u16>>,
    },
    /// A call of gRPC's health service.
    Grpc {
        /// The service that it asks about; the server as a whole if empty.
        service: Box<str>,
    },
}
