//! Rules about more than one request, or about a request that comes in pieces, on every way.

use super::table::{HTTP2_CLIENT, Setup, WAYS, Way};
use crate::harness::{Client, H1, H2, Origin, Request, Target, Weir, eventually, shop};
use crate::http1::lines;

/// A Weir before two origins that share the traffic alike, for one way.
async fn two_versions(way: Way, keys: &'static str) -> (Weir, Target, [Origin; 2]) {
    let origins = [Origin::start("v1").await, Origin::start("v2").await];
    let yaml = shop(&[(&origins[0], 50.0), (&origins[1], 50.0)]);
    let weir = Weir::start(&Setup { keys, ..Setup::default() }.configuration(&yaml, way)).await;
    let web = Target::from(weir.address("web").await);
    (weir, web, origins)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_and_the_next_request_goes_elsewhere() {
    for (way, whole_version) in WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let (weir, web, [v1, v2]) = two_versions(way, "").await;
        let (mut one, mut other, mut third) = (
            Client::connect(way.protocol(), &web).await,
            Client::connect(way.protocol(), &web).await,
            Client::connect(way.protocol(), &web).await,
        );
        let (first, second, ()) = tokio::join!(one.get("/hold"), other.get("/hold"), async {
            v1.wait_held(1).await;
            v2.wait_held(1).await;
            let drained = if whole_version { "shop/v2".to_owned() } else { format!("shop/v2/{}", v2.address()) };
            assert_eq!(weir.cli(&["drain", &drained]).await.status.code(), Some(0), "{way:?} {drained}");
            for _ in 0..4 {
                assert_eq!(third.get("/").await.expect(200).origin(), "v1", "{way:?} {drained}");
            }
            v1.release();
            v2.release();
        });
        let mut origins = [first, second].map(|response| response.expect(200).origin().to_owned());
        origins.sort();
        assert_eq!(origins, ["v1", "v2"], "{way:?}: what was in flight has its response");
        assert_eq!(v2.requests(), 1, "{way:?}: no new request");
        eventually("the endpoint's idle connections are closed", async || v2.connections() == 0).await;
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_drain_cut_total", &[]), 0.0, "{way:?}");
        assert_eq!(metrics.value("weir_upstream_errors_total", &[]), 0.0, "{way:?}");
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_cut_and_told_why() {
    for way in WAYS {
        let scene = Setup { keys: "drain: { requests: 100ms }\n    ", ..Setup::default() }.start(way).await;
        let (weir, v1) = (&scene.weir, &scene.v1);
        let mut client = Client::connect(way.protocol(), &scene.web).await;
        let (response, ()) = tokio::join!(client.get("/hold"), async {
            v1.wait_held(1).await;
            assert_eq!(weir.cli(&["drain", "shop/v1"]).await.status.code(), Some(0));
        });
        let response = response.expect(503);
        assert_eq!(response.header("weir-error"), "drain_deadline", "{way:?}");
        assert_eq!(response.announced_close, !HTTP2_CLIENT.contains(&way), "{way:?}");
        let line = lines(weir, 1).await.pop().unwrap();
        assert_eq!((&line["status"], &line["cause"]), (&503.into(), &"drain_deadline".into()), "{way:?}: {line}");
        let metrics = weir.metrics().await;
        let v1 = [("version", "v1")];
        assert_eq!(metrics.value("weir_drain_cut_total", &v1), 1.0, "{way:?}");
        assert_eq!(metrics.value("weir_requests_total", &[v1[0], ("code", "503")]), 1.0, "{way:?}");
        assert_eq!(metrics.value("weir_upstream_errors_total", &[]), 0.0, "{way:?}: the version is not to blame");
        scene.weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_its_endpoint_closed_is_not_used_again() {
    for way in WAYS {
        let scene = Setup::default().start(way).await;
        let mut client = Client::connect(way.protocol(), &scene.web).await;
        for request in [Request::get("/close-after"), Request::post("/close-after", "x")] {
            for _ in 0..3 {
                client.send(&request).await.expect(200);
                eventually("the endpoint closed its connection", async || scene.v1.connections() == 0).await;
            }
        }
        client.send(&Request::post("/", "x")).await.expect(200);
        let metrics = scene.weir.metrics().await;
        assert_eq!(metrics.value("weir_upstream_errors_total", &[]), 0.0, "{way:?}");
        assert_eq!(metrics.value("weir_upstream_retries_total", &[]), 0.0, "{way:?}");
        scene.weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_in_its_request_is_told_so_and_no_endpoint_is_blamed() {
    for way in WAYS {
        let scene = Setup { keys: "timeouts: { idle: 100ms }\n    ", ..Setup::default() }.start(way).await;
        let (status, cause) = if HTTP2_CLIENT.contains(&way) {
            let h2 = H2::connect(&scene.web).await;
            let mut stream = h2.open(&Request::post("/sink", "x".repeat(100))).await;
            stream.write("abc").await.unwrap();
            let head = stream.head().await;
            (head.status, head.headers.get("weir-error").unwrap_or_default().to_owned())
        } else {
            let mut h1 = H1::connect(&scene.web).await;
            h1.write_raw("POST /sink HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 100\r\n\r\nabc").await;
            let response = h1.read_response("POST").await.unwrap();
            assert!(response.announced_close, "{way:?}");
            (response.status, response.header("weir-error").to_owned())
        };
        assert_eq!((status, &*cause), (408, "slow_client"), "{way:?}");
        let line = lines(&scene.weir, 1).await.pop().unwrap();
        assert_eq!((&line["status"], &line["cause"]), (&408.into(), &"slow_client".into()), "{way:?}: {line}");
        let metrics = scene.weir.metrics().await;
        assert_eq!(metrics.value("weir_requests_total", &[("version", "v1"), ("code", "408")]), 1.0, "{way:?}");
        assert_eq!(metrics.value("weir_upstream_errors_total", &[]), 0.0, "{way:?}");
        scene.weir.stop().await;
    }
}
