//! Clients that ask for much and take nothing, and uploads that wait.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::corpus::literal;
use super::flood::{END_HEADERS, END_STREAM, HEADERS, frame, preface};
use super::raw;
use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Origin, Request, Sse, Target, Weir, eventually, express_lane, shop};

/// What one connection may hold, however it is done.
const CONNECTION: u64 = 32 << 20;
/// What one on the express lane may hold.
const OWN_CONNECTION: u64 = 4 << 20;
/// Requests of one connection, as many as are allowed at once.
const STREAMS: u32 = 100;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// How a client does not read.
#[derive(Clone, Copy, Debug)]
enum Unread {
    /// It allows everything and reads nothing from its socket.
    Socket,
    /// It allows no stream anything.
    NoWindow,
    /// It allows each stream one byte, and another one again and again.
    Bytewise,
    /// It allows each stream a lot, and the connection what it is allowed from the beginning.
    Connection,
}

impl Unread {
    fn window(self) -> u32 {
        match self {
            Self::Socket | Self::Connection => LARGEST_WINDOW,
            Self::NoWindow => 0,
            Self::Bytewise => 1,
        }
    }

    /// Asks for a megabyte on each of a hundred streams.
    async fn ask(self, web: &Target) -> TcpStream {
        let mut bytes = preface();
        let setting = [&[0, 4], self.window().to_be_bytes().as_slice()].concat();
        bytes.extend(frame(SETTINGS, 0, 0, &setting));
        if !matches!(self, Self::Connection) {
            bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - 65_535).to_be_bytes()));
        }
        let path = b"/bytes/1000000";
        let head = [&[0x82, 0x86, 0x04, 14], path.as_slice(), &[0x01, 9], b"shop.test"].concat();
        for at in 0..STREAMS {
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, &head));
        }
        let mut socket = raw::connect(web).await;
        socket.write_all(&bytes).await.unwrap();
        socket
    }

    /// What it goes on with.
    async fn goes_on(self, mut socket: TcpStream) {
        let (mut reader, mut writer) = socket.split();
        let mut sink = vec![0; 64 * 1024];
        let take = async { while matches!(reader.read(&mut sink).await, Ok(1..)) {} };
        let allow = async {
            let update = |at| frame(WINDOW_UPDATE, 0, 2 * at + 1, &1_u32.to_be_bytes());
            let round: Vec<u8> = (0..STREAMS).flat_map(update).collect();
            while matches!(self, Self::Bytewise) && writer.write_all(&round).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        match self {
            Self::Socket => std::future::pending().await,
            _ => tokio::select! {
                () = take => {}
                () = allow => {}
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads_hold_little() {
    hold_little(&|yaml| yaml, CONNECTION).await;
}

/// What HTTP/2 endpoints send ahead of a stream grows with use, but not on all streams of a client.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_http2_endpoints_that_nobody_reads_hold_little() {
    // The engine lets all of them grow.
    hold_little(&|yaml| yaml.changed("    split:", "    protocol: h2\n    split:"), 2 * CONNECTION).await;
}

/// `engine`: what a connection may hold on the general lane.
async fn hold_little(change: &dyn Fn(String) -> String, engine: u64) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&change(shop(&[(&v1, 100.0)]))).await;
    let web = Target::from(weir.address("web").await);
    H2::connect(&web).await.get("/").await.expect(200);
    // Several, so that what the process takes once for all does not count much.
    let (connections, most): (u64, u64) = if express_lane() { (8, OWN_CONNECTION) } else { (1, engine) };
    for unread in [Unread::Socket, Unread::NoWindow, Unread::Bytewise, Unread::Connection] {
        let idle = weir.rss_bytes();
        let mut readers = Vec::new();
        for _ in 0..connections {
            let socket = unread.ask(&web).await;
            readers.push(tokio::spawn(unread.goes_on(socket)));
        }
        // The express lane reads no more requests of one who does not take the answers to the first.
        let under_way = if express_lane() { 2 } else { STREAMS };
        eventually("requests are under way", async || {
            weir.metrics().await.value("weir_requests_in_flight", &[]) >= f64::from(under_way)
        })
        .await;
        let mut peak = idle;
        let mut look = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..150 {
            look.tick().await;
            peak = peak.max(weir.rss_bytes());
        }
        let growth = (peak - idle) / connections;
        eprintln!("{unread:?}: {} KiB more for each connection", growth >> 10);
        assert!(growth <= most, "{unread:?}: one connection holds {growth} bytes");
        H1::connect(&web).await.get("/").await.expect(200);
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        eventually("nothing is in flight", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0)
            .await;
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_those_that_waited_longest_are_cut() {
    let v1 = Origin::start("v1").await;
    // A stream of the engine's is reckoned with 256 KiB, one of the express lane with 16.
    let (limit, within, kinds): (u32, u32, Vec<Unread>) = if express_lane() {
        (16, 1024, [Unread::NoWindow, Unread::Socket, Unread::Bytewise].repeat(6))
    } else {
        (32, 128, vec![Unread::NoWindow, Unread::Socket, Unread::Bytewise])
    };
    let asked = u32::try_from(kinds.len()).unwrap() * STREAMS;
    let limits = format!("\nlimits: {{ unread_bytes: {limit}MiB }}\nservices:");
    let yaml = shop(&[(&v1, 100.0)]).changed("\nservices:", &limits);
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    // Events that come now and then wait for nobody, however old the stream is.
    let mut events = Sse::open(&web, "/sse").await;
    let h2 = H2::connect(&web).await;
    let mut others = Sse::open_on(&h2, "/sse").await;
    events.event().await;
    others.event().await;
    let mut readers = Vec::new();
    for unread in kinds {
        let socket = unread.ask(&web).await;
        readers.push(tokio::spawn(unread.goes_on(socket)));
    }
    eventually("some are cut", async || weir.metrics().await.value("weir_unread_cut_total", &[]) > 0.0).await;
    // How many are counted as cut depends on when they came: a connection that ends takes others along.
    eventually("what is above the limit has ended", async || {
        weir.metrics().await.value("weir_requests_total", &[]) >= f64::from(asked - within)
    })
    .await;
    eventually("what is held is within the limit", async || {
        weir.metrics().await.value("weir_unread_bytes", &[]) <= f64::from(limit << 20)
    })
    .await;
    assert_eq!(h2.get("/bytes/5000000").await.body.len(), 5_000_000, "who reads is served");
    v1.push("still");
    assert_eq!(events.event().await, "still");
    assert_eq!(others.event().await, "still");
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    weir.stop().await;
}

/// What uploads wait for.
#[derive(Clone, Copy, Debug)]
enum Waits {
    /// The rest of a body that is small enough to be read before it is sent.
    ForTheRest,
    /// The endpoint, which takes nothing.
    ForTheEndpoint,
}

impl Waits {
    /// Begins an upload on each of so many streams.
    async fn upload(self, web: &Target, streams: u32) -> TcpStream {
        const SENT: usize = 50_000;
        let length = match self {
            Self::ForTheRest => SENT + 1,
            Self::ForTheEndpoint => SENT,
        };
        let mut bytes = Vec::new();
        let mut head = [&[0x83, 0x86, 0x84, 0x01, 9], b"shop.test".as_slice()].concat();
        literal(&mut head, b"content-length", length.to_string().as_bytes());
        for at in 0..streams {
            bytes.extend(frame(HEADERS, END_HEADERS, 2 * at + 1, &head));
            for piece in vec![0; SENT].chunks(16_000) {
                bytes.extend(frame(DATA, 0, 2 * at + 1, piece));
            }
        }
        let mut socket = raw::connect(web).await;
        socket.write_all(&preface()).await.unwrap();
        // The connection's window is there when it is announced.
        let mut kind = SETTINGS;
        while kind != WINDOW_UPDATE {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            kind = head[3];
            socket.read_exact(&mut vec![0; usize::from(head[2])]).await.unwrap();
        }
        socket.write_all(&bytes).await.unwrap();
        socket
    }
}

/// An HTTP/2 endpoint that allows no stream to send a body.
async fn closed_window() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                socket.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await?;
                tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_wait_are_held_within_the_limit() {
    let v1 = Origin::start("v1").await;
    // A connection of the express lane holds less, and allows no more.
    let (limit, connections, streams) = if express_lane() { (16, 24, 20) } else { (32, 3, STREAMS) };
    let limits = format!("\nlimits: {{ unread_bytes: {limit}MiB }}\nservices:");
    for waits in [Waits::ForTheRest, Waits::ForTheEndpoint] {
        let mut yaml = shop(&[(&v1, 100.0)]).changed("\nservices:", &limits);
        if matches!(waits, Waits::ForTheEndpoint) {
            yaml = yaml
                .changed(&v1.address().to_string(), &closed_window().await)
                .changed("    split:", "    protocol: h2\n    split:");
        }
        let weir = Weir::start(&yaml).await;
        let web = Target::from(weir.address("web").await);
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(waits.upload(&web, streams).await);
        }
        let metrics = async || weir.metrics().await;
        eventually("some are cut", async || metrics().await.value("weir_unread_cut_total", &[]) >= 100.0).await;
        eventually("what is held is within the limit", async || {
            metrics().await.value("weir_unread_bytes", &[]) <= f64::from(limit << 20)
        })
        .await;
        let uploads = metrics().await.value("weir_unread_cut_total", &[]);
        assert!(uploads <= f64::from(connections * streams), "{waits:?}: {uploads} were cut");
        if matches!(waits, Waits::ForTheRest) {
            H2::connect(&web).await.send(&Request::post("/echo", "x".repeat(200_000))).await.expect(200);
        }
        drop(clients);
        eventually("nothing waits", async || metrics().await.value("weir_unread_bytes", &[]) == 0.0).await;
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_which_nothing_waits_are_not_counted() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("\nservices:", "\nlimits: { unread_bytes: 16MiB }\nservices:");
    for yaml in [yaml.clone(), yaml.changed("    split:", "    protocol: h2\n    split:")] {
        let weir = Weir::start(&yaml).await;
        let web = Target::from(weir.address("web").await);
        let h2 = H2::connect(&web).await;
        // As many as the limit has room for: calls whose answers pause, and calls whose clients do.
        let mut answers = Vec::new();
        for _ in 0..64 {
            let mut answer = h2.open(&Request::post("/sse", "").chunked()).await;
            answer.write("all of it").await.unwrap();
            answer.finish();
            answer.piece().await.unwrap();
            answers.push(answer);
        }
        let other = H2::connect(&web).await;
        let mut requests = Vec::new();
        for _ in 0..64 {
            let mut request = other.open(&Request::post("/echo", "").chunked()).await;
            request.write("a part").await.unwrap();
            requests.push(request);
        }
        let bytes = async || weir.metrics().await.value("weir_unread_bytes", &[]);
        if yaml.contains("protocol: h2") {
            let mut look = tokio::time::interval(Duration::from_millis(50));
            for _ in 0..20 {
                look.tick().await;
                assert_eq!(bytes().await, 0.0);
            }
        } else {
            // To HTTP/1.1 endpoints a request is waited for, but not long.
            eventually("nothing waits", async || bytes().await == 0.0).await;
        }
        assert_eq!(weir.metrics().await.value("weir_unread_cut_total", &[]), 0.0);
        weir.stop().await;
    }
}
