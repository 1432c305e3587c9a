//! A kill at each commit of a whole story, with that commit on the disk or not: what is in effect after the restart, and
//! that nobody misses what they were to be told.

use std::collections::HashSet;

use super::*;
use crate::model::fixture::Fixture as _;
use crate::outbound::alert::Alert;
use crate::rollout::plan::HookPoint;

const PLAN: &str = "interval: 1s, window: 5s, min_requests: 10, bake: 2s, alerts: [team], \
    steps: [{ weight: 10, hold: 2s }, { weight: 50, hold: 2s }, { weight: 100 }], \
    checks: [{ name: success, success_rate: { min: 99 } }], failures: { total: 3 }, rollback_when: [], \
    hooks: [{ when: after, url: \"http://127.0.0.1:1/\" }]";

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The file asks for this version.
    File(&'static str),
    /// So many errors of the canary in a second.
    Second(u32),
    Say(Verb),
    /// Hooks that were called accept.
    Accept,
}

/// Rollouts that succeed, are undone, paused, promoted, superseded, aborted and rolled back.
fn story() -> Vec<Turn> {
    use Turn::{Accept, File, Say, Second};
    let well = |count| std::iter::repeat_n(Second(0), count);
    let mut story = vec![File("v2")];
    story.extend(well(4));
    story.extend([Say(Verb::Pause), Second(0), Say(Verb::Resume)]);
    story.extend(well(12));
    story.extend([Accept, Say(Verb::Undo), Second(0), Say(Verb::Retry), Second(0), File("v3"), Second(0)]);
    story.extend([Say(Verb::Promote), Second(0), Say(Verb::Abort), Second(0), Accept, Say(Verb::Retry)]);
    story.extend(well(2));
    story.extend([Second(20); 4]);
    story.extend([File("v1"), Second(0), Accept, File("v3"), Second(0)]);
    story
}

fn file(release: &str) -> Config {
    let on = "started, step, waiting, resumed, paused, baking, rolled_back, aborted, superseded, succeeded";
    let text = text_of(release, PLAN).changed("slack:", &format!("on: [{on}], slack:"));
    parsed(&text)
}

/// What is seen of a run from outside.
#[derive(Default)]
struct Seen {
    /// After each turn: what each version has.
    shares: Vec<Vec<(String, Weight)>>,
    /// What was sent to receivers.
    told: Vec<Alert>,
    /// Calls after the end.
    called: HashSet<u64>,
}

impl Seen {
    fn take(&mut self, rollouts: &mut Rollouts) {
        for action in rollouts.take_actions() {
            match action {
                Action::Alert { alert, .. } => self.told.push(*alert),
                Action::HookCall(call) if call.when == HookPoint::After => drop(self.called.insert(call.id)),
                _ => {}
            }
        }
    }
}

