//! How much the requests of one client have in common, where clients stay on one version.
//!
//! A client that always fails, and always gets the same version, is many requests and one thing that happened. Clients are
//! not known one by one but in groups, by the hash of their affinity key: if each request failed by itself, the groups'
//! counts would vary like those of independent requests. What they vary more ([`excess`]) is m·ρ, with m the requests
//! of a client: the design effect less one, whatever the number of clients in a group, as variances of clients add up.
//!
//! The more time, the more requests of the same client. So it is measured within minutes, within ten minutes and within
//! the hour: it grows with time, at most in proportion to it, and beyond the hour it is taken to grow on.
//!
//! Invariant: at most [`MINUTES`] minutes are kept.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::overdispersion::excess;
use super::sample::{Sample, Tally};

const MINUTE: Duration = Duration::from_secs(60);
/// Minutes that are kept.
const MINUTES: usize = 60;
/// The times within which clients are looked at, in minutes; the last is all that is kept.
const SCALES: [usize; 3] = [1, 10, MINUTES];

/// One version's groups of clients, minute by minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    minutes: VecDeque<Box<[Tally]>>,
    /// When the minute under way began, and the totals then.
    last: Option<(Duration, Box<[Tally]>)>,
}

impl Clients {
    /// Takes the totals of the groups at `now`; to be called every few seconds.
    pub(super) fn observe(&mut self, now: Duration, totals: &[Tally]) {
        let Some((began, before)) = &self.last else {
            self.last = Some((now, totals.into()));
            return;
        };
        let covered = now.saturating_sub(*began);
        if covered < MINUTE {
            return;
        }
        let added: Option<Box<[Tally]>> =
            totals.iter().zip(before).map(|(after, before)| after.since(*before)).collect();
        // A minute that took longer says nothing about minutes: nobody looked for a while.
        if let Some(added) = added.filter(|_| covered < 2 * MINUTE) {
            if self.minutes.len() >= MINUTES {
                self.minutes.pop_front();
            }
            self.minutes.push_back(added);
        }
        self.last = Some((now, totals.into()));
    }

    /// What the groups say.
    pub(super) fn effect(&self) -> ClientEffect {
        let minutes: Vec<&[Tally]> = self.minutes.iter().map(|minute| &**minute).collect();
        let scale = |most: usize| {
            let long = most.min(minutes.len()).max(1);
            let sets: Vec<Box<[Tally]>> = minutes.rchunks_exact(long).map(together).collect();
            let excess = excess(sets.iter().map(|set| &**set));
            Scale { time: MINUTE * u32::try_from(long).unwrap_or(u32::MAX), excess }
        };
        ClientEffect(SCALES.map(scale))
    }
}

/// The sum of each group over some minutes.
fn together(minutes: &[&[Tally]]) -> Box<[Tally]> {
    let groups = minutes.first().map_or(0, |minute| minute.len());
    let sum = |group: usize| minutes.iter().filter_map(|minute| minute.get(group)).copied().sum();
    (0..groups).map(sum).collect()
}

/// One version's groups of clients in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientTallies<'a> {
    groups: &'a [Tally],
    covered: Duration,
}

impl<'a> ClientTallies<'a> {
    /// Those of `sample`, if their errors are `bad`, the ones that are asked about. Groups count 5xx and gRPC failures of all
    /// endpoints: whose 4xx were, or the errors without those of an endpoint, they do not show.
    pub(crate) fn of(sample: &'a Sample, bad: u64) -> Self {
        let counted: Tally = sample.clients.iter().copied().sum();
        let differ = counted.bad.abs_diff(bad).saturating_mul(10) > bad.max(10);
        Self { groups: if differ { &[] } else { &sample.clients }, covered: sample.covered }
    }
}

/// The excess within one time, if enough groups have requests to tell.
fn shown(groups: &[Tally]) -> Option<f64> {
    let asked: Vec<Tally> = groups.iter().copied().filter(|group| group.requests > 0).collect();
    (asked.len() >= ENOUGH).then(|| excess([&*asked]))
}

