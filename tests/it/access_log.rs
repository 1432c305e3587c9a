//! What the access log says of requests, whatever lane carries them.

use std::time::Instant;

use tokio::io::AsyncWriteExt;

use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Origin, Request, Target, Weir, eventually, shop};
use crate::hostile::raw;
use crate::http1::{lines, on_both_lanes};

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_answers_of_its_own_count() {
    on_both_lanes("", async |weir, web, _| {
        let mut sent = Vec::new();
        // Refused, broken by the endpoint, and without an endpoint.
        for (path, status) in [("/..;/x", 400), ("/reset-before", 502), ("/", 503)] {
            if status == 503 {
                assert_eq!(weir.cli(&["maint", "shop/v1"]).await.status.code(), Some(0));
            }
            for request in [Request::get(path), Request::new("HEAD", path)] {
                let (mut h1, h2) = (H1::connect(web).await, H2::connect(web).await);
                for response in [h1.send(&request).await, h2.send(&request).await] {
                    assert_eq!(response.status, status, "{path}: {response:?}");
                    assert_eq!(response.body.is_empty(), request.method == "HEAD", "{response:?}");
                    sent.push(response.body.len() as u64);
                    let logged = lines(weir, sent.len()).await;
                    let line = logged.last().unwrap();
                    assert_eq!(
                        (line["status"].as_u64(), line["bytes_out"].as_u64()),
                        (Some(status.into()), sent.last().copied()),
                        "{line}"
                    );
                }
            }
        }
    })
    .await;
}

/// The log lies in the directory of the configuration, whose events are listened to.
#[tokio::test(flavor = "multi_thread")]
async fn writing_the_log_does_not_wake_the_watcher_of_the_configuration() {
    let v1 = Origin::start("v1").await;
    let output = "access_log: { output: \"{dir}/conf/access.log\" }\nshutdown:";
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("shutdown:", output)).await;
    let log = weir.config().with_file_name("access.log");
    let mut client = H1::connect(&Target::from(weir.address("web").await)).await;
    eventually("the watcher has a thread", async || switches_of_watcher(weir.pid()).is_some()).await;
    let switches = || switches_of_watcher(weir.pid()).expect("the watcher has a thread");
    let (reloads, began, wakes) = (reload_count(&weir).await, Instant::now(), switches());
    for sent in 1..=40 {
        assert_eq!(client.send(&Request::get("/")).await.status, 200);
        // Each line is written before the next request, so that there is an event for each.
        eventually("the line is there", async || {
            let written = std::fs::read_to_string(&log).unwrap_or_default().lines().count();
            if written >= sent { Ok(()) } else { Err(written) }
        })
        .await;
    }
    // It looks each second, and may be held up while it does.
    let polls = began.elapsed().as_secs() + 2;
    let woken = switches() - wakes;
    assert!(woken <= 4 * polls, "woken {woken} times in {polls} s");
    assert_eq!(reload_count(&weir).await.to_bits(), reloads.to_bits());
    weir.stop().await;
}

async fn reload_count(weir: &Weir) -> f64 {
    let metrics = weir.metrics().await;
    ["success", "failure"].iter().map(|result| metrics.value("weir_config_reloads_total", &[("result", result)])).sum()
}

/// How often the watcher's thread has waited and was woken; none if there is no such thread yet.
fn switches_of_watcher(pid: u32) -> Option<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = |task: &std::path::Path| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "weir-watch")
    };
    let task = tasks.flatten().map(|entry| entry.path()).find(|task| named(task))?;
    let status = std::fs::read_to_string(task.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    Some(line.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_bytes_in_time_has_not_left() {
    on_both_lanes("limits: { write_timeout: 1s }\n", async |weir, web, _| {
        for (at, path) in ["/bytes/50000000", "/chunked/50000000"].into_iter().enumerate() {
            let mut socket = raw::connect(web).await;
            socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            let h2 = H2::connect(web).await;
            let mut stream = h2.open(&Request::get(path)).await;
            assert_eq!(stream.head().await.status, 200);
            let logged = lines(weir, 2 * (at + 1)).await;
            for line in &logged {
                let told = (line["status"].as_str(), line["cause"].as_str());
                assert_eq!(told, (Some("client_closed"), Some("write_timeout")), "{line}");
            }
        }
        // Who leaves is nobody's fault.
        let mut socket = raw::connect(web).await;
        socket.write_all(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        socket.set_zero_linger().unwrap();
        drop(socket);
        let logged = lines(weir, 5).await;
        let line = logged.last().unwrap();
        assert_eq!(
            (line["status"].as_str(), &line["cause"]),
            (Some("client_closed"), &serde_json::Value::Null),
            "{line}"
        );
    })
    .await;
}
