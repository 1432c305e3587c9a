//! When what recurs is due: active checks, each an interval after the one before it.
//!
//! Intervals are a tenth longer or shorter, so that the checks of many endpoints, and those of many replicas of Weir, do not
//! come together. New ones come soon, one after the other.
//!
//! Invariant: of two runs under way for one endpoint only the newer one counts.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// What recurs.
pub(crate) trait Recurring: Clone {
    /// Tells it apart from the others.
    fn id(&self) -> u64;
    /// From the beginning of one run to that of the next.
    fn interval(&self) -> Duration;
    /// Whether an answer to `other` is one to this, too.
    fn is_same(&self, other: &Self) -> bool;
}

/// When each of several is due.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    entries: HashMap<u64, Entry<T>>,
    /// Those that are not under way.
    due: BTreeSet<(Instant, u64)>,
    runs: u64,
}

#[derive(Debug)]
struct Entry<T> {
    what: T,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    At(Instant),
    /// It is this run that is under way.
    UnderWay(u64),
}

/// What a schedule had and has not any more, or has otherwise.
#[derive(Debug)]
pub(crate) struct Difference<T> {
    /// Those that do not recur any more.
    pub(crate) gone: Vec<T>,
    /// Those that are not the same.
    pub(crate) changed: Vec<T>,
}

/// The most time between the first runs of two new ones.
const APART: Duration = Duration::from_millis(2);

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), due: BTreeSet::new(), runs: 0 }
    }
}

impl<T: Recurring> Schedule<T> {
    /// From now on these recur, and no others. One that is the same goes on as it was.
    pub(crate) fn follow(&mut self, wanted: &[T], now: Instant) -> Difference<T> {
        let mut before = std::mem::take(&mut self.entries);
        self.due.clear();
        let mut changed = Vec::new();
        let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX).max(1);
        let mut soon = now;
        for what in wanted {
            let id = what.id();
            // Two names may lead to one endpoint.
            if self.entries.contains_key(&id) {
                continue;
            }
            let known = before.remove(&id);
            let next = match &known {
                Some(Entry { what: known, next }) if what.is_same(known) => match next {
                    // The interval may be shorter than it was.
                    Next::At(at) => Next::At((*at).min(later(now, what.interval()))),
                    under_way @ Next::UnderWay(_) => *under_way,
                },
                _ => {
                    soon = later(soon, APART.min(what.interval() / count));
                    Next::At(soon)
                }
            };
            if known.is_some_and(|known| !what.is_same(&known.what)) {
                changed.push(what.clone());
            }
            if let Next::At(at) = next {
                self.due.insert((at, id));
            }
            self.entries.insert(id, Entry { what: what.clone(), next });
        }
        Difference { gone: before.into_values().map(|entry| entry.what).collect(), changed }
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// One that is due, under way from now on, with the number of its run.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<(T, u64)> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, id));
        let entry = self.entries.get_mut(&id)?;
        self.runs += 1;
        entry.next = Next::UnderWay(self.runs);
        Some((entry.what.clone(), self.runs))
    }

    /// A run that began then is over; whether it counts. `chance` says how much longer or shorter this interval is.
    pub(crate) fn finish(&mut self, id: u64, run: u64, began: Instant, chance: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.next == Next::UnderWay(run)) else {
            return false;
        };
        let at = later(began, jittered(entry.what.interval(), chance));
        entry.next = Next::At(at);
        self.due.insert((at, id));
        true
    }
}