/// Groups with requests that tell something.
const ENOUGH: usize = 16;

/// By how much requests count less because they are those of the same clients; nothing where clients are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, f64)>", into = "Vec<(u64, f64)>")]
pub(crate) struct ClientEffect([Scale; SCALES.len()]);

/// The design effect less one within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Scale {
    time: Duration,
    excess: f64,
}

/// As it is stored: seconds and excess, nothing where nothing is known.
impl From<ClientEffect> for Vec<(u64, f64)> {
    fn from(ClientEffect(scales): ClientEffect) -> Self {
        if scales.iter().all(|scale| scale.excess == 0.0) {
            return Self::new();
        }
        scales.iter().map(|scale| (scale.time.as_secs(), (scale.excess * 1e3).round() / 1e3)).collect()
    }
}

impl From<Vec<(u64, f64)>> for ClientEffect {
    fn from(stored: Vec<(u64, f64)>) -> Self {
        let mut scales = [Scale::default(); SCALES.len()];
        for (scale, (seconds, excess)) in scales.iter_mut().zip(stored) {
            *scale = Scale { time: Duration::from_secs(seconds.clamp(60, 3_600)), excess: excess.clamp(0.0, MOST) };
        }
        Self(scales)
    }
}

impl ClientEffect {
    /// The design effect less one of all requests within `covered`. What is known of a longer time is at least its part
    /// of that, what is known of a shorter one is not less; and no time longer than the hour is known.
    pub(super) fn within(self, covered: Duration) -> f64 {
        let parts = self.0.iter().enumerate().filter(|(_, scale)| scale.excess > 0.0).map(|(at, scale)| {
            let part = covered.as_secs_f64() / scale.time.as_secs_f64();
            scale.excess * if at + 1 < self.0.len() { part.min(1.0) } else { part }
        });
        parts.fold(0.0, f64::max)
    }

    /// The same of another version with these groups: what they do not show is not true of it. Errors that are new, and
    /// everybody's, are no matter of a few clients, whatever stable's are.
    pub(super) fn at_most(self, own: ClientTallies<'_>) -> Self {
        let known = self.within(own.covered);
        match shown(own.groups) {
            Some(shown) if shown < known => {
                Self(self.0.map(|scale| Scale { excess: scale.excess * shown / known, ..scale }))
            }
            _ => self,
        }
    }

    /// The same of what a piece of `covered` adds to what was looked at for `before`: the same clients again say less
    /// each time.
    pub(super) fn of_piece(self, covered: Duration, before: Duration) -> f64 {
        let counted = |time: Duration| time.as_secs_f64() / (1.0 + self.within(time));
        let added = counted(before.saturating_add(covered)) - counted(before);
        if added > 0.0 { (covered.as_secs_f64() / added - 1.0).clamp(0.0, MOST) } else { self.within(covered) }
    }
}

