//! PagerDuty's Events API v2: an incident for each service and canary, ended when the rollout succeeds or another takes its place.

use serde_json::{Value, json};

use super::Alert;
use crate::outbound::text::clip;

/// Characters of a summary, and of a key, that PagerDuty takes.
const MAX_SUMMARY_CHARS: usize = 1_024;
const MAX_KEY_CHARS: usize = 255;

/// The body of the call.
///
/// The key is the same for all alerts of one service and canary: what follows the first is added to its incident, and
/// a repetition changes nothing.
pub(super) fn event(alert: &Alert, routing_key: &str) -> Value {
    let action = if alert.transition.ends_incident() { "resolve" } else { "trigger" };
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": clip(&format!("weir/{}/{}", alert.service, alert.canary), MAX_KEY_CHARS),
        "client": "Weir",
        "payload": {
            "summary": clip(&format!("{}. {}", alert.headline(), alert.sentence), MAX_SUMMARY_CHARS),
            "source": alert.service,
            "severity": alert.severity.as_str(),
            "timestamp": alert.time(),
            "component": alert.canary,
            "class": alert.transition.as_str(),
            "custom_details": {
                "id": alert.id,
                "stable": alert.stable,
                "done": alert.done,
                "window_seconds": alert.window_seconds,
                "figures": alert.figures,
            },
        },
    })
}
