//! The metrics of AnalysisTemplates as checks.

use super::super::field::{Wrong, bounded, cite, flag, go_duration, left, place, printed, text};
use super::super::judged::{Judged, Query};
use super::super::page::quoted;
use super::analysis::{Metric, Role};
use super::condition::{self, Bounds};
use crate::config::{ImportedValue, Period};

/// What the metrics of a Rollout become, and what they ask of the rollout as a whole.
#[derive(Default)]
pub(super) struct Judgement<'f> {
    pub(super) checks: Vec<Judged<'f>>,
    /// The shortest time between two measurements.
    pub(super) interval: Option<Period>,
    /// The least number of failed measurements that is too many.
    pub(super) failures: Option<u32>,
}

/// How many failures may be too many, for Weir.
const MOST_FAILURES: i64 = 10_000;
/// What Weir takes between two analysis runs.
pub(super) const INTERVALS: (Period, Period) = (Period::SECOND, Period::HOUR);

/// All metrics as checks; one that several analyses use in the same way is one check.
pub(super) fn judge<'f>(metrics: &[Metric<'f>]) -> Result<Judgement<'f>, Wrong> {
    let mut judgement = Judgement::default();
    let mut own = Vec::new();
    for metric in metrics {
        let judged = judge_one(metric)?;
        let known = |other: &Judged<'_>| std::ptr::eq(other.metric, judged.metric) && other.check == judged.check;
        if judgement.checks.iter().any(known) {
            continue;
        }
        let (interval, stated) = (period(metric, "interval")?, number(metric, "failureLimit")?);
        let limit = failures(stated);
        let judges = judged.check.is_some() && !judged.dormant;
        if judges {
            judgement.interval = [judgement.interval, interval].into_iter().flatten().min();
        }
        if judges && !metric.dry_run {
            judgement.failures = Some(judgement.failures.map_or(limit, |least| least.min(limit)));
        }
        own.push((interval, stated, judges && !metric.dry_run));
        judgement.checks.push(judged);
    }
    for (judged, (interval, stated, decides)) in judgement.checks.iter_mut().zip(own) {
        if let (Some(at), Some(own), true) = (judged.metric.get("interval"), interval, interval != judgement.interval) {
            let often = judgement.interval.map_or(0, |all| own.get().as_millis() / all.get().as_millis().max(1));
            judged.comments.insert(
                0,
                match stated {
                    Some(limit) if decides && limit > 0 && often > 1 => format!(
                        "DECIDE: {} is {own}; Weir measures all at each analysis run, so failures add up {often} times \
                         as fast: a longer `interval`, or more `failures`.",
                        place(at)
                    ),
                    _ => format!("{} is {own}; Weir measures all at each analysis run.", place(at)),
                },
            );
        }
        let least = Some(failures(stated)) == judgement.failures;
        if let (Some(at), Some(stated), true) = (judged.metric.get("failureLimit"), stated, !decides || !least) {
            let said = format!("{} is {stated}", place(at));
            judged.comments.insert(
                0,
                match decides {
                    true => format!("DECIDE: {said}; `failures` below is the least of all metrics, for all."),
                    false => format!("{said}; this metric decides nothing here."),
                },
            );
        }
    }
    Ok(judgement)
}

/// How long it takes until all of these metrics are measured.
pub(super) fn longest(metrics: &[Metric<'_>]) -> Result<Period, Wrong> {
    let mut longest = Period::ZERO;
    for metric in metrics {
        longest = longest.max(length(metric)?);
    }
    Ok(longest)
}

/// How long a metric is measured once it began: its delay and the times between its measurements.
fn length(metric: &Metric<'_>) -> Result<Period, Wrong> {
    let delay = period(metric, "initialDelay")?.unwrap_or(Period::ZERO);
    let interval = period(metric, "interval")?.unwrap_or(Period::ZERO);
    let count = number(metric, "count")?.unwrap_or(1).clamp(1, 1_000_000);
    let between = interval.get().saturating_mul(u32::try_from(count - 1).unwrap_or(0));
    let milliseconds = delay.get().saturating_add(between).as_millis();
    Ok(Period::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX)))
}

