//! Which version serves where no state is known: a deleted directory, an empty volume, a fresh replica.

use super::{PLAN, command, rolled, served};
use crate::harness::Fixture as _;
use crate::harness::{Load, Origin, Rewrite, Weir, eventually, express_lane, run_weir};

/// The file without the line that names what is stable.
fn unsaid(file: &str) -> String {
    let line = file.lines().find(|line| line.trim_start().starts_with("stable:")).unwrap();
    file.changed(&format!("{line}\n"), "")
}

/// Every request of a few went to this version.
async fn only(weir: &Weir, version: &str) {
    let load = Load::at(weir.address("web").await).keep_alive(2).count(50).run().await;
    load.assert_clean();
    assert_eq!(load.counts().versions.get(version), Some(&50), "{:?}", load.counts());
}

/// It ends with exit code 3, and says this.
async fn refuses(weir: &mut Weir, parts: &[&str]) {
    let status = weir.wait_exit().await;
    assert_eq!(status.code(), Some(3), "{}", weir.stderr());
    for part in parts {
        assert!(weir.stderr().contains(part), "{part} is not in\n{}", weir.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_failed_gets_nothing_where_the_state_is_deleted() {
    let (v1, v2, mut weir, load) = served(PLAN).await;
    v2.fail(50);
    let slowly = PLAN.changed("{ weight: 10, hold: 1s }", "{ weight: 10, hold: 1h }");
    let file = rolled(&[&v1, &v2], "v2", &slowly);
    weir.reconfigure(&file).await;
    weir.until_phase("shop", "rolled_back").await;
    drop(load.stop().await);
    // Not `split v2=100`, which is where it ends.
    let told = |text| weir.stderr().contains(text);
    assert!(told("shop: release v2 (rolled out step by step)") && !told("split v2=100"), "{}", weir.stderr());
    weir.stop().await;

    // With `stable`: v1 serves, and v2 is judged from the first step, and goes back.
    std::fs::remove_dir_all(weir.dir().join("state")).unwrap();
    let before = v2.requests();
    weir.start_again().await;
    let rollout = weir.rollout("shop").await;
    assert_eq!((rollout.stable.as_deref(), rollout.canary.as_deref()), (Some("v1"), Some("v2")), "{rollout:#?}");
    assert!(rollout.weights.configured <= 10.0, "{rollout:#?}");
    let load = super::steady(&weir).await;
    weir.until_phase("shop", "rolled_back").await;
    drop(load.stop().await);
    assert!(v2.requests() > before, "it was judged");
    only(&weir, "v1").await;
    weir.stop().await;

    // Known by its copy alone.
    weir.rewrite(Rewrite::Rename, &unsaid(&file));
    std::fs::remove_file(weir.dir().join("state/weir.redb")).unwrap();
    weir.start_again().await;
    only(&weir, "v1").await;
    weir.stop().await;

    // Without: nothing is guessed.
    std::fs::remove_dir_all(weir.dir().join("state")).unwrap();
    weir.spawn_again();
    // The general lane is chosen by a line of its own.
    let place = if express_lane() { "weir.yaml:11:5" } else { "weir.yaml:12:5" };
    refuses(&mut weir, &["add the line `stable: v1`", "services.shop.stable", place, "no state is known"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_replica_serves_what_the_file_names() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let endpointless = |file: String| file.changed(&format!("\"{}\"", v1.address()), "");
    let file = rolled(&[&v1, &v2], "v2", PLAN);
    for (file, serves, phase) in [
        (file.changed("stable: v1", "stable: v2"), "v2", "idle"),
        (rolled(&[&v1, &v2], "v1", PLAN), "v1", "idle"),
        (file.changed("{ weight: 10, hold: 1s }", "{ weight: 0.01, hold: 1h }"), "v1", "progressing"),
        (unsaid(&rolled(&[&v2], "v2", PLAN)), "v2", "idle"),
    ] {
        let weir = Weir::start(&file).await;
        let rollout = weir.until_phase("shop", phase).await;
        assert_eq!(rollout.stable.as_deref(), Some(serves), "{rollout:#?}");
        only(&weir, serves).await;
        weir.stop().await;
    }
    for (file, parts) in [
        (unsaid(&file), ["add the line `stable: v1`", "name the one that does (v2)"]),
        (file.changed("stable: v1", "stable: v11"), ["no version has this name", "did you mean `v1`?"]),
        (endpointless(file.clone()), ["version `v1` is `stable` and has no endpoints", "services.shop.stable"]),
    ] {
        refuses(&mut Weir::plan(&file).spawn(), &parts).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_weir_refuses_a_service_of_which_nothing_is_known() {
    let (v1, v2, v3) = (Origin::start("v1").await, Origin::start("v2").await, Origin::start("v3").await);
    let file = rolled(&[&v1, &v2], "v1", PLAN);
    let weir = Weir::start(&file).await;
    let endpoints = |origin: &Origin| format!("{}: {{ endpoints: [\"{}\"] }}", origin.name(), origin.address());
    let more = |stable: &str| {
        let service = format!(
            "services:\n  new:\n    versions: {{ {}, {} }}\n    release: v3\n    {stable}\n",
            endpoints(&v2),
            endpoints(&v3)
        );
        file.changed("services:\n", &service) + "  - { match: { path: /new }, service: new }\n"
    };
    weir.rewrite(Rewrite::Rename, &more(""));
    let (code, text) = command(&weir, &["reload"]).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("`stable: v2`") && text.contains("services.new.stable"), "{text}");
    assert!(weir.status().await.services.iter().all(|service| service.name != "new"), "nothing of it is in effect");
    only(&weir, "v1").await;
    weir.reconfigure(&more("stable: v2")).await;
    assert_eq!(weir.rollout("new").await.stable.as_deref(), Some("v2"));

    // Nor does it guess when the stable version is taken out of the file.
    let without = rolled(&[&v2, &v3], "v2", PLAN);
    weir.rewrite(Rewrite::Rename, &unsaid(&without));
    let (code, text) = command(&weir, &["reload"]).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("the state knows v1, which is no longer in the file"), "{text}");
    only(&weir, "v1").await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_known_decides_and_says_what_to_write() {
    let (v1, v2, mut weir, load) = served(PLAN).await;
    weir.reconfigure(&rolled(&[&v1, &v2], "v2", PLAN)).await;
    weir.until_phase("shop", "succeeded").await;
    load.stop().await.assert_clean();
    let line = "write `stable: v2`";
    for arguments in [&["rollout", "status", "shop"][..], &["status"], &["rollout", "status", "shop/v2", "--wait"]] {
        let (code, text) = command(&weir, arguments).await;
        assert!(code == 0 && text.contains(line), "{arguments:?}: {text}");
    }
    weir.stop().await;
    weir.start_again().await;
    assert_eq!(weir.rollout("shop").await.stable.as_deref(), Some("v2"), "and not the file's v1");
    only(&weir, "v2").await;
    let file = rolled(&[&v1, &v2], "v2", PLAN).changed("stable: v1", "stable: v2");
    weir.reconfigure(&file).await;
    let said = async || !command(&weir, &["rollout", "status", "shop"]).await.1.contains(line);
    eventually("it is written", said).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_a_file_that_does_not_say_what_is_stable() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, release: &str, more: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "version: 1\nlisteners: [{{ name: web, address: \"127.0.0.1:0\" }}]\nservices:\n  shop:\n    versions:\n      \
             v1: {{ endpoints: [\"127.0.0.1:1\"] }}\n      v2: {{ endpoints: [\"127.0.0.1:2\"] }}\n    {release}\n    {more}\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = async |path: &str| {
        let output = run_weir(&["check", "-c", path]).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    };
    for (release, line, place) in
        [("release: v2", "stable: v1", ":8:5"), ("split: { v2: 100 }\n    rollout: {}", "stable: v1", ":4:3")]
    {
        let path = file("unsaid.yaml", release, "");
        let (code, text) = check(&path).await;
        assert_eq!(code, 0, "{text}");
        for part in ["is valid", "warning: nothing says which version is stable", line, place] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let output = run_weir(&["check", "-o", "json", "-c", &path]).await;
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["valid"], json["warnings"].as_array().unwrap().len()), (&true.into(), 1), "{json}");
    }
    let (code, text) = check(&file("said.yaml", "release: v2", "stable: v1")).await;
    assert!(code == 0 && !text.contains("warning"), "{text}");
    let (code, text) = check(&file("split.yaml", "split: { v1: 100 }", "")).await;
    assert!(code == 0 && !text.contains("warning"), "it has no rollout: {text}");
    for (release, stable, parts) in [
        ("release: v2", "stable: v11", ["no version has this name", "did you mean"]),
        ("split: { v1: 100 }", "stable: v1", ["`stable` without `release` or `rollout`", ":9:13"]),
    ] {
        let (code, text) = check(&file("wrong.yaml", release, stable)).await;
        assert_eq!(code, 3, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}
