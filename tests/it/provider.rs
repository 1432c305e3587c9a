//! A real Prometheus server as a provider: up, slow, and down. Without one installed the story says so and passes.

use std::fs::{File, read_to_string};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustls::RootCertStore;
use tempfile::TempDir;
use weir::http_client::Client;
use weir::outbound::provider::{MetricQuery, read};
use weir::rollout::plan::Provider;
use weir::rollout::reading::Reading;

use crate::harness::eventually;

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/bin/prometheus";

pub(crate) struct Prometheus {
    child: Child,
    directory: TempDir,
    client: Client,
}

impl Prometheus {
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: there is no {PROGRAM}; install the package `prometheus`");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("prometheus.yml");
        std::fs::write(&configuration, "global: {}\n").unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new(PROGRAM)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let client = Client::trusting(RootCertStore::empty()).unwrap();
        Some(Self { child, directory, client })
    }

    /// Its address, once it takes queries.
    pub(crate) async fn url(&self) -> String {
        eventually("Prometheus is ready", || async {
            let log = read_to_string(self.directory.path().join("log")).unwrap();
            let ready = log.contains("ready to receive web requests");
            let address = log
                .lines()
                .filter(|line| line.contains("Listening on"))
                .find_map(|line| line.split("address=").nth(1).map(|address| address.trim_matches('"').to_owned()));
            address.filter(|_| ready).map(|address| format!("http://{address}")).ok_or(log)
        })
        .await
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn ask(&self, url: &str, query: &str, within: Duration) -> Reading {
        let provider = Provider::Prometheus { url: url.into(), query: query.into(), timeout: within };
        let window = Duration::from_secs(90);
        let question = MetricQuery { check: "orders", service: "shop", stable: "v1", canary: "v2", window };
        read(&self.client, &provider, &question).await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_prometheus_answers_as_it_should() {
    let Some(mut prometheus) = Prometheus::start() else { return };
    let url = prometheus.url().await;
    let long = Duration::from_secs(10);
    let two = r#"vector(1) or label_replace(vector(2), "version", "{{canary}}", "", "")"#;
    for (query, expected) in [
        ("21 * 2", Reading::Value(42.0)),
        ("vector(0.5) + 0", Reading::Value(0.5)),
        (r#"label_replace(vector(7), "a", "{{service}} & {{ canary }} + ü%", "", "")"#, Reading::Value(7.0)),
        ("count_over_time(vector(1)[{{window}}:10s]) >= bool 9", Reading::Value(1.0)),
        ("1 / 0", Reading::Value(f64::INFINITY)),
        ("0 / 0", Reading::NotANumber),
        ("up", Reading::Empty),
        (two, Reading::Many(2)),
    ] {
        assert_eq!(prometheus.ask(&url, query, long).await, expected, "{query}");
    }
    for (query, why) in [
        ("rate(up)", "bad_data"),
        (r#""a text""#, "a text"),
        ("up[1m]", "a range of values"),
        ("{{unknown}}", "bad_data"),
        (r#"label_replace(vector(1), "0", "", "", "")"#, "execution"),
    ] {
        let reading = prometheus.ask(&url, query, long).await;
        assert!(matches!(&reading, Reading::Failed(text) if text.contains(why)), "{query}: {reading:?}");
    }

    // 36 million points: whoever gives up first, the server or we, it took too long.
    let slow = "count_over_time(vector(1)[10000h:1s])";
    assert_eq!(prometheus.ask(&url, slow, Duration::from_millis(50)).await, Reading::Timeout);

    prometheus.stop();
    let reading = prometheus.ask(&url, "1", long).await;
    assert!(matches!(&reading, Reading::Failed(text) if text.contains("cannot be reached")), "{reading:?}");
}
