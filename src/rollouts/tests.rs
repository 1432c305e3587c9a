mod alerts;
mod analysis;
mod crash;
mod driver;
mod faults;
mod listening;
mod stable;

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::config::{self, Config};
use crate::model::Weight;
use crate::model::fixture::Fixture as _;
use crate::rollout::engine::What;
use crate::snapshot::compile::States;
use crate::store::memory::{Fault, MemoryJournal};
use crate::store::{CopyFile, Journal};
use crate::telemetry::{Outcome, Recorder, RecorderOptions, RouteSeries};

const SECOND: Duration = Duration::from_secs(1);
/// How long a commit may take here.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A service `shop` that is rolled out, a recorder, a disk and a clock.
struct Rig {
    config: Config,
    states: States,
    resolved: HashMap<String, Vec<crate::model::ResolvedAddress>>,
    recorder: Arc<Recorder>,
    disk: Arc<MemoryJournal>,
    journal: JournalWriter,
    directory: TempDir,
    now: Cell<Duration>,
    routes: BTreeMap<String, Arc<RouteSeries>>,
}

const PLAN: &str = "interval: 1s, window: 5s, min_requests: 10, bake: 2s, \
    steps: [{ weight: 10, hold: 2s }, { weight: 50, hold: 2s }, { weight: 100 }], \
    checks: [{ name: success, success_rate: { min: 99 } }], failures: { total: 3 }, rollback_when: [{ errors: 5, in_a_row: true }]";

impl Rig {
    fn new() -> Self {
        Self::on(Arc::default(), tempfile::tempdir().unwrap())
    }

    /// With what is stored on `disk`, and the copy in `directory`.
    fn on(disk: Arc<MemoryJournal>, directory: TempDir) -> Self {
        let options = RecorderOptions { threads: 1, version: "0", revision: "x", started: std::time::Instant::now() };
        let recorder = Recorder::new(options);
        let shop: Name = "shop".into();
        let route = |version: &str| recorder.version(&shop, &version.into()).route(&"r".into());
        let routes = ["v1", "v2", "v3"].map(|version| (version.to_owned(), route(version))).into();
        Self {
            config: file("v1", PLAN),
            states: States::new(),
            resolved: HashMap::new(),
            recorder,
            journal: writer(&disk, directory.path()),
            disk,
            directory,
            now: Cell::new(Duration::from_secs(100)),
            routes,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            config: &self.config,
            states: &self.states,
            resolved: &self.resolved,
            in_effect: None,
            recorder: &self.recorder,
            store: &self.journal,
            now: self.now.get(),
            at_ms: u64::try_from(self.now.get().as_millis()).unwrap(),
        }
    }

    /// A second with so many answers and errors of each version that has weight.
    fn second(&self, rollouts: &mut Rollouts, errors: u32) {
        for (version, weight) in shares(rollouts) {
            let status = |request: u32| if version != "v1" && request < errors { 500 } else { 200 };
            if weight > Weight::ZERO {
                (0..20)
                    .for_each(|request| self.routes[&version].finish(Outcome::Status(status(request)), SECOND / 100));
            }
        }
        self.now.set(self.now.get() + SECOND);
        rollouts.second(&self.view());
    }

    fn lose_store(&self) {
        self.disk.retain(|_| false);
        self.journal.read_again();
    }

    fn lose_copy(&self) {
        drop(std::fs::remove_file(self.directory.path().join("weir.copy")));
    }

    fn take_in(&mut self, rollouts: &mut Rollouts, release: &str) {
        let before = std::mem::replace(&mut self.config, file(release, PLAN));
        rollouts.take_in(&before, &BTreeMap::new(), &self.view()).unwrap();
        rollouts.save(&self.view()).unwrap();
    }

    /// With v1 in service and v2 under way.
    fn begun() -> (Self, Rollouts) {
        let mut rig = Self::new();
        let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
        assert_eq!(phase(&rollouts), Phase::Idle);
        rig.take_in(&mut rollouts, "v2");
        (rig, rollouts)
    }
}

/// A writer of `disk` that does not wait for long.
fn writer(disk: &Arc<MemoryJournal>, directory: &Path) -> JournalWriter {
    let copy = CopyFile::new(directory.to_owned());
    JournalWriter::with_timeout(Arc::clone(disk) as Arc<dyn Journal>, Some(copy), None, TIMEOUT).unwrap()
}

