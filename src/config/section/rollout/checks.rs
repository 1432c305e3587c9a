//! What is measured at each analysis run of a rollout, and the limits.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::config::syntax::diagnostic::quoted;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Items, PathStep, Read, Reader};
use crate::config::syntax::schema;
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::{Node, Scalar, Value};
use crate::config::syntax::url::HttpUrl;
use crate::config::syntax::values::{self, Period};
use crate::model::Name;
use crate::rollout::plan::{Check, Compared, Errors, Measure, NoData, Plan, Provider, QUERY_WORDS};

/// How many requests a check may ask for.
pub(crate) const MAX_MIN_REQUESTS: u32 = 100_000_000;
/// How many durations may be limits of one service: each becomes an edge of its histograms.
const MAX_LIMITS: usize = 13;
const PERCENT: RangeInclusive<f64> = 0.0..=100.0;
/// What can be told from requests: neither the least nor the greatest of them is a property of a version.
const QUANTILE: RangeInclusive<f64> = 0.001..=0.9999;
const DURATION: RangeInclusive<Period> = Period::from_millis(1)..=Period::HOUR;
/// What is measured outside of Weir or counted by the second.
const NUMBER: RangeInclusive<f64> = -1e15..=1e15;
const RATE: RangeInclusive<f64> = 0.0..=1e9;
/// Less is a coin that is thrown; 100 % is never reached.
const CONFIDENCE: RangeInclusive<f64> = 50.0..=99.999;
/// The longest query.
const MAX_QUERY: usize = 16_384;
/// How long a provider may take.
const TIMEOUT: Period = Period::from_secs(10);
const TIMEOUTS: RangeInclusive<Period> = Period::from_millis(100)..=Period::from_secs(60);

/// The checks of a rollout that names none.
pub(crate) fn default() -> Vec<Check> {
    let max = Duration::from_millis(500);
    vec![
        with_defaults("success", Measure::SuccessRate { min: 99.0, errors: Errors::default() }),
        with_defaults("latency", Measure::Duration { quantile: 0.99, max }),
        with_defaults(
            "not-worse",
            Measure::Compare { metric: Compared::ErrorRate, margin: 0.5, confidence: 99.0, errors: Errors::default() },
        ),
    ]
}

fn with_defaults(name: &str, measure: Measure) -> Check {
    Check { name: name.into(), measure, dry_run: false, min_requests: None, no_data: None, window: None }
}

/// The checks, each with a name of its own.
pub(crate) fn read<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Check>> {
    let items = reader.items(node, "a list of checks", |reader, node| Check::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
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
            reader.below(PathStep::Item(*at), node.place, |reader| {
                let problem = Problem::new(place, format!("another check is named `{}`", check.name));
                reader.note(problem.help("its verdicts are told apart by the name: give each its own"));
            });
        }
    }
    unique
}

/// The durations that the checks of `plan` compare with, each once, rising.
pub(crate) fn duration_limits(plan: &Plan) -> Vec<Duration> {
    let mut limits: Vec<Duration> = plan.checks.iter().filter_map(limit).collect();
    limits.sort_unstable();
    limits.dedup();
    limits
}

/// The duration that a check compares with.
fn limit(check: &Check) -> Option<Duration> {
    match check.measure {
        Measure::Duration { max, .. } => Some(max),
        Measure::Compare { metric: Compared::Slower(limit), .. } => Some(limit),
        Measure::SuccessRate { .. }
        | Measure::ErrorRate { .. }
        | Measure::Abandoned { .. }
        | Measure::Requests { .. }
        | Measure::Compare { metric: Compared::ErrorRate, .. }
        | Measure::External { .. } => None,
    }
}

/// The fields of which a check has one.
const MEASURES: [&str; 8] =
    ["success_rate", "error_rate", "duration", "abandoned", "requests", "compare", "prometheus", "webhook"];

