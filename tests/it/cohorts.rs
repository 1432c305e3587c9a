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

over_both!(an_operator_shifts_one_cohort_and_a_restart_keeps_that);

async fn an_operator_shifts_one_cohort_and_a_restart_keeps_that(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let mut weir = Weir::start(&with_cohorts(&v1, &v2, 10)).await;
    let connect = async |weir: &Weir| Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    let mut client = connect(&weir).await;
    let half = ["weight", "shop", "v1=50", "v2=50", "--cohort", "eu", "--author", "ann"];
    assert_eq!(weir.cli(&half).await.status.code(), Some(0));
    let shares =
        async |client: &mut Client| (canary(client, &european(), 10).await, canary(client, &internal(), 10).await);
    assert_eq!(shares(&mut client).await, (5, 10));
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 1, "everybody else stays");
    let status = weir.status().await;
    let eu = &status.services[0].cohorts[1];
    let shift = eu.shift.as_ref().unwrap();
    assert_eq!((&*shift.author, shift.base["v2"], eu.weights["v2"]), ("ann", 10.0, 50.0));
    assert!(status.services[0].shift.is_none());
    let text = String::from_utf8_lossy(&weir.cli(&["status"]).await.stdout).into_owned();
    assert!(text.contains("cohort eu: v1 50%, v2 50% (shifted by ann"), "{text}");

    weir.reconfigure(&with_cohorts(&v1, &v2, 10).changed("v2: 1 }", "v2: 3 }").changed("v1: 99,", "v1: 97,")).await;
    assert_eq!(shares(&mut client).await, (5, 10), "a reload that leaves the cohort as it is");
    weir.stop().await;
    weir.start_again().await;
    let mut client = connect(&weir).await;
    assert_eq!(shares(&mut client).await, (5, 10), "a restart");
    assert_eq!(weir.cli(&["weight", "shop", "--reset", "--cohort", "eu"]).await.status.code(), Some(0));
    assert_eq!(shares(&mut client).await, (1, 10));

    assert_eq!(weir.cli(&half).await.status.code(), Some(0));
    weir.reconfigure(&with_cohorts(&v1, &v2, 20)).await;
    assert_eq!(shares(&mut client).await, (2, 10), "the file's own split of the cohort changed");
    let output = weir.cli(&["weight", "shop", "v1=100", "--cohort", "ue"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("cohort") && text.contains("`eu`"), "{text}");
    weir.stop().await;
}

/// A shop that rolls `eu` out to Europeans.
fn rolled_to_europe(v1: &Origin, v2: &Origin, eu: &str) -> String {
    let rollout = "rollout: { cohort: eu, interval: 1s, window: 1s, min_requests: 5, bake: 0s, checks: [], \
                   steps: [{ weight: 50, hold: 600s }, { weight: 100 }] }";
    with_cohorts(v1, v2, 0)
        .changed("split: { v1: 100, v2: 0 }", &format!("split: {{ {eu}: 100 }}"))
        .changed("    cohorts:", &format!("    stable: v1\n    {rollout}\n    cohorts:"))
}

over_both!(a_rollout_moves_one_cohort_and_leaves_everybody_else);

async fn a_rollout_moves_one_cohort_and_leaves_everybody_else(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let mut weir = Weir::start(&rolled_to_europe(&v1, &v2, "v1")).await;
    let connect = async |weir: &Weir| Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    let mut client = connect(&weir).await;
    assert_eq!(canary(&mut client, &european(), 20).await, 0);
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 1);

    weir.reconfigure(&rolled_to_europe(&v1, &v2, "v2")).await;
    let half =
        weir.rolls("shop", "half of the Europeans are on v2", |rollout| rollout.weights.configured == 50.0).await;
    assert_eq!(half.weights.effective, 50.0, "of those whom it moves");
    assert_eq!(canary(&mut client, &european(), 20).await, 10);
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 1, "everybody else stays");
    assert_eq!(canary(&mut client, &internal(), 10).await, 10, "so does the other cohort");
    let shift = weir.status().await.services[0].cohorts[1].shift.clone().unwrap();
    assert_eq!((&*shift.author, shift.weights["v2"]), ("rollout", 50.0));

    let refused = weir.cli(&["weight", "shop", "v1=100", "--cohort", "eu"]).await;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(7) && text.contains("cohort `eu` of service `shop`"), "{text}");
    assert_eq!(
        weir.cli(&["weight", "shop", "v1=90", "v2=10"]).await.status.code(),
        Some(0),
        "that is not the rollout's"
    );
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 10);

    weir.stop().await;
    weir.start_again().await;
    let mut client = connect(&weir).await;
    assert_eq!(canary(&mut client, &european(), 20).await, 10, "a restart goes on where it was");
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 10, "and keeps the shift beside it");

    assert_eq!(weir.cli(&["rollout", "promote", "shop"]).await.status.code(), Some(0));
    weir.until_phase("shop", "succeeded").await;
    assert_eq!(canary(&mut client, &european(), 20).await, 20);
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 10, "everybody else stays");
    // Then to everybody: who is stable for the cohort is not for them, and it begins with the first step.
    assert_eq!(weir.cli(&["weight", "shop", "--reset"]).await.status.code(), Some(0));
    let everybody =
        rolled_to_europe(&v1, &v2, "v2").changed("cohort: eu, ", "").changed("split: { v1: 99, v2: 1 }", "release: v2");
    weir.reconfigure(&everybody).await;
    weir.rolls("shop", "half of all are on v2", |rollout| rollout.weights.configured == 50.0).await;
    assert_eq!(canary(&mut client, &Request::get("/"), 20).await, 10);
    assert_eq!(canary(&mut client, &european(), 20).await, 20, "the file gives the cohort v2");
    weir.reconfigure(&rolled_to_europe(&v1, &v2, "v2")).await;
    assert_eq!(canary(&mut client, &Request::get("/"), 100).await, 1, "the service's own split is the file's again");
    assert_eq!(canary(&mut client, &european(), 20).await, 20, "what served the cohort goes on");
    weir.stop().await;
}

over_both!(what_was_promoted_for_a_cohort_is_taken_back_by_undo);

async fn what_was_promoted_for_a_cohort_is_taken_back_by_undo(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled_to_europe(&v1, &v2, "v2")).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    weir.rolls("shop", "half of the Europeans are on v2", |rollout| rollout.weights.configured == 50.0).await;
    assert_eq!(weir.cli(&["rollout", "promote", "shop"]).await.status.code(), Some(0));
    weir.until_phase("shop", "succeeded").await;
    assert_eq!(canary(&mut client, &european(), 20).await, 20);
    assert_eq!(weir.cli(&["rollout", "undo", "shop"]).await.status.code(), Some(0));
    weir.rolls("shop", "the way back was taken", |rollout| rollout.weights.configured == 0.0).await;
    assert_eq!(canary(&mut client, &european(), 20).await, 0);
    weir.stop().await;
}
