//! What a valid file becomes.

use std::time::Duration;

use proptest::prelude::*;

use super::{parse, with};
use crate::config::section::affinity::MadeCookie;
use crate::config::{
    AffinityKey, Bytes, Config, EndpointAddress, HeaderMatch, HostHeader, HostMatch, OverrideFrom, PathMatch, Period,
    SameSite, SecureCookie, TlsVersion,
};
use crate::model::Weight;

fn valid(yaml: &str) -> Config {
    parse(yaml).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

#[test]
fn the_file_of_the_design_loads() {
    let config = valid(
        r#"
version: 1
listeners:
  - { name: web, address: 0.0.0.0:8080 }
  - name: websecure
    address: 0.0.0.0:8443
    tls: { cert: tls/tls.crt, key: tls/tls.key }
telemetry: { address: 0.0.0.0:9902 }
admin: { address: 127.0.0.1:9901 }
runtime: { threads: 2 }
shutdown: { deadline: 25s }
services:
  shop:
    versions:
      v1: { endpoints: ["10.0.1.10:8080", "10.0.1.11:8080"] }
      v2: { endpoints: ["10.0.2.10:8080"] }
    split: { v1: 90, v2: 10 }
    timeouts: { connect: 1s, first_byte: 30s, idle: 60s }
    drain: { requests: 30s, streams: 5m }
routes:
  - match: { host: shop.example.com, path: /checkout }
    service: shop
"#,
    );
    let tls = config.listeners[1].tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].cert.to_str(), Some("/etc/weir/tls/tls.crt"));
    assert_eq!((tls.min_version, tls.client.is_none()), (TlsVersion::V1_2, true));
    assert_eq!(config.shutdown.delay(), Duration::from_secs(5));
    assert_eq!(config.routes[0].matches.hosts, [HostMatch::Exact("shop.example.com".into())]);
    assert_eq!(config.routes[0].matches.path, Some(PathMatch::Prefix("/checkout".into())));
    let shop = config.services.get("shop").unwrap();
    assert_eq!(shop.split.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["v1", "v2"]);
}

#[test]
fn the_smallest_file_has_every_default() {
    let config = valid("version: 1\nlisteners: [{ name: web, address: '127.0.0.1:0' }]\n");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9901");
    assert_eq!(config.limits.header_bytes.get(), 32 * 1024);
    assert_eq!(config.shutdown.deadline.get(), Duration::from_secs(25));
    assert!(config.telemetry.is_none() && config.services.is_empty() && config.trusted_proxies.is_empty());
}

#[test]
fn one_version_needs_no_split_and_gets_everything() {
    let config = valid(&with("services: { a: { versions: { only: { endpoints: ['app.internal:80'] } } } }"));
    let service = config.services.get("a").unwrap();
    assert_eq!(service.split.weight("only"), Weight::FULL);
    let address = &service.versions.get("only").unwrap().endpoints[0].address;
    assert_eq!(*address, EndpointAddress::Dns { host: "app.internal".into(), port: 80 });
    assert_eq!(service.upgrades, ["websocket"]);
}

#[test]
fn numbers_that_look_like_names_stay_what_was_written() {
    let config = valid(&with(
        "services: { a: { versions: { 1.10: { endpoints: ['10.0.0.1:80'] }, 1.9: { endpoints: [] } }, split: { 1.10: 100.00, 1.9: 0 } } }",
    ));
    let names: Vec<_> = config.services.get("a").unwrap().versions.names().map(|name| name.to_string()).collect();
    assert_eq!(names, ["1.10", "1.9"]);
}

#[test]
fn weights_are_read_exactly() {
    let config = valid(&with(
        "services: { a: { versions: { x: { endpoints: ['10.0.0.1:80'] }, y: { endpoints: ['10.0.0.2:80'] }, z: { endpoints: [] } }, split: { x: 33.33, y: '66.67' } } }",
    ));
    let split = &config.services.get("a").unwrap().split;
    let points = |version| split.weight(version).basis_points();
    assert_eq!((points("x"), points("y"), points("z")), (3_333, 6_667, 0));
}

#[test]
fn matches_are_read_in_every_form_and_compare_whatever_their_order() {
    let config = valid(&with(
        "services: { a: { versions: { v: { endpoints: ['10.0.0.1:80'] } } } }\n\
         routes:\n\
         - { service: a, match: { host: ['*.Example.com', 'B.example.', '[::1]'], exact: /a%20b, method: [POST, GET] } }\n\
         - { service: a, match: { regex: '^/x/[0-9]+$', headers: { X-User: anna, b: { prefix: c }, d: { present: true } } } }\n\
         - { service: a, match: { path: /x/ } }",
    ));
    let [first, second, third] = config.routes.as_slice() else { panic!() };
    assert_eq!(
        first.matches.hosts,
        [
            HostMatch::Exact("::1".into()),
            HostMatch::Exact("b.example".into()),
            HostMatch::Wildcard("example.com".into())
        ]
    );
    assert_eq!(first.matches.methods, ["GET", "POST"]);
    assert_eq!(
        second.matches.headers,
        [
            (http::HeaderName::from_static("b"), HeaderMatch::Prefix("c".into())),
            (http::HeaderName::from_static("d"), HeaderMatch::Present(true)),
            (http::HeaderName::from_static("x-user"), HeaderMatch::Exact("anna".into())),
        ]
    );
    assert_eq!(third.matches.path, Some(PathMatch::Prefix("/x".into())));
}

