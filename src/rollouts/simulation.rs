//! Rollouts by the thousand, with simulated traffic and time: how often a good canary is sent back, and how soon a bad
//! one is found. Everything but the traffic is what runs in production: the file, the recorder, the judge, the engine.
//!
//! `make simulate` prints the table of [`table`]; the tests hold its bars with fixed seeds and fewer rollouts.

mod bars;
mod random;
mod replayed;
mod table;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::random::Random;
use self::traffic::{Chances, Generator, Traffic};
use super::decision::Cause;
use super::{Action, Rollouts, View};
use crate::config::{self, Config};
use crate::model::{EndpointState, Name};
use crate::rollout::engine::{By, Phase, What};
use crate::rollout::evidence::Tally;
use crate::snapshot::compile::States;
use crate::snapshot::live::{EndpointLive, EndpointRegistry};
use crate::store::memory::MemoryJournal;
use crate::store::{Journal, JournalWriter};
use crate::telemetry::{Class, Recorder, RecorderOptions, VersionSeries};

const SECOND: Duration = Duration::from_secs(1);
/// Stable served so long before a rollout begins.
const HISTORY: u64 = 3_600;
/// A rollout that is not over after so many seconds hangs.
const LONGEST: u64 = 2 * 3_600;
/// Endpoints of each version.
const ENDPOINTS: u64 = 5;
/// How long a request takes that is well, and one that is slow.
const FAST: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_millis(700);

/// How one rollout ended.
#[derive(Clone, Debug, PartialEq)]
struct Ended {
    phase: Phase,
    /// The trip wire ended it.
    tripped: bool,
    /// How many requests the canary had until then.
    requests: u64,
    /// How long it took.
    seconds: u64,
    /// What the history says of it.
    why: String,
}

/// What is simulated.
#[derive(Clone, Debug)]
struct Scenario<'a> {
    /// The fields of `rollout`.
    plan: &'a str,
    /// Requests a second of both versions together.
    rate: f64,
    traffic: Traffic,
}

/// What all rollouts of a scenario have in common.
struct World {
    before: Config,
    after: Config,
    states: States,
    resolved: HashMap<String, Vec<crate::model::ResolvedAddress>>,
    journal: JournalWriter,
    started: Instant,
}

impl World {
    fn new(plan: &str) -> Self {
        let disk: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        Self {
            before: file("v1", plan),
            after: file("v2", plan),
            states: States::new(),
            resolved: HashMap::new(),
            journal: JournalWriter::with_timeout(disk, None, None, SECOND).unwrap(),
            started: Instant::now(),
        }
    }

    fn view<'a>(&'a self, config: &'a Config, recorder: &'a Recorder, now: u64) -> View<'a> {
        View {
            config,
            states: &self.states,
            resolved: &self.resolved,
            in_effect: None,
            recorder,
            store: &self.journal,
            now: Duration::from_secs(now),
            at_ms: now * 1_000,
        }
    }

    /// How one rollout ended.
    fn run(&self, scenario: &Scenario<'_>, seed: u64) -> Ended {
        self.play(scenario, seed).0
    }

    /// One rollout from its beginning to its end.
    fn play(&self, scenario: &Scenario<'_>, seed: u64) -> (Ended, Rollouts) {
        let mut random = Random::new(seed);
        let options = RecorderOptions { threads: 1, version: "0", revision: "x", started: self.started };
        let recorder = Recorder::new(options);
        let shop: Name = "shop".into();
        let limits = self.before.services.get(&shop).unwrap().duration_limits();
        let [stable, canary] = ["v1", "v2"].map(|version| recorder.version_with(&shop, &version.into(), &limits));
        let mut generator = Generator::new(scenario.traffic, &mut random);
        let mut rollouts = Rollouts::read(&BTreeMap::new(), &self.view(&self.before, &recorder, 0)).unwrap();
        // Stable's past goes by in blocks.
        let mut served = [Tally::default(); 2];
        for now in (10..=HISTORY).step_by(10) {
            for second in now - 10..now {
                let (_, chances) = generator.second(second, 0.0, 0, &mut random);
                count(&stable, scenario.rate, chances, &mut random);
            }
            count_groups([&canary, &stable], &generator, &mut served, &mut random);
            rollouts.record_baselines(&self.view(&self.before, &recorder, now));
        }
        rollouts.take_in(&self.before, &BTreeMap::new(), &self.view(&self.after, &recorder, HISTORY)).unwrap();
        let endpoints = endpoints();
        let (mut requests, mut owed) = (0, 0.0);
        for now in HISTORY..HISTORY + LONGEST {
            let view = self.view(&self.after, &recorder, now + 1);
            let weight = weight(&rollouts);
            owed += scenario.rate * weight;
            let due = whole(owed);
            owed -= due as f64;
            let (of_canary, of_stable) = generator.second(now, weight, due, &mut random);
            requests += self.serve(&rollouts, (&canary, &endpoints), (now, due, of_canary), &mut random);
            count(&stable, scenario.rate * (1.0 - weight), of_stable, &mut random);
            if (now + 1) % 10 == 0 {
                count_groups([&canary, &stable], &generator, &mut served, &mut random);
            }
            rollouts.record_baselines(&view);
            second(&mut rollouts, &shop, &view);
            let phase = rollouts.services["shop"].state().phase();
            if !phase.is_under_way() || phase == Phase::Paused {
                let history = rollouts.history("shop", 10).unwrap();
                let last = history.iter().rev().find(|line| line.entry.what != What::Analyzed).unwrap();
                let tripped = last.entry.by == By::TripWire;
                let why = last.entry.why.clone();
                return (Ended { phase, tripped, requests, seconds: now + 1 - HISTORY, why }, rollouts);
            }
        }
        let phase = rollouts.services["shop"].state().phase();
        (Ended { phase, tripped: false, requests, seconds: LONGEST, why: String::new() }, rollouts)
    }

    /// The canary's requests of a second, each on the trip wire; how many until it trips.
    fn serve(
        &self,
        rollouts: &Rollouts,
        (canary, endpoints): (&VersionSeries, &[(Name, Arc<EndpointLive>)]),
        (now, due, chances): (u64, u64, Chances),
        random: &mut Random,
    ) -> u64 {
        let Some(breaker) = rollouts.breakers().into_values().next() else { return 0 };
        if breaker.endpoints().is_empty() {
            breaker.set_endpoints(endpoints.iter().map(|(name, live)| (name, live)));
        }
        let finished = canary.requests_total();
        let mut failed = Vec::new();
        for (at, (_, endpoint)) in (0_u64..).zip(endpoints) {
            let requests = due / ENDPOINTS + u64::from((at + now) % ENDPOINTS < due % ENDPOINTS);
            let all = chances.one_endpoint && at == 0;
            let errors = if all { requests } else { random.binomial(requests, chances.error) };
            endpoint.judged.count_many(requests - errors);
            failed.extend((0..errors).map(|_| endpoint));
        }
        let errors = failed.len() as u64;
        random.shuffle(&mut failed);
        let failed = random.places(due, errors).into_iter().zip(failed);
        let slow = random.binomial(due - errors, chances.slow);
        canary.finish_many(Class::ServerError, FAST, errors);
        canary.finish_many(Class::Success, SLOW, slow);
        canary.finish_many(Class::Success, FAST, due - errors - slow);
        // Successes stand before, between and behind errors that are not next to each other.
        let mut last = None;
        for (at, endpoint) in failed {
            if last.map_or(at > 0, |last| at > last + 1) {
                breaker.trip.succeeded();
            }
            last = Some(at);
            let moment = self.started + SECOND + Duration::from_secs(now) + SECOND.mul_f64(at as f64 / due as f64);
            if breaker.failed(Some(endpoint), finished + at + 1, moment) {
                return at + 1;
            }
        }
        if last.map_or(due > 0, |last| last + 1 < due) {
            breaker.trip.succeeded();
        }
        due
    }
}

