//! Limits of a version: how many requests and connections it has at once, who waits, and who is turned away.

use std::time::Duration;

use weir::model::Address;

use crate::harness::Fixture as _;
use crate::harness::client::Response;
use crate::harness::{
    Client, Fault, FaultyOrigin, H1, Load, Origin, Protocol, Request, Target, Weir, eventually, express_lane,
    over_both, shop,
};

/// One version with these endpoints and this `concurrency`.
fn limited(endpoints: &[&FaultyOrigin], concurrency: &str) -> String {
    let v1 = Origin::plan("v1").down();
    let addresses: Vec<Address> = endpoints.iter().map(|origin| origin.address()).collect();
    let list: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    shop(&[(&v1, 100.0)])
        .changed(&format!("\"{}\"", v1.address()), &list.join(", "))
        .changed("    split:", &format!("    balance: round_robin\n    concurrency: {concurrency}\n    split:"))
}

/// Asks once on a connection of its own, beside whoever else asks.
fn ask(protocol: Protocol, web: &Target) -> tokio::task::JoinHandle<Response> {
    let web = web.clone();
    tokio::spawn(async move { Client::connect(protocol, &web).await.get("/").await })
}

async fn waits(weir: &Weir, limit: &str, used: f64, waiting: f64) {
    eventually("so many are in, and so many wait", async || {
        let metrics = weir.metrics().await;
        let value = |name| metrics.value(name, &[("version", "v1"), ("limit", limit)]);
        value("weir_limit_used") == used && value("weir_limit_waiting") == waiting
    })
    .await;
}

over_both!(requests_beyond_the_limit_wait_their_turn_and_those_beyond_the_queue_are_turned_away);

async fn requests_beyond_the_limit_wait_their_turn_and_those_beyond_the_queue_are_turned_away(protocol: Protocol) {
    let slow = FaultyOrigin::failing("v1", Fault::HalfOpen).await;
    let weir = Weir::start(&limited(&[&slow], "{ requests: 2, queue: 2, queue_timeout: 5m }")).await;
    let web = Target::from(weir.address("web").await);
    let mut asked = Vec::new();
    for (at, (used, waiting)) in [(1.0, 0.0), (2.0, 0.0), (2.0, 1.0), (2.0, 2.0)].into_iter().enumerate() {
        asked.push(ask(protocol, &web));
        eprintln!("request {at} is asked");
        waits(&weir, "requests", used, waiting).await;
    }
    let refused = ask(protocol, &web).await.unwrap().expect(503);
    assert_eq!(refused.header("weir-error"), "overflow");
    slow.set(Fault::None).await;
    for one in asked {
        one.await.unwrap().expect(200);
    }
    assert_eq!(slow.requests(), 4, "the fifth never came there");
    waits(&weir, "requests", 0.0, 0.0).await;
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_upstream_errors_total", &[("kind", "overflow")]), 1.0);
    assert_eq!(metrics.value("weir_requests_total", &[("code", "503")]), 1.0);
    weir.stop().await;
}

over_both!(who_waits_for_too_long_is_turned_away_and_a_raised_limit_lets_in_who_waits);

async fn who_waits_for_too_long_is_turned_away_and_a_raised_limit_lets_in_who_waits(protocol: Protocol) {
    let slow = FaultyOrigin::failing("v1", Fault::HalfOpen).await;
    let weir = Weir::start(&limited(&[&slow], "{ requests: 1, queue_timeout: 50ms }")).await;
    let web = Target::from(weir.address("web").await);
    let held = ask(protocol, &web);
    waits(&weir, "requests", 1.0, 0.0).await;
    let late = ask(protocol, &web).await.unwrap().expect(503);
    assert_eq!(late.header("weir-error"), "overflow");
    weir.reconfigure(&limited(&[&slow], "{ requests: 1, queue_timeout: 5m }")).await;
    let waiting = ask(protocol, &web);
    waits(&weir, "requests", 1.0, 1.0).await;
    weir.reconfigure(&limited(&[&slow], "{ requests: 2, queue_timeout: 5m }")).await;
    waits(&weir, "requests", 2.0, 0.0).await;
    let next = ask(protocol, &web);
    waits(&weir, "requests", 2.0, 1.0).await;
    // Without a limit nobody waits.
    weir.reconfigure(&limited(&[&slow], "{ connections: 100 }")).await;
    eventually("all three are on their way", async || {
        weir.metrics().await.value("weir_endpoint_connects_total", &[]) == 3.0
    })
    .await;
    slow.set(Fault::None).await;
    for one in [held, waiting, next] {
        one.await.unwrap().expect(200);
    }
    weir.stop().await;
}

