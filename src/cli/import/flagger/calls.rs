//! A Canary's webhooks and alerts as hooks and receivers.

use std::collections::HashMap;

use super::super::field::{Wrong, bounded, duration, flag, left, list, place, printed, text, whole_number};
use super::super::page::{Page, free_name, name, quoted};
use super::super::resource::{Resource, find};
use super::service::Service;
use crate::config::{ImportedValue, Period};

/// What Flagger takes for a webhook's `timeout` when it is not there.
const TIMEOUT: Period = Period::from_secs(10);
/// What Weir takes.
const TIMEOUTS: (Period, Period) = (Period::from_millis(100), Period::HOUR);
const MOST_RETRIES: u32 = 10;

/// What a rollout calls.
#[derive(Default)]
pub(super) struct Calls<'f> {
    hooks: Page<'f>,
    alerts: Vec<String>,
}

impl<'f> Calls<'f> {
    /// Writes `hooks` and `alerts` of a rollout.
    pub(super) fn write(self, page: &mut Page<'f>) {
        if !self.hooks.text().is_empty() {
            page.line(3, "hooks:");
            page.append(self.hooks);
        }
        if !self.alerts.is_empty() {
            page.line(3, &format!("alerts: [{}]", self.alerts.join(", ")));
        }
    }
}

/// The receivers of the whole file.
#[derive(Default)]
pub(super) struct Receivers<'f> {
    pub(super) page: Page<'f>,
    taken: HashMap<String, u32>,
}

impl<'f> Receivers<'f> {
    /// Adds a receiver under a name of its own, and tells the name.
    fn add(
        &mut self,
        service: &str,
        called: &str,
        value: &'f ImportedValue,
        comments: &[String],
        fields: &str,
    ) -> String {
        let free = free_name(&format!("{service}-{}", name(called)), &mut self.taken);
        self.page.cite(value);
        comments.iter().for_each(|comment| self.page.comment(1, comment));
        self.page.line(1, &format!("{free}: {fields}"));
        free
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

/// The hooks and alerts of one service, which is called `own`; receivers are added to those of the file.
pub(super) fn collect<'f>(
    own: &str,
    service: &Service<'f>,
    providers: &[Resource<'f>],
    receivers: &mut Receivers<'f>,
) -> Result<Calls<'f>, Wrong> {
    let mut calls = Calls::default();
    let Some(analysis) = service.analysis else { return Ok(calls) };
    for webhook in list(analysis, "webhooks")? {
        collect_webhook(own, webhook, &mut calls, receivers)?;
    }
    for alert in list(analysis, "alerts")? {
        calls.alerts.push(collect_alert(own, service, alert, providers, receivers)?);
    }
    Ok(calls)
}

fn collect_webhook<'f>(
    own: &str,
    webhook: &'f ImportedValue,
    calls: &mut Calls<'f>,
    receivers: &mut Receivers<'f>,
) -> Result<(), Wrong> {
    let kind = text(webhook, "type")?.filter(|kind| !kind.is_empty()).unwrap_or("rollout");
    let url = text(webhook, "url")?.ok_or_else(|| Wrong::at(webhook, "a webhook has no `url`"))?;
    let called = text(webhook, "name")?;
    let mut comments = called.map(|called| format!("Webhook {}.", printed(called))).into_iter().collect::<Vec<_>>();
    if let Some(metadata) = webhook.get("metadata") {
        let what = left(metadata, "is not sent: put what the receiver needs into the address");
        comments.push(format!("DECIDE: {what}"));
    }
    for (field, why) in [
        ("disableTLS", "has no equal: certificates are verified"),
        ("muteAlert", "has no equal: `alerts.NAME.on` says what is told"),
    ] {
        match (webhook.get(field), flag(webhook, field)?) {
            (Some(value), Some(true)) => comments.push(left(value, why)),
            (Some(value), _) => comments.push(left(value, "is off, as it is with Weir")),
            (None, _) => {}
        }
    }
    if kind == "event" {
        for field in ["timeout", "retries"] {
            comments
                .extend(webhook.get(field).map(|value| left(value, "has no equal: alerts are repeated with back-off")));
        }
        comments.push("Was a webhook of type `event`. The body is a CloudEvent, not Flagger's.".to_owned());
        let on = "[started, step, waiting, paused, rolled_back, aborted, succeeded, provider_error]";
        let fields = format!("{{ webhook: {{ url: {} }}, on: {on} }}", quoted(url));
        calls.alerts.push(receivers.add(own, called.unwrap_or("event"), webhook, &comments, &fields));
        return Ok(());
    }
    let Some((_, when, differs)) = TYPES.iter().find(|(known, ..)| *known == kind) else {
        let known: Vec<&str> = TYPES.iter().map(|(known, ..)| *known).chain(["event"]).collect();
        let what = format!("a webhook of type {}; known are {}", quoted(kind), known.join(", "));
        return Err(Wrong::at(webhook, what));
    };
    comments.extend(Some(*differs).filter(|text| !text.is_empty()).map(str::to_owned));
    let mut timeout = duration(webhook, "timeout")?.unwrap_or(TIMEOUT);
    if let Some(value) = webhook.get("timeout") {
        let (taken, comment) = bounded(value, timeout, TIMEOUTS);
        comments.extend(comment);
        timeout = taken;
    }
    let mut retries = whole_number(webhook, "retries", 1_000)?.unwrap_or(0);
    if let Some(value) = webhook.get("retries").filter(|_| retries > MOST_RETRIES) {
        comments.push(format!("{} is {retries}; Weir tries {MOST_RETRIES} times more at most.", place(value)));
        retries = MOST_RETRIES;
    }
    let retries = if retries == 0 { String::new() } else { format!(", retries: {retries}") };
    calls.hooks.cite(webhook);
    comments.iter().for_each(|comment| calls.hooks.comment(4, comment));
    calls.hooks.line(4, &format!("- {{ when: {when}, url: {}, timeout: {timeout}{retries} }}", quoted(url)));
    Ok(())
}