/// A second of all that is under way.
fn second(rollouts: &mut Rollouts, shop: &Name, view: &View<'_>) {
    if rollouts.under_way().next().is_none() {
        return;
    }
    if let Some(cause) = rollouts.sample(shop, view) {
        carry_out(rollouts, shop, cause, view);
    }
    // Every endpoint listens; nobody is to be told.
    for action in rollouts.take_actions() {
        if let Action::Connect(question) = action
            && let Some(cause) = rollouts.connected(*question, None, view)
        {
            carry_out(rollouts, shop, cause, view);
        }
    }
}

fn carry_out(rollouts: &mut Rollouts, shop: &Name, cause: Cause, view: &View<'_>) {
    let mut decision = rollouts.decide(shop, cause, view).unwrap().unwrap();
    let stored = rollouts.writes_of(&mut decision, view.config).map(|_| ());
    rollouts.finish(decision, Some(stored), view).unwrap();
}

/// The canary's share of the traffic, 0 to 1.
fn weight(rollouts: &Rollouts) -> f64 {
    let state = rollouts.services["shop"].state();
    if state.is_under_way() { state.weight.ratio() } else { 0.0 }
}

/// Counts whose requests those of canary and stable were since the last time, where users stay on a version.
fn count_groups(versions: [&VersionSeries; 2], generator: &Generator, before: &mut [Tally; 2], random: &mut Random) {
    for ((series, before), on_canary) in versions.into_iter().zip(before).zip([true, false]) {
        let errors = series.totals().by_class[Class::ServerError.index()];
        let now = Tally { requests: series.requests_total(), bad: errors };
        let served = now.since(*before).unwrap();
        *before = now;
        for (group, tally) in generator.by_group(on_canary, served, random).into_iter().enumerate() {
            series.of_clients(group, tally.requests, tally.bad);
        }
    }
}

/// A second of a version without a trip wire.
fn count(series: &VersionSeries, rate: f64, chances: Chances, random: &mut Random) {
    let requests = whole(rate + random.unit());
    let failing = if chances.one_endpoint { requests / ENDPOINTS } else { 0 };
    let errors = failing + random.binomial(requests - failing, chances.error);
    let slow = random.binomial(requests - errors, chances.slow);
    series.finish_many(Class::ServerError, FAST, errors);
    series.finish_many(Class::Success, SLOW, slow);
    series.finish_many(Class::Success, FAST, requests - errors - slow);
}

fn endpoints() -> Vec<(Name, Arc<EndpointLive>)> {
    let mut registry = EndpointRegistry::default();
    let version = registry.version(&"shop".into(), &"v2".into());
    (0..ENDPOINTS)
        .map(|at| {
            let name: Name = format!("10.0.0.{at}:80").into();
            let live = registry.endpoint(&version, &name.parse().unwrap(), EndpointState::Ready);
            (name, live)
        })
        .collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
fn whole(requests: f64) -> u64 {
    requests.floor() as u64
}

fn file(release: &str, plan: &str) -> Config {
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  shop:\n    versions:\n      \
         v1: {{ endpoints: [\"127.0.0.1:1\"] }}\n      v2: {{ endpoints: [\"127.0.0.1:2\"] }}\n    \
         release: {release}\n    stable: v1\n    rollout: {{ {plan} }}\n\
         routes: [{{ match: {{ path: / }}, service: shop }}]\n"
    );
    config::parse(Path::new("weir.yaml"), text.as_bytes(), &|_: &str| None).unwrap_or_else(|wrong| panic!("{wrong}"))
}
