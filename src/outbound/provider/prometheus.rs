//! Prometheus: one instant query, whose result is one number.
//!
//! `POST {url}/api/v1/query` with the query as a form, as the server's HTTP API defines it. What is not one number
//! (no series, several, NaN, a range, a text) is told as what it is; nothing is taken for a zero.
//!
//! The server is told the same timeout, so that it gives a query up when nobody waits for it any more.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, from_value};

use super::question::{MetricQuery, unanswered};
use crate::http_client::{Client, HttpError, HttpResponse, Url};
use crate::outbound::post::Post;
use crate::outbound::text;
use crate::rollout::reading::Reading;

/// Replaces `{{service}}`, `{{canary}}`, `{{stable}}` and `{{window}}` (as `60s`). Space inside the braces does not
/// matter, and other braces stay as they are. Names have no character that PromQL's strings would escape.
pub(super) fn expand(query: &str, question: &MetricQuery<'_>) -> String {
    let mut filled = String::with_capacity(query.len());
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let known =
            after.split_once("}}").and_then(|(inside, after)| Some((placeholder(inside.trim(), question)?, after)));
        match known {
            Some((value, after)) => {
                filled.push_str(&value);
                rest = after;
            }
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

fn placeholder<'a>(name: &str, question: &MetricQuery<'a>) -> Option<Cow<'a, str>> {
    Some(match name {
        "service" => question.service.into(),
        "canary" => question.canary.into(),
        "stable" => question.stable.into(),
        "window" => duration(question.window).into(),
        _ => return None,
    })
}

/// As PromQL writes it: whole seconds, or milliseconds if it has a part of one.
fn duration(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Asks a server for the value of `query` now.
pub(super) async fn read(client: &Client, url: &str, query: &str, timeout: Duration) -> Reading {
    match query_server(client, url, query, timeout).await {
        Ok(response) => parse(&response),
        Err(error) => unanswered(&error),
    }
}

async fn query_server(client: &Client, url: &str, query: &str, timeout: Duration) -> Result<HttpResponse, HttpError> {
    let url = url.parse::<Url>()?.join("api/v1/query")?;
    let body = format!("query={}&timeout={}", form(query), duration(timeout.max(Duration::from_millis(1))));
    let content_type = "application/x-www-form-urlencoded";
    Post { url: &url, content_type, signature: None, body: body.into(), timeout }.send(client).await
}

/// `text` as a value of `application/x-www-form-urlencoded` (WHATWG URL §5.2).
fn form(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            // To a string, this cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// The server's envelope, as far as it matters here.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum QueryResponse {
    Success {
        data: QueryResult,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

/// A result, whose form depends on its type.
#[derive(Deserialize)]
struct QueryResult {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

/// A time and a value; the value is a text, because JSON has no NaN.
type TimedValue = (f64, String);

#[derive(Deserialize)]
struct VectorElement {
    /// Absent if the series is a native histogram.
    value: Option<TimedValue>,
}

fn parse(response: &HttpResponse) -> Reading {
    match serde_json::from_slice(&response.body) {
        Ok(QueryResponse::Error { kind, .. }) if kind == "timeout" => Reading::Timeout,
        Ok(QueryResponse::Error { kind, error }) => {
            Reading::Failed(format!("Prometheus refuses the query ({kind}): {}", text::excerpt(error.as_bytes())))
        }
        Ok(QueryResponse::Success { data }) if response.status.is_success() => {
            result(data).unwrap_or_else(|| unexpected(response))
        }
        _ => unexpected(response),
    }
}

/// A response that is none of Prometheus' results.
fn unexpected(response: &HttpResponse) -> Reading {
    let status = response.status.as_u16();
    if response.truncated {
        return Reading::Failed(format!("Prometheus answered {status} with more than 64 KiB"));
    }
    let body = text::excerpt(&response.body);
    Reading::Failed(format!("Prometheus answered {status} with what is none of its results: {body}"))
}

/// The one number, or why there is none; `None` if the result does not have the form of its type.
fn result(QueryResult { kind, result }: QueryResult) -> Option<Reading> {
    let point = match kind.as_str() {
        "scalar" => from_value(result).ok()?,
        "vector" => {
            let series: Vec<VectorElement> = from_value(result).ok()?;
            match series.as_slice() {
                [] => return Some(Reading::Empty),
                [VectorElement { value: Some(point) }] => point.clone(),
                [_] => return Some(Reading::Failed("the query gives a histogram, not a number".to_owned())),
                several => return Some(Reading::Many(several.len())),
            }
        }
        "matrix" => {
            let why = "the query gives a range of values; make it one with a function such as avg_over_time";
            return Some(Reading::Failed(why.to_owned()));
        }
        "string" => return Some(Reading::Failed("the query gives a text, not a number".to_owned())),
        _ => return None,
    };
    let (_, value): TimedValue = point;
    let value: f64 = value.parse().ok()?;
    Some(if value.is_nan() { Reading::NotANumber } else { Reading::Value(value) })
}

#[cfg(test)]
mod tests;
