//! Hooks: calling them at their points, and what their answers open.
//!
//! A hook that refuses is waited for: it is called again an interval after the call, which is at the next analysis
//! run. So is one whose answer is overdue, because an answer can be lost (a restart, a full queue) and a rollout must
//! not hang for it.
//!
//! A hook that is called `after` the end is called again until it accepts, a few times, and with a restart: a cleanup
//! that a crash swallows would never be made. So it may be called twice, with the same id.
//!
//! Invariant: at most one call for each of the plan's hooks is kept, and a bounded number of those after the end.

use std::time::Duration;

use super::Reaction;
use super::history::{By, Effect, Progress, What};
use super::state::{AfterCall, Call, MAX_AFTER_CALLS, Phase, Stage, WaitingFor};
use crate::model::Weight;
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::{Hook, HookPoint};

/// What an answer may take beyond the hook's own timeouts: back-off between tries, and a queue.
const GRACE: Duration = Duration::from_mins(1);

/// How often a hook is called after the end, each time with its own tries, until it accepts.
const MAX_CALLS_AFTER: u32 = 3;

/// How long the answer of `hook` can be on its way.
fn answer_timeout(hook: &Hook) -> Duration {
    hook.timeout.saturating_mul(hook.retries.saturating_add(1)).saturating_mul(2).saturating_add(GRACE)
}

