//! An analysis run: what the verdicts of all checks together mean, and the limits for analysis runs that failed.
//!
//! ```text
//! a check that decides failed, and stable does not fail it too     → fail; back at once if that is conclusive
//! else one failed on both sides                                    → both bad
//! else one is suspect, warms up, has an error or no data           → hold
//! else                                                             → pass
//! ```

use super::Reaction;
use super::history::{By, What};
use super::state::{Bake, Stage};
use crate::model::Weight;
use crate::rollout::alerts::Severity;
use crate::rollout::plan::NoData;
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// What an analysis run means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Analysis {
    /// The next step may be taken.
    Pass,
    /// Nothing can be said, for this reason.
    Hold(String),
    /// The canary is bad, for this reason.
    Fail {
        why: String,
        /// No other failed analysis run is waited for.
        conclusive: bool,
    },
    /// Both versions are bad, for this reason.
    BothBad(String),
}

impl Reaction<'_> {
    /// Judges the verdicts, counts, and goes back where a limit is reached. Whether the rollout may go forward.
    pub(super) fn analyze(&mut self, verdicts: &[Verdict]) -> bool {
        // More verdicts than checks cannot be; the state stays bounded all the same.
        self.state.verdicts = verdicts.iter().take(MAX_VERDICTS).cloned().collect();
        let analysis = self.classify(verdicts);
        let before = self.before();
        match analysis {
            Analysis::Pass => {
                let failed = std::mem::take(&mut self.state.failures.consecutive) > 0;
                let held = self.state.times.holding.take().is_some();
                if (failed || held) && matches!(self.state.stage, Stage::Progressing | Stage::Baking | Stage::Promoting)
                {
                    // What it held for, or failed by, is no longer so.
                    "every check passed".clone_into(&mut self.state.reason);
                }
                self.note(By::Judge, What::Analyzed, before, "every check passed");
                true
            }
            Analysis::Hold(why) => {
                self.note(By::Judge, What::Analyzed, before, &format!("{why} → hold"));
                if matches!(self.state.stage, Stage::Progressing | Stage::Baking | Stage::Promoting) {
                    if self.state.bake == Bake::EndedByOperator {
                        return true;
                    }
                    self.hold(&why);
                }
                false
            }
            Analysis::BothBad(why) => {
                self.note(By::Judge, What::Analyzed, before, &why);
                self.freeze(By::Judge, &why);
                false
            }
            Analysis::Fail { why, conclusive } => {
                self.failed(&why, conclusive);
                false
            }
        }
    }

    /// Counts a failed analysis run, and tests the limits at once.
    fn failed(&mut self, why: &str, conclusive: bool) {
        let before = self.before();
        self.state.times.holding = None;
        let failures = &mut self.state.failures;
        failures.total = failures.total.saturating_add(1);
        failures.consecutive = failures.consecutive.saturating_add(1);
        let (failures, limits) = (*failures, self.plan.failures);
        self.note(By::Judge, What::Analyzed, before, &format!("{why}; failed analysis run {}", failures.total));
        if conclusive {
            self.roll_back(By::Judge, why);
        } else if let Some(limit) = limits.consecutive.filter(|limit| failures.consecutive >= *limit) {
            self.roll_back(
                By::Judge,
                &format!("{why}; failed analysis run {} of {limit} in a row", failures.consecutive),
            );
        } else if let Some(limit) = limits.total.filter(|limit| failures.total >= *limit) {
            self.roll_back(By::Judge, &format!("{why}; failed analysis run {} of {limit}", failures.total));
        } else {
            self.state.reason = super::short(&format!(
                "{why}; failed analysis run {} → stay at {} %",
                failures.total, self.state.weight
            ));
        }
    }

    /// What the verdicts mean together.
    fn classify(&self, verdicts: &[Verdict]) -> Analysis {
        let (mut failed, mut both, mut unsure) = (Vec::new(), Vec::new(), Vec::new());
        let mut conclusive = false;
        for verdict in verdicts.iter().filter(|verdict| self.decides(verdict)) {
            match self.means(verdict) {
                CheckOutcome::Pass => {}
                CheckOutcome::Fail if verdict.stable_fails_too => both.push(verdict.sentence.as_str()),
                CheckOutcome::Fail => {
                    failed.push(verdict.sentence.as_str());
                    conclusive |= verdict.conclusive;
                }
                CheckOutcome::Suspect | CheckOutcome::WarmingUp | CheckOutcome::NoData | CheckOutcome::Error => {
                    unsure.push(verdict.sentence.as_str());
                }
            }
        }
        let missing = self
            .plan
            .checks
            .iter()
            .find(|check| !check.dry_run && !verdicts.iter().any(|verdict| verdict.check == check.name));
        if !failed.is_empty() {
            Analysis::Fail { why: joined(&failed), conclusive }
        } else if !both.is_empty() {
            Analysis::BothBad(joined(&both))
        } else if !unsure.is_empty() {
            Analysis::Hold(joined(&unsure))
        } else if let Some(check) = missing {
            Analysis::Hold(format!("{}: no verdict", check.name))
        } else {
            Analysis::Pass
        }
    }

    /// Whether the verdict decides: neither the judge nor the plan calls its check a dry run.
    fn decides(&self, verdict: &Verdict) -> bool {
        let dry = self.plan.checks.iter().any(|check| check.name == verdict.check && check.dry_run);
        !verdict.dry_run && !dry
    }

    /// The outcome, with what the plan makes of too little data.
    fn means(&self, verdict: &Verdict) -> CheckOutcome {
        if verdict.outcome != CheckOutcome::NoData {
            return verdict.outcome;
        }
        let own = self.plan.checks.iter().find(|check| check.name == verdict.check).and_then(|check| check.no_data);
        match own.unwrap_or(self.plan.no_data) {
            NoData::Hold => CheckOutcome::NoData,
            NoData::Pass => CheckOutcome::Pass,
            NoData::Fail => CheckOutcome::Fail,
        }
    }

    /// Nothing can be said: the rollout stays where it is, and pauses if that lasts too long.
    pub(super) fn hold(&mut self, why: &str) {
        match self.state.times.holding {
            None => {
                self.state.times.holding = Some(std::time::Duration::ZERO);
                let before = self.before();
                self.write(By::Judge, What::Held, before, &format!("{why} → hold at {} %", self.state.weight));
            }
            Some(lasted) if lasted >= self.plan.max_hold => {
                let sentence = format!("{why}; held for {:?}, the plan's max_hold → pause", self.plan.max_hold);
                self.pause(By::Judge, Severity::Warning, &sentence);
            }
            Some(_) => {}
        }
    }

    /// As [`hold`](Self::hold), and says another reason where there is one: what is waited for is what an operator looks at.
    pub(super) fn hold_anew(&mut self, why: &str) {
        let sentence = super::short(&format!("{why} → hold at {} %", self.state.weight));
        if self.state.times.holding.is_some() && self.state.reason != sentence {
            self.write(By::Judge, What::Held, self.before(), &sentence);
        }
        self.hold(why);
    }

    /// A tick at which the canary has weight and stable no available endpoint: one interval's patience, then nothing
    /// moves until an operator decides.
    pub(super) fn stable_is_down(&mut self) {
        let why = format!("{} has no available endpoint", self.stable());
        match self.state.times.stable_down {
            None => {
                self.state.times.stable_down = Some(std::time::Duration::ZERO);
                let before = self.before();
                self.write(By::Judge, What::Held, before, &format!("{why} → hold at {} %", self.state.weight));
            }
            Some(lasted) if self.over(lasted, self.plan.interval) => {
                self.freeze(By::Judge, &format!("{why} for an interval"));
            }
            Some(_) => {}
        }
    }

    /// A tick at which the canary has weight and no available endpoint: one interval's patience, then back.
    pub(super) fn canary_is_down(&mut self) {
        let why = format!("{} has no available endpoint", self.canary());
        match self.state.times.canary_down {
            None => {
                self.state.times.canary_down = Some(std::time::Duration::ZERO);
                let before = self.before();
                self.write(By::Judge, What::Held, before, &format!("{why} → hold at {} %", self.state.weight));
            }
            Some(lasted) if self.over(lasted, self.plan.interval) && self.state.weight > Weight::ZERO => {
                self.roll_back(By::Judge, &format!("{why} for an interval"));
            }
            Some(_) => {}
        }
    }
}

/// Verdicts that are kept of one analysis run.
const MAX_VERDICTS: usize = 64;

/// The first sentence, and how many more checks say something.
fn joined(sentences: &[&str]) -> String {
    match sentences {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, _] => format!("{first} (and 1 more check)"),
        [first, rest @ ..] => format!("{first} (and {} more checks)", rest.len()),
    }
}
