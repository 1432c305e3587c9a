//! What is tried again and what never is, and what a failure costs.

use std::time::{Duration, Instant};

use crate::harness::Fixture as _;
use crate::harness::fault::BlackHole;
use crate::harness::{
    Client, Fault, FaultyOrigin, H1, H2, Load, Origin, Protocol, Request, Sse, Target, Weir, eventually, over_both,
    shop,
};
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

over_both!(a_connect_failure_is_tried_again_on_every_endpoint_and_no_more);

async fn a_connect_failure_is_tried_again_on_every_endpoint_and_no_more(protocol: Protocol) {
    let (first, second, third) = (Origin::plan("a").down(), Origin::plan("b").down(), Origin::plan("c").down());
    let weir = Weir::start(&endpoints(&first, &[first.address(), second.address(), third.address()])).await;
    let web = Target::from(weir.address("web").await);
    for at in 1..=5 {
        let mut client = Client::connect(protocol, &web).await;
        let response = client.send(&Request::post("/", "x")).await.expect(502);
        assert_eq!(response.header("weir-error"), "connect");
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_upstream_errors_total", &[("kind", "connect")]), f64::from(3 * at));
        assert_eq!(metrics.value("weir_upstream_retries_total", &[("reason", "connect")]), f64::from(2 * at));
    }
    weir.stop().await;
}

/// One version with these endpoints, and these keys of its service.
async fn version_of(all: &[&FaultyOrigin], keys: &str) -> (Weir, Target) {
    let v1 = Origin::plan("v1").down();
    let addresses: Vec<Address> = all.iter().map(|origin| origin.address()).collect();
    let yaml = endpoints(&v1, &addresses.iter().collect::<Vec<_>>());
    // Whose failures are to be tried again must not be ejected for them.
    let yaml = service(&yaml, "outlier_detection: { consecutive_errors: 0, connect_failures: 0 }");
    let weir = Weir::start(&if keys.is_empty() { yaml } else { service(&yaml, keys) }).await;
    let web = Target::from(weir.address("web").await);
    (weir, web)
}

/// How often each of these origins had a request with this nonce.
fn arrivals(all: &[&FaultyOrigin], nonce: &str) -> Vec<usize> {
    let had = |origin: &FaultyOrigin| origin.arrived().iter().filter(|one| one.nonce.as_deref() == Some(nonce)).count();
    all.iter().map(|origin| had(origin)).collect()
}

over_both!(one_of_three_endpoints_that_fails_before_its_answer_costs_no_idempotent_request);

async fn one_of_three_endpoints_that_fails_before_its_answer_costs_no_idempotent_request(protocol: Protocol) {
    let (a, b, c) = (FaultyOrigin::start("a").await, FaultyOrigin::start("b").await, FaultyOrigin::start("c").await);
    let all = [&a, &b, &c];
    let (weir, web) = version_of(&all, "balance: round_robin").await;
    let body = "order ".repeat(5_000);
    for fault in [Fault::Refuse, Fault::ResetBefore, Fault::ResetMidHead, Fault::Garbage] {
        a.set(fault).await;
        let mut tried_twice = 0;
        for at in 0..9 {
            let mut client = Client::connect(protocol, &web).await;
            let nonce = format!("{fault:?}-{at}");
            client.send(&Request::get("/").nonce(&nonce)).await.expect(200);
            // One more, so that the turns of four requests meet three endpoints by turns.
            client.get("/").await.expect(200);
            tried_twice += arrivals(&all, &nonce).iter().sum::<usize>() - 1;
            let nonce = format!("put-{nonce}");
            client.send(&Request::post("/", body.clone()).method("PUT").nonce(&nonce)).await.expect(200);
            tried_twice += arrivals(&all, &nonce).iter().sum::<usize>() - 1;
            let got = all.iter().flat_map(|origin| origin.arrived()).filter(|one| one.nonce.as_ref() == Some(&nonce));
            assert!(got.inspect(|one| assert_eq!(one.method, "PUT")).all(|one| one.body == body.as_bytes()), "{nonce}");
            // What may have an effect is sent once, unless nobody can have had it.
            let nonce = format!("post-{nonce}");
            let posted = client.send(&Request::post("/", "order").nonce(&nonce)).await;
            assert_eq!(arrivals(&all, &nonce).iter().sum::<usize>(), 1, "{nonce}");
            assert!(posted.status == 200 || (fault != Fault::Refuse && posted.status == 502), "{posted:?}");
        }
        assert_eq!(tried_twice > 0, fault != Fault::Refuse, "{fault:?}: {tried_twice}");
    }
    idle(&weir).await;
    weir.stop().await;
}

