//! What a snapshot decides, by what the file, shifts, states and resolved names say.

mod incremental;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::config;
use crate::model::fixture::Fixture as _;
use crate::model::{EndpointState, ResolvedAddress, Split, Weight};
use crate::snapshot::Publisher;
use crate::telemetry::RecorderOptions;
use crate::traffic::balance::{Endpoints as _, Tried, WHOLE};
use crate::traffic::split::Reason;
use crate::traffic::validate::spelling::{EncodedSlash, Paths, Underscore};
use crate::traffic::{HttpVersion, Request};

/// `GET /` with these header fields, from loopback.
struct Head(&'static [(&'static str, &'static str)]);

impl Request for Head {
    fn version(&self) -> HttpVersion {
        HttpVersion::Http11
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn target(&self) -> &[u8] {
        b"/"
    }
    fn authority(&self) -> Option<&[u8]> {
        None
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_bytes())
    }
    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name.as_bytes(), value.as_bytes()));
    }
    fn client(&self) -> Option<IpAddr> {
        Some([127, 0, 0, 1].into())
    }
}

fn compiler() -> Compiler {
    Compiler::new(Recorder::new(RecorderOptions {
        threads: 1,
        version: "test",
        revision: "test",
        started: Instant::now(),
    }))
}

/// A file with one service `shop`, of these keys, and these routes.
fn config_with(service: &str, routes: &str) -> Config {
    let yaml = format!(
        "version: 1\nlisteners: [{{ name: web, address: \"127.0.0.1:8080\" }}]\nservices:\n  shop: {{ {service} }}\nroutes: [{routes}]\n"
    );
    config::parse(Path::new("/etc/weir/weir.yaml"), yaml.as_bytes(), &|_: &str| None)
        .unwrap_or_else(|faults| panic!("{faults}\n{yaml}"))
}

fn config(service: &str) -> Config {
    config_with(service, "{ match: { path: / }, service: shop }")
}

#[expect(clippy::unnecessary_wraps, reason = "as it is given to the compiler")]
fn previous<'a>(config: &'a Config, snapshot: &'a Snapshot) -> Option<Previous<'a>> {
    Some(Previous { config, snapshot })
}

fn compile(config: &Config, inputs: &Inputs) -> Snapshot {
    compiler().compile(config, inputs, None).unwrap()
}

/// The versions that `requests` requests get, by count, and whether they were available.
fn decisions(snapshot: &Snapshot, requests: usize) -> Vec<usize> {
    let shop = snapshot.service("shop").unwrap();
    let mut counts = vec![0; shop.versions.len()];
    for _ in 0..requests {
        let choice = shop.chooser.choose(&Head(&[]), || panic!("no key is to be made"), || 0);
        if choice.available {
            counts[choice.version] += 1;
        }
    }
    counts
}

/// The addresses that a version's requests go to.
fn reached(snapshot: &Snapshot, version: &str) -> Vec<String> {
    let shop = snapshot.service("shop").unwrap();
    let at = shop.versions.iter().position(|known| &*known.name == version).unwrap();
    // A version that is not available is asked for nothing.
    let Some(version) = shop.versions.get(at).filter(|_| shop.chooser.is_available(at)) else { return Vec::new() };
    let mut tried = Tried::default();
    let mut reached = Vec::new();
    while let Some(at) = version.pick(&tried, None) {
        tried.insert(at);
        reached.push(version.endpoints[at].address.to_string());
    }
    reached.sort_unstable();
    reached
}

const V1: &str = "v1: { endpoints: [\"127.0.0.1:1\", \"127.0.0.1:2\"] }";

fn state(endpoint: Option<&str>, state: EndpointState) -> States {
    States::from([(("shop".into(), "v2".into(), endpoint.map(Into::into)), state)])
}

