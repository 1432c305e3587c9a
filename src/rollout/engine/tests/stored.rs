//! What an older Weir wrote is read, and written as it was: every phase, every wait, every pause, and what contradicts
//! itself is refused.

use crate::rollout::engine::stored::Unreadable;
use crate::rollout::engine::{Entry, Phase, RolloutState};

/// A name and a state in each line, as Weir 0.1 wrote them.
const STATES: &str = include_str!("stored/states.txt");

/// A line of the history in each line.
const ENTRIES: &str = include_str!("stored/entries.txt");

fn stored(name: &str) -> &'static str {
    STATES.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap()
}

#[test]
fn states_that_were_written_before_are_read_and_written_alike() {
    let mut phases = Vec::new();
    for line in STATES.lines() {
        let (name, text) = line.split_once(' ').unwrap();
        let state = RolloutState::from_json(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(state.to_json().unwrap(), text, "{name}");
        phases.push(state.phase());
    }
    assert!(Phase::ALL.iter().all(|phase| phases.contains(phase)), "{phases:?}");
}

#[test]
fn entries_that_were_written_before_are_read_and_written_alike() {
    for line in ENTRIES.lines() {
        let entry: Entry = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), line);
    }
}

#[test]
fn a_written_state_that_contradicts_itself_is_refused_and_says_why() {
    let changes = [
        ("progressing", r#""paused_from":null"#, r#""paused_from":"baking""#, "what is paused, and only that"),
        ("paused", r#""paused_from":"progressing""#, r#""paused_from":null"#, "what is paused, and only that"),
        ("paused", r#""paused_from":"progressing""#, r#""paused_from":"paused""#, "a phase that cannot be paused"),
        (
            "paused",
            r#""paused_from":"progressing""#,
            r#""paused_from":"rolling_back""#,
            "a phase that cannot be paused",
        ),
        ("paused", r#""paused_from":"progressing""#, r#""paused_from":"aborted""#, "a phase that cannot be paused"),
        ("progressing", r#""phase":"progressing""#, r#""phase":"promoting""#, "a promotion has everything"),
        ("progressing", r#""phase":"progressing""#, r#""phase":"aborted""#, "gives the canary nothing"),
        ("progressing", r#"{"version":"v2","#, r#"{"version":"v1","#, "are the same"),
        ("idle", r#""phase":"idle""#, r#""phase":"waiting""#, "has a stable version and a canary"),
    ];
    for (name, from, to, why) in changes {
        let good = stored(name);
        let bad = good.replace(from, to);
        assert_ne!(good, bad, "{from}");
        let Err(Unreadable::Damaged(text)) = RolloutState::from_json(&bad) else { panic!("{name}: {to} is read") };
        assert!(text.contains(why), "{text}");
    }
}
