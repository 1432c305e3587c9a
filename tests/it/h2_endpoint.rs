//! HTTP/2 endpoints: connections that all clients share, endpoints that go away or turn streams away, and what one
//! client can do to the others.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use weir::model::Address;

use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Load, Origin, Request, Target, Weir, eventually, shop, within};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// `:status: 200` by HPACK's static table.
pub(crate) const OK: &[u8] = &[0x88];
const REFUSED: [u8; 4] = 7u32.to_be_bytes();

/// An endpoint that is scripted frame by frame.
pub(crate) struct Endpoint {
    address: String,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Endpoint {
    /// Tells `script` of each connection, with its number from 0 on.
    pub(crate) async fn start<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        script: impl Fn(Peer, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                socket.set_nodelay(true).unwrap();
                let told = script(Peer { socket, read: BytesMut::new(), begun: false }, number);
                // An error is the connection's end, which is what a script may wait for.
                tokio::spawn(async move { told.await.ok() });
            }
        });
        Self { address, accepted, accepting }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// A Weir with one worker in front of it, so that all clients share its connections.
    pub(crate) async fn weir(&self) -> (Weir, Target) {
        let unused = Origin::plan("v1").down();
        start(&shop(&[(&unused, 100.0)]).changed(&unused.address().to_string(), &self.address), "").await
    }
}

/// A Weir with one worker for these endpoints by HTTP/2.
async fn start(yaml: &str, keys: &str) -> (Weir, Target) {
    let yaml = yaml.changed("    split:", &format!("    protocol: h2\n{keys}    split:"));
    let weir = Weir::start(&yaml.changed("shutdown:", "runtime: { threads: 1 }\nshutdown:")).await;
    let web = Target::from(weir.address("web").await);
    (weir, web)
}

/// What Weir says to the endpoint.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// One connection of an [`Endpoint`].
pub(crate) struct Peer {
    socket: TcpStream,
    read: BytesMut,
    begun: bool,
}

impl Peer {
    /// The next frame that is about a stream. SETTINGS are answered; a PING is none of Weir's business.
    pub(crate) async fn frame(&mut self) -> std::io::Result<Frame> {
        if !self.begun {
            self.begun = true;
            self.take(24).await?;
            // A window of 1 MiB for uploads, of each stream and of all together.
            self.send(SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]).await?;
            self.send(WINDOW_UPDATE, 0, 0, &[0, 16, 0, 0]).await?;
        }
        loop {
            let head = self.take(9).await?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            self.take(length).await?;
            match (head[3], head[4]) {
                (SETTINGS, 0) => self.send(SETTINGS, 1, 0, &[]).await?,
                (PING, _) => panic!("Weir asks nobody whether they live"),
                (kind @ (DATA | HEADERS | RST_STREAM), flags) => return Ok(Frame { kind, flags, stream }),
                _ => {}
            }
        }
    }

    async fn take(&mut self, length: usize) -> std::io::Result<BytesMut> {
        while self.read.len() < length {
            if self.socket.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.split_to(length))
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.send_all(&frame(kind, flags, stream, payload)).await
    }

    pub(crate) async fn send_all(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(frames).await
    }

    /// An empty answer.
    async fn ok(&mut self, stream: u32) -> std::io::Result<()> {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, OK).await
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[length[1], length[2], length[3], kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// Nothing that happened was the version's fault.
async fn assert_not_charged(weir: &Weir) {
    let metrics = weir.metrics().await;
    let errors = metrics.samples("weir_upstream_errors_total", &[]);
    assert!(errors.iter().all(|sample| sample.value == 0.0), "{errors:?}");
}

async fn retries(weir: &Weir) -> f64 {
    weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "unprocessed")])
}

