//! The table: how rollouts of several plans end in traffic of every model.
//!
//! `make simulate` prints it. `WEIR_SIMULATE_ROLLOUTS` says how many rollouts a cell has (1,000), `WEIR_SIMULATE_SEED`
//! from which seed on (1), `WEIR_SIMULATE_ONLY` and `WEIR_SIMULATE_PLAN` which rows
//! and plans: those whose name has that in it. With
//! `WEIR_SIMULATE_WHY` each rollout is listed on the error output.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{Ended, Scenario, Traffic, World};
use crate::rollout::engine::Phase;

/// The plans that are compared: a name, and the fields of `rollout`.
const PLANS: [(&str, &str); 3] = [
    ("defaults", ""),
    ("conf/rollout.yaml", CONF),
    (
        "to the letter",
        "significance: off, checks: [{ name: success, success_rate: { min: 99 } }, \
        { name: latency, duration: { quantile: 0.99, max: 500ms } }]",
    ),
];

/// That example without what waits for people and other systems.
const CONF: &str = "steps: [{ weight: 1, hold: 2m }, { weight: 10, hold: 5m }, { weight: 50, hold: 10m }, { weight: 100 }], \
    checks: [{ name: success, success_rate: { min: 99 } }, { name: latency, duration: { quantile: 0.99, max: 500ms } }, \
    { name: not-worse, compare: { metric: error_rate, margin: 0.5, confidence: 99 } }], \
    failures: { total: 5, consecutive: 3 }";

/// A row of the table.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) traffic: Traffic,
    /// Fields of `rollout` beside the plan's.
    pub(super) more: &'static str,
}

const fn row(name: &'static str, rate: f64, traffic: Traffic) -> Row {
    Row { name, rate, traffic, more: "" }
}

/// Canaries that are as good as stable.
pub(super) const GOOD: [Row; 19] = [
    row("independent 0.01 %", 200.0, Traffic::Independent { share: 0.000_1 }),
    row("independent 0.1 %", 200.0, Traffic::Independent { share: 0.001 }),
    row("independent 0.3 %", 200.0, Traffic::Independent { share: 0.003 }),
    row("independent 0.5 %", 200.0, Traffic::Independent { share: 0.005 }),
    row("independent 0.8 %", 200.0, Traffic::Independent { share: 0.008 }),
    row("independent 1 %", 200.0, Traffic::Independent { share: 0.01 }),
    row("independent 0.2 %, 5,000 req/s", 5_000.0, Traffic::Independent { share: 0.002 }),
    row("clustered 0.1 %, ρ 0.005, 10 s", 1_000.0, Traffic::Clustered { share: 0.001, correlation: 0.005, block: 10 }),
    row("clustered 0.4 %, ρ 0.001, 10 s", 1_000.0, Traffic::Clustered { share: 0.004, correlation: 0.001, block: 10 }),
    row("clustered 0.4 %, ρ 0.005, 10 s", 1_000.0, Traffic::Clustered { share: 0.004, correlation: 0.005, block: 10 }),
    row("clustered 0.4 %, ρ 0.01, 10 s", 1_000.0, Traffic::Clustered { share: 0.004, correlation: 0.01, block: 10 }),
    row("clustered 0.4 %, ρ 0.01, 60 s", 1_000.0, Traffic::Clustered { share: 0.004, correlation: 0.01, block: 60 }),
    row("minutes of ten-fold errors, 0.1 %", 1_000.0, Traffic::BadMinutes { share: 0.001, chance: 0.05 }),
    row("minutes of ten-fold errors, 0.4 %", 1_000.0, Traffic::BadMinutes { share: 0.004, chance: 0.05 }),
    row("bursts of 20 % on both", 1_000.0, Traffic::SharedBursts { share: 0.001, burst: 0.2, every: 120 }),
    row("one endpoint of ten fails at times", 1_000.0, Traffic::OneEndpoint { share: 0.001, every: 300 }),
    row("sticky users, 1 % of them bad", 1_000.0, Traffic::StickyUsers { share: 0.001, failing: 0.01, more: 0.0 }),
    row("cold start", 200.0, Traffic::ColdStart { share: 0.001, requests: 200 }),
    Row {
        more: "warmup: { requests: 300 }",
        ..row("cold start, with a warm-up", 200.0, Traffic::ColdStart { share: 0.001, requests: 200 })
    },
];

const SICK_1: Traffic = Traffic::StickyUsers { share: 0.001, failing: 0.002, more: 0.01 };
const SICK_5: Traffic = Traffic::StickyUsers { share: 0.001, failing: 0.002, more: 0.05 };

