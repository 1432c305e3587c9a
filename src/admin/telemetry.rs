//! `/metrics`, `/livez` and `/readyz`: read-only, without a token, safe to expose.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::AdminState;
use crate::model::Process;
use crate::telemetry::{CONTENT_TYPE, exposition};

/// The telemetry endpoints over `admin`. HEAD is answered like GET, without the body.
pub(super) fn router(admin: Arc<AdminState>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /metrics, /livez and /readyz\n") })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n") })
        .with_state(admin)
}

async fn metrics(State(admin): State<Arc<AdminState>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], exposition(&admin.recorder)).into_response()
}

async fn readyz(State(admin): State<Arc<AdminState>>) -> Response {
    readiness(*admin.process.borrow()).into_response()
}

const fn readiness(process: Process) -> (StatusCode, &'static str) {
    match process {
        Process::Ready => (StatusCode::OK, "ready\n"),
        Process::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting: traffic is not accepted yet\n"),
        Process::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining: told to stop, finishing what is in flight\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_serves_is_ready() {
        assert_eq!(readiness(Process::Ready).0, StatusCode::OK);
        assert_eq!(readiness(Process::Starting).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(readiness(Process::Draining).0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
