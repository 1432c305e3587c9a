//! Every sequence: random events, verdicts, health, clocks, restarts and plans, against what a naive observer allows.
//!
//! The observer keeps what was published and knows the plan; it decides by itself whether a weight may rise. Seeds
//! are fixed, so that a failure is the same everywhere.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::rig::{check, gate, hook, percent, plan, step, verdict};
use crate::model::Weight;
use crate::rollout::engine::commands::{Ruling, ruling};
use crate::rollout::engine::state::{MAX_AFTER_CALLS, MAX_FAILED_TARGETS};
use crate::rollout::engine::{
    Applied, Effect, Event, Listening, Observation, Phase, RolloutState, RolloutTarget, Verb, What,
};
use crate::rollout::plan::{GateDefault, HookPoint, NoData, Plan, Rollback};
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// What the world does next.
#[derive(Clone, Debug)]
enum Do {
    /// An analysis run that passes, an interval later: most of what happens, or nothing would get far.
    Pass,
    Analyze(Vec<(CheckOutcome, bool)>),
    Wait(u64),
    Back(u64),
    Jump,
    Release(u8, u8),
    Start(u8),
    Say(Verb),
    Answer(usize, bool),
    Tripped,
    Sustained,
    Plan(usize),
    Restart,
    Gone(u8),
    Health(u32, u32, u32),
    Writable(bool),
    Replaced,
    Listens(bool),
}

fn world() -> impl Strategy<Value = Do> {
    let outcome = prop_oneof![
        4 => Just(CheckOutcome::Pass),
        2 => Just(CheckOutcome::Fail),
        1 => Just(CheckOutcome::NoData),
        1 => Just(CheckOutcome::Error)
    ];
    let analysis = proptest::collection::vec((outcome, prop::bool::weighted(0.1)), 0..4);
    prop_oneof![
        24 => Just(Do::Pass),
        8 => analysis.prop_map(Do::Analyze),
        4 => (0_u64..100).prop_map(Do::Wait),
        1 => (0_u64..1_000).prop_map(Do::Back),
        1 => Just(Do::Jump),
        6 => (1_u8..5, 0_u8..2).prop_map(|(version, print)| Do::Release(version, print)),
        2 => (1_u8..5).prop_map(Do::Start),
        8 => prop::sample::select(Verb::ALL.to_vec()).prop_map(Do::Say),
        6 => (0_usize..4, prop::bool::weighted(0.8)).prop_map(|(call, accepted)| Do::Answer(call, accepted)),
        1 => Just(Do::Tripped),
        1 => Just(Do::Sustained),
        2 => (0_usize..4).prop_map(Do::Plan),
        3 => Just(Do::Restart),
        1 => (1_u8..5).prop_map(Do::Gone),
        3 => (0_u32..3, 0_u32..3, 0_u32..2).prop_map(|(canary, stable, old)| Do::Health(canary, stable, old)),
        3 => Just(Do::Health(2, 2, 2)),
        1 => any::<bool>().prop_map(Do::Writable),
        1 => Just(Do::Writable(true)),
        1 => Just(Do::Replaced),
        1 => any::<bool>().prop_map(Do::Listens),
        1 => Just(Do::Listens(true)),
    ]
}

/// Short steps, a policy of everything, one below 100 % without a bake, one where no data passes and the way back
/// ramps.
fn plans() -> [Plan; 4] {
    let mut all = plan();
    all.steps[0].gate = Some(gate(Some(60), GateDefault::Approve));
    all.steps[2].gate = Some(gate(None, GateDefault::Abort));
    all.hooks = [
        HookPoint::BeforeStart,
        HookPoint::BeforeStep,
        HookPoint::During,
        HookPoint::BeforePromote,
        HookPoint::DemandRollback,
        HookPoint::After,
    ]
    .map(hook)
    .to_vec();
    all.checks.push(check("latency"));
    all.checks.push(check("orders"));
    all.checks[2].dry_run = true;
    let mut short = plan();
    short.steps = vec![step(0, 10), step(20, 0), step(20, 0), step(30, 0), step(70, 10)];
    short.bake = Duration::ZERO;
    let mut lenient = plan();
    lenient.no_data = NoData::Pass;
    lenient.rollback = Rollback::Ramp(Duration::from_secs(60));
    lenient.max_hold = Duration::from_secs(30);
    [plan(), all, short, lenient]
}

/// What somebody who only watches knows.
struct Observer {
    plans: [Plan; 4],
    plan: usize,
    state: RolloutState,
    now: Duration,
    seen: Observation,
    /// The canary's version and the weight that was last published for it.
    published: Option<(String, Weight)>,
    /// How long that weight has been published, by this process's clock; none of it before a restart.
    held: Duration,
    /// What the canary had before it got other endpoints: so much it may have again at once.
    regained: Weight,
}

