//! Slack: an alert as a message with blocks.
//!
//! Slack takes at most 3,000 characters in a section and 50 blocks; longer texts are cut, so that a message is never
//! refused for its length.

use serde_json::{Value, json};

use super::Alert;
use crate::outbound::text::clip;
use crate::rollout::alerts::Severity;

/// Characters of a section, some kept for the cut and for what escaping adds at the end.
const MAX_SECTION_CHARS: usize = 2_900;

/// The body of the call.
pub(super) fn message(alert: &Alert) -> Value {
    let figures: Vec<String> = alert
        .figures
        .iter()
        .map(|figure| format!("• *{}* `{}` {}", escape(&figure.check), figure.verdict, escape(&figure.sentence)))
        .collect();
    let section =
        |text: &str| json!({ "type": "section", "text": { "type": "mrkdwn", "text": clip(text, MAX_SECTION_CHARS) } });
    let texts = [escape(&alert.sentence), figures.join("\n"), escape(&alert.done)];
    let mut blocks: Vec<Value> = texts.iter().filter(|text| !text.is_empty()).map(|text| section(text)).collect();
    let small = escape(&format!("{} · stable is {} · {}", alert.time(), alert.stable, alert.id));
    blocks.push(
        json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": clip(&small, MAX_SECTION_CHARS) }] }),
    );
    json!({
        "text": clip(&escape(&alert.headline()), MAX_SECTION_CHARS),
        "attachments": [{ "color": color(alert), "fallback": clip(&escape(&alert.sentence), MAX_SECTION_CHARS), "blocks": blocks }],
    })
}

/// The bar beside the message.
const fn color(alert: &Alert) -> &'static str {
    match alert.severity {
        Severity::Info => "#2eb67d",
        Severity::Warning => "#ecb22e",
        Severity::Error | Severity::Critical => "#e01e5a",
    }
}

/// The three characters that Slack's mrkdwn gives a meaning to in any place: a name cannot become a link or `@channel`.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