over_both!(a_reset_is_tried_again_as_often_as_the_service_says_and_on_the_same_endpoint_if_there_is_no_other);

async fn a_reset_is_tried_again_as_often_as_the_service_says_and_on_the_same_endpoint_if_there_is_no_other(
    protocol: Protocol,
) {
    let only = FaultyOrigin::failing("a", Fault::ResetBefore).await;
    for (keys, tries) in [("attempts: 1", 1), ("on: [connect]", 1), ("attempts: 2", 2), ("", 3), ("attempts: 5", 5)] {
        let (weir, web) = version_of(&[&only], &format!("retry: {{ {keys} }}")).await;
        let mut client = Client::connect(protocol, &web).await;
        let response = client.send(&Request::get("/").nonce(keys)).await.expect(502);
        assert_eq!(response.header("weir-error"), "reset");
        assert_eq!(arrivals(&[&only], keys), [tries], "{keys}");
        let retries = weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "reset")]);
        assert_eq!(retries, (tries - 1) as f64, "{keys}");
        weir.stop().await;
    }
}

over_both!(a_body_beyond_what_is_kept_is_not_sent_again);

async fn a_body_beyond_what_is_kept_is_not_sent_again(protocol: Protocol) {
    let only = FaultyOrigin::failing("a", Fault::ResetBefore).await;
    let (weir, web) = version_of(&[&only], "retry: { max_body: 1KiB }").await;
    for (length, tries) in [(1_000, 3), (1_024, 3), (1_025, 1), (30_000, 1)] {
        let mut client = Client::connect(protocol, &web).await;
        let nonce = format!("{length}");
        let put = Request::post("/", "x".repeat(length)).method("PUT").nonce(&nonce);
        client.send(&put).await.expect(502);
        assert_eq!(arrivals(&[&only], &nonce), [tries], "{length}");
    }
    weir.stop().await;
}

over_both!(failures_do_not_become_a_storm_of_retries);

async fn failures_do_not_become_a_storm_of_retries(protocol: Protocol) {
    // Every request fails, so each would be tried three times; as long as they wait for one another.
    let only = FaultyOrigin::failing("a", Fault::SlowReset(Duration::from_millis(20))).await;
    let (weir, web) = version_of(&[&only], "").await;
    let ledger = Load::at(&web).clients(protocol, 60).count(1_500).run().await;
    assert_eq!(ledger.counts().statuses.keys().copied().collect::<Vec<_>>(), [502]);
    let metrics = weir.metrics().await;
    let retries = metrics.value("weir_upstream_retries_total", &[("reason", "reset")]);
    let attempts = only.requests();
    assert_eq!(attempts as f64, 1_500.0 + retries);
    assert!(retries > 30.0, "the budget has room for some: {retries}");
    assert!(attempts <= 1_500 * 12 / 10 + 3, "{attempts} attempts for 1,500 requests");
    assert!(metrics.value("weir_upstream_retry_overflow_total", &[]) > 1_000.0);
    idle(&weir).await;
    weir.stop().await;
}

/// Keys of a service that asks others after these statuses.
const STATUSES: &str = "balance: round_robin\n    retry: { on: [502, 503, 504], backoff: 1ms }";

