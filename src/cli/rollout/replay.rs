//! `weir rollout replay`: what the rollout of a configuration file would have done with a history that was recorded.
//!
//! ```text
//! history (a running Weir, or a file) ─► events ─┐
//! plan of the file ─► verdicts judged anew ──────┴─► engine ─► lines
//! ```
//!
//! What was measured is compared with the limits of the file; what was not measured then cannot be known now. Hooks are
//! taken to accept, and conditions that held for their time (`rollback_when`) are taken as they were recorded, because
//! what happened between two analysis runs is not in the history.

use std::path::Path;
use std::time::Duration;

use super::{path, view};
use crate::admin::wire::{History, HistoryEntry};
use crate::cli::arguments::rollout::ReplayArguments;
use crate::cli::control_api::ControlApi;
use crate::cli::failure::{Exit, Failure};
use crate::cli::table::{clean, percent};
use crate::cli::{notify, print};
use crate::config;
use crate::rollout::engine::{Event, Observation, Phase, Recorded, RolloutState, RolloutTarget, Verb, What, replay};
use crate::rollout::plan::{Check, Measure, NoData, Plan, RollbackCondition};
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// More than any history holds.
const LIMIT: usize = 10_000;
/// The largest history file that is read.
const FILE: u64 = 64 * 1024 * 1024;

/// `weir rollout replay`.
pub(super) async fn run(arguments: &ReplayArguments) -> Result<(), Failure> {
    let plan = plan(arguments)?;
    let history = match &arguments.history {
        Some(file) => read(file)?,
        None => {
            let path = format!("{}/history?limit={LIMIT}", path(&arguments.service));
            ControlApi::new(&arguments.admin)?.get(&path).await?
        }
    };
    for name in unknown(&plan, &history) {
        notify(&format!("warning: check `{}` was not recorded: what it would have found is not known", clean(&name)));
    }
    print(&describe(plan, &history))
}

fn plan(arguments: &ReplayArguments) -> Result<Plan, Failure> {
    let file = arguments.file.path();
    let config = config::load(&file, &config::ProcessEnvironment)
        .map_err(|wrong| Failure::new(Exit::CONFIGURATION, wrong.to_string()))?;
    let plan = config.services.get(&arguments.service).and_then(|service| service.rollout.clone());
    plan.ok_or_else(|| {
        let what = format!("{}: service `{}` has no rollout", file.display(), arguments.service);
        Failure::new(Exit::CONFIGURATION, what).help("give it `rollout:`")
    })
}