over_both!(a_limit_of_connections_holds_and_idle_ones_make_way);

async fn a_limit_of_connections_holds_and_idle_ones_make_way(protocol: Protocol) {
    let (a, b) = (FaultyOrigin::start("a").await, FaultyOrigin::start("b").await);
    let weir = Weir::start(&limited(&[&a, &b], "{ connections: 1, queue_timeout: 5m }")).await;
    let web = Target::from(weir.address("web").await);
    // Each request takes the place of the connection to the other endpoint.
    let load = Load::at(&web).request(Request::get("/")).clients(protocol, 4).count(100);
    load.run().await.assert_clean();
    assert!(a.requests() > 10 && b.requests() > 10, "{} {}", a.requests(), b.requests());
    waits(&weir, "connections", 1.0, 0.0).await;
    weir.reconfigure(&limited(&[&a, &b], "{ connections: 1, queue_timeout: 50ms }")).await;
    a.set(Fault::HalfOpen).await;
    b.set(Fault::HalfOpen).await;
    let held = ask(protocol, &web);
    eventually("it is on its way", async || {
        weir.metrics().await.value("weir_requests_in_flight", &[("version", "v1")]) == 1.0
    })
    .await;
    let late = ask(protocol, &web).await.unwrap().expect(503);
    assert_eq!(late.header("weir-error"), "overflow");
    a.set(Fault::None).await;
    b.set(Fault::None).await;
    held.await.unwrap().expect(200);
    tokio::time::timeout(Duration::from_secs(30), ask(protocol, &web)).await.unwrap().unwrap().expect(200);
    weir.stop().await;
}

over_both!(a_limit_of_connections_that_a_reload_brings_holds_for_those_that_are_open);

async fn a_limit_of_connections_that_a_reload_brings_holds_for_those_that_are_open(protocol: Protocol) {
    let (a, b) = (Origin::start("v1").await, Origin::start("b").await);
    let limited = |concurrency: &str| {
        let both = format!("\"{}\", \"{}\"", a.address(), b.address());
        let keys = format!("    balance: round_robin\n    concurrency: {concurrency}\n    split:");
        shop(&[(&a, 100.0)]).changed(&format!("\"{}\"", a.address()), &both).changed("    split:", &keys)
    };
    let weir = Weir::start(&limited("{ requests: 100 }")).await;
    let web = Target::from(weir.address("web").await);
    let load = || Load::at(&web).request(Request::get("/")).clients(protocol, 8).count(200);
    load().run().await.assert_clean();
    weir.reconfigure(&limited("{ connections: 3, queue_timeout: 5m }")).await;
    eventually("those without a place are closed", async || a.connections() + b.connections() == 0).await;
    load().run().await.assert_clean();
    assert!(a.connections() + b.connections() <= 3, "{} and {}", a.connections(), b.connections());
    weir.reconfigure(&limited("{ connections: 1, queue_timeout: 5m }")).await;
    eventually("what is idle beyond the limit is closed", async || a.connections() + b.connections() <= 1).await;
    load().run().await.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_its_connection_gives_its_turn_back() {
    if !express_lane() {
        eprintln!("the general lane keeps the turn until the queue's timeout");
        return;
    }
    let slow = FaultyOrigin::failing("v1", Fault::HalfOpen).await;
    let weir = Weir::start(&limited(&[&slow], "{ requests: 1, queue: 2, queue_timeout: 5m }")).await;
    let web = Target::from(weir.address("web").await);
    let held = ask(Protocol::Http1, &web);
    waits(&weir, "requests", 1.0, 0.0).await;
    for _ in 0..3 {
        let mut gone = H1::connect(&web).await;
        gone.write_raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\norder").await;
        waits(&weir, "requests", 1.0, 1.0).await;
        gone.reset();
        waits(&weir, "requests", 1.0, 0.0).await;
    }
    slow.set(Fault::None).await;
    held.await.unwrap().expect(200);
    waits(&weir, "requests", 0.0, 0.0).await;
    assert_eq!(slow.requests(), 1);
    weir.stop().await;
}
