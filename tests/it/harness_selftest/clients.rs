//! Plain requests: bodies both ways, framings, interim responses, journal, life of an origin.

use serde_json::{Value, json};

use crate::harness::client::{Ending, Failure};
use crate::harness::origin::Progress;
use crate::harness::wire::{Checksum, PATTERN_PIECE, pattern};
use crate::harness::{Client, H1, H2, Load, Origin, Protocol, Request, Target, eventually, over_both};

/// The first bytes of what `/bytes/N` and `/chunked/N` serve.
fn expected(length: usize) -> Vec<u8> {
    let pieces = (0..length).step_by(PATTERN_PIECE);
    pieces.flat_map(|from| pattern(from as u64, PATTERN_PIECE.min(length - from))).collect()
}

#[tokio::test]
async fn an_origin_answers_both_protocols_on_one_port_with_its_name() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    let h2 = H2::connect(origin.address()).await;
    let request = Request::get("/").nonce("one");
    for (response, version) in
        [(h1.send(&request).await, http::Version::HTTP_11), (h2.send(&request).await, http::Version::HTTP_2)]
    {
        assert_eq!((response.status, response.version, response.text()), (200, version, "v1\n"));
        assert_eq!((response.origin(), response.header("x-nonce")), ("v1", "one"));
        assert!(!response.announced_close);
    }
    assert_eq!((origin.requests(), origin.accepted(), origin.connections()), (2, 2, 2));
    assert_eq!(origin.executions("one"), 2);
}

over_both!(a_client_speaks_the_protocol_that_it_is_told_and_hears_when_it_shall_go);

async fn a_client_speaks_the_protocol_that_it_is_told_and_hears_when_it_shall_go(protocol: Protocol) {
    let origin = Origin::start("v1").await;
    let version = if protocol == Protocol::Http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
    let mut client = Client::connect(protocol, origin.address()).await;
    for response in [client.get("/").await, client.try_send(&Request::post("/echo", "x")).await.unwrap()] {
        assert_eq!((response.status, response.version), (200, version));
    }
    assert!(client.is_open().await);
    let ledger = Load::at(origin.address()).clients(protocol, 3).count(30).run().await;
    ledger.assert_clean();
    assert_eq!(ledger.counts().connections, if protocol == Protocol::Http2 { 1 } else { 3 });

    let held = Request::get("/hold");
    let mut busy = Client::connect(protocol, origin.address()).await;
    let (held, ()) = tokio::join!(busy.send(&held), async {
        origin.wait_held(1).await;
        tokio::join!(origin.stop(), async {
            if let Client::Http2(h2) = &client {
                h2.wait_goaway().await;
            }
            client.ended().await;
            origin.release();
        });
    });
    assert!(held.announced_close && !client.is_open().await);
    assert!(matches!(Client::try_connect(protocol, origin.address()).await, Err(Failure::Refused(_))));

    origin.restart().await;
    let mut client = Client::connect(protocol, origin.address()).await;
    if let Client::Http2(_) = client {
        client.get("/close-after").await;
        client.told_to_go().await;
    }
}

#[tokio::test]
async fn an_origin_listens_on_ipv6_and_unix_sockets_too() {
    let dir = tempfile::tempdir().unwrap();
    let unix = Origin::plan("unix").unix(dir.path().join("o.sock")).start().await;
    let ipv6 = Origin::plan("ipv6").ipv6().start().await;
    for origin in [&unix, &ipv6] {
        assert_eq!(H1::connect(origin.address()).await.get("/").await.origin(), origin.name());
        assert_eq!(H2::connect(origin.address()).await.get("/").await.origin(), origin.name());
    }
    assert!(unix.address().to_string().starts_with("unix:/"));
    assert!(ipv6.address().to_string().starts_with("[::1]:"));
}

