//! A provider of one's own: a POST that says what is asked, answered with a number or a verdict.
//!
//! ```text
//! → { "check": "orders", "service": "shop", "stable": "v1", "canary": "v2", "window_seconds": 60 }
//! ← { "value": 0.982 }        or        { "verdict": "fail", "text": "orders per visit fell by a third" }
//! ```
//!
//! A `value` of `null`, or an answer 204, says that there is nothing to measure. A field of another name is allowed:
//! what answers here often answers others as well. Both at once, or neither, is no answer.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::question::{MetricQuery, unanswered};
use crate::http_client::{Client, HttpError, HttpResponse, Url};
use crate::outbound::post::Post;
use crate::outbound::text;
use crate::rollout::reading::Reading;

/// The longest text of a verdict that is kept, in characters.
const MAX_TEXT_CHARS: usize = 1_000;

/// Asks the application.
pub(super) async fn read(client: &Client, url: &str, question: &MetricQuery<'_>, timeout: Duration) -> Reading {
    match ask(client, url, question, timeout).await {
        Ok(response) => parse(&response),
        Err(error) => unanswered(&error),
    }
}

async fn ask(
    client: &Client,
    url: &str,
    about: &MetricQuery<'_>,
    timeout: Duration,
) -> Result<HttpResponse, HttpError> {
    let url: Url = url.parse()?;
    let body = json!({
        "check": about.check,
        "service": about.service,
        "stable": about.stable,
        "canary": about.canary,
        "window_seconds": about.window.as_secs_f64(),
    });
    let (content_type, body) = ("application/json", body.to_string().into());
    Post { url: &url, content_type, signature: None, body, timeout }.send(client).await
}

#[derive(Deserialize)]
struct Measurement {
    /// Absent and `null` are different things.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    verdict: Option<WebhookVerdict>,
    text: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WebhookVerdict {
    Pass,
    Fail,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn parse(response: &HttpResponse) -> Reading {
    if response.status == StatusCode::NO_CONTENT {
        return Reading::Empty;
    }
    let failed = |why: String| Reading::Failed(format!("the webhook {why}"));
    let shown = || text::excerpt(&response.body);
    if !response.status.is_success() {
        return failed(format!("answered {}: {}", response.status.as_u16(), shown()));
    }
    if response.truncated {
        return failed("answered with more than 64 KiB".to_owned());
    }
    let found: Measurement = match serde_json::from_slice(&response.body) {
        Ok(found) => found,
        Err(error) => return failed(format!("did not answer as agreed ({error}): {}", shown())),
    };
    match (found.value, found.verdict) {
        (None, Some(verdict)) => {
            let text = text::clip(found.text.unwrap_or_default().trim(), MAX_TEXT_CHARS);
            Reading::Verdict { pass: verdict == WebhookVerdict::Pass, text }
        }
        (Some(Value::Null), None) => Reading::Empty,
        (Some(value), None) => match value.as_f64() {
            Some(value) => Reading::Value(value),
            None => failed(format!("answered with a `value` that is no number: {}", shown())),
        },
        (Some(_), Some(_)) => failed("answered with both a `value` and a `verdict`".to_owned()),
        (None, None) => failed(format!("answered with neither a `value` nor a `verdict`: {}", shown())),
    }
}

#[cfg(test)]
mod tests;
