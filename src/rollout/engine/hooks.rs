//! Hooks: calling them at their points, and what their answers open.
//!
//! A hook that refuses is waited for: it is called again an interval after the call, which is at the next analysis
//! run. So is one whose answer is overdue, because an answer can be lost (a restart, a full queue) and a rollout must
//! not hang for it.
//!
//! Invariant: at most one call for each of the plan's hooks is kept.

use std::time::Duration;

use super::Reaction;
use super::history::{By, Effect, Progress, What};
use super::state::{Call, Phase, Stage, WaitingFor};
use crate::model::Weight;
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::plan::{Hook, HookPoint};

/// What an answer may take beyond the hook's own timeouts: back-off between tries, and a queue.
const GRACE: Duration = Duration::from_mins(1);

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
        self.wait_for(WaitingFor::Hook(when), "a hook is asked before it goes on");
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

    /// Calls every hook of `when` without waiting for an answer.
    pub(super) fn call_all(&mut self, when: HookPoint, at: &Progress) {
        for (index, _) in self.plan.hooks.iter().enumerate().filter(|(_, hook)| hook.when == when) {
            self.call(index, when, at.clone());
        }
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
                let answer = if accepted { "a hook accepts" } else { "a hook refuses, it is asked again" };
                let why = if text.is_empty() { answer.to_owned() } else { format!("{answer}: {text}") };
                let waits = self.state.stage == Stage::Waiting(WaitingFor::Hook(when));
                if waits && !accepted && !self.state.notified_refused {
                    self.state.notified_refused = true;
                    self.alert(Transition::Waiting, Severity::Warning, &why);
                }
                self.write(By::Hook, What::Answered, before, &why);
            }
        }
    }
}