#[tokio::test]
async fn one_connection_carries_many_requests_of_all_framings() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    let h2 = H2::connect(origin.address()).await;
    for length in [0, 1, 100_000] {
        for path in [format!("/bytes/{length}"), format!("/chunked/{length}")] {
            assert_eq!(h1.get(&path).await.body, expected(length), "{path} by HTTP/1");
            assert_eq!(h2.get(&path).await.body, expected(length), "{path} by HTTP/2");
        }
    }
    assert_eq!(h1.get("/bytes/7").await.header("content-length"), "7");
    assert_eq!(h1.get("/chunked/7").await.header("content-length"), "");
    let head = h1.send(&Request::new("HEAD", "/bytes/7")).await;
    assert_eq!((head.header("content-length"), head.body.len()), ("7", 0));
    assert_eq!(h2.send(&Request::new("HEAD", "/bytes/7")).await.body.len(), 0);
    for status in [204, 304, 404, 503] {
        assert_eq!(h1.get(&format!("/status/{status}")).await.status, status);
        assert_eq!(h2.get(&format!("/status/{status}")).await.status, status);
    }
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn uploads_arrive_whole_with_their_trailers() {
    let origin = Origin::start("v1").await;
    let body = expected(300_000);
    let by_length = Request::post("/sink", body.clone());
    let in_chunks = by_length.clone().trailer("x-after", "all");
    let mut h1 = H1::connect(origin.address()).await;
    let h2 = H2::connect(origin.address()).await;
    for (request, trailers) in [(by_length, json!([])), (in_chunks, json!([["x-after", "all"]]))] {
        let seen = json!({"length": 300_000, "checksum": Checksum::of(&body).to_string(), "trailers": trailers});
        assert_eq!(h1.send(&request).await.json::<Value>(), seen);
        assert_eq!(h2.send(&request).await.json::<Value>(), seen);
    }
}

#[tokio::test]
async fn echo_streams_both_ways_at_once() {
    let origin = Origin::start("v1").await;
    // More than all socket buffers together hold: it ends only if both directions move.
    let request = Request::post("/echo", expected(16 << 20)).trailer("x-after", "all");
    for response in [
        H1::connect(origin.address()).await.send(&request).await,
        H2::connect(origin.address()).await.send(&request).await,
    ] {
        assert_eq!(response.checksum(), Checksum::of(&request.body));
        assert_eq!(response.trailers.get("x-after"), Some("all"));
    }
    let h2 = H2::connect(origin.address()).await;
    let mut stream = h2.open(&Request::post("/echo", "").chunked()).await;
    for word in ["one", "two"] {
        stream.write(word).await.unwrap();
        assert_eq!(stream.piece().await.unwrap().as_deref(), Some(word.as_bytes()));
    }
    stream.finish();
    assert_eq!(stream.piece().await.unwrap(), None);
}

#[tokio::test]
async fn interim_responses_and_trailers_are_seen() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    let h2 = H2::connect(origin.address()).await;
    for response in [h1.get("/early-hints").await, h2.get("/early-hints").await] {
        assert_eq!(response.interim.len(), 1);
        assert_eq!(response.interim[0].status, 103);
        assert!(response.interim[0].headers.get("link").is_some());
        assert_eq!(response.status, 200);
    }
    for response in [h1.get("/trailers").await, h2.get("/trailers").await] {
        assert_eq!((response.text(), response.trailers.get("x-trailer")), ("before\n", Some("after")));
    }
    let upload = Request::post("/sink", "body").expect_continue();
    for request in [upload.clone(), upload.clone().target("/continue")] {
        let response = h1.send(&request).await;
        assert_eq!(response.interim.iter().map(|head| head.status).collect::<Vec<_>>(), [100]);
        assert_eq!(response.json::<Value>()["length"], 4);
    }
    let response = h1.send(&Request::post("/continue", "body")).await;
    assert_eq!((response.interim.len(), response.json::<Value>()["length"].as_u64()), (1, Some(4)));
    let refused = h1.send(&upload.target("/refuse-body")).await;
    assert_eq!((refused.status, refused.interim.len(), refused.announced_close), (413, 0, true));
    assert_eq!(h2.send(&Request::post("/refuse-body", expected(4 << 20))).await.status, 413);
    assert_eq!(h2.get("/").await.status, 200);
}

#[tokio::test]
async fn what_an_origin_received_is_on_record() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    let request = Request::get("/headers?q=1").host("a.test").header("X-Two", "a").header("x-two", "b").nonce("n");
    let seen: Value = h1.send(&request).await.json();
    assert_eq!((&seen["method"], &seen["target"]), (&json!("GET"), &json!("/headers?q=1")));
    assert_eq!(seen["headers"], json!([["Host", "a.test"], ["X-Two", "a"], ["x-two", "b"], ["x-nonce", "n"]]));
    let seen: Value = H2::connect(origin.address()).await.send(&request).await.json();
    assert_eq!((&seen["authority"], &seen["version"]), (&json!("a.test"), &json!("HTTP/2.0")));
    let done = || origin.entry("n").filter(|entry| entry.progress == Progress::Completed);
    let entry = eventually("the second request is complete", async || done()).await;
    assert_eq!((entry.connection, entry.authority.as_deref()), (2, Some("a.test")));
    assert_eq!(entry.headers.all("x-two"), ["a", "b"]);
    assert_eq!((entry.target.as_str(), entry.version), ("/headers?q=1", http::Version::HTTP_2));
    let methods: Vec<_> = origin.journal().into_iter().map(|entry| entry.method).collect();
    assert_eq!(methods, ["GET", "GET"]);
}

