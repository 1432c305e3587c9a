//! Small bodies are read whole before their endpoint hears of the request; larger ones, and those that pause, have a
//! connection of their own.

use std::time::{Duration, Instant};

use super::recorder::Recorder;
use crate::harness::Fixture as _;
use crate::harness::client::H2Stream;
use crate::harness::{Failure, H1, H2, Request, Target, Weir, eventually, express_lane};

/// How a client frames a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// HTTP/1.1 with a length.
    Length,
    /// HTTP/1.1 in chunks.
    Chunked,
    /// HTTP/2 with a length.
    H2Length,
    /// HTTP/2 without.
    H2,
}

const KINDS: [Kind; 4] = [Kind::Length, Kind::Chunked, Kind::H2Length, Kind::H2];
const UNDECLARED: [Kind; 2] = [Kind::Chunked, Kind::H2];

impl Kind {
    fn is_declared(self) -> bool {
        !UNDECLARED.contains(&self)
    }
}

/// A request whose body is sent piece by piece.
enum Upload {
    H1(H1, Kind),
    /// The connection lives as long as its stream.
    H2(#[expect(dead_code, reason = "it is held open")] H2, H2Stream),
}

impl Upload {
    async fn begin(web: &Target, kind: Kind, target: &str, length: usize) -> Self {
        let framing = match kind {
            Kind::Length => format!("content-length: {length}"),
            Kind::Chunked => "transfer-encoding: chunked".to_owned(),
            Kind::H2Length | Kind::H2 => {
                let h2 = H2::connect(web).await;
                let request = Request::post(target, vec![0; length]);
                let request = if kind == Kind::H2 { request.chunked() } else { request };
                let stream = h2.open(&request).await;
                return Self::H2(h2, stream);
            }
        };
        let mut h1 = H1::connect(web).await;
        h1.write_raw(format!("POST {target} HTTP/1.1\r\nhost: shop.test\r\n{framing}\r\n\r\n")).await;
        Self::H1(h1, kind)
    }

    async fn piece(&mut self, bytes: &[u8]) {
        match self {
            Self::H1(h1, Kind::Chunked) => {
                let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
                h1.write_raw(chunk).await;
            }
            Self::H1(h1, _) => h1.write_raw(bytes).await,
            Self::H2(_, stream) => stream.write(bytes.to_vec()).await.unwrap(),
        }
    }

    /// Ends the body and reads the answer.
    async fn end(mut self) -> (u16, String) {
        match &mut self {
            Self::H1(h1, Kind::Chunked) => h1.write_raw("0\r\n\r\n").await,
            Self::H1(..) => {}
            Self::H2(_, stream) => stream.finish(),
        }
        self.answer().await.unwrap()
    }