fn file(release: &str, plan: &str) -> Config {
    parsed(&text_of(release, plan))
}

/// With other endpoints of v1.
fn file_with(release: &str, plan: &str, v1: &str) -> Config {
    parsed(&text_of(release, plan).changed("\"127.0.0.1:1\"", v1))
}

fn text_of(release: &str, plan: &str) -> String {
    format!(
        "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  shop:\n    versions:\n      \
         v1: {{ endpoints: [\"127.0.0.1:1\"] }}\n      v2: {{ endpoints: [\"127.0.0.1:2\"] }}\n      \
         v3: {{ endpoints: [\"127.0.0.1:3\"] }}\n    release: {release}\n    stable: v1\n    rollout: {{ {plan} }}\n\
         alerts: {{ team: {{ slack: {{ url: \"http://127.0.0.1:1/\" }} }} }}\n\
         routes: [{{ match: {{ path: / }}, service: shop }}]\n"
    )
}

fn parsed(text: &str) -> Config {
    config::parse(Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn phase(rollouts: &Rollouts) -> Phase {
    rollouts.phase(&"shop".into()).unwrap()
}

fn shares(rollouts: &Rollouts) -> Vec<(String, Weight)> {
    let split = rollouts.splits().next().unwrap().1;
    split.iter().map(|(name, weight)| (name.to_string(), weight)).collect()
}

fn share(rollouts: &Rollouts, version: &str) -> u16 {
    shares(rollouts).iter().find(|(name, _)| name == version).map_or(0, |(_, weight)| weight.basis_points())
}

#[test]
fn a_line_of_the_history_of_an_older_weir_has_no_counts_and_is_read() {
    for line in include_str!("../rollout/engine/tests/stored/entries.txt").lines() {
        let text = line.replacen('{', r#"{"number":7,"at_ms":1,"#, 1);
        let read: RecordedEntry = serde_json::from_str(&text).unwrap();
        assert!(read.counts.is_none());
        assert_eq!(serde_json::to_string(&read).unwrap(), text, "an older Weir reads what has none");
    }
}

#[test]
fn a_release_in_the_file_is_rolled_out_by_steps_and_promoted() {
    let (rig, mut rollouts) = Rig::begun();
    let mut seen = vec![share(&rollouts, "v2")];
    for _ in 0..30 {
        rig.second(&mut rollouts, 0);
        let now = share(&rollouts, "v2");
        assert_eq!(u32::from(share(&rollouts, "v1")) + u32::from(now), 10_000);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(seen, [1_000, 5_000, 10_000]);
    assert_eq!(phase(&rollouts), Phase::Succeeded);
    let words: Vec<_> = rollouts.history("shop", 500).unwrap().iter().map(|line| line.entry.what).collect();
    assert!(words.contains(&What::Promoted));
    let fact = rollouts.facts().remove(0);
    assert_eq!((fact.phase, fact.step), ("succeeded", 0), "steps of a rollout that is over do not count");
    assert!(
        fact.checks.iter().any(|(check, command, count)| (&**check, *command) == ("success", "pass") && *count > 5)
    );
}

#[test]
fn errors_send_it_back_and_the_same_version_is_not_tried_again() {
    let (mut rig, mut rollouts) = Rig::begun();
    rig.second(&mut rollouts, 0);
    assert_eq!(share(&rollouts, "v2"), 1_000);
    (0..4).for_each(|_| rig.second(&mut rollouts, 4));
    assert_eq!((phase(&rollouts), share(&rollouts, "v1")), (Phase::RolledBack, 10_000));
    assert!(rollouts.breakers().is_empty() && rollouts.services["shop"].breaker.is_none());
    rig.take_in(&mut rollouts, "v2");
    (0..3).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!(phase(&rollouts), Phase::RolledBack);
    let command = |verb| Command { verb, version: None };
    let by = || ("ann".to_owned(), String::new());
    rollouts.command(&"shop".into(), &command(Verb::Retry), by(), &rig.view()).unwrap().unwrap();
    assert!(phase(&rollouts).is_under_way());
    let refused = rollouts.command(&"shop".into(), &command(Verb::Resume), by(), &rig.view()).unwrap().unwrap_err();
    assert_eq!(refused.verb, Verb::Resume);
}

#[test]
fn a_restart_goes_on_where_it_was_and_never_higher() {
    let (rig, mut rollouts) = Rig::begun();
    for second in 0..20 {
        rig.second(&mut rollouts, 0);
        let before = share(&rollouts, "v2");
        let after = Rollouts::restore(&rig.view()).unwrap();
        assert!(share(&after, "v2") <= before, "second {second}");
        if phase(&rollouts) != Phase::Succeeded {
            assert_eq!(share(&after, "v2"), before, "second {second}");
        }
        assert_eq!(
            after.history("shop", 500).unwrap().iter().filter(|line| line.number < 3).count(),
            rollouts.history("shop", 500).unwrap().iter().filter(|line| line.number < 3).count()
        );
    }
    let mut after = Rollouts::restore(&rig.view()).unwrap();
    assert_eq!((phase(&after), share(&after, "v2")), (Phase::Succeeded, 10_000));
    rig.second(&mut after, 0);
}

#[test]
fn a_full_disk_holds_what_goes_up_and_lets_down_what_must() {
    let (rig, mut rollouts) = Rig::begun();
    rig.second(&mut rollouts, 0);
    assert_eq!(share(&rollouts, "v2"), 1_000);
    rig.disk.always(Some(Fault::Failing));
    (0..10).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!(share(&rollouts, "v2"), 1_000, "no step that is not written");
    let command = Command { verb: Verb::Promote, version: None };
    let refused = rollouts.command(&"shop".into(), &command, ("ann".to_owned(), String::new()), &rig.view()).unwrap();
    assert!(refused.unwrap_err().reason.contains("cannot be written"));
    assert!(rollouts.statuses(rig.now.get())["shop"].unwritable.is_some());
    let abort = Command { verb: Verb::Abort, version: None };
    rollouts.command(&"shop".into(), &abort, ("ann".to_owned(), String::new()), &rig.view()).unwrap().unwrap();
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Aborted, 0));
    rig.disk.always(None);
    rig.second(&mut rollouts, 0);
    assert_eq!(phase(&Rollouts::restore(&rig.view()).unwrap()), Phase::Aborted, "it is written as soon as it can be");
}

#[test]
fn a_state_that_cannot_be_read_leaves_stable_and_is_set_aside() {
    for newer in [false, true] {
        let (rig, mut rollouts) = Rig::begun();
        (0..3).for_each(|_| rig.second(&mut rollouts, 0));
        let state = rig.disk.get("rollout/shop/state").unwrap();
        let text = String::from_utf8(state.to_vec()).unwrap();
        let text = if newer {
            text.changed("\"state_version\":1", "\"state_version\":99")
        } else {
            text.changed("\"phase\":\"progressing\"", "\"phase\":\"flying\"")
        };
        rig.journal.put("rollout/shop/state", text.as_bytes()).unwrap();
        let after = Rollouts::restore(&rig.view()).unwrap();
        assert_eq!((share(&after, "v1"), share(&after, "v2")), (10_000, 0));
        assert_eq!(&*rig.disk.get("rollout/shop/damaged").unwrap(), text.as_bytes());
        assert_eq!(phase(&after), Phase::Idle, "nothing begins by itself");
        assert!(after.statuses(rig.now.get())["shop"].state.reason.contains("set aside"));
    }
}

#[test]
fn a_store_that_is_lost_leaves_stable_and_begins_nothing() {
    let (rig, mut rollouts) = Rig::begun();
    (0..3).for_each(|_| rig.second(&mut rollouts, 0));
    assert!(share(&rollouts, "v2") > 0);
    rig.lose_store();
    let mut after = Rollouts::restore(&rig.view()).unwrap();
    (0..5).for_each(|_| rig.second(&mut after, 0));
    assert_eq!((share(&after, "v1"), share(&after, "v2")), (10_000, 0), "v2 was never judged to its end");
    assert_eq!(phase(&after), Phase::Idle);
    assert!(after.statuses(rig.now.get())["shop"].state.reason.contains("it is lost"));
    // Without a copy what the file names as stable serves, and its release begins at the first step.
    rig.lose_store();
    rig.lose_copy();
    let after = Rollouts::restore(&rig.view()).unwrap();
    assert_eq!((share(&after, "v1"), share(&after, "v2")), (9_000, 1_000));
}

#[test]
fn a_canary_that_cannot_take_traffic_gets_none() {
    let mut rig = Rig::new();
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    rig.states.insert(("shop".into(), "v2".into(), None), crate::model::EndpointState::Drain);
    rig.take_in(&mut rollouts, "v2");
    (0..10).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Waiting, 0));
    rig.states.clear();
    rig.second(&mut rollouts, 0);
    assert_eq!(share(&rollouts, "v2"), 1_000);
}

