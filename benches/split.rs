//! What choosing costs: the version, on one and on two threads, by weight and by a client's key, and the endpoint.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::model::Weight;
use weir::traffic::balance::{Algorithm, Balancer, Endpoints, Tried};
use weir::traffic::split::{Chooser, KeySource, Schedules, SplitOptions, VersionShare};
use weir::traffic::{HttpVersion, Request};

/// A request with these header fields.
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
        None
    }
}

const HEAD: Head = Head(&[
    ("host", "shop.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    ("accept", "text/html,application/xhtml+xml"),
    ("accept-encoding", "gzip, deflate, br"),
    ("cookie", "theme=dark; session=1f0c2b7a9d; weir-shop=5f2c8e0a91d34b675f2c8e0a91d34b67"),
    ("x-user", "user-123456"),
]);

fn chooser(weights: &[u16], affinity: Option<KeySource>) -> Chooser {
    let share = |(at, bp): (usize, &u16)| VersionShare {
        name: format!("v{at}").into(),
        weight: Weight::from_basis_points(*bp).unwrap_or_default(),
        available: true,
        breaker: None,
    };
    let shares: Vec<VersionShare> = weights.iter().enumerate().map(share).collect();
    let options = SplitOptions { salt: "shop".to_owned(), affinity, ..SplitOptions::default() };
    Chooser::compile(&shares, Vec::new(), options, None, &mut Schedules::default())
}

const TWO: &[u16] = &[9_000, 1_000];
const FIVE: &[u16] = &[6_000, 2_500, 1_000, 499, 1];

/// The time that two threads need for `iterations` of `work` each, per iteration of one of them.
fn on_two_threads(iterations: u64, work: impl Fn() + Sync) -> Duration {
    let start = Barrier::new(2);
    let run = || {
        start.wait();
        let began = Instant::now();
        (0..iterations).for_each(|_| work());
        began.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        run().max(other.join().unwrap_or_default())
    })
}

fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (name, weights) in [("2_versions", TWO), ("5_versions", FIVE)] {
        let chooser = chooser(weights, None);
        let choose = || drop(black_box(chooser.choose(black_box(&HEAD), String::new, || 0)));
        group.bench_function(BenchmarkId::new("one_thread", name), |bencher| bencher.iter(choose));
        group.bench_function(BenchmarkId::new("two_threads", name), |bencher| {
            bencher.iter_custom(|iterations| on_two_threads(iterations, choose));
        });
    }
    let cookie = KeySource::Cookie { name: "weir-shop".into(), make: true, keys: None };
    for (name, source) in [("header", KeySource::Header("x-user".into())), ("cookie", cookie)] {
        let chooser = chooser(TWO, Some(source));
        group.bench_function(BenchmarkId::new("affinity", name), |bencher| {
            bencher.iter(|| chooser.choose(black_box(&HEAD), String::new, || 0));
        });
    }
    group.finish();
}

/// Endpoints that are all available; each third has a request in flight.
struct Fixed;

impl Endpoints for Fixed {
    fn is_available(&self, at: usize) -> bool {
        black_box(at) < usize::MAX
    }
    fn load(&self, at: usize) -> u64 {
        u64::from(at.is_multiple_of(3))
    }
}

/// A client's key, hashed.
const KEY: Option<u64> = Some(0x5e20_f275_941b_3638);

fn balance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for endpoints in [2_usize, 10, 100] {
        let names: Vec<String> = (0..endpoints).map(|at| format!("10.0.0.{at}:8080")).collect();
        // Each second endpoint has this weight, the others 1.
        let cases = [
            ("least_requests", Algorithm::LeastRequests, 1, None),
            ("least_requests_weighted", Algorithm::LeastRequests, 3, None),
            ("round_robin", Algorithm::RoundRobin, 1, None),
            ("round_robin_weighted", Algorithm::RoundRobin, 3, None),
            ("affinity", Algorithm::LeastRequests, 1, KEY),
            ("affinity_weighted", Algorithm::LeastRequests, 3, KEY),
        ];
        for (name, algorithm, weight, key) in cases {
            let of = |at: usize| if at.is_multiple_of(2) { weight } else { 1 };
            let weighted = names.iter().enumerate().map(|(at, name)| (name.as_str(), of(at)));
            let balancer = Balancer::new(weighted, algorithm);
            group.bench_function(BenchmarkId::new(name, endpoints), |bencher| {
                bencher.iter(|| balancer.pick(&Fixed, black_box(&Tried::default()), black_box(key)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, split, balance);
criterion_main!(benches);
