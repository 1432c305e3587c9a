//! The JSON of rollouts: where each one is, what it decided and why, and the commands of operators.
//!
//! `phase`, `what`, `by` and `outcome` are the words of the engine. Weights are percentages. New fields may appear; all
//! that came after the first version has a default, so that an older answer is read too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DrillStatus;
use crate::rollout::evidence::RecordedCounts;
use crate::rollout::verdict::Verdict;

/// Answer of `GET /api/v1/rollouts`, and, with one rollout, of `GET /api/v1/rollouts/{service}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutList {
    /// Of each service whose versions are rolled out, by name.
    pub rollouts: Vec<Rollout>,
    /// The revision that they are of: what a change was answered with is in effect once this is not lower.
    #[serde(default)]
    pub revision: u64,
    /// The hash of the configuration that they are of.
    #[serde(default)]
    pub hash: String,
}

/// Where the rollout of one service is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The service.
    pub service: String,
    /// `idle`, `waiting`, `progressing`, `baking`, `promoting`, `succeeded`, `rolling_back`, `rolled_back`, `paused` or
    /// `aborted`.
    pub phase: String,
    /// Why it is where it is, in one sentence.
    pub reason: String,
    /// The version that traffic goes back to.
    pub stable: Option<String>,
    /// The version that is rolled out, or was when it went back.
    pub canary: Option<String>,
    /// The stable version before the last promotion, which `undo` goes back to.
    pub previous: Option<String>,
    /// Steps taken; the current one is the last of them.
    pub step: usize,
    /// The plan's steps.
    pub steps: Vec<RolloutStep>,
    /// The canary's shares.
    pub weights: RolloutWeights,
    /// What the last analysis run found, one for each check.
    pub checks: Vec<RolloutCheck>,
    /// Failed analysis runs.
    pub failures: RolloutFailures,
    /// What `waiting` waits for: `health`, `gate` or `hook`.
    pub waiting_for: Option<String>,
    /// Which hook is waited for, by its `when`.
    #[serde(default)]
    pub hook: Option<String>,
    /// The gate that is waited at, if one is.
    pub gate: Option<RolloutGate>,
    /// What to type about what is waited for, if an operator can end it, or about what went back.
    #[serde(default)]
    pub hint: Option<String>,
    /// What the hook that is waited for said last, if it refused.
    #[serde(default)]
    pub refused: Option<String>,
    /// The last command that was refused, if none was accepted since.
    #[serde(default)]
    pub refused_command: Option<RefusedCommand>,
    /// Drills that go on in its versions, by version.
    #[serde(default)]
    pub drills: BTreeMap<String, DrillStatus>,
    /// In which phase it was paused.
    pub paused_from: Option<String>,
    /// What the phase lasts for, if it is one that ends by time.
    pub left: Option<RolloutLeft>,
    /// Since how many seconds nothing can be said, if so.
    pub holding_seconds: Option<f64>,
    /// The decisions cannot be written down, so nothing moves forward: why.
    pub unwritable: Option<String>,
    /// What the file should say of the stable version, where it does not: the line to write, in a sentence.
    #[serde(default)]
    pub behind: Option<String>,
    /// Versions that are not tried again by themselves.
    pub given_up: Vec<FailedVersion>,
    /// The last lines of the history, oldest first.
    pub entries: Vec<HistoryEntry>,
    /// Seconds between two analysis runs.
    pub interval_seconds: f64,
}

/// An operator's command that was refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RefusedCommand {
    /// What was to be done: `promote`, say.
    pub verb: String,
    /// Who asked.
    pub author: String,
    /// Why they did; empty if they did not say.
    pub reason: String,
    /// Why it was refused, in one sentence.
    pub why: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What a check found at the last analysis run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutCheck {
    /// As it is in the history.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Value and limit as people read them: `p99 312 ms ≤ 500 ms`. Empty where the plan no longer has the check.
    #[serde(default)]
    pub text: String,
}

/// One step of the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutStep {
    /// The canary's percentage.
    pub weight: f64,
    /// How long it is held, at least.
    pub hold_seconds: f64,
    /// An operator must approve what comes after it.
    pub gate: bool,
}

