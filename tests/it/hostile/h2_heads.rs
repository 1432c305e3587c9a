//! Malformed header blocks of HTTP/2 clients, and targets that a URI must encode.

use super::flood::{END_HEADERS, END_STREAM, HEADERS, frame};
use super::raw;
use crate::harness::Fixture as _;
use crate::harness::frame::{CONTINUATION, DATA, Fields, block};
use crate::harness::{Frames, Origin, Target, Weir, eventually, shop};

const END: u8 = END_HEADERS | END_STREAM;

/// What came back on a stream.
#[derive(Debug)]
struct Got {
    status: u16,
    reset: bool,
    body: String,
}

/// A connection, frame by frame.
struct Raw(Frames);

impl Raw {
    async fn connect(web: &Target) -> Self {
        Self(Frames::connect(web).await)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.send(bytes).await;
    }

    /// Waits for the end of a stream.
    async fn ended(&mut self, stream: u32) -> Got {
        self.0.until("the end of a stream", |seen| seen.on(stream).over()).await.unwrap();
        assert!(self.0.seen().goaways.is_empty(), "{:?}", self.0.seen().goaways);
        let got = self.0.seen().on(stream);
        Got {
            status: got.status().unwrap_or_default(),
            reset: got.reset.is_some(),
            body: String::from_utf8_lossy(&got.body).into_owned(),
        }
    }
}

fn get(path: &[u8], more: Fields<'_>) -> Vec<u8> {
    let head: Fields<'_> = &[(":method", b"GET"), (":scheme", b"http"), (":authority", b"shop.test"), (":path", path)];
    block(&[head, more].concat())
}

/// A field that the receiver is to index.
fn indexed(name: &str, value: &str) -> Vec<u8> {
    let mut block = block(&[(name, value.as_bytes())]);
    block[0] = 0x40;
    block
}