fn read(file: &Path) -> Result<History, Failure> {
    let wrong = |why: String| Failure::new(Exit::FAILURE, format!("{}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > FILE {
        return Err(wrong(format!("{size} bytes are no history")));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| wrong(error.to_string()).help("write it by `weir rollout history SERVICE -o json`"))
}

/// Checks of the plan that the history says nothing about.
fn unknown(plan: &Plan, history: &History) -> Vec<String> {
    let recorded =
        |name: &str| history.entries.iter().flat_map(|entry| &entry.checks).any(|found| *found.check == *name);
    plan.checks.iter().map(|check| check.name.to_string()).filter(|name| !recorded(name)).collect()
}

/// What would have happened, and how that compares with what did.
fn describe(mut plan: Plan, history: &History) -> String {
    plan.hooks.clear();
    let entries = replayable(&history.entries);
    let begin = entries.first().map_or(0, |entry| entry.at_ms);
    let recorded = events(&plan, entries, begin);
    let (state, replayed) = replay(&plan, RolloutState::default(), &recorded);
    let mut out = String::new();
    for step in &replayed {
        let at = begin.saturating_add(u64::try_from(step.at.as_millis()).unwrap_or(u64::MAX));
        let moment = view::moment(at);
        for entry in &step.entries {
            let (before, after) =
                (f64::from(entry.weight_before.basis_points()), f64::from(entry.weight_after.basis_points()));
            let moved = if entry.weight_before == entry.weight_after || entry.what == What::Promoted {
                String::new()
            } else {
                format!(" {} → {}", percent(before / 100.0), percent(after / 100.0))
            };
            out.push_str(&format!("{moment} {}{moved}: {}\n", entry.to, clean(&entry.why)));
        }
        if let Some(refused) = &step.refused {
            out.push_str(&format!("{moment} refused: {}\n", clean(&refused.to_string())));
        }
    }
    let was = history.entries.last().map_or("nothing".to_owned(), |last| format!("{}: {}", last.to, last.why));
    let ends = if state.is_under_way() {
        format!("{} at {} %", state.phase(), state.weight)
    } else {
        state.phase().to_string()
    };
    out.push_str(&format!("recorded: {}\nreplayed: {ends}: {}\n", clean(&was), clean(&state.reason)));
    out
}

/// What there is to replay. Analysis runs are forgotten before decisions: of rollouts that are older than those nothing
/// can be said, and of the one that was under way then the rest.
fn replayable(entries: &[HistoryEntry]) -> &[HistoryEntry] {
    let apart = |pair: &[HistoryEntry]| matches!(pair, [a, b] if a.number.saturating_add(1) < b.number);
    let Some(gap) = entries.windows(2).rposition(apart) else { return entries };
    let before = entries.get(..=gap).unwrap_or_default();
    let under_way = |entry: &HistoryEntry| Phase::ALL.iter().any(|p| p.is_under_way() && p.as_str() == entry.to);
    let begun = before.iter().rposition(|entry| entry.what == "started");
    let begun = begun.filter(|_| before.last().is_some_and(under_way));
    entries.get(begun.unwrap_or(gap.saturating_add(1))..).unwrap_or_default()
}

/// The history as what happened to the engine.
fn events(plan: &Plan, entries: &[HistoryEntry], begin: u64) -> Vec<Recorded> {
    let sustained = plan.rollback_when.iter().any(|condition| matches!(condition, RollbackCondition::ErrorRate { .. }));
    let mut recorded = Vec::new();
    let mut last_look = None;
    let mut stable: Option<String> = None;
    for entry in entries {
        let at = Duration::from_millis(entry.at_ms.saturating_sub(begin));
        if stable.is_none()
            && let Some(first) = &entry.stable
        {
            // The first sighting is served, so that there is something to go back to.
            recorded.push(one(at, Event::Release(target(first)), None));
            stable = Some(first.clone());
        }
        let author = || entry.author.clone().unwrap_or_default();
        match (&*entry.what, &*entry.by) {
            ("looked", _) => {
                last_look = Some(entry.at_ms);
                recorded.push(one(at, Event::Tick, Some(judge(plan, entry))));
            }
            ("started", _) if !entry.why.starts_with("retry ") => {
                let Some(canary) = &entry.canary else { continue };
                // The file, too, asks for versions.
                let by = entry.author.clone().filter(|author| !author.is_empty()).unwrap_or("the file".to_owned());
                let event = Event::Start { target: target(canary), by, reason: String::new() };
                recorded.push(one(at, event, None));
                recorded.push(one(at, Event::Tick, None));
            }
            (what, "trip_wire") => {
                let stable_fails_too = what == "paused";
                recorded.push(one(at, Event::Tripped { why: entry.why.clone(), stable_fails_too }, None));
            }
            ("went_back", "judge") if sustained && last_look != Some(entry.at_ms) => {
                recorded.push(one(at, Event::Sustained { sentence: entry.why.clone() }, None));
            }
            (_, "person") => {
                let word = entry.why.split(' ').next().unwrap_or_default();
                let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.as_str() == word) else { continue };
                recorded.push(one(at, Event::Verb { verb, by: author(), reason: String::new() }, None));
                recorded.push(one(at, Event::Tick, None));
            }
            _ => {}
        }
    }
    recorded
}

fn one(at: Duration, event: Event, verdicts: Option<Vec<Verdict>>) -> Recorded {
    let seen = Observation {
        canary_available: 1,
        stable_available: 1,
        previous_available: 1,
        verdicts,
        ..Observation::default()
    };
    Recorded { at, event, seen }
}

fn target(version: &str) -> RolloutTarget {
    RolloutTarget { version: version.into(), fingerprint: String::new() }
}

/// What the plan's checks say of what was measured at one analysis run.
fn judge(plan: &Plan, entry: &HistoryEntry) -> Vec<Verdict> {
    plan.checks
        .iter()
        .map(|check| verdict(plan, check, entry.checks.iter().find(|found| *found.check == *check.name)))
        .collect()
}

fn verdict(plan: &Plan, check: &Check, found: Option<&Verdict>) -> Verdict {
    let verdict = Verdict {
        check: check.name.clone(),
        dry_run: true,
        sentence: format!("{}: not recorded", check.name),
        ..Verdict::default()
    };
    let Some(found) = found else { return verdict };
    let needed = check.min_requests.unwrap_or(plan.min_requests);
    let counted = !matches!(check.measure, Measure::External { .. } | Measure::Requests { .. });
    let no_data = check.no_data.unwrap_or(plan.no_data);
    let outcome = match found.value {
        _ if found.outcome == CheckOutcome::Error => CheckOutcome::Error,
        None => CheckOutcome::NoData,
        Some(_) if counted && found.samples < needed => CheckOutcome::NoData,
        Some(value) => holds(&check.measure, value, found.outcome),
    };
    let said = match (outcome, no_data) {
        (CheckOutcome::NoData, NoData::Pass) => "no data, which passes",
        (CheckOutcome::NoData, NoData::Fail) => "no data, which fails",
        (CheckOutcome::NoData, NoData::Hold) => "no data, which holds",
        (outcome, _) => outcome.as_str(),
    };
    Verdict {
        outcome,
        dry_run: check.dry_run,
        value: found.value,
        samples: found.samples,
        stable_fails_too: found.stable_fails_too,
        sentence: format!("{} → here: {said}", found.sentence),
        ..verdict
    }
}

