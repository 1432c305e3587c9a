//! The generic webhook: CloudEvents 1.0, structured mode, in JSON.

use serde_json::{Value, json};

use super::Alert;

/// The media type of the body.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The body of the call. `source` and `id` together are unique; names of services need no escape in a URI reference.
pub(super) fn event(alert: &Alert) -> Value {
    json!({
        "specversion": "1.0",
        "id": alert.id,
        "source": format!("/weir/services/{}", alert.service),
        "type": format!("weir.rollout.{}", alert.transition.as_str()),
        "subject": format!("{}/{}", alert.service, alert.canary),
        "time": alert.time(),
        "datacontenttype": "application/json",
        "data": {
            "service": alert.service,
            "stable": alert.stable,
            "canary": alert.canary,
            "transition": alert.transition,
            "severity": alert.severity,
            "sentence": alert.sentence,
            "done": alert.done,
            "window_seconds": alert.window_seconds,
            "figures": alert.figures,
        },
    })
}