/// An interval, a tenth more or less.
fn jittered(interval: Duration, chance: u64) -> Duration {
    let permille = 900 + u32::try_from(chance % 201).unwrap_or_default();
    interval.saturating_mul(permille) / 1_000
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Check {
        id: u64,
        interval: Duration,
        question: u8,
    }

    impl Recurring for Check {
        fn id(&self) -> u64 {
            self.id
        }

        fn interval(&self) -> Duration {
            self.interval
        }

        fn is_same(&self, other: &Self) -> bool {
            self.question == other.question
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn checks(count: u64) -> Vec<Check> {
        (0..count).map(|id| Check { id, interval: 5 * SECOND, question: 0 }).collect()
    }

    proptest! {
        /// Runs take their time, and a few are under way at once, as in the task that makes them.
        #[test]
        fn each_recurs_once_an_interval_a_tenth_more_or_less(
            count in 1_u64..40, chances in prop::collection::vec(any::<u64>(), 16), takes in 1_u64..500,
        ) {
            let start = Instant::now();
            let mut schedule = Schedule::default();
            schedule.follow(&checks(count), start);
            let mut began: HashMap<u64, Vec<Instant>> = HashMap::new();
            let mut under_way: Vec<(Instant, u64, u64, Instant)> = Vec::new();
            let mut now = start;
            let mut chance = chances.iter().cycle();
            while now < start + 60 * SECOND {
                let over = under_way.iter().map(|(at, ..)| *at).min();
                now = schedule.next_due().into_iter().chain(over).min().unwrap().max(now);
                while let Some((check, run)) = schedule.begin(now) {
                    began.entry(check.id).or_default().push(now);
                    under_way.push((now + Duration::from_millis(takes), check.id, run, now));
                }
                for (_, id, run, began) in under_way.extract_if(.., |(at, ..)| *at <= now) {
                    prop_assert!(schedule.finish(id, run, began, *chance.next().unwrap()));
                }
            }
            prop_assert_eq!(began.len() as u64, count);
            for (id, moments) in began {
                prop_assert!(moments[0] - start <= APART * u32::try_from(count).unwrap(), "{} comes soon", id);
                for pair in moments.windows(2) {
                    let gap = pair[1] - pair[0];
                    prop_assert!(gap >= SECOND * 45 / 10 && gap <= SECOND * 55 / 10, "{gap:?}");
                }
            }
        }

        #[test]
        fn whatever_is_wanted_is_what_recurs(
            wanted in prop::collection::vec(prop::collection::vec((0_u64..6, 0_u8..2), 0..8), 1..8),
        ) {
            let mut now = Instant::now();
            let mut schedule = Schedule::default();
            let mut before: HashMap<u64, u8> = HashMap::new();
            for wanted in wanted {
                let checks: Vec<Check> =
                    wanted.iter().map(|(id, question)| Check { id: *id, interval: SECOND, question: *question }).collect();
                let Difference { gone, changed } = schedule.follow(&checks, now);
                let mut after: HashMap<u64, u8> = HashMap::new();
                for check in &checks {
                    after.entry(check.id).or_insert(check.question);
                }
                let ids = |all: &[Check]| { let mut ids: Vec<u64> = all.iter().map(|one| one.id).collect(); ids.sort_unstable(); ids };
                let mut lost: Vec<u64> = before.keys().filter(|id| !after.contains_key(id)).copied().collect();
                lost.sort_unstable();
                let mut other: Vec<u64> =
                    after.iter().filter(|(id, one)| before.get(id).is_some_and(|known| known != *one)).map(|(id, _)| *id).collect();
                other.sort_unstable();
                prop_assert_eq!((ids(&gone), ids(&changed)), (lost, other));
                prop_assert_eq!(schedule.entries.len(), after.len());
                now += SECOND;
                // Each is due once, and one of them stays under way.
                let mut due = Vec::new();
                while let Some((check, run)) = schedule.begin(now) {
                    if check.id != 3 {
                        prop_assert!(schedule.finish(check.id, run, now, 100));
                    }
                    due.push(check.id);
                }
                due.sort_unstable();
                let mut expected: Vec<u64> = after.keys().copied().collect();
                expected.sort_unstable();
                let of_three = |id: &u64| *id != 3;
                due.retain(of_three);
                expected.retain(of_three);
                prop_assert_eq!(due, expected);
                before = after;
            }
        }
    }

    #[test]
    fn an_answer_to_another_question_does_not_count() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.follow(&checks(1), now);
        let (_, run) = schedule.begin(now + SECOND).unwrap();
        let mut other = checks(1);
        other[0].question = 1;
        assert_eq!(schedule.follow(&other, now + SECOND).changed, other);
        assert!(!schedule.finish(0, run, now + SECOND, 0));
        let (check, run) = schedule.begin(now + 2 * SECOND).unwrap();
        assert_eq!(check, other[0], "it is asked at once");
        assert!(schedule.finish(0, run, now + 2 * SECOND, 0));
        assert!(!schedule.finish(0, run, now + 2 * SECOND, 0), "once");
    }

    #[test]
    fn a_shorter_interval_is_kept_to_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let mut wanted = checks(1);
        wanted[0].interval = 3_600 * SECOND;
        schedule.follow(&wanted, now);
        let (_, run) = schedule.begin(now + SECOND).unwrap();
        assert!(schedule.finish(0, run, now + SECOND, 0));
        wanted[0].interval = SECOND;
        schedule.follow(&wanted, now + 2 * SECOND);
        assert_eq!(schedule.next_due(), Some(now + 3 * SECOND));
    }

    #[test]
    fn a_thousand_new_ones_are_spread() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.follow(&checks(1_000), now);
        let at_once = std::iter::from_fn(|| schedule.begin(now + SECOND)).count();
        assert_eq!(at_once, 500);
        let rest = std::iter::from_fn(|| schedule.begin(now + 2 * SECOND)).count();
        assert_eq!(rest, 500);
    }
}
