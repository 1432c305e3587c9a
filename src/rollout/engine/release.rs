//! What the file, a restart and an operator's `start` change: which version is rolled out, and by which plan.

use std::time::Duration;

use super::Reaction;
use super::commands::{CommandRefused, Verb, command_sentence};
use super::history::{By, Progress, What};
use super::rollback::transition;
use super::state::{Failed, PausedFrom, Phase, RolloutTarget, Stage, Times, WaitingFor};
use crate::model::{Name, Weight};
use crate::rollout::alerts::{Severity, Transition};

impl Reaction<'_> {
    /// The file asks for `target`.
    pub(super) fn release(&mut self, target: RolloutTarget) {
        let Some(stable) = self.state.stable.clone() else {
            let why = format!("{} is the first version seen → it serves", target.version);
            return self.serve(target, &why);
        };
        if self.state.desired.as_ref() == Some(&target) {
            return;
        }
        let desired = self.state.desired.replace(target.clone()).filter(|old| old.version == target.version);
        if target.version == stable.version {
            self.state.stable = Some(target);
            return if desired.is_some() { self.still_named() } else { self.named_stable() };
        }
        let under_way = self.state.is_under_way();
        // The file asks for nothing new: its version became another, and only what failed, or is being tried, is begun.
        if let Some(old) = desired
            && !(under_way && self.state.canary.as_ref() == Some(&old))
            && !self.state.failed_targets.iter().any(|failed| failed.target == old)
        {
            return self.still_named();
        }
        if under_way && self.state.canary.as_ref() == Some(&target) {
            let why = format!("the file asks for {} too", target.version);
            return self.note(By::File, What::Changed, self.before(), &why);
        }
        let failed = self.state.failed_targets.iter().find(|failed| failed.target == target).cloned();
        let Some(failed) = failed else {
            let why = format!("the file asks for {}", target.version);
            return self.begin(target, By::File, &why);
        };
        if under_way {
            self.abort(By::File, &format!("the file asks for {}", target.version), false);
        }
        let before = self.before();
        let why =
            format!("{} failed before and has not changed ({}) → not tried; `retry` does", target.version, failed.why);
        self.state.canary = Some(target);
        self.enter(failed.ended.into());
        self.write(By::File, What::NotTried, before, &why);
        self.alert(transition(failed.ended), Severity::Warning, &why);
    }

    /// The version that the file named before became another, and that is no reason to do anything.
    fn still_named(&mut self) {
        let name = self.state.desired.as_ref().map_or("the release", |desired| &*desired.version);
        let why = format!("{name} changed, and the file asks for it as before");
        self.note(By::File, What::Changed, self.before(), &why);
    }

    /// There is nothing to come from: `target` serves everything.
    fn serve(&mut self, target: RolloutTarget, why: &str) {
        let before = self.before();
        self.cancel_hooks();
        self.superseded(before.weight, why);
        self.state.stable = Some(target.clone());
        self.state.desired = Some(target);
        self.state.canary = None;
        self.over_with(Stage::Idle);
        self.settle();
        self.write(By::File, What::Served, before, why);
    }

    /// What serves now is where the rollout starts: the canary keeps its weight, and stands at the step of that weight, or
    /// before the first step above it.
    pub(super) fn adopted(&mut self, stable: RolloutTarget, canary: RolloutTarget, weight: Weight) {
        if self.state.stable.is_some() || weight == Weight::ZERO {
            return;
        }
        let before = self.before();
        let why = format!(
            "the file asks for {}, which has {weight} % already: {} → {}, on from there",
            canary.version, stable.version, canary.version
        );
        self.state.stable = Some(stable);
        self.state.desired = Some(canary.clone());
        self.state.canary = Some(canary);
        let steps = &self.plan.steps;
        let below = steps.iter().take_while(|step| step.weight < weight).count();
        let stands = steps.get(below).is_some_and(|step| step.weight == weight);
        self.state.taken = below.saturating_add(usize::from(stands));
        self.forget_evidence();
        self.enter(Stage::Progressing);
        self.set_weight(weight);
        self.write(By::File, What::Started, before, &why);
        self.alert(Transition::Started, Severity::Info, &why);
    }

    /// The file names `target` as stable, and nothing else shows it. What was under way went from a version that is no
    /// longer there, and has not failed.
    pub(super) fn named(&mut self, target: RolloutTarget) {
        let version = target.version.clone();
        let why = match &self.state.stable {
            None => format!("no state is known, and the file says `stable: {version}` → it serves"),
            Some(old) if old.version == version => return,
            Some(old) => {
                format!("{} is no longer in the file, which says `stable: {version}` → it serves", old.version)
            }
        };
        self.state.previous = None;
        self.serve(target, &why);
    }

    /// The file asks for what is stable: whatever is under way ends, and has not failed.
    fn named_stable(&mut self) {
        let why = format!("the file asks for {} again", self.stable());
        match self.state.phase() {
            Phase::Waiting | Phase::Progressing | Phase::Baking | Phase::Promoting | Phase::Paused => {
                self.abort(By::File, &why, false);
            }
            Phase::RolledBack | Phase::Aborted => {
                let before = self.before();
                self.state.canary = None;
                self.enter(Stage::Idle);
                self.write(By::File, What::Changed, before, &why);
            }
            Phase::RollingBack | Phase::Idle | Phase::Succeeded => {
                self.note(By::File, What::Changed, self.before(), &why)
            }
        }
    }

    /// An operator asks for `target`.
    pub(super) fn start(&mut self, target: RolloutTarget, by: String, reason: &str) -> Result<(), CommandRefused> {
        self.may(Verb::Start)?;
        match &self.state.stable {
            None => return Err(self.refuse(Verb::Start, "no version is stable yet: the file names the first")),
            Some(stable) if stable.version == target.version => {
                return Err(self.refuse(Verb::Start, format!("{} is stable and serves already", target.version)));
            }
            Some(_) => {}
        }
        let failed = self.state.failed_targets.iter().find(|failed| failed.target == target);
        if let (Some(failed), true) = (failed, self.state.canary.as_ref() == Some(&target)) {
            let reason =
                format!("{} failed and has not changed ({}): `retry` tries it again", target.version, failed.why);
            return Err(self.refuse(Verb::Start, reason));
        }
        self.state.failed_targets.retain(|failed| failed.target != target);
        let why = command_sentence(Verb::Start, &by, reason);
        self.begin(target, By::Operator(by), &why);
        Ok(())
    }

    /// A rollout of `target` begins: what was under way loses its weight first, and nothing moves until both versions
    /// are seen to be usable.
    pub(super) fn begin(&mut self, target: RolloutTarget, by: By, why: &str) {
        let before = self.before();
        let mut instead = String::new();
        if self.state.is_under_way() {
            self.set_weight(Weight::ZERO);
            instead = format!(", in the place of {} at {} %", self.canary(), before.weight);
        }
        self.cancel_hooks();
        self.superseded(before.weight, why);
        self.start_over();
        let why = format!("{why}: {} → {}{instead}", self.stable(), target.version);
        self.state.canary = Some(target);
        self.state.weight = Weight::ZERO;
        self.forget_evidence();
        self.enter(Stage::Waiting(WaitingFor::Health));
        self.write(by, What::Started, before, &why);
        self.alert(Transition::Started, Severity::Info, &why);
    }

    /// The canary has other endpoints, and what was seen is of those before. Its step begins anew: from nothing, and once
    /// they are seen to listen.
    pub(super) fn replaced(&mut self) {
        let stage = match self.state.stage {
            Stage::Paused { both_bad, .. } => Stage::Paused { from: PausedFrom::Waiting(WaitingFor::Health), both_bad },
            stage if stage.pausable().is_some() => Stage::Waiting(WaitingFor::Health),
            _ => return,
        };
        let (before, why) = (self.before(), format!("{} has other endpoints", self.canary()));
        if before.weight == Weight::ZERO {
            return self.note(By::File, What::Changed, before, &why);
        }
        self.set_weight(Weight::ZERO);
        let taken = self.state.taken.saturating_sub(1);
        self.cancel_hooks();
        self.start_over();
        self.state.taken = taken;
        self.forget_evidence();
        self.state.stage = stage;
        let sentence = format!("{why} → its step at {} % begins anew once they accept connections", before.weight);
        self.write(By::File, What::Changed, before, &sentence);
    }

    /// Nothing is known of the canary yet.
    fn forget_evidence(&mut self) {
        self.state.failures = Failed::default();
        self.state.verdicts.clear();
        self.state.times = Times { clock: self.state.times.clock, ..Times::default() };
    }

    /// Something else takes the place of a rollout that is under way, with `weight` at its canary. It has not failed.
    fn superseded(&mut self, weight: Weight, why: &str) {
        let phase = match self.state.phase() {
            Phase::RollingBack => Phase::RolledBack,
            phase if phase.is_under_way() => Phase::Aborted,
            _ => return,
        };
        let at = Progress { phase, weight: Weight::ZERO, ..self.progress() };
        let sentence = format!("{why} → the rollout of {} is superseded at {weight} %", self.canary());
        self.alert_at(at.clone(), Transition::Superseded, Severity::Info, &sentence);
        self.call_after(&at);
    }

    /// Another plan: the canary keeps its weight, and stands at the last step that is not above it.
    pub(super) fn plan_changed(&mut self) {
        if !self.state.is_under_way() {
            return;
        }
        let before = self.before();
        let (weight, steps) = (self.state.weight, &self.plan.steps);
        let current = self.state.taken.checked_sub(1).and_then(|index| steps.get(index));
        let stands = current.is_some_and(|step| step.weight == weight);
        let finished = weight == Weight::FULL && self.state.taken > 0 && self.state.phase() != Phase::Progressing;
        if finished {
            self.state.taken = steps.len();
        } else if !stands && weight > Weight::ZERO {
            self.state.taken = steps.iter().take_while(|step| step.weight <= weight).count();
        } else if !stands {
            self.state.taken = 0;
        }
        self.cancel_hooks();
        self.state.times.step = Duration::ZERO;
        // A timeout that is new must not have run out before anybody could know of it.
        (self.state.times.gate, self.state.times.hook) = (Duration::ZERO, Duration::ZERO);
        match self.state.stage {
            Stage::Waiting(WaitingFor::Hook(_)) => self.rest(),
            Stage::Waiting(WaitingFor::Gate) => {
                let current = self.state.taken.checked_sub(1).and_then(|index| steps.get(index));
                if current.is_none_or(|step| step.gate.is_none()) {
                    self.rest();
                }
            }
            _ => {}
        }
        let why = format!("the plan changed; it goes on from {weight} %");
        self.write(By::File, What::Changed, before, &why);
    }

    /// The process came back: what was is published again, and its hold begins anew.
    pub(super) fn restored(&mut self) {
        let before = self.before();
        self.restore_after();
        if !self.state.is_under_way() {
            return self.settle();
        }
        self.state.times.step = Duration::ZERO;
        // What is usable may not be known yet: both have their interval anew.
        (self.state.times.canary_down, self.state.times.stable_down) = (None, None);
        self.state.calls.retain(|call| call.accepted == Some(true));
        self.publish_weight();
        let why = format!("restarted; it goes on from {} %", self.state.weight);
        self.note(By::Restart, What::Restored, before, &why);
    }

    /// Versions are no longer in the file.
    pub(super) fn gone(&mut self, versions: &[Name]) {
        let is_gone =
            |target: &Option<RolloutTarget>| target.as_ref().is_some_and(|target| versions.contains(&target.version));
        if is_gone(&self.state.previous) {
            self.state.previous = None;
            self.note(By::File, What::Changed, self.before(), "the version before is no longer in the file");
        }
        let (stable, canary) = (is_gone(&self.state.stable), is_gone(&self.state.canary));
        let under_way = self.state.is_under_way();
        match (stable, canary) {
            (false, false) => {}
            (false, true) if under_way => {
                let why = format!("{} is no longer in the file", self.canary());
                self.abort(By::File, &why, false);
                self.state.canary = None;
            }
            (false, true) => {
                let why = format!("{} is no longer in the file", self.canary());
                self.state.canary = None;
                self.note(By::File, What::Changed, self.before(), &why);
            }
            (true, false) if under_way => self.only_canary_left(),
            (true, _) => {
                let before = self.before();
                let why = format!("{} is no longer in the file", self.stable());
                self.cancel_hooks();
                self.superseded(before.weight, &why);
                self.over_with(Stage::Idle);
                self.state.stable = None;
                self.state.desired = None;
                self.state.canary = None;
                self.write(By::File, What::Changed, before, &why);
            }
        }
    }

    /// There is no way back any more: the canary is all that is left.
    fn only_canary_left(&mut self) {
        let before = self.before();
        let at = Progress { phase: Phase::Aborted, weight: Weight::FULL, ..self.progress() };
        let old = self.stable();
        self.state.stable = self.state.canary.take();
        self.state.previous = None;
        self.cancel_hooks();
        self.over_with(Stage::Aborted);
        self.settle();
        let why =
            format!("{old} is no longer in the file → {} is all that is left and serves everything", self.stable());
        self.write(By::File, What::Changed, before, &why);
        self.alert_at(at.clone(), Transition::Aborted, Severity::Critical, &why);
        self.call_after(&at);
    }
}
