//! What the file says of a rollout, for the schema; a test holds the defaults to what the reader does.

use std::path::PathBuf;

use schemars::JsonSchema;

use crate::config::syntax::url::Url;
use crate::config::syntax::values::{self, Period};

/// How a service is rolled out. `rollout: {}` is a careful rollout with the defaults below.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
pub(crate) struct Rollout {
    /// How often the judge decides: `1s` to `1h`.
    #[schemars(extend("default" = "10s"))]
    interval: Option<Period>,
    /// What each check looks back on: `1s` to `1h`.
    #[schemars(extend("default" = "1m"))]
    window: Option<Period>,
    /// The canary's weights, 1 to 1000, which never fall. Instead of the short form `step_weight`, `step_weights`
    /// and `max_weight`. The last may be below 100: then the promotion comes after it.
    #[schemars(length(min = 1, max = 1000))]
    steps: Option<Vec<Step>>,
    /// Short form: so much more with each step, 0.1 to 100, clamped to `max_weight`.
    step_weight: Option<values::Weight>,
    /// Short form: the weight of each step, clamped to `max_weight`.
    #[schemars(length(min = 1, max = 1000), extend("default" = [1, 5, 10, 25, 50, 100]))]
    step_weights: Option<Vec<values::Weight>>,
    /// Short form: the last step's weight.
    #[schemars(extend("default" = 100))]
    max_weight: Option<values::Weight>,
    /// How long a step is held, at least, that does not say it itself: `0s` to `7d`. Default: `window`; and nothing
    /// at 100 %, where `bake` follows.
    hold: Option<Period>,
    /// How long the old version stays warm at 100 % while the same checks can still roll back: `0s` to `7d`.
    #[schemars(extend("default" = "10m"))]
    bake: Option<Period>,
    /// Requests a check needs in its window, 1 to 100000000; with fewer it has no data.
    #[schemars(range(min = 1, max = 100_000_000), extend("default" = 100))]
    min_requests: Option<u32>,
    /// What a check without data means: `hold` waits, `pass` and `fail` count as if it had passed or failed.
    #[schemars(extend("default" = "hold"))]
    no_data: Option<NoData>,
    /// How long a rollout may hold for want of data before it pauses: `1s` to `7d`.
    #[schemars(extend("default" = "30m"))]
    max_hold: Option<Period>,
    /// What is measured at each look, 32 at most.
    #[schemars(length(max = 32), extend("default" = [
        { "name": "success", "success_rate": { "min": 99 } },
        { "name": "latency", "duration": { "quantile": 0.99, "max": "500ms" } }
    ]))]
    checks: Option<Vec<Check>>,
    /// How many failed looks are too many. A look fails when a check of it fails.
    #[schemars(extend("default" = { "total": 5 }))]
    failures: Option<Failures>,
    /// What sends all traffic back without waiting for failed looks to add up, 16 at most.
    #[schemars(length(max = 16), extend("default" = [
        { "error_rate": 1, "for": "2m" },
        { "errors": 10, "in_a_row": true },
        { "errors": 20, "within": "1s" }
    ]))]
    rollback_when: Option<Vec<Condition>>,
    /// How traffic goes back.
    #[schemars(extend("default" = "immediate"))]
    rollback: Option<Rollback>,
    /// Calls out, 32 at most; default: none.
    #[schemars(length(max = 32))]
    hooks: Option<Vec<Hook>>,
    /// Who is told: names under the file's `alerts`, 16 at most; default: nobody.
    #[schemars(length(max = 16))]
    alerts: Option<Vec<values::Name>>,
}

/// One weight of a rollout.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "RolloutStep")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Step {
    /// The canary's weight, above 0.
    weight: values::Weight,
    /// How long it is held, at least: `0s` to `7d`. Default: the rollout's `hold`.
    hold: Option<Period>,
    /// `manual`: a person must approve what comes after this step.
    gate: Option<Gate>,
    /// How long the gate waits: `1s` to `30d`. Default: for ever.
    gate_timeout: Option<Period>,
    /// What happens when nobody answered in time.
    #[schemars(extend("default" = "abort"))]
    gate_default: Option<GateDefault>,
}

