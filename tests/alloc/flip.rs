//! What the availability of a version or an endpoint costs when it flips: as much whatever else is configured.

use std::path::Path;
use std::time::Instant;

use stats_alloc::Region;
use weir::model::EndpointState;
use weir::snapshot::Snapshot;
use weir::snapshot::compile::{Compiler, Inputs, States};
use weir::telemetry::{Recorder, RecorderOptions};

use super::{ALLOCATOR, alone};

/// Flips of which the cheapest counts: what else runs in this process allocates in few of them.
const ROUNDS: usize = 50;

#[test]
fn an_availability_flip_allocates_the_same_whatever_else_is_configured() {
    let _alone = alone();
    let flips = [("a version", ("service-3", "v2", None)), ("an endpoint", ("service-3", "v1", Some("10.1.0.3:80")))];
    let cost = |services: usize| {
        let snapshot = compile(services);
        let service = snapshot.service("service-3").expect("the service");
        flips.map(|(_, (name, version, endpoint))| {
            let key = (name.into(), version.into(), endpoint.map(Into::into));
            let goes = States::from([(key, EndpointState::Maint)]);
            let set = |states: &States| service.set_states(states);
            [flip(set, &States::new(), &goes), flip(set, &goes, &States::new())]
        })
    };
    let (few, many) = (cost(10), cost(1_000));
    for ((name, _), [goes, comes]) in flips.iter().zip(few) {
        println!("{name} that goes: {goes:?} (allocations, bytes); that comes back: {comes:?}");
    }
    assert_eq!(few, many, "at 10 services and at 1,000");
}

/// Allocations, and their bytes, of bringing a service from one of these states to the other.
fn flip(set: impl Fn(&States), from: &States, to: &States) -> (usize, usize) {
    let rounds = (0..ROUNDS).map(|_| {
        set(from);
        let region = Region::new(ALLOCATOR);
        set(to);
        let change = region.change();
        (change.allocations + change.reallocations, change.bytes_allocated)
    });
    rounds.min().expect("a round")
}

/// A snapshot of so many services, each with ten routes.
fn compile(services: usize) -> Snapshot {
    let mut file = "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\nservices:\n".to_owned();
    for at in 0..services {
        let (high, low) = (at / 250, at % 250);
        file += &format!(
            "  service-{at}:\n    versions:\n      v1: {{ endpoints: [\"10.0.{high}.{low}:80\", \"10.1.{high}.{low}:80\"] }}\n      \
             v2: {{ endpoints: [\"10.2.{high}.{low}:80\"] }}\n    split: {{ v1: 90, v2: 10 }}\n"
        );
    }
    file += "routes:\n";
    for at in 0..services * 10 {
        let (path, service) = (at / services, at % services);
        file += &format!("  - match: {{ host: host-{service}.test, path: /{path} }}\n    service: service-{service}\n");
    }
    let path = Path::new("/etc/weir/weir.yaml");
    let config = weir::config::parse(path, file.as_bytes(), &|_: &str| None).expect("the configuration");
    let options = RecorderOptions { threads: 1, version: "test", revision: "test", started: Instant::now() };
    let snapshot = Compiler::new(Recorder::new(options)).compile(&config, &Inputs::default(), None);
    snapshot.map_err(|errors| format!("{errors:?}")).expect("a snapshot")
}