/// So many requests that count as one are as good as nothing.
const MOST: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::random::SplitMix64;

    /// `clients` in 64 groups, each with `each` requests a minute, of which every `bad`-th client's fail, for an hour.
    fn seen(clients: usize, each: u64, bad: usize) -> ClientEffect {
        let mut seen = Clients::default();
        let mut totals = vec![Tally::default(); 64];
        seen.observe(Duration::ZERO, &totals);
        for minute in 1..=60 {
            let mut hashes = SplitMix64(1);
            for client in 0..clients {
                let group = usize::try_from(hashes.next() >> 58).unwrap();
                totals[group] += Tally { requests: each, bad: if client % bad == 0 { each } else { 0 } };
            }
            seen.observe(minute * MINUTE, &totals);
        }
        seen.effect()
    }

    #[test]
    fn requests_of_clients_that_always_fail_count_as_one_each() {
        let effect = seen(20_000, 3, 100);
        for (minutes, requests) in [(1, 3.0), (10, 30.0), (60, 180.0), (120, 360.0)] {
            let known = effect.within(minutes * MINUTE) + 1.0;
            assert!((0.6..2.5).contains(&(known / requests)), "{known} for {requests} requests of each client");
        }
        assert!(effect.within(MINUTE / 2) < effect.within(MINUTE));
    }

    #[test]
    fn what_is_known_of_clients_is_read_as_it_was_written() {
        let effect = seen(2_000, 3, 100);
        let stored = serde_json::to_string(&effect).unwrap();
        let read: ClientEffect = serde_json::from_str(&stored).unwrap();
        for minutes in [1, 10, 60, 100] {
            assert!((read.within(minutes * MINUTE) - effect.within(minutes * MINUTE)).abs() < 0.01, "{stored}");
        }
        assert_eq!(serde_json::to_string(&ClientEffect::default()).unwrap(), "[]");
        let wrong: ClientEffect = serde_json::from_str("[[0, -1.0], [0, 1e300], [9, 1.0], [1, 1.0]]").unwrap();
        assert!(wrong.within(MINUTE).is_finite() && wrong.of_piece(MINUTE, MINUTE).is_finite());
    }

    #[test]
    fn pieces_say_together_what_all_says_at_once() {
        let effect = seen(20_000, 3, 100);
        let piece = Duration::from_secs(10);
        let counted: f64 = (0..360).map(|at| 10.0 / (1.0 + effect.of_piece(piece, at * piece))).sum();
        let at_once = 3_600.0 / (1.0 + effect.within(60 * MINUTE));
        assert!((counted / at_once - 1.0).abs() < 0.01, "{counted} and {at_once}");
    }

    #[test]
    fn errors_that_are_everybodys_count_in_full() {
        let effect = seen(20_000, 3, 100);
        let group = |bad| Tally { requests: 1_000, bad };
        let bounded = |groups: &[Tally]| effect.at_most(ClientTallies { groups, covered: 10 * MINUTE });
        let everybodys = [group(20); 64];
        assert!(bounded(&everybodys).within(10 * MINUTE) < 0.1);
        let of_two: Vec<Tally> = (0..64).map(|at| group(if at < 2 { 640 } else { 0 })).collect();
        assert_eq!(bounded(&of_two), effect);
        assert_eq!(bounded(&everybodys[..3]), effect, "too few groups to tell");
        assert_eq!(bounded(&[]), effect);
    }

    /// Two clients got a 404 each time, which groups do not count: all that they show is that nothing else failed.
    #[test]
    fn groups_do_not_say_whose_the_errors_are_that_they_do_not_count() {
        let effect = seen(20_000, 3, 100);
        let sample =
            |bad| Sample { covered: MINUTE, clients: vec![Tally { requests: 100, bad }; 64], ..Sample::default() };
        for (each, asked, bounds) in
            [(0, 20, false), (1, 84, false), (1, 70, true), (1, 64, true), (1, 50, false), (0, 0, true)]
        {
            let sample = sample(each);
            let bounded = effect.at_most(ClientTallies::of(&sample, asked)).within(MINUTE) < 0.1;
            assert_eq!(bounded, bounds, "{} in groups, asked for {asked}", each * 64);
        }
    }

    #[test]
    fn clients_of_one_request_each_are_independent() {
        // A thousand requests in each group, and one error in each.
        let mut seen = Clients::default();
        for minute in 0..=60 {
            seen.observe(minute * MINUTE, &[Tally { requests: u64::from(minute) * 1_000, bad: u64::from(minute) }; 64]);
        }
        assert_eq!(seen.effect().within(60 * MINUTE), 0.0);
        assert_eq!(Clients::default().effect().within(60 * MINUTE), 0.0);
        assert_eq!(ClientEffect::default().of_piece(MINUTE, MINUTE), 0.0);
    }
}
