//! Requests that are too much of something.

use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Origin, Request, Target, Weir, shop};

async fn start(yaml: impl FnOnce(String) -> String) -> (Origin, Weir, Target) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&yaml(shop(&[(&v1, 100.0)]))).await;
    let web = Target::from(weir.address("web").await);
    (v1, weir, web)
}

fn fields(count: usize) -> Request {
    (0..count).fold(Request::get("/"), |request, at| request.header(&format!("x-field-{at}"), "1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_over_a_limit_are_refused_and_those_at_it_are_not() {
    let (v1, weir, web) = start(|yaml| yaml).await;
    // `Host` is one of the 100; `:authority` of HTTP/2 is none.
    H1::connect(&web).await.send(&fields(99)).await.expect(200);
    H2::connect(&web).await.send(&fields(99)).await.expect(200);
    let uri = |length: usize| Request::get(&format!("/{}", "a".repeat(length - 1)));
    H1::connect(&web).await.send(&uri(8 * 1024)).await.expect(200);
    H2::connect(&web).await.send(&uri(8 * 1024)).await.expect(200);
    let before = v1.requests();
    let refused = [
        (fields(100), fields(101), 431),
        (
            Request::get("/").header("x-large", vec![b'a'; 40 * 1024]),
            Request::get("/").header("x-large", vec![b'a'; 40 * 1024]),
            431,
        ),
        (uri(9 * 1024), uri(9 * 1024), 414),
    ];
    for (over_h1, over_h2, status) in refused {
        H1::connect(&web).await.send(&over_h1).await.expect(status);
        let h2 = H2::connect(&web).await;
        h2.send(&over_h2).await.expect(status);
        h2.get("/status/204").await.expect(204);
    }
    assert_eq!(v1.requests() - before, 3, "only what was well");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_413_in_every_framing() {
    for protocol in ["http1", "h2"] {
        for keys in
            [("limits: { body_bytes: 20KiB }\n", ""), ("limits: { body_bytes: 1MiB }\n", "max_body: 20KiB\n    ")]
        {
            let (_v1, weir, web) = start(|yaml| {
                yaml.changed("services:\n", &format!("{}services:\n", keys.0))
                    .changed("    split:", &format!("    {}protocol: {protocol}\n    split:", keys.1))
            })
            .await;
            let at = vec![b'x'; 20 * 1024];
            for length in [20 * 1024 + 1, 200 * 1024] {
                let over = vec![b'x'; length];
                for (fits, request) in [
                    (Request::post("/sink", at.clone()), Request::post("/sink", over.clone())),
                    (Request::post("/sink", at.clone()).chunked(), Request::post("/sink", over.clone()).chunked()),
                ] {
                    let what = format!("{length} bytes to {protocol}, {request:.60?}");
                    H1::connect(&web).await.send(&fits).await.expect(200);
                    let response = H1::connect(&web).await.send(&request).await;
                    assert_eq!(
                        (response.status, response.header("weir-error")),
                        (413, "body_too_large"),
                        "HTTP/1: {what}"
                    );
                    let h2 = H2::connect(&web).await;
                    h2.send(&fits).await.expect(200);
                    let response = h2.send(&request).await;
                    assert_eq!(
                        (response.status, response.header("weir-error")),
                        (413, "body_too_large"),
                        "HTTP/2: {what}"
                    );
                    h2.get("/").await.expect(200);
                }
            }
            crate::harness::eventually("nothing is in flight", async || {
                weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0
            })
            .await;
            weir.stop().await;
        }
    }
}
