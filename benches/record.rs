//! What counting costs: the end of a request on one and on two threads, the resolving of handles, a tick and
//! a scrape.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::model::Name;
use weir::telemetry::{DecisionReason, Outcome, Recorder, RecorderOptions, RouteSeries, exposition};

const DURATION: Duration = Duration::from_micros(730);

fn recorder() -> Arc<Recorder> {
    Recorder::new(RecorderOptions { threads: 2, version: "bench", revision: "bench", started: Instant::now() })
}

/// `services` services with two versions and `routes` routes on each, all of which have had a request.
fn resolve(recorder: &Recorder, services: usize, routes: usize) -> Vec<Arc<RouteSeries>> {
    let routes: Vec<Name> = (0..routes).map(|route| format!("route-{route:06}").into()).collect();
    let mut handles = Vec::new();
    for service in 0..services {
        for version in ["v1", "v2"] {
            let version = recorder.version(&format!("service-{service:04}").into(), &version.into());
            handles.extend(routes.iter().map(|route| version.route(route)));
        }
    }
    handles
}

fn a_request(route: &Arc<RouteSeries>) {
    let version = route.version();
    let _in_flight = version.enter();
    version.decided(DecisionReason::Weight);
    version.upstream_answered(black_box(DURATION));
    route.finish(black_box(Outcome::Status(200)), black_box(DURATION));
}

/// The time that two threads need for `iterations` of `work` each, per iteration of one of them.
fn on_two_threads(iterations: u64, work: impl Fn() + Sync) -> Duration {
    let barrier = Barrier::new(2);
    let timed = || {
        barrier.wait();
        let start = Instant::now();
        (0..iterations).for_each(|_| work());
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(timed);
        let own = timed();
        other.join().map_or(own, |other| own.max(other))
    })
}

fn record(criterion: &mut Criterion) {
    let recorder = recorder();
    let handles = resolve(&recorder, 1, 1);
    let [route, ..] = handles.as_slice() else { return };
    let mut group = criterion.benchmark_group("record");
    group.bench_function("finish, 1 thread", |bench| {
        bench.iter(|| route.finish(black_box(Outcome::Status(200)), black_box(DURATION)));
    });
    group.bench_function("finish, 2 threads", |bench| {
        bench.iter_custom(|n| on_two_threads(n, || route.finish(black_box(Outcome::Status(200)), black_box(DURATION))));
    });
    group.bench_function("whole request, 1 thread", |bench| bench.iter(|| a_request(route)));
    group.bench_function("whole request, 2 threads", |bench| {
        bench.iter_custom(|n| on_two_threads(n, || a_request(route)));
    });
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let recorder = recorder();
    let handles = resolve(&recorder, 500, 1);
    handles.iter().for_each(a_request);
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10);
    group.bench_function("exposition of 1,000 versions", |bench| bench.iter(|| exposition(&recorder).len()));
    let mut now = Instant::now();
    group.bench_function("tick of 1,000 versions", |bench| {
        bench.iter(|| {
            now += Duration::from_secs(1);
            recorder.tick(now);
        });
    });
    group.bench_function("resolve 100,000 routes on 2 versions", |bench| {
        bench.iter_with_large_drop(|| resolve(&self::recorder(), 1, 100_000));
    });
    group.finish();
}

criterion_group!(benches, record, read);
criterion_main!(benches);
