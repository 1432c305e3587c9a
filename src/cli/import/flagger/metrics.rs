//! A Canary's metrics as checks.

use super::super::field::{Wrong, bounded, cite, duration, flag, left, list, number, place, printed, text};
use super::super::judged::{Judged, Query};
use super::super::page::quoted;
use super::super::resource::{Resource, find};
use super::super::words::fill;
use super::service::Service;
use crate::config::{ImportedValue, Period};

/// What Flagger takes for a metric's `interval` when it is not there.
pub(super) const INTERVAL: Period = Period::from_secs(60);
/// What Weir looks back on.
const WINDOW: (Period, Period) = (Period::SECOND, Period::HOUR);
/// The limits of a duration that Weir takes.
const LIMIT: (f64, f64) = (1.0, 3_600_000.0);

/// What the metrics of an analysis become that is run once in `interval`.
pub(super) fn judge<'f>(
    service: &Service<'f>,
    analysis: &'f ImportedValue,
    templates: &[Resource<'f>],
    interval: Period,
) -> Result<Vec<Judged<'f>>, Wrong> {
    list(analysis, "metrics")?.iter().map(|metric| judge_one(service, metric, templates, interval)).collect()
}

/// What a rollout that is judged once in `interval` looks back on: as Flagger does, but not on less than an interval.
pub(super) fn window(interval: Period) -> Period {
    interval.max(INTERVAL)
}

