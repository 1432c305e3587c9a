//! Which version is stable: the state's, where one is known; else what the file names; and never a guess.

use super::*;
use crate::model::Split;
use crate::model::fixture::Fixture as _;

/// A file with these lines for its release and its stable version.
fn with(release: &str, stable: &str) -> Config {
    parsed(&text_of(release, PLAN).changed("stable: v1", stable))
}

/// What is left of the versions.
fn without(config: &str, gone: &[&str]) -> Config {
    let kept = |line: &&str| !gone.iter().any(|version| line.trim_start().starts_with(&format!("{version}: ")));
    parsed(&config.lines().filter(kept).map(|line| format!("{line}\n")).collect::<String>())
}

/// What a process finds that starts with `config` and what is stored in `before`.
fn restored(config: Config, before: &Rig) -> (Rig, Result<Rollouts, Vec<(Name, StableUnknown)>>) {
    let disk = Arc::new(MemoryJournal::default());
    before.disk.content().iter().for_each(|(key, value)| disk.overwrite(key, value));
    let rig = Rig { config, ..Rig::on(disk, tempfile::tempdir().unwrap()) };
    if let Some(copy) = before.journal.read_copy() {
        rig.journal.write_copy(&copy).unwrap();
    }
    let rollouts = Rollouts::restore(&rig.view());
    (rig, rollouts)
}

fn seen(rollouts: &Rollouts) -> [u16; 3] {
    ["v1", "v2", "v3"].map(|version| share(rollouts, version))
}

/// A disk on which v2 became stable, or was rolled back.
fn ended(errors: u32) -> Rig {
    let (rig, mut rollouts) = Rig::begun();
    (0..30).for_each(|_| rig.second(&mut rollouts, errors));
    assert_eq!(phase(&rollouts), if errors == 0 { Phase::Succeeded } else { Phase::RolledBack });
    rig
}

#[test]
fn without_a_state_the_file_says_which_version_serves() {
    let nothing = Rig::new();
    for (release, stable, shares) in [
        ("v2", "stable: v1", [9_000, 1_000, 0]),
        ("v2", "stable: v2", [0, 10_000, 0]),
        ("v1", "stable: v1", [10_000, 0, 0]),
        ("v2", "stable: v3", [0, 1_000, 9_000]),
        ("v1", "stable: v2", [1_000, 9_000, 0]),
    ] {
        let (_, rollouts) = restored(with(release, stable), &nothing);
        assert_eq!(seen(&rollouts.unwrap()), shares, "{release}, {stable}");
    }
    for release in ["v1", "v2", "v3"] {
        let (rig, rollouts) = restored(with(release, ""), &nothing);
        let unknown = rollouts.err().unwrap();
        assert_eq!(unknown, [("shop".into(), StableUnknown::NoState)]);
        assert_eq!(unknown[0].1.to_string(), "no state is known of this service");
        assert!(rig.disk.content().is_empty() && rig.journal.read_copy().is_none(), "nothing is written");
    }
    let only = without(&text_of("v2", PLAN).changed("stable: v1", ""), &["v1", "v3"]);
    let (_, rollouts) = restored(only, &nothing);
    assert_eq!(seen(&rollouts.unwrap()), [0, 10_000, 0], "there is no other");
}

#[test]
fn a_state_that_is_known_decides_whatever_the_file_says() {
    for (rig, shares) in [(ended(0), [0, 10_000, 0]), (ended(20), [10_000, 0, 0])] {
        for stable in ["", "stable: v1", "stable: v2", "stable: v3"] {
            let (rig, rollouts) = restored(with("v2", stable), &rig);
            let mut rollouts = rollouts.unwrap();
            (0..5).for_each(|_| rig.second(&mut rollouts, 0));
            assert_eq!(seen(&rollouts), shares, "{stable}");
        }
    }
}

#[test]
fn a_version_that_was_rolled_back_begins_at_the_first_step_where_the_state_is_gone() {
    let rig = ended(20);
    rig.lose_store();
    let (_, copied) = restored(with("v2", ""), &rig);
    assert_eq!(seen(&copied.unwrap()), [10_000, 0, 0], "the copy beside the store is a state");
    rig.lose_copy();
    let (again, rollouts) = restored(with("v2", "stable: v1"), &rig);
    let mut rollouts = rollouts.unwrap();
    assert_eq!(seen(&rollouts), [9_000, 1_000, 0]);
    (0..10).for_each(|_| again.second(&mut rollouts, 20));
    assert_eq!((phase(&rollouts), seen(&rollouts)), (Phase::RolledBack, [10_000, 0, 0]));
    assert!(restored(with("v2", ""), &rig).1.is_err());
}

