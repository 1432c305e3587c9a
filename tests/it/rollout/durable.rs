//! What survives: restarts in every phase, kills at any moment, state that cannot be read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::{PLAN, command, rolled, served, steady, whole};
use crate::harness::Fixture as _;
use crate::harness::{Load, Origin, Signal, Weir, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_every_phase_and_the_successor_goes_on() {
    let plan = PLAN.changed("hold: 1s }, { weight: 100", "hold: 1s, gate: manual }, { weight: 100");
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let mut weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let mut phases = Vec::new();
    for _ in 0..60 {
        let before = weir.rollout("shop").await;
        phases.push(before.phase.clone());
        phases.dedup();
        if before.phase == "succeeded" {
            break;
        }
        weir.signal(Signal::Term);
        weir.start_again().await;
        let after = weir.rollout("shop").await;
        // Between the look and the end of the process one step may have been taken.
        let next = [10.0, 50.0, 100.0].into_iter().find(|step| *step > before.weights.configured).unwrap_or(100.0);
        let range = before.weights.configured..=next;
        assert!(after.phase == "succeeded" || range.contains(&after.weights.configured), "{before:#?} {after:#?}");
        if after.waiting_for.as_deref() == Some("gate") {
            assert_eq!(command(&weir, &["rollout", "approve", "shop"]).await.0, 0);
        }
        // A hold begins anew with a restart: let one step pass.
        let load = steady(&weir).await;
        let (phase, weight) = (after.phase.clone(), after.weights.configured);
        weir.rolls("shop", "it goes on", |r| {
            let moved = r.phase != phase || r.weights.configured != weight;
            // Where the successor began late, the last step was over before it was asked.
            moved || r.phase == "succeeded" || r.waiting_for.as_deref() == Some("gate")
        })
        .await;
        whole(&load.stop().await, &[&v1, &v2]);
    }
    assert_eq!(phases.last().map(String::as_str), Some("succeeded"), "{phases:?}");
    assert!(phases.len() >= 3, "{phases:?}");
}

/// Kills of the hundred in which a rollout moves.
const KILLS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_lose_no_decision_and_raise_nothing() {
    // Steps that come as fast as looks do, and a canary that nobody asks: `no_data: pass` moves it on.
    let steps: Vec<String> = (1..=90).map(|weight| format!("{{ weight: {weight} }}")).collect();
    let plan = format!(
        "interval: 1s\n      window: 1s\n      no_data: pass\n      steps: [{}]\n      checks: [{{ name: errors, error_rate: {{ max: 1 }} }}]",
        steps.join(", ")
    );
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let mut weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let (mut weight, mut number) = (0.0, 0);
    for kill in 0..KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The moment of the kill is the fault that is injected; nothing is right because of it.
        tokio::time::sleep(Duration::from_millis(random % 150)).await;
        // A word now and then, so that kills meet writes of every kind.
        match kill % 10 {
            3 => drop(command(&weir, &["rollout", "pause", "shop"]).await),
            5 => drop(command(&weir, &["rollout", "resume", "shop"]).await),
            _ => {}
        }
        let before = weir.rollout("shop").await;
        weir.signal(Signal::Kill);
        weir.start_again().await;
        let after = weir.rollout("shop").await;
        // Between the look before the kill and the kill at most one step can have been taken.
        assert!(after.weights.configured <= before.weights.configured + 1.0, "kill {kill}: {before:#?} {after:#?}");
        assert!(after.weights.configured >= before.weights.configured, "kill {kill}: nothing sent it back: {after:#?}");
        assert!(after.weights.configured >= weight, "kill {kill}");
        assert!(
            after.phase == before.phase || after.phase == "progressing",
            "kill {kill}: {} {}",
            before.phase,
            after.phase
        );
        let last = after.entries.last().unwrap().number;
        assert!(last > number, "kill {kill}: no decision is lost");
        assert!(after.entries.windows(2).all(|pair| pair[1].number == pair[0].number + 1), "kill {kill}: {after:#?}");
        assert!(after.entries.iter().any(|entry| entry.number == before.entries.last().unwrap().number), "kill {kill}");
        (weight, number) = (after.weights.configured, last);
    }
    assert_eq!(command(&weir, &["rollout", "abort", "shop"]).await.0, 0);
    weir.signal(Signal::Kill);
    weir.start_again().await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("aborted", 0.0));
    let ledger = Load::at(weir.address("web").await).keep_alive(2).count(50).run().await;
    ledger.assert_clean();
    assert_eq!(ledger.counts().versions["v1"], 50);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_set_aside_and_nothing_begins_by_itself() {
    let slowly = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 10, hold: 1h }");
    let (v1, v2, mut weir, load) = served(&slowly).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &slowly)).await;
    weir.rolls("shop", "10 %", |r| r.weights.configured == 10.0).await;
    load.stop().await.assert_clean();
    weir.stop().await;
    let database = std::fs::read_dir(weir.dir().join("state")).unwrap();
    for file in database {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "redb") {
            std::fs::write(&path, b"this is no database").unwrap();
        }
    }
    weir.start_again().await;
    let rollout = weir.rollout("shop").await;
    // The copy beside the store says which version is stable.
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("idle", 0.0));
    assert!(weir.stderr().contains("damaged"), "{}", weir.stderr());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_damaged_gives_the_canary_nothing() {
    let plan = PLAN.changed("hold: 1s", "hold: 1h");
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let mut weir = Weir::start(&rolled(&[&v1, &v2], "v1", &plan)).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", &plan)).await;
    weir.rolls("shop", "10 %", |r| r.weights.configured == 10.0).await;
    weir.signal(Signal::Kill);
    weir.wait_exit().await;
    std::fs::write(weir.dir().join("state/weir.redb"), "no database").unwrap();
    weir.start_again().await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((rollout.stable.as_deref(), rollout.weights.configured), (Some("v1"), 0.0), "{rollout:#?}");
    assert_eq!(rollout.phase, "idle", "nothing begins by itself");
    let load = Load::at(weir.address("web").await).keep_alive(2).count(100).run().await;
    load.assert_clean();
    assert_eq!(load.counts().versions["v1"], 100);
    weir.stop().await;
    // Nor is there anything to go by where the directory cannot be used at all.
    std::fs::remove_dir_all(weir.dir().join("state")).unwrap();
    std::fs::write(weir.dir().join("state"), "no directory").unwrap();
    let log = weir.dir().join("refused.log");
    let mut refused = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    refused.args(["run", "-c"]).arg(weir.config()).stderr(std::fs::File::create(&log).unwrap());
    let refused = std::sync::Mutex::new(refused.spawn().unwrap());
    eventually("it ends", async || refused.lock().unwrap().try_wait().unwrap().is_some()).await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!refused.into_inner().unwrap().wait().unwrap().success() && said.contains("state.directory"), "{said}");
}

