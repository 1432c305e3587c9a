//! The control API and the telemetry endpoints over a real owner of the configuration, without a socket.

use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::wire::{Changed, Problem, Status};
use super::*;
use crate::config::{self, ProcessEnvironment};
use crate::control::{Owner, Parts};
use crate::drain::{Kind, Notifier};
use crate::model::fixture::Fixture as _;
use crate::snapshot::Endpoint;
use crate::store::JournalWriter;
use crate::store::redb::{RedbJournal, Store};
use crate::telemetry::{Outcome, RecorderOptions};

const FILE: &str = "version: 1
listeners: [{ name: web, address: 127.0.0.1:0 }]
services:
  shop:
    versions:
      v1: { endpoints: ['127.0.0.1:7001', 'unix:/run/shop/v1.sock'] }
      v2: { endpoints: ['127.0.0.1:7002'] }
    split: { v1: 90, v2: 10 }
  blog: { versions: { v1: { endpoints: ['127.0.0.1:7003'] } }, split: { v1: 100 } }
routes: [{ match: { path: / }, service: shop }]
";

struct World {
    directory: tempfile::TempDir,
    admin: Arc<AdminState>,
    process: watch::Sender<Process>,
    api: Router,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.yaml");
        std::fs::write(&path, FILE).unwrap();
        let recorder =
            Recorder::new(RecorderOptions { threads: 1, version: "0", revision: "test", started: Instant::now() });
        let store = Store::open(&directory.path().join("state")).unwrap();
        let journal = Arc::new(RedbJournal::start(store).unwrap());
        let parts = Parts {
            config: config::load(&path, &ProcessEnvironment).unwrap(),
            path,
            environment: Box::new(ProcessEnvironment),
            recorder: Arc::clone(&recorder),
            journal: JournalWriter::new(journal, None, None).unwrap(),
            notifier: Notifier::default(),
        };
        let (owner, control, current) = Owner::new(parts).await.unwrap();
        tokio::spawn(owner.run());
        let (process, process_now) = watch::channel(Process::Ready);
        let web: crate::model::Name = "web".into();
        let bound = Bound { name: web.clone(), address: "127.0.0.1:8080".to_owned(), series: recorder.listener(&web) };
        let admin = Arc::new(AdminState {
            control,
            current,
            recorder,
            process: process_now,
            listeners: vec![bound],
            telemetry_address: Some("127.0.0.1:9902".to_owned()),
            max_connections: 16,
            started: Instant::now(),
        });
        let api = api::router(Arc::clone(&admin), Auth::default());
        Self { directory, admin, process, api }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("weir.yaml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.api.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        (head.status.as_u16(), serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
    }

    async fn change(&self, method: &str, path: &str, body: Option<Value>) -> Changed {
        let (status, answer) = self.ask(method, path, body).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer).unwrap()
    }

    async fn problem(&self, method: &str, path: &str, body: Option<Value>) -> Problem {
        let (status, answer) = self.ask(method, path, body).await;
        let problem: Problem = serde_json::from_value(answer).unwrap();
        assert_eq!(status, problem.status);
        problem
    }

    async fn status(&self) -> Status {
        serde_json::from_value(self.ask("GET", "/api/v1/status", None).await.1).unwrap()
    }

    fn on_endpoint<T>(&self, version: &str, at: usize, look: impl Fn(&Endpoint) -> T) -> T {
        look(&self.admin.current.load().service("shop").unwrap().version(version).unwrap().endpoints[at])
    }
}

#[tokio::test]
async fn the_status_shows_what_the_file_says() {
    let world = World::new().await;
    let status = world.status().await;
    assert_eq!((&*status.state, status.config.current, status.pid), ("ready", true, std::process::id()));
    assert_eq!(status.listeners[0].address, "127.0.0.1:8080");
    let names: Vec<_> = status.services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["shop", "blog"], "the order of the file");
    let shop = &status.services[0];
    let shares: Vec<_> = shop.versions.iter().map(|v| (&*v.name, v.configured, v.effective, v.observed)).collect();
    assert_eq!(shares, [("v1", 90.0, 90.0, None), ("v2", 10.0, 10.0, None)]);
    assert_eq!(shop.versions[0].endpoints[1].name, "unix:/run/shop/v1.sock");
}

