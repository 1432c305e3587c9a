//! A rollout on a bench: simulated time, verdicts by hand, and what the engine did kept for the tests to see.

use std::time::Duration;

use crate::model::{Name, Weight};
use crate::rollout::engine::{
    By, CommandRefused, Effect, Entry, Event, Notification, Observation, Phase, RolloutState, RolloutTarget, Verb, What,
};
use crate::rollout::plan::{
    Check, Errors, Failures, Gate, GateDefault, Hook, HookPoint, Measure, NoData, Plan, Rollback, Step,
};
use crate::rollout::verdict::{CheckOutcome, Verdict};

pub(super) const INTERVAL: Duration = Duration::from_secs(10);

pub(super) fn percent(percent: u16) -> Weight {
    Weight::from_basis_points(percent * 100).unwrap()
}

pub(super) fn target(version: &str) -> RolloutTarget {
    RolloutTarget { version: Name::from(version), fingerprint: format!("{version}-1") }
}

pub(super) fn step(weight: u16, hold: u64) -> Step {
    Step { weight: percent(weight), hold: Duration::from_secs(hold), gate: None }
}

pub(super) fn gate(timeout: Option<u64>, default: GateDefault) -> Gate {
    Gate { timeout: timeout.map(Duration::from_secs), default }
}

pub(super) fn check(name: &str) -> Check {
    Check {
        name: Name::from(name),
        measure: Measure::ErrorRate { max: 1.0, errors: Errors::default() },
        dry_run: false,
        min_requests: None,
        no_data: None,
        window: None,
    }
}

pub(super) fn hook(when: HookPoint) -> Hook {
    Hook { when, url: "http://127.0.0.1:1/".into(), timeout: Duration::from_secs(10), retries: 2, secret_file: None }
}

/// 10 % for 20 s, 50 % for 20 s, 100 % for 10 s, a bake of 30 s; five failures in all, three in a row; one check.
pub(super) fn plan() -> Plan {
    Plan {
        cohort: None,
        interval: INTERVAL,
        window: Duration::from_mins(1),
        steps: vec![step(10, 20), step(50, 20), step(100, 10)],
        bake: Duration::from_secs(30),
        min_requests: 100,
        no_data: NoData::Hold,
        significance: None,
        expected_rate: None,
        warm_up: None,
        max_hold: Duration::from_mins(5),
        checks: vec![check("errors")],
        failures: Failures { total: Some(5), consecutive: Some(3) },
        rollback_when: Vec::new(),
        rollback: Rollback::Immediate,
        hooks: Vec::new(),
        alerts: Vec::new(),
    }
}

pub(super) fn verdict(check: &str, outcome: CheckOutcome) -> Verdict {
    Verdict {
        check: Name::from(check),
        outcome,
        dry_run: false,
        value: Some(1.71),
        limit: Some(1.0),
        samples: 820,
        stable_fails_too: false,
        conclusive: false,
        sentence: format!("{check}: canary 14 of 820 (1.71 %), limit 1 %"),
    }
}

/// The bench.
pub(super) struct Rig {
    pub(super) plan: Plan,
    pub(super) state: RolloutState,
    pub(super) now: Duration,
    pub(super) seen: Observation,
    /// Of the last event.
    pub(super) effects: Vec<Effect>,
    /// Of all events.
    pub(super) entries: Vec<Entry>,
    /// Of all events.
    pub(super) alerts: Vec<Notification>,
}

impl Rig {
    /// `v1` serves; nothing is rolled out; both versions are healthy.
    pub(super) fn new(plan: Plan) -> Self {
        let seen =
            Observation { canary_available: 2, stable_available: 2, previous_available: 2, ..Observation::default() };
        let (state, now) = (RolloutState::default(), Duration::from_secs(1_000));
        let mut rig = Self { plan, state, now, seen, effects: vec![], entries: vec![], alerts: vec![] };
        rig.event(Event::Release(target("v1")));
        rig
    }

    /// `v2` was asked for and has the first step's weight.
    pub(super) fn started(plan: Plan) -> Self {
        let mut rig = Self::new(plan);
        rig.event(Event::Release(target("v2")));
        rig.event(Event::Tick);
        assert_eq!((rig.phase(), rig.weight()), (Phase::Progressing, rig.plan.steps[0].weight));
        rig
    }