#[test]
fn affinity_override_and_host_are_read() {
    let config = valid(&with(
        "services: { a: { versions: { v: { endpoints: ['10.0.0.1:80'] } }, affinity: { cookie: c, ttl: 1h, salt: s }, \
         override: { header: X-Version, from: anyone }, host: Shop.internal:8080 } }",
    ));
    let service = config.services.get("a").unwrap();
    let ttl = Period::from_secs(3_600);
    let made = MadeCookie { ttl, secure: SecureCookie::Auto, same_site: SameSite::Lax, secret_file: None };
    let key = AffinityKey::Cookie { name: "c".into(), made: Some(made) };
    assert_eq!(service.affinity.as_ref().unwrap().key, key);
    assert_eq!(service.overrides.as_ref().unwrap().from, Some(OverrideFrom::Anyone));
    assert_eq!(service.host, HostHeader::Fixed("shop.internal:8080".into()));
}

#[test]
fn the_hash_follows_what_the_file_says_and_not_how() {
    let one = valid(&with("services: { a: { versions: { v: { endpoints: ['10.0.0.1:80'] } } } }"));
    let same = valid(&with("# a comment\nservices:\n  a:\n    versions: { v: { endpoints: [\"10.0.0.1:80\"] } }"));
    let other = valid(&with("services: { a: { versions: { v: { endpoints: ['10.0.0.1:81'] } } } }"));
    assert_eq!(one.hash(), same.hash());
    assert_ne!(one.hash(), other.hash());
    // Computed by another program; it must not change between releases.
    assert_eq!(valid("version: 1\nlisteners: [{ name: w, address: '127.0.0.1:1' }]").hash(), "7874efec9db4c1c0");
}

#[test]
fn what_is_made_once_needs_a_restart_and_the_rest_does_not() {
    let old = valid(&with("services: { a: { versions: { v: { endpoints: ['10.0.0.1:80'] } } } }"));
    let reloadable = valid(&with("limits: { keepalive: 5s }\ntrusted_proxies: [10.0.0.0/8]"));
    assert_eq!(old.restart_needed(&reloadable), []);
    let read_anew = valid(
        "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:8080, paths: { merge_slashes: true }, \
         headers: { underscore: allow } }]\npaths: { encoded_slash: refuse }\nheaders: { underscore: refuse }",
    );
    assert_eq!(old.restart_needed(&read_anew), [], "how requests are read is no matter of sockets");
    let new = valid(
        "version: 1\nlisteners:\n  - { name: web, address: 127.0.0.1:81 }\n  - { name: more, address: 127.0.0.1:82 }\n\
         runtime: { threads: 3 }\ntelemetry: { address: 127.0.0.1:9902 }",
    );
    let places: Vec<_> = old.restart_needed(&new).into_iter().map(|d| (d.line, d.column, d.path)).collect();
    let place = |line, column, path: &str| (line, column, path.to_owned());
    let expected =
        [place(3, 5, "listeners[0]"), place(4, 5, "listeners[1]"), place(6, 1, "telemetry"), place(5, 1, "runtime")];
    assert_eq!(places, expected);
    let text = new.restart_needed(&old).first().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("listener `web` changed, which needs a restart"), "{text}");
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = valid(&with("state: { directory: state }\naccess_log: { output: ./access.log }"));
    assert_eq!(config.state.directory.as_deref().and_then(|path| path.to_str()), Some("/etc/weir/state"));
}

proptest! {
    #[test]
    fn a_period_reads_what_it_prints(milliseconds in 0..10_000_000_000_u64) {
        let period = Period::from_millis(milliseconds);
        prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
    }

    #[test]
    fn an_amount_of_bytes_reads_what_it_prints(bytes in any::<u64>()) {
        prop_assert_eq!(Bytes::new(bytes).to_string().parse::<Bytes>(), Ok(Bytes::new(bytes)));
    }

    #[test]
    fn every_split_of_two_decimals_is_read_to_the_basis_point(first in 0..=10_000_u16) {
        let weights = [first, 10_000 - first].map(|points| Weight::from_basis_points(points).unwrap_or_default());
        let [one, two] = weights;
        let config = parse(&with(&format!(
            "services: {{ a: {{ versions: {{ x: {{ endpoints: ['10.0.0.1:80'] }}, y: {{ endpoints: ['10.0.0.2:80'] }} }}, split: {{ x: {one}, y: {two} }} }} }}"
        )));
        let split = config.map(|config| config.services.get("a").map(|service| service.split.clone())).ok().flatten();
        prop_assert_eq!(split.map(|split| (split.weight("x"), split.weight("y"))), Some((one, two)));
    }
}
