//! One service's rollout in this process: the engine's state, what the judge needs, and the breaker.
//!
//! ```text
//! events ─► engine ─► state ─┬─► the split in effect (always: stable has what the canary has not)
//!   ▲ verdicts               ├─► history, actions
//! judge ◄─ evidence ◄── series └─► evidence, breaker: made when a rollout begins, dropped when it ends
//! ```
//!
//! The engine's effects about weights need no carrying out here: the split in effect is a function of the state, so
//! that the two cannot differ, not even after a crash between two writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::action::{Action, AlertContext, HookCall, Query};
use super::baseline::{Baseline, series};
use super::connect::ListenCheck;
use super::record::Record;
use super::refusal::Refusal;
use super::roles::Roles;
use super::samples::Counters;
use super::view::{Named, View};
use crate::model::{Name, Split, Weight};
use crate::rollout::alerts::Transition;
use crate::rollout::breaker::{ErrorBurst, ErrorCounter};
use crate::rollout::engine::{
    CommandRefused, Effect, Entry, Event, Observation, Phase, RolloutState, RolloutTarget, What,
};
use crate::rollout::evidence::{Evidence, Samples};
use crate::rollout::judge;
use crate::rollout::judge::sustained::{self, ErrorWatch};
use crate::rollout::plan::{Plan, RollbackCondition};
use crate::rollout::reading::Reading;
use crate::rollout::verdict::Verdict;
use crate::snapshot::live::CircuitBreaker;
use crate::store::{JournalError, Write};

/// How often something happened, for metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    /// Verdicts by check and outcome.
    pub(super) checks: BTreeMap<(Name, &'static str), u64>,
    /// Transitions by the phase they led to and who decided.
    pub(super) transitions: BTreeMap<(&'static str, &'static str), u64>,
}

/// One service's rollout.
#[derive(Clone)]
pub(super) struct ServiceRollout {
    pub(super) service: Name,
    pub(super) plan: Arc<Plan>,
    pub(super) record: Record,
    /// Something of the record is not on the disk.
    pub(super) dirty: bool,
    /// Why it cannot be written, if so: then nothing gives the canary more.
    pub(super) held: Option<JournalError>,
    /// When the split in effect became what it is, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
    pub(super) tallies: Tallies,
    pub(super) breaker: Option<Arc<CircuitBreaker>>,
    /// Where both versions are counted, while a rollout is under way.
    pub(super) counters: Option<PairCounters>,
    pub(super) evidence: Option<Arc<Evidence>>,
    /// What the stable version usually does.
    pub(super) baseline: Baseline,
    pub(super) error_watches: Vec<ErrorWatch>,
    /// When it was first seen, in a tick, that the breaker opened.
    pub(super) tripped_at: Option<Duration>,
    /// What other services suffered too in the last second, in words.
    pub(super) others_fail: Option<String>,
    /// What providers answered since the last analysis, each with its query.
    pub(super) readings: BTreeMap<Name, (Query, Reading)>,
    /// The queries for the next analysis were sent.
    pub(super) queried: bool,
    pub(super) next_analysis: Duration,
    /// Whether the canary listens, as far as it was asked.
    pub(super) listen: ListenCheck,
    /// The last analysis in which a provider could not be queried, which an alert says.
    pub(super) provider_failed: Option<Duration>,
    /// The number of the first entry of the history that is not in the log.
    pub(super) logged: u64,
    /// What the file says of the stable version.
    pub(super) named: Named,
    /// The last command that was refused, if none was accepted since.
    pub(super) refusal: Option<Refusal>,
}

/// Where the versions of a rollout are counted.
#[derive(Clone)]
pub(super) struct PairCounters {
    canary: Counters,
    stable: Counters,
}

/// What the engine made of some events, before it is in effect.
struct EngineRun {
    state: RolloutState,
    effects: Vec<Effect>,
    entries: Vec<Entry>,
}

/// How long stable has the traffic back, at least, before it is said whose fault it was; a tick may come this early.
const STABLE_SHOWS: Duration = Duration::from_millis(900);

/// What of some events matters for how a rollout is armed.
struct Occurred {
    began: bool,
    replaced: bool,
    replanned: bool,
    weight_before: Weight,
}

