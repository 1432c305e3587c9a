//! What a look-up costs with few and with many routes, and what it costs to compile them.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::traffic::route::{HostPattern, PathPattern, Rule, Table};
use weir::traffic::{HttpVersion, Request};

/// A request of which only host and path, given apart, are of interest.
struct Bare;

impl Request for Bare {
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
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn for_each_header(&self, _: &mut dyn FnMut(&[u8], &[u8])) {}
    fn client(&self) -> Option<IpAddr> {
        None
    }
}

const PATHS: usize = 10;

fn host(at: usize) -> String {
    format!("host-{at}.example.com")
}

#[expect(clippy::panic, reason = "a bench without its table has nothing to measure")]
fn table(hosts: usize) -> Table<u32> {
    Table::build(rules(hosts)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Ten path prefixes for each of `hosts` hosts, and one wildcard that none of the requests match.
fn rules(hosts: usize) -> Vec<Rule<u32>> {
    let rule = |host, path| Rule {
        hosts: vec![host],
        path: PathPattern::Prefix(path),
        methods: vec![],
        headers: vec![],
        target: 7,
    };
    let exact =
        (0..hosts * PATHS).map(|at| rule(HostPattern::Exact(host(at / PATHS)), format!("/api/path-{}", at % PATHS)));
    exact.chain([rule(HostPattern::Wildcard("example.com".to_owned()), "/other".to_owned())]).collect()
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/find");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for hosts in [1, 100, 10_000] {
        let table = table(hosts);
        for (name, host, path) in [
            ("first", host(0), "/api/path-0/cart"),
            ("middle", host(hosts / 2), "/api/path-5/cart"),
            ("miss_path", host(hosts / 2), "/none/of/these"),
            ("miss_host", "host.example.org".to_owned(), "/api/path-5/cart"),
        ] {
            group.bench_function(BenchmarkId::new(name, hosts), |bencher| {
                bencher.iter(|| table.find(black_box(&host), black_box(path), &Bare));
            });
        }
        // A different host each time, so that the table comes from memory and not from the first cache.
        let hosts: Vec<_> = (0..hosts).map(|at| host(at.wrapping_mul(7_919) % hosts)).collect();
        let mut next = hosts.iter().cycle();
        group.bench_function(BenchmarkId::new("spread", hosts.len()), |bencher| {
            bencher.iter(|| table.find(next.next().map_or("", String::as_str), black_box("/api/path-5/cart"), &Bare));
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/build");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1)).sample_size(10);
    for hosts in [1_000, 10_000] {
        group.bench_function(BenchmarkId::from_parameter(hosts * PATHS), |bencher| {
            bencher.iter_batched(
                || rules(hosts),
                |rules| Table::build(rules).map_err(|errors| errors.len()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, find, build);
criterion_main!(benches);