#[test]
fn states_decide_who_takes_requests() {
    use EndpointState::{Drain, Maint, Ready};
    let plain = "endpoints: [\"127.0.0.1:3\", \"127.0.0.1:4\"]";
    let one_out = "endpoints: [{ address: \"127.0.0.1:3\", state: drain }, \"127.0.0.1:4\"]";
    let all_out = "endpoints: [{ address: \"127.0.0.1:3\", state: maint }]";
    let both: &[&str] = &["127.0.0.1:3", "127.0.0.1:4"];
    for (what, v2, over, counts, endpoints) in [
        ("ready", plain.to_owned(), States::new(), [8, 2], both),
        ("drained by the file", format!("state: drain, {plain}"), States::new(), [10, 0], &[]),
        ("in maintenance by the file", format!("state: maint, {plain}"), States::new(), [10, 0], &[]),
        ("drained by command", plain.to_owned(), state(None, Drain), [10, 0], &[]),
        ("ready by command over the file", format!("state: drain, {plain}"), state(None, Ready), [8, 2], both),
        ("one endpoint drained by the file", one_out.to_owned(), States::new(), [8, 2], &["127.0.0.1:4"]),
        ("one drained by command", plain.to_owned(), state(Some("127.0.0.1:4"), Drain), [8, 2], &["127.0.0.1:3"]),
        ("one ready by command", one_out.to_owned(), state(Some("127.0.0.1:3"), Ready), [8, 2], both),
        ("one in maintenance", plain.to_owned(), state(Some("127.0.0.1:3"), Maint), [8, 2], &["127.0.0.1:4"]),
        ("no endpoint ready", all_out.to_owned(), States::new(), [10, 0], &[]),
        (
            "a ready endpoint of a drained version",
            format!("state: drain, {one_out}"),
            state(Some("127.0.0.1:3"), Ready),
            [10, 0],
            &[],
        ),
    ] {
        let config = config(&format!("versions: {{ {V1}, v2: {{ {v2} }} }}, split: {{ v1: 80, v2: 20 }}"));
        let snapshot = compile(&config, &Inputs { states: over, ..Inputs::default() });
        assert_eq!(decisions(&snapshot, 10), counts, "{what}");
        assert_eq!(reached(&snapshot, "v2"), endpoints, "{what}");
        assert_eq!(snapshot.service("shop").unwrap().versions[1].configured.basis_points(), 2_000, "{what}");
        let effective = snapshot.service("shop").unwrap().chooser.effective()[1].basis_points();
        assert_eq!(effective, if counts[1] == 0 { 0 } else { 2_000 }, "{what}");
    }
}

#[test]
fn a_shift_counts_instead_of_the_files_split() {
    let file = format!("versions: {{ {V1}, v2: {{ endpoints: [\"127.0.0.1:3\"] }} }}, split: {{ v1: 80, v2: 20 }}");
    let weight = |bp| Weight::from_basis_points(bp).unwrap();
    let shift = Split::new(vec![("v1".into(), weight(3_000)), ("v2".into(), weight(7_000))]).unwrap();
    let inputs = Inputs { shifts: BTreeMap::from([("shop".into(), shift.clone())]), ..Inputs::default() };
    assert_eq!(decisions(&compile(&config(&file), &inputs), 10), [3, 7]);
    let inputs = Inputs { shifts: BTreeMap::from([("other".into(), shift)]), ..Inputs::default() };
    assert_eq!(decisions(&compile(&config(&file), &inputs), 10), [8, 2]);
}

#[test]
fn what_is_in_flight_is_found_again_by_identity() {
    let file = |v1: &str, v2: &str| {
        config(&format!(
            "versions: {{ v1: {{ endpoints: [{v1}] }}, v2: {{ endpoints: [{v2}] }} }}, split: {{ v1: 90, v2: 10 }}"
        ))
    };
    let mut compiler = compiler();
    let live = |snapshot: &Snapshot, version: usize, endpoint: usize| {
        Arc::clone(&snapshot.services[0].versions[version].endpoints[endpoint].live)
    };
    let start = file("\"127.0.0.1:1\", \"127.0.0.1:2\"", "\"127.0.0.1:1\"");
    let first = compiler.compile(&start, &Inputs::default(), None).unwrap();
    let _ticket = live(&first, 0, 1).ledger.enter();
    let turned = file("\"127.0.0.1:2\", \"127.0.0.1:5\"", "\"127.0.0.1:1\"");
    let second = compiler.compile(&turned, &Inputs::default(), previous(&start, &first)).unwrap();
    assert!(Arc::ptr_eq(&live(&second, 0, 0), &live(&first, 0, 1)), "the same address at another place");
    assert_eq!(live(&second, 0, 0).ledger.in_flight(), 1);
    assert_ne!(live(&first, 0, 0).id, live(&first, 1, 0).id, "the same address in two versions is two endpoints");
    assert_eq!(live(&second, 1, 0).id, live(&first, 1, 0).id);
    assert!(second.revision > first.revision);
    let back = file("\"127.0.0.1:1\"", "\"127.0.0.1:1\"");
    let third = compiler.compile(&back, &Inputs::default(), previous(&turned, &second)).unwrap();
    assert_eq!(live(&third, 0, 0).id, live(&first, 0, 0).id, "it came back while somebody still held it");
}

