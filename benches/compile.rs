//! What a reload costs with 10,000 routes to 1,000 services: reading the file, compiling and publishing it.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::config::{self, Config};
use weir::snapshot::compile::{Compiler, Inputs};
use weir::snapshot::{Publisher, Snapshot};
use weir::telemetry::{Recorder, RecorderOptions};

const SERVICES: usize = 1_000;
const ROUTES: usize = 10_000;

fn file() -> String {
    let mut file = "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\nservices:\n".to_owned();
    for at in 0..SERVICES {
        let (high, low) = (at / 250, at % 250);
        file += &format!(
            "  service-{at}:\n    versions:\n      v1: {{ endpoints: [\"10.0.{high}.{low}:80\", \"10.1.{high}.{low}:80\"] }}\n      \
             v2: {{ endpoints: [\"10.2.{high}.{low}:80\"] }}\n    split: {{ v1: 90, v2: 10 }}\n"
        );
    }
    file += "routes:\n";
    for at in 0..ROUTES {
        let (host, path, service) = (at / 10, at % 10, at % SERVICES);
        file += &format!(
            "  - match: {{ host: host-{host}.example.com, path: /api/path-{path} }}\n    service: service-{service}\n"
        );
    }
    file
}

#[expect(clippy::panic, reason = "a bench without its input has nothing to measure")]
fn parse(file: &str) -> Config {
    let no_variables = |_: &str| None;
    config::parse(Path::new("/etc/weir/weir.yaml"), file.as_bytes(), &no_variables)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
}

#[expect(clippy::panic, reason = "a bench without its snapshot has nothing to measure")]
fn compile(compiler: &mut Compiler, config: &Config, previous: Option<&Snapshot>) -> Snapshot {
    compiler.compile(config, &Inputs::default(), previous).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn reload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reload/10000_routes");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1)).sample_size(10);
    let file = file();
    group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(&file))));

    let recorder =
        Recorder::new(RecorderOptions { threads: 2, version: "bench", revision: "bench", started: Instant::now() });
    let mut compiler = Compiler::new(Arc::clone(&recorder));
    let config = parse(&file);
    let changed = parse(&file.replace("v1: 90, v2: 10", "v1: 80, v2: 20"));
    let (mut publisher, current) = Publisher::new(compile(&mut compiler, &config, None));
    group.bench_function("compile_first", |bencher| {
        bencher.iter(|| compile(&mut Compiler::new(Arc::clone(&recorder)), &config, None));
    });
    group.bench_function("compile", |bencher| {
        let before = current.load();
        bencher.iter(|| compile(&mut compiler, &config, Some(&before)));
    });
    let mut turn = 0_usize;
    group.bench_function("compile_and_publish", |bencher| {
        bencher.iter(|| {
            // Every split changes each time.
            turn += 1;
            let config = if turn.is_multiple_of(2) { &config } else { &changed };
            let next = compile(&mut compiler, config, Some(&current.load()));
            publisher.publish(next);
        });
    });
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
