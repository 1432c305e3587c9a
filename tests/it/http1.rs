//! What HTTP/1 clients may do, whatever lane carries them: pipeline, send in pieces, spell a target oddly, end their half.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Fixture as _;
use crate::harness::{H1, Origin, Request, Signal, Sse, Target, WebSocket, Weir, eventually, shop, within};
use crate::hostile::raw::{self, Answers, QUIET, exchange};

/// A Weir that logs, with and without the express lane; `more` goes to the top level of its file.
pub(crate) async fn on_both_lanes(more: &str, story: impl AsyncFn(&Weir, &Target, &Origin)) {
    for express in [true, false] {
        let v1 = Origin::start("v1").await;
        let top = format!(
            "{more}runtime: {{ express_lane: {express} }}\naccess_log: {{ output: \"{{dir}}/access.log\" }}\nshutdown:"
        );
        let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("shutdown:", &top)).await;
        let web = Target::from(weir.address("web").await);
        eprintln!("express lane: {express}");
        story(&weir, &web, &v1).await;
        weir.stop().await;
    }
}

/// The lines of the access log, once there are so many.
pub(crate) async fn lines(weir: &Weir, count: usize) -> Vec<serde_json::Value> {
    let file = weir.dir().join("access.log");
    eventually(&format!("{count} lines are logged"), async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.len() >= count { Ok(lines) } else { Err(lines.len()) }
    })
    .await
}

/// Requests that come to a 201, each followed on its connection by others.
const FIRST: [&str; 9] = [
    "GET /status/201 HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /status/201 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
    "POST /status/201 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\nh\r\n1\r\ni\r\n0\r\nx: y\r\n\r\n",
    "GET /status/201 HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: trailers\r\n\r\n",
    "GET http://A/status/201 HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /status/201 HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
    "GET /status/201 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
    "POST /status/201 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
    "\r\n\r\nGET /status/201 HTTP/1.1\r\nhost: a\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    on_both_lanes("", async |_, web, _| {
        let last = "GET /status/203 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        for first in FIRST {
            for between in ["", "\r\n", "GET /status/202 HTTP/1.1\r\nhost: a\r\nconnection: te\r\n\r\n"] {
                let wanted: &[u16] = if between.starts_with('G') { &[201, 202, 203] } else { &[201, 203] };
                let answers = exchange(web, format!("{first}{between}{last}").as_bytes(), QUIET).await;
                assert_eq!(answers.statuses, wanted, "{first:?} {between:?}: {}", answers.text);
                assert!(answers.closed, "{first:?}");
            }
        }
    })
    .await;
}