over_both!(a_status_that_the_service_names_is_tried_again_elsewhere);

async fn a_status_that_the_service_names_is_tried_again_elsewhere(protocol: Protocol) {
    let (a, b) = (FaultyOrigin::start("a").await, FaultyOrigin::start("b").await);
    let all = [&a, &b];
    let (weir, web) = version_of(&all, STATUSES).await;
    let mut client = Client::connect(protocol, &web).await;
    for status in [502, 503, 504] {
        a.set(Fault::Status(status)).await;
        let mut asked = 0;
        for at in 0..10 {
            let nonce = format!("{status}-{at}");
            let put = Request::post("/", "order").method("PUT").nonce(&nonce);
            assert_eq!(client.send(&put).await.expect(200).body, "b");
            asked += arrivals(&all, &nonce)[0];
            assert_eq!(arrivals(&all, &nonce)[1], 1);
        }
        assert!(asked > 0, "{status}");
    }
    assert!(b.arrived().iter().all(|one| one.body == b"order"));
    // A POST gets what its endpoint says, and so does who is told to come later.
    let posts =
        [client.send(&Request::post("/", "x")).await.status, client.send(&Request::post("/", "x")).await.status];
    assert!(posts == [200, 504] || posts == [504, 200], "{posts:?}");
    a.set(Fault::RetryAfter(503)).await;
    let gets = [client.get("/").await.status, client.get("/").await.status];
    assert!(gets == [200, 503] || gets == [503, 200], "{gets:?}");
    // Where all say so, that is the answer.
    for origin in all {
        origin.set(Fault::Status(503)).await;
    }
    let response = client.send(&Request::get("/").nonce("last")).await.expect(503);
    assert!(response.headers.get("weir-error").is_none(), "{response:?}");
    assert_eq!(arrivals(&all, "last").iter().sum::<usize>(), 3);
    // Another status is nobody's business.
    a.set(Fault::Status(500)).await;
    b.set(Fault::Status(500)).await;
    client.send(&Request::get("/").nonce("500")).await.expect(500);
    assert_eq!(arrivals(&all, "500").iter().sum::<usize>(), 1);
    idle(&weir).await;
    weir.stop().await;
}

over_both!(a_status_is_passed_on_where_the_service_does_not_name_it);

async fn a_status_is_passed_on_where_the_service_does_not_name_it(protocol: Protocol) {
    let only = FaultyOrigin::failing("a", Fault::Status(503)).await;
    let (weir, web) = version_of(&[&only], "").await;
    Client::connect(protocol, &web).await.get("/").await.expect(503);
    assert_eq!(only.requests(), 1);
    weir.stop().await;
}

over_both!(a_stream_that_is_tried_again_harms_no_other_on_its_connection);

async fn a_stream_that_is_tried_again_harms_no_other_on_its_connection(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let yaml = service(&shop(&[(&v1, 100.0)]), "protocol: h2\n    retry: { on: [503], backoff: 1ms }");
    let weir = Weir::start(&yaml.changed("services:", "runtime: { threads: 1 }\nservices:")).await;
    let web = Target::from(weir.address("web").await);
    let held = H2::connect(&web).await;
    let held = tokio::spawn(async move { held.get("/hold").await });
    v1.wait_held(1).await;
    let mut client = Client::connect(protocol, &web).await;
    client.get("/status/503").await.expect(503);
    client.send(&Request::post("/status/503", "x".repeat(50_000)).method("PUT")).await.expect(503);
    assert_eq!((v1.requests(), v1.accepted()), (7, 1));
    let retries = weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "status")]);
    assert_eq!(retries, 4.0);
    v1.release();
    held.await.unwrap().expect(200);
    weir.stop().await;
}

over_both!(a_try_that_takes_too_long_is_made_elsewhere);

