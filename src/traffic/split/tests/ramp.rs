//! A ramp as clients see it: who moves, how often, and how many are where at each step.

use super::super::{KeySource, SigningKeys};
use super::*;

const CLIENTS: usize = 100_000;
const CANARY: usize = 1;

/// Clients with what their browsers keep.
struct Clients {
    heads: Vec<Head>,
    versions: Vec<usize>,
    moves: Vec<u32>,
}

impl Clients {
    /// Each of them sends a request; those that have no cookie yet are given these keys.
    fn ask(&mut self, chooser: &Chooser) {
        for (at, head) in self.heads.iter_mut().enumerate() {
            let choice = chooser.choose(head, || format!("{at:032x}"), || 0);
            if let Some(cookie) = choice.new_cookie {
                *head = get().with("cookie", format!("weir={cookie}"));
            }
            if self.versions[at] != choice.version {
                self.moves[at] += 1;
                self.versions[at] = choice.version;
            }
        }
    }

    fn canary(&self) -> usize {
        self.versions.iter().filter(|version| **version == CANARY).count()
    }
}

fn by_header() -> SplitOptions {
    SplitOptions {
        salt: "shop".to_owned(),
        affinity: Some(KeySource::Header("x-user".into())),
        ..SplitOptions::default()
    }
}

fn sticky() -> SplitOptions {
    let keys = Some(SigningKeys::parse("0123456789abcdef").unwrap());
    SplitOptions {
        service: "shop".to_owned(),
        salt: "shop".to_owned(),
        affinity: Some(KeySource::Cookie { name: "weir".into(), make: true, keys }),
        remembers: true,
        sticky: Some(CANARY),
        ..SplitOptions::default()
    }
}

#[test]
fn over_a_ramp_nobody_moves_twice_and_each_step_has_its_share() {
    for (mode, options) in [("monotone", by_header()), ("sticky", sticky())] {
        let heads = (0..CLIENTS).map(|at| get().with("x-user", format!("user-{at}"))).collect();
        let mut clients = Clients { heads, versions: vec![0; CLIENTS], moves: vec![0; CLIENTS] };
        let mut before = None;
        for step in 0..=10_u16 {
            let canary = step * 1_000;
            let chooser = chooser(&shares(&[10_000 - canary, canary]), options.clone(), before.as_ref());
            clients.ask(&chooser);
            let (share, wanted) = (clients.canary(), usize::from(canary) * CLIENTS / 10_000);
            assert!(share.abs_diff(wanted) <= CLIENTS * 3 / 1_000, "{mode}: {share} of {CLIENTS} at {canary}");
            before = Some(chooser);
        }
        assert_eq!(clients.moves, vec![1; CLIENTS], "{mode}: each moved once, to the canary");
    }
}

#[test]
fn where_the_weight_falls_monotone_clients_go_back_and_sticky_ones_stay() {
    for (mode, options, stay) in [("monotone", by_header(), false), ("sticky", sticky(), true)] {
        let heads = (0..10_000).map(|at| get().with("x-user", format!("user-{at}"))).collect();
        let mut clients = Clients { heads, versions: vec![0; 10_000], moves: vec![0; 10_000] };
        let mut shares_seen = Vec::new();
        for canary in [4_000, 1_000, 0] {
            clients.ask(&chooser(&shares(&[10_000 - canary, canary]), options.clone(), None));
            shares_seen.push(clients.canary());
        }
        assert!(shares_seen[0].abs_diff(4_000) < 150, "{mode}: {shares_seen:?}");
        let expected = if stay { shares_seen[0] } else { 0 };
        assert_eq!(shares_seen[2], expected, "{mode}: {shares_seen:?}");
        assert!(clients.moves.iter().all(|moves| *moves <= 2), "{mode}");
    }
}
