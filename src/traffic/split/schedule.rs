//! The schedule of three or more versions: a list of turns whose shares are exact in every prefix.
//!
//! This is the chairman assignment problem: states of different size fill one chair each year, and no state may
//! ever be a whole term ahead or behind. R. Tijdeman, *The chairman assignment problem*, Discrete Mathematics 32
//! (1980) 323-330, proves for n states the bound `1 - 1/(2n-2)`, the best possible, and gives the rule: among the
//! states that may take the chair without getting too far ahead, the one that would first be too far behind takes
//! it (earliest deadline first).
//!
//! Weights are whole basis points, so a schedule repeats: it is compiled once into at most 10 000 turns (90/5/5
//! needs 20), and a turn costs one look-up. The rule can also start from deficits, by which each version is behind
//! from before a change of weights; the schedule then has a part that is used once and a part that repeats. The
//! error that is guaranteed:
//!
//! * without deficits: Tijdeman's bound, below one request, for any number of versions;
//! * after changes of weight, three versions: below one request. With a bound of one, every turn that is due
//!   has room before its deadline, because deficits sum to zero and each is below one (Hall's condition holds for
//!   every prefix);
//! * after changes of weight, four or more: no schedule that does not know the future can promise one
//!   (`+0.6 +0.6 -0.6 -0.6` and then 50/50 is a counterexample). Who is overdue goes first, largest deficit first,
//!   so the error falls back below one and does not add up over changes.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// One request in the unit of deficits: weights are ten-thousandths of it.
pub(super) const UNIT: i64 = 10_000;

/// After so many periods a schedule from deficits has settled into its repetition (two suffice in practice).
const PERIODS_TO_SETTLE: usize = 6;

/// Whose turn it is, for every position: a part that is used once, and then one that repeats for ever.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    turns: Box<[u16]>,
    /// How many turns at the beginning are used once.
    pub(super) once: u64,
    /// How many turns repeat after them.
    pub(super) period: u64,
}

impl Schedule {
    /// The schedule of `eligible`: the weight in basis points (above 0) and the deficit of each version, in
    /// ten-thousandths of a request, positive where it is behind. Weights sum to [`UNIT`].
    pub(super) fn compile(eligible: &[(u16, i64)]) -> Self {
        let tight = Candidate::new(eligible, ErrorBound::Tijdeman);
        if tight.worst < 1 {
            return tight.schedule;
        }
        let wide = Candidate::new(eligible, ErrorBound::One);
        if wide.worst < tight.worst { wide.schedule } else { tight.schedule }
    }

    /// The version, as an index into what was compiled, whose turn is `position`.
    pub(super) fn turn(&self, position: u64) -> usize {
        let at = if position < self.once { position } else { self.once + (position - self.once) % self.period };
        usize::try_from(at).ok().and_then(|at| self.turns.get(at)).copied().map_or(0, usize::from)
    }

