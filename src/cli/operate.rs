//! Commands that change a running Weir or ask it for one word: weight, drain, ready, maint, reload, healthcheck.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Uri};
use tokio::time::{Instant, sleep};

use super::arguments::{
    ByArguments, DrainArguments, FlagArguments, HealthcheckArguments, ReloadArguments, Share, StateArguments,
    TargetArgument, WeightArguments, parse_server,
};
use super::control_api::{ControlApi, segment, send};
use super::failure::{Exit, Failure};
use super::{notify, print, table};
use crate::admin::wire::{Changed, EndpointStatus, SetState, SetWeights, Status};
use crate::config;
use crate::http_client::Server;
use crate::model::{Address, EndpointState, FLAG_PREFIX, Name, Split, Weight};

/// `weir reload`.
pub(super) async fn reload(arguments: &ReloadArguments) -> Result<(), Failure> {
    let changed = ask_reload(&ControlApi::new(&arguments.admin)?, arguments.force).await?;
    let reported = report(&changed, "nothing changed");
    let hash = changed.hash.map(|hash| format!(", file hash {}", table::clean(&hash))).unwrap_or_default();
    print(&format!("revision {}{hash}\n", changed.revision))?;
    reported
}

/// Asks Weir to read its file again.
pub(super) async fn ask_reload(client: &ControlApi, force: bool) -> Result<Changed, Failure> {
    let path = if force { "/api/v1/reload?force=true" } else { "/api/v1/reload" };
    client.call(Method::POST, path, None::<&()>).await
}

/// `weir weight`.
pub(super) async fn weight(arguments: &WeightArguments) -> Result<(), Failure> {
    let client = ControlApi::new(&arguments.admin)?;
    let cohort = arguments.cohort.as_deref().map(|cohort| format!("/cohorts/{}", segment(cohort))).unwrap_or_default();
    let path = format!("/api/v1/services/{}{cohort}/weights", segment(&arguments.service));
    let (author, reason) = who(&arguments.by);
    let changed: Changed = if arguments.reset {
        let reason = reason.map(|reason| format!("&reason={}", query(&reason))).unwrap_or_default();
        let path = format!("{path}?author={}{reason}", query(&author));
        client.call(Method::DELETE, &path, None::<&()>).await?
    } else {
        let split: Vec<(Name, _)> =
            arguments.weights.iter().map(|share| (Name::from(&*share.version), share.weight)).collect();
        let split = Split::new(split).map_err(|wrong| {
            Failure::new(Exit::USAGE, wrong.to_string())
                .help("name all versions that shall get traffic, such as v1=90 v2=10")
        })?;
        let weights = split.iter().map(|(name, weight)| (name.to_string(), weight.to_string().into())).collect();
        let body = SetWeights { weights, author: Some(author), reason };
        client.call(Method::PUT, &path, Some(&body)).await?
    };
    report(&changed, "nothing changed: no shift is in effect")
}

/// `weir flag`: a flag is moved as the split of a service is.
pub(super) async fn flag(arguments: FlagArguments) -> Result<(), Failure> {
    let FlagArguments { name, percent, reset, by, admin } = arguments;
    let weights = percent.and_then(|on| {
        let off = Weight::from_basis_points(Weight::FULL.basis_points() - on.basis_points())?;
        let share = |version: &str, weight| Share { version: version.to_owned(), weight };
        Some(vec![share("off", off), share("on", on)])
    });
    let service = format!("{FLAG_PREFIX}{name}");
    weight(&WeightArguments { service, weights: weights.unwrap_or_default(), cohort: None, reset, by, admin }).await
}

/// `weir ready`.
pub(super) async fn ready(arguments: &StateArguments) -> Result<(), Failure> {
    set_state(&ControlApi::new(&arguments.admin)?, arguments, (EndpointState::Ready, false)).await
}

/// `weir drain` and `weir maint`.
pub(super) async fn drain(arguments: &DrainArguments, state: EndpointState) -> Result<(), Failure> {
    let client = ControlApi::new(&arguments.state.admin)?;
    let set = set_state(&client, &arguments.state, (state, arguments.force)).await;
    match &set {
        Err(failure) if failure.exit != Exit::NOT_DURABLE => return set,
        _ if arguments.wait => wait(&client, &arguments.state.target, arguments.timeout).await?,
        _ => {}
    }
    // That it may be lost is said last.
    set
}

async fn set_state(
    client: &ControlApi,
    arguments: &StateArguments,
    (state, force): (EndpointState, bool),
) -> Result<(), Failure> {
    let (author, reason) = who(&arguments.by);
    let body = SetState { state, force, author: Some(author), reason };
    let changed = client.call(Method::PUT, &state_path(&arguments.target), Some(&body)).await?;
    report(&changed, "nothing changed")
}

fn state_path(target: &TargetArgument) -> String {
    let mut path = format!("/api/v1/services/{}", segment(&target.service));
    for (kind, name) in [("versions", &target.version), ("endpoints", &target.endpoint)] {
        if let Some(name) = name {
            path.push_str(&format!("/{kind}/{}", segment(name)));
        }
    }
    path + "/state"
}