section! {
    /// One measured condition. Exactly one of `success_rate`, `error_rate`, `duration`, `abandoned`, `requests`,
    /// `compare`, `prometheus` and `webhook` is set.
    impl Check as "Check" {
        /// Its name, unique in the rollout.
        name: Name as values::Name = required(),
        /// The percentage of the canary's responses that are no errors.
        success_rate: Option<SuccessRate> = optional(),
        /// The percentage of the canary's responses that are errors.
        error_rate: Option<ErrorRate> = optional(),
        /// A quantile of the canary's durations.
        duration: Option<Quantile> = optional(),
        /// The percentage of the canary's requests whose client went away before the first byte of the response.
        abandoned: Option<AbandonedRate> = optional(),
        /// The canary's requests per second.
        requests: Option<RequestRate> = optional(),
        /// The canary against the stable version, by a sequential test.
        compare: Option<Compare> = optional(),
        /// The value of a PromQL query; needs `min`, `max` or both beside it.
        prometheus: Option<PrometheusCheck> = optional(),
        /// A POST whose JSON answer has a `value`, which `min` and `max` are bounds of, or a `verdict`.
        webhook: Option<WebhookCheck> = optional(),
        /// With `prometheus` or `webhook`: at least this.
        min: Option<f64> = within(NUMBER),
        /// With `prometheus` or `webhook`: at most this.
        max: Option<f64> = within(NUMBER),
        /// `true`: reports without deciding.
        dry_run: bool = or(false),
        /// Replaces the rollout's `min_requests`.
        min_requests: Option<u32> = within(1..=MAX_MIN_REQUESTS),
        /// Replaces the rollout's `no_data`.
        no_data: Option<NoData> = optional(),
        /// Replaces the rollout's `window`; at least `interval`.
        window: Option<Period> = within(Period::SECOND..=Period::HOUR),
    }
    rules(fields) {
        check_measure(&mut fields, min.flatten(), max.flatten());
    }
    => {
        let provider = prometheus.map(PrometheusCheck::provider).or(webhook.map(WebhookCheck::provider));
        let measure = success_rate
            .map(|SuccessRate { min, count }| Measure::SuccessRate { min, errors: count })
            .or(error_rate.map(|ErrorRate { max, count }| Measure::ErrorRate { max, errors: count }))
            .or(duration.map(|Quantile { quantile, max }| Measure::Duration { quantile, max: max.get() }))
            .or(abandoned.map(|AbandonedRate { max }| Measure::Abandoned { max }))
            .or(requests.map(|RequestRate { min, max }| Measure::Requests { min, max }))
            .or(compare.map(Compare::measure))
            .or(provider.map(|provider| Measure::External { provider, min, max }))?;
        Check {
            name,
            measure,
            dry_run,
            min_requests: min_requests.map(u64::from),
            no_data,
            window: window.map(Period::get),
        }
    }
}

/// Notes when not exactly one thing is measured, and when its bounds are not where they belong.
fn check_measure(fields: &mut Fields<'_, '_>, min: Option<f64>, max: Option<f64>) {
    let Some(kind) = fields.one_of(&MEASURES, "what is measured") else { return };
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
        fields.check_order(min, max);
    }
}

section! {
    /// The percentage of the canary's responses that are no errors.
    #[derive(Clone)]
    struct SuccessRate {
        /// At least this, in percent: `99`, not `0.99`. More than 1, or 0.
        min: f64 = required_within(PERCENT),
        /// What counts as an error; `5xx` always does.
        count: Errors as Vec<ErrorClass> = with_or(Errors::default(), only_server_errors(), read_errors),
    }
    rules(fields) {
        check_fraction(&mut fields, min);
    }
}