/// Sends so many POSTs from each of some clients of both protocols at once; each must be answered.
async fn posts(web: &Target, clients: usize, each: usize) {
    let mut all = JoinSet::new();
    for client in 0..clients {
        let web = web.clone();
        all.spawn(async move {
            let request = Request::post("/", "order");
            if client % 2 == 0 {
                let mut h1 = H1::connect(&web).await;
                for _ in 0..each {
                    h1.send(&request).await.expect(200);
                }
            } else {
                let h2 = H2::connect(&web).await;
                for _ in 0..each {
                    h2.send(&request).await.expect(200);
                }
            }
        });
    }
    while let Some(client) = all.join_next().await {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_goes_away_after_five_requests_costs_nothing() {
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        let mut last = 0;
        for _ in 0..5 {
            loop {
                let frame = peer.frame().await?;
                last = last.max(frame.stream);
                if frame.flags & END_STREAM != 0 {
                    peer.ok(frame.stream).await?;
                    break;
                }
            }
        }
        // As nginx does it: one GOAWAY, and deaf to what is above it.
        peer.send(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &[0; 4]].concat()).await?;
        while let Ok(frame) = peer.frame().await {
            if frame.stream <= last && frame.flags & END_STREAM != 0 {
                peer.ok(frame.stream).await?;
            }
        }
        Ok(())
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    posts(&web, 12, 50).await;
    assert_not_charged(&weir).await;
    // A connection that is told to end has at most the five, one more of each client, and four that followed answers. A
    // few first requests may have been caught by a GOAWAY; then Weir knows.
    assert!((600 / 16..240).contains(&endpoint.accepted()), "{}", endpoint.accepted());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_to_an_endpoint_that_announces_its_close_after_each_are_executed_once() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = start(&shop(&[(&v1, 100.0)]), "").await;
    let post = Load::at(&web).request(Request::post("/close-after", "order")).keep_alive(4).http2(1, 4).count(400);
    let ledger = post.run().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&v1]);
    assert_not_charged(&weir).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_tried_again_on_a_new_connection_whatever_its_method() {
    let endpoint = Endpoint::start(async |mut peer: Peer, number| {
        loop {
            let frame = peer.frame().await?;
            if number == 0 && frame.kind == HEADERS {
                peer.send(RST_STREAM, 0, frame.stream, &REFUSED).await?;
            } else if number > 0 && frame.flags & END_STREAM != 0 {
                peer.ok(frame.stream).await?;
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    H1::connect(&web).await.send(&Request::post("/", "order")).await.expect(200);
    assert_eq!((endpoint.accepted(), retries(&weir).await), (2, 1.0));
    H2::connect(&web).await.send(&Request::post("/", "order")).await.expect(200);
    assert_not_charged(&weir).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_everywhere_is_told_so_and_the_version_is_not_charged() {
    // Reads all of the body first, so that a large one is lost.
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        loop {
            let frame = peer.frame().await?;
            if frame.flags & END_STREAM != 0 {
                peer.send(RST_STREAM, 0, frame.stream, &REFUSED).await?;
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    for (length, tried) in [(5, 4), (65_000, 4), (200_000, 1)] {
        let before = endpoint.accepted();
        let response = H1::connect(&web).await.send(&Request::post("/", "x".repeat(length))).await.expect(503);
        assert_eq!(response.header("weir-error"), "unprocessed");
        assert!(endpoint.accepted() - before <= tried);
    }
    assert_eq!(retries(&weir).await, 6.0);
    assert_not_charged(&weir).await;
    let judged = weir.metrics().await.value("weir_request_duration_seconds_count", &[]);
    assert_eq!(judged, 0.0, "what a rollout is judged by");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_empty_frames_do_not_end_the_connection() {
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        loop {
            let stream = peer.frame().await?.stream;
            let parts = [
                frame(HEADERS, END_HEADERS, stream, OK),
                frame(DATA, 0, stream, &[]),
                frame(DATA, 0, stream, b"ok"),
                frame(DATA, 0, stream, &[]),
                frame(DATA, END_STREAM, stream, &[]),
            ];
            peer.send_all(&parts.concat()).await?;
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    let mut h1 = H1::connect(&web).await;
    let h2 = H2::connect(&web).await;
    for _ in 0..60 {
        assert_eq!(h1.get("/").await.expect(200).text(), "ok");
        assert_eq!(h2.get("/").await.expect(200).text(), "ok");
    }
    assert_eq!(endpoint.accepted(), 1);
    assert_not_charged(&weir).await;
    weir.stop().await;
}

/// Messages of three bytes, as many as wait in a stream of a client that reads slowly.
const MESSAGES: usize = 18_000;

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_that_nobody_reads_do_not_end_the_connection_of_others() {
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        let mut many = true;
        loop {
            let frame = peer.frame().await?;
            if frame.flags & END_STREAM == 0 {
                continue;
            }
            let stream = frame.stream;
            if std::mem::take(&mut many) {
                peer.send(HEADERS, END_HEADERS, stream, OK).await?;
                let messages = self::frame(DATA, 0, stream, b"abc").repeat(MESSAGES);
                peer.send_all(&messages).await?;
                peer.send(DATA, END_STREAM, stream, &[]).await?;
            } else {
                peer.ok(stream).await?;
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    // A client with a window of 16 bytes, which it opens only after the others were answered.
    let Address::Inet(address) = &web.address else { panic!("a TCP listener") };
    let socket = TcpStream::connect(address).await.unwrap();
    let mut builder = ::h2::client::Builder::new();
    builder.initial_window_size(16);
    let (send, connection) = builder.handshake::<_, bytes::Bytes>(socket).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    let mut send = send.ready().await.unwrap();
    let request = http::Request::get("http://shop.test/").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let mut body = within("the slow reader's head", response).await.unwrap().into_body();
    let h2 = H2::connect(&web).await;
    let mut h1 = H1::connect(&web).await;
    for _ in 0..20 {
        h2.get("/").await.expect(200);
        h1.send(&Request::post("/", "order")).await.expect(200);
    }
    let mut read = 0;
    while let Some(piece) = within("the slow reader's next piece", body.data()).await {
        let piece = piece.unwrap();
        read += piece.len();
        // From here on it reads well: one window for all that is to come.
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(read, 3 * MESSAGES);
    assert_eq!(endpoint.accepted(), 1);
    assert_not_charged(&weir).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_answers_do_not_end_the_connection_of_others() {
    // What comes for a stream that was cancelled long ago is the endpoint's right.
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        let mut cancelled = Vec::new();
        loop {
            let frame = peer.frame().await?;
            match frame.kind {
                RST_STREAM => cancelled.push(frame.stream),
                HEADERS if frame.flags & END_STREAM == 0 => {
                    for stream in cancelled.drain(..) {
                        peer.send(DATA, 0, stream, b"late").await?;
                    }
                }
                HEADERS => peer.send(HEADERS, END_HEADERS, frame.stream, OK).await?,
                _ => peer.ok(frame.stream).await?,
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    let h2 = H2::connect(&web).await;
    for _ in 0..12 {
        for _ in 0..100 {
            let mut stream = h2.open(&Request::get("/")).await;
            stream.head().await;
            stream.cancel();
        }
        let done = async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0;
        eventually("all were cancelled", done).await;
        h2.send(&Request::post("/", "order")).await.expect(200);
    }
    assert_eq!(endpoint.accepted(), 1);
    assert_not_charged(&weir).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_who_do_not_read_keep_nobody_waiting() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = start(&shop(&[(&v1, 100.0)]), "").await;
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let h2 = H2::connect(&web).await;
        let mut stream = h2.open(&Request::get("/bytes/10000000")).await;
        assert_eq!(stream.head().await.status, 200);
        stalled.push((h2, stream));
    }
    let mut h1 = H1::connect(&web).await;
    for _ in 0..20 {
        h1.get("/").await.expect(200);
    }
    assert_eq!(v1.accepted(), 1, "one connection for all");
    for (_, stream) in stalled {
        stream.cancel();
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_to_an_endpoint_that_went_closes() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let yaml = |origin| shop(&[(origin, 100.0)]).changed("    split:", "    protocol: h2\n    split:");
    let weir = Weir::start(&yaml(&v1)).await;
    let web = Target::from(weir.address("web").await);
    let h2 = H2::connect(&web).await;
    let mut held = h2.open(&Request::get("/hold")).await;
    v1.wait_held(1).await;
    weir.reconfigure(&yaml(&v2)).await;
    assert_eq!(H1::connect(&web).await.get("/").await.expect(200).origin(), "v2");
    assert_eq!(v1.connections(), 1, "a request is on it");
    v1.release();
    assert_eq!(held.head().await.status, 200);
    eventually("the connection to it closes", async || v1.connections() == 0).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_pause_as_long_as_idle_allows() {
    let v1 = Origin::start("v1").await;
    let keys = "    timeouts: { first_byte: 400ms, idle: 15s }\n";
    let (weir, web) = start(&shop(&[(&v1, 100.0)]), keys).await;
    let (mut h1, h2) = (H1::connect(&web).await, H2::connect(&web).await);
    let paused = Request::get("/drip/3/700");
    let (over_h1, over_h2) = tokio::join!(h1.send(&paused), h2.send(&paused));
    assert_eq!((over_h1.expect(200).body.len(), over_h2.status), (over_h2.body.len(), 200));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_silent_to_one_is_a_504_to_that_one_only() {
    let v1 = Origin::start("v1").await;
    let keys = "    timeouts: { first_byte: 400ms }\n";
    let (weir, web) = start(&shop(&[(&v1, 100.0)]), keys).await;
    let h2 = H2::connect(&web).await;
    let mut beside = h2.open(&Request::get("/sse")).await;
    assert_eq!(beside.head().await.status, 200);
    let mut h1 = H1::connect(&web).await;
    assert_eq!(h1.get("/no-answer").await.expect(504).header("weir-error"), "timeout");
    let posted = h2.send(&Request::post("/no-answer", "order")).await.expect(504);
    assert_eq!(posted.header("weir-error"), "timeout");
    v1.push("still here");
    assert!(beside.piece().await.unwrap().is_some(), "the stream beside it lives");
    v1.end_streams();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_its_request_announces_the_close() {
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        loop {
            let frame = peer.frame().await?;
            if frame.kind == HEADERS {
                peer.ok(frame.stream).await?;
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    let mut h1 = H1::connect(&web).await;
    h1.write_raw("POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 1000000\r\n\r\n").await;
    let early = h1.read_response("POST").await.unwrap().expect(200);
    assert!(early.announced_close, "{early:?}");
    assert_not_charged(&weir).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_expects_100_continue_gets_it() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = start(&shop(&[(&v1, 100.0)]), "").await;
    // The endpoint's own, and ours where it sends none.
    for path in ["/continue", "/sink"] {
        let response = H1::connect(&web).await.send(&Request::post(path, "hello").expect_continue()).await.expect(200);
        let interim: Vec<u16> = response.interim.iter().map(|interim| interim.status).collect();
        assert_eq!(interim, [100], "{path}");
        assert_eq!(response.json::<serde_json::Value>()["length"], 5, "{path}");
    }
    // A final answer instead stays one.
    let refused =
        H1::connect(&web).await.send(&Request::post("/status/417", "hello").expect_continue()).await.expect(417);
    assert!(refused.interim.is_empty());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_of_http_2_endpoints_reach_http_1_clients() {
    let v1 = Origin::start("v1").await;
    let (weir, web) = start(&shop(&[(&v1, 100.0)]), "").await;
    let response = H1::connect(&web).await.get("/early-hints").await.expect(200);
    assert_eq!(response.interim.iter().map(|interim| interim.status).collect::<Vec<_>>(), [103]);
    let old = H1::connect(&web).await.send(&Request::get("/early-hints").http10()).await.expect(200);
    assert!(old.interim.is_empty());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_without_a_body_ends_here() {
    for protocol in ["http1", "h2"] {
        let v1 = Origin::start("v1").await;
        let yaml = shop(&[(&v1, 100.0)]).changed("    split:", &format!("    protocol: {protocol}\n    split:"));
        let weir = Weir::start(&yaml).await;
        let web = Target::from(weir.address("web").await);
        let request = Request::get("/headers").header("expect", "100-continue");
        let over_h1 = H1::connect(&web).await.send(&request).await.expect(200);
        let over_h2 = H2::connect(&web).await.send(&request).await.expect(200);
        for seen in [over_h1, over_h2] {
            assert!(!seen.text().contains("100-continue"), "{protocol}: {}", seen.text());
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_trailers_are_an_error() {
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        loop {
            let stream = peer.frame().await?.stream;
            // content-length: 5, without indexing (RFC 7541 §6.2.2), then `:status: 200`.
            let trailers: &[u8] = if stream % 4 == 1 { &[0x0f, 0x0d, 1, b'5'] } else { OK };
            let parts = [
                frame(HEADERS, END_HEADERS, stream, OK),
                frame(DATA, 0, stream, b"ok"),
                frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers),
            ];
            peer.send_all(&parts.concat()).await?;
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    for _ in 0..2 {
        assert!(H1::connect(&web).await.try_send(&Request::get("/")).await.is_err());
        assert!(H1::connect(&web).await.try_send(&Request::get("/")).await.is_err());
        assert!(H2::connect(&web).await.try_send(&Request::get("/")).await.is_err());
    }
    let metrics = weir.metrics().await;
    let errors = metrics.samples("weir_upstream_errors_total", &[]);
    assert_eq!(errors.iter().map(|sample| sample.value).sum::<f64>(), 6.0);
    assert_eq!(endpoint.accepted(), 1, "it is the stream's error");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_answer_is_an_error_of_its_stream() {
    const MALFORMED: [&[u8]; 8] = [
        // After `:status: 200`: an upper case name, an octet that no value has, and a field of connections.
        &[0x88, 0, 1, b'X', 0],
        &[0x88, 0, 1, b'a', 1, 0],
        &[0x88, 0, 10, b'c', b'o', b'n', b'n', b'e', b'c', b't', b'i', b'o', b'n', 0],
        // `:status` as `abc`, `99`, `1000`, twice, and beside `:path`.
        &[0x08, 3, b'a', b'b', b'c'],
        &[0x08, 2, b'9', b'9'],
        &[0x08, 4, b'1', b'0', b'0', b'0'],
        &[0x88, 0x88],
        &[0x88, 0x84],
    ];
    // The first request waits, the next ones get a malformed answer each, then some that are sound by the table.
    let endpoint = Endpoint::start(async |mut peer: Peer, _| {
        let mut streams = Vec::new();
        loop {
            let Frame { kind, stream, .. } = peer.frame().await?;
            if kind != HEADERS {
                continue;
            }
            streams.push(stream);
            let end = END_HEADERS | END_STREAM;
            match streams.len() - 1 {
                0 => {}
                at if at <= MALFORMED.len() => {
                    let block = [MALFORMED[at - 1], &[0x40, 1, b'a', 1, b'b']].concat();
                    peer.send(HEADERS, end, stream, &block).await?;
                }
                // The stream's window by nothing.
                at if at == MALFORMED.len() + 1 => peer.send(WINDOW_UPDATE, 0, stream, &[0; 4]).await?,
                _ => {
                    peer.send(HEADERS, end, stream, &[0x88, 0xBE]).await?;
                    peer.ok(streams[0]).await?;
                }
            }
        }
    })
    .await;
    let (weir, web) = endpoint.weir().await;
    let first = tokio::spawn({
        let web = web.clone();
        async move { H2::connect(&web).await.get("/first").await }
    });
    eventually("it is under way", async || endpoint.accepted() == 1).await;
    for at in 0..MALFORMED.len() {
        let answer = H1::connect(&web).await.get("/").await.expect(502);
        assert_eq!(answer.headers.get("weir-error"), Some("protocol"), "malformed {at}");
    }
    H1::connect(&web).await.get("/").await.expect(502);
    let sound = H1::connect(&web).await.get("/").await.expect(200);
    assert_eq!(sound.headers.get("a"), Some("b"));
    first.await.unwrap().expect(200);
    assert_eq!(endpoint.accepted(), 1);
    weir.stop().await;
}
