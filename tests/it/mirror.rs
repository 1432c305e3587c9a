//! Copies of requests for a mirror: who gets what of them, and that the requests themselves notice nothing.

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::origin::Progress;
use crate::harness::{
    Client, Fault, FaultyOrigin, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop,
};

/// All requests go to `v1`; `v2` is the mirror.
fn mirrored(v1: &Origin, v2: &Origin, protocol: &str, mirror: &str) -> String {
    let keys = format!("    protocol: {protocol}\n    mirror: {{ to: v2, {mirror} }}\n    split:");
    shop(&[(v1, 100.0), (v2, 0.0)]).changed("    split:", &keys)
}

/// As [`mirrored`], over HTTP/1.1, with a mirror that fails as it is told.
fn mirrored_badly(v1: &Origin, v2: &FaultyOrigin, mirror: &str) -> String {
    let placeholder = Origin::plan("v2").down();
    mirrored(v1, &placeholder, "http1", mirror).changed(&placeholder.address().to_string(), &v2.address().to_string())
}

async fn client(protocol: Protocol, weir: &Weir) -> Client {
    Client::connect(protocol, &Target::from(weir.address("web").await)).await
}

/// Waits until this became of so many copies.
async fn copies(weir: &Weir, outcome: &str, count: usize) {
    let seen = async || {
        let seen = weir.metrics().await.value("weir_mirror_requests_total", &[("version", "v2"), ("outcome", outcome)]);
        if seen == count as f64 { Ok(()) } else { Err(seen) }
    };
    eventually(&format!("{count} copies are {outcome}"), seen).await;
}

over_both!(the_share_is_exact_and_a_copy_is_marked_and_has_no_credentials);

async fn the_share_is_exact_and_a_copy_is_marked_and_has_no_credentials(protocol: Protocol) {
    for upstream in ["http1", "h2"] {
        let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
        let weir = Weir::start(&mirrored(&v1, &v2, upstream, "share: 25")).await;
        let mut client = client(protocol, &weir).await;
        for at in 0..40 {
            let request = Request::get(&format!("/a?{at}"))
                .header("authorization", "Bearer secret")
                .header("cookie", "session=1")
                .header("weir-mirror", "forged")
                .header("X-Kept", "yes");
            assert_eq!(client.send(&request).await.expect(200).origin(), "v1");
        }
        copies(&weir, "answered", 10).await;
        assert_eq!((v1.requests(), v2.requests()), (40, 10), "{upstream}");
        for copy in v2.journal() {
            let original = v1.journal().into_iter().find(|entry| entry.target == copy.target).expect("it was copied");
            let field = |name: &str| copy.headers.get(name);
            assert_eq!(field("weir-mirror"), Some("v1"), "{copy:?}");
            assert_eq!((field("weir-version"), field("weir-version-reason")), (Some("v2"), Some("mirror")));
            assert_eq!((field("authorization"), field("cookie"), field("x-kept")), (None, None, Some("yes")));
            assert_eq!(field("x-request-id"), original.headers.get("x-request-id"));
            assert_eq!((&copy.method, &copy.authority), (&original.method, &original.authority));
            assert_eq!(original.headers.get("authorization"), Some("Bearer secret"));
            assert_eq!(original.headers.get("weir-mirror"), None, "nobody else says it");
        }
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_requests_total", &[("version", "v1")]), 40.0);
        assert_eq!(metrics.value("weir_requests_total", &[("version", "v2")]), 0.0, "a copy is nobody's request");
        weir.stop().await;
    }
}

over_both!(what_is_not_safe_is_copied_where_the_section_says_so_with_a_small_body);

async fn what_is_not_safe_is_copied_where_the_section_says_so_with_a_small_body(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let v2 = FaultyOrigin::start("v2").await;
    let weir = Weir::start(&mirrored_badly(&v1, &v2, "share: 100")).await;
    let mut client = client(protocol, &weir).await;
    client.send(&Request::post("/", "order")).await.expect(200);
    client.get("/").await.expect(200);
    copies(&weir, "answered", 1).await;
    assert_eq!(v2.arrived().iter().map(|copy| &*copy.method).collect::<Vec<_>>(), ["GET"]);

    weir.reconfigure(&mirrored_badly(&v1, &v2, "methods: [POST], max_body: 20KiB")).await;
    let body = "order ".repeat(3_000);
    client.send(&Request::post("/sink", body.clone())).await.expect(200);
    copies(&weir, "answered", 2).await;
    client.send(&Request::post("/sink", "")).await.expect(200);
    copies(&weir, "answered", 3).await;
    assert_eq!(v2.arrived()[1].body, body.as_bytes());
    assert_eq!(v2.arrived()[2].body, b"");
    for size in [30_000, 200_000] {
        client.send(&Request::post("/sink", "x".repeat(size))).await.expect(200);
    }
    copies(&weir, "body", 2).await;
    client.get("/").await.expect(200);
    client.send(&Request::post("/", "last")).await.expect(200);
    copies(&weir, "answered", 4).await;
    assert_eq!(v2.arrived()[3].body, b"last");
    weir.stop().await;
}

