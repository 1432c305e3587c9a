//! The JSON of the control API, version 1: what handlers answer and what the command line reads.
//!
//! Field names are stable; new ones may appear. Durations are seconds or milliseconds as the name says,
//! shares are percentages.

mod rollout;

use std::collections::BTreeMap;

pub use self::rollout::{
    CommandRollout, FailedVersion, History, HistoryEntry, InjectFault, RefusedCommand, Removable, Rollout,
    RolloutCheck, RolloutFailures, RolloutGate, RolloutLeft, RolloutList, RolloutStep, RolloutWeights,
};

use serde::{Deserialize, Serialize};

use crate::model::EndpointState;

/// Answer of `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The process: `starting`, `ready` or `draining`.
    pub state: String,
    /// Weir's version and source revision.
    pub build: Build,
    /// The process id.
    pub pid: u32,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Order number of the snapshot that requests read; each publish raises it.
    pub revision: u64,
    /// The configuration file and its last reload.
    pub config: ConfigStatus,
    /// The traffic listeners, with the addresses they are really bound to.
    pub listeners: Vec<ListenerStatus>,
    /// Where `/metrics`, `/livez` and `/readyz` are served, if they are.
    pub telemetry: Option<String>,
    /// The DNS names of endpoints, and how old their addresses are.
    #[serde(default)]
    pub names: Vec<NameStatus>,
    /// The services, by name.
    pub services: Vec<ServiceStatus>,
}

/// A DNS name of endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameStatus {
    /// The endpoint, as the file spells it.
    pub name: String,
    /// The services that it is an endpoint of.
    pub services: Vec<String>,
    /// How many addresses are in use.
    pub addresses: u64,
    /// Seconds since a lookup last confirmed them; none before the first.
    pub age_seconds: Option<f64>,
    /// Why the last lookup brought no address, if it did not; those known before stay.
    pub error: Option<String>,
}

/// What was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The crate version.
    pub version: String,
    /// The source revision, or `unknown`.
    pub revision: String,
}

/// The configuration file and its last reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file's path.
    pub path: String,
    /// Hash of the configuration in effect.
    pub hash: String,
    /// Whether the newest content of the file is in effect.
    pub current: bool,
    /// Why not, as text for a person, if not.
    pub errors: Option<String>,
    /// What is wrong with listeners' certificates and authorities, and what is done instead; one line each. It does not
    /// keep the file from being in effect.
    #[serde(default)]
    pub faulty_certificates: Vec<String>,
}

/// One traffic listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// The bound address; a port 0 of the file is the real port here.
    pub address: String,
    /// Client connections open now.
    pub connections: u64,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The shift over the file's split, if one is in effect.
    pub shift: Option<ShiftStatus>,
    /// What the file should say of the stable version, where it does not: the line to write, in a sentence.
    #[serde(default)]
    pub behind: Option<String>,
    /// The last command about its rollout that was refused, if none was accepted since.
    #[serde(default)]
    pub refused_command: Option<RefusedCommand>,
    /// Its versions, in the file's order, then those that only drain.
    pub versions: Vec<VersionStatus>,
    /// Its cohorts, in the file's order.
    #[serde(default)]
    pub cohorts: Vec<CohortStatus>,
}

/// Clients that are split by weights of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CohortStatus {
    /// Its name.
    pub name: String,
    /// Percentages by version, of the file or of the shift over it; they sum to 100.
    pub weights: BTreeMap<String, f64>,
    /// The shift over the file's split of it, if one is in effect.
    #[serde(default)]
    pub shift: Option<ShiftStatus>,
    /// Requests that each version was given by them since the version is known.
    pub requests: BTreeMap<String, u64>,
}

/// Weights that an operator or a rollout put over the file's split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftStatus {
    /// Percentages by version; they sum to 100.
    pub weights: BTreeMap<String, f64>,
    /// Who did it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When, as seconds since the Unix epoch.
    pub at: u64,
    /// The file's split that the shift lies over: percentages by version.
    #[serde(default)]
    pub base: BTreeMap<String, f64>,
}

/// One version of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Its name.
    pub name: String,
    /// `ready`, `drain` or `maint`, or `removed` while it drains after leaving the file.
    pub state: String,
    /// Percentage of the file's split or of the shift over it.
    pub configured: f64,
    /// Percentage that new requests without affinity really get: what is not ready passes its share on.
    pub effective: f64,
    /// Percentage of the service's requests in the last minute that this version served; none without requests.
    pub observed: Option<f64>,
    /// Requests finished since the version is known.
    pub requests_total: u64,
    /// Requests per second over the last minute.
    pub requests_per_second: f64,
    /// Percentage of errors among the responses of the last minute: 5xx, and gRPC statuses that blame the server.
    pub error_rate: Option<f64>,
    /// Median duration in the last minute, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Requests in flight, streams included.
    pub in_flight: u64,
    /// Open streams by kind: `websocket`, `sse`, `grpc`, `upgrade`.
    pub streams: BTreeMap<String, u64>,
    /// The drain in progress, if one is.
    pub drain: Option<DrainStatus>,
    /// The drill that puts faults into its responses, if one goes on.
    #[serde(default)]
    pub drill: Option<DrillStatus>,
    /// How many of its endpoints take requests now.
    #[serde(default)]
    pub ready: usize,
    /// How many must stay ready, whatever is asked for.
    #[serde(default)]
    pub min_ready: usize,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its address, as the file spells it.
    pub name: String,
    /// `ready`, `drain` or `maint`, or `removed` while it drains after leaving the file.
    pub state: String,
    /// Requests in flight, streams included.
    pub in_flight: u64,
    /// Open streams.
    pub streams: u64,
    /// The drain in progress, if one is.
    pub drain: Option<DrainStatus>,
    /// What is known of its health.
    #[serde(default)]
    pub health: HealthStatus,
}

