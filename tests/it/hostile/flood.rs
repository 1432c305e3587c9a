//! HTTP/2 clients that send frames and want nothing, and sound ones that must not be taken for them.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::raw;
use crate::harness::frame::{
    CONTINUATION, DATA, INITIAL_WINDOW_SIZE, PING, PRIORITY, get, indexing, literal, reset, settings, window_update,
};
use crate::harness::{Frames, H1, H2, Load, Origin, Request, Target, Weir, eventually, express_lane, shop};

pub(super) use crate::harness::frame::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame, preface};

/// `method /` for `shop.test`, by HPACK's static table and without its dynamic one (RFC 7541 appendix A).
pub(super) fn head(method: u8) -> Vec<u8> {
    [&[method, 0x86, 0x84, 0x01, 9], b"shop.test".as_slice()].concat()
}

pub(super) const GET: u8 = 0x82;
const POST: u8 = 0x83;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a flood of bytes came to.
#[derive(Debug)]
struct Flooded {
    /// Whether the server ended the connection, or took no more of it.
    stopped: bool,
    #[expect(dead_code, reason = "printed")]
    sent: usize,
}

/// Sends `bytes`, taking what comes back if `polite`, until all is sent or the server wants no more.
async fn flood(web: &Target, bytes: &[u8], polite: bool) -> Flooded {
    let mut socket = raw::connect(web).await;
    let (mut reader, mut writer) = socket.split();
    let mut sent = 0;
    let send = async {
        for piece in bytes.chunks(8 * 1024) {
            match timeout(Duration::from_secs(3), writer.write_all(piece)).await {
                Ok(Ok(())) => sent += piece.len(),
                Ok(Err(_)) | Err(_) => return true,
            }
        }
        false
    };
    let receive = async {
        let mut sink = vec![0; 64 * 1024];
        while polite && matches!(reader.read(&mut sink).await, Ok(1..)) {}
        if !polite {
            std::future::pending::<()>().await;
        }
    };
    let stopped = tokio::select! {
        stopped = send => stopped,
        () = receive => true,
    };
    // What is on its way may still be what the server ends it for.
    let ended = async {
        let mut sink = vec![0; 64 * 1024];
        while matches!(reader.read(&mut sink).await, Ok(1..)) {}
    };
    let stopped = stopped || (polite && timeout(Duration::from_secs(2), ended).await.is_ok());
    Flooded { stopped, sent }
}

/// Whether the server has to end the connection, or take no more of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stops {
    Always,
    /// The engine of the general lane takes it all.
    OnTheExpressLane,
    /// It may be that the client is only busy, or the memory is all that matters.
    Perhaps,
}

async fn survives(what: &str, bytes: Vec<u8>, polite: bool, stops: Stops) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).keep_alive(2).http2(1, 2).count(100).run().await.assert_clean();
    let must_stop = stops == Stops::Always || (stops == Stops::OnTheExpressLane && express_lane());
    if stops == Stops::OnTheExpressLane && !must_stop {
        eprintln!("{what}: on the general lane it need not stop");
    }
    let idle = weir.rss_bytes();
    let probe = Load::at(&web).keep_alive(2).http2(1, 2).start();
    let flooded = flood(&web, &bytes, polite).await;
    let growth = weir.rss_bytes().saturating_sub(idle);
    probe.wait_more(100).await;
    probe.stop().await.assert_clean();
    eprintln!("{what}: {flooded:?} of {}, {} KiB more", bytes.len(), growth >> 10);
    assert!(flooded.stopped || !must_stop, "{what}: the server took all of it");
    assert!(growth <= 20 << 20, "{what}: {growth} bytes more");
    eventually("nothing is in flight", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0)
        .await;
    H1::connect(&web).await.get("/").await.expect(200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_leave_others_alone() {
    let mut bytes = preface();
    for at in 0..2_000 {
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, &head(GET)));
        bytes.extend(frame(RST_STREAM, 0, 2 * at + 1, &8_u32.to_be_bytes()));
    }
    survives("rapid resets", bytes, true, Stops::Always).await;
}