    async fn answer(&mut self) -> Result<(u16, String), Failure> {
        match self {
            Self::H1(h1, _) => h1.read_response("POST").await.map(|answer| (answer.status, answer.text().to_owned())),
            Self::H2(_, stream) => {
                let status = stream.head().await.status;
                let mut body = Vec::new();
                while let Some(piece) = stream.piece().await? {
                    body.extend_from_slice(&piece);
                }
                Ok((status, String::from_utf8(body).unwrap()))
            }
        }
    }
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect()
}

async fn start(recorder: &Recorder, service: &str) -> (Weir, Target) {
    let log = "access_log: { output: \"{dir}/access.log\" }\nservices:\n  shop:\n";
    let yaml = recorder.shop().changed("services:\n  shop:\n", &format!("{log}{service}"));
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    (weir, web)
}

/// What the access log says of this path's body.
async fn bytes_in(weir: &Weir, path: &str) -> u64 {
    eventually("the request is logged", async || {
        let log = std::fs::read_to_string(weir.dir().join("access.log")).unwrap_or_default();
        let line = log.lines().find(|line| line.contains(&format!("\"path\":\"{path}\"")))?.to_owned();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        json["bytes_in"].as_u64()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_is_here_before_its_request_is_sent() {
    let recorder = Recorder::start().await;
    let (weir, web) = start(&recorder, "").await;
    for kind in KINDS {
        for size in [2, 9_000, 65_536] {
            let target = format!("/{kind:?}/{size}");
            let body = body(size);
            let began = Instant::now();
            let mut upload = Upload::begin(&web, kind, &target, size).await;
            upload.piece(&body[..size / 2]).await;
            // Long enough for a request to arrive, and much shorter than what a body of unknown length is waited for.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let begun = recorder.begun();
            assert!(!begun.contains(&target) || began.elapsed() > Duration::from_millis(900), "{target}: {begun:?}");
            upload.piece(&body[size / 2..]).await;
            assert_eq!(upload.end().await, (200, target.clone()));
            assert!(recorder.request(&target).body == body, "{target}");
            assert_eq!(bytes_in(&weir, &target).await, size as u64, "{target}");
        }
    }
    assert_eq!(recorder.faults(), Vec::<String>::new());
    assert!(recorder.connections() <= 6, "connections are kept: {}", recorder.connections());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_body_has_a_connection_of_its_own() {
    let recorder = Recorder::start().await;
    let (weir, web) = start(&recorder, "").await;
    let body = body(150_000);
    for kind in KINDS {
        for how in ["/early", "/whole"] {
            let target = format!("{how}/{kind:?}");
            let (before, after) = (format!("/before{target}"), format!("/after{target}"));
            assert_eq!(H1::connect(&web).await.get(&before).await.text(), before);
            let mut upload = Upload::begin(&web, kind, &target, body.len()).await;
            upload.piece(&body[..100_000]).await;
            eventually("the endpoint has the head", async || recorder.begun().contains(&target)).await;
            if how == "/early" {
                // What the endpoint makes of the rest is nobody's business any more.
                assert_eq!(upload.answer().await.unwrap(), (200, target.clone()));
            } else {
                upload.piece(&body[100_000..]).await;
                assert_eq!(upload.end().await, (200, target.clone()));
                assert!(recorder.request(&target).body == body, "{target}");
                assert_eq!(bytes_in(&weir, &target).await, 150_000, "{target}");
            }
            assert_ne!(recorder.connection(&before), recorder.connection(&target), "{target}");
            assert_eq!(H1::connect(&web).await.get(&after).await.text(), after);
            if how == "/early" {
                assert_ne!(recorder.connection(&after), recorder.connection(&target), "{target}");
            }
        }
    }
    assert!(recorder.faults().iter().all(|fault| fault.starts_with("/early")), "{:?}", recorder.faults());
    weir.stop().await;
}

/// The express lane knows when the first byte of the answer came.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_answer_came_late_enough_is_kept() {
    if !express_lane() {
        return;
    }
    let recorder = Recorder::start().await;
    let (weir, web) = start(&recorder, "").await;
    let body = body(150_000);
    let mut upload = Upload::begin(&web, Kind::Length, "/late/300", body.len()).await;
    upload.piece(&body).await;
    assert_eq!(upload.end().await.0, 200);
    assert_eq!(H1::connect(&web).await.get("/after").await.text(), "/after");
    assert_eq!(recorder.request("/late/300").connection, recorder.request("/after").connection);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_that_pauses_goes_on_as_it_comes() {
    let recorder = Recorder::start().await;
    let (weir, web) = start(&recorder, "").await;
    for kind in UNDECLARED {
        let target = format!("/pauses/{kind:?}");
        let mut upload = Upload::begin(&web, kind, &target, 1).await;
        upload.piece(b"abc").await;
        eventually("the endpoint has the head", async || recorder.begun().contains(&target)).await;
        upload.piece(b"def").await;
        assert_eq!(upload.end().await, (200, target.clone()));
        let after = format!("/after/{kind:?}");
        assert_eq!(H1::connect(&web).await.get(&after).await.text(), after);
        let own = recorder.request(&target);
        assert_eq!(own.body, b"abcdef");
        assert_eq!(bytes_in(&weir, &target).await, 6, "{target}");
        assert_ne!(recorder.request(&after).connection, own.connection, "{target}");
    }
    assert_eq!(recorder.faults(), Vec::<String>::new());
    weir.stop().await;
}

/// What cannot be a request to the endpoint is none of its business.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_hears_nothing_of_a_small_body_that_does_not_come() {
    let recorder = Recorder::start().await;
    let service = "    max_body: 30KiB\n    timeouts: { idle: 200ms }\n";
    let (weir, web) = start(&recorder, service).await;
    for kind in KINDS {
        // The client stops.
        let mut stalled = Upload::begin(&web, kind, "/stalled", 10).await;
        stalled.piece(b"abc").await;
        assert_eq!(stalled.answer().await.unwrap().0, 408, "{kind:?}");
        // The client goes.
        let mut gone = Upload::begin(&web, kind, "/gone", 10).await;
        gone.piece(b"abc").await;
        drop(gone);
        // It is too much.
        if !kind.is_declared() {
            let mut large = Upload::begin(&web, kind, "/large", 1).await;
            for _ in 0..4 {
                large.piece(&body(10_000)).await;
            }
            assert_eq!(large.answer().await.unwrap().0, 413, "{kind:?}");
        }
    }
    let mut bad = Upload::begin(&web, Kind::Chunked, "/bad", 1).await;
    bad.piece(b"abc").await;
    let Upload::H1(h1, _) = &mut bad else { unreachable!() };
    h1.write_raw("no chunk\r\n").await;
    assert_eq!(bad.answer().await.unwrap().0, 400);
    assert_eq!(recorder.begun(), Vec::<String>::new());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_expects_a_100_gets_it_or_the_answer() {
    let recorder = Recorder::start().await;
    let (weir, web) = start(&recorder, "").await;
    for (target, interim) in [("/continue", 1), ("/early/instead", 0)] {
        let answer = H1::connect(&web).await.send(&Request::post(target, "abc").expect_continue()).await;
        assert_eq!((answer.status, answer.text(), answer.interim.len()), (200, target, interim));
        let after = format!("/after{target}");
        assert_eq!(H1::connect(&web).await.get(&after).await.text(), after);
    }
    let own = recorder.request("/continue");
    assert_eq!(own.body, b"abc");
    assert_ne!(own.connection, recorder.request("/after/continue").connection);
    weir.stop().await;
}

/// They could be taken for the answer to the next request.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_nobody_asked_for_reach_nobody() {
    let recorder = Recorder::start().await;
    let (weir, web) = start(&recorder, "").await;
    let h2 = H2::connect(&web).await;
    for turn in 0..3 {
        let (first, second) = (format!("/unasked/h1/{turn}"), format!("/unasked/h2/{turn}"));
        assert_eq!(H1::connect(&web).await.get(&first).await.text(), first);
        eventually("it is said", async || recorder.unasked() == turn * 2 + 1).await;
        assert_eq!(H1::connect(&web).await.get("/victim").await.text(), "/victim");
        assert_eq!(h2.send(&Request::post(&second, "abc")).await.text(), second);
        eventually("it is said", async || recorder.unasked() == turn * 2 + 2).await;
        for _ in 0..2 {
            assert_eq!(h2.get("/victim").await.text(), "/victim");
            assert_eq!(H1::connect(&web).await.get("/victim").await.text(), "/victim");
        }
    }
    eventually("each is counted", async || {
        weir.metrics().await.value("weir_upstream_errors_total", &[("kind", "unsolicited")]) == 6.0
    })
    .await;
    assert_eq!(weir.metrics().await.value("weir_upstream_errors_total", &[]), 6.0);
    weir.stop().await;
}