impl Reaction<'_> {
    /// Whether every hook of `when` has accepted the next move. Calls those that were not yet, and waits.
    pub(super) fn cleared(&mut self, when: HookPoint) -> bool {
        if self.state.cleared.contains(&when) || !self.plan.hooks.iter().any(|hook| hook.when == when) {
            return true;
        }
        self.call_due(when);
        let accepted = |index: usize| {
            self.state.calls.iter().any(|call| call.hook == index && call.when == when && call.accepted == Some(true))
        };
        if self.plan.hooks.iter().enumerate().all(|(index, hook)| hook.when != when || accepted(index)) {
            self.clear(when);
            return true;
        }
        let why = format!("a hook `{}` is asked before it goes on", when.as_str());
        self.wait_for(WaitingFor::Hook(when), &why);
        false
    }

    /// Calls the hooks of `when` that were never called, refused an interval ago, or owe an answer.
    pub(super) fn call_due(&mut self, when: HookPoint) {
        for (index, hook) in self.plan.hooks.iter().enumerate().filter(|(_, hook)| hook.when == when) {
            let due = self.state.calls.iter().find(|call| call.hook == index).is_none_or(|call| match call.accepted {
                Some(accepted) => call.when != when || (!accepted && self.over(call.age, self.plan.interval)),
                None => call.age >= answer_timeout(hook),
            });
            if due {
                self.state.calls.retain(|call| call.hook != index);
                let id = self.call(index, when, self.progress());
                self.state.calls.push(Call { id, hook: index, when, age: Duration::ZERO, accepted: None });
            }
        }
    }

    /// Hooks that have not accepted for the plan's longest hold: an operator has to decide.
    pub(super) fn hook_timeout(&mut self, when: HookPoint) {
        let longest = self.plan.max_hold;
        if self.state.times.hook >= longest {
            let when = when.as_str();
            let sentence =
                format!("a hook `{when}` is asked and has not accepted for {longest:?}, the plan's max_hold → pause");
            self.pause(By::Judge, Severity::Warning, &sentence);
        }
    }

    /// The rollout is over, and stood there: calls the hooks that are to know.
    pub(super) fn call_after(&mut self, at: &Progress) {
        let (Some(stable), Some(canary)) = (&at.stable, &at.canary) else { return };
        for hook in 0..self.plan.hooks.len() {
            if self.is_after(hook) {
                let id = self.call(hook, HookPoint::After, at.clone());
                let (stable, canary) = (stable.clone(), canary.clone());
                let (phase, step, weight) = (at.phase, at.step, at.weight);
                self.state.after.push(AfterCall { id, hook, calls: 1, stable, canary, phase, step, weight });
            }
        }
        let beyond = self.state.after.len().saturating_sub(MAX_AFTER_CALLS);
        self.state.after.drain(..beyond);
    }

    /// Whether this is a hook of the plan, for after the end.
    fn is_after(&self, hook: usize) -> bool {
        self.plan.hooks.get(hook).is_some_and(|hook| hook.when == HookPoint::After)
    }

    /// Makes a call after the end once more, unless it was made often enough or the plan has no such hook any more.
    fn call_after_again(&mut self, mut call: AfterCall) -> bool {
        if call.calls >= MAX_CALLS_AFTER || !self.is_after(call.hook) {
            return false;
        }
        call.calls = call.calls.saturating_add(1);
        let at = Progress {
            stable: Some(call.stable.clone()),
            canary: Some(call.canary.clone()),
            phase: call.phase,
            step: call.step,
            weight: call.weight,
        };
        self.effects.push(Effect::CallHook { id: call.id, hook: call.hook, when: HookPoint::After, at });
        self.state.after.push(call);
        true
    }

    /// The process came back, and calls after the end may not have been made, or their answers were lost.
    pub(super) fn restore_after(&mut self) {
        let before = self.before();
        for call in std::mem::take(&mut self.state.after) {
            let again = self.call_after_again(call);
            let what = if again { "called again" } else { "given up" };
            self.note(By::Restart, What::Restored, before, &format!("restarted; a hook `after` is {what}"));
        }
    }

    /// A hook that was called after the end answered, or was given up.
    fn after_answered(&mut self, call: AfterCall, accepted: bool, text: &str) {
        let before = self.before();
        let what = if accepted {
            "accepts"
        } else if self.call_after_again(call) {
            "refuses, it is called again"
        } else {
            "refuses, it is given up"
        };
        let why =
            if text.is_empty() { format!("a hook `after` {what}") } else { format!("a hook `after` {what}: {text}") };
        self.note(By::Hook, What::Answered, before, &why);
    }

    fn call(&mut self, hook: usize, when: HookPoint, at: Progress) -> u64 {
        let id = self.state.next_call;
        self.state.next_call = id.wrapping_add(1);
        self.effects.push(Effect::CallHook { id, hook, when, at });
        id
    }

    /// The next move needs no more of the hooks of `when`.
    fn clear(&mut self, when: HookPoint) {
        self.state.calls.retain(|call| call.when != when);
        self.state.cleared.push(when);
        self.state.notified_refused = false;
    }

    /// An operator passes the hooks of `when`.
    pub(super) fn pass_hook(&mut self, when: HookPoint) {
        self.clear(when);
        self.rest();
    }

    /// A hook answered. Answers to calls that no longer matter are dropped.
    pub(super) fn answered(&mut self, id: u64, accepted: bool, text: &str) {
        if let Some(at) = self.state.after.iter().position(|call| call.id == id) {
            let call = self.state.after.remove(at);
            return self.after_answered(call, accepted, text);
        }
        let Some(call) = self.state.calls.iter_mut().find(|call| call.id == id && call.accepted.is_none()) else {
            return;
        };
        call.accepted = Some(accepted);
        let when = call.when;
        match when {
            HookPoint::DemandRollback | HookPoint::During => {
                self.state.calls.retain(|call| call.id != id);
                let moving = self.state.is_under_way() && self.state.phase() != Phase::RollingBack;
                if when == HookPoint::DemandRollback && accepted && moving && self.state.weight > Weight::ZERO {
                    self.roll_back(By::Hook, &format!("a hook demands the rollback: {text}"));
                }
            }
            HookPoint::BeforeStart | HookPoint::BeforeStep | HookPoint::BeforePromote | HookPoint::After => {
                let before = self.before();
                let answer = if accepted { "accepts" } else { "refuses, it is asked again" };
                let answer = format!("a hook `{}` {answer}", when.as_str());
                let why = if text.is_empty() { answer } else { format!("{answer}: {text}") };
                let waits = self.state.stage == Stage::Waiting(WaitingFor::Hook(when));
                if waits && !accepted && !self.state.notified_refused {
                    self.state.notified_refused = true;
                    self.alert(Transition::Waiting, Severity::Warning, &why);
                }
                if waits {
                    self.write(By::Hook, What::Answered, before, &why);
                } else {
                    // Why it is paused stays its reason.
                    self.note(By::Hook, What::Answered, before, &why);
                }
            }
        }
    }
}