/// Several of the streams that end in one turn may be too many.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_for_its_malformed_requests_is_counted_once() {
    if !express_lane() {
        // The engine counts none.
        return;
    }
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let mut client = Frames::connect(&Target::from(weir.address("web").await)).await;
    let malformed = |at: u32| get(2 * at + 1, "/", &[("Upper", b"1")]);
    client.send(&(0..10_000).flat_map(malformed).collect::<Vec<_>>()).await;
    client.until("the end", |seen| seen.ended.is_some()).await.unwrap();
    let codes: Vec<u32> = client.seen().goaways.iter().map(|goaway| goaway.code).collect();
    assert_eq!(codes, [ENHANCE_YOUR_CALM]);
    let ended = weir.metrics().await.value("weir_client_abuse_total", &[("kind", "stream_error")]);
    assert_eq!(ended, 1.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_data_is_not_taken_for_ever() {
    let mut bytes = preface();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &head(POST)));
    for _ in 0..20_000 {
        bytes.extend(frame(0, 0, 1, &[]));
    }
    survives("empty DATA", bytes, true, Stops::Always).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_whose_answers_nobody_reads_are_not_kept() {
    let mut bytes = preface();
    for at in 0..1_000_000_u64 {
        bytes.extend(frame(PING, 0, 0, &at.to_be_bytes()));
    }
    survives("unread PINGs", bytes, false, Stops::Perhaps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_without_end_is_cut() {
    let mut bytes = preface();
    bytes.extend(frame(HEADERS, END_STREAM, 1, &head(GET)));
    // A literal field without indexing, again and again, in CONTINUATION frames that never say END_HEADERS.
    let field = [&[0x00, 3], b"x-a".as_slice(), &[100], &[b'a'; 100]].concat().repeat(100);
    for _ in 0..2_000 {
        bytes.extend(frame(9, 0, 1, &field));
    }
    survives("CONTINUATION", bytes, true, Stops::Always).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_header_block_without_end_is_cut() {
    let mut bytes = preface();
    bytes.extend(frame(HEADERS, END_STREAM, 1, &head(GET)));
    bytes.extend(frame(CONTINUATION, 0, 1, &[]).repeat(100_000));
    survives("empty CONTINUATION", bytes, true, Stops::Always).await;
}

/// CVE-2025-8671: what the client does makes the server reset its streams, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn resets_that_the_client_provokes_count_like_its_own() {
    type Fault = fn(u32) -> Vec<u8>;
    let faults: [(&str, Fault); 3] = [
        ("an increment of 0", |stream| window_update(stream, 0)),
        ("a window above its bound", |stream| window_update(stream, (1 << 31) - 1).repeat(2)),
        ("PRIORITY on itself", |stream| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())),
    ];
    for (what, fault) in faults {
        let mut bytes = preface();
        for at in 0..5_000 {
            bytes.extend(frame(HEADERS, END_HEADERS, 2 * at + 1, &head(POST)));
            bytes.extend(fault(2 * at + 1));
        }
        survives(what, bytes, true, Stops::OnTheExpressLane).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_only_cost_are_not_taken_for_ever() {
    let open = || [preface(), frame(HEADERS, END_HEADERS, 1, &head(POST))].concat();
    let many = |one: Vec<u8>, times: usize| [open(), one.repeat(times)].concat();
    let (own, perhaps) = (Stops::OnTheExpressLane, Stops::Perhaps);
    let rows = [
        ("PING", own, many(frame(PING, 0, 0, &[0; 8]), 200_000)),
        ("SETTINGS", own, many(settings(&[]), 200_000)),
        ("SETTINGS with windows", own, many(settings(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 9)]), 100_000)),
        ("PRIORITY", own, many(frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), 300_000)),
        ("padding only", own, many(frame(DATA, 8, 1, &[0]), 300_000)),
        ("small DATA", perhaps, many(frame(DATA, 0, 1, b"a"), 200_000)),
        ("frames of no known type", perhaps, many(frame(0x42, 0, 0, &[]), 300_000)),
        ("WINDOW_UPDATE", perhaps, many(window_update(1, 1), 300_000)),
    ];
    for (what, stops, bytes) in rows {
        survives(what, bytes, true, stops).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_whose_answers_nobody_reads_are_not_kept() {
    let bytes = [preface(), settings(&[]).repeat(1_000_000)].concat();
    survives("unread SETTINGS", bytes, false, Stops::Perhaps).await;
}

/// Small blocks that stand for large heads, one after the other (RFC 7541 §7.3).
#[tokio::test(flavor = "multi_thread")]
async fn heads_that_unpack_to_much_are_not_kept() {
    let mut bytes = preface();
    let first = [&head(GET)[..], &indexing(b"x-bomb", &[b'b'; 3_900])].concat();
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first));
    for at in 1..2_000 {
        // 62 MB each.
        let block = [&head(GET)[..], &[0xbe; 16_000]].concat();
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &block));
    }
    survives("HPACK", bytes, true, Stops::Perhaps).await;
}

