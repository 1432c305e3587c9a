//! Errors of the control API as RFC 9457 has them: what happened, where, and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::wire::{Problem, kind};
use crate::config::Diagnostic;
use crate::control::Rejection;
use crate::model::Process;

/// The media type of RFC 9457.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Problem {
    /// A problem that its status and the text describe fully.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::of_kind(kind::BLANK, status, detail)
    }

    /// A problem of a kind that programs may tell apart.
    pub(super) fn of_kind(kind: &str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            diagnostics: Vec::new(),
        }
    }

    /// A change while the process stops.
    pub(super) fn stopping(process: Process) -> Self {
        let detail =
            format!("Weir is {}: it takes no more changes; make the change in what runs after it", process.as_str());
        Self::of_kind(kind::STOPPING, StatusCode::CONFLICT, detail)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let refused = |diagnostics| Self {
            diagnostics,
            ..Self::of_kind(kind::INVALID_CONFIGURATION, StatusCode::UNPROCESSABLE_ENTITY, detail.clone())
        };
        match &rejection {
            Rejection::Invalid(diagnostics) => refused(diagnostics.to_json()),
            Rejection::Restart(diagnostics) => refused(diagnostics.iter().filter_map(json).collect()),
            Rejection::Unusable(lines) => {
                refused(lines.iter().map(|line| serde_json::json!({ "message": line })).collect())
            }
            Rejection::Unknown { .. } => Self::of_kind(kind::UNKNOWN_NAME, StatusCode::NOT_FOUND, detail),
            Rejection::Refused(_)
            | Rejection::NoRollout(_)
            | Rejection::NoCanary(_)
            | Rejection::RolledOut(_)
            | Rejection::BelowMinReady(_) => Self::of_kind(kind::REFUSED, StatusCode::CONFLICT, detail),
            Rejection::Split(_) => Self::of_kind(kind::NOT_A_SPLIT, StatusCode::UNPROCESSABLE_ENTITY, detail),
            Rejection::Store(_) => Self::of_kind(kind::NOT_DURABLE, StatusCode::SERVICE_UNAVAILABLE, detail),
            Rejection::Busy | Rejection::ServiceBusy(_) => {
                Self::of_kind(kind::BUSY, StatusCode::SERVICE_UNAVAILABLE, detail)
            }
        }
    }
}

fn json(diagnostic: &Diagnostic) -> Option<serde_json::Value> {
    serde_json::to_value(diagnostic).ok()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if ENDS_CONNECTION.contains(&status) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// After these nothing more of the connection is read, least of all a body that nobody will look at.
const ENDS_CONNECTION: [StatusCode; 4] =
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NotASplit;
    use crate::store::JournalError;

    #[test]
    fn each_rejection_has_its_status_and_its_kind() {
        let unknown = |nearest: Option<&str>| {
            let exist = vec!["v1".to_owned(), "v2".to_owned()];
            Rejection::Unknown { what: "version", found: "v22".to_owned(), nearest: nearest.map(str::to_owned), exist }
        };
        let only = Rejection::Unknown {
            what: "version",
            found: "next".to_owned(),
            nearest: None,
            exist: vec!["v1".to_owned()],
        };
        let cases = [
            (unknown(Some("v2")), 404, kind::UNKNOWN_NAME, "did you mean `v2`?"),
            (unknown(None), 404, kind::UNKNOWN_NAME, "no version `v22`; there are `v1`, `v2`"),
            (only, 404, kind::UNKNOWN_NAME, "no version `next`; there is only `v1`"),
            (Rejection::NoCanary("shop".to_owned()), 409, kind::REFUSED, "no rollout of `shop` is under way"),
            (Rejection::Split(NotASplit::Sum { basis_points: 9_000 }), 422, kind::NOT_A_SPLIT, "90.00"),
            (Rejection::Store(JournalError::Unavailable("disk full".to_owned())), 503, kind::NOT_DURABLE, "disk full"),
            (Rejection::Busy, 503, kind::BUSY, "try again"),
            (Rejection::Unusable(vec!["no key".to_owned()]), 422, kind::INVALID_CONFIGURATION, "cannot be used"),
        ];
        for (rejection, status, kind, words) in cases {
            let problem = Problem::from(rejection);
            assert_eq!((problem.status, &*problem.kind), (status, kind));
            assert!(problem.detail.contains(words), "{}", problem.detail);
        }
    }

    #[test]
    fn a_refused_configuration_carries_its_diagnostics() {
        let problem = Problem::from(Rejection::Unusable(vec!["a".to_owned(), "b".to_owned()]));
        let messages: Vec<_> = problem.diagnostics.iter().map(|d| d["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["a", "b"]);
    }

    #[test]
    fn a_problem_is_problem_json_and_says_when_to_come_back() {
        let response = Problem::from(Rejection::Busy).into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(!response.headers().contains_key(header::CONNECTION));
        let response = Problem::new(StatusCode::UNAUTHORIZED, "no").into_response();
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }
}
