//! What is measured at each look of a rollout, and the limits.

use std::collections::HashSet;
use std::sync::Arc;

use super::{HOUR, MAX_LIMITS, MAX_MIN_REQUESTS, SECOND, has_fields, in_order, limit, one_of};
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Fields, Items, Read, Reader, Step};
use crate::config::syntax::url::Url;
use crate::config::syntax::values::Period;
use crate::config::syntax::yaml::Node;
use crate::model::Name;
use crate::rollout::plan::{Check, Compared, Errors, Measure, Provider};

/// How many checks a rollout may have.
const MAX_CHECKS: usize = 32;
const PERCENT: std::ops::RangeInclusive<f64> = 0.0..=100.0;
/// What can be told from requests: neither the least nor the greatest of them is a property of a version.
const QUANTILE: std::ops::RangeInclusive<f64> = 0.001..=0.9999;
const DURATION: std::ops::RangeInclusive<Period> = Period::from_millis(1)..=HOUR;
/// What is measured outside of Weir or counted by the second.
const NUMBER: std::ops::RangeInclusive<f64> = -1e15..=1e15;
const RATE: std::ops::RangeInclusive<f64> = 0.0..=1e9;
/// Less is a coin that is thrown; 100 % is never reached.
const CONFIDENCE: std::ops::RangeInclusive<f64> = 50.0..=99.999;
/// The longest query.
const MAX_QUERY: usize = 16_384;
/// How long a provider may take.
const TIMEOUT: Period = Period::from_secs(10);
const TIMEOUTS: std::ops::RangeInclusive<Period> = Period::from_millis(100)..=Period::from_secs(60);

/// The checks of a rollout that names none.
pub(crate) fn default() -> Vec<Check> {
    let check = |name: &str, measure| Check {
        name: name.into(),
        measure,
        dry_run: false,
        min_requests: None,
        no_data: None,
        window: None,
    };
    let max = std::time::Duration::from_millis(500);
    vec![
        check("success", Measure::SuccessRate { min: 99.0, errors: Errors::default() }),
        check("latency", Measure::Duration { quantile: 0.99, max }),
    ]
}

/// The checks, each with a name of its own.
pub(crate) fn read<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Check>> {
    let items = reader.items(node, "a list of checks", |reader, node| Check::read(node, reader))?;
    reader.count(items.total, &(0..=MAX_CHECKS), node.place)?;
    let unique = check_names(reader, &items);
    let limits: HashSet<_> = items.good.iter().filter_map(|(_, _, check)| limit(check)).collect();
    if limits.len() > MAX_LIMITS {
        let problem = Problem::new(node.place, "the checks compare with too many different durations");
        reader.note(problem.found(limits.len().to_string()).expected(format!("{MAX_LIMITS} at most")));
        return None;
    }
    if unique { items.all() } else { None }
}

fn check_names<'n>(reader: &mut Reader<'n>, items: &Items<'n, Check>) -> bool {
    let mut seen = HashSet::new();
    let mut unique = true;
    for (at, node, check) in &items.good {
        if !seen.insert(&check.name) {
            unique = false;
            let place = node.field("name").map_or(node.place, |(_, value)| value.place);
            reader.below(Step::Item(*at), node.place, |reader| {
                let problem = Problem::new(place, format!("another check is named `{}`", check.name));
                reader.note(problem.help("its verdicts are told apart by the name: give each its own"));
            });
        }
    }
    unique
}

/// The fields of which a check has one.
const MEASURES: [&str; 7] = ["success_rate", "error_rate", "duration", "requests", "compare", "prometheus", "webhook"];

impl Read for Check {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let known = &[
            "name",
            "success_rate",
            "error_rate",
            "duration",
            "requests",
            "compare",
            "prometheus",
            "webhook",
            "min",
            "max",
            "dry_run",
            "min_requests",
            "no_data",
            "window",
        ];
        let mut fields = reader.fields(node, known)?;
        let name: Option<Name> = fields.required("name");
        let min = fields.within("min", NUMBER);
        let max = fields.within("max", NUMBER);
        let measure = read_measure(&mut fields, (min.flatten(), max.flatten()));
        let dry_run = fields.or("dry_run", false);
        let min_requests = fields.within("min_requests", 1..=MAX_MIN_REQUESTS);
        let no_data = fields.optional("no_data");
        let window = fields.within("window", SECOND..=HOUR);
        fields.done()?;
        min?;
        max?;
        Some(Self {
            name: name?,
            measure: measure?,
            dry_run: dry_run?,
            min_requests: min_requests?.map(u64::from),
            no_data: no_data?,
            window: window?.map(Period::get),
        })
    }
}

fn read_measure(fields: &mut Fields<'_, '_>, (min, max): (Option<f64>, Option<f64>)) -> Option<Measure> {
    let kind = one_of(fields, &MEASURES, "what is measured")?;
    let external = |provider| Measure::External { provider, min, max };
    let measure = match kind {
        "success_rate" => fields.required_with(kind, read_success_rate),
        "error_rate" => fields.required_with(kind, read_error_rate),
        "duration" => fields.required_with(kind, read_duration),
        "requests" => fields.required_with(kind, read_requests),
        "compare" => fields.required_with(kind, read_compare),
        "prometheus" => fields.required_with(kind, read_prometheus).map(external),
        _ => fields.required_with(kind, read_webhook).map(external),
    };
    let own = matches!(kind, "prometheus" | "webhook");
    for bound in ["min", "max"] {
        if !own && fields.get(bound).is_some() {
            fields.fault_at(bound, |place| {
                Problem::new(place, format!("`{bound}` is not a bound of `{kind}` here"))
                    .help(format!("the bounds of `{kind}` stand inside it: `{kind}: {{ … }}`"))
            });
        }
    }
    if kind == "prometheus" && fields.get("min").is_none() && fields.get("max").is_none() {
        fields.fault_here("a number without a bound", "add `min: …` or `max: …` beside `prometheus`");
    }
    if own {
        in_order(fields, min, max);
    }
    measure
}