/// Runs the story until its end, or until the process is killed; gives what was seen, and the rig as it is then.
fn run(kill: Option<(usize, bool)>) -> (Rig, Seen) {
    let mut rig = Rig { config: file("v1"), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    if let Some((commits, written)) = kill {
        rig.disk.kill_at(commits, written);
    }
    let mut seen = Seen { shares: vec![shares(&rollouts)], ..Seen::default() };
    for turn in story() {
        match turn {
            Turn::File(release) => {
                let before = std::mem::replace(&mut rig.config, file(release));
                rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
                // Where it is killed, this is not stored.
                drop(rollouts.save(&rig.view()));
            }
            Turn::Second(errors) => rig.second(&mut rollouts, errors),
            Turn::Say(verb) => {
                let command = Command { verb, version: None };
                let by = ("ann".to_owned(), String::new());
                let said = rollouts.command(&"shop".into(), &command, by, &rig.view()).unwrap();
                assert!(said.is_ok() || rig.disk.is_killed(), "{turn:?}: {said:?}");
            }
            Turn::Accept => {
                for id in seen.called.clone() {
                    rollouts.hook_answered(&"shop".into(), (id, true, String::new()), &rig.view());
                }
            }
        }
        if rig.disk.is_killed() {
            return (rig, seen);
        }
        seen.shares.push(shares(&rollouts));
        seen.take(&mut rollouts);
    }
    (rig, seen)
}

/// The history on the disk, oldest first.
fn stored_history(rig: &Rig) -> Vec<RecordedEntry> {
    let content = rig.disk.content();
    let chunks = content.iter().filter(|(key, _)| key.starts_with("rollout/shop/history/"));
    chunks.flat_map(|(_, bytes)| serde_json::from_slice::<Vec<RecordedEntry>>(bytes).unwrap()).collect()
}

fn count<T>(items: impl IntoIterator<Item = T>, is: impl Fn(&T) -> bool) -> usize {
    items.into_iter().filter(is).count()
}

/// Whether this line of the history ends a rollout.
fn ends(line: &RecordedEntry) -> bool {
    let entry = &line.entry;
    entry.from.is_under_way() && matches!(entry.to, Phase::RolledBack | Phase::Aborted | Phase::Succeeded)
}

#[test]
fn a_kill_at_any_commit_loses_no_decision_and_no_alert_and_raises_nothing() {
    let (rig, whole) = run(None);
    let history = stored_history(&rig);
    let commits = rig.disk.committed().len();
    let words: Vec<What> = history.iter().map(|line| line.entry.what).collect();
    for what in [What::Promoted, What::WentBack, What::Paused, What::Commanded, What::Stepped, What::NotTried] {
        assert!(words.contains(&what), "{what:?}: the story shows nothing about it");
    }
    assert!(commits > 30 && count(&history, |line| ends(line)) >= 3, "{commits}");

    for (kill, written) in (0..commits).flat_map(|commit| [(commit, false), (commit, true)]) {
        let (dead, mut seen) = run(Some((kill, written)));
        if !dead.disk.is_killed() {
            // The first commits were before the story.
            continue;
        }
        let case = format!("commit {kill}, written: {written}");

        // Each decision is there once, and in its order.
        let stored = stored_history(&dead);
        let lines = |lines: &[RecordedEntry]| -> Vec<(u64, String)> {
            lines.iter().map(|line| (line.number, line.entry.why.clone())).collect()
        };
        assert_eq!(lines(&stored), lines(&history[..stored.len()]), "{case}");

        let disk = Arc::new(MemoryJournal::default());
        dead.disk.content().iter().for_each(|(key, value)| disk.overwrite(key, value));
        let rig = Rig { config: dead.config.clone(), ..Rig::on(disk, tempfile::tempdir().unwrap()) };
        let mut restarted = Rollouts::read(&BTreeMap::new(), &rig.view()).unwrap();
        let pending = read_alerts(&rig.journal);
        seen.take(&mut restarted);

        // Nothing has more than what was in effect, or was decided and stored.
        let turn = seen.shares.len();
        let most = |version: &str| {
            let around = &whole.shares[turn.saturating_sub(1)..=turn.min(whole.shares.len() - 1)];
            around.iter().flatten().filter(|(name, _)| name == version).map(|(_, weight)| *weight).max().unwrap()
        };
        let stable = restarted.services["shop"].state().stable.as_ref().unwrap().version.clone();
        for (version, weight) in shares(&restarted) {
            assert!(*version == *stable || weight <= most(&version), "{case}: {version} has {weight} %");
        }
        let before = stored.last().map_or(Weight::ZERO, |line| line.entry.weight_after);
        let after = restarted.services["shop"].state().weight;
        assert!(after <= before, "{case}: {after} above {before}");

        // Of what is decided, everybody hears.
        let told: BTreeMap<&str, &str> =
            seen.told.iter().chain(pending.iter().map(|one| &one.alert)).map(|a| (&*a.id, &*a.sentence)).collect();
        for sentence in whole.told.iter().map(|alert| &*alert.sentence).collect::<HashSet<_>>() {
            let decided = count(&stored, |line| line.entry.why == sentence);
            let needed = decided.min(count(&whole.told, |alert| alert.sentence == sentence));
            assert!(count(told.values(), |said| said.starts_with(sentence)) >= needed, "{case}: {sentence}");
        }
        let ended = count(&stored, |line| ends(line));
        assert!(seen.called.len() >= ended, "{case}: {ended} rollouts ended, {} hooks were called", seen.called.len());

        // And it goes on.
        restarted.save(&rig.view()).unwrap();
        (0..3).for_each(|_| rig.second(&mut restarted, 0));
        assert_eq!(restarted.statuses(rig.now.get())["shop"].unwritable, None, "{case}");
    }
}
