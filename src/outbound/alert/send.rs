//! One attempt to deliver one alert to one receiver.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::{Alert, Receiver, cloudevents, pagerduty, slack};
use crate::http_client::{Client, HttpError, Url};
use crate::outbound::hook::is_retryable;
use crate::outbound::post::{CallError, Post};
use crate::outbound::{secret, text};
use crate::rollout::alerts::Receiver as Kind;

/// How long one attempt may take.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The receiver has it.
    Delivered,
    /// It may be otherwise a little later.
    Retry(String),
    /// The receiver does not want it, and will not want it later.
    Refused(String),
}

/// Sends `alert` to `receiver`.
pub(super) async fn send(client: &Client, receiver: &Receiver, alert: &Alert) -> Sent {
    // The call has its own limit; this one is for a secret on a disk that hangs.
    match timeout(ATTEMPT_TIMEOUT, post(client, &receiver.kind, alert)).await {
        Ok(Ok(sent)) => sent,
        // A file or an address that is wrong may be mended as well.
        Ok(Err(error)) => Sent::Retry(error.to_string()),
        Err(_) => Sent::Retry(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs())),
    }
}

async fn post(client: &Client, kind: &Kind, alert: &Alert) -> Result<Sent, CallError> {
    let (mut content_type, mut signature) = ("application/json", None);
    let (url, body) = match kind {
        Kind::Slack { url } => {
            let url = secret::read(url).await?;
            (parse(url.expose())?, bytes(&slack::message(alert)))
        }
        Kind::PagerDuty { routing_key, url } => {
            let key = secret::read(routing_key).await?;
            (parse(url)?, bytes(&pagerduty::event(alert, key.expose())))
        }
        Kind::Webhook { url, secret: key } => {
            let url = secret::read(url).await?;
            let body = bytes(&cloudevents::event(alert));
            content_type = cloudevents::CONTENT_TYPE;
            signature = secret::signature(key.as_ref(), &body).await?;
            (parse(url.expose())?, body)
        }
    };
    let post = Post { url: &url, content_type, signature, body: body.into(), timeout: ATTEMPT_TIMEOUT };
    let response = post.send(client).await?;
    if response.status.is_success() {
        return Ok(Sent::Delivered);
    }
    let why = format!("{url} answered {}: {}", response.status.as_u16(), text::excerpt(&response.body));
    Ok(if is_retryable(response.status) { Sent::Retry(why) } else { Sent::Refused(why) })
}

fn parse(url: &str) -> Result<Url, HttpError> {
    Ok(url.parse::<Url>()?)
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}
