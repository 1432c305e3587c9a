//! Hooks: a call out at a point of a rollout, whose answer may let it go on, hold it, or demand the way back.
//!
//! The call is a POST of JSON, signed if the hook has a secret (`weir-signature`: `t=<Unix seconds>,v1=<hexadecimal>`, an
//! HMAC-SHA256 of the time, a dot and the body). It may be repeated, after a failure as well as after a crash of Weir;
//! the `id` then is the same.
//!
//! | what came back | is | tried again |
//! |---|---|---|
//! | 2xx, whatever the body | [`HookResponse::Accepted`] | no |
//! | 408, 425, 429, 5xx | [`HookResponse::Refused`] in the end | yes |
//! | another status | [`HookResponse::Refused`] | no: asked anew it would say the same |
//! | no answer in time, none at all, a redirect | [`HookResponse::Failed`] in the end | yes |
//!
//! What a refusal means is the engine's to say: at a gate it is waited upon.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use serde::{Serialize, Serializer};
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::post::{CallError, Post};
use super::{secret, text};
use crate::http_client::{Client, Url};
use crate::model::Weight;
use crate::rollout::alerts::Secret;
use crate::rollout::plan::{Hook, HookPoint};

/// Between attempts.
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(10) };

/// What a hook is told; the body of the call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Payload<'a> {
    /// The service.
    pub(crate) service: &'a str,
    /// The version that traffic goes back to.
    pub(crate) stable: &'a str,
    /// The version that is rolled out.
    pub(crate) canary: &'a str,
    /// The rollout's phase.
    pub(crate) phase: &'a str,
    /// At which point it is called.
    #[serde(serialize_with = "hook_point")]
    pub(crate) when: HookPoint,
    /// The step, counted from 1; 0 before the first.
    pub(crate) step: usize,
    /// The canary's weight, in percent.
    #[serde(serialize_with = "percent")]
    pub(crate) weight: Weight,
    /// The same for each repetition of this call, and for no other call.
    pub(crate) id: &'a str,
    /// What the configuration adds.
    pub(crate) metadata: &'a BTreeMap<String, String>,
}

fn hook_point<S: Serializer>(when: &HookPoint, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(when.as_str())
}

fn percent<S: Serializer>(weight: &Weight, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from(weight.basis_points()) / 100.0)
}

/// What a hook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HookResponse {
    /// Yes.
    Accepted,
    /// Something else than yes.
    Refused {
        /// The status.
        status: u16,
        /// The beginning of the body, on one line.
        text: String,
    },
    /// Nothing.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
}

/// Calls a hook: once, and up to [`Hook::retries`] times more with growing pauses. Each attempt may take
/// [`Hook::timeout`], pauses not counted.
pub(crate) async fn call(client: &Client, hook: &Hook, payload: &Payload<'_>) -> HookResponse {
    call_with(BACKOFF, client, hook, payload).await
}

async fn call_with(backoff: Backoff, client: &Client, hook: &Hook, payload: &Payload<'_>) -> HookResponse {
    let failed = |why: String| HookResponse::Failed { why };
    let url = match hook.url.parse::<Url>() {
        Ok(url) => url,
        Err(error) => return failed(error.to_string()),
    };
    let body = match serde_json::to_vec(payload) {
        Ok(body) => body,
        Err(error) => return failed(error.to_string()),
    };
    let mut failures = 0;
    loop {
        let (answer, again) = match timeout(hook.timeout, once(client, hook, &url, &body)).await {
            Ok(Ok((status, _))) if status.is_success() => return HookResponse::Accepted,
            Ok(Ok((status, text))) => (HookResponse::Refused { status: status.as_u16(), text }, is_retryable(status)),
            Ok(Err(error)) => (failed(error.to_string()), true),
            // The call has the same limit; this one is for a secret on a disk that hangs.
            Err(_) => (failed(format!("no answer within {}", humantime::format_duration(hook.timeout))), true),
        };
        if !again || failures >= hook.retries {
            return answer;
        }
        failures += 1;
        sleep(backoff.delay(failures)).await;
    }
}

async fn once(client: &Client, hook: &Hook, url: &Url, body: &[u8]) -> Result<(StatusCode, String), CallError> {
    let key = hook.secret_file.as_deref().map(|file| Secret::File(file.to_owned()));
    let signature = secret::signature(key.as_ref(), body).await?;
    let (content_type, timeout) = ("application/json", hook.timeout);
    let post = Post { url, content_type, signature, body: body.to_vec().into(), timeout };
    let response = post.send(client).await?;
    Ok((response.status, text::excerpt(&response.body)))
}

/// Whether the same call may be answered otherwise a little later.
pub(super) fn is_retryable(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

#[cfg(test)]
mod tests;