    /// How many of the first `position` turns each of `versions` versions had. Walks the schedule once.
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

/// Schedules compiled for one snapshot, so that services with the same weights share them.
#[derive(Debug, Default)]
pub struct Schedules(HashMap<Box<[(u16, i64)]>, Arc<Schedule>>);

impl Schedules {
    pub(super) fn schedule(&mut self, eligible: &[(u16, i64)]) -> Arc<Schedule> {
        if let Some(schedule) = self.0.get(eligible) {
            return Arc::clone(schedule);
        }
        let schedule = Arc::new(Schedule::compile(eligible));
        self.0.insert(eligible.into(), Arc::clone(&schedule));
        schedule
    }
}

/// How far ahead or behind a version may be.
#[derive(Clone, Copy)]
enum ErrorBound {
    /// `1 - 1/(2n-2)` of a request, inclusive.
    Tijdeman,
    /// One request, exclusive.
    One,
}

struct Candidate {
    schedule: Schedule,
    /// The largest error of any version at any time, in whole requests: 0 is below one.
    worst: i64,
}

impl Candidate {
    fn new(eligible: &[(u16, i64)], bound: ErrorBound) -> Self {
        let divisor = eligible.iter().fold(0, |divisor, (weight, _)| gcd(divisor, i64::from(*weight)));
        let period = usize::try_from(UNIT / divisor.max(1)).unwrap_or(1);
        let mut scheduler = Scheduler::new(eligible, bound);
        let mut turns = Vec::with_capacity(period);
        let mut states = vec![scheduler.deficits()];
        for _ in 0..PERIODS_TO_SETTLE {
            turns.extend((0..period).map(|_| scheduler.next()));
            let state = scheduler.deficits();
            if let Some(seen) = states.iter().position(|earlier| *earlier == state) {
                return Self {
                    worst: scheduler.worst / scheduler.request,
                    schedule: Schedule::repeating(turns, seen * period),
                };
            }
            states.push(state);
        }
        // Not seen to happen. The deficits of now stay, constant, while the plain schedule repeats.
        let once = turns.len();
        let plain: Vec<_> = eligible.iter().map(|(weight, _)| (*weight, 0)).collect();
        let mut plain = Scheduler::new(&plain, ErrorBound::Tijdeman);
        turns.extend((0..period).map(|_| plain.next()));
        Self { worst: (scheduler.worst + plain.worst) / scheduler.request, schedule: Schedule::repeating(turns, once) }
    }
}

impl Schedule {
    fn repeating(turns: Vec<u16>, once: usize) -> Self {
        let period = turns.len().saturating_sub(once).max(1) as u64;
        Self { turns: turns.into_boxed_slice(), once: once as u64, period }
    }
}

/// Tijdeman's rule, in integers: everything is scaled by 2n-2 so that his bound is a whole number.
struct Scheduler {
    contenders: Vec<Contender>,
    /// One request in the scaled unit.
    request: i64,
    /// The largest deficit allowed, inclusive.
    bound: i64,
    now: i64,
    worst: i64,
}

struct Contender {
    weight: i64,
    deficit: i64,
    /// The turn at whose end the deficit is above the bound unless it was this version's.
    deadline: i64,
}

impl Scheduler {
    fn new(eligible: &[(u16, i64)], bound: ErrorBound) -> Self {
        let scale = i64::try_from(eligible.len()).unwrap_or(i64::MAX / UNIT).saturating_mul(2).saturating_sub(2).max(1);
        let request = UNIT * scale;
        let bound = match bound {
            ErrorBound::Tijdeman => request - UNIT,
            ErrorBound::One => request - 1,
        };
        let contenders = eligible
            .iter()
            .map(|(weight, deficit)| {
                let (weight, deficit) = (i64::from(*weight).max(1) * scale, deficit * scale);
                Contender { weight, deficit, deadline: 1 + (bound - deficit).div_euclid(weight) }
            })
            .collect();
        Self { contenders, request, bound, now: 0, worst: 0 }
    }

    fn deficits(&self) -> Vec<i64> {
        self.contenders.iter().map(|contender| contender.deficit).collect()
    }

    /// Plays one turn and says whose it was.
    fn next(&mut self) -> u16 {
        self.now += 1;
        let mut best = 0;
        let mut least = (u8::MAX, i64::MAX, i64::MAX);
        for (at, contender) in (0_u16..).zip(&mut self.contenders) {
            contender.deficit += contender.weight;
            let urgency = if contender.deficit > self.bound {
                (0, 0, -contender.deficit)
            } else if contender.deficit >= self.request - self.bound {
                (1, contender.deadline, -contender.deficit)
            } else {
                (2, 0, -contender.deficit)
            };
            if urgency < least {
                (best, least) = (at, urgency);
            }
        }
        if let Some(chosen) = self.contenders.get_mut(usize::from(best)) {
            chosen.deficit -= self.request;
            chosen.deadline = self.now + 1 + (self.bound - chosen.deficit).div_euclid(chosen.weight);
        }
        let error = self.contenders.iter().map(|contender| contender.deficit.abs()).max();
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
