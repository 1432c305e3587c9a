//! Which lane carries a request, and that a connection may change lanes from request to request.

use crate::harness::Fixture as _;
use crate::harness::{
    Authority, Client, H1, H2, Origin, Protocol, Request, Target, Weir, eventually, express_lane, over_both, shop,
};

/// Requests that each lane has carried: express, general.
async fn carried(weir: &Weir) -> (f64, f64) {
    let metrics = weir.metrics().await;
    let of = |lane| metrics.value("weir_lane_requests_total", &[("lane", lane)]);
    (of("express"), of("general"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_changes_lanes_from_request_to_request() {
    if !express_lane() {
        return;
    }
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    let mut h1 = H1::connect(&web).await;
    h1.get("/").await.expect(200);
    h1.send(&Request::post("/sink", "abc").chunked()).await.expect(200);
    assert_eq!(carried(&weir).await, (2.0, 0.0));
    // A Connection that nominates a field is for the general lane; then the connection comes back.
    h1.send(&Request::get("/").header("connection", "keep-alive, x-hop")).await.expect(200);
    assert_eq!(carried(&weir).await, (2.0, 1.0));
    h1.get("/").await.expect(200);
    assert_eq!(carried(&weir).await, (3.0, 1.0));
    H2::connect(&web).await.get("/").await.expect(200);
    assert_eq!(carried(&weir).await, (4.0, 1.0));
    weir.stop().await;
}

over_both!(a_tls_connection_that_its_endpoint_closed_is_not_used_again);

async fn a_tls_connection_that_its_endpoint_closed_is_not_used_again(protocol: Protocol) {
    let authority = Authority::new("upstream");
    let v1 = Origin::plan("v1").tls(&authority.server(&["v1.test"])).start().await;
    let tls = "    tls: { ca: \"{dir}/ca.crt\", sni: v1.test }\n    split:";
    let plan = Weir::plan(&shop(&[(&v1, 100.0)]).changed("    split:", tls));
    authority.write(plan.dir(), "ca");
    let weir = plan.start().await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    for _ in 0..5 {
        client.send(&Request::post("/close-after", "abc")).await.expect(200);
        eventually("the endpoint closed its connection", async || v1.connections() == 0).await;
    }
    assert_eq!(weir.metrics().await.value("weir_upstream_errors_total", &[]), 0.0);
    weir.stop().await;
}
