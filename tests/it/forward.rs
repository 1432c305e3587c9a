//! Forwarding: what reaches the origin, what comes back, and what goes wrong on the way.

use crate::harness::Fixture as _;
use crate::harness::{
    Client, H1, H2, Load, Origin, Protocol, Request, Target, Weir, eventually, express_lane, over_both, shop,
};
use crate::http1::on_both_lanes;

async fn one(origin: &Origin) -> (Weir, Target) {
    let weir = Weir::start(&shop(&[(origin, 100.0)])).await;
    let target = Target::from(weir.address("web").await);
    (weir, target)
}

over_both!(forwarded_headers_are_ours_and_not_the_clients);

async fn forwarded_headers_are_ours_and_not_the_clients(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut client = Client::connect(protocol, &web).await;
    let request = Request::get("/headers")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=6.6.6.6")
        .header("x-request-id", "mine");
    let seen = client.send(&request).await.expect(200);
    let seen = seen.text();
    assert!(!seen.contains("6.6.6.6") && !seen.contains("mine"), "{seen}");
    let via = if protocol == Protocol::Http2 { "2.0 weir" } else { "1.1 weir" };
    assert!(seen.contains("127.0.0.1") && seen.contains(via) && seen.contains("x-request-id"), "{seen}");
    weir.stop().await;
}

over_both!(nothing_matches_is_a_small_plain_404);

async fn nothing_matches_is_a_small_plain_404(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("path: /", "host: other.test");
    let weir = Weir::start(&yaml).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    let response = client.send(&Request::get("/")).await.expect(404);
    assert_eq!(response.header("weir-error"), "no_route");
    assert!(
        client.send(&Request::get("/").host("other.test")).await.expect(200).text().len() < 200,
        "the connection lives"
    );
    weir.stop().await;
}

over_both!(bodies_pass_both_ways_in_every_framing);

async fn bodies_pass_both_ways_in_every_framing(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let body = vec![b'x'; 300_000];
    for request in [Request::post("/echo", body.clone()), Request::post("/echo", body.clone()).chunked()] {
        // An answer that begins before the request's end closes its HTTP/1 connection, so each has its own.
        let mut client = Client::connect(protocol, &web).await;
        assert_eq!(client.send(&request).await.expect(200).body.len(), body.len());
    }
    let mut client = Client::connect(protocol, &web).await;
    for path in ["/bytes/1000000", "/chunked/1000000"] {
        assert_eq!(client.get(path).await.expect(200).body.len(), 1_000_000, "{path}");
    }
    weir.stop().await;
}

over_both!(answers_without_a_body_keep_the_length_that_they_say);

async fn answers_without_a_body_keep_the_length_that_they_say(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut client = Client::connect(protocol, &web).await;
    for (method, path, status, length) in [
        ("HEAD", "/bytes/300000", 200, "300000"),
        ("HEAD", "/chunked/300000", 200, ""),
        ("HEAD", "/status/404", 404, "4"),
        ("GET", "/status/204", 204, ""),
        ("GET", "/status/304", 304, ""),
        ("GET", "/bytes/0", 200, "0"),
    ] {
        let response = client.send(&Request::new(method, path)).await.expect(status);
        assert_eq!((response.header("content-length"), response.body.len()), (length, 0), "{method} {path}");
        // And what follows is an answer of its own.
        assert_eq!(client.get("/bytes/10").await.expect(200).body.len(), 10, "after {method} {path}");
    }
    weir.stop().await;
}

over_both!(an_answer_before_the_end_of_its_upload_arrives_whole);

/// The endpoint does not read on; who uploads learns why, and goes on with something else.
async fn an_answer_before_the_end_of_its_upload_arrives_whole(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let upload = Request::post("/refuse-body", vec![b'x'; 8 << 20]);
    for request in [upload.clone(), upload.chunked()] {
        let mut client = Client::connect(protocol, &web).await;
        let response = client.send(&request).await.expect(413);
        assert_eq!((response.text(), response.origin()), ("too large\n", "v1"));
        if protocol == Protocol::Http2 {
            client.get("/").await.expect(200);
            assert!(client.is_open().await);
        }
    }
    eventually("nothing is in flight", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0)
        .await;
    weir.stop().await;
}