/// Notes a fraction: who writes `0.99` means 99 %, and would allow 99.01 % of errors.
fn check_fraction(fields: &mut Fields<'_, '_>, min: Option<f64>) {
    let Some(min) = min.filter(|min| *min > 0.0 && *min <= 1.0) else { return };
    let meant = Some((min * 1e8).round() / 1e6).filter(|meant| *meant > 1.0).unwrap_or(99.0);
    fields.fault_at("min", |place| {
        Problem::new(place, "a fraction where a percentage is expected")
            .found(min.to_string())
            .expected("0, or more than 1 up to 100")
            .help(format!("so little of a percentage allows nearly only errors: write `{meant}`"))
    });
}

section! {
    /// The percentage of the canary's responses that are errors.
    #[derive(Clone)]
    struct ErrorRate {
        /// At most this, in percent.
        max: f64 = required_within(PERCENT),
        /// What counts as an error; `5xx` always does.
        count: Errors as Vec<ErrorClass> = with_or(Errors::default(), only_server_errors(), read_errors),
    }
}

section! {
    /// A quantile of the canary's durations.
    #[derive(Clone)]
    struct Quantile as "Duration" {
        /// Which: 0.001 to 0.9999.
        quantile: f64 = bounded(0.99, QUANTILE),
        /// At most this: `1ms` to `1h`. It becomes an edge of the service's histograms, so the comparison is exact.
        max: Period = required_within(DURATION),
    }
}

section! {
    /// The percentage of the canary's requests whose client went away before the first byte of the response.
    #[derive(Clone)]
    struct AbandonedRate as "Abandoned" {
        /// At most this, in percent.
        max: f64 = required_within(PERCENT),
    }
}

section! {
    /// The canary's requests per second. At least one bound is set.
    #[derive(Clone)]
    struct RequestRate as "Requests" {
        /// At least this many.
        min: Option<f64> = within(RATE),
        /// At most this many.
        max: Option<f64> = within(RATE),
    }
    rules(fields) {
        if fields.get("min").is_none() && fields.get("max").is_none() {
            fields.fault_here("a rate without a bound", "add `min: …` or `max: …`, in requests per second");
        }
        fields.check_order(min.flatten(), max.flatten());
    }
}

section! {
    /// The canary against the stable version, by a sequential test that is valid however often it is looked at.
    #[derive(Clone)]
    struct Compare {
        /// What is compared.
        metric: Compared = with_or(Compared::ErrorRate, "error_rate", read_compared),
        /// How much worse the canary may be, in percentage points.
        margin: f64 = bounded(0.5, PERCENT),
        /// How sure it must be that the canary is worse, in percent: 50 to 99.999.
        confidence: f64 = bounded(99.0, CONFIDENCE),
        /// With `error_rate`: what counts as an error; `5xx` always does.
        count: Errors as Vec<ErrorClass> = with_or(Errors::default(), only_server_errors(), read_errors),
    }
    rules(fields) {
        if matches!(metric, Some(Compared::Slower(_))) && fields.get("count").is_some() {
            fields.fault_at("count", |place| {
                Problem::new(place, "`count` has no effect with `slower_than`")
                    .help("it says which responses are errors: remove it")
            });
        }
    }
}

impl Compare {
    fn measure(self) -> Measure {
        let Self { metric, margin, confidence, count } = self;
        Measure::Compare { metric, margin, confidence, errors: count }
    }
}

section! {
    /// The share of requests that took longer than a limit.
    #[derive(Clone)]
    struct SlowerThan {
        /// The limit: `1ms` to `1h`.
        slower_than: Period = required_within(DURATION),
    }
}

fn read_compared<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Compared> {
    const EXPECTED: &str = "`error_rate`, or `{ slower_than: 500ms }`";
    if node.has_fields() {
        return SlowerThan::read(node, reader).map(|limit| Compared::Slower(limit.slower_than.get()));
    }
    match reader.text(node, EXPECTED)? {
        "error_rate" => Some(Compared::ErrorRate),
        _ => reader.wrong(node, EXPECTED, None),
    }
}

impl JsonSchema for Compared {
    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<ErrorRateWord>(generator, "The share of errors."),
            schema::described::<SlowerThan>(generator, "The share of slow requests."),
        ];
        schema::any_of("What two versions are compared by.", &ways)
    }
}