#[tokio::test]
async fn one_service_can_be_asked_for_and_a_wrong_name_has_a_nearest_one() {
    let world = World::new().await;
    let (_, answer) = world.ask("GET", "/api/v1/status?service=blog", None).await;
    assert_eq!(answer["services"].as_array().unwrap().len(), 1);
    let problem = world.problem("GET", "/api/v1/status?service=shopp", None).await;
    assert_eq!((problem.status, &*problem.kind), (404, wire::kind::UNKNOWN_NAME));
    assert!(problem.detail.contains("did you mean `shop`?"), "{}", problem.detail);
    assert_eq!(world.problem("GET", "/api/v1/status?servce=shop", None).await.status, 400);
}

#[tokio::test]
async fn a_shift_is_shown_over_the_file_until_it_is_reset() {
    let world = World::new().await;
    let body = json!({ "weights": { "v1": 50, "v2": "50" }, "author": "alice", "reason": "try" });
    let changed = world.change("PUT", "/api/v1/services/shop/weights", Some(body)).await;
    assert_eq!(changed.changes.len(), 1);
    let status = world.status().await;
    assert_eq!(status.revision, changed.revision);
    let shop = &status.services[0];
    let shift = shop.shift.as_ref().unwrap();
    assert_eq!((&*shift.author, &*shift.reason), ("alice", "try"));
    assert_eq!((shift.weights["v1"], shift.base["v1"]), (50.0, 90.0));
    assert_eq!(shop.versions[1].configured, 50.0);

    world.change("DELETE", "/api/v1/services/shop/weights?author=bob%20b&reason=done", None).await;
    let status = world.status().await;
    assert!(status.services[0].shift.is_none());
    assert_eq!(status.services[0].versions[1].configured, 10.0);
}

#[tokio::test]
async fn weights_that_are_no_split_change_nothing() {
    let world = World::new().await;
    let before = world.status().await.revision;
    for (weights, status) in [
        (json!({ "v1": 50 }), 422),
        (json!({}), 422),
        (json!({ "v1": 100, "v3": 0 }), 404),
        (json!({ "v1": 33.333, "v2": 66.667 }), 422),
    ] {
        let body = json!({ "weights": weights });
        assert_eq!(world.problem("PUT", "/api/v1/services/shop/weights", Some(body)).await.status, status);
    }
    assert_eq!(world.status().await.revision, before);
}

#[tokio::test]
async fn an_endpoint_a_version_and_a_service_can_be_drained() {
    let world = World::new().await;
    let paths = [
        ("/versions/v1/endpoints/unix:%2Frun%2Fshop%2Fv1.sock", ["ready", "drain", "ready"]),
        ("/versions/v2", ["ready", "drain", "drain"]),
        ("", ["drain", "drain", "drain"]),
    ];
    for (path, expected) in paths {
        let path = format!("/api/v1/services/shop{path}/state");
        world.change("PUT", &path, Some(json!({ "state": "drain" }))).await;
        let status = world.status().await;
        let states: Vec<_> =
            status.services[0].versions.iter().flat_map(|v| &v.endpoints).map(|e| e.state.clone()).collect();
        assert_eq!(states, expected);
    }
    let unknown = "/api/v1/services/shop/versions/v1/endpoints/127.0.0.1:9/state";
    assert_eq!(world.problem("PUT", unknown, Some(json!({ "state": "drain" }))).await.status, 404);
}

#[tokio::test]
async fn a_version_that_left_the_file_is_shown_until_its_last_work_ends() {
    let world = World::new().await;
    let mut stream = world.on_endpoint("v2", 0, |endpoint| endpoint.live.ledger.enter());
    stream.becomes(Kind::Sse);
    let text = FILE.changed("      v2: { endpoints: ['127.0.0.1:7002'] }\n", "").changed("v1: 90, v2: 10", "v1: 100");
    world.write(&text);
    world.change("POST", "/api/v1/reload", None).await;

    let status = world.status().await;
    let v2 = &status.services[0].versions[1];
    assert_eq!((&*v2.name, &*v2.state, v2.configured, v2.effective), ("v2", "removed", 0.0, 0.0));
    let endpoint = &v2.endpoints[0];
    assert_eq!(
        (&*endpoint.name, &*endpoint.state, endpoint.in_flight, endpoint.streams),
        ("127.0.0.1:7002", "removed", 1, 1)
    );
    let drain = endpoint.drain.as_ref().unwrap();
    assert!(!drain.empty && drain.streams_cut_in_seconds > drain.requests_cut_in_seconds);
    assert_eq!(v2.drain, endpoint.drain);

    drop(stream);
    // The tick of the owner takes it off the board.
    while world.status().await.services[0].versions.len() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_that_left_the_file_is_shown_while_it_drains() {
    let world = World::new().await;
    let work = world.on_endpoint("v1", 0, |endpoint| endpoint.live.ledger.enter());
    let blog = FILE.find("  blog:").unwrap();
    let text = format!("{}{}", &FILE[..FILE.find("  shop:").unwrap()], &FILE[blog..])
        .changed("service: shop", "service: blog");
    world.write(&text);
    world.change("POST", "/api/v1/reload", None).await;
    let status = world.status().await;
    let names: Vec<_> = status.services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["blog", "shop"]);
    let endpoints = &status.services[1].versions[0].endpoints;
    assert_eq!(endpoints.iter().filter(|endpoint| endpoint.in_flight > 0).count(), 1, "{endpoints:?}");
    let (found, _) = world.ask("GET", "/api/v1/status?service=shop", None).await;
    assert_eq!(found, 200, "it can still be asked for");
    drop(work);
}