#[test]
fn a_reload_continues_the_split() {
    let config =
        config(&format!("versions: {{ {V1}, v2: {{ endpoints: [\"127.0.0.1:3\"] }} }}, split: {{ v1: 90, v2: 10 }}"));
    let mut compiler = compiler();
    let mut snapshot = compiler.compile(&config, &Inputs::default(), None).unwrap();
    let mut canary = 0;
    for _ in 0..100 {
        canary += decisions(&snapshot, 3)[1];
        snapshot = compiler.compile(&config, &Inputs::default(), previous(&config, &snapshot)).unwrap();
    }
    assert_eq!(canary, 30);
}

#[test]
fn a_replaced_snapshot_is_freed_by_who_replaced_it() {
    let config = config("versions: { v1: { endpoints: [\"127.0.0.1:1\"] } }, split: { v1: 100 }");
    let (mut publisher, current) = Publisher::new(compile(&config, &Inputs::default()));
    let held = current.load();
    let weak = Arc::downgrade(&held);
    publisher.publish(compile(&config, &Inputs::default()), &States::new());
    drop(held);
    assert!(weak.upgrade().is_some(), "whoever used it last would have freed it");
    publisher.free();
    assert!(weak.upgrade().is_none());
    publisher.publish(compile(&config, &Inputs::default()), &States::new());
    assert!(publisher.is_all_freed(), "nobody used it");
}

#[test]
fn a_route_without_a_name_is_called_by_its_first_host_and_its_path() {
    for (matches, expected) in [
        ("match: { path: / }", "*/"),
        ("match: { host: shop.test }", "shop.test/"),
        ("match: { host: \"*.shop.test\", path: /api }", "*.shop.test/api"),
        ("name: front, match: { host: shop.test }", "front"),
    ] {
        let service = format!("versions: {{ {V1} }}");
        let snapshot = compile(&config_with(&service, &format!("{{ {matches}, service: shop }}")), &Inputs::default());
        let host = if matches.contains("*.") { "a.shop.test" } else { "shop.test" };
        let route = snapshot.table.find(host, "/api", &Head(&[])).unwrap();
        assert_eq!(&*route.name, expected);
        assert_eq!(route.series.len(), 1);
    }
}

#[test]
fn a_dns_name_is_as_many_endpoints_as_it_has_addresses() {
    let config = config("versions: { v1: { endpoints: [\"app.test:80\"] } }");
    for (addresses, expected) in [
        (None, vec![]),
        (Some(vec![]), vec![]),
        (Some(vec!["10.0.0.1:80"]), vec![("app.test:80", "10.0.0.1:80")]),
        (
            Some(vec!["10.0.0.1:80", "10.0.0.2:80"]),
            vec![("10.0.0.1:80", "10.0.0.1:80"), ("10.0.0.2:80", "10.0.0.2:80")],
        ),
    ] {
        let resolved = addresses.map(|all| {
            (
                "app.test:80".to_owned(),
                all.iter().map(|one| one.parse::<std::net::SocketAddr>().unwrap().into()).collect(),
            )
        });
        let snapshot = compile(&config, &Inputs { resolved: resolved.into_iter().collect(), ..Inputs::default() });
        let version = &snapshot.services[0].versions[0];
        let found: Vec<(String, String)> =
            version.endpoints.iter().map(|one| (one.name.to_string(), one.address.to_string())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected);
        assert!(version.endpoints.iter().all(|endpoint| &*endpoint.spelled == "app.test:80"));
        assert_eq!(snapshot.services[0].chooser.is_available(0), !expected.is_empty());
        assert_eq!(decisions(&snapshot, 1), [usize::from(!expected.is_empty())]);
    }
}