over_both!(a_body_is_copied_for_a_mirror_that_speaks_http_2);

async fn a_body_is_copied_for_a_mirror_that_speaks_http_2(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&mirrored(&v1, &v2, "h2", "methods: [PUT], max_body: 20KiB")).await;
    let mut client = client(protocol, &weir).await;
    for size in [18_000, 30_000] {
        client.send(&Request::post("/sink", "x".repeat(size)).method("PUT")).await.expect(200);
    }
    copies(&weir, "answered", 1).await;
    copies(&weir, "body", 1).await;
    let journal = v2.journal();
    assert_eq!(journal.len(), 1);
    // Its server refuses a body of another length.
    assert_eq!((journal[0].headers.get("content-length"), journal[0].progress), (Some("18000"), Progress::Completed));
    weir.stop().await;
}

over_both!(a_mirror_that_fails_costs_its_requests_nothing);

async fn a_mirror_that_fails_costs_its_requests_nothing(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let v2 = FaultyOrigin::start("v2").await;
    let weir = Weir::start(&mirrored_badly(&v1, &v2, "timeout: 200ms")).await;
    let mut client = client(protocol, &weir).await;
    let mut failed = 0;
    let slow = Duration::from_secs(60);
    for fault in [
        Fault::ResetBefore,
        Fault::ResetMidBody,
        Fault::Garbage,
        Fault::SlowFirstByte(slow),
        Fault::SlowBody(slow),
        Fault::HalfOpen,
        Fault::BlackHole,
        Fault::Refuse,
    ] {
        v2.set(fault).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.expect(200).origin(), "v1", "{fault:?}");
        }
        failed += 10;
        copies(&weir, "failed", failed).await;
    }
    assert_eq!(v1.requests(), failed, "each once");
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_requests_total", &[("version", "v1"), ("code", "200")]), failed as f64);
    assert_eq!(metrics.value("weir_upstream_errors_total", &[]), 0.0);
    weir.stop().await;
}

over_both!(no_more_copies_are_under_way_than_may_be);

async fn no_more_copies_are_under_way_than_may_be(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&mirrored(&v1, &v2, "http1", "max_in_flight: 3, timeout: 60s")).await;
    let mut clients = Vec::new();
    v2.slow(Duration::from_secs(3600));
    for _ in 0..2 {
        clients.push(client(protocol, &weir).await);
    }
    for at in 0..20 {
        assert_eq!(clients[at % 2].get("/").await.expect(200).origin(), "v1");
    }
    copies(&weir, "overflow", 17).await;
    eventually("three copies arrived", async || v2.requests() == 3).await;
    assert_eq!(v2.connections(), 3);
    weir.stop().await;
}

over_both!(a_mirror_comes_and_goes_with_a_reload_and_only_gets_what_is_another_versions);

async fn a_mirror_comes_and_goes_with_a_reload_and_only_gets_what_is_another_versions(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let plain = shop(&[(&v1, 50.0), (&v2, 50.0)]);
    let with = |mirror: &str| plain.changed("    split:", &format!("    mirror: {{ {mirror} }}\n    split:"));
    let weir = Weir::start(&plain).await;
    let mut client = client(protocol, &weir).await;
    for _ in 0..10 {
        client.get("/").await.expect(200);
    }
    assert_eq!((v1.requests(), v2.requests()), (5, 5));
    weir.reconfigure(&with("to: v2")).await;
    for _ in 0..10 {
        client.get("/").await.expect(200);
    }
    copies(&weir, "answered", 5).await;
    assert_eq!((v1.requests(), v2.requests()), (10, 15));
    // Nothing is to be copied of a version's own requests.
    weir.reconfigure(&with("to: v1, from: v2, share: 50")).await;
    for _ in 0..40 {
        client.get("/").await.expect(200);
    }
    eventually("a half of 20 is copied", async || v1.requests() == 40).await;
    weir.reconfigure(&plain).await;
    for _ in 0..10 {
        client.get("/").await.expect(200);
    }
    assert_eq!((v1.requests(), v2.requests()), (45, 40));
    weir.stop().await;
}

