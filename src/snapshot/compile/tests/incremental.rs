//! Snapshots that share what did not change decide as those that are compiled whole.

use proptest::prelude::*;

use super::*;
use crate::model::{Name, SplitKey};
use crate::snapshot::{Current, Route, changed_services};

const SERVICES: usize = 3;
const VERSIONS: usize = 3;

/// What of the file and beside it can change.
#[derive(Clone, Debug)]
struct World {
    /// By service: the file's weights of its versions, and how many of the three it has.
    splits: [[u16; VERSIONS]; SERVICES],
    versions: [usize; SERVICES],
    /// Endpoints of each version of each service.
    endpoints: [[usize; VERSIONS]; SERVICES],
    /// States that the file declares, of the first endpoint of each version.
    declared: [[EndpointState; VERSIONS]; SERVICES],
    /// Which service each of two routes leads to.
    routes: [usize; 2],
    shifts: [Option<[u16; VERSIONS]>; SERVICES],
    states: States,
    /// Addresses behind the DNS name that the first version of the first service has.
    addresses: usize,
    is_reversed: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Split(usize, [u16; VERSIONS]),
    Versions(usize, usize),
    Endpoints(usize, usize, usize),
    Declare(usize, usize, EndpointState),
    Route(usize, usize),
    Shift(usize, Option<[u16; VERSIONS]>),
    /// An operator's state of a version or of its first endpoint: no compile.
    State(usize, usize, bool, Option<EndpointState>),
    Resolve(usize),
    Reverse,
}

fn weights(split: [u16; VERSIONS], versions: usize) -> Vec<u16> {
    let mut weights = split[..versions].to_vec();
    let rest: u16 = weights[1..].iter().sum();
    weights[0] = 10_000 - rest;
    weights
}

impl World {
    fn config(&self) -> Config {
        let mut yaml = "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\nservices:\n".to_owned();
        let mut order: Vec<usize> = (0..SERVICES).collect();
        if self.is_reversed {
            order.reverse();
        }
        for service in order {
            // So that what is picked is decided by the key, and can be compared.
            yaml += &format!("  s{service}:\n    balance: hash\n    versions:\n");
            for version in 0..self.versions[service] {
                let mut endpoints = vec![format!(
                    "{{ address: \"{}\", state: {} }}",
                    Self::spelled(service, version),
                    self.declared[service][version]
                )];
                endpoints.extend(
                    (1..self.endpoints[service][version]).map(|at| format!("\"10.{service}.{version}.{at}:80\"")),
                );
                yaml += &format!("      v{version}: {{ endpoints: [{}] }}\n", endpoints.join(", "));
            }
            let split = weights(self.splits[service], self.versions[service]);
            let split =
                split.iter().enumerate().map(|(at, bp)| format!("v{at}: {}", Weight::from_basis_points(*bp).unwrap()));
            yaml += &format!("    split: {{ {} }}\n", split.collect::<Vec<_>>().join(", "));
        }
        yaml += &format!(
            "routes:\n  - {{ match: {{ path: /a }}, service: s{} }}\n  - {{ match: {{ path: / }}, service: s{} }}\n",
            self.routes[0], self.routes[1]
        );
        config::parse(Path::new("/etc/weir/weir.yaml"), yaml.as_bytes(), &|_: &str| None)
            .unwrap_or_else(|faults| panic!("{faults}\n{yaml}"))
    }

    /// How the first endpoint of a version is spelled.
    fn spelled(service: usize, version: usize) -> String {
        if (service, version) == (0, 0) { "app.test:80".to_owned() } else { format!("10.{service}.{version}.0:80") }
    }

    fn inputs(&self) -> Inputs {
        let shifts = (0..SERVICES).filter_map(|service| {
            let split = weights(self.shifts[service]?, self.versions[service]).into_iter().enumerate();
            let split = split.map(|(at, bp)| (format!("v{at}").into(), Weight::from_basis_points(bp).unwrap()));
            Some((SplitKey::from(&*format!("s{service}")), Split::new(split.collect()).unwrap()))
        });
        let addresses =
            (0..self.addresses).map(|at| format!("10.9.9.{at}:80").parse::<std::net::SocketAddr>().unwrap().into());
        Inputs {
            shifts: shifts.collect(),
            states: self.states.clone(),
            resolved: [("app.test:80".to_owned(), addresses.collect())].into(),
            ..Inputs::default()
        }
    }

