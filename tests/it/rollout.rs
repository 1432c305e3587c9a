//! Rollouts, with the real binary and origins whose behaviour the story controls. Intervals are a second.

mod adopted;
mod advised;
mod baked;
mod durable;
mod endpoints;
mod evidence;
mod judged;
mod listening;
mod operated;
mod outside;
mod replayed;
mod rescued;
mod stable;
mod trip_wire;

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::ledger::Outcome;
use crate::harness::{Ledger, Load, Origin, Protocol, Weir, eventually, load};

/// A plan that takes a second for each step, with one check; more goes in by `replace`.
const PLAN: &str = "interval: 1s
      window: 2s
      min_requests: 10
      max_hold: 1m
      bake: 1s
      steps: [{ weight: 10, hold: 1s }, { weight: 50, hold: 1s }, { weight: 100, hold: 1s }]
      checks: [{ name: errors, error_rate: { max: 1 } }]
      failures: { consecutive: 1 }";

/// The configuration of one service `shop` that is rolled out by this plan. The first version is named as stable.
fn rolled(versions: &[&Origin], release: &str, plan: &str) -> String {
    let endpoints: Vec<String> = versions
        .iter()
        .map(|origin| format!("{}: {{ endpoints: [\"{}\"] }}", origin.name(), origin.address()))
        .collect();
    format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
telemetry: {{ address: \"127.0.0.1:0\" }}
admin: {{ address: \"{{admin}}\" }}
shutdown: {{ deadline: 5s }}
state: {{ directory: \"{{dir}}/state\" }}
services:
  shop:
    versions: {{ {} }}
    release: {release}
    stable: {}
    rollout:
      {plan}
routes:
  - match: {{ path: / }}
    service: shop
",
        endpoints.join(", "),
        versions[0].name(),
    )
}

/// The same file with these endpoints for `version`, which has one so far.
fn with_endpoints(file: &str, version: &Origin, endpoints: &[&Origin]) -> String {
    let of = |origins: &[&Origin]| {
        let addresses: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
        format!("{}: {{ endpoints: [{}] }}", version.name(), addresses.join(", "))
    };
    file.changed(&of(&[version]), &of(endpoints))
}

/// Two versions, a Weir that serves v1, and a load that is answered about 200 times a second.
async fn served(plan: &str) -> (Origin, Origin, Weir, load::Running) {
    served_over(Protocol::Http1, plan).await
}

async fn served_over(protocol: Protocol, plan: &str) -> (Origin, Origin, Weir, load::Running) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&rolled(&[&v1, &v2], "v1", plan)).await;
    let load = steady_over(protocol, &weir).await;
    (v1, v2, weir, load)
}

async fn steady(weir: &Weir) -> load::Running {
    steady_over(Protocol::Http1, weir).await
}

async fn steady_over(protocol: Protocol, weir: &Weir) -> load::Running {
    let load = Load::at(weir.address("web").await).clients(protocol, 4).think(Duration::from_millis(40)).start();
    load.wait_more(20).await;
    load
}

/// Every request was answered, be it with an error of its origin's, and executed once.
fn whole(ledger: &Ledger, origins: &[&Origin]) {
    let counts = ledger.counts();
    let answered = [Outcome::Ok, Outcome::ServerError].iter().filter_map(|kind| counts.outcomes.get(kind)).sum::<u64>();
    assert_eq!(answered, counts.sent, "{counts:?}");
    assert!(ledger.audit(origins).twice.is_empty(), "{:?}", ledger.audit(origins).twice);
}

/// What `weir …` printed, and its exit code.
async fn command(weir: &Weir, arguments: &[&str]) -> (i32, String) {
    let output = weir.cli(arguments).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// A check as `weir rollout status shop` shows it: the lines of the table that are about it, and its JSON.
async fn shown(weir: &Weir, check: &str) -> (String, serde_json::Value) {
    eventually(&format!("{check} is shown"), async || shown_now(weir, check).await).await
}

/// The same; none before the first analysis run.
async fn shown_now(weir: &Weir, check: &str) -> Option<(String, serde_json::Value)> {
    let (code, text) = command(weir, &["rollout", "status", "shop"]).await;
    assert_eq!(code, 0, "{text}");
    let begins = |line: &&str| line.strip_prefix("  ").is_some_and(|line| line.starts_with(&format!("{check} ")));
    let table = text.lines().skip_while(|line| !line.starts_with("  CHECK "));
    let mut lines = table.skip_while(|line| !begins(line));
    let row = lines.next()?;
    let why = lines.next().filter(|line| line.starts_with("    ")).unwrap_or_default();
    let (code, json) = command(weir, &["rollout", "status", "shop", "-o", "json"]).await;
    assert_eq!(code, 0, "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let checks = json["rollouts"][0]["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check).unwrap();
    Some((format!("{}\n{}", row.trim(), why.trim()), found.clone()))
}