#[test]
fn a_third_version_supersedes_and_stable_stays() {
    let (mut rig, mut rollouts) = Rig::begun();
    (0..3).for_each(|_| rig.second(&mut rollouts, 0));
    rig.take_in(&mut rollouts, "v3");
    assert_eq!((share(&rollouts, "v1"), share(&rollouts, "v2")), (9_000, 0), "v3 has its first step");
    assert_eq!(share(&rollouts, "v3"), 1_000);
    rig.take_in(&mut rollouts, "v1");
    assert_eq!(share(&rollouts, "v1"), 10_000, "the file took it back");
}

#[test]
fn what_was_served_before_it_had_a_rollout_is_stable() {
    let mut rig = Rig::new();
    let text = "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\nservices:\n  shop:\n    versions: \
                { v1: { endpoints: [\"127.0.0.1:1\"] } }\n    split: { v1: 100 }\n\
                routes: [{ match: { path: / }, service: shop }]\n";
    let before = config::parse(Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None).unwrap();
    rig.config = parsed(&text_of("v2", PLAN).changed("stable: v1", ""));
    let mut rollouts = Rollouts::default();
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    rollouts.all_listen(&rig.view());
    assert_eq!((share(&rollouts, "v1"), share(&rollouts, "v2")), (9_000, 1_000));
}