/// The bounds of a metric, each with its value.
struct Bounds<'f> {
    min: Option<(f64, &'f ImportedValue)>,
    max: Option<(f64, &'f ImportedValue)>,
    /// The older `threshold`, where there is no range.
    old: Option<(f64, &'f ImportedValue)>,
}

fn judge_one<'f>(
    service: &Service<'f>,
    metric: &'f ImportedValue,
    templates: &[Resource<'f>],
    interval: Period,
) -> Result<Judged<'f>, Wrong> {
    let called = text(metric, "name")?.ok_or_else(|| Wrong::at(metric, "a metric has no `name`"))?;
    let mut judged = Judged::new(metric, called);
    let range = metric.get("thresholdRange");
    let bound = |field| range.map_or(Ok(None), |range| number(range, field));
    let mut bounds = Bounds { min: bound("min")?, max: bound("max")?, old: number(metric, "threshold")? };
    if let (Some(_), Some((_, value))) = (range, bounds.old) {
        judged.comments.push(left(value, "has no effect beside `thresholdRange`"));
        bounds.old = None;
    }
    let mut window = duration(metric, "interval")?.unwrap_or(INTERVAL);
    if let Some(value) = metric.get("interval") {
        let (taken, comment) = bounded(value, window, WINDOW);
        judged.comments.extend(comment);
        window = taken;
        if window < interval {
            let shorter = format!("{} is {window}, which judges only the end of each `interval`", place(value));
            judged.comments.push(format!("{shorter}; Weir judges all of it."));
        }
    }
    let window = LookBack { looked_back: window.max(interval), of_rollout: self::window(interval) };
    if let Some(reference) = metric.get("templateRef") {
        let Some(template) = template(reference, service, templates)? else {
            let named = |field| Ok::<_, Wrong>(text(reference, field)?.map(printed));
            let at = named("namespace")?.map(|namespace| format!("{namespace}/")).unwrap_or_default();
            let wanted = format!("{at}{}", named("name")?.unwrap_or_default());
            let why = format!("the MetricTemplate {wanted} is not in these files; import both together");
            return Ok(judged.nothing(&format!("{why}; {} over {}", stated(&bounds), window.looked_back)));
        };
        return by_template(service, judged, template, &bounds, window);
    }
    let more = window.field();
    match (called, text(metric, "query")?) {
        (_, Some(query)) => {
            judged.decide("the address of Prometheus: Flagger asks the server of its own settings.");
            let (text, unknown) = filled(query.trim(), service, metric);
            let bounds = beside(&mut judged, &bounds)?;
            always_one_workload(&mut judged, query, service);
            let query = Query { url: "http://prometheus:9090", text: &text, timeout: "", unknown: &unknown };
            Ok(judged.prometheus(&query, &format!("{bounds}{more}")))
        }
        ("request-success-rate", None) => success_rate(judged, &bounds, &more),
        ("request-duration", None) => request_duration(judged, &bounds, &more),
        (_, None) => {
            let what = format!("metric {} is none of Flagger's own and has no `templateRef`", quoted(called));
            Err(Wrong::at(metric, what))
        }
    }
}

/// What a check looks back on, and what its rollout does.
#[derive(Clone, Copy)]
struct LookBack {
    looked_back: Period,
    of_rollout: Period,
}

impl LookBack {
    /// As a field of the check, where it is not the rollout's.
    fn field(self) -> String {
        if self.looked_back == self.of_rollout { String::new() } else { format!(", window: {}", self.looked_back) }
    }
}

/// The bounds in words.
fn stated(bounds: &Bounds<'_>) -> String {
    let said = |word: &str, bound: Option<(f64, &ImportedValue)>| bound.map(|(number, _)| format!("{word} {number}"));
    let said: Vec<String> =
        [said("min", bounds.min), said("max", bounds.max.or(bounds.old))].into_iter().flatten().collect();
    if said.is_empty() { "it has no bound".to_owned() } else { format!("its bounds are {}", said.join(" and ")) }
}

fn success_rate<'f>(mut judged: Judged<'f>, bounds: &Bounds<'f>, more: &str) -> Result<Judged<'f>, Wrong> {
    if let Some((max, value)) = bounds.max {
        let at = place(value);
        if max >= 100.0 {
            judged.comments.push(format!("{at} is {max}: no rate is above 100 %."));
        } else {
            judged.decide(&format!("{at} is {max}: Weir takes no success rate for too good."));
        }
    }
    let Some((min, value)) = bounds.min.or(bounds.old) else {
        if bounds.max.is_none() {
            return Err(no_bound(&judged, "min"));
        }
        return Ok(judged.nothing("it has no `thresholdRange.min`"));
    };
    if !(0.0..=100.0).contains(&min) {
        return Err(Wrong::at(value, format!("{min} is no percentage")));
    }
    if min > 0.0 && min <= 1.0 {
        let what = format!("{} is {min}, which is nearly no percentage of success", place(value));
        return Ok(judged.nothing(&format!("{what}; it may be a fraction by mistake")));
    }
    judged.check = Some(format!("success_rate: {{ min: {min} }}{more}"));
    Ok(judged)
}

fn request_duration<'f>(mut judged: Judged<'f>, bounds: &Bounds<'f>, more: &str) -> Result<Judged<'f>, Wrong> {
    if let Some((min, value)) = bounds.min {
        let at = place(value);
        if min <= 0.0 {
            judged.comments.push(format!("{at} is {min}: no duration is below it."));
        } else {
            judged.decide(&format!("{at} is {min} ms: Weir takes no duration for too short."));
        }
    }
    let Some((max, value)) = bounds.max.or(bounds.old) else {
        if bounds.min.is_none() {
            return Err(no_bound(&judged, "max"));
        }
        return Ok(judged.nothing("it has no `thresholdRange.max`"));
    };
    // Flagger's durations are numbers of milliseconds.
    if !(LIMIT.0..=LIMIT.1).contains(&max) {
        return Err(Wrong::at(value, format!("{max} is no limit of a duration: 1 to 3600000 milliseconds")));
    }
    let milliseconds = std::time::Duration::from_secs_f64(max / 1e3).as_millis();
    let limit = Period::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX));
    judged.check = Some(format!("duration: {{ quantile: 0.99, max: {limit} }}{more}"));
    Ok(judged)
}

fn no_bound(judged: &Judged<'_>, which: &str) -> Wrong {
    Wrong::at(judged.metric, format!("metric {} has no `thresholdRange.{which}`", quoted(judged.called)))
}

/// The bounds of a number that is measured elsewhere, beside `prometheus`.
fn beside(judged: &mut Judged<'_>, bounds: &Bounds<'_>) -> Result<String, Wrong> {
    let max = bounds.max.or(bounds.old);
    if bounds.min.is_none() && max.is_none() {
        return Err(no_bound(judged, "min` or `thresholdRange.max"));
    }
    let written = |word: &str, bound: Option<(f64, &ImportedValue)>| {
        bound.map(|(number, _)| format!(", {word}: {number}")).unwrap_or_default()
    };
    Ok(format!("{}{}", written("min", bounds.min), written("max", max)))
}

