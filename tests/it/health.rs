//! The health of endpoints: who is taken out for what happens to requests, who comes back, and who takes over.

use std::time::{Duration, Instant};

use weir::admin::wire::{HealthStatus, Status};
use weir::model::Address;

use crate::harness::client::Response;
use crate::harness::fault::BlackHole;
use crate::harness::{
    Client, Fixture as _, H1, Load, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop,
};

/// The configuration of [`shop`], where the version of `of` has these endpoints.
fn endpoints(yaml: &str, of: &Origin, all: &[&Address]) -> String {
    let list: Vec<String> = all.iter().map(|address| format!("\"{address}\"")).collect();
    yaml.changed(&format!("\"{}\"", of.address()), &list.join(", "))
}

fn service(yaml: &str, keys: &str) -> String {
    yaml.changed("    split:", &format!("    {keys}\n    split:"))
}

/// The health of the endpoint at `address`.
pub(crate) fn health(status: &Status, address: &Address) -> HealthStatus {
    let mut all = status.services.iter().flat_map(|service| &service.versions).flat_map(|version| &version.endpoints);
    let found = all.find(|endpoint| endpoint.name == address.to_string());
    found.unwrap_or_else(|| panic!("no endpoint {address} in {status:?}")).health.clone()
}

/// Waits until the health of the endpoint at `address` has this word.
pub(crate) async fn until(weir: &Weir, address: &Address, word: &str) -> HealthStatus {
    let status = weir.until(&format!("{address} is {word}"), |status| health(status, address).status == word).await;
    health(&status, address)
}

/// The answer to a GET on a connection of its own: that of a failed request closes.
async fn get(protocol: Protocol, web: &Target) -> Response {
    Client::connect(protocol, web).await.try_send(&Request::get("/")).await.unwrap()
}

over_both!(an_endpoint_that_refuses_connections_is_taken_out_and_comes_back);

async fn an_endpoint_that_refuses_connections_is_taken_out_and_comes_back(protocol: Protocol) {
    let (good, bad) = (Origin::start("v1").await, Origin::plan("bad").down());
    let weir = Weir::start(&endpoints(&shop(&[(&good, 100.0)]), &good, &[good.address(), bad.address()])).await;
    let web = Target::from(weir.address("web").await);
    let load = Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(400).run().await;
    load.assert_clean();
    let health = until(&weir, bad.address(), "unreachable").await;
    let refused = health.failures["refused"];
    assert!((3..=12).contains(&refused), "it is not asked again and again: {health:?}");
    assert_eq!(health.why.as_deref(), Some("the endpoint refuses connections"));
    let name = bad.address().to_string();
    let of_bad = ("endpoint", &*name);
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_endpoint_up", &[of_bad]), 0.0);
    assert_eq!(
        metrics.value("weir_endpoint_failures_total", &[of_bad, ("cause", "refused")]),
        f64::from(u32::try_from(refused).unwrap())
    );
    assert_eq!(metrics.value("weir_endpoint_ejections_total", &[of_bad, ("reason", "unreachable")]), 1.0);
    assert_eq!(metrics.value("weir_endpoint_ejections_total", &[]), 1.0, "nobody else");
    let screen = String::from_utf8(weir.cli(&["status"]).await.stdout).unwrap();
    assert!(screen.contains("unreachable for "), "{screen}");

    bad.restart().await;
    until(&weir, bad.address(), "healthy").await;
    Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(200).run().await.assert_clean();
    assert!(bad.requests() > 0, "it has its share again");
    let said = weir.stderr();
    assert_eq!(said.matches("an endpoint cannot be reached").count(), 1, "{said}");
    assert_eq!(said.matches("an endpoint is back").count(), 1, "{said}");
    weir.stop().await;
}

over_both!(an_endpoint_that_answers_with_errors_is_ejected_for_a_time);