#[test]
fn a_state_from_which_nothing_can_be_read_is_not_known() {
    let rig = ended(20);
    rig.disk.retain(|key| !key.contains("history"));
    rig.disk.overwrite("rollout/shop/state", b"no state");
    let (_, copied) = restored(with("v2", ""), &rig);
    assert_eq!(seen(&copied.unwrap()), [10_000, 0, 0], "the copy tells");
    rig.lose_copy();
    assert!(restored(with("v2", ""), &rig).1.is_err());
    let (_, named) = restored(with("v2", "stable: v1"), &rig);
    assert_eq!(seen(&named.unwrap()), [9_000, 1_000, 0]);
}

#[test]
fn a_stable_version_that_left_the_file_is_not_known_any_more() {
    let (rig, mut rollouts) = Rig::begun();
    rig.second(&mut rollouts, 0);
    assert_eq!(seen(&rollouts), [9_000, 1_000, 0]);
    let text = text_of("v2", PLAN);
    let take_in = |stable: &str, gone: &[&str]| {
        let mut after = rollouts.clone();
        let config = without(&text.changed("stable: v1", stable), gone);
        let view = View { config: &config, ..rig.view() };
        after.take_in(&rig.config, &BTreeMap::new(), &view)?;
        after.all_listen(&view);
        Ok(seen(&after))
    };
    let why = StableUnknown::Gone("v1".into());
    assert_eq!(why.to_string(), "the state knows v1, which is no longer in the file");
    assert_eq!(take_in("", &["v1"]), Err(vec![("shop".into(), why)]), "v2 is not judged to its end");
    assert_eq!(take_in("stable: v2", &["v1"]), Ok([0, 10_000, 0]));
    assert_eq!(take_in("stable: v3", &["v1"]), Ok([0, 1_000, 9_000]), "and begins at the first step");
    assert_eq!(take_in("", &["v1", "v3"]), Ok([0, 10_000, 0]), "there is no other");
}

#[test]
fn a_rollout_that_comes_by_reload_begins_from_what_is_known_to_serve() {
    let base = |split: &str| {
        let text = text_of("v2", PLAN).changed("release: v2", &format!("split: {split}")).changed("stable: v1", "");
        let rollout = text.lines().find(|line| line.contains("rollout:")).unwrap().to_owned();
        parsed(&text.changed(&rollout, ""))
    };
    let shift = |weights: &[(&str, u16)]| {
        let weight = |bp| Weight::from_basis_points(bp).unwrap();
        let split = Split::new(weights.iter().map(|(name, bp)| ((*name).into(), weight(*bp))).collect()).unwrap();
        BTreeMap::from([("shop".into(), split)])
    };
    let take_in = |before: &Config, shifts: &BTreeMap<SplitKey, Split>, stable: &str| {
        let rig = Rig { config: with("v2", stable), ..Rig::new() };
        let mut rollouts = Rollouts::default();
        rollouts.take_in(before, shifts, &rig.view()).ok()?;
        rollouts.all_listen(&rig.view());
        Some(seen(&rollouts))
    };
    let (v1, both, none) = (base("{ v1: 100 }"), base("{ v1: 50, v2: 50 }"), BTreeMap::new());
    assert_eq!(take_in(&v1, &none, ""), Some([9_000, 1_000, 0]));
    assert_eq!(
        take_in(&base("{ v2: 100 }"), &shift(&[("v1", 10_000)]), ""),
        Some([9_000, 1_000, 0]),
        "the shift serves"
    );
    assert_eq!(take_in(&v1, &none, "stable: v2"), Some([9_000, 1_000, 0]), "what serves is stable, and nothing jumps");
    for (v1_now, v2_now) in [(9_000, 1_000), (9_900, 100), (7_000, 3_000), (5_001, 4_999)] {
        let now = Some([v1_now, v2_now, 0]);
        assert_eq!(take_in(&v1, &shift(&[("v1", v1_now), ("v2", v2_now)]), ""), now);
        assert_eq!(take_in(&v1, &shift(&[("v1", v1_now), ("v2", v2_now)]), "stable: v1"), now);
    }
    let behind = shift(&[("v1", 1_000), ("v2", 9_000)]);
    assert_eq!(take_in(&v1, &behind, ""), None, "v2 is what serves, and v1 is not to get everything, nor to lose it");
    assert_eq!(take_in(&v1, &behind, "stable: v1"), Some([1_000, 9_000, 0]), "that is said");
    assert_eq!(take_in(&v1, &behind, "stable: v2"), None);
    assert_eq!(take_in(&both, &none, ""), None, "none has more than half");
    assert_eq!(take_in(&both, &none, "stable: v1"), Some([5_000, 5_000, 0]));
    assert_eq!(take_in(&v1, &shift(&[("v1", 8_000), ("v2", 1_000), ("v3", 1_000)]), "stable: v1"), None, "a third");
    assert_eq!(take_in(&v1, &shift(&[("v1", 9_000), ("v3", 1_000)]), ""), None, "a third, and v2 has nothing");
    let elsewhere = parsed("version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\n");
    assert_eq!(take_in(&elsewhere, &none, ""), None, "a service that is new");
    assert_eq!(take_in(&elsewhere, &none, "stable: v3"), Some([0, 1_000, 9_000]));
}

