//! Chooses versions for one service.
//!
//! Weights, names and keys are compiled. Which versions are available is live: [`Chooser::set_available`] changes it
//! at any time, and from the next choice on it counts. What replaces a version that goes (`fallback`) is in place
//! before the version is away, and stays until it is back, so no choice falls between.

use std::sync::atomic::{AtomicBool, Ordering};

use super::affinity::{self, KnownClient};
use super::choice::{Choice, KeySource, OverrideSource, Reason, SplitOptions};
use super::cohort::{Cohort, contains};
use super::plan::Plan;
use super::schedule::Schedules;
use super::share::VersionShare;
use super::signature;
use crate::model::Weight;
use crate::traffic::{Request, cookie};

/// How often a choice looks again for what replaces a version that comes and goes at that very moment.
const MAX_LOOKS: usize = 4;

/// Chooses versions for one service. Shared by all threads.
#[derive(Debug)]
pub struct Chooser {
    versions: Box<[VersionShare]>,
    /// Which versions are available now. Written by [`Self::set_available`] alone.
    available: Box<[AtomicBool]>,
    options: SplitOptions,
    /// The service's own split.
    base: Plan,
    /// In the file's order.
    cohorts: Box<[(Cohort, Plan)]>,
    has_breaker: bool,
    /// Weights alone decide.
    by_weights: bool,
}

impl Chooser {
    /// The chooser of a service's versions. `previous`, the one in use for the same service, hands over deficits.
    #[must_use]
    pub fn compile(
        versions: &[VersionShare],
        cohorts: Vec<Cohort>,
        options: SplitOptions,
        previous: Option<&Self>,
        schedules: &mut Schedules,
    ) -> Self {
        let mut plan = |cohort: Cohort| {
            let weights = cohort.weights.iter().copied().chain(std::iter::repeat(Weight::ZERO));
            let shares = versions.iter().zip(weights);
            let shares = shares.map(|(version, weight)| VersionShare { weight, ..version.clone() }).collect();
            let before = previous.and_then(|before| before.plan_of(&cohort.name));
            let plan = Plan::compile(shares, options.failover, before, schedules);
            (cohort, plan)
        };
        let cohorts: Box<[_]> = cohorts.into_iter().map(&mut plan).collect();
        Self {
            by_weights: options.affinity.is_none() && options.overrides.is_none() && cohorts.is_empty(),
            available: versions.iter().map(|version| AtomicBool::new(version.available)).collect(),
            has_breaker: versions.iter().any(|version| version.breaker.is_some()),
            base: Plan::compile(versions.into(), options.failover, previous.map(|before| &before.base), schedules),
            versions: versions.into(),
            options,
            cohorts,
        }
    }

    /// The plan of the cohort of this name.
    fn plan_of(&self, cohort: &str) -> Option<&Plan> {
        self.cohorts.iter().find(|(known, _)| &*known.name == cohort).map(|(_, plan)| plan)
    }

    /// Whether a version takes requests now.
    #[inline]
    #[must_use]
    pub(crate) fn is_available(&self, version: usize) -> bool {
        self.available.get(version).is_some_and(|available| available.load(Ordering::Acquire))
    }

    /// Says which versions take requests, by their index. Whoever says it last is right: callers are to see that two
    /// do not say different things at once.
    pub(crate) fn set_available(&self, available: impl Fn(usize) -> bool) {
        let wanted: Vec<bool> = (0..self.available.len()).map(available).collect();
        if wanted.iter().enumerate().all(|(at, wanted)| *wanted == self.is_available(at)) {
            return;
        }
        // Who comes back takes its turns before what replaced it is gone; who goes is replaced before it goes.
        self.store(&wanted, true);
        let of_cohorts = self.cohorts.iter().map(|(_, plan)| plan);
        std::iter::once(&self.base).chain(of_cohorts).for_each(|plan| plan.set_available(&wanted));
        self.store(&wanted, false);
    }

    /// Stores which versions are available, of those that are now to be `available` or not to be.
    fn store(&self, wanted: &[bool], available: bool) {
        let changed = self.available.iter().zip(wanted).filter(|(_, wanted)| **wanted == available);
        changed.for_each(|(flag, _)| flag.store(available, Ordering::Release));
    }