over_both!(interim_responses_reach_the_client);

async fn interim_responses_reach_the_client(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut client = Client::connect(protocol, &web).await;
    // Of an HTTP/2 client the engine keeps them to itself.
    let passed = protocol == Protocol::Http1 || express_lane();
    let response = client.get("/early-hints").await.expect(200);
    assert_eq!(response.interim.iter().any(|interim| interim.status == 103), passed, "{:?}", response.interim);
    // Over HTTP/2 an expectation ends here; what the endpoint says all the same is passed.
    let post = Request::post("/continue", "hello");
    let post = if protocol == Protocol::Http1 { post.expect_continue() } else { post };
    let response = client.send(&post).await.expect(200);
    assert_eq!(response.interim.iter().any(|interim| interim.status == 100), passed, "{:?}", response.interim);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_gets_no_chunks() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut h1 = H1::connect(&web).await;
    let response = h1.send(&Request::get("/chunked/5000").http10()).await.expect(200);
    assert_eq!(response.body.len(), 5_000);
    assert_eq!(response.header("transfer-encoding"), "");
    weir.stop().await;
}

over_both!(broken_origins_become_typed_answers);

async fn broken_origins_become_typed_answers(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    for (path, cause) in [
        ("/reset-before", "reset"),
        ("/close-before", "reset"),
        ("/garbage", "protocol"),
        ("/two-lengths", "protocol"),
        ("/unsolicited-101", "protocol"),
    ] {
        let mut client = Client::connect(protocol, &web).await;
        let response = client.get(path).await.expect(502);
        assert_eq!(response.header("weir-error"), cause, "{path}");
        let mut next = Client::connect(protocol, &web).await;
        next.get("/").await.expect(200);
    }
    weir.stop().await;
}

over_both!(a_body_that_cannot_be_read_is_never_an_empty_success);

async fn a_body_that_cannot_be_read_is_never_an_empty_success(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut client = Client::connect(protocol, &web).await;
    // The head may be with the client before its body turns out to be none; then the end says so.
    if let Ok(response) = client.try_send(&Request::get("/bad-chunk")).await {
        assert_eq!((response.status, response.header("weir-error")), (502, "protocol"));
    } else {
        assert!(!express_lane(), "this lane reads both at once");
    }
    weir.stop().await;
}

over_both!(an_odd_head_is_forgiven);

async fn an_odd_head_is_forgiven(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let response = Client::connect(protocol, &web).await.get("/odd-head").await.expect(200);
    assert_eq!((response.header("server"), &*response.body), ("IIS", &b"ok"[..]));
    weir.stop().await;
}

over_both!(a_truncated_response_is_visible_to_the_client);

async fn a_truncated_response_is_visible_to_the_client(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    for path in ["/reset-mid", "/close-mid"] {
        let mut client = Client::connect(protocol, &web).await;
        assert!(client.try_send(&Request::get(path)).await.is_err(), "{path}");
    }
    weir.stop().await;
}

over_both!(a_dead_reused_connection_costs_an_idempotent_request_nothing);

async fn a_dead_reused_connection_costs_an_idempotent_request_nothing(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut client = Client::connect(protocol, &web).await;
    client.get("/").await.expect(200);
    client.get("/").await.expect(200);
    assert_eq!(v1.accepted(), 1, "the connection is reused");
    client.get("/stale").await.expect(200);
    client.get("/").await.expect(200);
    let metrics = weir.metrics().await;
    assert_eq!(metrics.value("weir_upstream_retries_total", &[("reason", "reused")]), 1.0);
    client.get("/stale").await.expect(200);
    client.send(&Request::post("/", "x")).await.expect(502);
    weir.stop().await;
}

