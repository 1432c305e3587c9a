//! The control API: one handler for each thing a person or a program may do.
//!
//! ```text
//! request ─ headers ─ access ─ route ─ parse ─► Control / status ─► JSON or problem+json
//! ```
//!
//! Names in paths are percent-encoded: an endpoint `unix:/run/app.sock` is `unix:%2Frun%2Fapp.sock`.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;

use super::body::{JsonBody, NoBody};
use super::extractors::{bad, by, changed, control, named};
use super::wire::{Changed, Problem, SetState, SetWeights, Status, kind};
use super::{AdminState, Auth, rollouts, status};
use crate::control::{Rejection, StateChange, StateTarget};
use crate::model::Weight;

/// The control API over `admin`, for those whom `auth` admits.
pub(super) fn router(admin: Arc<AdminState>, auth: Auth) -> Router {
    let routes = Router::new()
        .route("/api/v1/status", get(show_status))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/services/{service}/weights", put(set_weights).delete(reset_weights))
        .route("/api/v1/services/{service}/cohorts/{cohort}/weights", put(set_cohort).delete(reset_cohort))
        .route("/api/v1/services/{service}/state", put(set_service_state))
        .route("/api/v1/services/{service}/versions/{version}/state", put(set_version_state))
        .route("/api/v1/services/{service}/versions/{version}/endpoints/{endpoint}/state", put(set_endpoint_state))
        .merge(rollouts::routes())
        .with_state(admin);
    guarded(routes, auth)
}

/// `routes` for those whom `auth` admits; whatever is not found or not allowed is a problem.
fn guarded(routes: Router, auth: Auth) -> Router {
    let auth = Arc::new(auth);
    routes
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is nothing here; the API begins at /api/v1/status")
        })
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(auth, admit))
}