/// Canaries that are worse.
pub(super) const BAD: [Row; 9] = [
    row("+0.5 points of errors", 200.0, Traffic::Regression { share: 0.001, more: 0.005 }),
    row("+1 point", 200.0, Traffic::Regression { share: 0.001, more: 0.01 }),
    row("+2 points", 200.0, Traffic::Regression { share: 0.001, more: 0.02 }),
    row("+5 points", 200.0, Traffic::Regression { share: 0.001, more: 0.05 }),
    row("+1 point, sticky users, 0.2 % of them bad", 200.0, SICK_1),
    row("+5 points, sticky users, 0.2 % of them bad", 200.0, SICK_5),
    row("everything fails", 200.0, Traffic::Regression { share: 0.001, more: 1.0 }),
    row("2 % slower than the limit", 200.0, Traffic::Slower { share: 0.001, more: 0.02 }),
    row("5 % slower than the limit", 200.0, Traffic::Slower { share: 0.001, more: 0.05 }),
];

/// How the rollouts of one cell ended.
#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) ended: Vec<Ended>,
}

impl Cell {
    /// So many rollouts of a row with a plan.
    pub(super) fn of(row: &Row, plan: &str, rollouts: u64, seed: u64) -> Self {
        let plan = [plan, row.more].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let scenario = Scenario { plan: &plan, rate: row.rate, traffic: row.traffic };
        let next = AtomicU64::new(0);
        let work = || {
            let world = World::new(scenario.plan);
            let mut ended = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= rollouts {
                    return ended;
                }
                ended.push(world.run(&scenario, seed.wrapping_mul(1_000_003).wrapping_add(at)));
            }
        };
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let ended = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        Self { ended }
    }

    fn count(&self, which: impl Fn(&Ended) -> bool) -> usize {
        self.ended.iter().filter(|ended| which(ended)).count()
    }

    /// How many went back.
    pub(super) fn back(&self) -> usize {
        self.count(|ended| matches!(ended.phase, Phase::RolledBack | Phase::RollingBack | Phase::Aborted))
    }

    /// How many wait for a person.
    pub(super) fn frozen(&self) -> usize {
        self.count(|ended| ended.phase == Phase::Paused)
    }

    /// The canary's requests until so many percent went back, all rollouts counted; none if fewer did.
    pub(super) fn found(&self, percent: usize) -> Option<u64> {
        let back = |ended: &&Ended| matches!(ended.phase, Phase::RolledBack | Phase::RollingBack);
        let mut requests: Vec<u64> = self.ended.iter().filter(back).map(|ended| ended.requests).collect();
        requests.sort_unstable();
        requests.get((self.ended.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    fn good(&self) -> String {
        let hung = self.count(|ended| ended.phase.is_under_way() && ended.phase != Phase::Paused);
        let hung = if hung > 0 { format!(" ({hung} not over)") } else { String::new() };
        format!("{} + {}{hung}", self.back(), self.frozen())
    }

    fn bad(&self) -> String {
        let found = |percent| self.found(percent).map_or_else(|| "–".to_owned(), |requests| requests.to_string());
        format!("{} / {} ({})", found(50), found(95), self.back())
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "it prints a table, and takes minutes: make simulate"]
fn table() {
    let (rollouts, seed) = (setting("WEIR_SIMULATE_ROLLOUTS", 1_000), setting("WEIR_SIMULATE_SEED", 1));
    let whys = std::env::var_os("WEIR_SIMULATE_WHY").is_some();
    let only = std::env::var("WEIR_SIMULATE_ONLY").unwrap_or_default();
    let plan = std::env::var("WEIR_SIMULATE_PLAN").unwrap_or_default();
    let plans: Vec<_> = PLANS.into_iter().filter(|(name, _)| name.contains(&plan)).collect();
    let show = |title: &str, rows: &[Row], cell: fn(&Cell) -> String| {
        println!(
            "\n{title}\n\n| traffic | req/s | {} |",
            plans.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ")
        );
        println!("|---|---|{}", "---|".repeat(plans.len()));
        for row in rows.iter().filter(|row| row.name.contains(&only)) {
            let cells = plans.iter().map(|(name, plan)| {
                let all = Cell::of(row, plan, rollouts, seed);
                if whys {
                    all.ended.iter().for_each(|ended| eprintln!("{name}: {ended:?}"));
                }
                cell(&all)
            });
            let cells: Vec<String> = cells.collect();
            println!("| {} | {} | {} |", row.name, row.rate, cells.join(" | "));
        }
    };
    println!("{rollouts} rollouts a cell, seeds from {seed} on.");
    show("A canary as good as stable: went back + wait for a person.", &GOOD, Cell::good);
    show("A canary that is worse: its requests until half / 95 % went back (how many did).", &BAD, Cell::bad);
}
