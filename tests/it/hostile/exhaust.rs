//! Clients that take everything there is of something: places at telemetry, file descriptors.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::raw;
use crate::harness::Fixture as _;
use crate::harness::{H1, Origin, Request, Target, Weir, eventually, shop};

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_no_probe_and_no_person_out() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("{admin}", "127.0.0.1:0");
    let weir = Weir::plan(&yaml).spawn();
    // Told by the log: the harness knows the admin socket only.
    let admin = eventually("weir is ready", async || {
        let log = weir.stderr();
        let told = log.split_once("ready admin=").map(|(_, rest)| rest.split_whitespace().next().unwrap().to_owned());
        told.ok_or(log)
    })
    .await;
    let status = H1::connect(admin.as_str()).await.send(&ask("/api/v1/status")).await.expect(200);
    let status: serde_json::Value = status.json();
    let telemetry = status["telemetry"].as_str().unwrap().to_owned();
    for (address, path) in [(telemetry.as_str(), "/livez"), (admin.as_str(), "/api/v1/status")] {
        let mut silent = Vec::new();
        for _ in 0..300 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // Each that has to go comes again at once.
        let mut sustained = JoinSet::new();
        for mut stream in silent {
            let address = address.to_owned();
            sustained.spawn(async move {
                loop {
                    let _ = stream.read(&mut [0]).await;
                    let Ok(again) = TcpStream::connect(&address).await else { return };
                    stream = again;
                }
            });
        }
        for _ in 0..5 {
            let probe = async { H1::connect(address).await.send(&ask(path)).await.status };
            assert_eq!(timeout(PROBE, probe).await, Ok(200), "{path}");
        }
        sustained.shutdown().await;
    }
    assert!(weir.stop().await.success());
}

fn ask(path: &str) -> Request {
    Request::get(path).host("localhost")
}

/// A probe gives up after a second; the machine of a test may be slow, and the fault that this is about took ten.
const PROBE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_traffic_waits_and_operators_do_not() {
    let v1 = Origin::start("v1").await;
    for express in [true, false] {
        let yaml = shop(&[(&v1, 100.0)])
            .changed("state:", &format!("runtime: {{ threads: 2, express_lane: {express} }}\nstate:"));
        let plan = Weir::plan(&yaml).program("/bin/sh");
        let config = plan.config().to_str().unwrap().to_owned();
        let limited = "ulimit -n 256; exec \"$0\" run -c \"$1\"";
        let weir = plan.arguments(&["-c", limited, env!("CARGO_BIN_EXE_weir"), &config]).start().await;
        let web = Target::from(weir.address("web").await);
        // So many that few can have a connection to the endpoint as well.
        let mut clients = Vec::new();
        for _ in 0..90 {
            let mut client = H1::connect(&web).await;
            client.get("/").await.expect(200);
            clients.push(client);
        }
        let mut asked = JoinSet::new();
        for mut client in clients {
            asked.spawn(async move {
                let response = client.get("/hold").await;
                (client, response)
            });
        }
        let refused = async || weir.metrics().await.value("weir_requests_total", &[("code", "503")]);
        eventually("each request is held or refused", async || {
            let seen = (v1.held(), refused().await);
            if seen.0 as f64 + seen.1 == 90.0 { Ok(()) } else { Err(seen) }
        })
        .await;
        assert!(refused().await > 0.0 && v1.held() > 0);
        // More clients wait in the kernel, and cost nobody anything.
        let mut more = Vec::new();
        for _ in 0..200 {
            more.push(raw::connect(&web).await);
        }
        assert_eq!((weir.probe("/livez").await, weir.probe("/readyz").await), (200, 200));
        let weights = serde_json::json!({ "weights": { "v1": 100 } });
        let (status, body) = weir.api("PUT", "/api/v1/services/shop/weights", Some(weights)).await;
        assert_eq!(status, 200, "the shift is on the disk: {body}");
        weir.reconfigure(&yaml.changed("path: /", "path: /, method: GET")).await;
        let metrics = weir.metrics().await;
        assert_eq!(metrics.value("weir_upstream_errors_total", &[]), 0.0, "no version is to blame");
        let judged = metrics.value("weir_request_duration_seconds_count", &[("version", "v1")]);
        assert_eq!(judged, 90.0, "what the machine lacked is no evidence");
        drop(more);
        v1.release();
        let mut seen = BTreeMap::new();
        for (_, response) in asked.join_all().await {
            *seen.entry((response.status, response.header("weir-error").to_owned())).or_insert(0) += 1;
        }
        let expected = [(200, String::new()), (503, "local".to_owned())];
        assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), expected, "{seen:?}");
        H1::connect(&web).await.get("/").await.expect(200);
        assert!(weir.stop().await.success());
    }
}
