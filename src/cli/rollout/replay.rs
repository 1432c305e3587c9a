//! `weir rollout replay`: what the rollout of a configuration file would have done with a history that was recorded.
//!
//! ```text
//! history (a running Weir, or a file) ─► counts, commands ─┐
//! plan of the file ────────────────────────────────────────┴─► rollout::replay: judge, engine ─► lines
//! ```
//!
//! What was counted is judged by the file; what was not recorded then cannot be known now. Hooks are taken to accept,
//! endpoints to be available, and the trip wire, which looks at single requests, to trip where it did.

use std::ops::Range;
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
use crate::rollout::engine::{Entry, Event, Phase, RolloutState, RolloutTarget, Verb, What};
use crate::rollout::evidence::HistoryLayout;
use crate::rollout::plan::{Check, Measure, Plan, RollbackCondition};
use crate::rollout::replay::{Assumptions, RecordedRun, Replay, Replayed};

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

/// Checks of the plan that the history says nothing about: what others measure, and what Weir counts where an older one
/// recorded no counts.
fn unknown(plan: &Plan, history: &History) -> Vec<String> {
    let counted = history.entries.iter().any(|entry| entry.counts.is_some());
    let recorded =
        |name: &str| history.entries.iter().flat_map(|entry| &entry.checks).any(|found| *found.check == *name);
    let known =
        |check: &&Check| recorded(&check.name) || (counted && !matches!(check.measure, Measure::External { .. }));
    plan.checks.iter().filter(|check| !known(check)).map(|check| check.name.to_string()).collect()
}

