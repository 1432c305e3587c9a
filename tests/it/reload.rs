//! Reloads: nothing of them reaches a client.

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::{H1, Load, Origin, Rewrite, Target, Weir, eventually, shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_nothing_and_close_nothing() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 90.0), (&v2, 10.0)])).await;
    let load = Load::at(weir.address("web").await).keep_alive(8).http2(2, 4).think(Duration::from_millis(5)).start();
    for round in 0..100_u32 {
        weir.reconfigure(&shop(&[(&v1, 90.0 - f64::from(round % 2)), (&v2, 10.0 + f64::from(round % 2))])).await;
        load.wait_more(10).await;
    }
    let ledger = load.stop().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2]);
    assert_eq!(ledger.counts().announced_closes, 0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_replace_the_file_takes_effect() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    for how in Rewrite::ALL {
        let plan = Weir::plan(&shop(&[(&v1, 100.0), (&v2, 0.0)]));
        let plan = if how == Rewrite::Symlink { plan.config_map() } else { plan };
        let weir = plan.start().await;
        weir.rewrite(how, &shop(&[(&v1, 0.0), (&v2, 100.0)]));
        weir.until("the new split", |status| status.services[0].versions[1].effective == 100.0).await;
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_write_is_never_half_a_configuration() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 100.0), (&v2, 0.0)])).await;
    let torn = weir.tear(&shop(&[(&v1, 0.0), (&v2, 100.0)]));
    weir.until("the torn file is noticed", |status| !status.config.current).await;
    assert_eq!(weir.status().await.services[0].versions[0].effective, 100.0, "the old one stays");
    torn.finish();
    weir.until("the whole file is in effect", |status| {
        status.config.current && status.services[0].versions[1].effective == 100.0
    })
    .await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_changes_nothing_and_says_why() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    weir.rewrite(Rewrite::Rename, &shop(&[(&v1, 99.0)]));
    let output = weir.cli(&["reload"]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("services.shop.split") && said.contains("99"), "{said}");
    H1::connect(&Target::from(weir.address("web").await)).await.get("/").await.expect(200);
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_config_last_reload_successful", &[]), 0.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_put_back_is_current_again() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    weir.rewrite(Rewrite::Rename, &shop(&[(&v1, 99.0)]));
    weir.until("the fault is noticed", |status| !status.config.current).await;
    assert_eq!(weir.metrics().await.value("weir_config_last_reload_successful", &[]), 0.0);
    weir.rewrite(Rewrite::Rename, &shop(&[(&v1, 100.0)]));
    weir.until("the file is current", |status| status.config.current).await;
    assert_eq!(weir.metrics().await.value("weir_config_last_reload_successful", &[]), 1.0);
    eventually("the log says so", async || weir.stderr().contains("reload: the file is as what is in effect")).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_refused_as_a_whole() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 100.0), (&v2, 0.0)])).await;
    let yaml = shop(&[(&v1, 0.0), (&v2, 100.0)]).changed("name: web", "name: edge");
    weir.rewrite(Rewrite::Rename, &yaml);
    weir.until("the refusal", |status| status.config.errors.as_ref().is_some_and(|e| e.contains("restart"))).await;
    assert_eq!(weir.status().await.services[0].versions[0].effective, 100.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 100.0), (&v2, 0.0)])).await;
    let before = weir.metrics().await.value("weir_config_reloads_total", &[("result", "success")]);
    weir.signal(crate::harness::Signal::Hup);
    eventually("the reload is counted", async || {
        weir.metrics().await.value("weir_config_reloads_total", &[("result", "success")]) > before
    })
    .await;
    weir.stop().await;
}