    /// The share that requests of no cohort without affinity or override really get, by version.
    #[must_use]
    pub(crate) fn effective(&self) -> Vec<Weight> {
        self.base.effective()
    }

    /// The same for requests of the cohort of this name, if there is one.
    #[must_use]
    pub(crate) fn effective_in(&self, cohort: &str) -> Option<Vec<Weight>> {
        self.plan_of(cohort).map(Plan::effective)
    }

    /// What besides weights decides.
    pub(crate) fn options(&self) -> &SplitOptions {
        &self.options
    }

    /// How a request may name its version.
    #[inline]
    #[must_use]
    pub(crate) fn overrides(&self) -> Option<&OverrideSource> {
        self.options.overrides.as_ref()
    }

    /// Chooses a version for `request`. `new_key` makes a key for a client that is to get one; `now` is the time in seconds
    /// since the Unix epoch.
    #[inline]
    pub fn choose(
        &self,
        request: &impl Request,
        new_key: impl FnOnce() -> String,
        now: impl FnOnce() -> u64,
    ) -> Choice {
        if self.by_weights {
            return self.settle(&self.base, None, (self.base.weights.choose(), Reason::Weight), None);
        }
        self.choose_for_client(request, new_key, now)
    }

    /// The same where something besides the weights may decide.
    fn choose_for_client(
        &self,
        request: &impl Request,
        new_key: impl FnOnce() -> String,
        now: impl FnOnce() -> u64,
    ) -> Choice {
        let known = affinity::client(&self.options, request, |name| self.at(name));
        let made = if known.is_none() && self.makes_keys() { Some(new_key()) } else { None };
        let hashed = |made: &String| affinity::hash(&self.options.salt, made.as_bytes());
        let key = known.map(|known| known.key).or_else(|| made.as_ref().map(hashed));
        let mut choice = match self.overridden(request, now) {
            Some(version) => {
                Choice { version, reason: Reason::Override, available: true, key, new_cookie: None, cohort: None }
            }
            None => self.by_split(request, known, key),
        };
        choice.new_cookie = self.new_cookie(request, known, made, &choice);
        choice
    }

    /// Chooses a version of a flag for `request`; `key` is its client's affinity key at its service, which counts where the
    /// flag has none of its own. Salted anew, so that clients who get one flag are not those who get another.
    pub(crate) fn choose_for(&self, request: &impl Request, key: Option<u64>) -> Choice {
        match key.filter(|_| self.options.affinity.is_none()) {
            Some(key) => {
                let salted = affinity::hash(&self.options.salt, &key.to_be_bytes());
                self.by_split(request, None, Some(salted))
            }
            None => self.choose(request, String::new, || 0),
        }
    }

    /// A hashed key of the request's client by its address, for a service whose versions are chosen without a key and whose
    /// endpoints are not.
    pub(crate) fn address_key(&self, request: &impl Request) -> Option<u64> {
        affinity::address_key(&self.options.salt, request)
    }

    /// By affinity or weight, in the split of the first cohort that the request is of, or else in the service's own.
    fn by_split(&self, request: &impl Request, known: Option<KnownClient>, key: Option<u64>) -> Choice {
        let cohort = self.cohorts.iter().position(|(cohort, _)| cohort.condition.is_met(request));
        let plan = cohort.and_then(|at| self.cohorts.get(at)).map_or(&self.base, |(_, plan)| plan);
        let (version, reason) = match key {
            Some(bucket) => {
                let stays = known.and_then(|known| known.given).filter(|given| self.keeps(*given));
                (stays.unwrap_or_else(|| plan.ranges.version(bucket)), Reason::Affinity)
            }
            None => (plan.weights.choose(), Reason::Weight),
        };
        self.settle(plan, cohort, (version, reason), key)
    }