#[test]
fn a_cookie_is_made_only_where_the_file_gives_it_a_life() {
    for (affinity, made) in [("cookie: weir, ttl: 24h", true), ("cookie: weir", false)] {
        let file = format!("versions: {{ {V1} }}, affinity: {{ {affinity} }}");
        let snapshot = compile(&config(&file), &Inputs::default());
        let shop = snapshot.service("shop").unwrap();
        let choice = shop.chooser.choose(&Head(&[]), || "key".to_owned(), || 0);
        assert_eq!((choice.new_cookie.is_some(), shop.affinity_cookie.is_some()), (made, made), "{affinity}");
        assert_eq!(choice.reason, if made { Reason::Affinity } else { Reason::Weight });
        let known = shop.chooser.choose(&Head(&[("cookie", "weir=key")]), || panic!("it has a key"), || 0);
        assert_eq!(known.reason, Reason::Affinity);
    }
}

#[test]
fn an_override_is_read_from_the_file() {
    let file = format!(
        "versions: {{ {V1}, v2: {{ endpoints: [\"127.0.0.1:3\"] }} }}, split: {{ v1: 100, v2: 0 }}, \
         override: {{ header: X-Version, from: [127.0.0.0/8] }}"
    );
    let snapshot = compile(&config(&file), &Inputs::default());
    let choice = snapshot.services[0].chooser.choose(&Head(&[("x-version", "v2")]), String::new, || 0);
    assert_eq!((choice.version, choice.reason), (1, Reason::Override));
}

#[test]
fn limits_of_checks_are_edges_of_new_versions_and_running_ones_keep_theirs() {
    use std::time::Duration;
    let shop = |limits: &[Duration], versions: &str| {
        let check = |(at, limit): (usize, &Duration)| {
            format!("{{ name: c{at}, duration: {{ max: {}ms }} }}", limit.as_millis())
        };
        let checks: Vec<String> = limits.iter().enumerate().map(check).collect();
        config(&format!("versions: {{ {versions} }}, release: v1, rollout: {{ checks: [{}] }}", checks.join(", ")))
    };
    // As many as a file may name: none is left out.
    let limits: Vec<Duration> = (1..=13).map(|n| Duration::from_millis(n * 7)).collect();
    let (v1, v2) = ("v1: { endpoints: ['10.0.0.1:80'] }", "v2: { endpoints: ['10.0.0.2:80'] }");
    let mut compiler = compiler();
    let inputs = Inputs::default();
    let start = shop(&limits, v1);
    let first = compiler.compile(&start, &inputs, None).unwrap();
    let edges = |snapshot: &Snapshot, at: usize| Arc::clone(snapshot.services[0].versions[at].series.edges());
    let has = |snapshot, at, limit: Duration| edges(snapshot, at).seconds().any(|edge| edge == limit.as_secs_f64());
    assert!(limits.iter().all(|limit| has(&first, 0, *limit)));
    let new = [Duration::from_millis(333)];
    let second = compiler.compile(&shop(&new, &format!("{v1}, {v2}")), &inputs, previous(&start, &first)).unwrap();
    assert_eq!((has(&second, 0, new[0]), has(&second, 1, new[0])), (false, true));
    assert!(Arc::ptr_eq(&edges(&first, 0), &edges(&second, 0)));
}