impl ServiceRollout {
    pub(super) fn new(service: Name, plan: &Plan, record: Record, view: &View<'_>) -> Self {
        let mut rollout = Self {
            service,
            plan: Arc::new(plan.clone()),
            logged: record.history.next(),
            record,
            dirty: false,
            held: None,
            since_ms: view.at_ms,
            tallies: Tallies::default(),
            breaker: None,
            counters: None,
            evidence: None,
            baseline: Baseline::default(),
            error_watches: Vec::new(),
            tripped_at: None,
            others_fail: None,
            readings: BTreeMap::new(),
            queried: false,
            next_analysis: Duration::ZERO,
            listen: ListenCheck::default(),
            provider_failed: None,
            named: Named::default(),
            refusal: None,
        };
        if let Some(why) = view.store.last_error() {
            rollout.hold(why);
        }
        rollout
    }

    /// Says in the log what was decided since the last time.
    pub(super) fn log_new(&mut self) {
        let service = &self.service;
        for entry in self.record.history.since(self.logged) {
            let (phase, why) = (entry.entry.to, &entry.entry.why);
            // An analysis without a decision is in the history, and would fill the log.
            if entry.entry.what == What::Analyzed {
                tracing::debug!(%service, %phase, "rollout: {why}");
            } else {
                tracing::info!(%service, %phase, "rollout: {why}");
            }
        }
        self.logged = self.record.history.next();
    }

    /// What is new, as writes that belong together. `services` share the space.
    pub(super) fn writes(&mut self, services: usize) -> Result<Vec<Write>, JournalError> {
        self.record.writes(&self.service, services, self.held.is_some())
    }

    /// What [`Self::writes`] gave is on the disk. Why that is not everything, if it is not.
    pub(super) fn saved(&mut self) -> Result<(), JournalError> {
        if !self.record.saved() {
            return self.held.clone().map_or(Ok(()), Err);
        }
        self.dirty = false;
        if self.held.take().is_some() {
            tracing::info!(service = %self.service, "the rollout's decisions can be written again");
        }
        Ok(())
    }

    /// The disk refuses: what is decided from now on knows that. A part of it may be on the disk.
    pub(super) fn hold(&mut self, why: JournalError) {
        if self.held.is_none() {
            let service = &self.service;
            tracing::error!(%service, "the rollout's decisions cannot be written, so nothing moves forward: {why}");
        }
        self.held = Some(why);
        self.dirty = true;
    }

    pub(super) const fn state(&self) -> &RolloutState {
        &self.record.state
    }

    /// The split in effect; none before any version was seen.
    pub(super) fn split(&self) -> Option<Split> {
        let state = self.state();
        let stable = state.stable.as_ref()?.version.clone();
        let Some(canary) = state.canary.as_ref().filter(|_| state.weight > Weight::ZERO) else {
            return Some(Split::all_to(stable));
        };
        let rest = Weight::FULL.basis_points().saturating_sub(state.weight.basis_points());
        let rest = Weight::from_basis_points(rest).unwrap_or_default();
        Split::new(vec![(canary.version.clone(), state.weight), (stable, rest)]).ok()
    }

    /// Applies `events` in order, in memory. Returns the actions to dispatch.
    pub(super) fn apply(
        &mut self,
        events: Vec<Event>,
        verdicts: Option<&[Verdict]>,
        view: &View<'_>,
        notify: &Arc<Notify>,
    ) -> Result<Vec<Action>, CommandRefused> {
        let replaced = events.contains(&Event::CanaryReplaced);
        let replanned = events.contains(&Event::PlanChanged);
        let run = self.run_engine(events, verdicts, view)?;
        let (weight_before, split) = (self.record.state.weight, self.split());
        let mut counts = if run.entries.is_empty() { None } else { self.take_counts() };
        self.record.state = run.state;
        self.dirty |= !run.entries.is_empty();
        let began = run.entries.iter().any(|entry| entry.what == What::Started);
        self.arm(&Occurred { began, replaced, replanned, weight_before }, view, notify);
        if self.split() != split {
            self.since_ms = view.at_ms;
        }
        let mut actions = self.actions(&run.effects, view);
        actions.extend(self.ask_whether_listening(view));
        for entry in run.entries {
            if entry.from != entry.to {
                let by = super::labels::by(&entry.by).0;
                *self.tallies.transitions.entry((entry.to.as_str(), by)).or_default() += 1;
            }
            self.record.history.add(entry, counts.take(), view.at_ms);
        }
        Ok(actions)
    }

