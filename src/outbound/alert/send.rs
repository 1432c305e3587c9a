//! One try to tell one receiver of one alert.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::{Alert, Receiver, cloudevents, pagerduty, slack};
use crate::outbound::client::{Client, Post, Url};
use crate::outbound::hook::may_pass;
use crate::outbound::{secret, text};
use crate::rollout::alerts::Receiver as Kind;

/// How long one try may take.
pub const TRY: Duration = Duration::from_secs(10);

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The receiver has it.
    Delivered,
    /// It may be otherwise a little later.
    Again(String),
    /// The receiver does not want it, and will not want it later.
    Refused(String),
}

/// Tells `receiver` of `alert`.
pub(super) async fn send(client: &Client, receiver: &Receiver, alert: &Alert) -> Sent {
    // The call has its own limit; this one is for a secret on a disk that hangs.
    match timeout(TRY, post(client, &receiver.kind, alert)).await {
        Ok(Ok(sent)) => sent,
        // A file or an address that is wrong may be mended as well.
        Ok(Err(why)) => Sent::Again(why),
        Err(_) => Sent::Again(format!("no answer within {} s", TRY.as_secs())),
    }
}

async fn post(client: &Client, kind: &Kind, alert: &Alert) -> Result<Sent, String> {
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
    let post = Post { url: &url, content_type, signature, body: body.into(), within: TRY };
    let answer = client.post(post).await.map_err(|error| error.to_string())?;
    if answer.status.is_success() {
        return Ok(Sent::Delivered);
    }
    let why = format!("{url} answered {}: {}", answer.status.as_u16(), text::excerpt(&answer.body));
    Ok(if may_pass(answer.status) { Sent::Again(why) } else { Sent::Refused(why) })
}

fn parse(url: &str) -> Result<Url, String> {
    url.parse().map_err(|error: crate::outbound::BadUrl| error.to_string())
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}
