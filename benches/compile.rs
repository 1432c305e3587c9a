//! What a reload and a change cost with 10,000 routes to 1,000 services.
//!
//! A reload is read, compiled and published whole. A change of one service (a weight, a fault injection, the state of an
//! endpoint) is measured from the proposal until it is published and answered, through the owner and with a store in
//! memory. Its medians are printed beside their bars, and far above a bar the bench fails.

#![allow(clippy::print_stdout, reason = "a benchmark is read on a terminal")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::config::ProcessEnvironment;
use weir::config::{self, Config};
use weir::control::{Attribution, Control, FaultRequest, Owner, Parts, StateChange, StateTarget};
use weir::drain::Notifier;
use weir::model::{EndpointState, Weight};
use weir::snapshot::compile::{Compiler, Inputs, Previous, States};
use weir::snapshot::{Current, Publisher, Snapshot};
use weir::store::JournalWriter;
use weir::store::redb::{RedbJournal, Store};
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
fn compile(compiler: &mut Compiler, config: &Config, previous: Option<Previous<'_>>) -> Snapshot {
    compiler.compile(config, &Inputs::default(), previous).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn recorder() -> Arc<Recorder> {
    Recorder::new(RecorderOptions { threads: 2, version: "bench", revision: "bench", started: Instant::now() })
}

fn reload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reload/10000_routes");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1)).sample_size(10);
    let file = file();
    group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(&file))));

    let recorder = recorder();
    let mut compiler = Compiler::new(Arc::clone(&recorder));
    let config = parse(&file);
    let shifted = file.replace("v1: 90, v2: 10", "v1: 80, v2: 20");
    assert_ne!(file, shifted, "the split to change is not in the file");
    let changed = parse(&shifted);
    let (mut publisher, current) = Publisher::new(compile(&mut compiler, &config, None));
    group.bench_function("compile_first", |bencher| {
        bencher.iter(|| compile(&mut Compiler::new(Arc::clone(&recorder)), &config, None));
    });
    group.bench_function("compile_and_publish", |bencher| {
        let mut turn = 0_usize;
        bencher.iter(|| {
            // Every split changes each time.
            turn += 1;
            let (config, before) = if turn.is_multiple_of(2) { (&config, &changed) } else { (&changed, &config) };
            let snapshot = current.load();
            let previous = Previous { config: before, snapshot: &snapshot };
            let next = compile(&mut compiler, config, Some(previous));
            publisher.publish(next, &States::new());
        });
    });
    group.finish();
}

/// How far above its bar a median may be before the bench fails: other work may share the machine, and a build that is
/// not optimised, as the tests run it, is ten times slower. A change that compiles every service anew takes longer still.
const TOLERANCE: u32 = if cfg!(debug_assertions) { 50 } else { 5 };
const ROUNDS: usize = 200;

/// A change, and how long it may take.
struct Bar {
    name: &'static str,
    most: Duration,
}

const WEIGHT: Bar = Bar { name: "a weight", most: Duration::from_millis(1) };
const FAULT: Bar = Bar { name: "a fault injection", most: Duration::from_millis(1) };
const STATE: Bar = Bar { name: "an endpoint's state", most: Duration::from_millis(1) };
const FLIP: Bar = Bar { name: "an availability flip alone", most: Duration::from_micros(100) };

impl Bar {
    fn check(&self, mut took: Vec<Duration>) {
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        let worst = took.last().copied().unwrap_or_default();
        println!("change/{}: {median:?} (bar {:?}; worst of {} {worst:?})", self.name, self.most, took.len());
        assert!(median <= self.most * TOLERANCE, "{}: {median:?} is far above its bar of {:?}", self.name, self.most);
    }
}

#[expect(clippy::expect_used, reason = "a bench without its store has nothing to measure")]
fn journal(folder: &Path) -> JournalWriter {
    let journal = RedbJournal::start(Store::open(folder).expect("a store")).expect("a thread");
    JournalWriter::new(Arc::new(journal), None, None).expect("a journal")
}

#[expect(clippy::expect_used, reason = "a bench without its owner has nothing to measure")]
fn changes(_: &mut Criterion) {
    // In memory where there is such a folder: what a disk takes is the disk's.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let path = folder.path().join("weir.yaml");
    std::fs::write(&path, file()).expect("the file");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let parts = Parts {
            config: config::load(&path, &ProcessEnvironment).expect("the configuration"),
            path,
            environment: Box::new(ProcessEnvironment),
            recorder: recorder(),
            journal: journal(&folder.path().join("state")),
            notifier: Notifier::default(),
        };
        let (owner, control, current) = Owner::new(parts).await.expect("an owner");
        let running = tokio::spawn(owner.run());
        // The first look at the file, with which it begins.
        control.reload(false).await.expect("a reload");
        measure(&control, &current).await;
        drop(control);
        drop(running.await);
    });
}

#[expect(clippy::expect_used, reason = "a bench whose changes are refused has nothing to measure")]
async fn measure(control: &Control, current: &Current) {
    let by = || Attribution { author: "bench".to_owned(), reason: String::new() };
    let name = |round: usize| format!("service-{}", round * 37 % SERVICES);
    let weight = |bp| Weight::from_basis_points(bp).unwrap_or_default();
    let (mut weights, mut faults, mut states, mut flips) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let shift = vec![("v1".to_owned(), weight(7_000)), ("v2".to_owned(), weight(3_000))];
        let began = Instant::now();
        control.set_weights(name(round), None, shift, by()).await.expect("a shift");
        weights.push(began.elapsed());

        let (service, version) = (name(round), "v2".to_owned());
        let lasting = Duration::from_secs(600);
        let request = FaultRequest { service, version, errors: weight(1_000), delay: Duration::ZERO, lasting };
        let began = Instant::now();
        control.drill(request, by()).await.expect("a fault injection");
        faults.push(began.elapsed());

        let target = StateTarget { service: name(round), version: Some("v2".to_owned()), endpoint: None };
        let began = Instant::now();
        let change = StateChange { target, state: EndpointState::Drain, force: false };
        control.set_state(change, by()).await.expect("a state");
        states.push(began.elapsed());

        let snapshot = current.load();
        let service = snapshot.service("service-999").expect("a service");
        let key = ("service-999".into(), "v2".into(), None);
        let state = if round.is_multiple_of(2) { EndpointState::Maint } else { EndpointState::Ready };
        let all = States::from([(key, state)]);
        let began = Instant::now();
        service.set_states(black_box(&all));
        flips.push(began.elapsed());
    }
    WEIGHT.check(weights);
    FAULT.check(faults);
    STATE.check(states);
    FLIP.check(flips);
}

criterion_group!(benches, reload, changes);
criterion_main!(benches);