#[tokio::test]
async fn what_was_counted_becomes_shares_rates_and_quantiles() {
    let world = World::new().await;
    let snapshot = world.admin.current.load();
    let shop = snapshot.service("shop").unwrap();
    for (version, requests, status) in [("v1", 3_u16, 200), ("v2", 1, 500)] {
        let route = shop.version(version).unwrap().series.route(&"all".into());
        for _ in 0..requests {
            route.finish(Outcome::Status(status), std::time::Duration::from_millis(20));
        }
    }
    let _open = shop.version("v1").unwrap().series.enter();
    let status = world.status().await;
    let [v1, v2] = &status.services[0].versions[..] else { panic!("two versions") };
    assert_eq!((v1.observed, v2.observed), (Some(75.0), Some(25.0)));
    assert_eq!((v1.error_rate, v2.error_rate), (Some(0.0), Some(100.0)));
    assert_eq!((v1.requests_total, v1.in_flight), (3, 1));
    assert!(v1.p50_ms.is_some_and(|ms| (10.0..=50.0).contains(&ms)), "{:?}", v1.p50_ms);
    assert_eq!(status.services[1].versions[0].observed, None, "another service's requests do not count");
}

#[tokio::test]
async fn an_invalid_file_is_a_problem_with_its_diagnostics() {
    let world = World::new().await;
    world.write(&FILE.changed("v2: 10", "v3: 10"));
    let problem = world.problem("POST", "/api/v1/reload", None).await;
    assert_eq!((problem.status, &*problem.kind), (422, wire::kind::INVALID_CONFIGURATION));
    assert!(
        problem.diagnostics.iter().all(|d| d["line"].as_u64().is_some() && d["message"].is_string()),
        "{problem:?}"
    );
    let config = world.status().await.config;
    assert!(!config.current && config.errors.is_some());
}

#[tokio::test]
async fn a_get_never_changes_anything() {
    let world = World::new().await;
    let before = world.status().await.revision;
    for path in [
        "/api/v1/reload",
        "/api/v1/services/shop/weights",
        "/api/v1/services/shop/state",
        "/api/v1/services/shop/versions/v1/state",
    ] {
        assert_eq!(world.problem("GET", path, None).await.status, 405, "{path}");
    }
    assert_eq!(world.status().await.revision, before);
}

#[tokio::test]
async fn a_process_that_stops_takes_no_changes_but_shows_its_status() {
    let world = World::new().await;
    world.process.send_replace(Process::Draining);
    let problem = world.problem("POST", "/api/v1/reload", None).await;
    assert_eq!((problem.status, &*problem.kind), (409, wire::kind::STOPPING));
    assert_eq!(world.status().await.state, "draining");
}

async fn telemetry_of(world: &World, method: &str, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = telemetry::router(Arc::clone(&world.admin)).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn telemetry_follows_the_process() {
    let world = World::new().await;
    assert_eq!(telemetry_of(&world, "GET", "/readyz").await, (200, "ready\n".to_owned()));
    for process in [Process::Starting, Process::Draining] {
        world.process.send_replace(process);
        let (status, text) = telemetry_of(&world, "GET", "/readyz").await;
        assert!(status == 503 && text.starts_with(process.as_str()), "{text}");
        assert_eq!(telemetry_of(&world, "GET", "/livez").await.0, 200, "it lives until it is gone");
    }
}

#[tokio::test]
async fn telemetry_is_read_only() {
    let world = World::new().await;
    let (status, text) = telemetry_of(&world, "GET", "/metrics").await;
    assert!(status == 200 && text.contains("weir_split_weight_ratio"), "{text}");
    assert_eq!(telemetry_of(&world, "HEAD", "/metrics").await, (200, String::new()));
    assert_eq!(telemetry_of(&world, "POST", "/metrics").await.0, 405);
    assert_eq!(telemetry_of(&world, "GET", "/api/v1/status").await.0, 404);
}
