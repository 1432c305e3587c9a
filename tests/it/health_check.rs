//! Active health checks: endpoints are asked, and what they answer takes them out and brings them back.

use weir::admin::wire::CheckStatus;

use crate::harness::certs::Authority;
use crate::harness::{Fixture as _, Load, Origin, Request, Target, Weir, eventually, shop};
use crate::health::{health, until};

/// A service of these origins as endpoints of `v1`, with these keys, in which requests eject nobody.
fn checked(origins: &[&Origin], keys: &str) -> String {
    let list: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    let first = format!("\"{}\"", origins[0].address());
    let keys =
        format!("    outlier_detection: {{ consecutive_errors: 0, connect_failures: 0 }}\n    {keys}\n    split:");
    shop(&[(origins[0], 100.0)]).changed(&first, &list.join(", ")).changed("    split:", &keys)
}

/// The first check of it.
async fn first_check(weir: &Weir, origin: &Origin) -> CheckStatus {
    let status = weir.until("it was checked", |status| health(status, origin.address()).last_check.is_some()).await;
    health(&status, origin.address()).last_check.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_its_http_checks_is_out_until_it_passes_them() {
    for protocol in ["http1", "h2"] {
        let (good, bad) = (Origin::start("v1").await, Origin::start("bad").await);
        let check = "health: { http: { path: /healthz, host: shop.internal }, interval: 100ms, unhealthy_after: 2 }";
        let weir = Weir::start(&checked(&[&good, &bad], &format!("protocol: {protocol}\n    {check}"))).await;
        weir.until("it was checked", |status| {
            health(status, bad.address()).last_check.is_some_and(|check| check.passed)
        })
        .await;
        bad.fail(100);
        let out = until(&weir, bad.address(), "unhealthy").await;
        assert_eq!(out.why.as_deref(), Some("its check fails: status 500"));
        let load = Load::at(weir.address("web").await).request(Request::get("/")).keep_alive(4).count(200);
        load.run().await.assert_clean();
        let metrics = weir.metrics().await;
        let name = bad.address().to_string();
        let of_bad = ("endpoint", &*name);
        assert_eq!(metrics.value("weir_endpoint_up", &[of_bad]), 0.0);
        assert!(metrics.value("weir_endpoint_checks_total", &[of_bad, ("result", "fail")]) >= 2.0);
        bad.fail(0);
        until(&weir, bad.address(), "healthy").await;
        let before = bad.requests();
        Load::at(weir.address("web").await)
            .request(Request::get("/"))
            .keep_alive(4)
            .count(100)
            .run()
            .await
            .assert_clean();
        assert!(bad.requests() > before, "{protocol}");
        assert_eq!(weir.stderr().matches("an endpoint fails its checks").count(), 1);
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_what_the_file_says() {
    for (check, why) in [
        ("http: { path: /status/204, status: [200] }", Some("status 204")),
        ("http: { path: /status/204 }", None),
        ("http: { path: /status/404, status: [200-299, 404] }", None),
        ("http: { path: /no-answer }, timeout: 100ms", Some("no answer within 100ms")),
        (
            "http: { path: /informs/1000000000/0 }, timeout: 1m",
            Some("no answer: connection closed before message completed"),
        ),
        ("tcp: true", None),
    ] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&checked(&[&v1], &format!("health: {{ {check}, interval: 100ms }}"))).await;
        let found = first_check(&weir, &v1).await;
        assert_eq!((found.passed, found.why.as_deref()), (why.is_none(), why), "{check}");
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_starts_unhealthy_gets_nothing_before_its_first_check() {
    let (good, down) = (Origin::start("v1").await, Origin::plan("down").down());
    let weir = Weir::start(&checked(&[&good, &down], "health: { tcp: true, interval: 200ms, start: unhealthy }")).await;
    until(&weir, good.address(), "healthy").await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/")).keep_alive(4).count(100).run().await.assert_clean();
    let refused = health(&weir.status().await, down.address());
    assert_eq!((&*refused.status, refused.failures.len()), ("unhealthy", 0), "no request was tried there: {refused:?}");
    down.restart().await;
    until(&weir, down.address(), "healthy").await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_passes_ends_an_ejection() {
    let (first, second) = (Origin::start("v1").await, Origin::start("second").await);
    let yaml = checked(&[&first, &second], "health: { http: { path: / }, interval: 100ms }")
        .changed("consecutive_errors: 0", "consecutive_errors: 5, ejection_time: 1h");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/status/500")).keep_alive(2).count(50).run().await;
    assert!(weir.metrics().await.value("weir_endpoint_ejections_total", &[("reason", "consecutive_errors")]) >= 1.0);
    until(&weir, first.address(), "healthy").await;
    until(&weir, second.address(), "healthy").await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_check_asks_whether_a_service_is_served() {
    for (service, unknown) in
        [("", None), ("service: shop.Prices", None), ("service: shop.Orders", Some("gRPC status 5"))]
    {
        let (v1, other) = (Origin::start("v1").await, Origin::start("other").await);
        let check =
            format!("protocol: h2\n    health: {{ grpc: {{ {service} }}, interval: 100ms, unhealthy_after: 1 }}");
        let weir = Weir::start(&checked(&[&v1, &other], &check)).await;
        let first = first_check(&weir, &v1).await;
        assert_eq!(first.why.as_deref(), unknown, "{service}");
        if unknown.is_none() {
            v1.fail(100);
            let out = until(&weir, v1.address(), "unhealthy").await;
            assert_eq!(out.why.as_deref(), Some("its check fails: NOT_SERVING"));
            v1.fail(0);
            until(&weir, v1.address(), "healthy").await;
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_grpc_fails_its_check_and_is_tried_where_nobody_else_is() {
    let v1 = Origin::start("v1").await;
    let check = "protocol: h2\n    health: { grpc: {}, port: PORT, interval: 100ms }";
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port().to_string();
    let answers = tokio::spawn(async move {
        loop {
            let (mut client, _) = plain.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut client, answer).await.ok();
        }
    });
    let weir = Weir::start(&checked(&[&v1], &check.replace("PORT", &port))).await;
    let out = until(&weir, v1.address(), "unhealthy").await;
    assert!(out.why.as_deref().is_some_and(|why| why.starts_with("its check fails: no answer: ")), "{out:?}");
    // Nobody can take over, so it is tried all the same.
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/")).keep_alive(2).count(20).run().await.assert_clean();
    weir.stop().await;
    answers.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_speak_tls_as_requests_do() {
    let authority = Authority::new("the endpoints");
    for protocol in ["http1", "h2"] {
        let good = Origin::plan("v1").tls(&authority.server(&["v1.test"])).start().await;
        let bad = Origin::plan("bad").tls(&Authority::new("others").server(&["v1.test"])).start().await;
        let keys = format!(
            "protocol: {protocol}\n    tls: {{ ca: \"{{dir}}/ca.crt\", sni: v1.test }}\n    \
             health: {{ http: {{ path: /healthz }}, interval: 100ms }}"
        );
        let plan = Weir::plan(&checked(&[&good, &bad], &keys));
        authority.write(plan.dir(), "ca");
        let weir = plan.start().await;
        assert_eq!(first_check(&weir, &good).await.why, None);
        let why = until(&weir, bad.address(), "unhealthy").await.why.unwrap();
        assert!(why.contains("certificate"), "{why}");
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_outlives_a_reload_and_a_check_that_is_mended_or_taken_away_brings_back() {
    let (good, bad) = (Origin::start("v1").await, Origin::start("bad").await);
    let yaml = checked(&[&good, &bad], "health: { http: { path: /healthz }, interval: 100ms }");
    let weir = Weir::start(&yaml).await;
    bad.fail(100);
    let before = until(&weir, bad.address(), "unhealthy").await;
    weir.reconfigure(&yaml.changed("interval: 100ms", "interval: 1h, timeout: 500ms")).await;
    let after = health(&weir.status().await, bad.address());
    assert_eq!((&*after.status, &after.why), ("unhealthy", &before.why), "nothing has asked it since");
    assert!(after.out_seconds >= before.out_seconds);
    // The first answer to another question brings it back, well before the hour.
    weir.reconfigure(&yaml.changed("/healthz }, interval: 100ms", "/status/204 }, interval: 1h")).await;
    until(&weir, bad.address(), "healthy").await;
    let third = yaml.changed("/healthz }, interval: 100ms", "/status/503 }, interval: 100ms");
    weir.reconfigure(&third).await;
    until(&weir, bad.address(), "unhealthy").await;
    until(&weir, good.address(), "unhealthy").await;
    weir.reconfigure(&yaml.changed("    health: { http: { path: /healthz }, interval: 100ms }\n", "")).await;
    let back = until(&weir, bad.address(), "healthy").await;
    assert_eq!(back.last_check, None);
    until(&weir, good.address(), "healthy").await;
    let asked = bad.requests();
    let web = Target::from(weir.address("web").await);
    Load::at(&web).request(Request::get("/status/204")).keep_alive(2).count(100).run().await;
    let journal = bad.journal();
    assert!(journal.len() > asked && journal[asked..].iter().all(|entry| entry.target == "/status/204"));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_checks_of_its_own_and_those_in_maint_are_not_checked() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let yaml = shop(&[(&v1, 50.0), (&v2, 50.0)])
        .changed(
            &format!("[\"{}\"]", v2.address()),
            &format!("[\"{}\"], health: {{ tcp: true, interval: 100ms }}", v2.address()),
        )
        .changed("    split:", "    health: { http: { path: /healthz }, interval: 100ms }\n    split:");
    let weir = Weir::start(&yaml).await;
    first_check(&weir, &v1).await;
    first_check(&weir, &v2).await;
    assert!(v1.journal().iter().any(|entry| entry.target == "/healthz"));
    assert_eq!(v2.requests(), 0, "it is connected to");
    let checks =
        async |version: &str| weir.metrics().await.value("weir_endpoint_checks_total", &[("version", version)]);
    weir.cli(&["maint", "shop/v1"]).await;
    weir.cli(&["drain", "shop/v2"]).await;
    // One may be under way.
    let (asked, connected) = (v1.requests(), checks("v2").await);
    eventually("the one in drain is checked on", async || checks("v2").await > connected + 3.0).await;
    assert!(v1.requests() <= asked + 1, "the one in maint is not");
    weir.cli(&["ready", "shop/v1"]).await;
    eventually("it is checked again", async || v1.requests() > asked + 2).await;
    weir.stop().await;
}