fn read_success_rate<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Measure> {
    let mut fields = reader.fields(node, &["min", "count"])?;
    let min = fields.required_within("min", PERCENT);
    let errors = fields.or("count", Errors::default());
    fields.done()?;
    Some(Measure::SuccessRate { min: min?, errors: errors? })
}

fn read_error_rate<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Measure> {
    let mut fields = reader.fields(node, &["max", "count"])?;
    let max = fields.required_within("max", PERCENT);
    let errors = fields.or("count", Errors::default());
    fields.done()?;
    Some(Measure::ErrorRate { max: max?, errors: errors? })
}

fn read_duration<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Measure> {
    let mut fields = reader.fields(node, &["quantile", "max"])?;
    let quantile = fields.bounded("quantile", 0.99, QUANTILE);
    let max = fields.required_within("max", DURATION);
    fields.done()?;
    Some(Measure::Duration { quantile: quantile?, max: max?.get() })
}

fn read_requests<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Measure> {
    let mut fields = reader.fields(node, &["min", "max"])?;
    let min = fields.within("min", RATE);
    let max = fields.within("max", RATE);
    if fields.get("min").is_none() && fields.get("max").is_none() {
        fields.fault_here("a rate without a bound", "add `min: …` or `max: …`, in requests per second");
    }
    in_order(&mut fields, min.flatten(), max.flatten());
    fields.done()?;
    Some(Measure::Requests { min: min?, max: max? })
}

fn read_compare<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Measure> {
    let mut fields = reader.fields(node, &["metric", "margin", "confidence", "count"])?;
    let metric = fields.with("metric", read_metric);
    let margin = fields.bounded("margin", 0.5, PERCENT);
    let confidence = fields.bounded("confidence", 99.0, CONFIDENCE);
    let errors = fields.or("count", Errors::default());
    if matches!(metric, Some(Some(Compared::Slower(_)))) && fields.get("count").is_some() {
        fields.fault_at("count", |place| {
            Problem::new(place, "`count` has no effect with `slower_than`")
                .help("it says which responses are errors: remove it")
        });
    }
    fields.done()?;
    let metric = metric?.unwrap_or(Compared::ErrorRate);
    Some(Measure::Compare { metric, margin: margin?, confidence: confidence?, errors: errors? })
}

fn read_metric<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Compared> {
    if !has_fields(node) {
        return match reader.text(node, METRICS)? {
            "error_rate" => Some(Compared::ErrorRate),
            _ => reader.wrong(node, METRICS, None),
        };
    }
    let mut fields = reader.fields(node, &["slower_than"])?;
    let limit = fields.required_within("slower_than", DURATION);
    fields.done()?;
    limit.map(|limit| Compared::Slower(limit.get()))
}

const METRICS: &str = "`error_rate`, or `{ slower_than: 500ms }`";

fn read_prometheus<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Provider> {
    let mut fields = reader.fields(node, &["url", "query", "timeout"])?;
    let url: Option<Url> = fields.required("url");
    let query = fields.required_with("query", |reader, node| {
        const EXPECTED: &str = "a PromQL query of 1 to 16384 bytes";
        let text = reader.text(node, EXPECTED)?.trim();
        let fits = (1..=MAX_QUERY).contains(&text.len());
        if fits { Some(Arc::<str>::from(text)) } else { reader.wrong(node, EXPECTED, None) }
    });
    let timeout = fields.bounded("timeout", TIMEOUT, TIMEOUTS);
    fields.done()?;
    Some(Provider::Prometheus { url: url?.get(), query: query?, timeout: timeout?.get() })
}

fn read_webhook<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Provider> {
    let mut fields = reader.fields(node, &["url", "timeout"])?;
    let url: Option<Url> = fields.required("url");
    let timeout = fields.bounded("timeout", TIMEOUT, TIMEOUTS);
    fields.done()?;
    Some(Provider::Webhook { url: url?.get(), timeout: timeout?.get() })
}

/// Which responses count as errors, of which 5xx always is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Server,
    Client,
    Closed,
}

impl Read for Errors {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let words = &[("5xx", Class::Server), ("4xx", Class::Client), ("client_closed", Class::Closed)];
        let items = reader.items(node, "a list, such as `[5xx, 4xx]`", |reader, node| reader.choose(node, words))?;
        let place = node.place;
        let classes = items.all()?;
        if !classes.contains(&Class::Server) {
            let problem = Problem::new(place, "`5xx` is missing");
            reader.note(problem.help("it always counts as an error: add it, so that the list says what happens"));
            return None;
        }
        let (client_errors, client_closed) = (classes.contains(&Class::Client), classes.contains(&Class::Closed));
        Some(Self { client_errors, client_closed })
    }
}