fn logged(yaml: &str) -> String {
    yaml.changed("shutdown:", "access_log: { output: stdout }\nshutdown:")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_costs_its_stream_only() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&logged(&shop(&[(&v1, 100.0)]))).await;
    let web = Target::from(weir.address("web").await);
    let method: (&str, &[u8]) = (":method", b"GET");
    let scheme: (&str, &[u8]) = (":scheme", b"http");
    let path: (&str, &[u8]) = (":path", b"/");
    let host: (&str, &[u8]) = (":authority", b"shop.test");
    let malformed = [
        get(b"/", &[("X-Upper", b"1")]),
        get(b"/", &[("a b", b"1")]),
        get(b"/", &[("", b"1")]),
        get(b"/", &[("a", b"b\0c")]),
        get(b"/", &[("a", b"b\r\nc: d")]),
        get(b"/", &[(":unknown", b"1")]),
        get(b"/", &[(":status", b"200")]),
        get(b"/", &[(":path", b"/again")]),
        get(b"/", &[("a", b"b"), host]),
        get(b"/", &[("connection", b"close")]),
        get(b"/", &[("transfer-encoding", b"chunked")]),
        get(b"/", &[("te", b"gzip")]),
        get(b"/", &[("content-length", b"x")]),
        get(b"/", &[(":protocol", b"websocket")]),
        block(&[scheme, path, host]),
        block(&[method, path, host]),
        block(&[method, scheme, host]),
        block(&[(":method", b"G ET"), scheme, path, host]),
        block(&[(":method", b"\xFF"), scheme, path, host]),
        block(&[method, (":scheme", b"\xFF"), path, host]),
        block(&[method, (":scheme", b""), path, host]),
        block(&[method, scheme, path, (":authority", b"\xFF")]),
        block(&[method, scheme, (":path", b""), host]),
        block(&[method, scheme, path]),
        block(&[method, scheme, path, ("host", b"shop.test"), ("host", b"shop.test")]),
        block(&[method, scheme, path, (":authority", b"user@shop.test")]),
        get(b"/", &[("host", b"other.test")]),
    ];
    // The first malformed one of a connection is where its blocks begin to be written anew.
    for first in 0..malformed.len() {
        let mut raw = Raw::connect(&web).await;
        let slow = [get(b"/delay/300", &[]), indexed("before", "1")].concat();
        raw.send(&frame(HEADERS, END, 1, &slow)).await;
        let bad = [&malformed[first][..], &indexed("within", "2")].concat();
        raw.send(&frame(HEADERS, END, 3, &bad)).await;
        let after = [get(b"/", &[]), vec![0xBF, 0xBE]].concat();
        raw.send(&frame(HEADERS, END, 5, &after)).await;
        assert_eq!(raw.ended(3).await.status, 400, "malformed {first}");
        assert_eq!(raw.ended(5).await.status, 200, "after malformed {first}");
        let seen = v1.journal().into_iter().rfind(|request| request.target == "/").unwrap();
        let values = (seen.headers.get("before"), seen.headers.get("within"));
        assert_eq!(values, (Some("1"), Some("2")), "after malformed {first}");
        if first == 0 {
            for (stream, block) in (7..).step_by(2).zip(&malformed) {
                raw.send(&frame(HEADERS, END, stream, block)).await;
                assert_eq!(raw.ended(stream).await.status, 400, "malformed on stream {stream}");
            }
        }
        assert_eq!(raw.ended(1).await.status, 200, "in flight beside malformed {first}");
    }
    let refused = 2 * malformed.len();
    let wanted = f64::from(u32::try_from(refused).unwrap());
    eventually("all of them are counted", async || {
        let counted = weir.metrics().await.value("weir_requests_total", &[("code", "400")]);
        counted == wanted
    })
    .await;
    weir.stop().await;
    let out = weir.stdout();
    let lines = out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    assert_eq!(lines.filter(|line| line["status"] == 400).count(), refused, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_targets_are_answered_as_over_http1() {
    let v1 = Origin::start("v1").await;
    for choice in ["refuse", "encode", "keep"] {
        let paths = format!("paths: {{ non_ascii: {choice} }}\nshutdown:");
        let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("shutdown:", &paths)).await;
        let web = Target::from(weir.address("web").await);
        let mut raw = Raw::connect(&web).await;
        let targets: [&[u8]; 10] = [
            b"/a?q=\"b\"",
            b"/a\"b",
            b"/a<b>c",
            b"/a?q=<b>",
            b"/a`b{c}|d^e",
            "/caf\u{e9}?q=\u{fc}".as_bytes(),
            b"/a\xFFb",
            b"/a?q=\xC3",
            b"/a#b",
            b"/a\x7Fb",
        ];
        for (stream, target) in (1..).step_by(2).zip(targets) {
            let h1 = [b"GET ", target, b" HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"].concat();
            let h1 = raw::exchange(&web, &h1, raw::QUIET).await;
            raw.send(&frame(HEADERS, END, stream, &get(target, &[]))).await;
            let got = raw.ended(stream).await;
            let shown = String::from_utf8_lossy(target);
            assert_eq!(h1.statuses, [got.status], "{choice} {shown}: {got:?}");
        }
        weir.stop().await;
    }
}