#[test]
fn a_file_whose_stable_version_is_behind_is_told_with_the_line_to_write() {
    let behind = |rig: &Rig, rollouts: &Rollouts| rollouts.statuses(rig.now.get())["shop"].behind.clone();
    let plan = format!("{PLAN}, alerts: [team]");
    let mut rig = Rig { config: file("v1", &plan), ..Rig::new() };
    let mut rollouts = Rollouts::restore(&rig.view()).unwrap();
    let before = std::mem::replace(&mut rig.config, file("v2", &plan));
    rollouts.take_in(&before, &BTreeMap::new(), &rig.view()).unwrap();
    let mut told = Vec::new();
    for _ in 0..30 {
        if phase(&rollouts) != Phase::Succeeded {
            assert_eq!(behind(&rig, &rollouts), None);
        }
        rig.second(&mut rollouts, 0);
        told.extend(rollouts.take_actions().into_iter().filter_map(|action| match action {
            Action::Alert { alert, .. } => Some(alert.sentence),
            _ => None,
        }));
    }
    let line = "the file still says `stable: v1`, but v2 is stable now: write `stable: v2`";
    assert_eq!(behind(&rig, &rollouts).as_deref(), Some(line));
    assert_eq!(told.iter().filter(|sentence| sentence.contains("stable:")).count(), 1, "{told:?}");
    assert!(told.last().unwrap().ends_with(line), "{told:?}");
    for (stable, said) in [
        ("stable: v2", None),
        ("", Some("the file does not say which version is stable; add `stable: v2`")),
        ("stable: v3", Some("the file still says `stable: v3`, but v2 is stable now: write `stable: v2`")),
    ] {
        let mut after = rollouts.clone();
        let config = with("v2", stable);
        after.take_in(&rig.config, &BTreeMap::new(), &View { config: &config, ..rig.view() }).unwrap();
        assert_eq!(behind(&rig, &after).as_deref(), said);
    }
}

#[test]
fn a_start_with_weights_that_are_stored_goes_on_from_them_and_again_from_its_state() {
    let rig = Rig { config: with("v2", ""), ..Rig::new() };
    let weight = |bp| Weight::from_basis_points(bp).unwrap();
    let split = Split::new(vec![("v1".into(), weight(7_000)), ("v2".into(), weight(3_000))]).unwrap();
    let stored = BTreeMap::from([("shop".into(), split)]);
    let mut rollouts = Rollouts::read(&stored, &rig.view()).unwrap();
    rollouts.save(&rig.view()).unwrap();
    assert_eq!((seen(&rollouts), phase(&rollouts)), ([7_000, 3_000, 0], Phase::Progressing));
    let restarted = Rollouts::read(&stored, &rig.view()).unwrap();
    assert_eq!(seen(&restarted), [7_000, 3_000, 0]);
    (0..3).for_each(|_| rig.second(&mut rollouts, 0));
    assert_eq!(seen(&rollouts), [5_000, 5_000, 0], "the first step above it");
    assert_eq!(seen(&Rollouts::read(&stored, &rig.view()).unwrap()), [5_000, 5_000, 0], "the state decides");
}