fn target(version: u8, print: u8) -> RolloutTarget {
    RolloutTarget { version: format!("v{version}").as_str().into(), fingerprint: format!("{version}-{print}") }
}

impl Observer {
    fn new() -> Self {
        Self {
            plans: plans(),
            plan: 0,
            state: RolloutState::default(),
            now: Duration::from_secs(1_000),
            seen: Observation {
                canary_available: 2,
                stable_available: 2,
                previous_available: 2,
                ..Observation::default()
            },
            published: None,
            held: Duration::ZERO,
            regained: Weight::ZERO,
        }
    }

    fn plan(&self) -> &Plan {
        &self.plans[self.plan]
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now.saturating_add(by);
        self.held = self.held.saturating_add(by);
    }

    fn verdicts(&self, outcomes: &[(CheckOutcome, bool)]) -> Vec<Verdict> {
        let one = |(at, (outcome, both)): (usize, &(CheckOutcome, bool))| {
            let name = self.plan().checks.get(at).map_or("unknown", |check| &check.name);
            let mut verdict = verdict(name, *outcome);
            verdict.stable_fails_too = *both;
            verdict
        };
        outcomes.iter().enumerate().map(one).collect()
    }

    /// Every check that decides has a verdict that passes, and nothing else that decides says otherwise.
    fn passes(&self) -> bool {
        let Some(verdicts) = &self.seen.verdicts else { return false };
        let dry = |name: &str| self.plan().checks.iter().any(|check| &*check.name == name && check.dry_run);
        let good = |verdict: &Verdict| match verdict.outcome {
            CheckOutcome::Pass => true,
            CheckOutcome::NoData => self.plan().no_data == NoData::Pass,
            CheckOutcome::Fail | CheckOutcome::Suspect | CheckOutcome::WarmingUp | CheckOutcome::Error => false,
        };
        let all = verdicts.iter().filter(|verdict| !dry(&verdict.check)).all(good);
        let each = self.plan().checks.iter().filter(|check| !check.dry_run);
        all && each.clone().all(|check| verdicts.iter().any(|verdict| verdict.check == check.name))
    }

    fn turn(&mut self, what: Do) {
        self.seen.verdicts = None;
        let event = match what {
            Do::Pass => {
                self.advance(Duration::from_secs(10));
                self.seen.verdicts = Some(self.verdicts(&vec![(CheckOutcome::Pass, false); self.plan().checks.len()]));
                Event::Tick
            }
            Do::Analyze(outcomes) => {
                self.seen.verdicts = Some(self.verdicts(&outcomes));
                Event::Tick
            }
            Do::Wait(seconds) => {
                self.advance(Duration::from_secs(seconds));
                Event::Tick
            }
            Do::Back(seconds) => {
                self.now = self.now.saturating_sub(Duration::from_secs(seconds));
                Event::Tick
            }
            Do::Jump => {
                self.advance(Duration::from_secs(u64::MAX / 1_000));
                Event::Tick
            }
            Do::Release(version, print) => Event::Release(target(version, print)),
            Do::Start(version) => Event::Start { target: target(version, 0), by: "ada".into(), reason: String::new() },
            Do::Say(verb) => Event::Verb { verb, by: "ada".into(), reason: "so".into() },
            Do::Answer(at, accepted) => {
                let Some(call) = self.state.calls.get(at) else { return };
                Event::HookAnswered { id: call.id, accepted, text: "said so".into() }
            }
            Do::Tripped => Event::Tripped { why: "10 errors in a row".into(), stable_fails_too: false },
            Do::Sustained => Event::Sustained { sentence: "errors above 1 % for 2m".into() },
            Do::Plan(plan) => {
                self.plan = plan;
                Event::PlanChanged
            }
            Do::Replaced => Event::CanaryReplaced,
            Do::Listens(listens) => {
                self.seen.listening =
                    if listens { Listening::Accepts } else { Listening::Refuses("it does not".to_owned()) };
                Event::Tick
            }
            Do::Restart => return self.restart(),
            Do::Gone(version) => Event::VersionsGone(vec![target(version, 0).version]),
            Do::Health(canary, stable, previous) => {
                (self.seen.canary_available, self.seen.stable_available, self.seen.previous_available) =
                    (canary, stable, previous);
                Event::Tick
            }
            Do::Writable(writable) => {
                self.seen.unwritable = !writable;
                Event::Tick
            }
        };
        self.apply(&event);
    }