    /// The choice of a version, or what takes its place now.
    #[inline]
    fn settle(
        &self,
        plan: &Plan,
        cohort: Option<usize>,
        (version, reason): (usize, Reason),
        key: Option<u64>,
    ) -> Choice {
        let available = self.is_available(version);
        let choice = Choice { version, reason, available, key, new_cookie: None, cohort };
        if available && !(self.has_breaker && self.is_tripped(version)) {
            return choice;
        }
        let choice = self.instead_of(plan, choice);
        if choice.available || cohort.is_none() { choice } else { self.by_base(choice) }
    }

    /// What a choice becomes whose cohort has nobody left: where all others go.
    #[cold]
    fn by_base(&self, choice: Choice) -> Choice {
        let version = match choice.key {
            Some(bucket) => self.base.ranges.version(bucket),
            None => self.base.weights.choose(),
        };
        self.instead_of(&self.base, Choice { version, reason: Reason::Failover, ..choice })
    }

    /// Whether clients that have no key get one.
    fn makes_keys(&self) -> bool {
        matches!(self.options.affinity, Some(KeySource::Cookie { make: true, .. }))
    }

    /// Whether a client that was given this version stays there, whatever the weights.
    fn keeps(&self, version: usize) -> bool {
        self.options.sticky == Some(version) && self.is_available(version) && !self.is_tripped(version)
    }

    /// The value of the cookie that a client is to get with this choice, if it is to get one.
    fn new_cookie(
        &self,
        request: &impl Request,
        known: Option<KnownClient>,
        made: Option<String>,
        choice: &Choice,
    ) -> Option<String> {
        let named = || self.versions.get(choice.version).map(|version| &*version.name);
        match (self.options.remembers, made) {
            (false, None) => None,
            (false, Some(key)) => Some(affinity::cookie_value(&self.options, key.as_bytes(), None)),
            // It says nothing of where its client belongs.
            (true, _) if choice.reason == Reason::Override || !choice.available => None,
            (true, Some(key)) => Some(affinity::cookie_value(&self.options, key.as_bytes(), Some(named()?))),
            (true, None) if known.is_some_and(|known| known.given == Some(choice.version)) => None,
            (true, None) => affinity::renewed_cookie(&self.options, request, named()?),
        }
    }

    fn is_tripped(&self, version: usize) -> bool {
        self.versions.get(version).is_some_and(VersionShare::is_tripped)
    }

    /// What takes the place of a version that takes no requests, or whose breaker tripped.
    #[cold]
    fn instead_of(&self, plan: &Plan, mut choice: Choice) -> Choice {
        let mut fallback = plan.fallback.load();
        for _ in 0..MAX_LOOKS {
            choice.available = self.is_available(choice.version);
            if choice.available {
                break;
            }
            if let Some(failover) = &fallback.failover {
                choice = failover.redirect(choice);
                break;
            }
            // It went or came back between the two looks.
            fallback = plan.fallback.load();
        }
        match &fallback.rest {
            Some(rest) if self.is_tripped(choice.version) => rest.redirect(choice),
            _ => choice,
        }
    }

    fn overridden(&self, request: &impl Request, now: impl FnOnce() -> u64) -> Option<usize> {
        let source = self.options.overrides.as_ref()?;
        let plain = source.from.as_ref().is_none_or(|nets| contains(nets, request.client()));
        if let Some(version) = named_by(source, request, |name| self.named(name).filter(|_| plain)) {
            return Some(version);
        }
        let keys = source.keys.as_ref()?;
        // Who says nothing asks for no time.
        named_by(source, request, |_| Some(()))?;
        let now = now();
        named_by(source, request, |token| self.named(signature::overridden(keys, &self.options.service, token, now)?))
    }

    /// The available version of this name.
    fn named(&self, name: &[u8]) -> Option<usize> {
        self.at(name).filter(|at| self.is_available(*at))
    }

    /// The version of this name.
    fn at(&self, name: &[u8]) -> Option<usize> {
        self.versions.iter().position(|version| version.name.as_bytes() == name)
    }
}

/// What `read` makes of the value of the header that names a version, or else of the cookie.
fn named_by<T>(source: &OverrideSource, request: &impl Request, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let by_header = source.header.as_ref().and_then(|header| request.header(header));
    by_header.and_then(&read).or_else(|| cookie::find(request, source.cookie.as_ref()?, &read).flatten())
}
