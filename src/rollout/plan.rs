//! What a rollout shall do: its steps, what it is judged by, and when it goes back.
//!
//! A plan is checked where it is read (the configuration); a plan that exists is valid: its steps are not empty
//! and do not fall, its numbers are in their ranges, its names are unique.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Name, Weight};

/// How one service is rolled out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The cohort whose split it moves; none: the service's own split.
    pub(crate) cohort: Option<Name>,
    /// How often the judge decides; at least a second.
    pub(crate) interval: Duration,
    /// What each check looks back on; at least a second.
    pub(crate) window: Duration,
    /// The canary's weights, in order; they never fall. The last may be below 100 %: after it comes the promotion.
    pub(crate) steps: Vec<Step>,
    /// How long the old version stays warm at 100 % while the checks can still roll back.
    pub(crate) bake: Duration,
    /// Requests a check needs in its window.
    pub(crate) min_requests: u64,
    /// Requests a second that the service usually gets. Nothing is decided by it.
    pub(crate) expected_rate: Option<f64>,
    /// What a check without enough requests means.
    pub(crate) no_data: NoData,
    /// How likely chance alone may be, in percent, where a check on a share of requests fails; none if anything above the
    /// limit fails it.
    pub(crate) significance: Option<f64>,
    /// What the canary does before it is judged.
    pub(crate) warm_up: Option<WarmUp>,
    /// How long a rollout may hold for want of data before it pauses.
    pub(crate) max_hold: Duration,
    /// What the canary is judged by. Health probes need no exclusion here: the recorder leaves them out.
    pub(crate) checks: Vec<Check>,
    /// How many failed analysis runs are too many.
    pub(crate) failures: Failures,
    /// What sends all traffic back without waiting for failed analysis runs to add up.
    pub(crate) rollback_when: Vec<RollbackCondition>,
    /// How traffic goes back.
    pub(crate) rollback: Rollback,
    /// Calls out.
    pub(crate) hooks: Vec<Hook>,
    /// Who is notified: names of receivers.
    pub(crate) alerts: Vec<Name>,
}

/// One weight of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The canary's weight.
    pub(crate) weight: Weight,
    /// How long it is held, at least, before the next step may begin.
    pub(crate) hold: Duration,
    /// An operator must approve what comes after this step.
    pub(crate) gate: Option<Gate>,
}

/// A point where a rollout waits for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    /// How long it waits; for ever if none.
    pub(crate) timeout: Option<Duration>,
    /// What happens then.
    pub(crate) default: GateDefault,
}

/// What a gate that nobody answers does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum GateDefault {
    /// The rollout is aborted.
    #[default]
    Abort,
    /// The rollout goes on.
    Approve,
    /// The rollout pauses.
    Pause,
}

/// What a check without enough data means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NoData {
    /// Neither good nor bad: the rollout holds where it is.
    #[default]
    Hold,
    /// As if it had passed.
    Pass,
    /// As if it had failed.
    Fail,
}

/// What a canary does before it is judged: measured and shown, and on the trip wire, but not decisive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUp {
    /// Serve for so long.
    Time(Duration),
    /// Serve so many requests.
    Requests(u64),
}

/// One measured condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    /// Its name; unique in the plan.
    pub(crate) name: Name,
    /// What is measured, and its limit.
    pub(crate) measure: Measure,
    /// Reports without deciding.
    pub(crate) dry_run: bool,
    /// Instead of the plan's.
    pub(crate) min_requests: Option<u64>,
    /// Instead of the plan's.
    pub(crate) no_data: Option<NoData>,
    /// Instead of the plan's.
    pub(crate) window: Option<Duration>,
}