fn period(metric: &Metric<'_>, field: &str) -> Result<Option<Period>, Wrong> {
    let Some(written) = metric.arguments.field(metric.value, field)? else { return Ok(None) };
    let value = metric.value.get(field).unwrap_or(metric.value);
    let wrong = || Wrong::at(value, format!("`{field}` is {}; expected a time such as 30s or 5m", quoted(&written)));
    go_duration(&written).map(Some).ok_or_else(wrong)
}

fn number(metric: &Metric<'_>, field: &str) -> Result<Option<i64>, Wrong> {
    let Some(written) = metric.arguments.field(metric.value, field)? else { return Ok(None) };
    let value = metric.value.get(field).unwrap_or(metric.value);
    let wrong = |_| Wrong::at(value, format!("`{field}` is {}; a whole number is expected", quoted(&written)));
    written.parse().map(Some).map_err(wrong)
}

/// How many failed measurements are too many: one more than may be. A negative limit is none.
fn failures(limit: Option<i64>) -> u32 {
    let limit = limit.unwrap_or(0);
    let limit = if limit < 0 { MOST_FAILURES - 1 } else { limit.min(MOST_FAILURES - 1) };
    u32::try_from(limit + 1).unwrap_or(u32::MAX)
}

fn judge_one<'f>(metric: &Metric<'f>) -> Result<Judged<'f>, Wrong> {
    let mut judged = Judged::new(metric.value, metric.called);
    add_remarks(metric, &mut judged)?;
    let Some(provider) = metric.value.get("provider") else {
        return Err(Wrong::at(metric.value, format!("metric {} has no `provider`", quoted(metric.called))));
    };
    match (provider.get("prometheus"), provider.get("web")) {
        (Some(prometheus), _) => {
            let bounds = bounds(metric, &mut judged)?;
            by_prometheus(metric, judged, prometheus, bounds)
        }
        (None, Some(web)) => {
            let bounds = bounds(metric, &mut judged)?;
            by_web(metric, judged, web, bounds)
        }
        (None, None) => {
            let kinds: Vec<&str> = provider.entries().iter().map(|(kind, _)| &**kind).collect();
            let kinds = printed(&kinds.join(", "));
            let what = left(provider, &format!("asks {kinds}, and Weir asks Prometheus or a webhook"));
            judged.decide(&format!("metric {} has no check: {what}", printed(metric.called)));
            for field in ["successCondition", "failureCondition"] {
                if let Some(condition) = text(metric.value, field)? {
                    judged.comments.push(format!("Its `{field}` is {}.", quoted(condition)));
                }
            }
            Ok(judged)
        }
    }
}

/// What of a metric is not in its check.
fn add_remarks(metric: &Metric<'_>, judged: &mut Judged<'_>) -> Result<(), Wrong> {
    let value = metric.value;
    let count = number(metric, "count")?;
    if let (Some(at), Some(count)) = (value.get("count"), count) {
        judged.comments.push(format!("{} is {count}; Weir measures until the rollout is over.", place(at)));
    } else if value.get("interval").is_none() && metric.role == Role::Background {
        judged.comments.push(format!("{} has no `interval`: Argo measures it once.", cite(value)));
    }
    if let (Some(at), Some(delay)) = (value.get("initialDelay"), period(metric, "initialDelay")?) {
        judged.comments.push(match metric.role {
            Role::Background => format!(
                "DECIDE: {} is {delay}: Weir judges all checks from the first weight on, or with `warmup: {delay}` \
                 (no longer than `max_hold`) in the rollout from then on.",
                place(at)
            ),
            Role::Once => format!("{} is {delay}, which the step is held longer.", place(at)),
        });
    }
    for (field, what) in [
        ("inconclusiveLimit", "Weir has no inconclusive measurements: a check passes or fails, or has no data"),
        ("consecutiveErrorLimit", "Weir waits while a provider does not answer, and pauses after `max_hold`"),
        ("consecutiveSuccessLimit", "Weir takes a step when its hold is over and all checks pass"),
    ] {
        if let (Some(at), Some(limit)) = (value.get(field), number(metric, field)?) {
            judged.comments.push(format!("{} is {limit}: {what}.", place(at)));
        }
    }
    if number(metric, "failureLimit")?.is_some_and(|limit| limit < 0) {
        judged.comments.push("A negative `failureLimit` is no limit; Weir's is 10000.".to_owned());
    }
    if let (Some(at), Some(interval)) = (value.get("interval"), period(metric, "interval")?) {
        judged.comments.extend(bounded(at, interval, INTERVALS).1);
    }
    Ok(())
}