    fn run_engine(
        &self,
        events: Vec<Event>,
        verdicts: Option<&[Verdict]>,
        view: &View<'_>,
    ) -> Result<EngineRun, CommandRefused> {
        let mut run = EngineRun { state: self.record.state.clone(), effects: Vec::new(), entries: Vec::new() };
        for event in events {
            let would_be = match &event {
                Event::Start { target, .. } | Event::Release(target) => Some(target),
                _ => run.state.canary.as_ref(),
            };
            let available = |target: Option<&RolloutTarget>| {
                target.map_or(0, |target| view.available(&self.service, &target.version))
            };
            let seen = Observation {
                canary_available: available(would_be),
                stable_available: available(run.state.stable.as_ref()),
                previous_available: available(run.state.previous.as_ref()),
                listening: self.listening(&run.state, view),
                verdicts: if event == Event::Tick { verdicts.map(<[Verdict]>::to_vec) } else { None },
                unwritable: self.held.is_some(),
            };
            let applied = run.state.apply(&self.plan, event, &seen, view.now)?;
            run.state = applied.state;
            run.effects.extend(applied.effects);
            run.entries.extend(applied.entries);
        }
        Ok(run)
    }

    /// Arms a rollout that is under way with samples and a breaker, and disarms one that is over.
    fn arm(&mut self, occurred: &Occurred, view: &View<'_>, notify: &Arc<Notify>) {
        let Occurred { began, replaced, replanned, weight_before } = *occurred;
        // What was seen of a canary's other endpoints says nothing of these.
        let anew = began || replaced;
        let roles = Roles::of(&self.record.state).filter(|_| self.record.state.is_under_way());
        let Some(roles) = roles else {
            (self.counters, self.evidence, self.breaker, self.queried) = (None, None, None, false);
            self.error_watches.clear();
            self.readings.clear();
            self.provider_failed = None;
            self.others_fail = None;
            return;
        };
        let from_nothing = weight_before == Weight::ZERO && self.record.state.weight > Weight::ZERO;
        // A breaker that opened and was not handled yet still has to be: another plan does not undo it.
        let unheard = self.breaker.as_ref().is_some_and(|breaker| breaker.is_tripped()) && !anew && !from_nothing;
        if anew || from_nothing || (replanned && !unheard) || self.breaker.is_none() {
            let (stable, notify) = (roles.stable.clone(), Arc::clone(notify));
            let breaker = CircuitBreaker::new(error_counter(&self.plan), stable, notify, Instant::now());
            self.breaker = Some(Arc::new(breaker));
        }
        let fresh = anew || self.evidence.is_none();
        if fresh || from_nothing || replanned {
            self.error_watches = sustained::watches(&self.plan);
        }
        // What was while the canary had no weight is not what its traffic is judged by.
        if fresh || from_nothing {
            let counters = |version| Counters::of(series(&self.service, version, view));
            self.counters = Some(PairCounters { canary: counters(&roles.canary), stable: counters(&roles.stable) });
            // After a restart of this process the canary is as warm as it was.
            let warm_up = self.plan.warm_up.filter(|_| anew || from_nothing);
            self.evidence = self.totals().map(|totals| Arc::new(Evidence::new(view.now, totals, warm_up)));
            self.readings.clear();
            self.queried = false;
            self.next_analysis = view.now.saturating_add(self.plan.interval);
        } else {
            self.observe(view.now);
            if let Some(evidence) = self.evidence.as_mut().filter(|_| self.record.state.weight != weight_before) {
                Arc::make_mut(evidence).weights_changed();
            }
            if replanned {
                self.replan_analysis(view.now);
            }
        }
        if anew {
            self.record.memory = judge::Memory::default();
            self.provider_failed = None;
        }
    }

    /// Takes in what was counted until now.
    pub(super) fn observe(&mut self, now: Duration) {
        if let Some((evidence, totals)) = self.evidence.clone().zip(self.totals()) {
            let mut evidence = evidence;
            self.evidence = None;
            Arc::make_mut(&mut evidence).observe(now, totals);
            self.evidence = Some(evidence);
        }
    }

    /// The totals of both versions.
    pub(super) fn totals(&self) -> Option<Samples> {
        let PairCounters { canary, stable } = self.counters.as_ref()?;
        let endpoints = self.breaker.as_ref().map(|breaker| breaker.endpoints()).unwrap_or_default();
        Some(Samples { canary: canary.totals(endpoints), stable: stable.totals(Vec::new()) })
    }