#[tokio::test]
async fn held_requests_are_answered_when_released_and_forgotten_when_cancelled() {
    let origin = Origin::start("v1").await;
    let h2 = H2::connect(origin.address()).await;
    let cancelled = h2.open(&Request::get("/hold").nonce("cancelled")).await;
    let gone = H1::connect(origin.address()).await;
    let gone = tokio::spawn(async move {
        let mut gone = gone;
        gone.get("/hold").await
    });
    origin.wait_held(2).await;
    cancelled.cancel();
    gone.abort();
    origin.wait_held(0).await;
    let broken = || origin.entry("cancelled").is_some_and(|entry| entry.progress == Progress::Broken);
    eventually("the journal says that it broke", async || broken()).await;

    let (a, b) = (Request::get("/hold"), Request::get("/hold"));
    let story = async {
        origin.wait_held(2).await;
        origin.release_one();
        origin.wait_held(1).await;
        assert_eq!(origin.release(), 1);
    };
    let (a, b, ()) = tokio::join!(h2.send(&a), h2.send(&b), story);
    assert_eq!((a.status, b.status), (200, 200));
    assert_eq!(h2.get("/delay/5").await.status, 200);
    assert_eq!(h2.get("/drip/3/1").await.text(), "0\n1\n2\n");
}

#[tokio::test]
async fn raw_bytes_pipelining_and_http10_are_possible() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    h1.write_raw("GET /status/201 HTTP/1.1\r\n\r\nGET /status/202 HT").await;
    assert_eq!(h1.read_response("GET").await.unwrap().status, 201);
    h1.write_raw("TP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(h1.read_response("GET").await.unwrap().status, 202);
    h1.write_raw("no HTTP\r\n\r\n").await;
    assert_eq!(h1.read_response("GET").await.unwrap().status, 400);
    assert_eq!(h1.ended().await, Ending::Eof);

    let mut old = H1::connect(origin.address()).await;
    let response = old.send(&Request::get("/chunked/9").http10()).await;
    assert_eq!((response.body.len(), old.announced_close()), (9, true));
    assert_eq!(old.ended().await, Ending::Eof);

    let mut early = H1::connect(Target::from(origin.address()).preamble("GET /status/203 HTTP/1.1\r\n\r\n")).await;
    assert_eq!(early.read_response("GET").await.unwrap().status, 203);

    let mut half = H1::connect(origin.address()).await;
    assert_eq!(half.open(&Request::get("/bytes/5")).await.status, 200);
    half.finish_writing().await;
    let mut received = 0;
    while let Some(piece) = half.piece().await.unwrap() {
        received += piece.len();
    }
    assert_eq!((received, half.ended().await), (5, Ending::Eof));
    drop((h1, old, early, half));
    H1::connect(origin.address()).await.reset();
    eventually("the reset connection is gone", async || origin.connections() == 0).await;
}

#[tokio::test]
async fn an_origin_stops_as_a_decent_server_and_dies_as_a_killed_one() {
    let origin = Origin::start("v1").await;
    let (mut idle, mut busy) = (H1::connect(origin.address()).await, H1::connect(origin.address()).await);
    let h2 = H2::connect(origin.address()).await;
    idle.get("/").await;
    h2.get("/").await;
    let hold = Request::get("/hold");
    let story = async {
        origin.wait_held(1).await;
        let ((), ()) = tokio::join!(origin.stop(), async {
            assert_eq!(idle.ended().await, Ending::Eof);
            h2.wait_goaway().await;
            origin.release();
        });
    };
    let (response, ()) = tokio::join!(busy.send(&hold), story);
    assert!(response.announced_close);
    assert!(h2.announced_close() && !h2.ended().await.is_empty() && !h2.is_open());
    assert!(matches!(H1::try_connect(origin.address()).await, Err(Failure::Refused(_))));

    origin.restart().await;
    let mut h1 = H1::connect(origin.address()).await;
    let h2 = H2::connect(origin.address()).await;
    h1.get("/").await;
    h2.get("/").await;
    assert!(h1.is_open().await);
    origin.kill().await;
    h1.ended().await;
    h2.ended().await;
    assert!(!h1.is_open().await);
    assert!(matches!(H2::try_connect(origin.address()).await, Err(Failure::Refused(_))));
}

#[tokio::test]
async fn an_origin_that_is_down_refuses_until_it_is_started() {
    let origin = Origin::plan("v1").down();
    assert!(matches!(H1::try_connect(origin.address()).await, Err(Failure::Refused(_))));
    origin.restart().await;
    assert_eq!(H1::connect(origin.address()).await.get("/").await.origin(), "v1");
}
