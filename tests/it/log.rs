//! Logs that nobody reads: they cost lines, and nothing else waits for them.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::harness::{H1, Origin, Request, Rewrite, Signal, Target, Weir, eventually, shop};

/// A pipe that is full already; whoever writes to it waits until somebody reads.
fn full_pipe() -> (std::io::PipeReader, OwnedFd) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok_and(|written| written > 0) {}
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() - OFlags::NONBLOCK).unwrap();
    (reader, writer.into())
}

/// Everything that people do to a running process, each of which logs something, until it ends.
async fn operate_and_stop(weir: Weir, yaml: &str) {
    let web = Target::from(weir.address("web").await);
    // More than any pipe, buffer or queue holds.
    for round in 0..40 {
        let weight =
            if round % 2 == 0 { ["weight", "shop", "v1=50", "v2=50"] } else { ["weight", "shop", "v1=30", "v2=70"] };
        let (status, body) = weir
            .api("PUT", "/api/v1/services/shop/weights", Some(serde_json::json!({ "weights": weights(weight) })))
            .await;
        assert_eq!(status, 200, "{body}");
        weir.rewrite(Rewrite::Rename, &format!("{yaml}nonsense{round}: {}\n", "x".repeat(4_000)));
        let (status, _) = weir.api("POST", "/api/v1/reload", None).await;
        assert_eq!(status, 422, "a faulty file is refused");
        weir.rewrite(Rewrite::Rename, yaml);
        weir.reload_and_wait().await;
        H1::connect(&web).await.send(&Request::get("/").header("connection", "close")).await.expect(200);
    }
    assert!(weir.cli(&["drain", "shop/v2"]).await.status.success());
    weir.signal(Signal::Hup);
    weir.signal(Signal::Usr1);
    assert_eq!((weir.probe("/livez").await, weir.probe("/readyz").await), (200, 200));
    assert!(weir.stop().await.success());
}

fn weights(words: [&str; 4]) -> serde_json::Value {
    let pairs = words[2..].iter().map(|word| word.split_once('=').unwrap());
    pairs
        .map(|(version, weight)| (version.to_owned(), weight.parse::<f64>().unwrap().into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_error_that_nobody_reads_stops_neither_changes_nor_the_end() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let yaml = shop(&[(&v1, 50.0), (&v2, 50.0)]);
    let (_reader, writer) = full_pipe();
    operate_and_stop(Weir::plan(&yaml).stderr_to(writer).start().await, &yaml).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_log_that_nobody_reads_stops_neither_changes_nor_the_end() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    for output in ["stdout", "stderr", "\"{dir}/pipe\""] {
        let yaml = shop(&[(&v1, 50.0), (&v2, 50.0)]) + &format!("access_log: {{ output: {output} }}\n");
        let ((_one, stdout), (_two, stderr)) = (full_pipe(), full_pipe());
        let plan = Weir::plan(&yaml).stdout_to(stdout).stderr_to(stderr);
        named_pipe(&plan.dir().join("pipe"));
        operate_and_stop(plan.start().await, &yaml).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_is_counted_and_told_once_somebody_reads() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]);
    let (mut reader, writer) = full_pipe();
    let weir = Weir::plan(&yaml).stderr_to(writer).start().await;
    weir.rewrite(Rewrite::Rename, &format!("{yaml}nonsense: {}\n", "x".repeat(4_000)));
    eventually("messages are dropped", async || {
        for _ in 0..50 {
            assert_eq!(weir.api("POST", "/api/v1/reload", None).await.0, 422);
        }
        let dropped = weir.metrics().await.value("weir_log_dropped_total", &[]);
        if dropped > 0.0 { Ok(()) } else { Err(dropped) }
    })
    .await;
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    let dropped = weir.metrics().await.value("weir_log_dropped_total", &[]);
    // The line about it comes when the queue is empty; what is logged after it shows that it flows again.
    weir.rewrite(Rewrite::Rename, &yaml);
    weir.reload_and_wait().await;
    assert!(weir.stop().await.success());
    let text = reading.join().unwrap();
    let told: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split_once(" messages were dropped")?.0.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(told.iter().sum::<f64>() >= dropped, "{told:?} of {dropped}");
    assert!(text.contains("stopped"), "the last lines are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_ends_though_nobody_reads_why() {
    let (_reader, writer) = full_pipe();
    let weir = Weir::plan("version: 1\nlisteners: []\n").stderr_to(writer).spawn();
    assert_eq!(weir.wait_exit().await.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_does_not_listen_is_not_waited_for() {
    let v1 = Origin::start("v1").await;
    let plan = Weir::plan(&shop(&[(&v1, 100.0)]));
    let path = plan.dir().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let full = std::os::unix::net::UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"x", &path).is_ok() {}
    let weir = plan.environment("NOTIFY_SOCKET", path.to_str().unwrap()).start().await;
    weir.signal(Signal::Hup);
    weir.reload_and_wait().await;
    assert!(weir.stop().await.success());
    drop(socket);
}

/// Makes a named pipe; nobody has it open.
fn named_pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Opening a pipe for both never waits; it shows that this one is a pipe.
    drop(File::options().read(true).write(true).open(path).unwrap());
}
