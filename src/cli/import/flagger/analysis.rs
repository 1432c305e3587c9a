//! A Canary's analysis as a rollout: steps, checks, and how many failed analysis runs are too many.

use super::super::page::{Page, name, quoted};
use super::calls::Calls;
use super::{Service, Wrong, duration, list, number, printed, text, title, whole_number};
use crate::config::{ImportedValue, Period};

/// What Flagger takes for `interval` when it is not there.
const INTERVAL: Period = Period::from_secs(60);
/// Flagger raises shorter intervals to this.
const SHORTEST: Period = Period::from_secs(10);
/// What Flagger takes for a metric's `interval` when it is not there.
const METRIC_INTERVAL: Period = Period::from_secs(60);
/// How many iterations or failed checks are believed.
const MOST: u32 = 10_000;

/// Writes the rollout of one service.
pub(super) fn write(
    page: &mut Page,
    service: &Service<'_>,
    templates: &[&ImportedValue],
    calls: &Calls,
) -> Result<(), Wrong> {
    let skip = text(service.spec, "skipAnalysis")? == Some("true");
    page.line(2, "rollout:");
    if skip {
        page.comment(3, "skipAnalysis: the canary gets all traffic at once, and nothing is judged.");
        page.line(3, "steps: [{ weight: 100 }]");
        page.line(3, "bake: 0s");
        page.line(3, "checks: []");
        page.line(3, "rollback_when: []");
        calls.write(page);
        return Ok(());
    }
    let analysis = service.analysis.ok_or_else(|| Wrong::at(service.spec, "this Canary has no `analysis`"))?;
    let interval = duration(analysis, "interval")?.unwrap_or(INTERVAL);
    if interval < SHORTEST {
        page.comment(3, "Flagger raises an interval below 10s to 10s; Weir takes 1s and more.");
    }
    page.line(3, &format!("interval: {interval}"));
    page.line(3, "window: 1m");
    write_steps(page, analysis, interval)?;
    page.comment(3, "Flagger promotes at once. DECIDE: with `bake: 10m` the old version stays warm and can come back.");
    page.line(3, "bake: 0s");
    page.comment(3, "Flagger judges any number of requests. DECIDE: below 100, one error fails a check for 99 %.");
    page.line(3, "min_requests: 1");
    page.comment(
        3,
        "Flagger counts a check without data as failed, which rolls back where nobody calls. Here it waits.",
    );
    page.line(3, "no_data: hold");
    write_checks(page, service, analysis, templates)?;
    // Flagger's default, and what it makes of 0.
    let threshold = whole_number(analysis, "threshold", MOST)?.map_or(1, |(threshold, _)| threshold.max(1));
    page.line(3, &format!("failures: {{ total: {threshold} }} # threshold"));
    page.comment(
        3,
        "Flagger goes back only after an analysis run. DECIDE: [{ errors: 10, in_a_row: true }] goes back at the tenth error.",
    );
    page.line(3, "rollback_when: []");
    page.line(3, "rollback: immediate");
    for (field, why) in UNEQUAL.iter().filter(|(field, _)| analysis.get(field).is_some()) {
        page.comment(3, &format!("`{field}` has no equal: {why}."));
    }
    calls.write(page);
    Ok(())
}

/// Fields of the analysis that have no equal, with why.
const UNEQUAL: [(&str, &str); 6] = [
    ("mirror", "Weir sends each request to one version. DECIDE: replay recorded traffic at the canary instead"),
    ("mirrorWeight", "Weir sends each request to one version"),
    ("stepWeightPromotion", "the promotion needs no weights: the canary becomes the stable version where it is"),
    ("primaryReadyThreshold", "a version with a ready endpoint can have traffic"),
    ("canaryReadyThreshold", "a version with a ready endpoint can have traffic"),
    ("canaryReplicas", "Weir scales nothing"),
];