async fn a_try_that_takes_too_long_is_made_elsewhere(protocol: Protocol) {
    let (a, b) = (FaultyOrigin::start("a").await, FaultyOrigin::start("b").await);
    let all = [&a, &b];
    let keys = "balance: round_robin\n    retry: { per_try_timeout: 150ms }\n    timeouts: { first_byte: 600ms }";
    let (weir, web) = version_of(&all, keys).await;
    for fault in [Fault::HalfOpen, Fault::SlowFirstByte(Duration::from_secs(30))] {
        a.set(fault).await;
        let began = Instant::now();
        for _ in 0..4 {
            let mut client = Client::connect(protocol, &web).await;
            assert_eq!(client.get("/").await.expect(200).body, "b");
        }
        assert!(began.elapsed() >= Duration::from_millis(150), "{fault:?} was met");
        // A POST has all the time that there is, and one try.
        let mut times = Vec::new();
        for at in 0..2 {
            let (began, nonce) = (Instant::now(), format!("{fault:?}-{at}"));
            let mut client = Client::connect(protocol, &web).await;
            let response = client.send(&Request::post("/", "x").nonce(&nonce)).await;
            assert_eq!(arrivals(&all, &nonce)[1], usize::from(response.status == 200));
            if response.status != 200 {
                assert_eq!(response.expect(504).header("weir-error"), "timeout");
                times.push(began.elapsed());
            }
        }
        assert!(times.len() == 1 && times[0] >= Duration::from_millis(600), "{fault:?}: {times:?}");
    }
    let metrics = weir.metrics().await;
    let retries = metrics.value("weir_upstream_retries_total", &[("reason", "timeout")]);
    let errors = metrics.value("weir_upstream_errors_total", &[("kind", "timeout")]);
    assert!(retries >= 2.0, "{retries}");
    assert_eq!(errors, retries + 2.0, "each that was tried again, and the two POSTs");
    weir.stop().await;
}

over_both!(a_request_is_over_at_its_deadline_whatever_it_waits_for);

async fn a_request_is_over_at_its_deadline_whatever_it_waits_for(protocol: Protocol) {
    let only = FaultyOrigin::start("a").await;
    let keys =
        "retry: { attempts: 5, per_try_timeout: 200ms, backoff: 0s }\n    timeouts: { request: 500ms, connect: 30s }";
    let (weir, web) = version_of(&[&only], keys).await;
    let long = Duration::from_secs(30);
    for (fault, cause) in [
        (Fault::SlowFirstByte(long), Some("timeout")),
        (Fault::HalfOpen, Some("timeout")),
        (Fault::SlowBody(long), None),
        (Fault::BlackHole, Some("connect_timeout")),
    ] {
        only.set(fault).await;
        for request in [Request::get("/"), Request::post("/", "x")] {
            let began = Instant::now();
            let mut client = Client::connect(protocol, &web).await;
            let nonce = format!("{fault:?}-{}", request.method);
            match (client.try_send(&request.clone().nonce(&nonce)).await, cause) {
                (Ok(response), Some(cause)) => assert_eq!(response.expect(504).header("weir-error"), cause, "{nonce}"),
                (Err(_), None) => {}
                (other, _) => panic!("{nonce}: {other:?}"),
            }
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(490) && took < Duration::from_secs(5), "{nonce}: {took:?}");
            assert!(arrivals(&[&only], &nonce)[0] <= 3, "a try each 200 ms");
        }
    }
    idle(&weir).await;
    weir.stop().await;
}

over_both!(a_stream_goes_on_after_the_deadline_of_its_request);

async fn a_stream_goes_on_after_the_deadline_of_its_request(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&service(&shop(&[(&v1, 100.0)]), "timeouts: { request: 100ms }")).await;
    let web = Target::from(weir.address("web").await);
    let began = Instant::now();
    let mut events = Sse::open_over(protocol, &web, "/sse").await;
    events.next().await.unwrap();
    eventually("the deadline is over", async || began.elapsed() > Duration::from_millis(300)).await;
    v1.push("still here");
    assert_eq!(events.next().await.unwrap().as_deref(), Some("still here"));
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