/// The health of an endpoint, and what happened on it since it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// `healthy`, `ejected`, `unreachable` or `unhealthy`: it fails its checks, or was not checked yet.
    pub status: String,
    /// Why it is out.
    pub why: Option<String>,
    /// Seconds since it is out.
    pub out_seconds: Option<f64>,
    /// Seconds until its ejection ends.
    pub back_in_seconds: Option<f64>,
    /// Connections that were made to it.
    pub connects: u64,
    /// What failed on it, by cause: `refused`, `no_route`, `connect_timeout`, `connect`, `tls`, `timeout`, `reset`,
    /// `protocol`, `server_error`; those that happened.
    pub failures: BTreeMap<String, u64>,
    /// The last thing that failed.
    pub last_failure: Option<FailureStatus>,
    /// Its last check, if it is checked.
    #[serde(default)]
    pub last_check: Option<CheckStatus>,
}

/// One check of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Whether it passed.
    pub passed: bool,
    /// Why it failed.
    pub why: Option<String>,
    /// Seconds since it was answered.
    pub seconds_ago: f64,
}

/// One failure on an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// Its cause.
    pub cause: String,
    /// What is known beside, such as why a TLS handshake failed.
    pub detail: Option<String>,
    /// Seconds since it happened.
    pub seconds_ago: f64,
}

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// Seconds since it began.
    pub seconds: f64,
    /// Whether nothing is in flight any more.
    pub empty: bool,
    /// Seconds until requests that are still in flight are cut.
    pub requests_cut_in_seconds: f64,
    /// Seconds until streams that are still open are cut.
    pub streams_cut_in_seconds: f64,
    /// Requests and streams cut by this drain so far.
    pub cut: u64,
}

/// Faults that are put into a version's responses on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DrillStatus {
    /// Percentage of requests that are answered with 500 instead of being forwarded.
    pub errors: f64,
    /// Milliseconds that every request waits before it is forwarded.
    pub delay_ms: u64,
    /// Seconds until it ends.
    pub left_seconds: f64,
}

/// Body of `PUT /api/v1/services/{service}/weights`. `DELETE` on the same path resets; it takes `author` and
/// `reason` in the query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetWeights {
    /// Percentages by version with at most two decimals, as numbers or text; versions left out get 0; they sum to 100.
    pub weights: BTreeMap<String, serde_json::Value>,
    /// Who does it.
    #[serde(default)]
    pub author: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `PUT …/state` of a service, a version or an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetState {
    /// The state it shall have.
    pub state: EndpointState,
    /// Even if it leaves a version fewer ready endpoints than its `min_ready`.
    #[serde(default)]
    pub force: bool,
    /// Who does it.
    #[serde(default)]
    pub author: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Answer of a change: the revision in which it is in effect, and what changed, one line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The revision of the snapshot that has it.
    pub revision: u64,
    /// The hash of the configuration in effect; only of a reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What changed; empty when nothing did.
    pub changes: Vec<String>,
    /// What could not be used, while what was before it stays in effect; or could not be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// False, and said only then: it is in effect, and a restart may lose it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub durable: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// An error, as RFC 9457 (problem details) has it; media type `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank` or a stable identifier of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, where, and what to do.
    pub detail: String,
    /// Diagnostics of a refused configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<serde_json::Value>,
}

/// The kinds of problems that a program may want to tell apart; stable.
pub mod kind {
    /// The status says all there is.
    pub const BLANK: &str = "about:blank";
    /// The configuration is refused; `diagnostics` says why.
    pub const INVALID_CONFIGURATION: &str = "urn:weir:problem:invalid-configuration";
    /// There is no service, version or endpoint of that name.
    pub const UNKNOWN_NAME: &str = "urn:weir:problem:unknown-name";
    /// The weights are not a split.
    pub const NOT_A_SPLIT: &str = "urn:weir:problem:not-a-split";
    /// The change could not be made durable.
    pub const NOT_DURABLE: &str = "urn:weir:problem:not-durable";
    /// The rollout's phase has no room for the word; `detail` says why.
    pub const REFUSED: &str = "urn:weir:problem:refused";
    /// Too many changes wait.
    pub const BUSY: &str = "urn:weir:problem:busy";
    /// Weir is stopping and takes no changes.
    pub const STOPPING: &str = "urn:weir:problem:stopping";
}