/// One client that sends ahead as much as it likes, whatever else the lanes have to do: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_client_that_pipelines_deeply_is_answered_in_order() {
    on_both_lanes("", async |_, web, _| {
        for version in ["1.1\r\n", "1.0\r\nconnection: keep-alive\r\n"] {
            let count = 200;
            let status = |at: usize| u16::try_from(200 + at % 4).unwrap();
            let one = |at: usize| format!("GET /status/{} HTTP/{version}host: a\r\n\r\n", status(at));
            let mut sent: String = (0..count - 1).map(one).collect();
            sent += "GET /status/203 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let answers = exchange(web, sent.as_bytes(), QUIET).await;
            assert_eq!(answers.statuses, (0..count).map(status).collect::<Vec<_>>(), "{version:?}");
            assert!(answers.closed);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_while_an_answer_is_awaited_takes_it_from_nobody() {
    on_both_lanes("", async |_, web, v1| {
        for head in [
            "GET /hold HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST /hold HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
            "GET /hold HTTP/1.1\r\nhost: a\r\nconnection: te\r\n\r\n",
            "GET /hold HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
        ] {
            for rest in
                ["GET /status/201 HTTP/1.1\r\nhost: a\r\n\r\n", "\r\nGET /status/201 HTTP/1.1\r\nhost: a\r\n\r\n"]
            {
                let mut h1 = H1::connect(web).await;
                h1.write_raw(head).await;
                v1.wait_held(1).await;
                h1.write_raw(rest).await;
                v1.release();
                h1.read_response("GET").await.unwrap().expect(200);
                h1.read_response("GET").await.unwrap().expect(201);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused_while_it_arrives() {
    on_both_lanes("limits: { header_bytes: 4KiB, uri_bytes: 1KiB, header_timeout: 60s }\n", async |weir, web, v1| {
        let line = "GET / HTTP/1.1\r\nhost: a\r\n";
        let unfinished = [
            (format!("{line}x: {}", "a".repeat(5_000)), 431, "fields_too_large"),
            (format!("{line}{}", "x: y\r\n".repeat(900)), 431, "fields_too_large"),
            (format!("GET /{}", "a".repeat(2_000)), 414, "target_too_long"),
            ("A".repeat(100), 501, "method_too_long"),
            ("\u{16}\u{3}\u{1}".to_owned(), 400, "bad_request"),
            ("GET /\r\n".to_owned(), 400, "bad_request"),
        ];
        let count = unfinished.len();
        for (bytes, status, cause) in unfinished {
            for piece in [bytes.len(), 700] {
                let mut socket = raw::connect(web).await;
                for piece in bytes.as_bytes().chunks(piece) {
                    // The answer may come before all was sent.
                    let _ = socket.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                let mut text = String::new();
                tokio::time::timeout(QUIET * 5, socket.read_to_string(&mut text)).await.unwrap().unwrap();
                assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{cause}: {text}");
                assert!(text.contains(&format!("weir-error: {cause}\r\n")), "{cause}: {text}");
            }
        }
        assert_eq!(v1.requests(), 0);
        let lines = lines(weir, 2 * count).await;
        assert!(lines.iter().all(|line| line["cause"].is_string()), "{lines:?}");
        // What comes in pieces and is not too large is served, at every place it may be cut.
        let whole = format!("\r\n{line}x: {}\r\ncontent-length: 3\r\n\r\nabc", "a".repeat(40));
        for cut in 1..whole.len() {
            let mut h1 = H1::connect(web).await;
            let (first, second) = whole.split_at(cut);
            h1.write_raw(first).await;
            tokio::task::yield_now().await;
            h1.write_raw(second).await;
            h1.read_response("GET").await.unwrap().expect(200);
        }
    })
    .await;
}

/// What must be refused, on either lane.
const REFUSED: [&str; 22] = [
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n",
    "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET http://a@b/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
    "GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nx: \u{0}\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /sink HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
    "POST /sink HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;\r\nabc\r\n0\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_is_told_why_counted_and_logged() {
    on_both_lanes("", async |weir, web, v1| {
        for bytes in REFUSED {
            let answers = exchange(web, bytes.as_bytes(), QUIET).await;
            assert!(matches!(*answers.statuses, [400..=599]), "{bytes:?}: {}", answers.text);
            assert!(answers.text.contains("weir-error: ") && answers.closed, "{bytes:?}: {}", answers.text);
            assert!(!answers.text.to_lowercase().contains("pingora"), "{bytes:?}: {}", answers.text);
        }
        assert!(v1.journal().iter().all(|entry| entry.target == "/sink"), "{:?}", v1.journal());
        let lines = lines(weir, REFUSED.len()).await;
        assert_eq!(lines.len(), REFUSED.len());
        for line in &lines {
            assert!(line["status"].as_u64().is_some_and(|status| status >= 400) && line["cause"].is_string(), "{line}");
        }
        let counted = weir.metrics().await.value("weir_requests_total", &[]);
        assert_eq!(counted, REFUSED.len() as f64);
        assert_eq!(weir.metrics().await.value("weir_requests_in_flight", &[]), 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rules_allow_is_served_however_it_comes() {
    on_both_lanes("limits: { header_fields: 600 }\n", async |_, web, v1| {
        let many = (0..400).map(|at| format!("X-{at}: {at}\r\n")).collect::<String>();
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n";
        for (version, more) in [("1.1", ""), ("1.1", "connection: te\r\n"), ("1.1", upgrade), ("1.0", "")] {
            for (target, host) in [
                ("/headers?f={\"a\":1}", "a"),
                ("/headers?<b>", "a"),
                ("/headers?a|b^c`d", "a"),
                ("http://SHOP.test/headers", "shop.test"),
                ("http://shop.test:80/headers?\"", "shop.test"),
                ("http://shop.test/headers", "shop.test:80"),
            ] {
                let before = v1.requests();
                let bytes =
                    format!("GET {target} HTTP/{version}\r\nhost: {host}\r\n{many}{more}last: one\r\n\r\n");
                let Answers { statuses, text, .. } = exchange(web, bytes.as_bytes(), Duration::from_millis(300)).await;
                assert_eq!(statuses, [200], "HTTP/{version} {target}: {text:.300}");
                assert_eq!(v1.requests() - before, 1);
                let lower = text.to_lowercase();
                assert!(lower.contains("[\"x-399\",\"399\"]") && lower.contains("[\"last\",\"one\"]"), "{text:.500}");
            }
        }
        // Bodies are framed by what the engine got, however many fields come before.
        let post = format!(
            "POST /sink HTTP/1.1\r\nhost: a\r\nconnection: te\r\n{many}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        let answers = exchange(web, post.repeat(2).as_bytes(), Duration::from_millis(300)).await;
        assert_eq!(answers.statuses, [200, 200], "{}", answers.text);
        assert_eq!(answers.text.matches("\"length\":3").count(), 2, "{}", answers.text);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_no_informational_answers() {
    on_both_lanes("", async |_, web, _| {
        for path in ["/early-hints", "/informs/3/1", "/continue"] {
            for keep in ["", "connection: keep-alive\r\n"] {
                let bytes = format!("POST {path} HTTP/1.0\r\nhost: a\r\n{keep}content-length: 2\r\n\r\nhi");
                let answers = exchange(web, bytes.as_bytes(), Duration::from_millis(300)).await;
                assert_eq!(answers.statuses, [200], "{path}: {}", answers.text);
            }
            let bytes = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
            let answers = exchange(web, bytes.as_bytes(), Duration::from_millis(300)).await;
            assert!(answers.statuses[0] < 200, "{path}: {}", answers.text);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ended_its_half_gets_its_answer() {
    on_both_lanes("", async |weir, web, v1| {
        for request in [
            Request::get("/delay/300"),
            Request::get("/bytes/3000000"),
            Request::get("/drip/10/30"),
            Request::post("/sink", vec![b'x'; 200_000]),
            Request::post("/delay/100", "abc").chunked(),
        ] {
            let what = format!("{request:.60?}");
            let mut h1 = H1::connect(web).await;
            let wanted = h1.send(&request).await.expect(200).body.len();
            let mut h1 = H1::connect(web).await;
            let path = request.target.clone();
            let body = request.body.len();
            h1.write_raw(format!("{} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {body}\r\n\r\n", request.method))
                .await;
            h1.write_raw(&request.body).await;
            h1.finish_writing().await;
            let response = h1.read_response("GET").await.unwrap().expect(200);
            assert_eq!(response.body.len(), wanted, "{what}");
            h1.ended().await;
        }
        // Requests that wait in the connection too.
        let mut h1 = H1::connect(web).await;
        h1.write_raw("GET /hold HTTP/1.1\r\nhost: a\r\n\r\nGET /status/201 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        h1.finish_writing().await;
        v1.wait_held(1).await;
        v1.release();
        h1.read_response("GET").await.unwrap().expect(200);
        h1.read_response("GET").await.unwrap().expect(201);
        // Who is gone for good is still noticed: what is sent to it is answered by a reset.
        let mut events = Sse::open(web, "/sse").await;
        events.event().await;
        drop(events);
        v1.wait_streams(1).await;
        v1.push("nobody reads this");
        v1.wait_streams(0).await;
        eventually("nothing is in flight", async || {
            weir.metrics().await.value("weir_streams_open", &[("kind", "sse")]) == 0.0
        })
        .await;
    })
    .await;
}

/// How a side of the tunnel behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// It sends, ends its half, and reads to the end.
    First,
    /// It reads to the end, and sends then.
    Second,
}

const TUNNELLED: usize = 300_000;

/// What a side of a tunnel received, all of it.
async fn use_tunnel(mut socket: TcpStream, ends: Ends) -> usize {
    let sent = vec![b'x'; TUNNELLED];
    let mut received = Vec::new();
    if ends == Ends::First {
        socket.write_all(&sent).await.unwrap();
        socket.shutdown().await.unwrap();
        socket.read_to_end(&mut received).await.unwrap();
    } else {
        socket.read_to_end(&mut received).await.unwrap();
        socket.write_all(&sent).await.unwrap();
        socket.shutdown().await.unwrap();
    }
    received.len()
}

/// Reads a head.
async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A Weir whose requests all go to this listener.
async fn before(listener: &TcpListener) -> (Weir, Target) {
    let v1 = Origin::start("v1").await;
    let address = listener.local_addr().unwrap().to_string();
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed(&v1.address().to_string(), &address)).await;
    let web = Target::from(weir.address("web").await);
    (weir, web)
}

/// Asks for a tunnel, as the client.
async fn ask_for_tunnel(web: &Target) -> TcpStream {
    let mut socket = raw::connect(web).await;
    let head = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    socket
}

/// Agrees to a tunnel, as the endpoint.
async fn agree_to_tunnel(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    read_head(&mut socket).await;
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_direction_of_a_tunnel_is_passed_and_the_other_goes_on() {
    for (client, endpoint) in [(Ends::First, Ends::Second), (Ends::Second, Ends::First), (Ends::First, Ends::First)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (weir, web) = before(&listener).await;
        let here = async { use_tunnel(ask_for_tunnel(&web).await, client).await };
        let there = async { use_tunnel(agree_to_tunnel(&listener).await, endpoint).await };
        let received = within("both directions of the tunnel end", async { tokio::join!(here, there) }).await;
        assert_eq!(received, (TUNNELLED, TUNNELLED), "client {client:?}, endpoint {endpoint:?}");
        eventually("no stream is open", async || weir.metrics().await.value("weir_streams_open", &[]) == 0.0).await;
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_carried_and_logged_by_the_lane_of_its_request() {
    on_both_lanes("", async |weir, web, _| {
        let express = std::fs::read_to_string(weir.config()).unwrap().contains("express_lane: true");
        let mut socket = WebSocket::open(web, "/ws").await;
        socket.send("one").await;
        assert_eq!(socket.text().await, "one");
        let streams = weir.metrics().await.value("weir_streams_open", &[("kind", "websocket")]);
        assert_eq!(streams.to_bits(), 1.0_f64.to_bits());
        socket.close().await;
        let logged = lines(weir, 1).await;
        let line = &logged[0];
        assert_eq!(
            (line["status"].as_u64(), line["stream"].as_str(), line["lane"].as_str(), &line["cause"]),
            (Some(101), Some("websocket"), Some(if express { "express" } else { "general" }), &serde_json::Value::Null),
            "{line}"
        );
        // A frame of three letters, with its mask from the client.
        assert!(line["bytes_in"].as_u64() >= Some(9) && line["bytes_out"].as_u64() >= Some(5), "{line}");
        // An endpoint that does not take the offer answers as always.
        let request =
            "GET /status/426 HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
        let answers = exchange(web, request.as_bytes(), QUIET).await;
        assert_eq!(answers.statuses, [426], "{}", answers.text);
        assert!(answers.closed || !express, "what follows may be of the other protocol");
        let line = &lines(weir, 2).await[1];
        assert_eq!((line["status"].as_u64(), &line["stream"]), (Some(426), &serde_json::Value::Null), "{line}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_sides_of_a_tunnel_send_last_arrives_though_they_end_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (weir, web) = before(&listener).await;
    let mut tunnels = Vec::new();
    for _ in 0..32 {
        tunnels.push(tokio::join!(ask_for_tunnel(&web), agree_to_tunnel(&listener)));
    }
    // It finds all of it at once when it goes on.
    weir.signal(Signal::Stop);
    for (here, there) in &mut tunnels {
        for socket in [here, there] {
            socket.write_all(b"last").await.unwrap();
            socket.shutdown().await.unwrap();
        }
    }
    weir.signal(Signal::Continue);
    for (number, (mut here, mut there)) in tunnels.into_iter().enumerate() {
        let (mut client, mut endpoint) = (String::new(), String::new());
        let ends = async { tokio::try_join!(here.read_to_string(&mut client), there.read_to_string(&mut endpoint)) };
        within("both directions of the tunnel end", ends).await.unwrap();
        assert_eq!((&*client, &*endpoint), ("last", "last"), "tunnel {number}");
    }
    weir.stop().await;
}