/// The bounds of a metric, as far as its conditions are some.
fn bounds(metric: &Metric<'_>, judged: &mut Judged<'_>) -> Result<Option<Bounds>, Wrong> {
    let success = read_condition(metric, "successCondition", judged, condition::success)?;
    let failure = read_condition(metric, "failureCondition", judged, condition::failure)?;
    let bounds = match (success, failure) {
        (Some(Some(success)), Some(Some(failure))) => {
            let between = (success.min, success.max) != (failure.min, failure.max);
            if between {
                judged.comments.push(format!(
                    "Argo pauses between `successCondition` and `failureCondition` ({}); here what is no success has \
                     failed.",
                    stated(&failure)
                ));
            }
            success
        }
        (Some(Some(one)), _) | (None, Some(Some(one))) => one,
        // What is a success cannot be told.
        (Some(None), Some(Some(failure))) => failure,
        (None, None) => {
            judged.decide("it has no condition, so that Argo pauses for a person; give it a bound.");
            return Ok(None);
        }
        (Some(None), None | Some(None)) | (None, Some(None)) => return Ok(None),
    };
    if bounds.strict {
        judged.comments.push("`<` and `>` exclude the limit in Argo; here it passes.".to_owned());
    }
    Ok(Some(bounds))
}

/// What a condition is, if it is there: bounds, or something else.
fn read_condition(
    metric: &Metric<'_>,
    field: &str,
    judged: &mut Judged<'_>,
    parse: fn(&str) -> Option<Bounds>,
) -> Result<Option<Option<Bounds>>, Wrong> {
    let Some(written) = text(metric.value, field)? else { return Ok(None) };
    let filled = metric.arguments.fill(written, &mut judged.comments);
    let found = parse(&filled.text);
    if found.is_none() {
        let at = metric.value.get(field).map(place).unwrap_or_default();
        judged.decide(&format!("{at} is {}, which is no bound of one number.", quoted(&filled.text)));
    }
    Ok(Some(found))
}

fn stated(bounds: &Bounds) -> String {
    let said = [("below", bounds.min), ("above", bounds.max)];
    let said = said.into_iter().filter_map(|(word, bound)| Some(format!("{word} {}", bound?)));
    said.collect::<Vec<_>>().join(", ")
}

/// What stands beside a provider.
fn beside(metric: &Metric<'_>, bounds: Option<Bounds>) -> String {
    let Bounds { min, max, no_data, .. } = bounds.unwrap_or_default();
    let min = min.map(|min| format!(", min: {min}")).unwrap_or_default();
    let max = max.map(|max| format!(", max: {max}")).unwrap_or_default();
    let no_data = match no_data {
        Some(true) => ", no_data: pass",
        Some(false) => ", no_data: fail",
        None => "",
    };
    let dry_run = if metric.dry_run { ", dry_run: true" } else { "" };
    format!("{min}{max}{no_data}{dry_run}")
}

/// What Weir takes for the time of an answer, in seconds, and what Argo takes.
const TIMEOUTS: (i64, i64) = (1, 60);

/// The time for an answer as a field, with a comment where it is not Argo's.
fn timeout(node: &ImportedValue, field: &str, metric: &Metric<'_>, judged: &mut Judged<'_>) -> Result<String, Wrong> {
    let Some(written) = metric.arguments.field(node, field)? else { return Ok(String::new()) };
    let value = node.get(field).unwrap_or(node);
    let seconds: i64 = written.parse().map_err(|_| Wrong::at(value, format!("`{field}` is a number of seconds")))?;
    let taken = seconds.clamp(TIMEOUTS.0, TIMEOUTS.1);
    if taken != seconds {
        judged.comments.push(format!("{} is {seconds}; Weir takes 1 to 60 seconds.", place(value)));
    }
    Ok(format!(", timeout: {taken}s"))
}