/// Adds the receiver of an alert, and tells its name.
fn collect_alert<'f>(
    own: &str,
    service: &Service<'f>,
    alert: &'f ImportedValue,
    providers: &[Resource<'f>],
    receivers: &mut Receivers<'f>,
) -> Result<String, Wrong> {
    let called = text(alert, "name")?.ok_or_else(|| Wrong::at(alert, "an alert has no `name`"))?;
    let on = match text(alert, "severity")?.unwrap_or_default() {
        "" | "info" => "[started, waiting, paused, rolled_back, aborted, succeeded]",
        "warn" => "[waiting, paused, rolled_back, aborted]",
        "error" => "[rolled_back, aborted]",
        other => return Err(Wrong::at(alert, format!("severity {}; known are info, warn, error", quoted(other)))),
    };
    let reference = alert.get("providerRef").ok_or_else(|| Wrong::at(alert, "an alert has no `providerRef`"))?;
    let wanted = text(reference, "name")?.ok_or_else(|| Wrong::at(reference, "`providerRef` has no `name`"))?;
    let namespace = text(reference, "namespace")?.or(service.canary.namespace);
    let mut comments = vec![format!("Alert {}.", printed(called))];
    let receiver = match find(providers, wanted, namespace) {
        Some(provider) => receiver(provider, &mut comments)?,
        None => {
            let at = namespace.map(|namespace| format!(" of the namespace {}", printed(namespace))).unwrap_or_default();
            comments.push(format!(
                "DECIDE: was the AlertProvider {}{at}, which is not in these files. Put its address into this one, or \
                 choose `pagerduty` or `webhook`.",
                printed(wanted)
            ));
            format!("slack: {{ url_file: {} }}", quoted(&format!("secrets/{}", name(wanted))))
        }
    };
    Ok(receivers.add(own, called, alert, &comments, &format!("{{ {receiver}, on: {on} }}")))
}

/// An AlertProvider as one of Weir's receivers.
fn receiver(provider: &Resource<'_>, comments: &mut Vec<String>) -> Result<String, Wrong> {
    let spec = provider.spec()?;
    let kind = text(spec, "type")?.ok_or_else(|| Wrong::at(spec, "an AlertProvider has no `type`"))?;
    for (field, what) in [("channel", "the channel"), ("username", "the sender"), ("proxy", "the proxy")] {
        if let (Some(value), Some(written)) = (spec.get(field), text(spec, field)?) {
            comments.push(format!("{} is {what} {}, which the address decides here.", place(value), printed(written)));
        }
    }
    let (address, secret) = (text(spec, "address")?, spec.get("secretRef"));
    let secret_name = secret.map(|secret| text(secret, "name")).transpose()?.flatten();
    let word = match kind {
        "slack" | "rocket" => "slack",
        "discord" => {
            comments.push("DECIDE: Discord takes Slack's messages at its address with `/slack` behind it.".to_owned());
            "slack"
        }
        other => {
            let what = format!("DECIDE: {} of type {} has no equal", provider.place(), printed(other));
            comments.push(format!("{what}. Here it gets CloudEvents: let something translate them."));
            "webhook"
        }
    };
    // Flagger takes the secret where there are both.
    Ok(match (secret_name, address) {
        (Some(secret), address) => {
            let file = format!("secrets/{}", name(secret));
            let why = format!("put the key `address` of the Secret {} into the file", printed(secret));
            comments.push(format!("DECIDE: {}: {why} {file}.", provider.place()));
            if let Some(value) = spec.get("address").filter(|_| address.is_some()) {
                comments.push(left(value, "has no effect beside `secretRef`"));
            }
            format!("{word}: {{ url_file: {} }}", quoted(&file))
        }
        (None, Some(address)) => {
            let what = "the address is a secret: with `url_file` it is not in this file";
            comments.push(format!("{}: {what}.", provider.place()));
            format!("{word}: {{ url: {} }}", quoted(address))
        }
        (None, None) => return Err(Wrong::at(spec, "an AlertProvider has neither `address` nor `secretRef`")),
    })
}
