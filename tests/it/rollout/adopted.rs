//! A service that was served by weights and gets a rollout: what serves now is where it starts.

use super::{PLAN, command, rolled, whole};
use crate::harness::Fixture as _;
use crate::harness::{Load, Origin, Rewrite, Weir};

/// The file in which the service has this split, and no rollout.
fn split(versions: &[&Origin], split: &str) -> String {
    let file = rolled(versions, "v2", PLAN);
    let (before, after) = file.split_once("    release:").unwrap();
    let (_, routes) = after.split_once("routes:").unwrap();
    format!("{before}    split: {split}\nroutes:{routes}")
}

/// The file with the rollout of `release`, without `stable`.
fn released(versions: &[&Origin], release: &str) -> String {
    rolled(versions, release, PLAN).changed("    stable: v1\n", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_split_goes_on_from_it_and_no_version_gets_more_by_the_change() {
    for shifted in [false, true] {
        let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
        let before = if shifted { "{ v1: 100, v2: 0 }" } else { "{ v1: 70, v2: 30 }" };
        let weir = Weir::start(&split(&[&v1, &v2], before)).await;
        if shifted {
            assert_eq!(command(&weir, &["weight", "shop", "v1=70", "v2=30"]).await.0, 0);
        }
        weir.reconfigure(&released(&[&v1, &v2], "v2")).await;
        let rollout = weir.rollout("shop").await;
        assert_eq!((rollout.stable.as_deref(), rollout.canary.as_deref()), (Some("v1"), Some("v2")), "{rollout:#?}");
        // Nobody asks it, so it is not judged, and stays.
        assert_eq!((&*rollout.phase, rollout.weights.configured), ("progressing", 30.0), "{rollout:#?}");
        assert!(rollout.entries.iter().any(|entry| entry.why.contains("v2, which has 30 % already")), "{rollout:#?}");
        let load = super::steady(&weir).await;
        let rollout = weir.rolls("shop", "the first step above", |r| r.weights.configured != 30.0).await;
        assert_eq!(rollout.weights.configured, 50.0, "{rollout:#?}");
        weir.until_phase("shop", "succeeded").await;
        load.stop().await.assert_clean();
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_stored_shift_goes_on_from_it() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let mut weir = Weir::start(&split(&[&v1, &v2], "{ v1: 100, v2: 0 }")).await;
    assert_eq!(command(&weir, &["weight", "shop", "v1=70", "v2=30"]).await.0, 0);
    weir.stop().await;
    weir.rewrite(Rewrite::Rename, &released(&[&v1, &v2], "v2"));
    weir.start_again().await;
    for _ in 0..2 {
        let rollout = weir.rollout("shop").await;
        assert_eq!((&*rollout.phase, rollout.weights.configured), ("progressing", 30.0), "{rollout:#?}");
        assert_eq!(rollout.stable.as_deref(), Some("v1"));
        weir.signal(crate::harness::Signal::Kill);
        weir.wait_exit().await;
        weir.start_again().await;
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_clear_is_refused_with_what_to_write_and_changes_nothing() {
    let (v1, v2, v3) = (Origin::start("v1").await, Origin::start("v2").await, Origin::start("v3").await);
    let all = [&v1, &v2, &v3];
    for (before, release, says) in [
        ("{ v1: 50, v2: 50, v3: 0 }", "v2", "add `stable: NAME`"),
        ("{ v1: 90, v2: 10, v3: 0 }", "v1", "write `release: v2`"),
        ("{ v1: 80, v2: 10, v3: 10 }", "v2", "`weir weight shop v1=100`"),
        ("{ v1: 90, v2: 10, v3: 0 }", "v3", "v2 has 10 % now"),
    ] {
        let weir = Weir::start(&split(&all, before)).await;
        let shares = async || {
            let services = weir.status().await.services;
            services[0].versions.iter().map(|version| version.configured).collect::<Vec<_>>()
        };
        let now = shares().await;
        weir.rewrite(Rewrite::Rename, &released(&all, release));
        let (code, text) = command(&weir, &["reload"]).await;
        assert_eq!(code, 3, "{before}: {text}");
        assert!(text.contains(says) && text.contains("where the rollout of `shop` starts"), "{before}: {text}");
        assert_eq!(shares().await, now, "{before}");
        let ledger = Load::at(weir.address("web").await).keep_alive(2).count(50).run().await;
        ledger.assert_clean();
        whole(&ledger, &all);
        weir.stop().await;
    }
}
