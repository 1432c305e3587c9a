//! Instructions per request of Weir alone, counted by callgrind: a measure that a busy machine does not move.
//!
//! ```text
//! cargo bench --bench instructions -- --check     every case; fails above the kept figures, or two workers too dear
//!                                  -- --ci        the same with the cases that every change runs
//!                                  -- --update    every case; the kept figures are written anew
//!                                  -- --check h2  the cases whose name has this in it
//! ```
//!
//! Without one of them it counts nothing, so that `cargo bench` and `cargo test --bench '*'` work without valgrind.
//!
//! A request takes the same way each time ([`settled`]): the client sends while Weir sleeps, the origin answers
//! while Weir sleeps. So the figure has every wait and every wake-up of a request in it, and nothing that batches
//! under load; it tells changes of Weir apart, it does not compare Weir with others. Only the cases with many streams
//! are load: nobody waits for Weir there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on says so by ending"
)]

mod callgrind;
mod case;
mod kept;
#[path = "../../tests/lean/mod.rs"]
mod lean;
mod load;
mod settled;

use std::process::ExitCode;

use self::case::{Case, Client, Cost};
use self::kept::{Kept, TOLERANCE};

/// The work of two workers in units of one's, for the same instructions: `2 × I1 / I2`.
const TWO_WORKERS: f64 = 1.85;
/// What HTTP/2 from clients may cost under load: a GET to an HTTP/1 endpoint, a unary call to an HTTP/2 one. HAProxy 2.6
/// takes 35,700 and 44,400. A request alone has the worker sleep and wake twice besides, which is most of the difference.
const HTTP2: [(&str, u64); 2] = [("h2 small, 8 × 16", 14_000), ("h2 grpc, 8 × 16", 24_000)];
/// A client's version and endpoint by its address; health is watched in every case.
const AFFINITY: &str = "    affinity: { address: true }\n";
const ONE_WORKER_CASE: &str = "h1 small, 16 connections, 1 worker";
const TWO_WORKERS_CASE: &str = "h1 small, 16 connections, 2 workers";

fn cases() -> Vec<Case> {
    vec![
        Case::new("h1 small", Client::Plain(lean::small)),
        Case { routes: 10_000, always: false, ..Case::new("h1 small, 10000 routes", Client::Plain(lean::small)) },
        Case {
            endpoints: 10,
            service: AFFINITY,
            ..Case::new("h1 small, 10 endpoints, affinity", Client::Plain(lean::small))
        },
        Case::new("h1 post 4 KiB", Client::Plain(lean::post)),
        Case { always: false, ..Case::new("h1 chunked", Client::Plain(lean::chunked)) },
        Case::new("h1 tls small", Client::Tls(lean::small)),
        Case::new("h2 small", Client::Http2),
        Case::new("h2 grpc", Client::Grpc),
        Case { connections: 8, streams: 16, ..Case::new("h2 small, 8 × 16", Client::Http2) },
        Case { connections: 8, streams: 16, ..Case::new("h2 grpc, 8 × 16", Client::Grpc) },
        Case { connections: 16, ..Case::new(ONE_WORKER_CASE, Client::Plain(lean::small)) },
        Case { connections: 16, threads: 2, ..Case::new(TWO_WORKERS_CASE, Client::Plain(lean::small)) },
    ]
}