    /// The actions that the effects ask for.
    fn actions(&mut self, effects: &[Effect], view: &View<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        for effect in effects {
            match effect {
                // The split in effect is a function of the state.
                Effect::SetWeight { .. } | Effect::Settle { .. } => {}
                Effect::CancelHooks => actions.push(Action::Cancel { service: self.service.clone() }),
                Effect::CallHook { id, hook, when, at } => {
                    let hook = self.plan.hooks.get(*hook).cloned();
                    let Some((hook, roles)) = hook.zip(Roles::at(at)) else { continue };
                    actions.push(Action::HookCall(Box::new(HookCall {
                        service: self.service.clone(),
                        id: *id,
                        hook,
                        when: *when,
                        roles,
                        phase: at.phase,
                        step: at.step,
                        weight: at.weight,
                    })));
                }
                Effect::Alert(alert) => {
                    let Some(roles) = Roles::at(&alert.at) else { continue };
                    let mut alert = alert.clone();
                    if let (Transition::Succeeded, Some(behind)) = (alert.transition, self.behind()) {
                        alert.sentence = format!("{}; {behind}", alert.sentence);
                    }
                    actions.extend(self.alert_context(&roles, alert.at.weight, view).alert(&alert));
                }
            }
        }
        actions
    }

    /// What an alert is about; each call takes a number that no other alert has.
    pub(super) fn alert_context<'a>(
        &'a mut self,
        roles: &'a Roles,
        weight: Weight,
        view: &View<'_>,
    ) -> AlertContext<'a> {
        let number = self.record.alerts;
        self.record.alerts = number.wrapping_add(1);
        self.dirty = true;
        AlertContext { service: &self.service, roles, plan: &self.plan, weight, number, at_ms: view.at_ms }
    }

    /// Whether the breaker opened while the canary has weight.
    pub(super) fn is_tripped(&self) -> bool {
        let tripped = self.breaker.as_ref().is_some_and(|breaker| breaker.is_tripped());
        tripped && self.record.state.weight > Weight::ZERO
    }

    /// The event to apply if the breaker opened while the canary has weight. Where it had everything, that is said a second
    /// later: stable has the traffic until then, and shows whether it fares any better.
    pub(super) fn trip_event(&self, view: &View<'_>) -> Option<Event> {
        let shown = self.tripped_at.is_some_and(|at| view.now.saturating_sub(at) >= STABLE_SHOWS);
        if self.record.state.weight == Weight::FULL && !shown {
            return None;
        }
        self.is_tripped().then(|| {
            let words = self.plan.rollback_when.iter().filter_map(|condition| match condition {
                RollbackCondition::InARow { errors } => Some(format!("{errors} errors in a row")),
                RollbackCondition::Within { errors, within, .. } => Some(format!("{errors} errors within {within:?}")),
                RollbackCondition::ErrorRate { .. } => None,
            });
            let canary = self.record.state.canary.as_ref().map_or("the canary", |target| &*target.version);
            let why = format!("trip wire: {canary} had {}", words.collect::<Vec<_>>().join(" or "));
            Event::Tripped { why, stable_fails_too: self.stable_fails_too(view) }
        })
    }
}

/// What the breaker of a plan counts. A plan has at most one condition of each kind.
fn error_counter(plan: &Plan) -> ErrorCounter {
    let in_a_row = plan.rollback_when.iter().find_map(|condition| match condition {
        RollbackCondition::InARow { errors } => Some(*errors),
        _ => None,
    });
    let within = plan.rollback_when.iter().find_map(|condition| match *condition {
        RollbackCondition::Within { errors, within, share } => Some(ErrorBurst { errors, within, share }),
        _ => None,
    });
    ErrorCounter::new(in_a_row, within)
}

/// Whether the canary has more than it had: what must not happen without being written down first.
pub(super) fn raised(before: &RolloutState, after: &RolloutState) -> bool {
    let version = |target: &Option<RolloutTarget>| target.as_ref().map(|target| target.version.clone());
    let promoted = version(&before.stable) != version(&after.stable) && before.stable.is_some();
    // Another canary had nothing.
    let had = if version(&before.canary) == version(&after.canary) { before.weight } else { Weight::ZERO };
    after.weight > had || (promoted && after.phase() == Phase::Succeeded)
}