over_both!(a_refused_connection_is_tried_on_another_endpoint);

async fn a_refused_connection_is_tried_on_another_endpoint(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let down = Origin::plan("down").down();
    let yaml = shop(&[(&v1, 100.0)])
        .changed(&format!("\"{}\"", v1.address()), &format!("\"{}\", \"{}\"", v1.address(), down.address()));
    let weir = Weir::start(&yaml).await;
    let ledger = Load::at(weir.address("web").await).clients(protocol, 2).count(200).run().await;
    ledger.assert_clean();
    let metrics = weir.metrics().await;
    let retries = metrics.value("weir_upstream_retries_total", &[("reason", "connect")]);
    assert!(retries > 0.0 && retries == metrics.value("weir_upstream_errors_total", &[("kind", "connect")]));
    weir.stop().await;
}

over_both!(no_ready_endpoint_is_503);

async fn no_ready_endpoint_is_503(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("{ endpoints:", "{ state: maint, endpoints:");
    let weir = Weir::start(&yaml).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    assert_eq!(client.get("/").await.expect(503).header("weir-error"), "no_endpoint");
    assert_eq!(weir.metrics().await.value("weir_upstream_errors_total", &[("kind", "no_endpoint")]), 1.0);
    weir.stop().await;
}

over_both!(a_silent_origin_is_504_in_time);

