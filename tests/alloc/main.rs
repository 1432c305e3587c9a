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
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use self::lean::{Client, Origin};

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
    let web = start(folder.path());
    let cases =
        [("GET, small", lean::small()), ("POST, 4 KiB", lean::post()), ("GET, chunked answer", lean::chunked())];
    let mut over = Vec::new();
    for (name, request) in cases {
        let mut client = Client::connect(web);
        ask(&mut client, &request, WARM_UP);
        let region = Region::new(ALLOCATOR);
        ask(&mut client, &request, COUNTED);
        let change = region.change();
        let calls = change.allocations + change.reallocations;
        let line = format!(
            "{name}: {calls} allocations in {COUNTED} requests, {:.3} each; {} bytes each",
            calls as f64 / f64::from(COUNTED),
            change.bytes_allocated / COUNTED as usize
        );
        println!("{line}");
        if calls * ONE_IN >= COUNTED as usize {
            over.push(line);
        }
    }
    assert!(over.is_empty(), "1 allocation in {ONE_IN} requests is the bar:\n{}", over.join("\n"));
}

fn ask(client: &mut Client<std::net::TcpStream>, request: &[u8], times: u32) {
    for _ in 0..times {
        client.send(request);
        client.receive();
    }
}

/// Runs Weir in this process until the process ends; where its listener is.
fn start(folder: &Path) -> SocketAddr {
    let (v1, v2) = (Origin::start(|| {}), Origin::start(|| {}));
    let admin = folder.join("admin.sock");
    let config = folder.join("weir.yaml");
    let text = format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
admin: {{ address: \"unix:{admin}\" }}
runtime: {{ threads: 1 }}
services:
  shop:
    versions: {{ v1: {{ endpoints: [\"{v1}\"] }}, v2: {{ endpoints: [\"{v2}\"] }} }}
    split: {{ v1: 90, v2: 10 }}
routes:
  - match: {{ path: / }}
    service: shop
",
        admin = admin.display(),
        v1 = v1.address(),
        v2 = v2.address(),
    );
    std::fs::write(&config, text).expect("the configuration is written");
    thread::spawn(move || weir::app::run(&weir::app::RunOptions { config }).expect("Weir runs"));
    lean::listener(&admin, "web")
}