/// A block in frames of so many bytes.
fn in_frames(stream: u32, block: &[u8], size: usize) -> Vec<u8> {
    let mut pieces = block.chunks(size).peekable();
    let mut frames = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let ends = if kind == HEADERS { END_STREAM } else { 0 };
        frames.extend(frame(kind, last | ends, stream, piece));
        kind = CONTINUATION;
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_split_heads_cost_their_stream_only() {
    let v1 = Origin::start("v1").await;
    let yaml = logged(&shop(&[(&v1, 100.0)]));
    let large = block(&[(":method", b"GET"), (":scheme", b"http"), (":authority", b"shop.test"), (":path", b"/")]);
    let large = |bytes: usize| [&large[..], &block(&[("a", &vec![b'b'; bytes])])].concat();
    let connect = block(&[(":method", b"CONNECT"), (":authority", b"shop.test:443")]);
    let bomb = [&get(b"/", &[])[..], &indexed("a", &"b".repeat(100)), &[0xBE; 3000]].concat();
    let too_large = "header fields are too large";
    let rows = [
        ("many fields", in_frames(3, &[get(b"/", &[]), block(&[("a", &b"b"[..]); 3000])].concat(), 16_384), too_large),
        ("a long field", in_frames(3, &large(300_000), 16_384), too_large),
        ("an entry again and again", in_frames(3, &bomb, 16_384), too_large),
        ("a target", in_frames(3, &get(&[b'/'; 65_540], &[]), 16_384), too_large),
        ("no route for it", in_frames(3, &connect, 16_384), "CONNECT and TRACE are not supported"),
        ("in many frames", in_frames(3, &get(b"/", &[]), 1), ""),
    ];
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    for (what, sent, text) in &rows {
        let mut raw = Raw::connect(&web).await;
        raw.send(&frame(HEADERS, END, 1, &[get(b"/delay/300", &[]), indexed("before", "1")].concat())).await;
        raw.send(sent).await;
        raw.send(&frame(HEADERS, END, 5, &get(b"/", &[]))).await;
        let got = raw.ended(3).await;
        assert!(got.body.contains(text) && (got.status == 200) == text.is_empty(), "{what}: {got:?}");
        assert_eq!(raw.ended(5).await.status, 200, "after {what}");
        assert_eq!(raw.ended(1).await.status, 200, "beside {what}");
    }
    eventually("all are counted", async || {
        let metrics = weir.metrics().await;
        let counted = |code| metrics.value("weir_requests_total", &[("code", code)]);
        (counted("431"), counted("501")) == (4.0, 1.0)
    })
    .await;
    weir.stop().await;
    let out = weir.stdout();
    let lines = out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    assert_eq!(lines.filter(|line| line["status"] == 431 || line["status"] == 501).count(), 5, "{out}");

    let weir = Weir::start(&yaml.changed("\nservices:", "\nlimits: { header_bytes: 512KiB }\nservices:")).await;
    let web = Target::from(weir.address("web").await);
    let (bad, sound) = (in_frames(3, &get(b"/", &[("X", b"")]), 100), in_frames(5, &large(100_000), 16_384));
    let sound_first = in_frames(3, &large(100_000), 16_384);
    for (first, second, wanted) in
        [(&bad, &sound, [400, 200]), (&sound_first, &in_frames(5, &get(b"/\xFF", &[]), 100), [200, 400])]
    {
        let mut raw = Raw::connect(&web).await;
        raw.send(&frame(HEADERS, END, 1, &get(b"/delay/300", &[]))).await;
        raw.send(&[&first[..], second].concat()).await;
        assert_eq!([raw.ended(3).await.status, raw.ended(5).await.status], wanted);
        assert_eq!(raw.ended(1).await.status, 200);
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_streams_end_no_connection_however_many_they_were() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    let mut raw = Raw::connect(&web).await;
    let post = |path: &[u8]| {
        block(&[(":method", b"POST"), (":scheme", b"http"), (":authority", b"shop.test"), (":path", path)])
    };
    raw.send(&frame(HEADERS, END_HEADERS, 1, &post(b"/echo"))).await;
    for stream in (3..3003).step_by(2) {
        let faulty = [
            frame(HEADERS, END_HEADERS, stream, &post(b"/")),
            frame(DATA, 0, stream, b"a"),
            frame(HEADERS, END, stream, &block(&[("X", b"")])),
        ];
        raw.send(&faulty.concat()).await;
        assert!(raw.ended(stream).await.reset, "stream {stream}");
    }
    raw.send(&frame(DATA, END_STREAM, 1, b"sound")).await;
    let sound = raw.ended(1).await;
    assert_eq!((sound.status, &*sound.body), (200, "sound"));
    weir.stop().await;
}