async fn a_silent_origin_is_504_in_time(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("    split:", "    timeouts: { first_byte: 300ms }\n    split:");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    assert_eq!(client.get("/no-answer").await.expect(504).header("weir-error"), "timeout");
    // Informational answers are none.
    let mut client = Client::connect(protocol, &web).await;
    assert_eq!(client.get("/informs/30/100").await.expect(504).header("weir-error"), "timeout");
    assert_eq!(weir.metrics().await.value("weir_upstream_errors_total", &[("kind", "timeout")]), 2.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_answered_and_counted() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let mut h1 = H1::connect(&web).await;
    h1.write_raw("GET / HTTP/1.1\r\nhost shop.test\r\n\r\n").await;
    assert_eq!(h1.read_response("GET").await.unwrap().status, 400);
    let mut h1 = H1::connect(&web).await;
    h1.write_raw("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert_eq!(h1.read_response("GET").await.unwrap().status, 400);
    eventually("both are counted", async || {
        weir.metrics().await.value("weir_requests_total", &[("code", "400")]) == 2.0
    })
    .await;
    assert_eq!(v1.requests(), 0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_in_its_upload_is_not_the_endpoints_fault() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("    split:", "    timeouts: { idle: 300ms }\n    split:");
    let weir = Weir::start(&yaml).await;
    let mut h1 = H1::connect(&Target::from(weir.address("web").await)).await;
    h1.write_raw("POST /sink HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 100\r\n\r\nabc").await;
    let response = h1.read_response("POST").await.unwrap();
    assert_eq!((response.status, response.header("weir-error")), (408, "slow_client"));
    eventually("it is counted", async || weir.metrics().await.value("weir_requests_total", &[("code", "408")]) == 1.0)
        .await;
    assert_eq!(weir.metrics().await.value("weir_upstream_errors_total", &[]), 0.0, "and no endpoint is blamed");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_of_an_http2_client_are_one_field() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let h2 = H2::connect(&web).await;
    let crumbs = |count: usize| {
        let request = (0..count).fold(Request::get("/"), |request, at| request.header("cookie", format!("c{at}=v")));
        (0..8).fold(request, |request, at| request.header(&format!("x-{at}"), "v"))
    };
    // As many fields as over HTTP/1.1, where they are one: below the limit of 100.
    h2.send(&crumbs(95)).await.expect(200);
    let entry = v1.journal().pop().unwrap();
    let whole: Vec<String> = (0..95).map(|at| format!("c{at}=v")).collect();
    assert_eq!(entry.headers.all("cookie"), [whole.join("; ")]);
    // And as many bytes.
    let request = (0..9).fold(Request::get("/"), |request, _| request.header("cookie", "c".repeat(4_000)));
    h2.send(&request).await.expect(431);
    assert_eq!(v1.journal().len(), 1);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_ends_with_its_http2_head_has_a_length_where_one_is_expected() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = one(&v1).await;
    let h2 = H2::connect(&web).await;
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("GET", None), ("DELETE", None)]
    {
        h2.send(&Request::new(method, "/")).await.expect(200);
        let entry = v1.journal().pop().unwrap();
        assert_eq!(entry.headers.get("content-length"), length, "{method}");
        assert_eq!(entry.headers.get("transfer-encoding"), None, "{method}");
    }
    weir.stop().await;
}

over_both!(trailers_go_both_ways_except_those_that_frame_route_or_authenticate);

/// The general lane's engine passes no trailers; who needs them has the express lane.
async fn trailers_go_both_ways_except_those_that_frame_route_or_authenticate(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir =
        Weir::start(&shop(&[(&v1, 100.0)]).changed("shutdown:", "runtime: { express_lane: true }\nshutdown:")).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    let mut forbidden = vec![("Host", "evil"), ("x-forwarded-for", "10.9.9.9"), ("cookie", "a=b")];
    // Over HTTP/2 one that frames the body is malformed.
    if protocol == Protocol::Http1 {
        forbidden.insert(0, ("content-length", "9"));
    }
    for size in [10, 300_000] {
        let mut request = Request::post("/echo", "x".repeat(size)).trailer("X-Checksum", "abc").chunked();
        for (name, value) in &forbidden {
            request = request.trailer(name, value);
        }
        let response = client.send(&request.trailer("server-timing", "a;dur=1")).await;
        assert_eq!((response.status, response.body.len()), (200, size));
        let trailers: Vec<_> = response.trailers.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert_eq!(trailers, ["x-checksum", "server-timing"]);
    }
    let mut request = Request::post("/sink", "abc").trailer("x-after", "all").chunked();
    // Nor is there one of the connection.
    if protocol == Protocol::Http1 {
        request = request.trailer("te", "gzip");
    }
    let response = client.send(&request).await;
    let seen: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(seen["trailers"], serde_json::json!([["x-after", "all"]]));
    let response = client.send(&Request::get("/trailers")).await;
    assert_eq!((response.text(), response.trailers.get("x-trailer")), ("before\n", Some("after")));
    // The connections to the endpoint are as good as before.
    assert_eq!(weir.metrics().await.value("weir_upstream_errors_total", &[]), 0.0);
    weir.stop().await;
}

/// Connections to endpoints are counted, on both lanes and with HTTP/2 before them, and kept for as many as come at once.
#[tokio::test(flavor = "multi_thread")]
async fn connections_made_are_counted_and_as_many_are_kept_as_requests_come_at_once() {
    on_both_lanes("", async |weir, web, _| {
        let (mut h1, h2) = (H1::connect(web).await, H2::connect(web).await);
        let made = async || weir.metrics().await.value("weir_upstream_connects_total", &[("version", "v1")]);
        // Those of different workers are kept apart: no more than one connection for each of the clients' two.
        for _ in 0..20 {
            assert_eq!(h1.send(&Request::get("/")).await.status, 200);
            assert_eq!(h2.send(&Request::get("/")).await.status, 200);
        }
        let few = made().await;
        assert!((1.0..=2.0).contains(&few), "{few}");

        // More at once than were kept by default before.
        let mut clients = Vec::new();
        for _ in 0..150 {
            clients.push(H1::connect(web).await);
        }
        let before = made().await;
        for _ in 0..3 {
            let sent = clients.iter_mut().map(async |client| client.send(&Request::get("/delay/1000")).await.status);
            let statuses = futures_util::future::join_all(sent).await;
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        }
        let more = made().await - before;
        assert!((129.0..=150.0).contains(&more), "{more}: one for each client, and each is used again");
    })
    .await;
}
