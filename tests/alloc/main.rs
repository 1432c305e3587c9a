//! What a request costs the allocator in steady state: on the express lane, nothing. And what an availability flip does:
//! nothing that grows with the configuration.
//!
//! A test binary of its own, because the allocator that counts is that of the whole process. Weir runs on threads
//! of this process, as `weir run` would run it; client and origin ([`lean`]) allocate nothing, so what is counted is
//! Weir's: the worker's requests, and the little that its background does by the clock (the look at the
//! configuration file, the windows of the last minute), for which the bar leaves room.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by ending; its helpers are outside of #[test] functions"
)]

mod flip;
#[path = "../lean/mod.rs"]
mod lean;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use self::lean::{Call, Client, Http2Client, Origin};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Until pools, buffers and tables have the size that they keep.
const WARM_UP: u32 = 2_000;
/// Requests that are counted.
const COUNTED: u32 = 20_000;
/// Allocations in so many requests, at most 1. The background allocates by the clock, some sixty times a second; what
/// a request does, it does in each or in one of a few.
const ONE_IN: usize = 10;

/// The turn of a test: one at the same time would be counted with it.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_request_on_the_express_lane_allocates_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a directory");
    let (web, telemetry) = start(folder.path());
    let mut over = Vec::new();
    let kept = String::from_utf8_lossy(&lean::small()).replacen("GET /", "GET /kept/", 1).into_bytes();
    let cases = [
        ("GET, small", lean::small()),
        ("GET, affinity, 10 endpoints", kept),
        ("POST, 4 KiB", lean::post()),
        ("GET, chunked answer", lean::chunked()),
    ];
    for (name, request) in cases {
        let mut client = Client::connect(web);
        over.extend(count(name, || {
            client.send(&request);
            client.receive();
        }));
    }
    for (name, call) in [("HTTP/2 GET", Call::get()), ("HTTP/2 gRPC", Call::grpc())] {
        let mut client = Http2Client::connect(web, call, 1);
        let mut ask = || {
            client.send();
            client.receive();
        };
        let before = on_express_lane(telemetry);
        ask();
        if on_express_lane(telemetry) > before {
            over.extend(count(name, ask));
        } else {
            println!("{name}: not counted, as the general lane carries it");
        }
    }
    assert!(over.is_empty(), "1 allocation in {ONE_IN} requests is the bar:\n{}", over.join("\n"));
}

/// Asks until all has the size that it keeps, then counts; a line for what is above the bar.
#[expect(clippy::print_stdout, reason = "the figures are told whether they are within the bar or not")]
fn count(name: &str, mut ask: impl FnMut()) -> Option<String> {
    (0..WARM_UP).for_each(|_| ask());
    let region = Region::new(ALLOCATOR);
    (0..COUNTED).for_each(|_| ask());
    let change = region.change();
    let calls = change.allocations + change.reallocations;
    let line = format!(
        "{name}: {calls} allocations in {COUNTED} requests, {:.3} each; {} bytes each",
        calls as f64 / f64::from(COUNTED),
        change.bytes_allocated / COUNTED as usize
    );
    println!("{line}");
    (calls * ONE_IN >= COUNTED as usize).then_some(line)
}

/// Runs Weir in this process until the process ends; where its listener and its telemetry are.
fn start(folder: &Path) -> (SocketAddr, SocketAddr) {
    let (v1, v2) = (Origin::start(|| {}), Origin::start(|| {}));
    let calls = Origin::http2(|| {});
    let ten: Vec<String> = (0..10).map(|_| format!("\"{}\"", Origin::start(|| {}).address())).collect();
    let admin = folder.join("admin.sock");
    let config = folder.join("weir.yaml");
    let text = format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
telemetry: {{ address: \"127.0.0.1:0\" }}
admin: {{ address: \"unix:{admin}\" }}
runtime: {{ threads: 1 }}
services:
  shop:
    versions: {{ v1: {{ endpoints: [\"{v1}\"] }}, v2: {{ endpoints: [\"{v2}\"] }} }}
    split: {{ v1: 90, v2: 10 }}
  kept:
    affinity: {{ address: true }}
    versions: {{ v1: {{ endpoints: [{ten}] }}, v2: {{ endpoints: [\"{v2}\"] }} }}
    split: {{ v1: 90, v2: 10 }}
  cart:
    protocol: h2
    versions: {{ v1: {{ endpoints: [\"{calls}\"] }} }}
    split: {{ v1: 100 }}
routes:
  - match: {{ path: / }}
    service: shop
  - match: {{ path: /kept }}
    service: kept
  - match: {{ path: /shop.Cart }}
    service: cart
",
        admin = admin.display(),
        v1 = v1.address(),
        v2 = v2.address(),
        ten = ten.join(", "),
        calls = calls.address(),
    );
    std::fs::write(&config, text).expect("the configuration is written");
    thread::spawn(move || weir::app::run(&weir::app::RunOptions { config }).expect("Weir runs"));
    let web = lean::listener(&admin, "web");
    let told = lean::status(&admin).expect("a status").telemetry.expect("telemetry is configured");
    (web, told.parse().expect("IP:PORT"))
}

/// Requests that the express lane has carried so far.
fn on_express_lane(telemetry: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(telemetry).expect("telemetry answers");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("it is asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("metrics");
    let line = text.lines().find(|line| line.starts_with("weir_lane_requests_total{lane=\"express\"}"));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0)
}
