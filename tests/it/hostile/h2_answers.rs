//! HTTP/2 endpoints that answer oddly: what clients of both protocols get of fields that concern a connection, of odd
//! lengths and of trailers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::h2_endpoint::{DATA, END_HEADERS, END_STREAM, Endpoint, HEADERS, OK, Peer, frame};
use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Origin, Request, Target, Weir, express_lane, shop};

/// Fields of an answer whose body is `abc`, and the status that clients get.
const ROWS: &[(&[(&str, &str)], u16)] = &[
    (&[], 200),
    (&[("te", "trailers")], 200),
    // Malformed (RFC 9113 §8.2.2).
    (&[("te", "x")], 502),
    (&[("connection", "close")], 502),
    (&[("keep-alive", "timeout=5")], 502),
    (&[("proxy-connection", "x")], 502),
    (&[("upgrade", "h2c")], 502),
    (&[("transfer-encoding", "chunked")], 502),
    // Lengths.
    (&[("content-length", "3")], 200),
    (&[("content-length", "03")], 200),
    (&[("content-length", "3"), ("content-length", "03")], 200),
    (&[("content-length", "")], 502),
    (&[("content-length", "+3")], 502),
    (&[("content-length", "3, 3")], 502),
    (&[("content-length", "18446744073709551619")], 502),
];

/// A field that no table holds (RFC 7541 §6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_a_connection_reaches_nobody_and_lengths_are_plain() {
    let row = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&row);
    let endpoint = Endpoint::start(move |mut peer: Peer, _| {
        let asked = Arc::clone(&asked);
        async move {
            loop {
                let stream = peer.frame().await?.stream;
                let fields = ROWS[asked.load(Ordering::SeqCst)].0;
                let private = [literal("te", "trailers"), literal("weir-error", "x")].concat();
                let hints = [&[8, 3][..], b"103", &private].concat();
                let head = fields.iter().fold(OK.to_vec(), |head, (name, value)| [head, literal(name, value)].concat());
                let trailers = [private, literal("x-after", "all")].concat();
                let parts = [
                    frame(HEADERS, END_HEADERS, stream, &hints),
                    frame(HEADERS, END_HEADERS, stream, &head),
                    frame(DATA, 0, stream, b"abc"),
                    frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers),
                ];
                peer.send_all(&parts.concat()).await?;
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    let h2 = H2::connect(&web).await;
    for (number, (fields, status)) in ROWS.iter().enumerate() {
        row.store(number, Ordering::SeqCst);
        let over_h1 = H1::connect(&web).await.get("/").await;
        let over_h2 = h2.get("/").await;
        assert_eq!(over_h1.announced_close, *status != 200, "{fields:?}: {over_h1:?}");
        assert_eq!(over_h2.trailers.get("x-after").is_some(), *status == 200, "{fields:?}");
        for seen in [over_h1, over_h2] {
            assert_eq!(seen.status, *status, "{fields:?}: {seen:?}");
            let heads = seen.interim.iter().map(|head| &head.headers).chain([&seen.headers, &seen.trailers]);
            for head in heads {
                assert!(head.get("te").is_none(), "{fields:?}: {seen:?}");
            }
            if *status == 200 {
                assert_eq!((seen.text(), seen.header("weir-error")), ("abc", ""), "{fields:?}: {seen:?}");
                assert!(seen.interim.iter().all(|head| head.headers.get("weir-error").is_none()), "{seen:?}");
                assert!(seen.trailers.get("weir-error").is_none(), "{seen:?}");
                assert!(["", "3"].contains(&seen.header("content-length")), "{fields:?}: {seen:?}");
            }
        }
    }
    assert_eq!(endpoint.accepted(), 1, "it is the stream's error");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_as_far_as_their_lane_knows_any() {
    for protocol in ["http1", "h2"] {
        let v1 = Origin::start("v1").await;
        let yaml = shop(&[(&v1, 100.0)]).changed("    split:", &format!("    protocol: {protocol}\n    split:"));
        let weir = Weir::start(&yaml).await;
        let web = Target::from(weir.address("web").await);
        let upload = Request::post("/sink", "hello").trailer("x-after", "all");
        let (mut h1, h2) = (H1::connect(&web).await, H2::connect(&web).await);
        // The engine passes none of requests, and of responses those between HTTP/2 and HTTP/2. It carries HTTP/1 to
        // HTTP/2 on both lanes.
        let (by_h1, by_h2) = (protocol == "http1" && express_lane(), express_lane());
        for (seen, passes) in [(h1.send(&upload).await, by_h1), (h2.send(&upload).await, by_h2)] {
            let passed = if passes { serde_json::json!([["x-after", "all"]]) } else { serde_json::json!([]) };
            let seen = seen.expect(200).json::<serde_json::Value>();
            assert_eq!((&seen["length"], &seen["trailers"]), (&5.into(), &passed), "{protocol}");
        }
        let by_h2 = by_h2 || protocol == "h2";
        assert_eq!(h2.get("/trailers").await.expect(200).trailers.get("x-trailer").is_some(), by_h2, "{protocol}");
        assert_eq!(h1.get("/trailers").await.expect(200).trailers.get("x-trailer").is_some(), by_h1, "{protocol}");
        weir.stop().await;
    }
}