fn main() -> ExitCode {
    let asked = |argument: &str| std::env::args().any(|given| given == argument);
    let (check, ci, update) = (asked("--check"), asked("--ci"), asked("--update"));
    if !(check || ci || update) {
        println!("instructions: nothing is counted here; `make bench-instructions` does");
        return ExitCode::SUCCESS;
    }
    // Parts of names of cases, as criterion takes them; cargo adds a `--bench`.
    let filter: Vec<String> = std::env::args().skip(1).filter(|given| !given.starts_with("--")).collect();
    let kept = Kept::read();
    let comparable = kept.environment == kept::environment();
    println!(
        "{:<38} {:>12} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "case", "instructions", "kept", "change", "spread", "allocs", "busiest", "others"
    );
    let measured: Vec<(Case, Cost)> = cases()
        .into_iter()
        .filter(|case| case.always || !ci)
        .filter(|case| update || filter.is_empty() || filter.iter().any(|part| case.name.contains(part.as_str())))
        .map(|case| {
            let cost = case.run();
            show(&case, &cost, &kept);
            (case, cost)
        })
        .collect();
    if update {
        let figures: Vec<_> = measured.iter().map(|(case, cost)| (case.name, cost.instructions)).collect();
        Kept::write(&figures);
        println!("benches/instructions.toml is written");
        return ExitCode::SUCCESS;
    }
    let workers = two_workers(&measured);
    bars(&measured);
    let dearer = regressions(&measured, &kept);
    if !comparable {
        println!(
            "\nNOT COMPARED: the kept figures are from another environment, so a difference is no regression.\n  \
             kept: {}\n  here: {}",
            kept.environment,
            kept::environment()
        );
    }
    if workers && (dearer.is_empty() || !comparable) {
        return ExitCode::SUCCESS;
    }
    for line in dearer {
        eprintln!("more than {TOLERANCE} % above what is kept: {line}");
    }
    eprintln!("if that is meant: `cargo bench --bench instructions -- --update`, and say why in the commit");
    ExitCode::FAILURE
}

fn change(cost: &Cost, kept: u64) -> f64 {
    (cost.instructions as f64 / kept as f64 - 1.0) * 100.0
}

fn show(case: &Case, cost: &Cost, kept: &Kept) {
    let figure = kept.figure(case.name);
    println!(
        "{:<38} {:>12} {:>12} {:>8} {:>7.2}% {:>8.2} {:>7.0}% {:>7.1}%",
        case.name,
        cost.instructions,
        figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string()),
        figure.map_or_else(|| "-".to_owned(), |figure| format!("{:+.2}%", change(cost, figure))),
        cost.spread,
        cost.allocations,
        cost.busiest * 100.0,
        cost.others * 100.0,
    );
}

/// The cases that cost more than is kept. One without a kept figure is new, and refused until it has one.
fn regressions(measured: &[(Case, Cost)], kept: &Kept) -> Vec<String> {
    // What many connections at once cost has two levels by chance, 2 to 3 % apart, where the engine's pool is used:
    // those cases are there for the ratio.
    let lone = measured.iter().filter(|(case, _)| case.connections == 1);
    let dearer = |(case, cost): &(Case, Cost)| match kept.figure(case.name) {
        None => Some(format!("{}: nothing is kept for it", case.name)),
        Some(figure) => {
            let change = change(cost, figure);
            (change > TOLERANCE)
                .then(|| format!("{}: {} instead of {figure}, {change:+.2} %", case.name, cost.instructions))
        }
    };
    lone.filter_map(dearer).collect()
}

/// Shows how far HTTP/2 is from what it may cost; [`regressions`] refuses what gets dearer.
fn bars(measured: &[(Case, Cost)]) {
    for (case, cost) in measured {
        if let Some((_, bar)) = HTTP2.iter().find(|(name, _)| *name == case.name) {
            let met = if cost.instructions <= *bar { "met" } else { "NOT met" };
            println!("{}: {} instructions, the bar is {bar}: {met}", case.name, cost.instructions);
        }
    }
}

/// Shows what two workers do in units of one's work; whether that is enough.
fn two_workers(measured: &[(Case, Cost)]) -> bool {
    let cost =
        |name: &str| measured.iter().find(|(case, _)| case.name == name).map(|(_, cost)| cost.instructions as f64);
    let (Some(one), Some(two)) = (cost(ONE_WORKER_CASE), cost(TWO_WORKERS_CASE)) else { return true };
    let work = 2.0 * one / two;
    println!("\ntwo workers do {work:.2} times the work of one; the bar is {TWO_WORKERS}");
    if work < TWO_WORKERS {
        eprintln!("two workers slow each other down: they do {work:.2} times the work of one, not {TWO_WORKERS}");
    }
    work >= TWO_WORKERS
}