values::schema_only!(ErrorRateWord, schema::words("The word `error_rate`.", &[("error_rate", "The share of errors.")]));

section! {
    /// A PromQL query.
    #[derive(Clone)]
    struct PrometheusCheck as "Prometheus" {
        /// The server, such as `http://prometheus:9090`.
        url: HttpUrl = required(),
        /// The query, which gives one number; `{{service}}`, `{{canary}}`, `{{stable}}` and `{{window}}` are replaced, and
        /// other words in double braces are refused.
        query: Arc<str> as String = required_with(read_query),
        /// How long the answer may take: `100ms` to `1m`.
        timeout: Period = bounded(TIMEOUT, TIMEOUTS),
    }
}

impl PrometheusCheck {
    fn provider(self) -> Provider {
        Provider::Prometheus { url: self.url.get(), query: self.query, timeout: self.timeout.get() }
    }
}

fn read_query<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a PromQL query of 1 to 16384 bytes";
    let text = reader.text(node, EXPECTED)?.trim();
    if !(1..=MAX_QUERY).contains(&text.len()) {
        return reader.wrong(node, EXPECTED, None);
    }
    if let Some(word) = unknown_word(text) {
        let known: Vec<String> = QUERY_WORDS.iter().map(|word| format!("`{{{{{word}}}}}`")).collect();
        let near = reader.nearest(word, QUERY_WORDS);
        // A text from the environment is not shown.
        let message = match &node.value {
            Value::Text(Scalar { written: None, .. }) => {
                format!("nothing replaces {} in a query", quoted(&format!("{{{{{word}}}}}")))
            }
            _ => "nothing replaces a word in double braces".to_owned(),
        };
        let problem = Problem::new(node.place, message).found(node.shown()).expected(known.join(", ")).nearest(near);
        reader.note(problem.help("write the value itself; a word that stays makes a query that Prometheus refuses"));
        return None;
    }
    Some(text.into())
}

/// The first `{{word}}` of a query that is not replaced.
fn unknown_word(query: &str) -> Option<&str> {
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("}}") {
        if let Some((_, word)) = before.rsplit_once("{{")
            && !QUERY_WORDS.contains(&word.trim())
        {
            return Some(word.trim());
        }
        rest = after;
    }
    None
}

section! {
    /// A POST that is answered with a value or a verdict.
    #[derive(Clone)]
    struct WebhookCheck as "Webhook" {
        /// Where to.
        url: HttpUrl = required(),
        /// How long the answer may take: `100ms` to `1m`.
        timeout: Period = bounded(TIMEOUT, TIMEOUTS),
    }
}

impl WebhookCheck {
    fn provider(self) -> Provider {
        Provider::Webhook { url: self.url.get(), timeout: self.timeout.get() }
    }
}

words! {
    /// What counts as an error.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum ErrorClass as "Class" {
        /// Statuses from 500 on, answers that Weir makes itself for want of one, and gRPC statuses that blame the server.
        Server = "5xx",
        /// Statuses from 400 to 499.
        Client = "4xx",
        /// Requests whose client went away before the answer.
        Closed = "client_closed",
    }
}

/// What counts as an error where the file does not say it.
pub(crate) const fn only_server_errors() -> [ErrorClass; 1] {
    [ErrorClass::Server]
}

pub(crate) fn read_errors<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Errors> {
    let items = reader.items(node, "a list, such as `[5xx, 4xx]`", |reader, node| ErrorClass::read(node, reader))?;
    let classes = items.all()?;
    if !classes.contains(&ErrorClass::Server) {
        let problem = Problem::new(node.place, "`5xx` is missing");
        reader.note(problem.help("it always counts as an error: add it, so that the list says what happens"));
        return None;
    }
    Some(Errors {
        client_errors: classes.contains(&ErrorClass::Client),
        client_closed: classes.contains(&ErrorClass::Closed),
    })
}
