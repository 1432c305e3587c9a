//! A process that behaves to the harness as Weir does, so that process handling is tested without a Weir.
//!
//! It is this test binary itself, started with the one test below: no other program is needed to play it.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::harness::weir::{Plan, Weir};
use crate::harness::wire::Inbound;

/// The configuration that it reads: only the admin address and a word.
pub(super) fn template(word: &str) -> String {
    format!("admin: {{ address: \"{{admin}}\" }}\nword: {word}\n# {}\n", "x".repeat(100))
}

/// A plan that starts it in the place of Weir.
pub(super) fn plan(word: &str) -> Plan {
    let plan = Weir::plan(&template(word));
    let config = plan.config().display().to_string();
    let this = "harness_selftest::stand_in::plays_weir";
    let arguments = [this, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    plan.program(std::env::current_exe().unwrap()).arguments(&arguments).environment(CONFIG, &config)
}

/// The value of a key of the configuration, written on a line of its own.
fn value(path: &Path, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
    Some(line.to_owned())
}

#[tokio::test]
#[ignore = "a process that other tests start"]
async fn plays_weir() {
    let Some(config) = std::env::var_os(CONFIG) else { return };
    let config = Path::new(&config);
    let word = value(config, "word").unwrap();
    if word == "refuse" {
        panic!("a configuration that is refused");
    }
    let admin = value(config, "admin").unwrap();
    let admin = admin.trim_start_matches("{ address: \"unix:").trim_end_matches("\" }");
    // Each one is handled, because a shell that starts things in the background has them ignore some.
    let [mut term, mut hup, mut int, mut quit] =
        [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()]
            .map(|kind| signal(kind).unwrap());
    let listener = UnixListener::bind(admin).unwrap();
    let telemetry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = telemetry.local_addr().unwrap().to_string();
    let mut revision = 1;
    loop {
        tokio::select! {
            _ = hup.recv() => revision += 1,
            _ = quit.recv() => revision += 10,
            _ = int.recv() => return,
            _ = term.recv() => match word.as_str() {
                "stubborn" => {}
                _ => return,
            },
            accepted = listener.accept() => answer(accepted.unwrap().0, config, &address, &mut revision).await,
            accepted = telemetry.accept() => answer(accepted.unwrap().0, config, &address, &mut revision).await,
        }
    }
}

async fn answer<S>(mut stream: S, config: &Path, telemetry: &str, revision: &mut u64)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let read = tokio::time::timeout(Duration::from_secs(1), async { Inbound::default().request(&mut stream).await });
    let Ok(Ok(Some(head))) = read.await else { return };
    // A missing or half-written file has no word.
    let word = value(config, "word");
    let (status, body) = match head.target.as_str() {
        "/api/v1/status" => (200, status(config, telemetry, *revision, word.as_deref()).to_string()),
        "/api/v1/reload" if word.as_deref() == Some("invalid") => (422, json!({"title": "invalid"}).to_string()),
        "/api/v1/reload" => {
            *revision += 1;
            (200, json!({"revision": revision, "changes": []}).to_string())
        }
        "/metrics" => (200, METRICS.to_owned()),
        "/readyz" => (503, String::new()),
        _ => (200, String::new()),
    };
    let length = body.len();
    let response = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await.ok();
}

fn status(config: &Path, telemetry: &str, revision: u64, word: Option<&str>) -> serde_json::Value {
    json!({
        "state": "ready",
        "build": { "version": "0", "revision": "unknown" },
        "pid": std::process::id(),
        "uptime_seconds": 0.0,
        "revision": revision,
        "config": {
            "path": config.display().to_string(),
            "hash": word,
            "current": true,
            "errors": null,
        },
        "listeners": [{ "name": "web", "address": "127.0.0.1:1", "connections": 0 }],
        "telemetry": telemetry,
        "services": [],
    })
}

const CONFIG: &str = "STAND_IN_CONFIG";
const METRICS: &str = r#"# HELP weir_requests_total Requests.
# TYPE weir_requests_total counter
weir_requests_total{service="shop",version="v1",code="200"} 3
weir_requests_total{service="shop",version="v2",code="200"} 4 1700000000000
weir_build_info{version="0.1.0",note="a \"quoted\", \\ {odd}"} 1
process_open_fds 1e1
"#;