/// How often a wait asks again.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Waits until nothing is in flight on the target.
async fn wait(client: &ControlApi, target: &TargetArgument, timeout: Duration) -> Result<(), Failure> {
    let path = format!("/api/v1/status?service={}", query(&target.service));
    let deadline = Instant::now() + timeout;
    let mut last = String::new();
    loop {
        let status: Status = client.get(&path).await?;
        let left = match progress(&status, target) {
            DrainProgress::Empty => return print("empty\n"),
            DrainProgress::Ready => {
                return Err(Failure::new(Exit::REFUSED, "it was made ready again, so it does not become empty"));
            }
            DrainProgress::Left { in_flight, streams } => table::work(in_flight, streams),
        };
        if Instant::now() >= deadline {
            let what = format!("still {left} after {}", humantime::format_duration(timeout));
            return Err(Failure::new(Exit::TIMED_OUT, what).help("the drain goes on; `weir status` shows it"));
        }
        if left != last {
            notify(&left);
            last = left;
        }
        sleep(POLL_INTERVAL).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum DrainProgress {
    Empty,
    Ready,
    Left { in_flight: u64, streams: u64 },
}

/// What is still in flight on the endpoints of the target.
fn progress(status: &Status, target: &TargetArgument) -> DrainProgress {
    let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let service = status.services.iter().filter(|service| service.name == target.service);
    let versions = service.flat_map(|service| &service.versions).filter(|version| is(&target.version, &version.name));
    let endpoints: Vec<&EndpointStatus> = versions
        .flat_map(|version| &version.endpoints)
        .filter(|endpoint| is(&target.endpoint, &endpoint.name))
        .collect();
    let in_flight = endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
    let streams = endpoints.iter().map(|endpoint| endpoint.streams).sum();
    let ready = EndpointState::Ready.as_str();
    if endpoints.iter().any(|endpoint| endpoint.state == ready) {
        DrainProgress::Ready
    } else if in_flight == 0 {
        DrainProgress::Empty
    } else {
        DrainProgress::Left { in_flight, streams }
    }
}

/// `weir healthcheck`.
pub(super) async fn healthcheck(arguments: &HealthcheckArguments) -> Result<(), Failure> {
    let (server, path) = match &arguments.url {
        Some(url) => parse_url(url)?,
        None => (telemetry_server(&arguments.file.path()), "/readyz".to_owned()),
    };
    let request = Request::get(&path)
        .body(Full::new(Bytes::new()))
        .map_err(|error| Failure::new(Exit::USAGE, format!("{path}: {error}")))?;
    // A container's health check knows 0 and 1 only.
    let response = send(&server, request).await.map_err(|error| {
        Failure::new(Exit::FAILURE, error.to_string())
            .help("is Weir running, with `telemetry` in its configuration? name the URL by --url")
    })?;
    let text = String::from_utf8_lossy(&response.body);
    let line = table::clean(text.lines().next().unwrap_or_default());
    if response.status.is_success() {
        print(&format!("{line}\n"))
    } else {
        Err(Failure::new(Exit::FAILURE, format!("{server}{path}: {} {line}", response.status.as_u16())))
    }
}

fn parse_url(url: &str) -> Result<(Server, String), Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::new(Exit::USAGE, format!("--url {url}: {why}"));
    let uri: Uri = url.parse().map_err(|error| wrong(&error))?;
    let authority = uri.authority().ok_or_else(|| wrong(&"write http://HOST:PORT/readyz"))?;
    let server = parse_server(&format!("{}://{authority}", uri.scheme_str().unwrap_or("http")));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((server.map_err(|error| wrong(&error))?, path.to_owned()))
}

/// Where telemetry is by default in the examples and images.
const TELEMETRY_PORT: u16 = 9902;

/// Where a Weir with this configuration file serves telemetry. A file that cannot be used says nothing about
/// the Weir that runs, so the usual port is asked then.
fn telemetry_server(file: &std::path::Path) -> Server {
    let usual = || Server::from(SocketAddr::from((Ipv4Addr::LOCALHOST, TELEMETRY_PORT)));
    let config = config::load(file, &config::ProcessEnvironment).ok();
    match config.and_then(|config| config.telemetry).map(|telemetry| telemetry.address) {
        None => usual(),
        Some(Address::Unix(path)) => Server::Unix(path),
        Some(Address::Inet(address)) if address.port() == 0 => usual(),
        Some(Address::Inet(mut address)) => {
            if address.ip().is_unspecified() {
                address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
            }
            address.into()
        }
    }
}

pub(super) fn report(changed: &Changed, nothing: &str) -> Result<(), Failure> {
    for warning in &changed.warnings {
        notify(&format!("warning: {}", table::clean(warning)));
    }
    let mut text = String::new();
    for line in &changed.changes {
        text.push_str(&table::clean(line));
        text.push('\n');
    }
    if text.is_empty() {
        text = format!("{nothing}\n");
    }
    print(&text)?;
    if changed.durable {
        return Ok(());
    }
    let failure = Failure::new(Exit::NOT_DURABLE, "it is in effect, and could not be written to the store");
    Err(failure.help("Weir writes it as soon as the store takes it; until then a restart loses it"))
}

/// Author and reason of a change.
pub(super) fn who(by: &ByArguments) -> (String, Option<String>) {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let uid = || format!("uid{}", rustix::process::getuid().as_raw());
    let author = by.author.clone().unwrap_or_else(|| {
        let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(uid);
        let host = rustix::system::uname();
        format!("{user}@{}", host.nodename().to_string_lossy())
    });
    (author, by.reason.clone())
}

/// A value in a query.
fn query(value: &str) -> String {
    segment(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, in_flight: u64) -> Status {
        serde_json::from_value(serde_json::json!({
            "state": "ready", "build": { "version": "0", "revision": "x" }, "pid": 1, "uptime_seconds": 1.0,
            "revision": 1, "config": { "path": "", "hash": "", "current": true, "errors": null },
            "listeners": [], "telemetry": null,
            "services": [{ "name": "shop", "shift": null, "versions": [
                { "name": "v1", "state": "ready", "configured": 90.0, "effective": 90.0, "observed": null,
                  "requests_total": 0, "requests_per_second": 0.0, "error_rate": null, "p50_ms": null,
                  "p95_ms": null, "p99_ms": null, "in_flight": 3, "streams": {}, "drain": null,
                  "endpoints": [
                    { "name": "a:1", "state": "ready", "in_flight": 3, "streams": 0, "drain": null },
                    { "name": "b:1", "state": state, "in_flight": in_flight, "streams": 1, "drain": null }] }] }]
        }))
        .unwrap()
    }

    #[test]
    fn what_is_in_effect_and_not_stored_has_a_code_of_its_own() {
        let changed = |durable| Changed { revision: 1, hash: None, changes: Vec::new(), warnings: Vec::new(), durable };
        assert_eq!(report(&changed(true), "nothing"), Ok(()));
        assert_eq!(report(&changed(false), "nothing").unwrap_err().exit, Exit::NOT_DURABLE);
        let old: Changed = serde_json::from_str("{\"revision\":1,\"changes\":[]}").unwrap();
        assert!(old.durable, "said only where it is not so");
        assert!(serde_json::to_string(&changed(false)).unwrap().contains("\"durable\":false"));
        assert!(!serde_json::to_string(&changed(true)).unwrap().contains("durable"));
    }

    #[test]
    fn a_wait_is_about_its_target_only() {
        let target: TargetArgument = "shop/v1/b:1".parse().unwrap();
        assert_eq!(progress(&status("drain", 2), &target), DrainProgress::Left { in_flight: 2, streams: 1 });
        assert_eq!(progress(&status("maint", 0), &target), DrainProgress::Empty);
        assert_eq!(progress(&status("removed", 0), &target), DrainProgress::Empty);
        assert_eq!(progress(&status("ready", 2), &target), DrainProgress::Ready, "somebody made it ready again");
        let gone: TargetArgument = "shop/v1/c:1".parse().unwrap();
        assert_eq!(progress(&status("ready", 2), &gone), DrainProgress::Empty, "what is not shown is gone");
    }

    #[test]
    fn the_path_of_a_state_names_what_is_meant() {
        let path = |text: &str| state_path(&text.parse().unwrap());
        assert_eq!(path("shop"), "/api/v1/services/shop/state");
        assert_eq!(path("shop/v1"), "/api/v1/services/shop/versions/v1/state");
        assert_eq!(
            path("shop/v1/unix:/run/app.sock"),
            "/api/v1/services/shop/versions/v1/endpoints/unix:%2Frun%2Fapp.sock/state"
        );
    }

    #[test]
    fn a_health_check_asks_a_url_or_the_usual_port() {
        let (server, path) = parse_url("http://127.0.0.1:9902/readyz").unwrap();
        assert_eq!((server.to_string(), path), ("http://127.0.0.1:9902".to_owned(), "/readyz".to_owned()));
        assert!(parse_url("https://x/readyz").is_err());
        assert!(parse_url("/readyz").is_err());
        let server = telemetry_server(std::path::Path::new("/nowhere/weir.yaml"));
        assert_eq!(server.to_string(), "http://127.0.0.1:9902");
    }

    #[test]
    fn a_health_check_asks_the_address_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weir.yaml");
        for (address, asked) in [
            ("0.0.0.0:7001", "http://127.0.0.1:7001"),
            ("'[::]:7001'", "http://[::1]:7001"),
            ("10.0.0.1:7001", "http://10.0.0.1:7001"),
            ("unix:/run/telemetry.sock", "unix:/run/telemetry.sock"),
        ] {
            let text = format!(
                "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\ntelemetry: {{ address: {address} }}\n"
            );
            std::fs::write(&file, text).unwrap();
            assert_eq!(telemetry_server(&file).to_string(), asked);
        }
    }
}