async fn an_endpoint_that_answers_with_errors_is_ejected_for_a_time(protocol: Protocol) {
    let (good, bad) = (Origin::start("v1").await, Origin::start("bad").await);
    bad.fail(100);
    let yaml = endpoints(&shop(&[(&good, 100.0)]), &good, &[good.address(), bad.address()]);
    let weir = Weir::start(&service(&yaml, "outlier_detection: { ejection_time: 1s }")).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    let mut errors = 0;
    for _ in 0..100 {
        let response = client.try_send(&Request::get("/")).await.unwrap();
        errors += u32::from(response.status == 500);
    }
    assert_eq!(errors, 5, "the fifth is the last");
    let health = health(&weir.status().await, bad.address());
    assert_eq!((&*health.status, health.why.as_deref()), ("ejected", Some("errors in a row")));
    assert!(health.back_in_seconds.is_some_and(|left| left <= 1.0), "{health:?}");
    assert_eq!(health.failures["server_error"], 5);
    bad.fail(0);
    until(&weir, bad.address(), "healthy").await;
    let before = bad.requests();
    Load::at(&web).request(Request::get("/")).clients(protocol, 2).count(100).run().await.assert_clean();
    assert!(bad.requests() > before);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_endpoint_of_a_version_is_never_ejected() {
    let v1 = Origin::start("v1").await;
    v1.fail(100);
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let mut client = H1::connect(&Target::from(weir.address("web").await)).await;
    for _ in 0..50 {
        client.get("/").await.expect(500);
    }
    assert_eq!(v1.requests(), 50);
    assert_eq!(health(&weir.status().await, v1.address()).status, "healthy");
    weir.stop().await;
}

over_both!(a_canary_that_is_gone_has_its_share_on_stable_within_a_second);

async fn a_canary_that_is_gone_has_its_share_on_stable_within_a_second(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 50.0), (&v2, 50.0)])).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(100).run().await.assert_clean();
    v2.kill().await;
    let began = Instant::now();
    let mut in_row = 0;
    while in_row < 20 && began.elapsed() < Duration::from_secs(1) {
        in_row = if get(protocol, &web).await.status == 200 { in_row + 1 } else { 0 };
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(200).run().await.assert_clean();
    let metrics = weir.metrics().await;
    let taken = metrics.value("weir_split_decisions_total", &[("version", "v1"), ("reason", "failover")]);
    assert!(taken >= 100.0, "{taken} of at least 100");
    assert_eq!(metrics.value("weir_split_weight_ratio", &[("version", "v2"), ("kind", "effective")]), 0.0);
    v2.restart().await;
    until(&weir, v2.address(), "healthy").await;
    eventually("the canary has its share again", async || {
        let effective =
            weir.metrics().await.value("weir_split_weight_ratio", &[("version", "v2"), ("kind", "effective")]);
        if (effective - 0.5).abs() < 1e-9 { Ok(()) } else { Err(effective) }
    })
    .await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_failover_and_without_others_a_version_goes_on_trying() {
    let (v1, v2) = (Origin::start("v1").await, Origin::plan("v2").down());
    for (yaml, clean) in
        [(service(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "failover: false"), 50), (shop(&[(&v1, 0.0), (&v2, 100.0)]), 0)]
    {
        let weir = Weir::start(&yaml).await;
        let web = Target::from(weir.address("web").await);
        let mut answered = 0;
        for _ in 0..100 {
            let response = get(Protocol::Http1, &web).await;
            match response.status {
                200 => answered += 1,
                502 => assert_eq!(response.header("weir-error"), "connect"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(answered, clean);
        until(&weir, v2.address(), "unreachable").await;
        // It is back with the first request, without a wait for the next question.
        v2.restart().await;
        eventually("the version answers", async || {
            let response = get(Protocol::Http1, &web).await;
            if response.status == 200 && response.header("x-origin") == "v2" { Ok(()) } else { Err(response.status) }
        })
        .await;
        v2.kill().await;
        weir.stop().await;
    }
    let weir =
        Weir::start(&service(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "failover: false\n    panic_threshold: 0")).await;
    let web = Target::from(weir.address("web").await);
    let last = eventually("nothing is tried any more", async || {
        let response = get(Protocol::Http1, &web).await;
        if response.status == 503 { Ok(response) } else { Err(response.status) }
    })
    .await;
    assert_eq!(last.expect(503).header("weir-error"), "no_endpoint");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_is_found_out_and_costs_no_more_then() {
    let (v1, hole) = (Origin::start("v1").await, BlackHole::open());
    let yaml = endpoints(&shop(&[(&v1, 100.0)]), &v1, &[v1.address(), &hole.address()]);
    let weir = Weir::start(&service(&yaml, "timeouts: { connect: 200ms }")).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/")).keep_alive(4).count(40).run().await.assert_clean();
    let health = until(&weir, &hole.address(), "unreachable").await;
    assert_eq!(health.why.as_deref(), Some("no connection in time"));
    let retries = async || weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "connect")]);
    let before = retries().await;
    Load::at(&web).request(Request::get("/")).keep_alive(4).count(200).run().await.assert_clean();
    assert_eq!(retries().await, before, "nobody waits for it any more");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_panic_threshold_health_is_ignored() {
    let (v1, bad) = (Origin::start("v1").await, Origin::start("bad").await);
    bad.fail(100);
    let yaml = endpoints(&shop(&[(&v1, 100.0)]), &v1, &[v1.address(), bad.address()]);
    let weir = Weir::start(&service(&yaml, "panic_threshold: 60")).await;
    let web = Target::from(weir.address("web").await);
    eventually("the bad one is ejected, and gets requests all the same", async || {
        get(Protocol::Http1, &web).await;
        let (requests, health) = (bad.requests(), health(&weir.status().await, bad.address()));
        if health.status == "ejected" && requests > 20 { Ok(()) } else { Err((requests, health)) }
    })
    .await;
    assert_eq!(weir.metrics().await.value("weir_version_panic", &[("version", "v1")]), 1.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_health_and_a_new_version_of_the_file_may_end_it() {
    let (v1, bad) = (Origin::start("v1").await, Origin::plan("bad").down());
    let yaml = endpoints(&shop(&[(&v1, 100.0)]), &v1, &[v1.address(), bad.address()]);
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/")).keep_alive(4).count(200).run().await.assert_clean();
    let before = until(&weir, bad.address(), "unreachable").await;
    weir.reconfigure(&service(&yaml, "timeouts: { connect: 2s }")).await;
    let after = health(&weir.status().await, bad.address());
    assert_eq!((&*after.status, &after.failures), ("unreachable", &before.failures));
    assert_eq!(weir.metrics().await.value("weir_endpoint_up", &[("endpoint", &bad.address().to_string())]), 0.0);
    weir.reconfigure(&service(&yaml, "outlier_detection: { connect_failures: 0 }")).await;
    until(&weir, bad.address(), "healthy").await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_flaps_costs_no_request() {
    let (v1, flapping) = (Origin::start("v1").await, Origin::start("flapping").await);
    let yaml = endpoints(&shop(&[(&v1, 100.0)]), &v1, &[v1.address(), flapping.address()]);
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let load = Load::at(&web).request(Request::get("/")).keep_alive(4).think(Duration::from_millis(5)).start();
    let mut pause = tokio::time::interval(Duration::from_millis(300));
    for _ in 0..5 {
        pause.tick().await;
        flapping.stop().await;
        pause.tick().await;
        flapping.restart().await;
    }
    flapping.stop().await;
    load.stop().await.assert_clean();
    let attempts = weir.metrics().await.value("weir_endpoint_failures_total", &[("cause", "refused")]);
    assert!(attempts <= 30.0, "{attempts} connects were refused");
    weir.stop().await;
}
