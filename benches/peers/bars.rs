//! The bars that Weir sets itself, and whether this run met them.

use crate::contender::Kind;
use crate::run::{Measured, median};

/// A ratio or an amount, and the most it may be.
struct Bar {
    what: String,
    value: f64,
    limit: f64,
}

/// What was compared so far.
#[derive(Default)]
pub(crate) struct Bars(Vec<Bar>);

/// The scenario, whom Weir is compared with, and the most of its CPU time per request that Weir may take.
const LIMITS: [(&str, Kind, f64); 19] = [
    ("h1", Kind::Haproxy, 0.85),
    ("h1", Kind::Relay, 1.25),
    ("h1-tls", Kind::Haproxy, 0.95),
    ("h1-512", Kind::Haproxy, 0.8),
    ("h2c", Kind::Haproxy, 0.75),
    ("h2c-1x1", Kind::Haproxy, 1.0),
    ("h2-tls", Kind::Haproxy, 0.75),
    ("h2-tls", Kind::Envoy, 0.7),
    ("grpc", Kind::Haproxy, 0.6),
    ("new-conn", Kind::Haproxy, 1.1),
    ("get-1m", Kind::Haproxy, 0.6),
    ("get-1m-32k", Kind::Haproxy, 0.6),
    ("get-1m-256k", Kind::Haproxy, 0.6),
    ("get-1m-tls", Kind::Haproxy, 0.8),
    ("get-1m-h2c", Kind::Haproxy, 0.9),
    ("get-1m-h2", Kind::Haproxy, 0.8),
    ("put-1m", Kind::Haproxy, 0.8),
    ("put-1m-h2c", Kind::Haproxy, 0.8),
    ("put-1m-h2", Kind::Haproxy, 0.8),
];

impl Bars {
    /// Takes the medians of the rounds' ratios.
    pub(crate) fn note(&mut self, scenario: &str, kinds: &[Kind], all: &[Vec<Measured>]) {
        let of = |kind: Kind| kinds.iter().position(|one| *one == kind).and_then(|at| all.get(at));
        for (_, peer, limit) in LIMITS.into_iter().filter(|(name, ..)| *name == scenario) {
            let (Some(weir), Some(other)) = (of(Kind::Weir), of(peer)) else { continue };
            let value = median(weir.iter().zip(other).map(|(weir, other)| weir.cpu() / other.cpu()).collect());
            self.add(format!("{scenario}: CPU per request, of {peer}'s"), value, limit);
        }
    }

    /// KiB for each idle connection.
    pub(crate) fn memory(&mut self, scenario: &str, kib: f64) {
        let limit = match scenario {
            "idle" => 8.0,
            "idle-h2c" => 10.0,
            _ => 24.0,
        };
        self.add(format!("{scenario}: KiB for each connection"), kib, limit);
    }

    pub(crate) fn add(&mut self, what: String, value: f64, limit: f64) {
        self.0.push(Bar { what, value, limit });
    }

    pub(crate) fn print(&self) {
        println!("\nbars                                              measured    limit");
        for Bar { what, value, limit } in &self.0 {
            let met = if value <= limit { "met" } else { "NOT met" };
            println!("  {what:46} {value:9.3} {limit:8.2}  {met}");
        }
    }
}
