//! The schedule of three or more versions: a table of turns whose shares are exact in every prefix.
//!
//! The problem is the chairman assignment problem: states of different size fill one chair each year, and at
//! any time no state may be a whole term ahead or behind. R. Tijdeman, *The chairman assignment problem*,
//! Discrete Mathematics 32 (1980) 323-330, proves for n states the bound `1 - 1/(2n-2)`, the best possible,
//! and gives the rule: among the states that may take the chair without getting too far ahead, the one that
//! would first be too far behind takes it (earliest deadline first).
//!
//! Weights are whole basis points, so a schedule repeats: it is compiled once into a table of at most 10 000
//! turns (90/5/5 needs 20) and a turn costs one look-up. The rule can also start from residuals, what is owed
//! to each version from before a change of weights; the table then has a part that is used once and a part
//! that repeats. Which error is guaranteed:
//!
//! * from nothing owed: Tijdeman's bound, below one request, for any number of versions;
//! * after changes of weight, three versions: below one request. With a bound of one, every turn that is due
//!   has room before its deadline, because what is owed sums to zero and each part is below one (Hall's
//!   condition holds for every prefix);
//! * after changes of weight, four or more: no schedule that does not know the future can promise one
//!   (`+0.6 +0.6 -0.6 -0.6` and then 50/50 is a counterexample); who is overdue goes first, most owed first,
//!   so the error falls back below one and does not add up over changes.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// One request in the unit of residuals: weights are ten-thousandths of it.
pub(super) const UNIT: i64 = 10_000;

/// After so many periods a schedule from residuals has settled into its repetition (two suffice in practice).
const PERIODS_TO_SETTLE: usize = 6;

/// Whose turn it is, for every position: a part that is used once, and then one that repeats for ever.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    turns: Box<[u16]>,
    /// How many turns at the beginning are used once.
    pub(super) once: u64,
    /// How many turns repeat after them.
    pub(super) period: u64,
}

impl Table {
    /// The schedule of `entitled`: the weight in basis points (above 0) and the residual of each version, in
    /// ten-thousandths of a request, positive where it is owed. Weights sum to [`UNIT`].
    pub(super) fn compile(entitled: &[(u16, i64)]) -> Self {
        let tight = Plan::make(entitled, Bound::Tijdeman);
        if tight.worst < 1 {
            return tight.table;
        }
        let wide = Plan::make(entitled, Bound::One);
        if wide.worst < tight.worst { wide.table } else { tight.table }
    }

    /// The version, as an index into what was compiled, whose turn is `position`.
    pub(super) fn turn(&self, position: u64) -> usize {
        let at = if position < self.once { position } else { self.once + (position - self.once) % self.period };
        usize::try_from(at).ok().and_then(|at| self.turns.get(at)).copied().map_or(0, usize::from)
    }

    /// How many of the first `position` turns each of `versions` versions had. Walks the table once.
    pub(super) fn counts(&self, versions: usize, position: u64) -> Vec<u64> {
        let mut counts = vec![0_u64; versions];
        for (at, turn) in (0_u64..).zip(&self.turns) {
            let times = match at.cmp(&self.once) {
                _ if at >= position => 0,
                Ordering::Less => 1,
                Ordering::Equal | Ordering::Greater => (position - 1 - at) / self.period + 1,
            };
            if let Some(count) = counts.get_mut(usize::from(*turn)) {
                *count += times;
            }
        }
        counts
    }
}

/// Tables compiled for one snapshot, so that services with the same weights share them.
#[derive(Debug, Default)]
pub struct Tables(HashMap<Box<[(u16, i64)]>, Arc<Table>>);

impl Tables {
    pub(super) fn table(&mut self, entitled: &[(u16, i64)]) -> Arc<Table> {
        if let Some(table) = self.0.get(entitled) {
            return Arc::clone(table);
        }
        let table = Arc::new(Table::compile(entitled));
        self.0.insert(entitled.into(), Arc::clone(&table));
        table
    }
}

/// How far ahead or behind a version may be.
#[derive(Clone, Copy)]
enum Bound {
    /// `1 - 1/(2n-2)` of a request, inclusive.
    Tijdeman,
    /// One request, exclusive.
    One,
}