fn by_prometheus<'f>(
    metric: &Metric<'f>,
    mut judged: Judged<'f>,
    prometheus: &'f ImportedValue,
    bounds: Option<Bounds>,
) -> Result<Judged<'f>, Wrong> {
    let written = text(prometheus, "query")?.ok_or_else(|| Wrong::at(prometheus, "`prometheus` has no `query`"))?;
    let query = metric.arguments.fill(written.trim(), &mut judged.comments);
    let address = text(prometheus, "address")?.map(|address| metric.arguments.fill(address, &mut judged.comments));
    if address.is_none() {
        judged.decide("the address of Prometheus: Argo asks the server of its own settings.");
    }
    let mut unknown = query.unknown;
    unknown.extend(address.iter().flat_map(|address| address.unknown.iter().cloned()));
    for (field, why) in [
        ("authentication", "has no equal: Weir sends no credentials, so ask by a proxy that adds them"),
        ("headers", "has no equal: ask by a proxy that adds them"),
        ("rangeQuery", "has no equal: Weir asks for one number, now"),
        ("caCert", "has no equal: certificates are verified by the system's authorities"),
    ] {
        if let Some(value) = prometheus.get(field) {
            judged.decide(&left(value, why));
        }
    }
    if let (Some(value), Some(insecure)) = (prometheus.get("insecure"), flag(prometheus, "insecure")?) {
        let what = if insecure { "has no equal: the certificate is verified" } else { "is off, as it is with Weir" };
        judged.comments.push(left(value, what));
    }
    let timeout = timeout(prometheus, "timeout", metric, &mut judged)?;
    let url = address.map_or_else(|| "http://prometheus:9090".to_owned(), |address| address.text);
    // Without a bound, and with an address that is none, it is a check that Weir would not take.
    judged.dormant = bounds.is_none() || !unknown.is_empty();
    let query = Query { url: &url, text: &query.text, timeout: &timeout, unknown: &unknown };
    Ok(judged.prometheus(&query, &beside(metric, bounds)))
}

/// A GET whose answer has a number somewhere. Weir's check is a POST that is answered with `{ "value": 0.98 }`.
fn by_web<'f>(
    metric: &Metric<'f>,
    mut judged: Judged<'f>,
    web: &'f ImportedValue,
    bounds: Option<Bounds>,
) -> Result<Judged<'f>, Wrong> {
    let written = text(web, "url")?.ok_or_else(|| Wrong::at(web, "`web` has no `url`"))?;
    let url = metric.arguments.fill(written, &mut judged.comments);
    let (method, path) = (text(web, "method")?.unwrap_or("GET"), text(web, "jsonPath")?.unwrap_or_default());
    let timeout = timeout(web, "timeoutSeconds", metric, &mut judged)?;
    for (field, why) in [
        ("headers", "has no equal: Weir sends none of its own"),
        ("body", "has no equal: Weir sends what it asks about, as JSON"),
        ("jsonBody", "has no equal: Weir sends what it asks about, as JSON"),
        ("authentication", "has no equal: Weir sends no credentials"),
        ("insecure", "has no equal: certificates are verified"),
    ] {
        if let Some(value) = web.get(field) {
            judged.decide(&left(value, why));
        }
    }
    if method != "POST" || path.trim_matches(['{', '}', '$', '.']) != "value" {
        let what = format!("{} is a {} that reads {}", cite(web), printed(method), quoted(path));
        judged.decide(&format!(
            "{what}; Weir's check is a POST that is answered with {{ \"value\": 0.98 }}. Once it is:"
        ));
        judged.dormant = true;
    }
    if !url.unknown.is_empty() {
        judged.decide(&format!("nothing says what `{{{{ {} }}}}` is in the address.", url.unknown.join(", ")));
        judged.dormant = true;
    }
    judged.dormant |= bounds.is_none();
    let more = beside(metric, bounds);
    judged.check = Some(format!("webhook: {{ url: {}{timeout} }}{more}", quoted(&url.text)));
    Ok(judged)
}
