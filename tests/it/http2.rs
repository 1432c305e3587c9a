//! HTTP/2 clients: small frames, windows, going away, and how a stream that fails says so.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::harness::Fixture as _;
use crate::harness::frame::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, block, data, frame, post};
use crate::harness::{Authority, Failure, Frames, H2, Origin, Request, Target, Tls, Weir, eventually, shop};

/// The service's endpoints speak HTTP/2.
fn http2(yaml: &str) -> String {
    yaml.changed("    split:", "    protocol: h2\n    split:")
}

/// The largest stream id: what the first of two GOAWAYs says (RFC 9113 §6.8).
pub(crate) const EVERY_STREAM: u32 = (1 << 31) - 1;

#[tokio::test(flavor = "multi_thread")]
async fn small_and_empty_data_frames_end_no_connection() {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let plain = "address: \"127.0.0.1:0\" }\ntelemetry";
    let tls = "address: \"127.0.0.1:0\" }\n  - { name: tls, address: \"127.0.0.1:0\", tls: { cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" } }\ntelemetry";
    let plan = Weir::plan(&shop(&[(&v1, 100.0)]).changed(plain, tls));
    authority.server(&["shop.test"]).write(plan.dir(), "tls");
    let weir = plan.start().await;
    let trust = Tls::trusting(&authority, "shop.test");
    let targets = [Target::from(weir.address("web").await), Target::from(weir.address("tls").await).tls(&trust)];
    for target in targets {
        let h2 = H2::connect(&target).await;
        // More than the h2 crate takes in a connection's whole life.
        for at in 0..150 {
            let mut stream = h2.open(&Request::post("/sink", "").chunked()).await;
            for piece in ["", "abc", ""] {
                stream.write(piece).await.unwrap_or_else(|failure| panic!("request {at}: {failure}"));
            }
            stream.finish();
            assert_eq!(stream.head().await.status, 200, "request {at}");
        }
        let streams = join_all((0..4).map(async |_| {
            let mut stream = h2.open(&Request::post("/sink", "").chunked()).await;
            for at in 0..10_000 {
                stream.write("abc").await.unwrap_or_else(|failure| panic!("message {at}: {failure}"));
            }
            stream.finish();
            assert_eq!(stream.head().await.status, 200);
            let mut body = Vec::new();
            while let Some(piece) = stream.piece().await.unwrap() {
                body.extend_from_slice(&piece);
            }
            let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(told["length"], 30_000);
        }));
        streams.await;
        assert!(h2.goaways().is_empty(), "{:?}", h2.goaways());
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_must_wait_take_nothing_from_other_calls() {
    // An endpoint over HTTP/2 has a window of its own for all of them.
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let h2 = H2::connect(weir.address("web").await).await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut stream = h2.open(&Request::post("/hold", "").chunked()).await;
        waiting.push(tokio::spawn(async move {
            let piece = vec![b'x'; 64 * 1024];
            while stream.write(piece.clone()).await.is_ok() {}
        }));
    }
    let call = Request::post("/echo", vec![b'y'; 20_000]);
    // Until all six are stuck a call proves nothing; then each one must pass.
    for at in 0..40 {
        let answer = timeout(Duration::from_secs(20), h2.send(&call)).await;
        assert_eq!(answer.unwrap_or_else(|_| panic!("call {at} waits")).expect(200).body.len(), 20_000);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_told_before_it_is_closed() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("\nservices:", "\nlimits: { keepalive: 1s }\nservices:");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let h2 = H2::connect(&web).await;
    h2.get("/").await.expect(200);
    let first = h2.wait_goaway().await;
    assert_eq!((first.last_stream, first.code), (EVERY_STREAM, 0), "nothing is refused yet");
    h2.ended().await;
    // A request in flight is no idleness.
    let h2 = H2::connect(&web).await;
    assert_eq!(h2.get("/delay/1500").await.status, 200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_the_servers_error() {
    for yaml in [shop, |versions: &[(&Origin, f64)]| http2(&shop(versions))] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&[(&v1, 100.0)])).await;
        let h2 = H2::connect(weir.address("web").await).await;
        for path in ["/reset-mid", "/close-mid"] {
            match h2.try_send(&Request::get(path)).await {
                Err(Failure::Truncated { how, .. }) => {
                    assert!(how.contains("unexpected internal error"), "{path}: {how}");
                }
                other => panic!("{path}: {other:?}"),
            }
        }
        h2.get("/").await.expect(200);
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_reloaded_file_apply_to_new_connections() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]);
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let old = H2::connect(&web).await;
    old.get("/").await.expect(200);
    let limits = "\nlimits: { h2_streams: 2, header_bytes: 1KiB, keepalive: 1s }\nservices:";
    weir.reconfigure(&yaml.changed("\nservices:", limits)).await;
    let new = H2::connect(&web).await;
    new.get("/").await.expect(200);
    let large = Request::get("/").header("x-large", "a".repeat(2_000));
    assert_eq!(new.send(&large).await.status, 431);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(new.open(&Request::get("/hold")).await);
    }
    eventually("both are at the origin", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 2.0)
        .await;
    assert!(timeout(Duration::from_millis(300), new.get("/")).await.is_err(), "the client waits for its turn");
    held.into_iter().for_each(crate::harness::client::H2Stream::cancel);
    new.wait_goaway().await;
    assert!(old.is_open(), "no reload closes a connection");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_that_frame_the_body_are_an_error_of_their_stream() {
    let v1 = Origin::start("v1").await;
    for yaml in [shop(&[(&v1, 100.0)]), http2(&shop(&[(&v1, 100.0)]))] {
        let weir = Weir::start(&yaml).await;
        let h2 = H2::connect(&Target::from(weir.address("web").await)).await;
        let malformed = Request::post("/sink", "hello").trailer("content-length", "5");
        let failure = h2.try_send(&malformed).await.expect_err("an answer to half a request");
        assert!(matches!(failure, Failure::ResetBeforeByte(_)), "{failure:?}");
        h2.send(&Request::post("/sink", "hello").trailer("x-checksum", "5")).await.expect(200);
        assert!(h2.goaways().is_empty());
        weir.stop().await;
    }
}

/// A header block may come in parts, and between two of them the answer may come to its end.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_that_are_late_for_their_request_belong_to_no_other() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let mut client = Frames::connect(&Target::from(weir.address("web").await)).await;
    let begun = frame(HEADERS, END_STREAM, 1, &block(&[("x-late", b"1")]));
    client.send(&[post(1, "/hold", &[]), data(1, 0, b"a part"), begun].concat()).await;
    eventually("the endpoint has the request", async || v1.held() == 1).await;
    v1.release();
    client.until("the answer", |seen| seen.on(1).over()).await.unwrap();
    let rest = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x-later", b"1")]));
    client.send(&[rest, post(3, "/sink", &[]), data(3, END_STREAM, b"all of it")].concat()).await;
    client.until("the other answer", |seen| seen.on(3).over()).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&client.seen().on(3).body).unwrap();
    assert_eq!((&told["length"], &told["trailers"]), (&9.into(), &serde_json::json!([])));
    weir.stop().await;
}