struct Plan {
    table: Table,
    /// The largest error of any version at any time, in whole requests: 0 is below one.
    worst: i64,
}

impl Plan {
    fn make(entitled: &[(u16, i64)], bound: Bound) -> Self {
        let divisor = entitled.iter().fold(0, |divisor, (weight, _)| gcd(divisor, i64::from(*weight)));
        let period = usize::try_from(UNIT / divisor.max(1)).unwrap_or(1);
        let mut rule = Rule::new(entitled, bound);
        let mut turns = Vec::with_capacity(period);
        let mut states = vec![rule.residuals()];
        for _ in 0..PERIODS_TO_SETTLE {
            turns.extend((0..period).map(|_| rule.next()));
            let state = rule.residuals();
            if let Some(seen) = states.iter().position(|earlier| *earlier == state) {
                return Self { worst: rule.worst / rule.whole, table: Table::repeating(turns, seen * period) };
            }
            states.push(state);
        }
        // Not seen to happen. What is owed now stays owed, constant, while the plain schedule repeats.
        let once = turns.len();
        let plain: Vec<_> = entitled.iter().map(|(weight, _)| (*weight, 0)).collect();
        let mut plain = Rule::new(&plain, Bound::Tijdeman);
        turns.extend((0..period).map(|_| plain.next()));
        Self { worst: (rule.worst + plain.worst) / rule.whole, table: Table::repeating(turns, once) }
    }
}

impl Table {
    fn repeating(turns: Vec<u16>, once: usize) -> Self {
        let period = turns.len().saturating_sub(once).max(1) as u64;
        Self { turns: turns.into_boxed_slice(), once: once as u64, period }
    }
}

/// Tijdeman's rule, in integers: everything is scaled by 2n-2 so that his bound is a whole number.
struct Rule {
    standings: Vec<Standing>,
    /// One request in the scaled unit.
    whole: i64,
    /// The largest residual allowed, inclusive.
    bound: i64,
    now: i64,
    worst: i64,
}

struct Standing {
    weight: i64,
    residual: i64,
    /// The turn at whose end the residual is above the bound unless it was this version's.
    deadline: i64,
}

impl Rule {
    fn new(entitled: &[(u16, i64)], bound: Bound) -> Self {
        let scale = i64::try_from(entitled.len()).unwrap_or(i64::MAX / UNIT).saturating_mul(2).saturating_sub(2).max(1);
        let whole = UNIT * scale;
        let bound = match bound {
            Bound::Tijdeman => whole - UNIT,
            Bound::One => whole - 1,
        };
        let standings = entitled
            .iter()
            .map(|(weight, residual)| {
                let (weight, residual) = (i64::from(*weight).max(1) * scale, residual * scale);
                Standing { weight, residual, deadline: 1 + (bound - residual).div_euclid(weight) }
            })
            .collect();
        Self { standings, whole, bound, now: 0, worst: 0 }
    }

    fn residuals(&self) -> Vec<i64> {
        self.standings.iter().map(|standing| standing.residual).collect()
    }

    /// Plays one turn and says whose it was.
    fn next(&mut self) -> u16 {
        self.now += 1;
        let mut best = 0;
        let mut least = (u8::MAX, i64::MAX, i64::MAX);
        for (at, standing) in (0_u16..).zip(&mut self.standings) {
            standing.residual += standing.weight;
            let urgency = if standing.residual > self.bound {
                (0, 0, -standing.residual)
            } else if standing.residual >= self.whole - self.bound {
                (1, standing.deadline, -standing.residual)
            } else {
                (2, 0, -standing.residual)
            };
            if urgency < least {
                (best, least) = (at, urgency);
            }
        }
        if let Some(chosen) = self.standings.get_mut(usize::from(best)) {
            chosen.residual -= self.whole;
            chosen.deadline = self.now + 1 + (self.bound - chosen.residual).div_euclid(chosen.weight);
        }
        let error = self.standings.iter().map(|standing| standing.residual.abs()).max();
        self.worst = self.worst.max(error.unwrap_or(0));
        best
    }
}

const fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
