//! The split, counted from outside.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::harness::{
    Client, Load, Origin, Protocol, Request, Target, Weir, eventually, express_lane, over_both, shop,
};

#[tokio::test(flavor = "multi_thread")]
async fn ninety_ten_is_exact_over_both_protocols() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 90.0), (&v2, 10.0)])).await;
    let ledger = Load::at(weir.address("web").await).keep_alive(4).http2(1, 4).count(10_000).run().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2]);
    let canary = ledger.counts().version("v2");
    assert!((999..=1_001).contains(&canary), "{canary} of 10,000");
    weir.stop().await;
}

/// What `h2load -c8 -m16 -n20000` sends: as much at once as clients of HTTP/2 do, and nothing of it is lost or counted twice.
#[tokio::test(flavor = "multi_thread")]
async fn eight_connections_of_sixteen_streams_are_split_and_counted_to_the_request() {
    // The engine takes twice as long in a build that is not optimised.
    let requests: u64 = if express_lane() { 20_000 } else { 10_000 };
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 90.0), (&v2, 10.0)])).await;
    let began = Instant::now();
    let ledger = Load::at(weir.address("web").await).http2(8, 16).count(requests).run().await;
    eprintln!("{requests} requests took {:?}", began.elapsed());
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1, &v2]);
    let counts = ledger.counts();
    assert_eq!((counts.sent, counts.connections), (requests, 8), "{counts}");
    assert_eq!(counts.statuses, BTreeMap::from([(200, requests)]), "{counts}");
    let canary = counts.version("v2");
    assert!(canary.abs_diff(requests / 10) <= 1, "{counts}");
    // The last answers are recorded in the moment after their clients have them.
    let over = async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0;
    eventually("the last requests are recorded", over).await;
    let metrics = weir.metrics().await;
    for (origin, sent) in [(&v1, requests - canary), (&v2, canary)] {
        let version = [("version", origin.name())];
        assert_eq!((counts.version(origin.name()), origin.requests() as u64), (sent, sent), "{}", origin.name());
        for metric in ["weir_split_decisions_total", "weir_requests_total", "weir_request_duration_seconds_count"] {
            assert_eq!(metrics.value(metric, &version), sent as f64, "{metric} of {}", origin.name());
        }
    }
    assert_eq!(metrics.value("weir_requests_total", &[("code", "200")]), requests as f64);
    assert_eq!(metrics.value("weir_client_connections_accepted_total", &[("listener", "web")]), 8.0);
    for metric in ["weir_upstream_errors_total", "weir_upstream_retries_total", "weir_client_abuse_total"] {
        assert_eq!(metrics.value(metric, &[]).abs(), 0.0, "{metric}");
    }
    weir.stop().await;
}

over_both!(a_weight_of_zero_gets_nothing);

async fn a_weight_of_zero_gets_nothing(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 100.0), (&v2, 0.0)])).await;
    let ledger = Load::at(weir.address("web").await).clients(protocol, 4).count(2_000).run().await;
    ledger.assert_clean();
    assert_eq!((ledger.counts().version("v1"), v2.requests()), (2_000, 0));
    weir.stop().await;
}

over_both!(metrics_equal_what_clients_counted);

async fn metrics_equal_what_clients_counted(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 70.0), (&v2, 30.0)])).await;
    let web = weir.address("web").await;
    Load::at(web.clone()).clients(protocol, 6).count(1_000).run().await.assert_clean();
    let mut client = Client::connect(protocol, &Target::from(web)).await;
    for status in [404, 418, 500, 503] {
        client.send(&Request::get(&format!("/status/{status}"))).await.expect(status);
    }
    // The last answer is recorded in the moment after its client has it.
    eventually("the last request is recorded", async || {
        weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0
    })
    .await;
    let metrics = weir.metrics().await;
    let count = |labels: &[(&str, &str)]| metrics.value("weir_requests_total", labels);
    assert_eq!(count(&[("code", "200")]), 1_000.0);
    for code in ["404", "418", "500", "503"] {
        assert_eq!(count(&[("code", code)]), 1.0, "{code}");
    }
    assert_eq!(metrics.value("weir_request_duration_seconds_count", &[]), 1_004.0);
    assert_eq!(metrics.value("weir_split_decisions_total", &[("reason", "weight")]), 1_004.0);
    assert_eq!(metrics.value("weir_requests_in_flight", &[]), 0.0);
    weir.stop().await;
}