/// What a check measures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measure {
    /// The percentage of the canary's responses that are no errors.
    SuccessRate {
        /// At least this, in percent.
        min: f64,
        /// What an error is.
        errors: Errors,
    },
    /// The percentage of the canary's responses that are errors.
    ErrorRate {
        /// At most this, in percent.
        max: f64,
        /// What an error is.
        errors: Errors,
    },
    /// A quantile of the canary's durations.
    Duration {
        /// 0 to 1.
        quantile: f64,
        /// At most this long. The histogram has an edge exactly here.
        max: Duration,
    },
    /// The percentage of the canary's requests whose client went away before the first byte of the response.
    Abandoned {
        /// At most this, in percent.
        max: f64,
    },
    /// The canary's requests per second.
    Requests {
        /// At least.
        min: Option<f64>,
        /// At most.
        max: Option<f64>,
    },
    /// The canary against the stable version, by a sequential test.
    Compare {
        /// What is compared.
        metric: Compared,
        /// How much worse the canary may be, in percentage points.
        margin: f64,
        /// The confidence that it is worse, in percent, for instance 99.
        confidence: f64,
        /// What an error is.
        errors: Errors,
    },
    /// A number that something else measured.
    External {
        /// Where it comes from.
        provider: Provider,
        /// At least.
        min: Option<f64>,
        /// At most.
        max: Option<f64>,
    },
}

/// What two versions are compared by; both are shares of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// The share of errors.
    ErrorRate,
    /// The share of requests that took longer than this. The histogram has an edge exactly here.
    Slower(Duration),
}

/// Which responses are errors. 5xx always is one, and so is a failing gRPC status of a kind that blames the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Errors {
    /// 4xx too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) client_errors: bool,
    /// Requests whose client went away before the answer too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) client_closed: bool,
}

/// The words that are replaced in a query where they stand as `{{word}}`.
pub(crate) const QUERY_WORDS: [&str; 4] = ["service", "canary", "stable", "window"];

/// Where a number comes from that Weir does not measure itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A PromQL query to a Prometheus server.
    Prometheus {
        /// The server's base URL.
        url: Arc<str>,
        /// The query; `{{service}}`, `{{canary}}`, `{{stable}}` and `{{window}}` are replaced.
        query: Arc<str>,
        /// How long the answer may take.
        timeout: Duration,
    },
    /// A POST whose JSON answer has a `value` or a `verdict`.
    Webhook {
        /// Where to.
        url: Arc<str>,
        /// How long the answer may take.
        timeout: Duration,
    },
}

/// How many failed analysis runs are too many. An analysis run fails when a check of it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// In all; no limit if none.
    pub(crate) total: Option<u32>,
    /// One after another; no limit if none.
    pub(crate) consecutive: Option<u32>,
}

/// What sends all traffic back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RollbackCondition {
    /// The canary's error rate is above a percentage all this time, looked at once a second.
    ErrorRate {
        /// In percent.
        above: f64,
        /// Without a break.
        sustained: Duration,
        /// What an error is.
        errors: Errors,
    },
    /// The circuit breaker trips at this many errors one after another.
    InARow {
        /// How many.
        errors: u32,
    },
    /// The circuit breaker trips at this many errors within a time.
    Within {
        /// How many.
        errors: u32,
        /// In this time, 100 ms to 1 min.
        within: Duration,
        /// At least this percentage of the requests that finished meanwhile.
        share: f64,
    },
}

/// How traffic goes back to stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rollback {
    /// At once.
    #[default]
    Immediate,
    /// Evenly over this time.
    Ramp(Duration),
}

/// A call out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// At which point.
    pub(crate) when: HookPoint,
    /// Where to.
    pub(crate) url: Arc<str>,
    /// How long one try may take.
    pub(crate) timeout: Duration,
    /// Tries after the first.
    pub(crate) retries: u32,
    /// The name of the file with the key that signs the call, if it is signed.
    pub(crate) secret_file: Option<Arc<std::path::Path>>,
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HookPoint {
    /// Before any weight moves; a refusal is waited upon.
    BeforeStart,
    /// Before each step; a refusal is waited upon.
    BeforeStep,
    /// At each analysis run; its answer decides nothing.
    During,
    /// Before the promotion; a refusal is waited upon.
    BeforePromote,
    /// When all is over; its answer decides nothing.
    After,
    /// At each analysis run; a 2xx answer demands the rollback.
    DemandRollback,
}

impl HookPoint {
    /// The word in the configuration, in calls and in sentences.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::BeforeStep => "before_step",
            Self::During => "during",
            Self::BeforePromote => "before_promote",
            Self::After => "after",
            Self::DemandRollback => "demand_rollback",
        }
    }
}