/// Whatever moment of a second a rollout begins at, and however long answers take within their time: each look but the
/// first has one.
#[test]
fn a_provider_that_answers_in_time_is_heard_by_every_look() {
    for (interval, timeout) in [(1, 100), (1, 899), (1, 900), (1, 999), (2, 1_900), (3, 2_999), (5, 3_000)] {
        for begins in (0..1_000).step_by(90).map(Duration::from_millis) {
            let provider = format!("webhook: {{ url: \"http://127.0.0.1:1/\", timeout: {timeout}ms }}, min: 1");
            let plan = PLAN
                .changed("interval: 1s", &format!("interval: {interval}s"))
                .changed("success_rate: { min: 99 }", &provider)
                .changed("hold: 2s", "hold: 1h");
            let mut rig = Rig { config: file("v1", &plan), ..Rig::new() };
            let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
            let (before, second) = (std::mem::replace(&mut rig.config, file("v2", &plan)), rig.now.get());
            rig.now.set(second + begins);
            rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
            rig.now.set(second);
            let mut asked: Vec<(Duration, Box<Query>)> = Vec::new();
            for _ in 0..30 {
                let next = rig.now.get() + SECOND;
                for (_, query) in asked.extract_if(.., |(answered, _)| *answered < next) {
                    rollouts.provider_answered(*query, Reading::Value(1.0));
                }
                rig.second(&mut rollouts, 0);
                asked.extend(rollouts.take_actions().into_iter().filter_map(|action| match action {
                    Action::Query(query) => Some((rig.now.get() + Duration::from_millis(timeout), query)),
                    _ => None,
                }));
            }
            let checks = &rollouts.services.values().next().unwrap().tallies.checks;
            let (looks, heard) = (checks.values().sum::<u64>(), checks.get(&("success".into(), "pass")));
            let case = format!("each {interval} s, answers after {timeout} ms, begun at {begins:?}: {checks:?}");
            assert!(looks >= 5 && heard.is_some_and(|heard| heard + 1 >= looks), "{case}");
        }
    }
}

#[test]
fn a_version_that_is_scaled_begins_no_rollout() {
    let mut rig = Rig::new();
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let command = Command { verb: Verb::Start, version: Some("v2".into()) };
    rollouts.command(&"shop".into(), &command, ("ann".to_owned(), String::new()), &rig.view()).unwrap().unwrap();
    (0..30).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Succeeded, 10_000));
    let scaled = file_with("v1", PLAN, "\"127.0.0.1:1\", \"127.0.0.1:11\"");
    let before = std::mem::replace(&mut rig.config, scaled);
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    rig.second(&mut rollouts, 0);
    assert_eq!((phase(&rollouts), share(&rollouts, "v2")), (Phase::Succeeded, 10_000));
}