/// The block of each request alone, which no table makes smaller.
#[tokio::test(flavor = "multi_thread")]
async fn heads_of_many_small_fields_are_not_kept() {
    let mut bytes = preface();
    let block = [&head(GET)[..], &literal(b"a", b"").repeat(3_500)].concat();
    for at in 0..1_000 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &block));
    }
    survives("small fields", bytes, true, Stops::Perhaps).await;
}

/// 200 MB by curl have a small frame after each of 16 KiB; that many in a row were once taken for an attack.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_whose_frames_have_small_tails_is_sound() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let h2 = H2::connect(weir.address("web").await).await;
    let mut stream = h2.open(&Request::post("/sink", "").chunked()).await;
    let piece = bytes::Bytes::from(vec![b'u'; 16_384 + 7]);
    for at in 0..2_500 {
        stream.write(piece.clone()).await.unwrap_or_else(|failure| panic!("piece {at}: {failure}"));
    }
    stream.finish();
    assert_eq!(stream.head().await.status, 200);
    assert!(h2.goaways().is_empty(), "{:?}", h2.goaways());
    weir.stop().await;
}

/// What a client does in hours, here in a moment: as many PINGs and settings as that are nobody's attack.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_whether_we_live_is_sound() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let mut frames = Frames::connect(&Target::from(weir.address("web").await)).await;
    for at in 0..100_u32 {
        frames.send(&frame(PING, 0, 0, &u64::from(at).to_be_bytes())).await;
        frames.until("an answer", |seen| seen.pongs.len() > at as usize).await.unwrap();
        if at % 10 == 0 {
            frames.send(&settings(&[(INITIAL_WINDOW_SIZE, 65_535 + at)])).await;
            frames.send(&window_update(0, 1)).await;
        }
        frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &head(GET))).await;
        frames.until("a response", |seen| seen.on(2 * at + 1).ended).await.unwrap();
    }
    assert!(frames.seen().goaways.is_empty());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_at_once_and_again_are_sound() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).http2(1, 100).count(5_000).run().await.assert_clean();
    weir.stop().await;
}

/// Whoever leaves a page takes back all that it has asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_leaves_pages_is_sound() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let mut frames = Frames::connect(&Target::from(weir.address("web").await)).await;
    let path = crate::harness::frame::request("GET", "/hold", &[]);
    for page in 0..4 {
        let streams: Vec<u32> = (0..60).map(|at| 200 * page + 2 * at + 1).collect();
        for stream in &streams {
            frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, *stream, &path)).await;
        }
        eventually("all are asked for", async || v1.held() == streams.len()).await;
        for stream in &streams {
            frames.send(&reset(*stream, 8)).await;
        }
        eventually("none is", async || v1.held() == 0).await;
        let next = 200 * page + 151;
        frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, next, &head(GET))).await;
        frames.until("the next page", |seen| seen.on(next).status() == Some(200)).await.unwrap();
    }
    assert!(frames.seen().goaways.is_empty());
    weir.stop().await;
}

/// Many connections of which nobody reads anything. What each holds is bounded, and so are all together.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_is_bounded_over_all_connections() {
    const CONNECTIONS: usize = 20;
    const STREAMS: u32 = 50;
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    if !express_lane() {
        eprintln!("skipped on the general lane: its engine keeps what nobody reads");
        return;
    }
    Load::at(&web).http2(4, 20).count(400).run().await.assert_clean();
    let idle = weir.rss_bytes();
    let path = crate::harness::frame::request("GET", "/bytes/3000000", &[]);
    for windows in [0, (1 << 31) - 1] {
        let connect = async || {
            let mut socket = raw::connect(&web).await;
            let mut bytes = [preface(), settings(&[(INITIAL_WINDOW_SIZE, windows)])].concat();
            bytes.extend(window_update(0, (1 << 31) - 65_536));
            for at in 0..STREAMS {
                bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &path));
            }
            socket.write_all(&bytes).await.unwrap();
            socket
        };
        let held = join_all((0..CONNECTIONS).map(|_| connect())).await;
        // Whose socket is full may have to wait with the rest of its requests.
        eventually("requests of each are under way", async || {
            weir.metrics().await.value("weir_requests_in_flight", &[]) >= 2.0 * CONNECTIONS as f64
        })
        .await;
        let mut peak = idle;
        let mut look = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..150 {
            look.tick().await;
            peak = peak.max(weir.rss_bytes());
        }
        let growth = peak - idle;
        eprintln!("windows of {windows}: {} KiB more", growth >> 10);
        assert!(growth <= 64 << 20, "windows of {windows}: {growth} bytes more");
        H1::connect(&web).await.get("/").await.expect(200);
        drop(held);
        eventually("nothing is in flight", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0)
            .await;
    }
    weir.stop().await;
}