    /// Makes the change; whether it is one of live state alone, in a service.
    fn change(&mut self, change: &Change) -> Option<usize> {
        match change.clone() {
            Change::Split(service, split) => self.splits[service] = split,
            Change::Versions(service, versions) => self.versions[service] = versions,
            Change::Endpoints(service, version, endpoints) => self.endpoints[service][version] = endpoints,
            Change::Declare(service, version, state) => self.declared[service][version] = state,
            Change::Route(route, service) => self.routes[route] = service,
            Change::Shift(service, shift) => self.shifts[service] = shift,
            Change::Resolve(addresses) => self.addresses = addresses,
            Change::Reverse => self.is_reversed = !self.is_reversed,
            Change::State(service, version, of_endpoint, state) => {
                let endpoint: Option<Name> = of_endpoint.then(|| Self::spelled(service, version).into());
                let key = (format!("s{service}").into(), format!("v{version}").into(), endpoint);
                match state {
                    Some(state) => drop(self.states.insert(key, state)),
                    None => drop(self.states.remove(&key)),
                }
                return Some(service);
            }
        }
        None
    }
}

/// Everything that requests and people can see of a snapshot, but for positions and identities.
fn seen(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = Vec::new();
    for path in ["/a", "/b"] {
        let route = snapshot.table.find("any.test", path, &Head(&[])).unwrap();
        let service = snapshot.service_of(route).unwrap();
        let versions: Vec<&str> =
            route.series.iter().map(|series| series.version().version()).map(|name| &**name).collect();
        seen.push(format!("{path}: {} of {} by {versions:?}", route.name, service.name));
    }
    for service in &snapshot.services {
        seen.push(format!("{}: {:?}", service.name, service.chooser.effective()));
        for (at, version) in service.versions.iter().enumerate() {
            let (state, available) = (version.state.get(), service.chooser.is_available(at));
            seen.push(format!("  {} {} {state} {available}", version.name, version.configured));
            for endpoint in &version.endpoints {
                seen.push(format!(
                    "    {} {} {} {}",
                    endpoint.name,
                    endpoint.address,
                    endpoint.weight,
                    endpoint.state()
                ));
            }
            let mut tried = Tried::default();
            let mut picked = Vec::new();
            while let Some(at) = version.pick(&tried, Some(7)).filter(|_| available) {
                tried.insert(at);
                picked.push(at);
            }
            seen.push(format!("    picked {picked:?}"));
        }
        let mut counts = vec![0_u32; service.versions.len()];
        for _ in 0..500 {
            let choice = service.chooser.choose(&Head(&[]), || panic!("no key is to be made"), || 0);
            counts[choice.version] += u32::from(choice.available);
        }
        // Positions go on from snapshot to snapshot, so counts may differ by a request or two.
        let expected: Vec<_> = service.chooser.effective().iter().map(|weight| weight.ratio() * 500.0).collect();
        let near = counts.iter().zip(&expected).all(|(count, expected)| (f64::from(*count) - expected).abs() < 6.0);
        assert!(near, "{counts:?} of {expected:?}");
    }
    seen
}

fn changes() -> impl Strategy<Value = Change> {
    let service = 0..SERVICES;
    let version = 0..VERSIONS;
    let split = prop_oneof![
        Just([5_000, 2_500, 2_500]),
        Just([9_000, 1_000, 0]),
        Just([0, 0, 10_000]),
        (0..=5_000_u16, 0..=5_000_u16).prop_map(|(b, c)| [10_000 - b - c, b, c]),
    ];
    let state = prop_oneof![Just(EndpointState::Ready), Just(EndpointState::Drain), Just(EndpointState::Maint)];
    prop_oneof![
        1 => (service.clone(), split.clone()).prop_map(|(service, split)| Change::Split(service, split)),
        1 => (service.clone(), 1..=VERSIONS).prop_map(|(service, versions)| Change::Versions(service, versions)),
        1 => (service.clone(), version.clone(), 1..=3_usize).prop_map(|(s, v, count)| Change::Endpoints(s, v, count)),
        1 => (service.clone(), version.clone(), state.clone()).prop_map(|(s, v, state)| Change::Declare(s, v, state)),
        1 => (0..2_usize, service.clone()).prop_map(|(route, service)| Change::Route(route, service)),
        1 => (service.clone(), prop::option::of(split)).prop_map(|(service, shift)| Change::Shift(service, shift)),
        4 => (service, version, any::<bool>(), prop::option::of(state))
            .prop_map(|(s, v, of_endpoint, state)| Change::State(s, v, of_endpoint, state)),
        1 => (0..=2_usize).prop_map(Change::Resolve),
        1 => Just(Change::Reverse),
    ]
}