#[test]
fn a_history_is_bounded_and_survives() {
    let (rig, mut rollouts) = Rig::begun();
    let pause = |verb| Command { verb, version: None };
    for run_engine in 0..700 {
        let verb = if run_engine % 2 == 0 { Verb::Pause } else { Verb::Resume };
        rollouts
            .command(&"shop".into(), &pause(verb), ("ann".to_owned(), String::new()), &rig.view())
            .unwrap()
            .unwrap();
    }
    let lines = rollouts.history("shop", 10_000).unwrap();
    assert!(lines.len() <= 220 && lines.len() > 180, "{}", lines.len());
    let after = Rollouts::restore(&rig.view()).unwrap().history("shop", 10_000).unwrap();
    assert!(
        after.iter().map(|line| line.number).eq(lines.iter().map(|line| line.number).chain([lines
            .last()
            .unwrap()
            .number
            + 1]))
    );
    let chunks = rig.journal.list("rollout/shop/history/").len();
    assert!(chunks <= 12, "{chunks}");
}

#[test]
fn looks_push_no_decision_out_of_the_history() {
    let plan = PLAN.changed("weight: 10, hold: 2s", "weight: 10, hold: 2s, gate: manual");
    let mut rig = Rig { config: file("v1", &plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", &plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    (0..1_500).for_each(|_| rig.second(&mut rollouts, 0));
    let approve = Command { verb: Verb::Approve, version: None };
    rollouts.command(&"shop".into(), &approve, ("ann".to_owned(), String::new()), &rig.view()).unwrap().unwrap();
    (0..30).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!(phase(&rollouts), Phase::Succeeded);
    let lines = rollouts.history("shop", 10_000).unwrap();
    let words: Vec<What> = lines.iter().map(|line| line.entry.what).collect();
    for what in [What::Served, What::Started, What::Waited, What::Commanded, What::Promoted] {
        assert!(words.contains(&what), "{what:?}");
    }
    let looks = words.iter().filter(|what| **what == What::Analyzed).count();
    assert!((380..=420).contains(&looks), "{looks}");
    assert!(lines.is_sorted_by_key(|line| line.number));
    let numbers =
        |rollouts: &Rollouts| rollouts.history("shop", 10_000).unwrap().iter().map(|l| l.number).collect::<Vec<_>>();
    assert_eq!(numbers(&Rollouts::restore(&rig.view()).unwrap()), numbers(&rollouts), "the disk has the same");
    assert!(rig.journal.list("rollout/shop/history/").len() < 40);
}

#[test]
fn a_history_that_cannot_be_written_is_bounded_too() {
    let plan = PLAN.changed("hold: 2s", "hold: 9h");
    let mut rig = Rig { config: file("v1", &plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", &plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    rig.second(&mut rollouts, 0);
    rig.disk.always(Some(Fault::Failing));
    (0..3_000).for_each(|_| rig.second(&mut rollouts, 0));
    let history = &rollouts.services["shop"].record.history;
    assert!(history.last(usize::MAX).len() <= 620 && history.waiting() <= 40, "{}", history.waiting());
    rig.disk.always(None);
    rig.second(&mut rollouts, 0);
    let numbers =
        |rollouts: &Rollouts| rollouts.history("shop", 10_000).unwrap().iter().map(|l| l.number).collect::<Vec<_>>();
    let (there, mut here) = (numbers(&Rollouts::restore(&rig.view()).unwrap()), numbers(&rollouts));
    here.push(here.last().unwrap() + 1);
    assert_eq!(there, here, "and that it was restarted");
}

#[test]
fn a_service_without_a_rollout_is_forgotten() {
    let (mut rig, mut rollouts) = Rig::begun();
    rig.second(&mut rollouts, 0);
    let text = "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\nservices:\n  shop:\n    versions: \
                { v1: { endpoints: [\"127.0.0.1:1\"] } }\n    split: { v1: 100 }\n\
                routes: [{ match: { path: / }, service: shop }]\n";
    rig.config = config::parse(Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None).unwrap();
    let lines = rollouts.take_in(&rig.config, &BTreeMap::new(), &rig.view()).unwrap();
    rollouts.save(&rig.view()).unwrap();
    rollouts.forget_others(&rig.view());
    assert!(lines[0].contains("its split applies"), "{lines:?}");
    assert!(rollouts.is_empty() && rig.disk.content().is_empty());
}
