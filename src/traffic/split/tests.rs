//! The split against naive models: an exact count beside every choice.

use std::net::IpAddr;

use proptest::prelude::*;

use super::share::among_available;
use super::weighted::Splitter;
use super::{Choice, Chooser, Schedules, SplitOptions, VersionShare};
use crate::model::{Name, Split, Weight};
use crate::traffic::validate::tests::Head;
use crate::traffic::{HttpVersion, Request};

mod affinity;
mod breaker;
mod chooser;
mod cohorts;
mod failover;
mod ramp;
mod sticky;
mod threads;
mod weighted;

/// One request in basis points, the unit of the model.
const REQUEST: i64 = 10_000;

fn weight(basis_points: u16) -> Weight {
    Weight::from_basis_points(basis_points).unwrap()
}

fn name(at: usize) -> Name {
    format!("v{}", at + 1).into()
}

fn split(weights: &[u16]) -> Split {
    Split::new(weights.iter().enumerate().map(|(at, bp)| (name(at), weight(*bp))).collect()).unwrap()
}

fn splitter(weights: &[u16], previous: Option<&Splitter>) -> Splitter {
    Splitter::compile(&split(weights), previous, &mut Schedules::default())
}

/// Versions with these weights, all of them available.
fn shares(weights: &[u16]) -> Vec<VersionShare> {
    let share =
        |(at, bp): (usize, &u16)| VersionShare { name: name(at), weight: weight(*bp), available: true, breaker: None };
    weights.iter().enumerate().map(share).collect()
}

fn chooser(shares: &[VersionShare], options: SplitOptions, previous: Option<&Chooser>) -> Chooser {
    Chooser::compile(shares, Vec::new(), options, previous, &mut Schedules::default())
}

/// Weights of `versions` versions with two decimals that sum to 100 %, often with zeros and very small ones.
fn weights_of(versions: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u16>> {
    let cut = prop_oneof![4 => 0..=10_000_u16, 1 => Just(0), 1 => Just(10_000), 1 => 1..=30_u16, 1 => (0..=20_u16).prop_map(|c| c * 500)];
    let versions: proptest::collection::SizeRange = versions.into();
    let cuts = (versions.start() - 1)..(versions.end_excl() - 1);
    proptest::collection::vec(cut, cuts).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts.push(10_000);
        let mut before = 0;
        cuts.iter().map(|cut| cut - std::mem::replace(&mut before, *cut)).collect()
    })
}

/// The naive model: by how much each version is behind, in basis points of a request.
#[derive(Clone, Debug)]
struct Deficit(Vec<i64>);

impl Deficit {
    fn nothing(versions: usize) -> Self {
        Self(vec![0; versions])
    }

    /// A request under these weights that `version` got.
    fn request(&mut self, weights: &[u16], version: usize) {
        for (deficit, weight) in self.0.iter_mut().zip(weights) {
            *deficit += i64::from(*weight);
        }
        self.0[version] -= REQUEST;
    }

    fn worst(&self) -> i64 {
        self.0.iter().map(|deficit| deficit.abs()).max().unwrap_or(0)
    }
}

/// A request of the client at this address.
struct Client(Head, Option<IpAddr>);

impl Request for Client {
    fn version(&self) -> HttpVersion {
        self.0.version()
    }
    fn method(&self) -> &str {
        self.0.method()
    }
    fn target(&self) -> &[u8] {
        self.0.target()
    }
    fn authority(&self) -> Option<&[u8]> {
        self.0.authority()
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.header(name)
    }
    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.for_each_header(visit);
    }
    fn client(&self) -> Option<IpAddr> {
        self.1
    }
}

/// The choice for a request that is to need no new key.
fn choose(chooser: &Chooser, request: &impl Request) -> Choice {
    chooser.choose(request, || panic!("no key is to be made"), || 0)
}

fn get() -> Head {
    Head::get("/")
}