fn start() -> World {
    World {
        splits: [[9_000, 1_000, 0]; SERVICES],
        versions: [2; SERVICES],
        endpoints: [[2; VERSIONS]; SERVICES],
        declared: [[EndpointState::Ready; VERSIONS]; SERVICES],
        routes: [0, 1],
        shifts: [None; SERVICES],
        states: States::new(),
        addresses: 1,
        is_reversed: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_changes_ends_where_a_whole_compile_does(changes in prop::collection::vec(changes(), 1..24)) {
        let mut world = start();
        let mut compiler = compiler();
        let mut config = world.config();
        let (mut publisher, current): (Publisher, Current) =
            Publisher::new(compiler.compile(&config, &world.inputs(), None).unwrap());
        for change in &changes {
            let live = world.change(change);
            let before = current.load();
            if let Some(service) = live {
                before.service(&format!("s{service}")).unwrap().set_states(&world.states);
            } else {
                let next = world.config();
                let compiled = compiler.compile(&next, &world.inputs(), previous(&config, &before)).unwrap();
                publisher.publish(compiled, &world.states);
                config = next;
            }
            let whole = compile(&world.config(), &world.inputs());
            prop_assert_eq!(seen(&current.load()), seen(&whole), "after {:?}", change);
        }
    }
}

#[test]
fn a_change_of_one_service_rebuilds_that_service_alone() {
    let mut world = start();
    let config = world.config();
    let mut compiler = compiler();
    let first = compiler.compile(&config, &world.inputs(), None).unwrap();
    let same = compiler.compile(&config, &world.inputs(), previous(&config, &first)).unwrap();
    assert!(changed_services(&first, &same).is_empty() && Arc::ptr_eq(&first.table, &same.table));

    let changed = |after: &Snapshot| -> Vec<String> {
        let changes = changed_services(&first, after);
        changes.iter().filter_map(|(old, new)| new.or(*old)).map(|service| service.name.to_string()).collect()
    };
    world.change(&Change::Shift(1, Some([8_000, 2_000, 0])));
    let shifted = compiler.compile(&config, &world.inputs(), previous(&config, &first)).unwrap();
    assert_eq!((changed(&shifted), Arc::ptr_eq(&first.table, &shifted.table)), (vec!["s1".to_owned()], true));

    world.change(&Change::Endpoints(2, 0, 3));
    let next = world.config();
    let grown = compiler.compile(&next, &world.inputs(), previous(&config, &first)).unwrap();
    let both = vec!["s1".to_owned(), "s2".to_owned()];
    assert_eq!((changed(&grown), Arc::ptr_eq(&first.table, &grown.table)), (both, true), "the routes are the same");

    // Routes count by version: with another list of versions they are others.
    world.change(&Change::Versions(2, 3));
    let next = world.config();
    let more = compiler.compile(&next, &world.inputs(), previous(&config, &first)).unwrap();
    assert!(!Arc::ptr_eq(&first.table, &more.table));
    let counted = |route: &Route| route.series.len();
    world.change(&Change::Route(1, 2));
    let next = world.config();
    let routed = compiler.compile(&next, &world.inputs(), previous(&config, &first)).unwrap();
    assert_eq!(counted(routed.table.find("any.test", "/", &Head(&[])).unwrap()), 3);
}

#[test]
fn a_table_that_snapshots_share_is_freed_with_the_last_of_them() {
    let world = start();
    let config = world.config();
    let mut compiler = compiler();
    let (mut publisher, current) = Publisher::new(compiler.compile(&config, &world.inputs(), None).unwrap());
    let table = Arc::downgrade(&current.load().table);
    for _ in 0..3 {
        let before = current.load();
        let next = compiler.compile(&config, &world.inputs(), previous(&config, &before)).unwrap();
        drop(before);
        publisher.publish(next, &world.states);
        assert_eq!((table.strong_count(), publisher.is_all_freed()), (1, true));
    }
    publisher.publish(compile(&config, &world.inputs()), &world.states);
    assert_eq!(table.strong_count(), 0);
}
