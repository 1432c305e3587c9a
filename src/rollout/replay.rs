//! Replay: what another plan would have done with a rollout that was recorded.
//!
//! ```text
//! counts of a line ─► Evidence, a second at a time ─┬─► judge::sustained  conditions with `for`
//! an analysis run ──────────────────────────────────┴─► judge::analyze    checks ─► verdicts ─┐
//! commands, the trip wire, verdicts without counts ───────────────────────────────────────────┴─► engine
//! ```
//!
//! The judge and the engine are those of a live rollout; nothing is decided here. What stands in for time: counts of a
//! line are spread evenly over its seconds. What nobody can know: how much traffic the canary would have had with other
//! weights; it is the traffic that there was. A command that the plan's state refuses is listed, and the replay goes on.
//!
//! Invariant: a rollout of the history is replayed by itself. Where the plan's has not ended, or ended otherwise, when the
//! next one began, that one begins anew.

use std::collections::BTreeSet;
use std::time::Duration;

use super::engine::{CommandRefused, Entry, Event, Observation, Phase, RolloutState, RolloutTarget, Verb, What};
use super::evidence::{Evidence, HistoryLayout, Question, RecordedCounts, Samples};
use super::judge::sustained::{self, ErrorWatch};
use super::judge::{self, AnalysisInput, Memory};
use super::plan::{Check, Measure, Plan, Rollback};
use super::reading::Reading;
use super::verdict::{CheckOutcome, Verdict};
use crate::model::{Name, Weight};

/// What something that was recorded would have led to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Replayed {
    /// This would have been written down.
    Decided(Entry),
    /// A command would have been refused.
    Refused(CommandRefused),
    /// The rollout would still have been in this phase when the next one began.
    Left(Phase),
}

/// An analysis run as it was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordedRun<'a> {
    /// What was counted since the line before.
    pub(crate) counts: &'a RecordedCounts,
    /// The canary had all traffic.
    pub(crate) canary_had_all: bool,
    /// What was found, for what others measured.
    pub(crate) verdicts: &'a [Verdict],
}

/// What the replay had to take for granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assumptions {
    /// Analysis runs of which no counts were recorded: their verdicts were taken as they were.
    pub(crate) as_they_were: usize,
    /// Checks of which it was not recorded how errors come: requests were taken as independent of each other.
    pub(crate) independent: BTreeSet<Name>,
}

/// A replay of a history with a plan.
#[derive(Clone, Debug)]
pub(crate) struct Replay<'p> {
    plan: &'p Plan,
    layout: HistoryLayout,
    state: RolloutState,
    /// All that was counted.
    totals: Samples,
    /// Until when.
    clock: Duration,
    judged: Option<Judged>,
    memory: Memory,
    story: Vec<(Duration, Replayed)>,
    assumptions: Assumptions,
}

/// What is looked at while a rollout is under way.
#[derive(Clone, Debug)]
struct Judged {
    evidence: Evidence,
    watches: Vec<ErrorWatch>,
    /// Other services failed too.
    others_fail: bool,
}

/// More seconds than this of one line are looked at in as many pieces.
const MAX_PIECES: u32 = 3_600;

impl<'p> Replay<'p> {
    /// Of nothing yet. `layout` is that of all lines.
    pub(crate) fn new(plan: &'p Plan, layout: HistoryLayout) -> Self {
        Self {
            plan,
            layout,
            state: RolloutState::default(),
            totals: Samples::default(),
            clock: Duration::ZERO,
            judged: None,
            memory: Memory::default(),
            story: Vec::new(),
            assumptions: Assumptions::default(),
        }
    }

    /// Where it is.
    pub(crate) const fn state(&self) -> &RolloutState {
        &self.state
    }

    /// What happened until now, with its moments, oldest first.
    pub(crate) fn story(&self) -> &[(Duration, Replayed)] {
        &self.story
    }

    /// What was taken for granted until now.
    pub(crate) const fn assumptions(&self) -> &Assumptions {
        &self.assumptions
    }

    /// `stable` serves.
    pub(crate) fn serve(&mut self, at: Duration, stable: RolloutTarget) {
        if self.state.stable.as_ref().is_none_or(|known| known.version != stable.version) {
            self.state = RolloutState::default();
            self.happened(at, Event::Release(stable));
        }
    }

    /// A rollout of `canary` began, in place of `stable`.
    pub(crate) fn start(&mut self, at: Duration, stable: RolloutTarget, canary: RolloutTarget, by: String) {
        self.end(at);
        if self.state.is_under_way() {
            self.story.push((at, Replayed::Left(self.state.phase())));
            self.state = RolloutState::default();
        }
        self.serve(at, stable);
        let known = self.state.canary.as_ref().is_some_and(|known| known.version == canary.version);
        let failed = known && matches!(self.state.phase(), Phase::RolledBack | Phase::Aborted);
        let reason = String::new();
        self.happened(
            at,
            if failed {
                Event::Verb { verb: Verb::Retry, by, reason }
            } else {
                Event::Start { target: canary, by, reason }
            },
        );
    }

    /// Something happened.
    pub(crate) fn happened(&mut self, at: Duration, event: Event) {
        self.apply(at, event, None);
        self.apply(at, Event::Tick, None);
    }

