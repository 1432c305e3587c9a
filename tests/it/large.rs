//! Large and slow transfers: what passes through is not kept.

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::wire::{PATTERN_PIECE, pattern};
use crate::harness::{H1, H2, Origin, Request, Target, Weir, eventually, shop};

/// What one transfer carries.
const LARGE: u64 = 100_000_000;
/// What the process may grow by while one transfer, or one stalled reader, is under way.
const GROWTH: u64 = 30 << 20;

/// Watches what the process keeps while bytes pass.
struct Memory<'w> {
    weir: &'w Weir,
    idle: u64,
    peak: u64,
}

impl<'w> Memory<'w> {
    async fn of(weir: &'w Weir, web: &Target) -> Self {
        // The first requests pay for what every process needs once.
        H1::connect(web).await.get("/").await.expect(200);
        H2::connect(web).await.get("/").await.expect(200);
        let idle = weir.rss_bytes();
        Self { weir, idle, peak: idle }
    }

    fn sample(&mut self) {
        self.peak = self.peak.max(self.weir.rss_bytes());
    }

    fn assert_flat(mut self, what: &str) {
        self.sample();
        let growth = self.peak - self.idle;
        eprintln!("{what}: idle {} KiB, at most {} KiB more", self.idle >> 10, growth >> 10);
        assert!(growth <= GROWTH, "{what}: {growth} bytes more than idle");
    }
}

async fn start(http2_upstream: bool) -> (Origin, Weir, Target) {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]);
    let yaml = if http2_upstream { yaml.changed("    split:", "    protocol: h2\n    split:") } else { yaml };
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    (v1, weir, web)
}

/// What the origin's `/sink` says it took.
fn taken(body: &serde_json::Value) -> u64 {
    body["length"].as_u64().unwrap()
}

async fn upload_h1(web: &Target, memory: &mut Memory<'_>, chunked: bool) {
    let mut h1 = H1::connect(web).await;
    let framing = if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {LARGE}") };
    h1.write_raw(format!("POST /sink HTTP/1.1\r\nhost: shop.test\r\n{framing}\r\n\r\n")).await;
    let mut sent = 0;
    while sent < LARGE {
        let piece = pattern(sent, usize::try_from(LARGE - sent).unwrap().min(PATTERN_PIECE));
        if chunked {
            h1.write_raw(format!("{:x}\r\n", piece.len())).await;
        }
        h1.write_raw(&piece).await;
        if chunked {
            h1.write_raw("\r\n").await;
        }
        sent += piece.len() as u64;
        memory.sample();
    }
    if chunked {
        h1.write_raw("0\r\n\r\n").await;
    }
    let response = h1.read_response("POST").await.unwrap().expect(200);
    assert_eq!(taken(&response.json()), LARGE);
}

async fn upload_h2(web: &Target, memory: &mut Memory<'_>) {
    let h2 = H2::connect(web).await;
    let mut stream = h2.open(&Request::post("/sink", "").chunked()).await;
    let mut sent = 0;
    while sent < LARGE {
        let piece = pattern(sent, usize::try_from(LARGE - sent).unwrap().min(PATTERN_PIECE));
        sent += piece.len() as u64;
        stream.write(piece).await.unwrap();
        memory.sample();
    }
    stream.finish();
    assert_eq!(stream.head().await.status, 200);
    let mut body = Vec::new();
    while let Some(piece) = stream.piece().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    assert_eq!(taken(&serde_json::from_slice(&body).unwrap()), LARGE);
}

async fn download_h1(web: &Target, memory: &mut Memory<'_>, path: &str) {
    let mut h1 = H1::connect(web).await;
    assert_eq!(h1.open(&Request::get(path)).await.status, 200);
    let mut received = 0;
    while let Some(piece) = h1.piece().await.unwrap() {
        received += piece.len() as u64;
        memory.sample();
    }
    assert_eq!(received, LARGE, "{path}");
}

async fn download_h2(web: &Target, memory: &mut Memory<'_>, path: &str) {
    let h2 = H2::connect(web).await;
    let mut stream = h2.open(&Request::get(path)).await;
    let mut received = 0;
    while let Some(piece) = stream.piece().await.unwrap() {
        received += piece.len() as u64;
        memory.sample();
    }
    assert_eq!(received, LARGE, "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_100_mb_leave_memory_flat() {
    for http2_upstream in [false, true] {
        let (_v1, weir, web) = start(http2_upstream).await;
        let mut memory = Memory::of(&weir, &web).await;
        upload_h1(&web, &mut memory, false).await;
        upload_h1(&web, &mut memory, true).await;
        upload_h2(&web, &mut memory).await;
        memory.assert_flat(&format!("uploads, HTTP/2 to the origin: {http2_upstream}"));
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_of_100_mb_leave_memory_flat() {
    for http2_upstream in [false, true] {
        let (_v1, weir, web) = start(http2_upstream).await;
        let mut memory = Memory::of(&weir, &web).await;
        for path in [format!("/bytes/{LARGE}"), format!("/chunked/{LARGE}")] {
            download_h1(&web, &mut memory, &path).await;
            download_h2(&web, &mut memory, &path).await;
        }
        memory.assert_flat(&format!("downloads, HTTP/2 to the origin: {http2_upstream}"));
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_make_the_origin_wait_and_not_the_memory_grow() {
    for http2_upstream in [false, true] {
        let (v1, weir, web) = start(http2_upstream).await;
        let mut memory = Memory::of(&weir, &web).await;
        let request = Request::get(&format!("/bytes/{LARGE}"));
        let mut h1 = H1::connect(&web).await;
        h1.open(&request).await;
        let h2 = H2::connect(&web).await;
        let mut stream = h2.open(&request).await;
        stream.head().await;
        // As many looks as it takes a program without back pressure to take in everything.
        let mut look = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..150 {
            look.tick().await;
            memory.sample();
        }
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_requests_in_flight", &[]), 2.0, "both are still under way");
        memory.assert_flat(&format!("stalled readers, HTTP/2 to the origin: {http2_upstream}"));
        h1.reset();
        stream.cancel();
        eventually("nothing is in flight", async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 0.0)
            .await;
        drop(v1);
        weir.stop().await;
    }
}