/// Waits until so many comparisons came out so.
async fn compared(weir: &Weir, result: &str, count: usize) {
    let labels = [("version", "v2"), ("result", result)];
    let seen = async || {
        let seen = weir.metrics().await.value("weir_mirror_compared_total", &labels);
        if seen == count as f64 { Ok(()) } else { Err(seen) }
    };
    eventually(&format!("{count} comparisons are {result}"), seen).await;
}

over_both!(responses_to_copies_are_compared_where_the_section_says_so);

async fn responses_to_copies_are_compared_where_the_section_says_so(protocol: Protocol) {
    for upstream in ["http1", "h2"] {
        // They say the same but for a header that says who they are.
        let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
        let yaml = mirrored(&v1, &v2, upstream, "compare: true, methods: [GET, POST]");
        let weir = Weir::start(&yaml).await;
        let mut client = client(protocol, &weir).await;
        for _ in 0..5 {
            client.get("/bytes/3000").await.expect(200);
        }
        compared(&weir, "same", 5).await;
        assert_eq!((v1.requests(), v2.requests()), (10, 5), "the copy goes to both");
        let marked = v1.journal().iter().filter(|entry| entry.headers.get("weir-mirror") == Some("v1")).count();
        assert_eq!(marked, 5, "and says what it is");

        v2.fail(100);
        client.get("/").await.expect(200);
        compared(&weir, "status", 1).await;
        v2.fail(0);
        // What is not safe is copied once.
        client.send(&Request::post("/sink", "order")).await.expect(200);
        copies(&weir, "answered", 6).await;
        assert_eq!(v1.journal().iter().filter(|entry| entry.method == "POST").count(), 1);
        // A body that is too long to be read to its end says nothing.
        client.get("/bytes/2000000").await.expect(200);
        compared(&weir, "unknown", 1).await;
        // Each says its name in the body of this one.
        client.get("/").await.expect(200);
        compared(&weir, "body", 1).await;
        let keys = yaml.changed("compare: true", "compare: true, compare_headers: [x-origin]");
        weir.reconfigure(&keys).await;
        client.get("/bytes/3000").await.expect(200);
        compared(&weir, "headers", 1).await;
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_requests_total", &[("version", "v1")]), 10.0, "those of clients");
        weir.stop().await;
    }
}

over_both!(a_mirror_that_does_not_answer_is_compared_with_nothing);

async fn a_mirror_that_does_not_answer_is_compared_with_nothing(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let v2 = FaultyOrigin::failing("v2", Fault::HalfOpen).await;
    let weir = Weir::start(&mirrored_badly(&v1, &v2, "compare: true, timeout: 200ms")).await;
    let mut client = client(protocol, &weir).await;
    for _ in 0..3 {
        client.get("/").await.expect(200);
    }
    compared(&weir, "unknown", 3).await;
    copies(&weir, "failed", 3).await;
    weir.stop().await;
}

over_both!(a_mirror_whose_version_is_not_wanted_gets_nothing);

async fn a_mirror_whose_version_is_not_wanted_gets_nothing(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&mirrored(&v1, &v2, "http1", "share: 100")).await;
    let mut client = client(protocol, &weir).await;
    client.get("/").await.expect(200);
    copies(&weir, "answered", 1).await;
    for (at, command) in ["drain", "maint"].into_iter().enumerate() {
        assert!(weir.cli(&[command, "shop/v2"]).await.status.success());
        client.get("/").await.expect(200);
        copies(&weir, "failed", at + 1).await;
    }
    assert_eq!(v2.requests(), 1);
    weir.stop().await;
}

over_both!(copies_take_no_place_of_their_versions_clients);

async fn copies_take_no_place_of_their_versions_clients(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let yaml = mirrored(&v1, &v2, "http1", "from: v1, timeout: 60s").changed(
        "    split:",
        "    concurrency: { connections: 1, queue_timeout: 50ms }\n    override: { header: x-version, from: anyone }\n    split:",
    );
    let weir = Weir::start(&yaml).await;
    let mut client = client(protocol, &weir).await;
    for _ in 0..3 {
        assert_eq!(client.get("/delay/1").await.expect(200).origin(), "v1");
    }
    v2.slow(Duration::from_secs(3600));
    for _ in 0..3 {
        assert_eq!(client.get("/").await.expect(200).origin(), "v1");
    }
    eventually("the copies are held", async || v2.requests() == 6).await;
    let named = Request::get("/status/204").header("x-version", "v2");
    assert_eq!(client.send(&named).await.expect(204).origin(), "v2");
    weir.stop().await;
}
