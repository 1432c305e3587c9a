//! Rollouts, injected faults and removable versions, as the control API shows and changes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::body::JsonBody;
use super::extractors::{bad, by, changed, control, named, unprocessable};
use super::wire::{
    Changed, CommandRollout, DrillStatus, FailedVersion, History, HistoryEntry, InjectFault, Problem, Removable,
    Rollout, RolloutCheck, RolloutFailures, RolloutGate, RolloutLeft, RolloutList, RolloutStep, RolloutWeights,
};
use super::{AdminState, status};
use crate::control::{FaultRequest, Rejection};
use crate::model::{Name, Weight};
use crate::rollout::engine::{Phase, RolloutTarget, Stage, Verb, WaitingFor, What};
use crate::rollout::limits;
use crate::rollout::plan::{GateDefault, Rollback};
use crate::rollout::verdict::Verdict;
use crate::rollouts::{Command, RecordedEntry, RolloutStatus, labels};
use crate::snapshot::Version;

/// What may be asked about rollouts.
pub(super) fn routes() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/api/v1/rollouts", get(show_all))
        .route("/api/v1/rollouts/{service}", get(show).post(command))
        .route("/api/v1/rollouts/{service}/history", get(history))
        .route("/api/v1/drills", post(inject_fault))
        .route("/api/v1/removable/{service}/{version}", get(removable))
}

async fn show_all(State(admin): State<Arc<AdminState>>) -> Json<RolloutList> {
    let control = admin.control.status();
    let rollouts = control.rollouts.iter().map(|(service, status)| rollout(&admin, service, status));
    Json(RolloutList { rollouts: rollouts.collect(), revision: control.revision, hash: control.hash.clone() })
}

async fn show(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<RolloutList>, Problem> {
    let service = named(path)?;
    let control = admin.control.status();
    match control.rollouts.get_key_value(&*service) {
        Some((name, status)) => Ok(Json(RolloutList {
            rollouts: vec![rollout(&admin, name, status)],
            revision: control.revision,
            hash: control.hash.clone(),
        })),
        None => Err(none(&admin, service)),
    }
}

/// Why there is nothing to be said of the rollout of `service`.
fn none(admin: &AdminState, service: String) -> Problem {
    match status::of(admin, Some(&service)) {
        Ok(_) => Rejection::NoRollout(service).into(),
        Err(missing) => missing.into(),
    }
}

async fn command(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<String>, PathRejection>,
    JsonBody(body): JsonBody<CommandRollout>,
) -> Result<Json<Changed>, Problem> {
    let service = named(path)?;
    let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.as_str() == body.verb) else {
        let known: Vec<_> = Verb::ALL.iter().map(|verb| format!("`{}`", verb.as_str())).collect();
        let detail = format!("`verb` is one of {}", known.join(", "));
        return Err(unprocessable(detail));
    };
    if body.version.is_some() && verb != Verb::Start {
        return Err(unprocessable("only `start` takes a `version`"));
    }
    let command = Command { verb, version: body.version.map(Name::from) };
    let by = by(body.author, body.reason)?;
    changed(control(&admin)?.command(service, command, by).await)
}

/// Decisions that are shown where nobody says how many.
const DEFAULT_HISTORY_LIMIT: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    limit: Option<usize>,
    /// Leaves out analysis runs.
    #[serde(default)]
    decisions: bool,
    /// Leaves out what is older, in milliseconds since the Unix epoch.
    #[serde(default)]
    since_ms: u64,
}

impl HistoryQuery {
    /// The newest that are asked for, oldest first.
    fn choose(&self, entries: &[Arc<RecordedEntry>]) -> Vec<HistoryEntry> {
        let wanted = |stamped: &&Arc<RecordedEntry>| {
            stamped.at_ms >= self.since_ms && !(self.decisions && stamped.entry.what == What::Analyzed)
        };
        let newest = entries.iter().rev().filter(wanted).take(self.limit.unwrap_or(DEFAULT_HISTORY_LIMIT));
        let mut chosen: Vec<_> = newest.map(|stamped| entry(stamped)).collect();
        chosen.reverse();
        chosen
    }
}