    /// As [`started`](Self::started), and brought to `phase` with a weight above 0.
    pub(super) fn at(phase: Phase) -> Self {
        let mut plan = plan();
        if phase == Phase::Waiting {
            plan.steps[0].gate = Some(gate(Some(60), GateDefault::Abort));
        }
        if phase == Phase::RollingBack {
            plan.rollback = Rollback::Ramp(Duration::from_secs(10));
        }
        if phase == Phase::Idle {
            return Self::new(plan);
        }
        let mut rig = Self::started(plan);
        match phase {
            Phase::Paused => rig.say(Verb::Pause).unwrap(),
            Phase::Aborted => rig.say(Verb::Abort).unwrap(),
            Phase::RolledBack | Phase::RollingBack => rig.event(Event::Sustained { sentence: "bad".into() }),
            _ => rig.until(phase),
        }
        assert_eq!(rig.phase(), phase);
        rig
    }

    /// Applies an event that must not be refused.
    pub(super) fn event(&mut self, event: Event) {
        self.try_event(event).unwrap();
    }

    pub(super) fn try_event(&mut self, event: Event) -> Result<(), CommandRefused> {
        let applied = self.state.apply(&self.plan, event, &self.seen, self.now)?;
        assert_eq!(applied.state.inconsistency(), None);
        self.state = applied.state;
        self.alerts.extend(applied.effects.iter().filter_map(|effect| match effect {
            Effect::Alert(alert) => Some(alert.clone()),
            _ => None,
        }));
        self.effects = applied.effects;
        self.entries.extend(applied.entries);
        Ok(())
    }

    pub(super) fn say(&mut self, verb: Verb) -> Result<(), CommandRefused> {
        self.try_event(Event::Verb { verb, by: "ada".into(), reason: String::new() })
    }

    /// An interval later, an analysis run with these verdicts.
    pub(super) fn analyze(&mut self, verdicts: Vec<Verdict>) {
        self.now += INTERVAL;
        self.seen.verdicts = Some(verdicts);
        self.event(Event::Tick);
        self.seen.verdicts = None;
    }

    /// As [`analyze`](Self::analyze), with every check of the plan saying the same.
    pub(super) fn all(&mut self, outcome: CheckOutcome) {
        let verdicts = self.plan.checks.iter().map(|check| verdict(&check.name, outcome)).collect();
        self.analyze(verdicts);
    }

    /// So many analysis runs that pass.
    pub(super) fn pass(&mut self, runs: usize) {
        (0..runs).for_each(|_| self.all(CheckOutcome::Pass));
    }

    /// Analysis runs that pass until it is in `phase`.
    pub(super) fn until(&mut self, phase: Phase) {
        for _ in 0..50 {
            if self.phase() == phase {
                return;
            }
            self.pass(1);
        }
        panic!("never {phase}, but {}: {}", self.phase(), self.state.reason);
    }

    /// Only time passes.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.event(Event::Tick);
    }

    /// A kill and a restart with another clock.
    pub(super) fn restart(&mut self) {
        self.state = RolloutState::from_json(&self.state.to_json().unwrap()).unwrap();
        self.now = Duration::from_secs(3);
        self.event(Event::Restored);
    }

    /// Answers every open call.
    pub(super) fn answer(&mut self, accepted: bool) {
        let open: Vec<u64> =
            self.state.calls.iter().filter(|call| call.accepted.is_none()).map(|call| call.id).collect();
        assert!(!open.is_empty(), "nothing was called");
        for id in open {
            self.event(Event::HookAnswered { id, accepted, text: "said so".into() });
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub(super) fn weight(&self) -> Weight {
        self.state.weight
    }

    pub(super) fn stable(&self) -> &str {
        &self.state.stable.as_ref().unwrap().version
    }

    /// Weights that the last event published.
    pub(super) fn published(&self) -> Vec<Weight> {
        let weight = |effect: &Effect| match effect {
            Effect::SetWeight { weight, .. } => Some(*weight),
            _ => None,
        };
        self.effects.iter().filter_map(weight).collect()
    }

    /// What the last event settled.
    pub(super) fn settled(&self) -> Option<&str> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Settle { stable } => Some(&**stable),
            _ => None,
        })
    }

    /// Points whose hooks the last event called.
    pub(super) fn called(&self) -> Vec<HookPoint> {
        let when = |effect: &Effect| match effect {
            Effect::CallHook { when, .. } => Some(*when),
            _ => None,
        };
        self.effects.iter().filter_map(when).collect()
    }

    /// The last line of the history.
    pub(super) fn last(&self) -> (&By, What, &str) {
        let entry = self.entries.last().unwrap();
        (&entry.by, entry.what, &entry.why)
    }

    /// The canary went back at once: one snapshot with 0, then stable settled.
    #[track_caller]
    pub(super) fn went_back(&self, phase: Phase) {
        assert_eq!(self.phase(), phase, "{}", self.state.reason);
        assert_eq!(self.published(), [Weight::ZERO]);
        assert_eq!((self.settled(), self.weight()), (Some("v1"), Weight::ZERO));
    }
}