    fn apply(&mut self, event: &Event) {
        let verb = match event {
            Event::Verb { verb, .. } => Some(*verb),
            Event::Start { .. } => Some(Verb::Start),
            _ => None,
        };
        let ruled = verb.map(|verb| ruling(self.state.phase(), verb));
        match self.state.apply(self.plan(), event.clone(), &self.seen, self.now) {
            Err(refused) => {
                assert!(verb.is_some(), "only operators are refused: {event:?}");
                assert_eq!((refused.phase, Some(refused.verb)), (self.state.phase(), verb));
            }
            Ok(applied) => {
                assert!(!matches!(ruled, Some(Ruling::Refuses(_))), "{event:?} in {}", self.state.phase());
                self.judge(event, verb, &applied);
                self.state = applied.state;
            }
        }
    }

    /// What must hold of every event.
    fn judge(&mut self, event: &Event, verb: Option<Verb>, applied: &Applied) {
        let (old, new) = (&self.state, &applied.state);
        assert_eq!(new.inconsistency(), None, "{event:?} of {old:?}");
        assert!(new.calls.len() <= self.plan().hooks.len() && new.failed_targets.len() <= MAX_FAILED_TARGETS);
        assert!(new.after.len() <= MAX_AFTER_CALLS);
        assert!((new.phase() == Phase::Waiting) <= new.waiting().is_some(), "{event:?} of {old:?}");
        if applied.entries.is_empty() {
            let mut same = new.clone();
            (same.times, same.calls, same.next_call) = (old.times.clone(), old.calls.clone(), old.next_call);
            assert_eq!(&same, old, "changed and not written down: {event:?}");
        }

        if applied.entries.iter().any(|entry| entry.what == What::Started) {
            self.regained = Weight::ZERO;
        }
        if *event == Event::CanaryReplaced && old.weight > Weight::ZERO {
            self.regained = old.weight;
        }
        let mut zeros = 0;
        let mut rises = 0;
        for effect in &applied.effects {
            match effect {
                Effect::SetWeight { stable, canary, weight } => {
                    assert_ne!(stable, canary);
                    zeros += usize::from(*weight == Weight::ZERO);
                    let last = match &self.published {
                        Some((version, last)) if **version == **canary => *last,
                        _ => Weight::ZERO,
                    };
                    if *weight > last {
                        rises += 1;
                        self.may_rise(event, verb, last, *weight);
                    }
                    if *weight != last {
                        self.held = Duration::ZERO;
                    }
                    self.published = Some((canary.to_string(), *weight));
                }
                Effect::Settle { stable } => {
                    self.may_settle(event, verb, stable);
                    self.published = None;
                }
                Effect::CallHook { hook, when, .. } => assert_eq!(self.plan().hooks[*hook].when, *when),
                Effect::CancelHooks | Effect::Alert(_) => {}
            }
        }
        assert!(rises <= 1, "one step at a time");
        if new.stable.is_none() {
            // Neither version is in the file: there is nothing that a weight could be published for.
            self.published = None;
        }
        let expected = self.published.as_ref().map_or(Weight::ZERO, |(_, weight)| *weight);
        assert_eq!(expected, new.weight, "what is published is what is remembered: {event:?} of {old:?}");

        let ended = old.phase().is_under_way() && !new.phase().is_under_way();
        let went_back = matches!(new.phase(), Phase::RolledBack | Phase::Aborted);
        if ended && went_back && !matches!(event, Event::VersionsGone(_)) {
            assert_eq!((zeros, new.weight), (1, Weight::ZERO), "{event:?} of {old:?}");
        }
        if matches!(verb, Some(Verb::Abort | Verb::Reject | Verb::Undo)) {
            assert!(went_back, "{event:?} of {old:?}");
        }
        if matches!(event, Event::Tripped { .. }) {
            assert_eq!(new.weight, Weight::ZERO);
        }
        if old.phase() == Phase::RollingBack && new.phase() == Phase::RollingBack {
            assert!(new.weight <= old.weight);
        }
    }

    /// A rise is one step whose analysis run passed, or an operator's promotion; and somebody can take the requests.
    fn may_rise(&self, event: &Event, verb: Option<Verb>, from: Weight, to: Weight) {
        let story = format!("{event:?} with {:?} of {:?}", self.seen, self.state);
        assert!(self.seen.canary_available > 0 && !self.seen.unwritable, "{story}");
        assert!(from > Weight::ZERO || self.seen.listening == Listening::Accepts, "{story}");
        if verb == Some(Verb::Promote) {
            return assert_eq!(to, Weight::FULL);
        }
        assert_eq!(event, &Event::Tick, "{story}");
        assert!(self.seen.stable_available > 0, "{story}");
        let steps = &self.plan().steps;
        let next = steps.iter().map(|step| step.weight).find(|weight| *weight > from).unwrap_or(Weight::FULL);
        let again = from == Weight::ZERO && to <= self.regained;
        assert!(to == next || again, "no step is skipped: {story}");
        if from > Weight::ZERO {
            assert!(self.passes(), "{story}");
            assert!(self.held >= Duration::from_secs(9), "held for {:?}: {story}", self.held);
        }
        assert!(!matches!(self.state.phase(), Phase::Paused | Phase::RollingBack), "{story}");
    }

