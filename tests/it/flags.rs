//! Feature flags at the edge: who gets them, what endpoints are told, what is measured, and how they are moved.

use crate::harness::Fixture as _;
use crate::harness::{Client, Origin, Protocol, Request, Target, Weir, over_both, shop};

const FLAG: &str = "x-weir-flag-new-checkout";

fn with_flag(yaml: &str, flag: &str) -> String {
    yaml.to_owned() + "flags: { new-checkout: { services: [shop], " + flag + " } }\n"
}

fn of(user: usize) -> Request {
    Request::get("/").header("x-user", format!("user-{user}"))
}

/// What the endpoint was told about the last request.
fn told(origin: &Origin) -> String {
    let entry = origin.journal().pop().unwrap();
    entry.headers.all(FLAG).join(",")
}

over_both!(a_percentage_of_requests_gets_a_flag_and_each_value_is_measured);

async fn a_percentage_of_requests_gets_a_flag_and_each_value_is_measured(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with_flag(&shop(&[(&v1, 100.0)]), "percent: 25")).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    let mut on = 0;
    for _ in 0..100 {
        client.send(&Request::get("/").header(FLAG, "forged")).await.expect(200);
        on += usize::from(told(&v1) == "on");
    }
    assert_eq!(on, 25, "as exact as a split, and what a client says of a flag does not count");
    let metrics = weir.metrics().await;
    let count = |value| metrics.value("weir_flag_requests_total", &[("flag", "new-checkout"), ("value", value)]);
    assert_eq!((count("off"), count("on")), (75.0, 25.0));
    assert_eq!(metrics.value("weir_requests_total", &[]), 100.0, "each request counts once");
    let took = [("flag", "new-checkout"), ("value", "on")];
    assert_eq!(metrics.value("weir_flag_request_duration_seconds_count", &took), 25.0);
    weir.stop().await;
}

over_both!(clients_keep_their_value_and_go_one_way_while_a_flag_is_moved);

async fn clients_keep_their_value_and_go_one_way_while_a_flag_is_moved(protocol: Protocol) {
    const USERS: usize = 100;
    let v1 = Origin::start("v1").await;
    let keyed = shop(&[(&v1, 100.0)]).changed("    split:", "    affinity: { header: x-user }\n    split:");
    let weir = Weir::start(&with_flag(&keyed, "percent: 0")).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    let mut before = vec![false; USERS];
    for percent in ["0", "30%", "60%", "100"] {
        assert_eq!(weir.cli(&["flag", "new-checkout", percent]).await.status.code(), Some(0));
        let mut now = Vec::new();
        for user in 0..USERS {
            client.send(&of(user)).await.expect(200);
            now.push(told(&v1) == "on");
        }
        let back = before.iter().zip(&now).filter(|(before, now)| **before && !**now).count();
        assert_eq!(back, 0, "at {percent} nobody lost the flag");
        before = now;
    }
    assert!(before.iter().all(|on| *on));
    assert_eq!(weir.cli(&["flag", "new-checkout", "--reset"]).await.status.code(), Some(0));
    client.send(&of(1)).await.expect(200);
    assert_eq!(told(&v1), "off");
    let output = weir.cli(&["flag", "nobody", "5%"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_that_a_rollout_moves_goes_back_when_it_hurts() {
    let v1 = Origin::start("v1").await;
    let rollout = "rollout: { interval: 1s, window: 1s, min_requests: 5, warmup: 1s, bake: 0s, \
                   steps: [{ weight: 50, hold: 600s }, { weight: 100 }], checks: [], \
                   rollback_when: [{ errors: 5, in_a_row: true }] }";
    let flag = |release: &str| {
        let keyed = format!("release: {release}, affinity: {{ header: x-user }}, {rollout}");
        with_flag(&shop(&[(&v1, 100.0)]), &keyed)
    };
    let weir = Weir::start(&flag("off")).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(Protocol::Http1, &web).await;
    client.get("/").await.expect(200);
    assert_eq!(told(&v1), "off");
    weir.reconfigure(&flag("on")).await;
    weir.rolls("flag:new-checkout", "half of the requests have it", |rollout| rollout.weights.configured == 50.0).await;
    // Those who have it get errors: five in a row take it back at once.
    let mut have = Vec::new();
    for user in 0..40 {
        client.send(&of(user)).await.expect(200);
        have.extend((told(&v1) == "on").then_some(user));
    }
    assert!((5..36).contains(&have.len()), "{have:?}");
    for user in have.into_iter().take(5) {
        let fails = Request::get("/status/500").header("x-user", format!("user-{user}"));
        client.send(&fails).await.expect(500);
    }
    weir.until_phase("flag:new-checkout", "rolled_back").await;
    for user in 0..40 {
        client.send(&of(user)).await.expect(200);
        assert_eq!(told(&v1), "off");
    }
    weir.stop().await;
}