/// What would have happened, and how that compares with what did.
fn describe(mut plan: Plan, history: &History) -> String {
    plan.hooks.clear();
    let entries = replayable(&history.entries);
    let begin = entries.first().map_or(0, |entry| entry.at_ms);
    let layout = HistoryLayout::of(entries.iter().filter_map(|entry| entry.counts.as_ref()));
    let mut replay = Replay::new(&plan, layout);
    let parts = run_through(&mut replay, &plan, entries, begin);
    let mut out = String::new();
    assumed(replay.assumptions()).iter().for_each(|note| out.push_str(&format!("note: {}\n", clean(note))));
    let (count, mut number) = (parts.iter().filter(|part| part.begun.is_some()).count(), 0);
    for part in &parts {
        if !out.is_empty() {
            out.push('\n');
        }
        if let Some(versions) = &part.begun {
            number += 1;
            out.push_str(&format!("rollout {number} of {count}: {}\n", clean(versions)));
        }
        for (at, replayed) in replay.story().get(part.story.clone()).unwrap_or_default() {
            let at = begin.saturating_add(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
            out.push_str(&format!("  {} {}\n", view::moment(at), clean(&line(replayed))));
        }
        if part.begun.is_some() || count == 0 {
            out.push_str(&format!("recorded: {}\nreplayed: {}\n", clean(&part.recorded), clean(&part.replayed)));
        }
    }
    out
}

/// What lies between the beginnings of two rollouts.
#[derive(Debug)]
struct Part {
    /// From which version to which; none for what comes before the first rollout.
    begun: Option<String>,
    /// Which lines of the replay's story are of it.
    story: Range<usize>,
    /// How it ended then.
    recorded: String,
    /// How it would have ended.
    replayed: String,
}

/// How the rollout that these entries are of ended, or where it is.
fn recorded_end(entries: &[HistoryEntry]) -> String {
    // That a version is not tried again is of no rollout. What else is told after the end, such as a hook's answer or that
    // the file was put back, is not how it ended.
    let tried = || entries.iter().filter(|entry| entry.what != "not_tried");
    match tried().rfind(|entry| ends(entry)).or(tried().next_back()).or(entries.last()) {
        Some(end) => format!("{}: {}", end.to, end.why),
        None => "nothing".to_owned(),
    }
}

/// Whether a rollout ended here, or was undone after its success.
fn ends(entry: &HistoryEntry) -> bool {
    let undone = entry.from == Phase::Succeeded.as_str() && entry.to == Phase::Aborted.as_str();
    undone || (is_under_way(&entry.from) && !is_under_way(&entry.to))
}

fn is_under_way(phase: &str) -> bool {
    Phase::ALL.iter().any(|known| known.is_under_way() && known.as_str() == phase)
}

fn replayed_end(state: &RolloutState) -> String {
    let at = if state.is_under_way() { format!(" at {} %", state.weight) } else { String::new() };
    format!("{}{at}: {}", state.phase(), state.reason)
}

fn line(replayed: &Replayed) -> String {
    match replayed {
        Replayed::Decided(entry) => format!("{}{}: {}", entry.to, moved(entry), entry.why),
        Replayed::Refused(refused) => format!("refused: {refused}"),
        Replayed::Left(phase) => format!("still {phase}, when the next rollout began: it is left there"),
    }
}

fn moved(entry: &Entry) -> String {
    if entry.weight_before == entry.weight_after || entry.what == What::Promoted {
        return String::new();
    }
    let [before, after] =
        [entry.weight_before, entry.weight_after].map(|weight| percent(f64::from(weight.basis_points()) / 100.0));
    format!(" {before} → {after}")
}

/// What had to be taken for granted, in words.
fn assumed(assumptions: &Assumptions) -> Vec<String> {
    let mut notes = Vec::new();
    if assumptions.as_they_were > 0 {
        notes.push(format!(
            "analysis runs that an older Weir recorded without counts, whose verdicts are taken as they were: {}",
            assumptions.as_they_were
        ));
    }
    if !assumptions.independent.is_empty() {
        let names: Vec<_> = assumptions.independent.iter().map(|name| format!("`{name}`")).collect();
        notes.push(format!(
            "how the errors of {} come together was not recorded, because no check asked that: requests are taken as \
             independent of each other (a design effect of 1)",
            names.join(", ")
        ));
    }
    notes
}

/// What there is to replay. Analysis runs are forgotten before decisions: of rollouts that are older than those nothing
/// can be said, and of the one that was under way then the rest.
fn replayable(entries: &[HistoryEntry]) -> &[HistoryEntry] {
    let apart = |pair: &[HistoryEntry]| matches!(pair, [a, b] if a.number.saturating_add(1) < b.number);
    let Some(gap) = entries.windows(2).rposition(apart) else { return entries };
    let before = entries.get(..=gap).unwrap_or_default();
    let begun = before.iter().rposition(|entry| entry.what == "started");
    let begun = begun.filter(|_| before.last().is_some_and(|entry| is_under_way(&entry.to)));
    entries.get(begun.unwrap_or(gap.saturating_add(1))..).unwrap_or_default()
}

/// What happened, in its order. Returns the rollouts that it is of.
fn run_through(replay: &mut Replay<'_>, plan: &Plan, entries: &[HistoryEntry], begin: u64) -> Vec<Part> {
    let has = |wanted: fn(&RollbackCondition) -> bool| plan.rollback_when.iter().any(wanted);
    let trips = has(|condition| !matches!(condition, RollbackCondition::ErrorRate { .. }));
    let sustained = has(|condition| matches!(condition, RollbackCondition::ErrorRate { .. }));
    // The moment of the last analysis run, and whether anything was counted in this rollout.
    let (mut last_run, mut counted, mut at) = (None, false, Duration::ZERO);
    let mut parts = Vec::new();
    // The part that is replayed now: its versions, its first entry, and its first line of the story.
    let (mut begun, mut first, mut told) = (None, 0, 0);
    for (index, entry) in entries.iter().enumerate() {
        at = Duration::from_millis(entry.at_ms.saturating_sub(begin));
        if let (None, Some(stable)) = (&replay.state().stable, &entry.stable) {
            // The first sighting is served, so that there is something to go back to.
            replay.serve(at, target(stable));
        }
        if let Some(counts) = &entry.counts {
            counted = true;
            replay.count(at, counts);
        }
        match (&*entry.what, &*entry.by, &entry.counts) {
            ("looked", _, counts) => {
                last_run = Some(entry.at_ms);
                let (canary_had_all, verdicts) = (entry.weight_before >= 100.0, &*entry.checks);
                match counts {
                    Some(counts) => replay.analyze(at, RecordedRun { counts, canary_had_all, verdicts }),
                    None => replay.take(at, verdicts),
                }
            }
            ("started", ..) => {
                counted = false;
                let (Some(stable), Some(canary)) = (&entry.stable, &entry.canary) else { continue };
                // The file, too, asks for versions.
                let by = entry.author.clone().filter(|author| !author.is_empty()).unwrap_or("the file".to_owned());
                replay.end(at);
                let replayed = replayed_end(replay.state());
                let end = replay.story().len();
                replay.start(at, target(stable), target(canary), by);
                // That the one before is left where it is, is of that one.
                let end = end + usize::from(matches!(replay.story().get(end), Some((_, Replayed::Left(_)))));
                if index > first {
                    let recorded = recorded_end(entries.get(first..index).unwrap_or_default());
                    parts.push(Part { begun: begun.take(), story: told..end, recorded, replayed });
                    told = end;
                }
                (begun, first) = (Some(format!("{stable} → {canary}")), index);
            }
            (what, "trip_wire", _) if trips => {
                let stable_fails_too = what == "paused";
                replay.happened(at, Event::Tripped { why: entry.why.clone(), stable_fails_too });
            }
            // Of what an older Weir recorded nobody knows for how long it was so.
            ("went_back", "judge", _) if sustained && !counted && last_run != Some(entry.at_ms) => {
                replay.happened(at, Event::Sustained { sentence: format!("{} (taken as it was)", entry.why) });
            }
            (_, "person", _) => {
                let word = entry.why.split(' ').next().unwrap_or_default();
                let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.as_str() == word) else { continue };
                let by = entry.author.clone().unwrap_or_default();
                replay.happened(at, Event::Verb { verb, by, reason: String::new() });
            }
            _ => {}
        }
    }
    replay.end(at);
    let recorded = recorded_end(entries.get(first..).unwrap_or_default());
    let (story, replayed) = (told..replay.story().len(), replayed_end(replay.state()));
    parts.push(Part { begun, story, recorded, replayed });
    parts
}

