//! The ways back, and standing still: roll back, abort, freeze, pause.
//!
//! Invariant: nothing here raises the canary's weight.

use std::time::Duration;

use super::Reaction;
use super::history::{By, Effect, What};
use super::state::{Bake, FailedTarget, MAX_FAILED_TARGETS, PausedFrom, Phase, Stage, WaitingFor, WentBack};
use crate::model::Weight;
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::Rollback;

impl Reaction<'_> {
    /// The analysis sends everything back, as the plan says; but not to a stable version that is no better off.
    pub(super) fn roll_back(&mut self, by: By, why: &str) {
        if self.seen.stable_available == 0 {
            return self.freeze(by, &format!("{why}; but {} has no available endpoint", self.stable()));
        }
        match self.plan.rollback {
            Rollback::Ramp(over) if !over.is_zero() && self.state.weight > Weight::ZERO => {
                let before = self.before();
                let sentence = format!("{why} → roll back over {over:?}");
                self.state.times.ramp = Duration::ZERO;
                self.remember_failed(WentBack::RolledBack, &sentence);
                self.cancel_hooks();
                self.enter(Stage::RollingBack { from: self.state.weight });
                self.write(by, What::WentBack, before, &sentence);
                self.alert(Transition::RolledBack, Severity::Error, &sentence);
            }
            _ => self.back_at_once(by, WentBack::RolledBack, &format!("{why} → roll back")),
        }
    }

    /// A step down the ramp; at its end the rollout is over.
    pub(super) fn ramp(&mut self, from: Weight) {
        let over = match self.plan.rollback {
            Rollback::Ramp(over) => over,
            Rollback::Immediate => Duration::ZERO,
        };
        let gone = self.state.times.ramp;
        let left = over.saturating_sub(gone).as_millis();
        let share = u128::from(from.basis_points()) * left / over.as_millis().max(1);
        let weight = u16::try_from(share).ok().and_then(Weight::from_basis_points).unwrap_or_default();
        if weight == Weight::ZERO || gone >= over {
            let why = self.state.reason.clone();
            return self.finish(By::Judge, WentBack::RolledBack, &why, None);
        }
        if weight < self.state.weight {
            let before = self.before();
            self.set_weight(weight);
            let why = format!("the ramp back is at {weight} %");
            self.note(By::Judge, What::WentBack, before, &why);
        }
    }

    /// Everything to stable in one snapshot; the target is not tried again by itself.
    fn back_at_once(&mut self, by: By, ended: WentBack, sentence: &str) {
        self.remember_failed(ended, sentence);
        let severity = if ended == WentBack::RolledBack { Severity::Error } else { Severity::Warning };
        self.finish(by, ended, sentence, Some(severity));
    }

    /// An operator, a gate or the file ends the rollout: everything to stable in one snapshot. `failed`: the target is
    /// not tried again by itself. What goes back by the analysis stays rolled back, only sooner.
    pub(super) fn abort(&mut self, by: By, why: &str, failed: bool) {
        if self.state.phase() == Phase::RollingBack {
            return self.finish(by, WentBack::RolledBack, &format!("{why} → at once"), Some(Severity::Warning));
        }
        let sentence = format!("{why} → abort");
        if failed {
            self.back_at_once(by, WentBack::Aborted, &sentence);
        } else {
            self.finish(by, WentBack::Aborted, &sentence, Some(Severity::Warning));
        }
    }

    /// The canary to 0, stable settled, hooks notified that it is over.
    fn finish(&mut self, by: By, ended: WentBack, sentence: &str, severity: Option<Severity>) {
        let before = self.before();
        self.set_weight(Weight::ZERO);
        self.settle();
        self.cancel_hooks();
        self.over_with(ended.into());
        self.write(by, What::WentBack, before, sentence);
        // A ramp's alert was sent when it began; receivers are notified of its end too, but nobody is hurt.
        self.alert(transition(ended), severity.unwrap_or(Severity::Info), sentence);
        self.call_after(&self.progress());
    }

    /// Enters a stage in which no rollout is under way.
    pub(super) fn over_with(&mut self, stage: Stage) {
        self.state.weight = Weight::ZERO;
        self.start_over();
        self.enter(stage);
    }

    /// Forgets how far the steps had come.
    pub(super) fn start_over(&mut self) {
        let state = &mut self.state;
        state.taken = 0;
        state.bake = Bake::Ahead;
        state.approved = false;
        state.notified_unwritable = false;
        state.cleared.clear();
    }

    /// Both versions are bad: nothing moves, and somebody is paged. The canary is not blamed.
    pub(super) fn freeze(&mut self, by: By, why: &str) {
        if self.state.is_frozen() {
            return;
        }
        let sentence = format!("{why} → freeze: both versions are bad, the canary is not to blame");
        if let Stage::Paused { from, .. } = self.state.stage {
            let before = self.before();
            self.state.stage = Stage::Paused { from, both_bad: true };
            self.write(by, What::Paused, before, &sentence);
            self.alert(Transition::Paused, Severity::Critical, &sentence);
            return;
        }
        self.stand_still(by, Severity::Critical, &sentence, true);
    }

    /// Nothing moves forward until an operator decides.
    pub(super) fn pause(&mut self, by: By, severity: Severity, why: &str) {
        self.stand_still(by, severity, why, false);
    }

    fn stand_still(&mut self, by: By, severity: Severity, why: &str, both_bad: bool) {
        let Some(from) = self.state.stage.pausable() else { return };
        let before = self.before();
        self.enter(Stage::Paused { from, both_bad });
        self.write(by, What::Paused, before, why);
        self.alert(Transition::Paused, severity, why);
    }

    /// The trip wire has taken the canary's traffic away: it is made lasting.
    pub(super) fn tripped(&mut self, why: &str, stable_fails_too: bool) {
        if !self.state.is_under_way() || self.state.weight == Weight::ZERO {
            return;
        }
        if self.state.phase() == Phase::RollingBack {
            return self.finish(By::TripWire, WentBack::RolledBack, &format!("{why} → at once"), Some(Severity::Error));
        }
        if self.seen.stable_available > 0 && !stable_fails_too {
            return self.back_at_once(By::TripWire, WentBack::RolledBack, &format!("{why} → roll back"));
        }
        // Raising the weight again would be the canary's blame of stable: it stays at 0, and begins anew from there.
        let before = self.before();
        self.set_weight(Weight::ZERO);
        self.start_over();
        self.cancel_hooks();
        self.enter(Stage::Paused { from: PausedFrom::Waiting(WaitingFor::Health), both_bad: true });
        let stable = self.stable();
        let sentence = if stable_fails_too {
            format!("{why}; and {stable} fails as well → freeze at 0 %, it is not the canary")
        } else {
            format!("{why}; and {stable} has no available endpoint → freeze at 0 %")
        };
        self.write(By::TripWire, What::Paused, before, &sentence);
        self.alert(Transition::Paused, Severity::Critical, &sentence);
    }

    /// A condition held all its time.
    pub(super) fn sustained(&mut self, sentence: &str) {
        let going_back = self.state.phase() == Phase::RollingBack;
        if self.state.is_under_way() && !going_back && self.state.weight > Weight::ZERO {
            self.roll_back(By::Judge, sentence);
        }
    }

    /// Remembers that the canary is not to be tried again by itself.
    pub(super) fn remember_failed(&mut self, ended: WentBack, why: &str) {
        let Some(target) = self.state.canary.clone() else { return };
        self.state.failed_targets.retain(|failed| failed.target.version != target.version);
        if self.state.failed_targets.len() >= MAX_FAILED_TARGETS {
            self.state.failed_targets.remove(0);
        }
        self.state.failed_targets.push(FailedTarget { target, ended, why: super::short(why) });
    }

    /// Calls that were made no longer matter.
    pub(super) fn cancel_hooks(&mut self) {
        self.state.cleared.clear();
        self.state.notified_refused = false;
        if !self.state.calls.is_empty() {
            self.state.calls.clear();
            self.effects.push(Effect::CancelHooks);
        }
    }
}

/// The alert of a rollout that went back.
pub(super) const fn transition(ended: WentBack) -> Transition {
    match ended {
        WentBack::RolledBack => Transition::RolledBack,
        WentBack::Aborted => Transition::Aborted,
    }
}