async fn admit(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match auth.admit(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(problem) => problem.into_response(),
    };
    for (name, value) in &ALWAYS {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Answers are of the moment, and never anything but what they say they are.
const ALWAYS: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

async fn not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not possible here; the header Allow says what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    service: Option<String>,
}

async fn show_status(
    State(admin): State<Arc<AdminState>>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<Status>, Problem> {
    let query = query.map_err(|error| bad(&error.body_text()))?.0;
    status::of(&admin, query.service.as_deref()).map(Json).map_err(Problem::from)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    #[serde(default)]
    force: bool,
}

async fn reload(
    State(admin): State<Arc<AdminState>>,
    query: Result<Query<ReloadQuery>, QueryRejection>,
    _: NoBody,
) -> Result<Json<Changed>, Problem> {
    let ReloadQuery { force } = query.map_err(|error| bad(&error.body_text()))?.0;
    let Json(changed) = changed(control(&admin)?.reload(force).await)?;
    Ok(Json(Changed { hash: Some(admin.current.load().hash.clone()), ..changed }))
}

async fn set_weights(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<String>, PathRejection>,
    body: JsonBody<SetWeights>,
) -> Result<Json<Changed>, Problem> {
    shift(&admin, named(path)?, None, body).await
}

async fn set_cohort(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: JsonBody<SetWeights>,
) -> Result<Json<Changed>, Problem> {
    let (service, cohort) = named(path)?;
    shift(&admin, service, Some(cohort), body).await
}

async fn shift(
    admin: &AdminState,
    service: String,
    cohort: Option<String>,
    JsonBody(body): JsonBody<SetWeights>,
) -> Result<Json<Changed>, Problem> {
    let weights = weights(&body)?;
    let by = by(body.author, body.reason)?;
    changed(control(admin)?.set_weights(service, cohort, weights, by).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByQuery {
    author: Option<String>,
    reason: Option<String>,
}

async fn reset_weights(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<ByQuery>, QueryRejection>,
    _: NoBody,
) -> Result<Json<Changed>, Problem> {
    reset(&admin, named(path)?, None, query).await
}

async fn reset_cohort(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<ByQuery>, QueryRejection>,
    _: NoBody,
) -> Result<Json<Changed>, Problem> {
    let (service, cohort) = named(path)?;
    reset(&admin, service, Some(cohort), query).await
}

async fn reset(
    admin: &AdminState,
    service: String,
    cohort: Option<String>,
    query: Result<Query<ByQuery>, QueryRejection>,
) -> Result<Json<Changed>, Problem> {
    let query = query.map_err(|error| bad(&error.body_text()))?.0;
    let by = by(query.author, query.reason)?;
    changed(control(admin)?.reset_weights(service, cohort, by).await)
}

async fn set_service_state(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<String>, PathRejection>,
    body: JsonBody<SetState>,
) -> Result<Json<Changed>, Problem> {
    set_state(&admin, StateTarget { service: named(path)?, version: None, endpoint: None }, body).await
}

async fn set_version_state(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: JsonBody<SetState>,
) -> Result<Json<Changed>, Problem> {
    let (service, version) = named(path)?;
    set_state(&admin, StateTarget { service, version: Some(version), endpoint: None }, body).await
}

async fn set_endpoint_state(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    body: JsonBody<SetState>,
) -> Result<Json<Changed>, Problem> {
    let (service, version, endpoint) = named(path)?;
    set_state(&admin, StateTarget { service, version: Some(version), endpoint: Some(endpoint) }, body).await
}

async fn set_state(
    admin: &AdminState,
    target: StateTarget,
    JsonBody(body): JsonBody<SetState>,
) -> Result<Json<Changed>, Problem> {
    let by = by(body.author, body.reason)?;
    let change = StateChange { target, state: body.state, force: body.force };
    changed(control(admin)?.set_state(change, by).await)
}

/// The weights of a body: numbers or text, percentages with at most two decimals.
fn weights(body: &SetWeights) -> Result<Vec<(String, Weight)>, Problem> {
    let mut weights = Vec::with_capacity(body.weights.len());
    for (version, value) in &body.weights {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let weight = text.parse().map_err(|wrong| {
            let detail = format!("weight of version `{version}`: {wrong}");
            Problem::of_kind(kind::NOT_A_SPLIT, StatusCode::UNPROCESSABLE_ENTITY, detail)
        })?;
        weights.push((version.clone(), weight));
    }
    Ok(weights)
}

impl From<status::NoService> for Problem {
    fn from(missing: status::NoService) -> Self {
        let status::NoService { found, nearest } = missing;
        Rejection::Unknown { what: "service", found, nearest, exist: Vec::new() }.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::body::Body;
    use axum::http::HeaderMap;
    use axum::http::request::Builder;
    use http_body_util::BodyExt;
    use serde_json::json;
    use tower::ServiceExt;

    use super::*;

    fn body(weights: &[(&str, serde_json::Value)]) -> SetWeights {
        let weights = weights.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        SetWeights { weights: weights.collect::<BTreeMap<_, _>>(), author: None, reason: None }
    }

    #[test]
    fn weights_are_numbers_or_text_with_two_decimals() {
        let given = body(&[("v1", json!(90)), ("v2", json!(9.99)), ("v3", json!("0.01"))]);
        let parsed: Vec<_> = weights(&given).unwrap().iter().map(|(_, weight)| weight.basis_points()).collect();
        assert_eq!(parsed, [9_000, 999, 1]);
        for wrong in [json!(-1), json!(101), json!(0.001), json!(true), json!(null), json!([]), json!("9e1")] {
            let problem = weights(&body(&[("v1", wrong.clone())])).unwrap_err();
            assert_eq!((problem.status, &*problem.kind), (422, kind::NOT_A_SPLIT), "{wrong}");
            assert!(problem.detail.contains("`v1`"), "{}", problem.detail);
        }
    }

    async fn ask(request: Builder) -> (u16, HeaderMap, Problem) {
        let names = |path: Result<Path<(String, String)>, PathRejection>| async {
            named(path).map(|(service, endpoint)| {
                Json(json!({ "type": "x", "title": service, "status": 200, "detail": endpoint }))
            })
        };
        let routes = Router::new().route("/names/{service}/{endpoint}", put(names));
        let auth = Auth { token: Some("s3cret".to_owned()), allowed_hosts: Vec::new() };
        let request = request.header("host", "localhost:9901").body(Body::empty()).unwrap();
        let response = guarded(routes, auth).oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap())
    }

    fn authorized(method: Method, target: &str) -> Builder {
        Request::builder().method(method).uri(target).header("authorization", "Bearer s3cret")
    }

    #[tokio::test]
    async fn strangers_learn_nothing_but_that_a_token_is_needed() {
        for target in ["/names/a/b", "/nothing"] {
            let (status, headers, problem) = ask(Request::builder().uri(target)).await;
            assert_eq!((status, problem.status), (401, 401));
            assert_eq!(headers["www-authenticate"], "Bearer realm=\"weir\"");
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["cache-control"], "no-store");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_and_what_is_not_possible_are_problems() {
        let (status, headers, problem) = ask(authorized(Method::GET, "/nothing")).await;
        assert_eq!((status, problem.status), (404, 404));
        assert_eq!(headers["content-type"], "application/problem+json");
        let (status, headers, problem) = ask(authorized(Method::GET, "/names/a/b")).await;
        assert_eq!((status, problem.status), (405, 405));
        assert_eq!(headers["allow"], "PUT");
    }

    #[tokio::test]
    async fn names_in_paths_are_percent_decoded_after_the_path_was_split() {
        let (status, _, echo) = ask(authorized(Method::PUT, "/names/shop/unix:%2Frun%2Fa%20b.sock")).await;
        assert_eq!((status, &*echo.title, &*echo.detail), (200, "shop", "unix:/run/a b.sock"));
        let (_, _, echo) = ask(authorized(Method::PUT, "/names/shop/%5B::1%5D:80")).await;
        assert_eq!(echo.detail, "[::1]:80");
        let (status, ..) = ask(authorized(Method::PUT, "/names/shop/%ff")).await;
        assert_eq!(status, 400);
    }
}