    /// Everything lastingly to the canary is the end of a promotion, or all that is left.
    fn may_settle(&self, event: &Event, verb: Option<Verb>, to: &str) {
        let old = &self.state;
        if old.stable.as_ref().is_none_or(|stable| &*stable.version == to) {
            return;
        }
        let promoted = old.phase() == Phase::Promoting && *event == Event::Tick && self.seen.canary_available > 0;
        let undone = old.phase() == Phase::Succeeded && verb == Some(Verb::Undo) && self.seen.previous_available > 0;
        assert!(
            promoted || undone || matches!(event, Event::VersionsGone(_) | Event::Stable(_)),
            "{event:?} of {old:?}"
        );
    }

    /// A kill and a restart: nothing rises, nothing that was decided is lost.
    fn restart(&mut self) {
        let mut read = RolloutState::from_json(&self.state.to_json().unwrap()).unwrap();
        assert_eq!(read.times.clock, None);
        read.times.clock = self.state.times.clock;
        assert_eq!(read, self.state);
        read.times.clock = None;
        self.now = Duration::from_secs(5);
        self.held = Duration::ZERO;
        let applied = read.apply(self.plan(), Event::Restored, &self.seen, self.now).unwrap();
        self.judge(&Event::Restored, None, &applied);
        let mut same = applied.state.clone();
        (same.times, same.calls, same.reason) = (read.times.clone(), read.calls.clone(), read.reason.clone());
        same.after.clone_from(&read.after);
        assert_eq!(same, read, "a restart decides nothing");
        self.state = applied.state;
    }
}

#[test]
fn no_sequence_breaks_a_rule() {
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut reached = [0_u32; Phase::ALL.len()];
    let sequences = proptest::collection::vec(world(), 1..120);
    let counted = std::cell::RefCell::new(&mut reached);
    TestRunner::new_with_rng(config, rng)
        .run(&sequences, |sequence| {
            let mut observer = Observer::new();
            observer.apply(&Event::Release(target(1, 0)));
            for what in sequence {
                observer.turn(what);
                let at = Phase::ALL.iter().position(|phase| *phase == observer.state.phase()).unwrap();
                counted.borrow_mut()[at] += 1;
            }
            Ok(())
        })
        .unwrap();
    for (phase, times) in Phase::ALL.iter().zip(reached) {
        assert!(times > 100, "{phase} was reached {times} times: the sequences show nothing about it");
    }
}

#[test]
fn every_event_in_every_phase_with_every_health_is_total() {
    let verbs = Verb::ALL.map(|verb| Event::Verb { verb, by: "ada".into(), reason: String::new() });
    let others = [
        Event::Stable(target(1, 0)),
        Event::Stable(target(3, 0)),
        Event::Release(target(1, 0)),
        Event::Release(target(2, 1)),
        Event::Release(target(3, 0)),
        Event::Tick,
        Event::HookAnswered { id: 1, accepted: true, text: String::new() },
        Event::Tripped { why: "bad".into(), stable_fails_too: false },
        Event::Sustained { sentence: "bad".into() },
        Event::PlanChanged,
        Event::Restored,
        Event::CanaryReplaced,
        Event::VersionsGone(vec!["v1".into()]),
        Event::VersionsGone(vec!["v2".into()]),
        Event::VersionsGone(vec!["v1".into(), "v2".into()]),
    ];
    let events: Vec<Event> = verbs.into_iter().chain(others).collect();
    let empty = Plan { steps: vec![], checks: vec![], ..plan() };
    for phase in Phase::ALL {
        for (first, second) in events.iter().flat_map(|a| events.iter().map(move |b| (a, b))) {
            for (canary, stable, outcome) in [
                (2, 2, CheckOutcome::Pass),
                (0, 2, CheckOutcome::Fail),
                (2, 0, CheckOutcome::Error),
                (0, 0, CheckOutcome::NoData),
            ] {
                let mut observer = Observer::new();
                let rig = super::rig::Rig::at(phase);
                (observer.state, observer.now) = (rig.state, rig.now);
                observer.plans[0] = rig.plan;
                observer.published = Some(("v2".into(), observer.state.weight)).filter(|_| phase.is_under_way());
                (observer.seen.canary_available, observer.seen.stable_available) = (canary, stable);
                observer.advance(Duration::from_secs(60));
                observer.seen.verdicts = Some(vec![verdict("errors", outcome)]);
                observer.apply(first);
                observer.advance(Duration::from_secs(60));
                observer.apply(second);
                // A plan that cannot be, and another clock: still an answer.
                let _ = observer.state.apply(&empty, first.clone(), &observer.seen, Duration::MAX);
            }
        }
    }
    assert_eq!(percent(100), Weight::FULL);
}
