//! Reloads: nothing of them reaches a client.

use std::time::Duration;

use crate::certificates::with_tls;
use crate::harness::Fixture as _;
use crate::harness::{
    Authority, Client, H1, Load, Origin, Protocol, Rewrite, Target, Tls, Weir, eventually, over_both, shop,
};

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

over_both!(reloads_of_every_kind_under_load_lose_nothing_and_close_nothing);

/// Weights, versions, endpoints and the certificate change, each of them again and again.
async fn reloads_of_every_kind_under_load_lose_nothing_and_close_nothing(protocol: Protocol) {
    let [v1, v2, v3, other] = ["v1", "v2", "v3", "v2"].map(|name| Origin::plan(name).start());
    let (v1, v2, v3, other) = tokio::join!(v1, v2, v3, other);
    let [of_v2, of_both] = [format!("\"{}\"", v2.address()), format!("\"{}\", \"{}\"", v2.address(), other.address())];
    let half = shop(&[(&v1, 50.0), (&v2, 50.0)]);
    let files = [
        half.clone(),
        shop(&[(&v1, 90.0), (&v2, 10.0)]),
        half.changed(&of_v2, &of_both),
        half.changed(&v2.address().to_string(), &other.address().to_string()),
        shop(&[(&v1, 40.0), (&v2, 30.0), (&v3, 30.0)]),
        shop(&[(&v1, 50.0), (&v3, 50.0)]),
    ]
    .map(|yaml| with_tls(&yaml, "{ cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" }"));
    let authority = Authority::new("weir test");
    let plan = Weir::plan(&files[0]);
    authority.server(&["shop.test"]).write(plan.dir(), "tls");
    let weir = plan.start().await;
    let web = Target::from(weir.address("web").await).tls(&Tls::trusting(&authority, "shop.test"));
    let load = Load::at(web.clone()).clients(protocol, 8).think(Duration::from_millis(5)).start();
    for yaml in files.iter().cycle().skip(1).take(4 * files.len()) {
        let next = authority.server(&["shop.test"]);
        next.write(weir.dir(), "tls");
        weir.reconfigure(yaml).await;
        let served = async || Client::connect(protocol, &web).await.tls().is(&next);
        eventually("the new certificate is served", served).await;
        load.wait_more(40).await;
    }
    let ledger = load.stop().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2, &v3, &other]);
    let counts = ledger.counts();
    assert_eq!(
        counts.connections,
        if protocol == Protocol::Http2 { 1 } else { 8 },
        "no connection is closed\n{counts}"
    );
    for origin in [&v1, &v2, &v3, &other] {
        assert!(origin.requests() > 0, "{} had its share", origin.name());
    }
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