/// The steps: weights in whole percents, held for one interval each.
fn write_steps(page: &mut Page, analysis: &ImportedValue, interval: Period) -> Result<(), Wrong> {
    let weights = listed_weights(analysis)?;
    let matches = list(analysis, "match")?;
    let iterations = whole_number(analysis, "iterations", MOST)?.map(|(iterations, _)| iterations).filter(|n| *n > 0);
    let step = whole_number(analysis, "stepWeight", 100)?.map(|(step, _)| step).filter(|step| *step > 0);
    let max = whole_number(analysis, "maxWeight", 100)?.map(|(max, _)| max).filter(|max| *max > 0).unwrap_or(100);
    let weights = match (iterations, step, weights.is_empty()) {
        (Some(iterations), ..) => return write_iterations(page, iterations, interval, !matches.is_empty()),
        (None, _, false) => weights,
        (None, Some(step), true) => {
            if max % step != 0 {
                page.comment(3, &format!("Flagger would go past maxWeight {max}; Weir stops at it."));
            }
            (1..).map(|n: u32| n * step).take_while(|weight| *weight < max).chain([max]).collect()
        }
        (None, None, true) => {
            return Err(Wrong::at(analysis, "the analysis has none of `stepWeight`, `stepWeights` and `iterations`"));
        }
    };
    if !matches.is_empty() {
        page.comment(3, "DECIDE: `analysis.match` without `iterations` was left out.");
    }
    page.line(3, "steps:");
    for weight in weights {
        page.line(4, &format!("- {{ weight: {weight}, hold: {interval} }}"));
    }
    Ok(())
}

fn listed_weights(analysis: &ImportedValue) -> Result<Vec<u32>, Wrong> {
    let mut weights: Vec<u32> = Vec::new();
    for item in list(analysis, "stepWeights")? {
        let weight = item.text().and_then(|text| text.parse().ok()).filter(|weight| (1..=100).contains(weight));
        let weight: u32 = weight.ok_or_else(|| Wrong::at(item, "a weight of `stepWeights` is 1 to 100"))?;
        if let Some(before) = weights.last().filter(|before| weight < **before) {
            return Err(Wrong::at(
                item,
                format!("`stepWeights` falls from {before} to {weight}; Weir's steps only go up"),
            ));
        }
        weights.push(weight);
    }
    Ok(weights)
}

/// A/B testing and blue/green: so many analysis runs without a weight.
fn write_iterations(page: &mut Page, iterations: u32, interval: Period, chosen: bool) -> Result<(), Wrong> {
    if chosen {
        page.comment(
            3,
            "DECIDE: `analysis.match` (A/B) has no equal: Weir's canary takes a weight. To send those users to it, let",
        );
        page.comment(
            3,
            "what recognises them set a header, with `override: { header: x-weir-version, from: [10.0.0.0/8] }`",
        );
        page.comment(3, "beside `release`, and its value `canary`.");
    } else {
        page.comment(
            3,
            "DECIDE: blue/green judges a canary without traffic of users, by a load test. Weir needs some: 1 %.",
        );
    }
    let seconds = interval.get().as_secs().saturating_mul(iterations.into()).min(7 * 86_400);
    page.line(3, "steps:");
    let hold = Period::from_secs(seconds.max(1));
    page.line(4, &format!("- {{ weight: 1, hold: {hold} }} # {iterations} iterations of {interval}"));
    Ok(())
}

fn write_checks(
    page: &mut Page,
    service: &Service<'_>,
    analysis: &ImportedValue,
    templates: &[&ImportedValue],
) -> Result<(), Wrong> {
    let mut checks = Vec::new();
    let mut comments = Vec::new();
    for metric in list(analysis, "metrics")? {
        match check(service, metric, templates)? {
            Translation::Check(name, _) if checks.iter().any(|(known, _)| *known == name) => {
                return Err(Wrong::at(metric, format!("a second metric is named {}", quoted(&name))));
            }
            Translation::Check(name, rest) => checks.push((name, rest)),
            Translation::Comment(comment) => comments.push(comment),
        }
    }
    for comment in comments {
        page.comment(3, &comment);
    }
    if checks.is_empty() {
        page.comment(3, "DECIDE: nothing is judged.");
        page.line(3, "checks: []");
        return Ok(());
    }
    page.line(3, "checks:");
    for (name, rest) in checks {
        page.line(4, &format!("- {{ name: {name}, {rest} }}"));
    }
    Ok(())
}

/// What a metric becomes.
enum Translation {
    /// A check: its name and its other fields.
    Check(String, String),
    /// A comment on why there is none.
    Comment(String),
}