/// A program that is Weir, and runs where `state` is mounted read-only; none where one may not mount.
fn read_only(state: &Path, script: &Path) -> Option<()> {
    let state = state.to_str().unwrap();
    let mount = format!("mount --bind {state} {state} && mount -o remount,ro,bind {state}");
    let may = std::process::Command::new("/usr/bin/unshare").args(["-m", "/bin/sh", "-c", &mount]).output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("nothing can be mounted here, so a disk that cannot be written is not tried: {may:?}");
        return None;
    }
    let weir = env!("CARGO_BIN_EXE_weir");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec {weir} \"$@\"\nexec /usr/bin/unshare -m /bin/sh -c '{mount} && exec {weir} run -c '\"$3\"\n"
    );
    std::fs::write(script, text).unwrap();
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_can_only_be_read_is_known_and_nothing_goes_forward() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let state = tempfile::tempdir().unwrap();
    let slowly = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 10, hold: 2s }");
    let file = |release: &str| {
        let blog = format!(
            "services:\n  blog:\n    versions: {{ v1: {{ endpoints: [\"{}\"] }}, v2: {{ endpoints: [\"{}\"] }} }}\n    \
             split: {{ v1: 100, v2: 0 }}\n",
            v1.address(),
            v2.address()
        );
        let text = rolled(&[&v1, &v2], release, &slowly).changed("services:\n", &blog);
        text.changed("{dir}/state", state.path().to_str().unwrap()) + "  - { match: { path: /blog }, service: blog }\n"
    };
    let weir = Weir::start(&file("v1")).await;
    assert_eq!(command(&weir, &["weight", "blog", "v1=75", "v2=25"]).await.0, 0);
    assert_eq!(command(&weir, &["drain", "blog/v2"]).await.0, 0);
    weir.reconfigure(&file("v2")).await;
    weir.rolls("shop", "10 %", |r| r.weights.configured == 10.0).await;
    weir.signal(Signal::Kill);
    weir.wait_exit().await;

    let script = state.path().with_extension("sh");
    if read_only(state.path(), &script).is_none() {
        return;
    }
    let weir = Weir::plan(&file("v2")).program(&script).start().await;
    let blog = async |weir: &Weir| {
        let services = weir.status().await.services;
        let blog = services.into_iter().find(|service| service.name == "blog").unwrap();
        (blog.versions[1].configured, blog.versions[1].state.clone())
    };
    assert_eq!(blog(&weir).await, (25.0, "drain".to_owned()));
    assert!(weir.stderr().contains("Nothing moves forward"), "{}", weir.stderr());
    let rollout = weir.rollout("shop").await;
    assert_eq!((rollout.stable.as_deref(), rollout.weights.configured), (Some("v1"), 10.0), "{rollout:#?}");
    assert!(rollout.unwritable.is_some(), "{rollout:#?}");
    // The step's time passes, every look is well, and it stays.
    let load = steady(&weir).await;
    let held = |r: &weir::admin::wire::Rollout| r.entries.iter().any(|entry| entry.what == "held");
    let rollout = weir.rolls("shop", "it holds", held).await;
    assert_eq!((&*rollout.phase, rollout.weights.configured), ("progressing", 10.0), "{rollout:#?}");
    let ours = |arguments: &'static [&'static str]| command(&weir, arguments);
    let (code, text) = ours(&["weight", "blog", "v1=50", "v2=50"]).await;
    assert!(code != 0 && text.contains("Read-only"), "{code}: {text}");
    let (code, text) = ours(&["rollout", "promote", "shop"]).await;
    assert!(code != 0 && text.contains("cannot be written"), "{code}: {text}");
    // What leads back is in effect at once, and says what will become of it.
    for arguments in [&["weight", "blog", "--reset"][..], &["maint", "blog/v2"]] {
        let (code, text) = command(&weir, arguments).await;
        assert!(code == 8 && text.contains("lost with a restart"), "{code}: {text}");
    }
    assert_eq!(blog(&weir).await, (0.0, "maint".to_owned()));
    let (code, text) = ours(&["rollout", "pause", "shop"]).await;
    assert!(code == 8 && text.contains("lost with a restart"), "{code}: {text}");
    assert_eq!(weir.rollout("shop").await.phase, "paused");
    let (code, text) = ours(&["rollout", "resume", "shop"]).await;
    assert!(code != 0 && text.contains("cannot be written"), "{code}: {text}");
    v2.fail(50);
    let rollout = weir.until_phase("shop", "rolled_back").await;
    assert_eq!((rollout.weights.configured, rollout.unwritable.is_some()), (0.0, true), "{rollout:#?}");
    whole(&load.stop().await, &[&v1, &v2]);
    weir.stop().await;
    std::fs::remove_file(&script).unwrap();

    // It was said that it would be so.
    let weir = Weir::start(&file("v2")).await;
    assert_eq!(blog(&weir).await, (25.0, "drain".to_owned()));
    weir.stop().await;
}