/// The MetricTemplate that `reference` names.
fn template<'r, 'f>(
    reference: &'f ImportedValue,
    service: &Service<'f>,
    templates: &'r [Resource<'f>],
) -> Result<Option<&'r Resource<'f>>, Wrong> {
    let wanted = text(reference, "name")?.ok_or_else(|| Wrong::at(reference, "`templateRef` has no `name`"))?;
    let namespace = text(reference, "namespace")?.or(service.canary.namespace);
    Ok(find(templates, wanted, namespace))
}

/// A check by a template: a query of Prometheus, or what has to be decided.
fn by_template<'f>(
    service: &Service<'f>,
    mut judged: Judged<'f>,
    template: &Resource<'f>,
    bounds: &Bounds<'f>,
    window: LookBack,
) -> Result<Judged<'f>, Wrong> {
    let spec = template.spec()?;
    let provider = spec.get("provider").ok_or_else(|| Wrong::at(spec, "a MetricTemplate has no `provider`"))?;
    let kind = text(provider, "type")?.ok_or_else(|| Wrong::at(provider, "a provider has no `type`"))?;
    let query = text(spec, "query")?.ok_or_else(|| Wrong::at(spec, "a MetricTemplate has no `query`"))?;
    let address = text(provider, "address")?;
    let template_query = query;
    let (query, unknown) = filled(query.trim(), service, judged.metric);
    if let Some(value) = provider.get("secretRef") {
        let secret = text(value, "name")?.map_or_else(|| "?".to_owned(), printed);
        let what = format!("{} is the Secret {secret}", cite(value));
        judged.decide(&format!("{what}; Weir sends no credentials: ask by a proxy that adds them."));
    }
    for (field, why) in [("headers", "has no equal: ask by a proxy that adds them"), ("region", "has no equal")] {
        if let Some(value) = provider.get(field) {
            judged.decide(&left(value, why));
        }
    }
    if let (Some(value), Some(insecure)) = (provider.get("insecureSkipVerify"), flag(provider, "insecureSkipVerify")?) {
        let what = if insecure { "has no equal: the certificate is verified" } else { "is off, as it is with Weir" };
        judged.comments.push(left(value, what));
    }
    if kind != "prometheus" {
        let address = address.map(|address| format!(" at {}", printed(address))).unwrap_or_default();
        let what = format!("it asks {}{address} ({}), and Weir asks Prometheus", printed(kind), template.place());
        let stated = stated(bounds);
        let judged = judged.nothing(&format!(
            "{what} or a `webhook`; {stated} over {}; its query is {}",
            window.looked_back,
            quoted(&query)
        ));
        return Ok(judged);
    }
    let url = address.unwrap_or("http://prometheus:9090");
    if address.is_none() {
        judged.decide("the address of Prometheus, which the MetricTemplate does not say.");
    }
    let bounds = beside(&mut judged, bounds)?;
    always_one_workload(&mut judged, template_query, service);
    let query = Query { url, text: &query, timeout: "", unknown: &unknown };
    Ok(judged.prometheus(&query, &format!("{bounds}{}", window.field())))
}

/// Flagger's canary is always the same workload. Weir's is the other version after each rollout, and the query that
/// names the workload would then ask about the stable one.
fn always_one_workload(judged: &mut Judged<'_>, query: &str, service: &Service<'_>) {
    let named = fill(query, |word| (!matches!(word, "target" | "name")).then(String::new)).unknown;
    let name = match &*named {
        [] => return,
        [word, ..] if word == "target" => service.target,
        _ => service.canary.name,
    };
    judged.decide(&format!(
        "the query names {}, which is the canary of the first rollout only: the next one goes the other way. With \
         versions that are named as their workloads are, `{{{{canary}}}}` in its place is right for all.",
        printed(name)
    ));
}

/// A query of Flagger as one of Weir: what it puts in by a template is known here, or Weir's to put in, or unknown.
fn filled(query: &str, service: &Service<'_>, metric: &ImportedValue) -> (String, Vec<String>) {
    let variables = metric.get("templateVariables");
    let known = |word: &str| {
        let known = match word {
            "interval" => "{{window}}",
            "name" => service.canary.name,
            "namespace" => service.canary.namespace?,
            "target" => service.target,
            "service" => service.apex,
            "ingress" => service.reference("ingressRef"),
            "route" => service.reference("routeRef"),
            _ => variables?.get(word.strip_prefix("variables.")?)?.text()?,
        };
        Some(known.to_owned())
    };
    let filled = fill(query, known);
    (filled.text, filled.unknown)
}
