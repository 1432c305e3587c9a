//! What is tried again and what never is, and what a failure costs.

use std::time::{Duration, Instant};

use crate::harness::Fixture as _;
use crate::harness::fault::BlackHole;
use crate::harness::{Client, H1, H2, Load, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop};
use weir::model::Address;

/// The configuration of [`shop`] with these endpoints in the place of the origin's own.
fn endpoints(origin: &Origin, all: &[&Address]) -> String {
    let list: Vec<String> = all.iter().map(|address| format!("\"{address}\"")).collect();
    shop(&[(origin, 100.0)]).changed(&format!("\"{}\"", origin.address()), &list.join(", "))
}

fn service(yaml: &str, keys: &str) -> String {
    yaml.changed("    split:", &format!("    {keys}\n    split:"))
}

async fn idle(weir: &Weir) {
    eventually("nothing is in flight", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0)
        .await;
}

over_both!(no_post_is_executed_twice_when_reused_connections_die);

async fn no_post_is_executed_twice_when_reused_connections_die(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    for path in ["/close-after", "/stale"] {
        let post =
            Load::at(&web).request(Request::post(path, "order")).clients(protocol, 6).think(Duration::from_millis(3));
        let ledger = post.count(600).run().await;
        let audit = ledger.audit(&[&v1]);
        assert_eq!(audit.twice, Vec::<String>::new(), "{path}");
        assert_eq!(audit.never, Vec::<String>::new(), "{path}");
        let counts = ledger.counts();
        eprintln!("{path}: {:?}", counts.statuses);
        assert_eq!(counts.statuses.values().sum::<u64>(), 600, "{path}: every POST has a whole answer");
    }
    assert_eq!(weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "reused")]), 0.0);
    weir.stop().await;
}

over_both!(gets_never_notice_that_the_origin_closes_idle_connections);

async fn gets_never_notice_that_the_origin_closes_idle_connections(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    let load = |path: &str| {
        Load::at(&web).request(Request::get(path)).clients(protocol, 4).think(Duration::from_millis(4)).count(500)
    };
    let (closing, keeping) = tokio::join!(load("/close-after").run(), load("/").run());
    closing.assert_clean();
    keeping.assert_clean();
    closing.assert_executed_once(&[&v1]);
    weir.stop().await;
}

over_both!(a_connect_failure_is_tried_again_once_and_only_once);

async fn a_connect_failure_is_tried_again_once_and_only_once(protocol: Protocol) {
    let (first, second, third) = (Origin::plan("a").down(), Origin::plan("b").down(), Origin::plan("c").down());
    let weir = Weir::start(&endpoints(&first, &[first.address(), second.address(), third.address()])).await;
    let web = Target::from(weir.address("web").await);
    for at in 1..=5 {
        let mut client = Client::connect(protocol, &web).await;
        let response = client.send(&Request::post("/", "x")).await.expect(502);
        assert_eq!(response.header("weir-error"), "connect");
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_upstream_errors_total", &[("kind", "connect")]), f64::from(2 * at));
        assert_eq!(metrics.value("weir_upstream_retries_total", &[("reason", "connect")]), f64::from(at));
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_costs_one_connect_timeout_and_no_request() {
    let v1 = Origin::start("v1").await;
    let hole = BlackHole::open();
    let yaml = service(&endpoints(&v1, &[v1.address(), &hole.address()]), "timeouts: { connect: 200ms }");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let mut h1 = H1::connect(&web).await;
    let h2 = H2::connect(&web).await;
    let began = Instant::now();
    for _ in 0..10 {
        h1.send(&Request::post("/sink", "x")).await.expect(200);
        h2.get("/").await.expect(200);
    }
    let retries = weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "connect")]);
    assert!(retries > 0.0, "the black hole was tried");
    // Each costs 200 ms; the kernel's own patience with a silent peer is two minutes.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?} for {retries} retries", began.elapsed());
    assert_eq!(v1.requests(), 20);
    weir.stop().await;
}

over_both!(only_black_holes_are_504_and_say_so);

async fn only_black_holes_are_504_and_say_so(protocol: Protocol) {
    let hole = BlackHole::open();
    let v1 = Origin::plan("v1").down();
    let yaml = service(&endpoints(&v1, &[&hole.address()]), "timeouts: { connect: 200ms }");
    let weir = Weir::start(&yaml).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    assert_eq!(client.get("/").await.expect(504).header("weir-error"), "connect_timeout");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_falls_silent_is_a_timeout_in_every_protocol() {
    for protocol in ["http1", "h2"] {
        let v1 = Origin::start("v1").await;
        let keys = format!("protocol: {protocol}\n    timeouts: {{ first_byte: 300ms, idle: 300ms }}");
        let weir = Weir::start(&service(&shop(&[(&v1, 100.0)]), &keys)).await;
        let web = Target::from(weir.address("web").await);
        let mut expected = 0.0;
        for (path, answered) in [("/no-answer", true), ("/drip/3/30000", false)] {
            let over_h1 = H1::connect(&web).await.try_send(&Request::get(path)).await;
            let over_h2 = H2::connect(&web).await.try_send(&Request::get(path)).await;
            for (client, outcome) in [("HTTP/1", over_h1), ("HTTP/2", over_h2)] {
                match outcome {
                    Ok(response) if answered => assert_eq!(response.expect(504).header("weir-error"), "timeout"),
                    Err(_) if !answered => {}
                    other => panic!("{path} over {client} to {protocol}: {other:?}"),
                }
            }
            expected += 2.0;
            eventually(&format!("{path} to {protocol} is counted"), async || {
                let seen = weir.metrics().await.value("weir_upstream_errors_total", &[("kind", "timeout")]);
                if (seen - expected).abs() < 0.5 { Ok(()) } else { Err(seen) }
            })
            .await;
        }
        idle(&weir).await;
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_request_at_the_origin() {
    for protocol in ["http1", "h2"] {
        let v1 = Origin::start("v1").await;
        let yaml = service(&shop(&[(&v1, 100.0)]), &format!("protocol: {protocol}"));
        let weir = Weir::start(&yaml).await;
        let web = Target::from(weir.address("web").await);
        let closed = async || weir.metrics().await.value("weir_requests_total", &[("code", "client_closed")]);

        let mut h1 = H1::connect(&web).await;
        h1.write_raw("GET /hold HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
        v1.wait_held(1).await;
        h1.reset();
        v1.wait_held(0).await;
        eventually("HTTP/1 is counted", async || if closed().await == 1.0 { Ok(()) } else { Err(closed().await) })
            .await;

        let h2 = H2::connect(&web).await;
        let stream = h2.open(&Request::get("/hold")).await;
        v1.wait_held(1).await;
        stream.cancel();
        v1.wait_held(0).await;
        eventually("HTTP/2 is counted", async || if closed().await == 2.0 { Ok(()) } else { Err(closed().await) })
            .await;

        h2.get("/").await.expect(200);
        idle(&weir).await;
        let metrics = weir.metrics().await;
        let errors = metrics.samples("weir_upstream_errors_total", &[]);
        assert!(errors.iter().all(|sample| sample.value == 0.0), "no endpoint is to blame: {errors:?}");
        weir.stop().await;
    }
}
