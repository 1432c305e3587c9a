//! HTTP/2 clients that send frames and want nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::raw;
use crate::harness::{H1, Load, Origin, Target, Weir, eventually, shop};

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const PING: u8 = 6;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface and empty SETTINGS.
pub(super) fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
}

/// `method /` for `shop.test`, by HPACK's static table and without its dynamic one (RFC 7541 appendix A).
pub(super) fn head(method: u8) -> Vec<u8> {
    [&[method, 0x86, 0x84, 0x01, 9], b"shop.test".as_slice()].concat()
}

pub(super) const GET: u8 = 0x82;
const POST: u8 = 0x83;

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

async fn survives(what: &str, bytes: Vec<u8>, polite: bool, must_stop: bool) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    Load::at(&web).keep_alive(2).http2(1, 2).count(100).run().await.assert_clean();
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
    survives("rapid resets", bytes, true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_data_is_not_taken_for_ever() {
    let mut bytes = preface();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &head(POST)));
    for _ in 0..20_000 {
        bytes.extend(frame(0, 0, 1, &[]));
    }
    survives("empty DATA", bytes, true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_whose_answers_nobody_reads_are_not_kept() {
    let mut bytes = preface();
    for at in 0..1_000_000_u64 {
        bytes.extend(frame(PING, 0, 0, &at.to_be_bytes()));
    }
    survives("unread PINGs", bytes, false, false).await;
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
    survives("CONTINUATION", bytes, true, true).await;
}