/// Who opens a gate.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum Gate {
    /// A person.
    Manual,
}

/// What a gate that nobody answers does.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum GateDefault {
    /// The rollout is aborted.
    Abort,
    /// The rollout goes on.
    Approve,
    /// The rollout pauses.
    Pause,
}

/// What a check without enough requests means.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum NoData {
    /// The rollout holds where it is.
    Hold,
    /// As if it had passed.
    Pass,
    /// As if it had failed.
    Fail,
}

/// One measured condition. Exactly one of `success_rate`, `error_rate`, `duration`, `requests`, `compare`,
/// `prometheus` and `webhook` is set.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Check {
    /// Its name, unique in the rollout.
    name: values::Name,
    /// The percentage of the canary's responses that are no errors.
    success_rate: Option<SuccessRate>,
    /// The percentage of the canary's responses that are errors.
    error_rate: Option<ErrorRate>,
    /// A quantile of the canary's durations.
    duration: Option<Duration>,
    /// The canary's requests per second.
    requests: Option<Requests>,
    /// The canary against the stable version, by a sequential test.
    compare: Option<Compare>,
    /// The value of a PromQL query; needs `min`, `max` or both beside it.
    prometheus: Option<Prometheus>,
    /// A POST whose JSON answer has a `value`, which `min` and `max` are bounds of, or a `verdict`.
    webhook: Option<Webhook>,
    /// With `prometheus` or `webhook`: at least this.
    min: Option<f64>,
    /// With `prometheus` or `webhook`: at most this.
    max: Option<f64>,
    /// `true`: reports without deciding.
    #[schemars(extend("default" = false))]
    dry_run: Option<bool>,
    /// Replaces the rollout's `min_requests`.
    #[schemars(range(min = 1, max = 100_000_000))]
    min_requests: Option<u32>,
    /// Replaces the rollout's `no_data`.
    no_data: Option<NoData>,
    /// Replaces the rollout's `window`.
    window: Option<Period>,
}

/// What counts as an error.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum Class {
    /// Statuses from 500 on, answers that Weir makes itself for want of one, and gRPC statuses that blame the server.
    #[schemars(rename = "5xx")]
    Server,
    /// Statuses from 400 to 499.
    #[schemars(rename = "4xx")]
    Client,
    /// Requests whose client went away before the answer.
    #[schemars(rename = "client_closed")]
    Closed,
}

/// The percentage of the canary's responses that are no errors.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct SuccessRate {
    /// At least this, in percent.
    #[schemars(range(min = 0, max = 100))]
    min: f64,
    /// What counts as an error; `5xx` always does.
    #[schemars(extend("default" = ["5xx"]))]
    count: Option<Vec<Class>>,
}

/// The percentage of the canary's responses that are errors.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct ErrorRate {
    /// At most this, in percent.
    #[schemars(range(min = 0, max = 100))]
    max: f64,
    /// What counts as an error; `5xx` always does.
    #[schemars(extend("default" = ["5xx"]))]
    count: Option<Vec<Class>>,
}

/// A quantile of the canary's durations.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Duration {
    /// Which: 0.001 to 0.9999.
    #[schemars(range(min = 0.001, max = 0.9999), extend("default" = 0.99))]
    quantile: Option<f64>,
    /// At most this: `1ms` to `1h`. It becomes an edge of the service's histograms, so the comparison is exact.
    max: Period,
}

/// The canary's requests per second. At least one bound is set.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Requests {
    /// At least this many.
    #[schemars(range(min = 0))]
    min: Option<f64>,
    /// At most this many.
    #[schemars(range(min = 0))]
    max: Option<f64>,
}

/// The canary against the stable version, by a sequential test that is valid however often it is looked at.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Compare {
    /// What is compared.
    #[schemars(extend("default" = "error_rate"))]
    metric: Option<Metric>,
    /// How much worse the canary may be, in percentage points.
    #[schemars(range(min = 0, max = 100), extend("default" = 0.5))]
    margin: Option<f64>,
    /// How sure it must be that the canary is worse, in percent: 50 to 99.999.
    #[schemars(range(min = 50, max = 99.999), extend("default" = 99))]
    confidence: Option<f64>,
    /// With `error_rate`: what counts as an error; `5xx` always does.
    #[schemars(extend("default" = ["5xx"]))]
    count: Option<Vec<Class>>,
}