async fn history(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Problem> {
    let service = named(path)?;
    let query = query.map_err(|error| bad(&error.body_text()))?.0;
    // All of it, which is bounded: what is left out does not count.
    let entries = admin.control.history(service.clone(), usize::MAX).await?;
    Ok(Json(History { service, entries: query.choose(&entries) }))
}

/// The longest fault injection, and the longest delay of one.
const MAX_FAULT_SECONDS: u64 = 24 * 60 * 60;
const MAX_FAULT_DELAY: Duration = crate::snapshot::live::MAX_DELAY;

async fn inject_fault(
    State(admin): State<Arc<AdminState>>,
    JsonBody(body): JsonBody<InjectFault>,
) -> Result<Json<Changed>, Problem> {
    let errors: Weight =
        body.errors.to_string().parse().map_err(|error| unprocessable(format!("`errors` is a percentage: {error}")))?;
    let delay = Duration::from_millis(body.delay_ms);
    if delay > MAX_FAULT_DELAY {
        return Err(unprocessable(format!("`delay_ms` is at most {}", MAX_FAULT_DELAY.as_millis())));
    }
    let ends = errors == Weight::ZERO && delay.is_zero();
    if !ends && !(1..=MAX_FAULT_SECONDS).contains(&body.seconds) {
        return Err(unprocessable(format!("`seconds` is 1 to {MAX_FAULT_SECONDS}: a drill ends by itself")));
    }
    let lasting = Duration::from_secs(body.seconds);
    let order = FaultRequest { service: body.service, version: body.version, errors, delay, lasting };
    let by = by(body.author, body.reason)?;
    changed(control(&admin)?.drill(order, by).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovableQuery {
    idle: u64,
}

async fn removable(
    State(admin): State<Arc<AdminState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<RemovableQuery>, QueryRejection>,
) -> Result<Json<Removable>, Problem> {
    let (service, version) = named(path)?;
    let wanted = Duration::from_secs(query.map_err(|error| bad(&error.body_text()))?.0.idle);
    let snapshot = admin.current.load();
    let Some(found) = snapshot.service(&service) else {
        return Err(status::of(&admin, Some(&service)).map_or_else(Problem::from, |_| gone("service", service)));
    };
    let Some(found) = found.versions.iter().find(|known| *known.name == *version) else {
        return Err(gone("version", version));
    };
    let last_use = found.series.last_use(Instant::now());
    let wall = SystemTime::now();
    let since = admin.control.uses_since(&service.into(), &version.into()).unwrap_or(wall);
    let known = wall.duration_since(since).unwrap_or_default().max(last_use.watched);
    let idle = last_use.idle.unwrap_or(known);
    let removable = last_use.open == 0 && idle >= wanted;
    let (name, wanted) = (&found.name, in_seconds(wanted));
    let sentence = match last_use.idle {
        _ if last_use.open > 0 => format!("{name} has {} requests and streams in flight", last_use.open),
        Some(idle) if removable => {
            format!("{name} was last used {} ago, longer than {wanted}: it can go", in_seconds(idle))
        }
        Some(idle) => format!("{name} was last used {} ago, not yet {wanted}", in_seconds(idle)),
        None if removable => format!("{name} was not used in the {} that are known: it can go", in_seconds(known)),
        None => format!("{name} was not used in the {} that are known, which is not yet {wanted}", in_seconds(known)),
    };
    Ok(Json(Removable {
        removable,
        last_used: last_use.idle.map(|idle| unix_seconds_before(wall, idle)),
        known_since: unix_seconds_before(wall, known),
        in_flight: last_use.open,
        sentence,
    }))
}

/// A span of time in whole seconds, as it is written in a file or an argument: `7d`, `1h 30m`.
fn in_seconds(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let written: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if written.is_empty() { "0s".to_owned() } else { written.join(" ") }
}

fn unix_seconds_before(now: SystemTime, span: Duration) -> u64 {
    let at = now.checked_sub(span).unwrap_or(UNIX_EPOCH);
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn gone(what: &'static str, found: String) -> Problem {
    Rejection::Unknown { what, found, nearest: None, exist: Vec::new() }.into()
}

/// Where a rollout is.
fn rollout(admin: &AdminState, service: &Name, status: &RolloutStatus) -> Rollout {
    let (state, plan) = (&status.state, &status.plan);
    let under_way = state.is_under_way();
    let gate = (state.stage == Stage::Waiting(WaitingFor::Gate))
        .then(|| plan.steps.get(state.taken.wrapping_sub(1)).and_then(|step| step.gate))
        .flatten();
    Rollout {
        service: service.to_string(),
        phase: state.phase().as_str().to_owned(),
        reason: state.reason.clone(),
        stable: version_name(state.stable.as_ref()),
        canary: version_name(state.canary.as_ref()),
        previous: version_name(state.previous.as_ref()),
        step: state.taken,
        steps: plan
            .steps
            .iter()
            .map(|step| RolloutStep {
                weight: percentage(step.weight),
                hold_seconds: step.hold.as_secs_f64(),
                gate: step.gate.is_some(),
            })
            .collect(),
        weights: weights(admin, service, status),
        checks: checks(status),
        failures: RolloutFailures {
            total: state.failures.total,
            consecutive: state.failures.consecutive,
            total_limit: plan.failures.total,
            consecutive_limit: plan.failures.consecutive,
        },
        hook: match state.waiting() {
            Some(WaitingFor::Hook(when)) => Some(when.as_str().to_owned()),
            _ => None,
        },
        waiting_for: state.waiting().map(|waiting| labels::waiting(waiting).to_owned()),
        gate: gate.map(|gate| RolloutGate {
            left_seconds: gate.timeout.map(|limit| left(limit, state.times.gate, status.age)),
            default: match gate.default {
                GateDefault::Abort => "abort",
                GateDefault::Approve => "approve",
                GateDefault::Pause => "pause",
            }
            .to_owned(),
        }),
        hint: hint(service, status),
        refused: refused(status),
        refused_command: status.refusal.as_ref().map(status::refused_command),
        drills: drills(admin, service),
        paused_from: state.paused_from().map(|from| from.as_str().to_owned()),
        left: time_left(status),
        holding_seconds: state
            .times
            .holding
            .filter(|_| under_way)
            .map(|holding| holding.saturating_add(status.age).as_secs_f64()),
        unwritable: status.unwritable.clone(),
        behind: status.behind.clone(),
        given_up: state
            .failed_targets
            .iter()
            .map(|failed| FailedVersion {
                version: failed.target.version.to_string(),
                phase: failed.ended.phase().as_str().to_owned(),
                why: failed.why.clone(),
            })
            .collect(),
        entries: status.entries.iter().map(|stamped| entry(stamped)).collect(),
        interval_seconds: plan.interval.as_secs_f64(),
    }
}

fn checks(status: &RolloutStatus) -> Vec<RolloutCheck> {
    let text = |verdict: &Verdict| {
        let check = status.plan.checks.iter().find(|check| check.name == verdict.check);
        check.map_or_else(String::new, |check| limits::text(&check.measure, verdict))
    };
    let verdicts = status.state.verdicts.iter();
    verdicts.map(|verdict| RolloutCheck { text: text(verdict), verdict: verdict.clone() }).collect()
}

/// What to type where an operator can end the wait, or begin anew.
fn hint(service: &Name, status: &RolloutStatus) -> Option<String> {
    if let (Phase::RolledBack | Phase::Aborted, Some(canary)) = (status.state.phase(), &status.state.canary) {
        let canary = &canary.version;
        return Some(format!(
            "`weir rollout retry {service}` tries {canary} again, `weir rollout history {service}` says why"
        ));
    }
    let (yes, no, what) = match status.state.stage {
        Stage::Waiting(WaitingFor::Gate) => ("approve", "reject", "opens the gate"),
        Stage::Waiting(WaitingFor::Hook(_)) => ("approve", "reject", "passes the hook"),
        Stage::Paused { .. } => ("resume", "abort", "goes on"),
        _ => return None,
    };
    Some(format!("`weir rollout {yes} {service}` {what}, `weir rollout {no} {service}` goes back"))
}

/// What the hook that is waited for said last.
fn refused(status: &RolloutStatus) -> Option<String> {
    let Stage::Waiting(WaitingFor::Hook(_)) = status.state.stage else { return None };
    let newest = status.entries.iter().rev().map(|stamped| &stamped.entry);
    let said = newest.take_while(|entry| entry.what != What::Waited).find(|entry| entry.what == What::Answered);
    said.map(|entry| entry.why.clone())
}

fn drills(admin: &AdminState, service: &Name) -> BTreeMap<String, DrillStatus> {
    let (snapshot, now) = (admin.current.load(), Instant::now());
    let versions = snapshot.service(service).map_or(&[][..], |service| &service.versions);
    let drill = |version: &Version| Some((version.name.to_string(), status::drill(version, now)?));
    versions.iter().filter_map(drill).collect()
}

fn weights(admin: &AdminState, service: &Name, status: &RolloutStatus) -> RolloutWeights {
    let configured = percentage(status.state.weight);
    let canary = status.state.canary.as_ref().filter(|_| status.state.is_under_way());
    let effective = canary.and_then(|canary| {
        let snapshot = admin.current.load();
        let service = snapshot.service(service)?;
        let at = service.versions.iter().position(|version| *version.name == *canary.version)?;
        let shares = match &status.plan.cohort {
            Some(cohort) => service.chooser.effective_in(cohort)?,
            None => service.chooser.effective(),
        };
        shares.get(at).map(|share| percentage(*share))
    });
    RolloutWeights {
        configured,
        effective: effective.unwrap_or(configured),
        observed: status.requests.and_then(|(canary, all)| (all > 0).then(|| canary as f64 / all as f64 * 100.0)),
        requests: status.requests.map_or(0, |(_, all)| all),
    }
}

/// How long the phase still lasts, at least.
fn time_left(status: &RolloutStatus) -> Option<RolloutLeft> {
    let (state, plan) = (&status.state, &status.plan);
    let (what, limit, passed) = match state.phase() {
        Phase::Progressing => {
            ("step", plan.steps.get(state.taken.checked_sub(1)?)?.hold.max(plan.interval), state.times.step)
        }
        Phase::Baking => ("bake", plan.bake, state.times.step),
        Phase::Promoting => ("promotion", plan.interval, state.times.step),
        Phase::RollingBack => match plan.rollback {
            Rollback::Ramp(over) => ("ramp", over, state.times.ramp),
            Rollback::Immediate => return None,
        },
        _ => return None,
    };
    Some(RolloutLeft { what: what.to_owned(), seconds: left(limit, passed, status.age) })
}

fn left(limit: Duration, passed: Duration, age: Duration) -> f64 {
    limit.saturating_sub(passed).saturating_sub(age).as_secs_f64()
}

fn entry(stamped: &RecordedEntry) -> HistoryEntry {
    let entry = &stamped.entry;
    let (by, author) = labels::by(&entry.by);
    HistoryEntry {
        number: stamped.number,
        at_ms: stamped.at_ms,
        by: by.to_owned(),
        author: author.map(str::to_owned),
        what: labels::what(entry.what).to_owned(),
        why: entry.why.clone(),
        from: entry.from.as_str().to_owned(),
        to: entry.to.as_str().to_owned(),
        weight_before: percentage(entry.weight_before),
        weight_after: percentage(entry.weight_after),
        stable: version_name(entry.stable.as_ref()),
        canary: version_name(entry.canary.as_ref()),
        step: entry.taken,
        checks: entry.evidence.clone(),
        counts: stamped.counts.as_deref().cloned(),
    }
}

fn version_name(target: Option<&RolloutTarget>) -> Option<String> {
    target.map(|target| target.version.to_string())
}

fn percentage(weight: Weight) -> f64 {
    f64::from(weight.basis_points()) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_as_they_are_typed() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (5_400, "1h 30m"), (604_800, "7d"), (90_061, "1d 1h 1m 1s")] {
            assert_eq!(in_seconds(Duration::from_secs(seconds)), shown);
        }
    }
}