/// The canary's percentages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutWeights {
    /// By the rollout's decision.
    pub configured: f64,
    /// What new requests without affinity really get.
    pub effective: f64,
    /// Of both versions' requests since the weights last changed; none without requests.
    pub observed: Option<f64>,
    /// How many requests that is about.
    #[serde(default)]
    pub requests: u64,
}

/// Failed analysis runs of a rollout, and how many are too many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutFailures {
    /// In all.
    pub total: u32,
    /// One after another.
    pub consecutive: u32,
    /// So many in all send it back.
    pub total_limit: Option<u32>,
    /// So many one after another send it back.
    pub consecutive_limit: Option<u32>,
}

/// A gate that is waited at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutGate {
    /// Seconds until its default applies; none: it waits for ever.
    pub left_seconds: Option<f64>,
    /// What happens then: `abort`, `approve` or `pause`.
    pub default: String,
}

/// How long something still lasts, at least.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutLeft {
    /// `step`, `bake`, `promotion` or `ramp`.
    pub what: String,
    /// Seconds.
    pub seconds: f64,
}

/// A version that failed or was aborted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailedVersion {
    /// The version.
    pub version: String,
    /// `rolled_back` or `aborted`.
    pub phase: String,
    /// Why.
    pub why: String,
}

/// Answer of `GET /api/v1/rollouts/{service}/history?limit=&decisions=&since_ms=`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The service.
    pub service: String,
    /// The newest so many decisions, oldest first.
    pub entries: Vec<HistoryEntry>,
}

/// One decision, or one analysis run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its place in the service's history; grows, with gaps where analysis runs were forgotten before decisions.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who: `judge`, `trip_wire`, `hook`, `file`, `restart` or `person`.
    pub by: String,
    /// The operator's name, if it was one.
    pub author: Option<String>,
    /// What: `served`, `started`, `not_tried`, `looked`, `stepped`, `held`, `waited`, `answered`, `commanded`, `moved`,
    /// `promoted`, `went_back`, `paused`, `changed` or `restored`.
    pub what: String,
    /// Why, in one sentence.
    pub why: String,
    /// The phase before.
    pub from: String,
    /// The phase after.
    pub to: String,
    /// The canary's percentage before.
    pub weight_before: f64,
    /// The canary's percentage after.
    pub weight_after: f64,
    /// The stable version after.
    pub stable: Option<String>,
    /// The canary after, or the one that this is about.
    pub canary: Option<String>,
    /// Steps taken.
    pub step: usize,
    /// What the last analysis run found.
    pub checks: Vec<Verdict>,
    /// What was counted of both versions since the entry before, while a rollout is under way: what `weir rollout replay`
    /// judges anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RecordedCounts>,
}

/// Body of `POST /api/v1/rollouts/{service}`. The answer is [`Changed`](super::Changed); a command that makes no
/// sense in the phase is answered with 409 and [`kind::REFUSED`](super::kind::REFUSED).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRollout {
    /// `start`, `promote`, `pause`, `resume`, `abort`, `approve`, `reject`, `retry` or `undo`.
    pub verb: String,
    /// What `start` rolls out; only there.
    #[serde(default)]
    pub version: Option<String>,
    /// Who gives it.
    #[serde(default)]
    pub author: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /api/v1/drills`: faults in a version's responses, for a while. A second one for the same version
/// replaces the first; all zero ends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectFault {
    /// The service.
    pub service: String,
    /// The version, or `canary` or `stable` for the one in that role.
    pub version: String,
    /// Percentage of requests that are answered with 500 instead of being forwarded.
    #[serde(default)]
    pub errors: f64,
    /// Milliseconds that every request waits before it is forwarded.
    #[serde(default)]
    pub delay_ms: u64,
    /// How long, in seconds.
    pub seconds: u64,
    /// Who.
    #[serde(default)]
    pub author: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Answer of `GET /api/v1/removable/{service}/{version}?idle=SECONDS`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Removable {
    /// Whether the version had no request and no open stream for the time given.
    pub removable: bool,
    /// When its last request finished or its last stream closed, in seconds since the Unix epoch; none: not as long as
    /// anybody remembers.
    pub last_used: Option<u64>,
    /// Since when anybody remembers, in seconds since the Unix epoch.
    pub known_since: u64,
    /// Requests and streams in flight.
    pub in_flight: u64,
    /// All of it in one sentence.
    pub sentence: String,
}
