//! Cohorts, as clients see them: who is split how, what names them, and what a reload changes.

use crate::harness::Fixture as _;
use crate::harness::{Client, Load, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop};

/// A shop whose internal users and Europeans are split by weights of their own, with `eu` percent of the latter on v2.
fn with_cohorts(v1: &Origin, v2: &Origin, eu: u32) -> String {
    let internal = "{ name: internal, match: { headers: { x-team: { present: true } } }, split: { v2: 100 } }";
    let europe = format!(
        "{{ name: eu, match: {{ cookies: {{ region: eu }}, from: [127.0.0.0/8] }}, split: {{ v1: {}, v2: {eu} }} }}",
        100 - eu
    );
    let cohorts = format!("    cohorts: [{internal}, {europe}]\n    split:");
    shop(&[(v1, 99.0), (v2, 1.0)]).changed("    split:", &cohorts)
}

fn internal() -> Request {
    Request::get("/").header("x-team", "blue").header("cookie", "region=eu")
}

fn european() -> Request {
    Request::get("/").header("cookie", "a=b; region=eu")
}

/// How many of these requests each version answers: of v2.
async fn canary(client: &mut Client, request: &Request, requests: u32) -> u32 {
    let mut canary = 0;
    for _ in 0..requests {
        canary += u32::from(client.send(request).await.expect(200).origin() == "v2");
    }
    canary
}

over_both!(each_cohort_has_its_exact_share_and_is_named);

async fn each_cohort_has_its_exact_share_and_is_named(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let log = "access_log: { output: \"{dir}/access.log\" }\nshutdown:";
    let weir = Weir::start(&with_cohorts(&v1, &v2, 10).changed("shutdown:", log)).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    assert_eq!(canary(&mut client, &internal(), 20).await, 20, "the first cohort that fits counts");
    assert_eq!(canary(&mut client, &european(), 100).await, 10);
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 1);
    let decisions = async |cohort: &str, version: &str| {
        weir.metrics().await.value("weir_cohort_decisions_total", &[("cohort", cohort), ("version", version)])
    };
    assert_eq!((decisions("internal", "v2").await, decisions("internal", "v1").await), (20.0, 0.0));
    assert_eq!((decisions("eu", "v2").await, decisions("eu", "v1").await), (10.0, 90.0));
    let named = |cohort: &str| {
        let log = std::fs::read_to_string(weir.dir().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(&format!("\"cohort\":\"{cohort}\""))).count()
    };
    eventually("the access log names the cohorts", async || (named("internal"), named("eu")) == (20, 100)).await;
    let status = weir.cli(&["status", "shop"]).await;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("cohort internal: v2 100") && text.contains("cohort eu: v1 90"), "{text}");
    weir.stop().await;
}

over_both!(a_reload_moves_one_cohort_and_leaves_the_others);

async fn a_reload_moves_one_cohort_and_leaves_the_others(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&with_cohorts(&v1, &v2, 10)).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    assert_eq!(canary(&mut client, &european(), 10).await, 1);
    weir.reconfigure(&with_cohorts(&v1, &v2, 50)).await;
    assert_eq!(canary(&mut client, &european(), 10).await, 5);
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 1);
    assert_eq!(weir.cli(&["weight", "shop", "v1=0", "v2=100"]).await.status.code(), Some(0));
    assert_eq!(canary(&mut client, &Request::get("/"), 10).await, 10);
    assert_eq!(canary(&mut client, &european(), 10).await, 5, "a shift is over the service's own split");
    weir.stop().await;
}

over_both!(a_cohorts_share_of_a_version_that_goes_is_taken_by_its_others);

async fn a_cohorts_share_of_a_version_that_goes_is_taken_by_its_others(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&with_cohorts(&v1, &v2, 50)).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    assert_eq!(weir.cli(&["drain", "shop/v2"]).await.status.code(), Some(0));
    assert_eq!(canary(&mut client, &european(), 20).await, 0);
    assert_eq!(canary(&mut client, &internal(), 10).await, 0, "nobody is left of their split: they go where all do");
    Load::at(weir.address("web").await).clients(protocol, 2).count(200).run().await.assert_clean();
    assert_eq!(weir.cli(&["ready", "shop/v2"]).await.status.code(), Some(0));
    assert_eq!(canary(&mut client, &european(), 20).await, 10);
    weir.stop().await;
}
