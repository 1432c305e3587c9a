//! One version's counts in blocks of ten seconds, for an hour: how much its shares vary by themselves, and what they
//! were when it last had traffic.
//!
//! Kept of the stable version of each service that can be rolled out, also while nothing is: a rollout then knows from
//! its first analysis run on how errors come. Only tallies are kept, eight bytes for each question and block.
//!
//! Invariant: at most [`MAX_BLOCKS`] blocks.

use std::collections::VecDeque;
use std::time::Duration;

use crate::algorithm::binomial;

use super::clients::{ClientEffect, Clients};
use super::dispersion::{BLOCK, Dispersion, MINUTE};
use super::past::{Past, StablePast};
use super::question::Question;
use super::sample::{Sample, Tally};

/// An hour.
const MAX_BLOCKS: usize = 360;
/// A block that took longer says nothing about blocks: nobody looked for a while.
const LONGEST: Duration = Duration::from_secs(15);
/// A block may end this early: timers are not exact.
const SLACK: Duration = Duration::from_millis(200);
/// What lies so many standard errors away is hardly chance.
const STANDARD_ERRORS: f64 = 2.0;

/// One version's blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks {
    questions: Vec<Question>,
    /// Tallies in the order of the questions, oldest block first. Blocks without requests are left out.
    blocks: VecDeque<Box<[SmallTally]>>,
    /// Where the next block begins.
    last: Option<(Duration, Box<[Tally]>)>,
    clients: Clients,
}

/// A tally of a block.
#[derive(Clone, Copy, Debug, Default)]
struct SmallTally {
    requests: u32,
    bad: u32,
}

impl Blocks {
    /// Blocks that keep what `questions` ask.
    pub(crate) fn new(questions: Vec<Question>) -> Self {
        Self { questions, ..Self::default() }
    }

    /// What they keep.
    pub(crate) fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Whether a block ends at `now`.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.last.as_ref().is_none_or(|(last, _)| now.saturating_sub(*last) + SLACK >= BLOCK)
    }

    /// Takes the version's totals at `now`, if a block ends then.
    pub(crate) fn observe(&mut self, now: Duration, totals: &Sample) {
        if !self.is_due(now) {
            return;
        }
        if !totals.clients.is_empty() {
            self.clients.observe(now, &totals.clients);
        }
        let tallies: Box<[Tally]> = self.questions.iter().map(|question| question.tally(totals)).collect();
        let last = self.last.replace((now, tallies));
        let (Some((began, before)), Some((_, after))) = (last, &self.last) else { return };
        if now.saturating_sub(began) > LONGEST {
            return;
        }
        let added: Option<Box<[SmallTally]>> =
            after.iter().zip(&before).map(|(after, before)| after.since(*before).map(SmallTally::from)).collect();
        let Some(added) = added.filter(|added| added.iter().any(|tally| tally.requests > 0)) else { return };
        if self.blocks.len() >= MAX_BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(added);
    }

    /// The time that they cover.
    fn covered(&self) -> Duration {
        BLOCK * u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    /// The highest share that a minute hardly had by chance: one error of one request is no bad minute.
    fn worst_minute(&self, question: Question) -> f64 {
        let blocks: Vec<Tally> = self.tallies(question).collect();
        let minutes = blocks.windows(MINUTE).map(|minute| minute.iter().copied().sum::<Tally>());
        let shares = minutes.filter(|minute| minute.bad > 0).map(|Tally { requests, bad }| {
            let requests = requests as f64;
            binomial::bounds(bad as f64 / requests, requests, STANDARD_ERRORS).0
        });
        shares.fold(0.0, f64::max)
    }

    fn tallies(&self, question: Question) -> impl Iterator<Item = Tally> {
        let at = self.questions.iter().position(|known| *known == question);
        self.blocks.iter().filter_map(move |block| block.get(at?)).map(|tally| Tally::from(*tally))
    }
}

impl StablePast for Blocks {
    fn past(&self, question: Question) -> Past {
        Past {
            tally: self.tallies(question).sum(),
            dispersion: self.dispersion(question),
            covered: self.covered(),
            worst_minute: self.worst_minute(question),
        }
    }

    fn dispersion(&self, question: Question) -> Dispersion {
        let clients = match question {
            Question::Errors(_) => self.clients.effect(),
            Question::Slower(_) | Question::Abandoned => ClientEffect::default(),
        };
        Dispersion::of(&self.tallies(question).collect::<Vec<_>>(), clients)
    }
}

impl From<Tally> for SmallTally {
    fn from(tally: Tally) -> Self {
        let small = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self { requests: small(tally.requests), bad: small(tally.bad) }
    }
}

impl From<SmallTally> for Tally {
    fn from(tally: SmallTally) -> Self {
        Self { requests: tally.requests.into(), bad: tally.bad.into() }
    }
}