/// One metric as a check.
fn check(service: &Service<'_>, metric: &ImportedValue, templates: &[&ImportedValue]) -> Result<Translation, Wrong> {
    let called = text(metric, "name")?.ok_or_else(|| Wrong::at(metric, "a metric has no `name`"))?;
    let range = metric.get("thresholdRange");
    let bound = |field| range.map_or(Ok(None), |range| number(range, field));
    let old = number(metric, "threshold")?;
    let (min, max) = (bound("min")?, bound("max")?);
    let window = duration(metric, "interval")?.unwrap_or(METRIC_INTERVAL);
    let window = if window == METRIC_INTERVAL { String::new() } else { format!(", window: {window}") };
    let missing = |which: &str| Wrong::at(metric, format!("metric {} has no `thresholdRange.{which}`", quoted(called)));
    let source = match (called, metric.get("templateRef"), text(metric, "query")?) {
        ("request-success-rate", None, None) => {
            let (min, node) = min.or(old).ok_or_else(|| missing("min"))?;
            in_percent(min, node)?;
            return Ok(Translation::Check(name(called), format!("success_rate: {{ min: {min} }}{window}")));
        }
        ("request-duration", None, None) => {
            let (max, node) = max.or(old).ok_or_else(|| missing("max"))?;
            let max = milliseconds(max, node)?;
            return Ok(Translation::Check(name(called), format!("duration: {{ quantile: 0.99, max: {max} }}{window}")));
        }
        (_, Some(reference), _) => match template(reference, service, templates)? {
            Some(source) => source,
            None => {
                let wanted = printed(text(reference, "name")?.unwrap_or("?"));
                return Ok(Translation::Comment(format!(
                    "DECIDE: metric {} comes from the MetricTemplate {wanted}, which is not in this file. Import both \
                     together, or add a check with `prometheus: {{ url, query }}` and `min` or `max`.",
                    name(called)
                )));
            }
        },
        (_, None, Some(query)) => ("http://prometheus:9090".to_owned(), query.to_owned()),
        (_, None, None) => {
            let what = format!("metric {} is none of Flagger's own and has no `templateRef`", quoted(called));
            return Err(Wrong::at(metric, what));
        }
    };
    let (url, query) = (quoted(&source.0), quoted(&translated(&source.1, service)));
    let max = max.or(old).map(|(max, _)| format!(", max: {max}")).unwrap_or_default();
    let min = min.map(|(min, _)| format!(", min: {min}")).unwrap_or_default();
    if min.is_empty() && max.is_empty() {
        return Err(missing("min` or `thresholdRange.max"));
    }
    Ok(Translation::Check(name(called), format!("prometheus: {{ url: {url}, query: {query} }}{min}{max}{window}")))
}

/// The address and the query of the MetricTemplate that `reference` names, if it is here and asks Prometheus.
fn template(
    reference: &ImportedValue,
    service: &Service<'_>,
    templates: &[&ImportedValue],
) -> Result<Option<(String, String)>, Wrong> {
    let wanted = text(reference, "name")?.ok_or_else(|| Wrong::at(reference, "`templateRef` has no `name`"))?;
    let namespace = text(reference, "namespace")?.unwrap_or(&service.namespace);
    let fits = |template: &&&ImportedValue| {
        let own = template.get("metadata").and_then(|data| data.get("namespace")).and_then(ImportedValue::text);
        title(template) == wanted && own.is_none_or(|own| own == namespace)
    };
    let Some(spec) = templates.iter().find(fits).and_then(|template| template.get("spec")) else { return Ok(None) };
    let Some(provider) = spec.get("provider") else { return Ok(None) };
    if text(provider, "type")? != Some("prometheus") {
        return Ok(None);
    }
    let (address, query) = (text(provider, "address")?, text(spec, "query")?);
    Ok(address.zip(query).map(|(address, query)| (address.to_owned(), query.trim().to_owned())))
}

/// A query of Flagger as one of Weir: what it puts in by a template is either known here or Weir's to put in.
fn translated(query: &str, service: &Service<'_>) -> String {
    let mut query = query.to_owned();
    let known = [
        ("interval", "{{window}}"),
        ("namespace", &*service.namespace),
        ("target", &*service.name),
        ("service", &*service.name),
        ("name", &*service.name),
    ];
    for (variable, value) in known {
        for spelled in [format!("{{{{ {variable} }}}}"), format!("{{{{{variable}}}}}")] {
            query = query.replace(&spelled, value);
        }
    }
    query
}

fn in_percent(value: f64, node: &ImportedValue) -> Result<(), Wrong> {
    if (0.0..=100.0).contains(&value) { Ok(()) } else { Err(Wrong::at(node, format!("{value} is no percentage"))) }
}

/// Flagger's durations are numbers of milliseconds.
fn milliseconds(value: f64, node: &ImportedValue) -> Result<Period, Wrong> {
    if (1.0..=3_600_000.0).contains(&value) {
        let milliseconds = std::time::Duration::from_secs_f64(value / 1e3).as_millis();
        return Ok(Period::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX)));
    }
    Err(Wrong::at(node, format!("{value} is no limit of a duration: 1 to 3600000 milliseconds")))
}
