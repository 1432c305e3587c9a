//! A Canary's webhooks and alerts as hooks and receivers.

use super::super::page::{Page, name, quoted};
use super::{Service, Wrong, duration, list, printed, text, whole_number};
use crate::config::{ImportedValue, Period};

/// What Flagger takes for a webhook's `timeout` when it is not there.
const TIMEOUT: Period = Period::from_secs(10);

/// What a rollout calls: finished lines.
#[derive(Default)]
pub(super) struct Calls {
    /// Comments, then the hook, in the order of the file.
    hooks: Vec<(Vec<&'static str>, String)>,
    comments: Vec<String>,
    alerts: Vec<String>,
}

impl Calls {
    /// Writes `hooks` and `alerts` of a rollout.
    pub(super) fn write(&self, page: &mut Page) {
        if !self.hooks.is_empty() {
            page.line(3, "hooks:");
            for (comments, hook) in &self.hooks {
                comments.iter().for_each(|comment| page.comment(4, comment));
                page.line(4, &format!("- {hook}"));
            }
        }
        self.comments.iter().for_each(|comment| page.comment(3, comment));
        if !self.alerts.is_empty() {
            page.line(3, &format!("alerts: [{}]", self.alerts.join(", ")));
        }
    }
}

/// One receiver, as it is written under `alerts`.
pub(super) struct AlertSection {
    name: String,
    comment: String,
    value: String,
}

impl AlertSection {
    pub(super) fn write(&self, page: &mut Page) {
        page.comment(1, &self.comment);
        page.line(1, &format!("{}: {}", self.name, self.value));
    }
}

/// The types of webhooks with Weir's word and what differs.
const TYPES: [(&str, &str, &str); 7] = [
    ("confirm-rollout", "before_start", ""),
    ("pre-rollout", "before_start", "Flagger counts a refusal as a failed check; here the rollout waits."),
    (
        "rollout",
        "during",
        "Flagger counts a refusal as a failed check. DECIDE: for that, make it a check: { name, webhook: { url } }.",
    ),
    ("confirm-traffic-increase", "before_step", ""),
    ("confirm-promotion", "before_promote", ""),
    ("post-rollout", "after", ""),
    ("rollback", "demand_rollback", ""),
];

/// The hooks and alerts of one service; receivers are added to those of the file.
pub(super) fn collect(service: &Service<'_>, receivers: &mut Vec<AlertSection>) -> Result<Calls, Wrong> {
    let mut calls = Calls::default();
    let Some(analysis) = service.analysis else { return Ok(calls) };
    for webhook in list(analysis, "webhooks")? {
        collect_webhook(service, webhook, &mut calls, receivers)?;
    }
    for alert in list(analysis, "alerts")? {
        collect_alert(service, alert, &mut calls, receivers)?;
    }
    Ok(calls)
}

fn collect_webhook(
    service: &Service<'_>,
    webhook: &ImportedValue,
    calls: &mut Calls,
    receivers: &mut Vec<AlertSection>,
) -> Result<(), Wrong> {
    let kind = text(webhook, "type")?.unwrap_or("rollout");
    let url = text(webhook, "url")?.ok_or_else(|| Wrong::at(webhook, "a webhook has no `url`"))?;
    if kind == "event" {
        let called = text(webhook, "name")?.unwrap_or("event");
        let value = "{ webhook: { url: URL }, on: [started, step, waiting, paused, rolled_back, aborted, succeeded, provider_error] }";
        let value = value.replace("URL", &quoted(url));
        let comment = "Was a webhook of type `event`. The body is a CloudEvent, not Flagger's.".to_owned();
        calls.alerts.push(add(receivers, service, called, comment, value));
        return Ok(());
    }
    let Some((_, when, differs)) = TYPES.iter().find(|(known, ..)| *known == kind) else {
        let known: Vec<&str> = TYPES.iter().map(|(known, ..)| *known).chain(["event"]).collect();
        let what = format!("a webhook of type {}; known are {}", quoted(kind), known.join(", "));
        return Err(Wrong::at(webhook, what));
    };
    let timeout = duration(webhook, "timeout")?.unwrap_or(TIMEOUT);
    let retries = whole_number(webhook, "retries", 1_000)?.map_or(0, |(retries, _)| retries.min(10));
    let mut comments: Vec<&str> = Some(*differs).filter(|text| !text.is_empty()).into_iter().collect();
    if webhook.get("metadata").is_some() {
        comments.push("DECIDE: its `metadata` is not sent; put what the receiver needs into the address.");
    }
    if text(webhook, "disableTLS")? == Some("true") {
        comments.push("`disableTLS` has no equal: certificates are verified.");
    }
    let retries = if retries == 0 { String::new() } else { format!(", retries: {retries}") };
    let hook = format!("{{ when: {when}, url: {}, timeout: {timeout}{retries} }}", quoted(url));
    calls.hooks.push((comments, hook));
    Ok(())
}

fn collect_alert(
    service: &Service<'_>,
    alert: &ImportedValue,
    calls: &mut Calls,
    receivers: &mut Vec<AlertSection>,
) -> Result<(), Wrong> {
    let called = text(alert, "name")?.ok_or_else(|| Wrong::at(alert, "an alert has no `name`"))?;
    let on = match text(alert, "severity")?.unwrap_or("info") {
        "info" => "[started, waiting, paused, rolled_back, aborted, succeeded]",
        "warn" => "[waiting, paused, rolled_back, aborted]",
        "error" => "[rolled_back, aborted]",
        other => return Err(Wrong::at(alert, format!("severity {}; known are info, warn, error", quoted(other)))),
    };
    let provider = alert.get("providerRef").map(|provider| text(provider, "name")).transpose()?.flatten();
    let provider = printed(provider.unwrap_or("?"));
    let comment = format!(
        "DECIDE: was the AlertProvider {provider}. Put its address into the file, or choose `pagerduty` or `webhook`."
    );
    let file = quoted(&format!("secrets/{}", name(called)));
    let value = format!("{{ slack: {{ url_file: {file} }}, on: {on} }}");
    calls.alerts.push(add(receivers, service, called, comment, value));
    Ok(())
}

/// Adds a receiver under a name of its own, and tells the name.
fn add(
    receivers: &mut Vec<AlertSection>,
    service: &Service<'_>,
    called: &str,
    comment: String,
    value: String,
) -> String {
    let base: String = format!("{}-{}", service.name, name(called)).chars().take(55).collect();
    let taken = |name: &str| receivers.iter().any(|receiver| receiver.name == name);
    let numbered = (2..).map(|n: u32| format!("{base}-{n}"));
    let name = std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base);
    receivers.push(AlertSection { name: name.clone(), comment, value });
    name
}