fn target(version: &str) -> RolloutTarget {
    RolloutTarget { version: version.into(), fingerprint: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::verdict::{CheckOutcome, Verdict};

    fn plan_of(checks: &str) -> Plan {
        let text = format!(
            "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  shop:\n    versions:\n      \
             v1: {{ endpoints: [\"127.0.0.1:1\"] }}\n      v2: {{ endpoints: [\"127.0.0.1:2\"] }}\n    release: v2\n    \
             rollout:\n      interval: 10s\n      bake: 10s\n      steps: [{{ weight: 10, hold: 10s }}, {{ weight: 50, hold: 10s }}]\n      \
             checks: [{checks}]\n      failures: {{ total: 1 }}\n\
             routes: [{{ match: {{ path: / }}, service: shop }}]\n"
        );
        let config = config::parse(Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None);
        config.unwrap_or_else(|wrong| panic!("{wrong}")).services.get("shop").unwrap().rollout.clone().unwrap()
    }

    fn plan(min: f64) -> Plan {
        plan_of(&format!("{{ name: success, success_rate: {{ min: {min} }} }}"))
    }

    fn entry(seconds: u64, what: &str, by: &str, errors: Option<u64>) -> HistoryEntry {
        let counts = |errors: u64| {
            let text = format!(
                r#"{{"seconds":10,"canary":{{"successes":{},"server_errors":{errors}}},"stable":{{"successes":5000}}}}"#,
                10_000 - errors
            );
            serde_json::from_str(&text).unwrap()
        };
        let checks = errors.map(|_| Verdict {
            check: "success".into(),
            outcome: CheckOutcome::Pass,
            value: Some(99.5),
            samples: 10_000,
            sentence: "success: ok then".to_owned(),
            ..Verdict::default()
        });
        HistoryEntry {
            at_ms: seconds * 1_000,
            what: what.to_owned(),
            by: by.to_owned(),
            why: "start by ann".to_owned(),
            to: "succeeded".to_owned(),
            stable: Some("v1".to_owned()),
            canary: Some("v2".to_owned()),
            checks: checks.into_iter().collect(),
            counts: errors.map(counts),
            ..HistoryEntry::default()
        }
    }

    /// 0.5 % of the canary's requests are errors.
    fn recorded() -> History {
        let runs = (1..=8).map(|run| entry(run * 10, "looked", "judge", Some(50)));
        let entries = std::iter::once(entry(0, "started", "person", None)).chain(runs).collect();
        History { service: "shop".to_owned(), entries }
    }

    #[test]
    fn a_stricter_plan_goes_back_where_a_lax_one_goes_on() {
        let lax = describe(plan(99.0), &recorded());
        assert!(lax.contains("0% → 10%") && lax.contains("10% → 50%"), "{lax}");
        assert!(lax.contains("replayed: succeeded"), "{lax}");
        let strict = describe(plan(99.9), &recorded());
        assert!(strict.contains("replayed: rolled_back: success: canary 9,950 of 10,000 (99.50 %)"), "{strict}");
        assert!(!strict.contains("→ 50%"), "{strict}");
    }

    #[test]
    fn each_rollout_of_a_history_has_its_two_ends() {
        let (mut history, strict) = (recorded(), plan(99.9));
        let again = recorded().entries.into_iter().map(|entry| HistoryEntry { at_ms: entry.at_ms + 600_000, ..entry });
        history.entries.extend(again.map(|entry| HistoryEntry { canary: Some("v3".to_owned()), ..entry }));
        let back = |why: &str, from: &str| HistoryEntry {
            from: from.to_owned(),
            to: "rolled_back".to_owned(),
            why: why.to_owned(),
            ..entry(700, "went_back", "judge", None)
        };
        history.entries.extend([back("errors", "progressing"), back("a hook `after` accepts", "rolled_back")]);
        let text = describe(strict, &history);
        let parts: Vec<&str> = text.split("\n\n").collect();
        let [note, first, second] = parts[..] else { panic!("{text}") };
        assert!(note.starts_with("note: how the errors of `success` come together"), "{text}");
        assert!(first.starts_with("rollout 1 of 2: v1 → v2\n  1970-01-01T00:00:00Z "), "{text}");
        assert!(first.contains("\nrecorded: succeeded: ") && first.contains("\nreplayed: rolled_back: "), "{text}");
        assert!(second.starts_with("rollout 2 of 2: v1 → v3\n  1970-01-01T00:10:00Z "), "{text}");
        assert!(second.contains("\nrecorded: rolled_back: errors\nreplayed: rolled_back: success: "), "{text}");
    }

    #[test]
    fn what_is_written_after_a_rollout_is_not_how_it_ended() {
        let at = |what: &str, from: &str, to: &str, why: &str| HistoryEntry {
            what: what.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            why: why.to_owned(),
            ..HistoryEntry::default()
        };
        let started = at("started", "idle", "waiting", "the file asks for v2");
        let back = at("went_back", "rolling_back", "rolled_back", "errors");
        let promoted = at("promoted", "promoting", "succeeded", "v2 is stable");
        let answered = |phase| at("answered", phase, phase, "a hook `after` accepts");
        let not_tried = |from| at("not_tried", from, "rolled_back", "v2 failed before and has not changed");
        let put_back = at("changed", "rolled_back", "idle", "the file asks for v1 again");
        let gone = at("changed", "succeeded", "idle", "v2 is no longer in the file");
        let undone = at("went_back", "succeeded", "aborted", "undo by ann");
        let paused = at("paused", "progressing", "paused", "pause by ann");
        for (after, end) in [
            (vec![], "waiting: the file asks for v2"),
            (vec![paused.clone()], "paused: pause by ann"),
            (vec![back.clone(), answered("rolled_back")], "rolled_back: errors"),
            (vec![back.clone(), put_back.clone()], "rolled_back: errors"),
            (vec![back.clone(), put_back, not_tried("idle")], "rolled_back: errors"),
            (vec![back, not_tried("rolled_back")], "rolled_back: errors"),
            (vec![paused, not_tried("rolling_back")], "paused: pause by ann"),
            (vec![promoted.clone(), gone], "succeeded: v2 is stable"),
            (vec![promoted.clone(), answered("succeeded")], "succeeded: v2 is stable"),
            (vec![promoted.clone(), not_tried("succeeded")], "succeeded: v2 is stable"),
            (vec![promoted, undone, answered("aborted")], "aborted: undo by ann"),
        ] {
            let entries: Vec<_> = std::iter::once(started.clone()).chain(after).collect();
            assert_eq!(recorded_end(&entries), end, "{entries:?}");
        }
        assert_eq!(recorded_end(&[not_tried("idle")]), "rolled_back: v2 failed before and has not changed");
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
    fn what_was_recorded_without_counts_is_taken_as_it_was_and_that_is_said() {
        let mut history = recorded();
        history.entries.iter_mut().for_each(|entry| entry.counts = None);
        let strict = describe(plan(99.9), &history);
        assert!(strict.contains("without counts, whose verdicts are taken as they were: 5\n"), "{strict}");
        assert!(strict.contains("replayed: succeeded"), "nobody knows better: {strict}");
        history.entries[2].checks[0].outcome = CheckOutcome::Fail;
        let lax = describe(plan(99.0), &history);
        assert!(lax.contains("replayed: rolled_back: success: ok then (taken as it was)"), "{lax}");
    }

    #[test]
    fn what_was_not_recorded_decides_nothing_and_is_said() {
        let mut history = recorded();
        history.entries.iter_mut().for_each(|entry| (entry.checks, entry.counts) = (Vec::new(), None));
        assert_eq!(unknown(&plan(99.0), &history), ["success"]);
        assert!(describe(plan(99.0), &history).contains("replayed: succeeded"));
        assert!(unknown(&plan(99.0), &recorded()).is_empty());
        // What Weir counts itself needs no check then; what others measure does.
        let other = plan_of(
            "{ name: mine, error_rate: { max: 1 } }, { name: orders, webhook: { url: \"http://a/\" }, min: 1 }",
        );
        assert_eq!(unknown(&other, &recorded()), ["orders"]);
        let text = describe(other, &recorded());
        assert!(text.contains("note: how the errors of `mine` come together was not recorded"), "{text}");
    }
}
