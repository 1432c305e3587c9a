//! What is known of a request on its way, as every lane keeps it.

use std::net::IpAddr;
use std::time::Duration;

use super::end::End;
use super::failure::SLOW_CLIENT;
use super::flags::FlagValues;
use crate::drain::Kind;
use crate::model::Name;
use crate::snapshot::{Route, Service, Version};
use crate::telemetry::access_log::LogText;
use crate::telemetry::{OpenGuard, Outcome, VersionSeries};
use crate::traffic::split::Reason;
use crate::traffic::{HttpVersion, Refusal, Request};

/// Where a request goes.
#[derive(Clone, Copy)]
pub(crate) struct Assignment<'s> {
    pub(crate) route: &'s Route,
    pub(crate) service: &'s Service,
    pub(crate) version: &'s Version,
    /// The version's index in the service.
    pub(crate) version_at: usize,
    /// Why this version.
    pub(crate) reason: Reason,
    /// The cohort whose split decided, by name.
    pub(crate) cohort: Option<&'s Name>,
    /// The client's affinity key, hashed, where it has one.
    pub(crate) key: Option<u64>,
    /// Feature flags of the service's.
    pub(crate) flags: FlagValues<'s>,
}

impl<'s> Assignment<'s> {
    /// The request is in flight in its version as long as this is kept. A health probe never is.
    #[inline]
    pub(crate) fn enter_borrowed(self) -> Option<OpenGuard<&'s VersionSeries>> {
        (!self.route.probe).then(|| self.version.series.enter_borrowed())
    }

    /// The same, for whoever does not borrow the version.
    pub(crate) fn enter(self) -> Option<OpenGuard> {
        (!self.route.probe).then(|| self.version.series.enter())
    }
}

/// What a request's client has of its response so far, and how it ended.
#[derive(Debug)]
pub(crate) struct RequestProgress {
    /// The response's, if its head was written.
    pub(crate) status: Option<u16>,
    /// Why Weir answered itself, or ended the response.
    pub(crate) cause: Option<&'static str>,
    pub(crate) kind: Kind,
    /// The gRPC status of the response blames the server.
    pub(crate) grpc_failed: bool,
    /// The client went away first.
    pub(crate) client_gone: bool,
    /// The exchange came to its regular end.
    pub(crate) complete: bool,
    /// It was ended from outside.
    pub(crate) ended: Option<End>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// From the request's head to the response's.
    pub(crate) answered_after: Option<Duration>,
}

impl RequestProgress {
    /// Of a request that has no response yet.
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            status: None,
            cause: None,
            kind: Kind::Request,
            grpc_failed: false,
            client_gone: false,
            complete: false,
            ended: None,
            bytes_in: 0,
            bytes_out: 0,
            answered_after: None,
        }
    }

    /// Notes a local response.
    pub(crate) fn answered_locally(&mut self, refusal: Refusal) {
        self.status = Some(refusal.status);
        self.cause = Some(refusal.cause);
    }

    /// Whether a drain's deadline ended it.
    pub(crate) fn is_cut(&self) -> bool {
        self.ended == Some(End::Cut)
    }

    /// How the request ended, as its client saw it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.status {
            // A stream that its client leaves, or that a drain cuts, ended as streams do.
            Some(status) if self.complete || self.kind.is_stream() || self.is_cut() => Outcome::Status(status),
            Some(status) if !self.client_gone => Outcome::Status(status),
            None if self.is_cut() => Outcome::Status(503),
            None if self.ended == Some(End::Upload) => Outcome::Status(SLOW_CLIENT.status),
            None if !self.client_gone && self.ended.is_some() => Outcome::Status(504),
            Some(_) | None => Outcome::ClientClosed,
        }
    }
}

/// What the access log says of a request beside how it ended; kept only when there is an access log.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) request_id: LogText,
    pub(crate) listener: Name,
    /// As the socket or a trusted proxy has it.
    pub(crate) client: Option<IpAddr>,
    pub(crate) protocol: &'static str,
    pub(crate) method: LogText,
    pub(crate) host: LogText,
    pub(crate) path: LogText,
}

impl Logged {
    /// Of a request whose head is not known.
    pub(crate) fn without_head(request_id: &[u8], listener: &Name, client: Option<IpAddr>) -> Self {
        Self {
            request_id: LogText::word(request_id),
            listener: listener.clone(),
            client,
            protocol: "",
            method: LogText::default(),
            host: LogText::default(),
            path: LogText::default(),
        }
    }

    /// Of a request's head.
    pub(crate) fn of(view: &impl Request, request_id: &[u8], listener: &Name) -> Self {
        Self {
            protocol: match view.version() {
                HttpVersion::Http10 => "HTTP/1.0",
                HttpVersion::Http11 => "HTTP/1.1",
                HttpVersion::Http2 => "HTTP/2",
            },
            method: LogText::word(view.method().as_bytes()),
            host: LogText::host(view.authority().or_else(|| view.header("host")).unwrap_or_default()),
            path: LogText::path(view.target()),
            ..Self::without_head(request_id, listener, view.client())
        }
    }
}
