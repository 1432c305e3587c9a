//! The way forward: a tick, and the one step that it may take.
//!
//! Where the rollout stands follows from the steps taken, the weight and whether the bake is over, not from the phase:
//! so a wait or a pause in between loses nothing.

use std::time::Duration;

use super::history::{By, Progress, What};
use super::state::{Bake, Phase, Stage, WaitingFor};
use super::{Listening, Reaction};
use crate::model::Weight;
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::{Gate, GateDefault, HookPoint};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextMove {
    /// The step with this index.
    Step(usize),
    /// Everything to the canary, because the last step is below that.
    Full,
    /// The bake.
    Bake,
    /// The last analysis run before the canary is the stable version.
    Promote,
    /// The canary is the stable version.
    Succeed,
}

/// The most that an analysis run may come early and still end a hold. Timers are not exact, and a hold should not last
/// another whole interval for a millisecond.
const EARLY: Duration = Duration::from_millis(500);

impl Reaction<'_> {
    /// Time has passed, and perhaps the checks were evaluated.
    pub(super) fn tick(&mut self) {
        match self.state.stage {
            Stage::Idle | Stage::Succeeded | Stage::RolledBack | Stage::Aborted => return,
            Stage::RollingBack { from } => return self.ramp(from),
            Stage::Waiting(_) | Stage::Progressing | Stage::Baking | Stage::Promoting | Stage::Paused { .. } => {}
        }
        let may_go = if self.state.weight == Weight::ZERO { self.may_begin() } else { self.may_go_on() };
        if self.state.stage == Stage::Waiting(WaitingFor::Gate) {
            self.gate_timeout();
        }
        if may_go && self.state.stage.pausable().is_some() {
            self.forward();
        }
        if let Stage::Waiting(WaitingFor::Hook(when)) = self.state.stage {
            self.hook_timeout(when);
        }
    }

    /// Without weight there is nothing to judge, but both versions must be able to take traffic.
    fn may_begin(&mut self) -> bool {
        if self.state.phase() == Phase::Paused {
            return false;
        }
        // What is wrong with its endpoints says more than that none is available.
        if let Listening::Refuses(why) = &self.seen.listening {
            self.hold_anew(&format!("{}: {why}", self.canary()));
            return false;
        }
        let sick = if self.seen.canary_available == 0 { self.canary() } else { self.stable() };
        if self.seen.canary_available == 0 || self.seen.stable_available == 0 {
            self.hold_anew(&format!("{sick} has no available endpoint"));
            return false;
        }
        // The answer is about to come.
        if self.seen.listening == Listening::Unknown {
            return false;
        }
        self.state.times.holding = None;
        self.state.times.stable_down = None;
        true
    }

    /// With weight: health first, then the hooks that watch, then the checks.
    fn may_go_on(&mut self) -> bool {
        let seen = self.seen;
        let stable_needed = self.state.phase() != Phase::Promoting;
        if seen.canary_available > 0 {
            self.state.times.canary_down = None;
        }
        if seen.stable_available > 0 || !stable_needed {
            self.state.times.stable_down = None;
        }
        if seen.stable_available == 0 && stable_needed {
            self.stable_is_down();
            return false;
        }
        if seen.canary_available == 0 {
            self.canary_is_down();
            return false;
        }
        let Some(verdicts) = &seen.verdicts else { return false };
        self.call_due(HookPoint::DemandRollback);
        self.call_due(HookPoint::During);
        self.analyze(verdicts)
    }

    /// Takes the next step, if its time has come and nothing is waited for.
    fn forward(&mut self) {
        if !self.over(self.state.times.step, self.dwell()) {
            return;
        }
        if let Some(gate) = self.closed_gate() {
            let until = gate.timeout.map_or_else(String::new, |timeout| format!(" within {timeout:?}"));
            let why = format!("{} % passed; an operator must approve what comes next{until}", self.state.weight);
            return self.wait_for(WaitingFor::Gate, &why);
        }
        if self.seen.unwritable {
            return self.hold_unwritable();
        }
        let written = self.entries.len();
        if self.state.stage == Stage::Baking {
            self.state.bake = Bake::Over;
        }
        match self.next() {
            NextMove::Step(index) => {
                let first = index == 0 && self.state.weight == Weight::ZERO;
                if (!first || self.cleared(HookPoint::BeforeStart)) && self.cleared(HookPoint::BeforeStep) {
                    self.step(index);
                }
            }
            NextMove::Full if self.cleared(HookPoint::BeforePromote) => {
                self.state.taken = self.plan.steps.len();
                self.move_to(Stage::Promoting, "the last step passed");
            }
            NextMove::Bake => self.move_to(Stage::Baking, "the old version stays warm while the checks go on"),
            NextMove::Promote if self.cleared(HookPoint::BeforePromote) => {
                self.move_to(Stage::Promoting, "one more analysis run before it is stable");
            }
            NextMove::Full | NextMove::Promote => {}
            NextMove::Succeed => self.succeed(),
        }
        if self.entries.len() > written {
            self.state.notified_unwritable = false;
        }
    }

    fn next(&self) -> NextMove {
        let state = &self.state;
        let bakes = !state.bake.is_over() && !self.plan.bake.is_zero();
        match state.phase() {
            Phase::Promoting if bakes => NextMove::Bake,
            Phase::Promoting => NextMove::Succeed,
            _ if state.taken < self.plan.steps.len() => NextMove::Step(state.taken),
            _ if state.weight < Weight::FULL => NextMove::Full,
            _ if bakes => NextMove::Bake,
            _ => NextMove::Promote,
        }
    }

    /// How long the rollout stays where it stands, at least.
    fn dwell(&self) -> Duration {
        let state = &self.state;
        let current = state.taken.checked_sub(1).and_then(|index| self.plan.steps.get(index));
        match (state.phase(), current) {
            (Phase::Promoting, _) => self.plan.interval,
            _ if state.bake.is_over() || state.weight == Weight::ZERO => Duration::ZERO,
            (Phase::Baking, _) => self.plan.bake.max(self.plan.interval),
            (_, Some(step)) => step.hold.max(self.plan.interval),
            _ => self.plan.interval,
        }
    }

    /// Whether something that lasted so long has lasted `needed`.
    pub(super) fn over(&self, lasted: Duration, needed: Duration) -> bool {
        lasted.saturating_add(EARLY.min(self.plan.interval / 10).min(needed / 2)) >= needed
    }

    /// The gate after the current step, if it is closed.
    fn closed_gate(&self) -> Option<Gate> {
        let state = &self.state;
        let passed = state.approved || state.bake.is_over() || state.weight == Weight::ZERO;
        let past = passed || matches!(state.phase(), Phase::Baking | Phase::Promoting);
        let current = state.taken.checked_sub(1).and_then(|index| self.plan.steps.get(index));
        current.and_then(|step| step.gate).filter(|_| !past)
    }

    /// What a gate does that nobody answers.
    fn gate_timeout(&mut self) {
        let Some(gate) = self.closed_gate() else { return };
        let Some(timeout) = gate.timeout.filter(|timeout| self.state.times.gate >= *timeout) else { return };
        let why = format!("nobody answered at the gate within {timeout:?}");
        match gate.default {
            GateDefault::Abort => self.abort(By::Judge, &why, true),
            GateDefault::Pause => self.pause(By::Judge, Severity::Warning, &format!("{why} → pause")),
            GateDefault::Approve => {
                let before = self.before();
                self.open_gate();
                self.write(By::Judge, What::Answered, before, &format!("{why} → approve"));
            }
        }
    }

    /// The way past the gate is free: the next analysis run that passes goes it.
    pub(super) fn open_gate(&mut self) {
        self.state.approved = true;
        self.rest();
    }

    /// Back from a wait to where the rollout stands.
    pub(super) fn rest(&mut self) {
        let state = &self.state;
        let stage = if state.bake.is_over() {
            Stage::Baking
        } else if state.weight == Weight::ZERO {
            Stage::Waiting(WaitingFor::Health)
        } else {
            Stage::Progressing
        };
        self.enter(stage);
    }

    /// The canary gets a step's weight; never less than it has.
    fn step(&mut self, index: usize) {
        let Some(step) = self.plan.steps.get(index) else { return };
        let before = self.before();
        let weight = step.weight.max(self.state.weight);
        self.state.taken = index.saturating_add(1);
        self.state.approved = false;
        self.moved_on();
        self.enter(Stage::Progressing);
        self.set_weight(weight);
        let why = format!("step {} of {} → {weight} %", self.state.taken, self.plan.steps.len());
        self.write(By::Judge, What::Stepped, before, &why);
        self.alert(Transition::Step, Severity::Info, &why);
    }

    /// The canary has everything, in `stage`.
    fn move_to(&mut self, stage: Stage, why: &str) {
        let before = self.before();
        self.moved_on();
        self.enter(stage);
        if self.state.weight < Weight::FULL {
            self.set_weight(Weight::FULL);
        }
        self.write(By::Judge, What::Moved, before, why);
        let transition = if stage == Stage::Baking { Transition::Baking } else { Transition::Step };
        self.alert(transition, Severity::Info, why);
    }

    /// The canary is the stable version.
    fn succeed(&mut self) {
        let before = self.before();
        let at = Progress { phase: Phase::Succeeded, ..self.progress() };
        let Some(target) = self.state.canary.take() else { return };
        self.state.failed_targets.retain(|failed| failed.target.version != target.version);
        self.state.previous = self.state.stable.replace(target);
        self.cancel_hooks();
        self.over_with(Stage::Succeeded);
        self.settle();
        let why = format!("{} is stable now and has everything", self.stable());
        self.write(By::Judge, What::Promoted, before, &why);
        self.alert_at(at.clone(), Transition::Succeeded, Severity::Info, &why);
        self.call_after(&at);
    }

    /// Waits; notifies once.
    pub(super) fn wait_for(&mut self, what: WaitingFor, why: &str) {
        if self.state.stage == Stage::Waiting(what) {
            return;
        }
        let before = self.before();
        self.enter(Stage::Waiting(what));
        (self.state.times.gate, self.state.times.hook) = (Duration::ZERO, Duration::ZERO);
        self.write(By::Judge, What::Waited, before, why);
        if what == WaitingFor::Gate {
            self.alert(Transition::Waiting, Severity::Warning, why);
        }
    }

    /// The step passed, but its successor could not be remembered.
    fn hold_unwritable(&mut self) {
        if !self.state.notified_unwritable {
            self.state.notified_unwritable = true;
            let before = self.before();
            let why = format!("the state cannot be written → hold at {} %: free the disk", self.state.weight);
            self.write(By::Judge, What::Held, before, &why);
            self.alert(Transition::StoreError, Severity::Critical, &why);
        }
    }

    /// Enters `stage`; what belonged to the one before is over.
    pub(super) fn enter(&mut self, stage: Stage) {
        let state = &mut self.state;
        if state.phase() == Phase::Paused {
            // Nobody promised anything for the time of a pause.
            state.times.step = Duration::ZERO;
        }
        state.stage = stage;
        state.times.holding = None;
    }

    /// The rollout stands somewhere new: its time and its hooks begin anew. The promotion's are asked once.
    pub(super) fn moved_on(&mut self) {
        let state = &mut self.state;
        state.times.step = Duration::ZERO;
        state.times.gate = Duration::ZERO;
        state.times.canary_down = None;
        state.notified_refused = false;
        state.cleared.retain(|when| *when == HookPoint::BeforePromote);
        state.calls.retain(|call| matches!(call.when, HookPoint::During | HookPoint::DemandRollback));
    }
}
