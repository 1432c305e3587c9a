//! The JSON body of a request, within bounds.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use super::wire::Problem;

/// The largest body: room for the weights of a thousand versions with long names.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// From the head to the last byte of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's body, which must be JSON of this shape.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON and say so: `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        parse(&read(request).await?).map(Self)
    }
}

/// No body, or one that is JSON and says so. What it holds does not matter.
pub(super) struct NoBody;

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return JsonBody::<serde_json::Value>::from_request(request, state).await.map(|_| Self);
        }
        let body = read(request).await?;
        if body.is_empty() {
            return Ok(Self);
        }
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this request has no body"))
    }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES);
    match timeout(BODY_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MAX_BODY_BYTES} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body ended too early")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took more than 10 s to arrive")),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let status = match error.classify() {
            Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            Category::Syntax | Category::Eof | Category::Io => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, format!("the body cannot be used: {error}"))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| essence(value) == "application/json")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::admin::wire::SetState;

    async fn status(content_type: Option<&str>, body: impl Into<Body>) -> u16 {
        let mut request = Request::put("/");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body.into()).unwrap();
        JsonBody::<SetState>::from_request(request, &()).await.err().map_or(200, |problem| problem.status)
    }

    #[tokio::test]
    async fn a_body_is_json_that_says_so() {
        const DRAIN: &str = r#"{"state":"drain"}"#;
        assert_eq!(status(Some("application/json"), DRAIN).await, 200);
        assert_eq!(status(Some("Application/JSON; charset=utf-8"), DRAIN).await, 200);
        for other in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")] {
            assert_eq!(status(other, DRAIN).await, 415, "{other:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_json_is_400_and_what_has_another_shape_is_422() {
        for broken in ["", "{", "{\"state\":\"drain\"} x", "nul"] {
            assert_eq!(status(Some("application/json"), broken).await, 400, "{broken}");
        }
        for other in ["[]", "{}", r#"{"state":"off"}"#, r#"{"state":"drain","by_force":true}"#] {
            assert_eq!(status(Some("application/json"), other).await, 422, "{other}");
        }
    }

    #[tokio::test]
    async fn a_body_has_a_bound() {
        assert_eq!(status(Some("application/json"), "[".repeat(MAX_BODY_BYTES + 1)).await, 413);
        let deep = "[".repeat(MAX_BODY_BYTES);
        assert_eq!(status(Some("application/json"), deep).await, 400, "depth is bounded too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = Body::from_stream(futures_stream());
        assert_eq!(status(Some("application/json"), silent).await, 408);
    }

    fn futures_stream() -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        futures_util::stream::pending()
    }

    #[tokio::test]
    async fn a_request_that_needs_no_body_may_have_none() {
        let nothing =
            |request: Request| async { NoBody::from_request(request, &()).await.err().map_or(200, |p| p.status) };
        assert_eq!(nothing(Request::post("/").body(Body::empty()).unwrap()).await, 200);
        assert_eq!(nothing(Request::post("/").body(Body::from("x")).unwrap()).await, 415);
        let json = Request::post("/").header("content-type", "application/json").body(Body::from("{}")).unwrap();
        assert_eq!(nothing(json).await, 200);
        let form = Request::post("/").header("content-type", "text/plain").body(Body::from("{}")).unwrap();
        assert_eq!(nothing(form).await, 415);
    }
}