    /// This was counted until `at`.
    pub(crate) fn count(&mut self, at: Duration, counts: &RecordedCounts) {
        let added = self.layout.samples(counts);
        let begin = at.saturating_sub(counts.covered()).max(self.clock).min(at);
        let span = at.saturating_sub(begin);
        let pieces = u32::try_from(span.as_secs()).unwrap_or(MAX_PIECES).clamp(1, MAX_PIECES);
        let before = std::mem::take(&mut self.totals);
        for piece in 1..=pieces {
            let now = begin.saturating_add(span.saturating_mul(piece) / pieces);
            self.totals = before.with_part(&added, piece, pieces);
            self.second(now, counts);
        }
        self.clock = at;
    }

    /// A second has passed.
    fn second(&mut self, now: Duration, counts: &RecordedCounts) {
        let Some(Judged { evidence, watches, others_fail }) = &mut self.judged else { return };
        let fail = counts.shared_failure().is_some();
        if std::mem::replace(others_fail, fail) && !fail {
            evidence.disregard();
            *watches = sustained::watches(self.plan);
        }
        evidence.observe(now, self.totals.clone());
        let breach = if evidence.warm_up_left().is_none() {
            sustained::breach(watches, self.plan, evidence, counts, now).filter(|_| !fail)
        } else {
            None
        };
        if let Some(sentence) = breach {
            self.happened(now, Event::Sustained { sentence });
        } else if self.state.phase() == Phase::RollingBack {
            self.apply(now, Event::Tick, None);
        }
    }

    /// The checks were evaluated at `at`, until when everything is counted: they are evaluated anew.
    pub(crate) fn analyze(&mut self, at: Duration, recorded: RecordedRun<'_>) {
        let Some(Judged { evidence, .. }) = &mut self.judged else { return };
        let run = AnalysisInput {
            plan: self.plan,
            evidence,
            baseline: recorded.counts,
            canary_has_all: recorded.canary_had_all,
            shared_failure: recorded.counts.shared_failure(),
        };
        let measured = |check: &Check| find(recorded.verdicts, check)?.value.map(Reading::Value);
        let mut verdicts = judge::analyze(&run, measured, &mut self.memory);
        for (verdict, check) in verdicts.iter_mut().zip(&self.plan.checks) {
            let external = matches!(check.measure, Measure::External { .. });
            let found = find(recorded.verdicts, check);
            if external && verdict.outcome != CheckOutcome::WarmingUp && found.is_none_or(|found| found.value.is_none())
            {
                *verdict = as_it_was(check, found);
            }
        }
        evidence.analyzed(judge::has_failed(&verdicts));
        let asks = |check: &&Check| Question::of(check).is_some_and(|question| !recorded.counts.knows(question));
        self.assumptions.independent.extend(self.plan.checks.iter().filter(asks).map(|check| check.name.clone()));
        self.apply(at, Event::Tick, Some(verdicts));
    }

    /// The checks were evaluated at `at`, and nobody knows any more what was counted: what they found is taken as it was.
    pub(crate) fn take(&mut self, at: Duration, recorded: &[Verdict]) {
        if self.judged.is_some() {
            self.assumptions.as_they_were += 1;
            let verdicts = self.plan.checks.iter().map(|check| as_it_was(check, find(recorded, check)));
            self.apply(at, Event::Tick, Some(verdicts.collect()));
        }
    }

    /// Nothing more was recorded: what only takes time, a ramp back, is over.
    pub(crate) fn end(&mut self, at: Duration) {
        if let (Phase::RollingBack, Rollback::Ramp(over)) = (self.state.phase(), self.plan.rollback) {
            self.apply(at.saturating_add(over), Event::Tick, None);
        }
    }

    fn apply(&mut self, at: Duration, event: Event, verdicts: Option<Vec<Verdict>>) {
        let seen = Observation {
            canary_available: 1,
            stable_available: 1,
            previous_available: 1,
            verdicts,
            ..Observation::default()
        };
        match self.state.apply(self.plan, event, &seen, at) {
            Ok(applied) => {
                let before = self.state.weight;
                self.state = applied.state;
                self.arm(at, before, applied.entries.iter().any(|entry| entry.what == What::Started));
                self.story.extend(applied.entries.into_iter().map(|entry| (at, Replayed::Decided(entry))));
            }
            Err(refused) => self.story.push((at, Replayed::Refused(refused))),
        }
    }

    /// What is looked at begins anew where it does in a live rollout.
    fn arm(&mut self, at: Duration, before: Weight, began: bool) {
        if began {
            self.memory = Memory::default();
        }
        if !self.state.is_under_way() {
            self.judged = None;
            return;
        }
        let from_nothing = before == Weight::ZERO && self.state.weight > Weight::ZERO;
        match &mut self.judged {
            Some(judged) if !began && !from_nothing => {
                if before != self.state.weight {
                    judged.evidence.weights_changed();
                }
            }
            judged => {
                let evidence = Evidence::new(at, self.totals.clone(), self.plan.warm_up);
                *judged = Some(Judged { evidence, watches: sustained::watches(self.plan), others_fail: false });
            }
        }
    }
}

fn find<'v>(verdicts: &'v [Verdict], check: &Check) -> Option<&'v Verdict> {
    verdicts.iter().find(|verdict| verdict.check == check.name)
}

/// What was found then. What was not recorded decides nothing.
fn as_it_was(check: &Check, found: Option<&Verdict>) -> Verdict {
    match found {
        Some(found) => Verdict {
            dry_run: check.dry_run,
            sentence: format!("{} (taken as it was)", found.sentence),
            ..found.clone()
        },
        None => Verdict {
            check: check.name.clone(),
            dry_run: true,
            sentence: format!("{}: not recorded", check.name),
            ..Verdict::default()
        },
    }
}

#[cfg(test)]
mod tests;