/// What two versions are compared by.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum Metric {
    /// The share of errors.
    ErrorRate(ErrorRateWord),
    /// The share of slow requests.
    Slower(SlowerThan),
}

/// The word `error_rate`.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum ErrorRateWord {
    /// The share of errors.
    ErrorRate,
}

/// The share of requests that took longer than a limit.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct SlowerThan {
    /// The limit: `1ms` to `1h`.
    slower_than: Period,
}

/// A PromQL query.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Prometheus {
    /// The server, such as `http://prometheus:9090`.
    url: Url,
    /// The query, which gives one number; `{{service}}`, `{{canary}}`, `{{stable}}` and `{{window}}` are replaced.
    query: String,
    /// How long the answer may take: `100ms` to `1m`.
    #[schemars(extend("default" = "10s"))]
    timeout: Option<Period>,
}

/// A POST that is answered with a value or a verdict.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Webhook {
    /// Where to.
    url: Url,
    /// How long the answer may take: `100ms` to `1m`.
    #[schemars(extend("default" = "10s"))]
    timeout: Option<Period>,
}

/// How many failed looks are too many: what is set holds. At least one is set.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Failures {
    /// In all, 1 to 10000; default: no limit.
    #[schemars(range(min = 1, max = 10_000))]
    total: Option<u32>,
    /// One after another, 1 to 10000; default: no limit.
    #[schemars(range(min = 1, max = 10_000))]
    consecutive: Option<u32>,
}

/// What sends all traffic back: `{ error_rate, for }`, `{ errors, in_a_row: true }` or `{ errors, within }`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Condition {
    /// The canary's error rate is above this, in percent.
    #[schemars(range(min = 0, max = 100))]
    error_rate: Option<f64>,
    /// With `error_rate`: all this time, `1s` to `1h`.
    #[schemars(rename = "for")]
    sustained: Option<Period>,
    /// With `error_rate`: what counts as an error; `5xx` always does.
    #[schemars(extend("default" = ["5xx"]))]
    count: Option<Vec<Class>>,
    /// So many errors, 1 to 10000. The request that sees it sends the traffic back.
    #[schemars(range(min = 1, max = 10_000))]
    errors: Option<u32>,
    /// With `errors`: `true`, one after another.
    in_a_row: Option<bool>,
    /// With `errors`: in this time, `100ms` to `1m`.
    within: Option<Period>,
}

/// How traffic goes back to the stable version.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum Rollback {
    /// At once.
    Immediate(ImmediateWord),
    /// Evenly over a time.
    Ramp(Ramp),
}

/// The word `immediate`.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum ImmediateWord {
    /// At once.
    Immediate,
}

/// Evenly over a time.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Ramp {
    /// How long: `1s` to `10m`.
    ramp: Period,
}

/// A call out: a POST.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
struct Hook {
    /// At which point.
    when: When,
    /// Where to.
    url: Url,
    /// How long one try may take: `100ms` to `1h`.
    #[schemars(extend("default" = "10s"))]
    timeout: Option<Period>,
    /// Tries after the first, 0 to 10.
    #[schemars(range(max = 10), extend("default" = 0))]
    retries: Option<u32>,
    /// A file with the key that signs the call (HMAC-SHA256); default: it is not signed.
    secret_file: Option<PathBuf>,
}

/// When a hook is called.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the file to the schema; never built")]
enum When {
    /// Before any weight moves; a refusal is waited upon.
    BeforeStart,
    /// Before each step; a refusal is waited upon.
    BeforeStep,
    /// At each look; its answer decides nothing.
    During,
    /// Before the promotion; a refusal is waited upon.
    BeforePromote,
    /// When all is over; its answer decides nothing.
    After,
    /// At each look; a 2xx answer demands the rollback.
    DemandRollback,
}
