//! What is known of a request on its way, as every lane keeps it.

use std::net::IpAddr;

use crate::model::Name;
use crate::telemetry::access_log::LogText;
use crate::traffic::{HttpVersion, Request};

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