#[test]
fn a_listener_reads_paths_and_headers_as_it_says_and_else_as_the_file_does() {
    let yaml = "version: 1\nlisteners:\n  - { name: web, address: '127.0.0.1:1' }\n  - { name: own, address: '127.0.0.1:2', \
        paths: { encoded_slash: decode }, headers: { underscore: allow } }\npaths: { encoded_slash: refuse, merge_slashes: true }\n\
        headers: { underscore: refuse }\nservices: { shop: { versions: { v1: { endpoints: ['10.0.0.1:80'] } } } }\n\
        routes: [{ match: { path: PATH }, service: shop }]\n";
    let compiled = |yaml: &str, path: &str| {
        let yaml = yaml.changed("PATH", path);
        let config = config::parse(Path::new("/etc/weir/weir.yaml"), yaml.as_bytes(), &|_: &str| None).unwrap();
        compiler().compile(&config, &Inputs::default(), None).map_err(|error| error.to_string())
    };
    let snapshot = compiled(yaml, "/").unwrap();
    let (web, own) = (snapshot.limits_of("web"), snapshot.limits_of("own"));
    let paths = Paths { encoded_slash: EncodedSlash::Refuse, merge_slashes: true, ..Paths::default() };
    assert_eq!((web.paths, web.underscore), (paths, Underscore::Refuse));
    let paths = Paths { encoded_slash: EncodedSlash::Decode, ..paths };
    assert_eq!((own.paths, own.underscore), (paths, Underscore::Allow));
    assert_eq!((own.header_bytes, own.fields), (web.header_bytes, web.fields));
    // A route that no listener can lead to is a mistake; one that some can is none.
    for (path, help) in [("//a", "write `/a`"), ("/a%2Fb", "write `/a/b`"), ("/a%5Cb", "read in different ways")] {
        let faults = compiled(yaml, path).err().unwrap_or_default();
        assert!(faults.contains(help), "{path}: {faults}");
    }
    let kept = yaml.changed("encoded_slash: decode", "encoded_slash: keep, merge_slashes: false, backslash: keep");
    for path in ["//a", "/a%2Fb", "/a%5Cb"] {
        assert_eq!(compiled(&kept, path).err(), None, "{path}");
    }
}

#[test]
fn endpoints_that_come_or_are_ready_again_start_slowly_unless_all_are_new() {
    let file = |endpoints: &str| {
        config(&format!("slow_start: 1h, versions: {{ v1: {{ endpoints: [{endpoints}] }} }}, split: {{ v1: 100 }}"))
    };
    let parts = |snapshot: &Snapshot| {
        let version = &snapshot.services[0].versions[0];
        (0..version.endpoints.len()).map(|at| version.part(at)).collect::<Vec<_>>()
    };
    let (one, two) = (file("'10.0.0.1:80', '10.0.0.2:80'"), file("'10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80'"));
    let mut compiler = compiler();
    let first = compiler.compile(&one, &Inputs::default(), None).unwrap();
    assert_eq!(parts(&first), [WHOLE, WHOLE], "all are new");
    let next = compiler.compile(&two, &Inputs::default(), previous(&one, &first)).unwrap();
    assert_eq!(parts(&next), [WHOLE, WHOLE, WHOLE / 10]);
    let again = compiler.compile(&two, &Inputs::default(), previous(&two, &next)).unwrap();
    assert_eq!(parts(&again), [WHOLE, WHOLE, WHOLE / 10], "a reload does not make it new again");
    let mut states = States::new();
    let key = ("shop".into(), "v1".into(), Some("10.0.0.1:80".into()));
    states.insert(key, EndpointState::Drain);
    again.services[0].set_states(&states);
    again.services[0].set_states(&States::new());
    assert_eq!(parts(&again), [WHOLE / 10, WHOLE, WHOLE / 10], "ready again");
}

#[test]
fn weights_of_the_file_and_of_srv_records_multiply() {
    let config = config(
        "versions: { v1: { endpoints: ['10.0.0.1:80', { address: 'srv:_http._tcp.a.test', weight: 3 }] } }, split: { v1: 100 }",
    );
    let target = |address: &str, weight| ResolvedAddress { address: address.parse().unwrap(), weight };
    let found = vec![target("10.0.0.2:81", 1), target("10.0.0.3:82", 5)];
    let resolved = HashMap::from([("srv:_http._tcp.a.test".to_owned(), found)]);
    let snapshot = compile(&config, &Inputs { resolved, ..Inputs::default() });
    let endpoints = snapshot.services[0].versions[0].endpoints.iter();
    let weights: Vec<_> = endpoints.map(|one| (one.name.to_string(), one.weight)).collect();
    let expected = [("10.0.0.1:80", 1), ("10.0.0.2:81", 3), ("10.0.0.3:82", 15)];
    assert_eq!(weights, expected.map(|(name, weight)| (name.to_owned(), weight)));
}