/// Whether a value is within the limits of the file.
fn holds(measure: &Measure, value: f64, recorded: CheckOutcome) -> CheckOutcome {
    let good = match measure {
        Measure::SuccessRate { min, .. } => value >= *min,
        Measure::ErrorRate { max, .. } | Measure::Abandoned { max } => value <= *max,
        Measure::Duration { max, .. } => value <= max.as_secs_f64(),
        Measure::Requests { min, max } | Measure::External { min, max, .. } => {
            min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
        }
        // Its evidence adds up over the whole rollout and is not in the history.
        Measure::Compare { .. } => {
            return match recorded {
                CheckOutcome::Error => CheckOutcome::NoData,
                known => known,
            };
        }
    };
    if good { CheckOutcome::Pass } else { CheckOutcome::Fail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(min: f64) -> Plan {
        let text = format!(
            "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  shop:\n    versions:\n      \
             v1: {{ endpoints: [\"127.0.0.1:1\"] }}\n      v2: {{ endpoints: [\"127.0.0.1:2\"] }}\n    release: v2\n    \
             rollout:\n      interval: 10s\n      bake: 10s\n      steps: [{{ weight: 10, hold: 10s }}, {{ weight: 50, hold: 10s }}]\n      \
             checks: [{{ name: success, success_rate: {{ min: {min} }} }}]\n      failures: {{ total: 1 }}\n\
             routes: [{{ match: {{ path: / }}, service: shop }}]\n"
        );
        let config = config::parse(Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None);
        config.unwrap_or_else(|wrong| panic!("{wrong}")).services.get("shop").unwrap().rollout.clone().unwrap()
    }

    fn entry(seconds: u64, what: &str, by: &str, rate: Option<f64>) -> HistoryEntry {
        let check = |value| Verdict {
            check: "success".into(),
            outcome: CheckOutcome::Pass,
            value: Some(value),
            samples: 1_000,
            ..Verdict::default()
        };
        HistoryEntry {
            at_ms: seconds * 1_000,
            what: what.to_owned(),
            by: by.to_owned(),
            why: "start by ann".to_owned(),
            to: "succeeded".to_owned(),
            stable: Some("v1".to_owned()),
            canary: Some("v2".to_owned()),
            checks: rate.map(check).into_iter().collect(),
            ..HistoryEntry::default()
        }
    }

    fn recorded() -> History {
        let runs = (1..=8).map(|run| entry(run * 10, "looked", "judge", Some(99.5)));
        let entries = std::iter::once(entry(0, "started", "person", None)).chain(runs).collect();
        History { service: "shop".to_owned(), entries }
    }

    #[test]
    fn a_stricter_plan_goes_back_where_a_lax_one_goes_on() {
        let lax = describe(plan(99.0), &recorded());
        assert!(lax.contains("0% → 10%") && lax.contains("10% → 50%"), "{lax}");
        assert!(lax.contains("replayed: succeeded"), "{lax}");
        let strict = describe(plan(99.9), &recorded());
        assert!(strict.contains("replayed: rolled_back"), "{strict}");
        assert!(!strict.contains("→ 50%"), "{strict}");
    }

    #[test]
    fn a_start_says_who_asked_for_it() {
        assert!(describe(plan(99.0), &recorded()).contains("start by the file"), "nobody is named");
        let mut history = recorded();
        history.entries[0].author = Some("ann".to_owned());
        assert!(describe(plan(99.0), &history).contains("start by ann"));
    }

    #[test]
    fn decisions_without_their_looks_are_no_rollout() {
        let mut history = recorded();
        let numbered = |(number, entry): (u64, HistoryEntry)| HistoryEntry { number, ..entry };
        history.entries = (1_000..).zip(history.entries).map(numbered).collect();
        let alone = describe(plan(99.0), &history);
        let old = ["started", "stepped", "went_back"].map(|what| entry(0, what, "judge", None));
        let old =
            (0..).step_by(20).zip(old).map(numbered).map(|entry| HistoryEntry { to: "aborted".to_owned(), ..entry });
        history.entries.splice(0..0, old);
        assert_eq!(describe(plan(99.0), &history), alone);
        // Of one that was under way, what is left is replayed.
        let mut cut = recorded();
        cut.entries = (0..).zip(cut.entries).map(numbered).collect();
        cut.entries[0].to = "waiting".to_owned();
        cut.entries.remove(1);
        assert!(describe(plan(99.0), &cut).contains("0% → 10%"));
        assert!(alone.contains("replayed: succeeded"), "{alone}");
    }

    #[test]
    fn what_was_not_recorded_decides_nothing_and_is_said() {
        let mut history = recorded();
        history.entries.iter_mut().for_each(|entry| entry.checks.clear());
        assert_eq!(unknown(&plan(99.0), &history), ["success"]);
        assert!(describe(plan(99.0), &history).contains("replayed: succeeded"));
    }
}
