//! Names of a configuration, and what an operator reads of their addresses.

use std::net::SocketAddr;

use super::*;

fn config(hosts: &[&str]) -> Config {
    let endpoints = hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  shop:\n    versions:\n      \
         v1: {{ endpoints: [{endpoints}] }}\n      v2: {{ endpoints: [{endpoints}] }}\n    split: {{ v1: 100 }}\n\
         routes: [{{ match: {{ path: / }}, service: shop }}]\n"
    );
    crate::config::parse(std::path::Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None).unwrap()
}

fn recorder() -> Arc<Recorder> {
    let started = std::time::Instant::now();
    Recorder::new(crate::telemetry::RecorderOptions { threads: 1, version: "", revision: "", started })
}

#[test]
fn each_name_is_looked_up_once() {
    let names =
        wanted(&config(&["a.test:80", "A.test.:80", "srv:_http._tcp.a.test", "10.0.0.1:80", "[::1]:80", "unix:/x"]));
    assert_eq!(names.keys().collect::<Vec<_>>(), ["a.test.:80", "a.test:80", "srv:_http._tcp.a.test"]);
    assert!(names.values().all(|wanted| wanted.services.len() == 1));
    assert_eq!(names["srv:_http._tcp.a.test"].question, Question::Services("_http._tcp.a.test".to_owned()));
}

#[tokio::test]
async fn new_names_are_waited_for_and_those_that_do_not_exist_have_no_address() {
    let discovery = Discovery::start(recorder());
    // Nobody asks a server for either (RFC 6761 §6.3 and §6.4).
    let config = config(&["localhost:80", "gone.invalid.:80"]);
    let resolved = discovery.resolve(&config).await;
    assert!(!resolved["localhost:80"].is_empty());
    assert!(resolved["localhost:80"].iter().all(|address| address.address.ip().is_loopback()));
    assert!(resolved["gone.invalid.:80"].is_empty());
    assert_eq!(discovery.resolved(&config), resolved);
    let list = discovery.names().list();
    assert_eq!(list[0].trouble.as_deref(), Some("there is no such name (NXDOMAIN)"));
    assert!(list[0].answered.is_none() && list[1].answered.is_some());
}

#[test]
fn changes_of_addresses_are_told_by_name_up_to_a_bound() {
    let addresses = |all: &[&str]| all.iter().map(|one| one.parse::<SocketAddr>().unwrap().into()).collect::<Vec<_>>();
    let before = Resolved::from([("a:80".to_owned(), addresses(&["10.0.0.1:80", "10.0.0.2:80"]))]);
    let now = Resolved::from([("a:80".to_owned(), addresses(&["10.0.0.2:80", "10.0.0.3:80"]))]);
    assert_eq!(differences(&before, &now), ["addresses of a:80: 2 now, 1 came and 1 left"]);
    assert!(differences(&now, &now).is_empty());
    let many: Resolved = (0..50).map(|at| (format!("{at}:80"), addresses(&["10.0.0.1:80"]))).collect();
    let lines = differences(&before, &many);
    assert_eq!((lines.len(), &*lines[MAX_LINES]), (MAX_LINES + 1, "and the addresses of 30 more names"));
    assert!(differences(&many, &before).len() == 1, "what is not wanted any more is no change of addresses");
}
