//! Requests that are too much of something.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw;
use crate::harness::Fixture as _;
use crate::harness::frame::{GOAWAY, data, frame_head, preface};
use crate::harness::{H1, H2, Origin, Request, Target, Weir, eventually, express_lane, shop};

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
            eventually("nothing is in flight", async || {
                weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0
            })
            .await;
            weir.stop().await;
        }
    }
}

/// Closing a socket while bytes come resets it, and the answer may be lost with it (RFC 9112 §9.6). What still comes is
/// read for a moment only, and a busy machine may need more than one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_sends_gets_its_answer_and_no_reset() {
    let (_v1, weir, web) =
        start(|yaml| yaml.changed("services:\n", "limits: { body_bytes: 20KiB }\nservices:\n")).await;
    let post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let on_stream_0 = [preface(), data(0, 0, b"x")].concat();
    let goaway = frame_head(8, GOAWAY, 0, 0);
    for (mut sent, answer) in [(post, &b"HTTP/1.1 413 "[..]), (on_stream_0, &goaway[..])] {
        let by_h2 = answer == goaway;
        if by_h2 && !express_lane() {
            eprintln!("skipped on the general lane: its engine closes at once");
            continue;
        }
        sent.resize(sent.len() + 100 * 1024, b'x');
        eventually("an answer and no reset", async || {
            let mut socket = raw::connect(&web).await;
            let mut read = Vec::new();
            socket.write_all(&sent).await?;
            socket.read_to_end(&mut read).await?;
            assert!(read.windows(answer.len()).any(|window| window == answer), "HTTP/2: {by_h2}");
            for _ in 0..10 {
                socket.write_all(&[b'x'; 1024]).await?;
            }
            socket.take_error()?.map_or(Ok(()), Err)
        })
        .await;
    }
    weir.stop().await;
}
