//! Chooses versions for one service.
//!
//! Weights, names and keys are compiled. Which versions are available is live: [`Chooser::set_available`] changes it
//! at any time, and from the next choice on it counts. What replaces a version that goes ([`Fallback`]) is in place
//! before the version is away, and stays until it is back, so no choice falls between.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::affinity::{self, HashRanges};
use super::choice::{Choice, KeySource, OverrideSource, Reason, SplitOptions};
use super::fallback::{Fallback, LastSchedules};
use super::schedule::Schedules;
use super::share::{VersionShare, split};
use super::weighted::Splitter;
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
    weights: Splitter,
    ranges: HashRanges,
    fallback: ArcSwap<Fallback>,
    /// Locked by whoever changes what is available, never by a request.
    last: Mutex<LastSchedules>,
    has_breaker: bool,
}

impl Chooser {
    /// The chooser of a service's versions. `previous`, the one in use for the same service, hands over
    /// deficits.
    ///
    /// Weights that do not sum to 100 % (the configuration sees that they do) give the first version everything.
    #[must_use]
    pub fn compile(
        versions: &[VersionShare],
        options: SplitOptions,
        previous: Option<&Self>,
        schedules: &mut Schedules,
    ) -> Self {
        let configured: Vec<Weight> = versions.iter().map(|version| version.weight).collect();
        let weights =
            Splitter::compile(&split(versions, &configured), previous.map(|before| &before.weights), schedules);
        let mut last = previous.map_or_else(LastSchedules::default, Self::last_schedules);
        let fallback = Fallback::new(versions, &mut last, schedules);
        Self {
            available: versions.iter().map(|version| AtomicBool::new(version.available)).collect(),
            has_breaker: versions.iter().any(|version| version.breaker.is_some()),
            versions: versions.into(),
            options,
            weights,
            ranges: HashRanges::new(&configured),
            fallback: ArcSwap::from_pointee(fallback),
            last: Mutex::new(last),
        }
    }

    fn last_schedules(&self) -> LastSchedules {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut versions = self.versions.to_vec();
        let mut changed = false;
        for (at, version) in versions.iter_mut().enumerate() {
            version.available = available(at);
            changed |= version.available != self.is_available(at);
        }
        if !changed {
            return;
        }
        // Who comes back takes its turns before what replaced it is gone; who goes is replaced before it goes.
        self.store(&versions, true);
        self.fallback.store(Fallback::new(&versions, &mut last, &mut Schedules::default()).into());
        self.store(&versions, false);
    }

    /// Stores which versions are available, of those that are now to be `available` or not to be.
    fn store(&self, versions: &[VersionShare], available: bool) {
        let changed = self.available.iter().zip(versions).filter(|(_, version)| version.available == available);
        changed.for_each(|(flag, _)| flag.store(available, Ordering::Release));
    }

    /// The share that requests without affinity or override really get, by version.
    #[must_use]
    pub(crate) fn effective(&self) -> Vec<Weight> {
        let fallback = self.fallback.load();
        let tripped = self.versions.iter().any(VersionShare::is_tripped);
        let instead = fallback.rest.as_ref().filter(|_| tripped).or(fallback.failover.as_ref());
        match instead {
            Some(redirect) => redirect.effective.clone(),
            None => self.versions.iter().map(|version| version.weight).collect(),
        }
    }

    /// How a request may name its version.
    #[inline]
    #[must_use]
    pub(crate) fn overrides(&self) -> Option<&OverrideSource> {
        self.options.overrides.as_ref()
    }

    /// Chooses a version for `request`. `new_key` makes a key for a client that is to get one.
    pub fn choose(&self, request: &impl Request, new_key: impl FnOnce() -> String) -> Choice {
        let mut made = None;
        let key = self.options.affinity.as_ref().and_then(|source| {
            affinity::key(source, request, &self.options.salt).or_else(|| {
                if !matches!(source, KeySource::Cookie { make: true, .. }) {
                    return None;
                }
                let fresh = made.insert(new_key());
                Some(affinity::hash(&self.options.salt, fresh.as_bytes()))
            })
        });
        let mut choice = match (self.overridden(request), key) {
            (Some(version), _) => Choice { version, reason: Reason::Override, available: true, key, new_key: None },
            (None, Some(bucket)) => self.due(self.ranges.version(bucket), Reason::Affinity, key),
            (None, None) => self.due(self.weights.choose(), Reason::Weight, None),
        };
        choice.new_key = made;
        choice
    }

    /// `version` if it takes requests, else one that does.
    fn due(&self, version: usize, reason: Reason, key: Option<u64>) -> Choice {
        let available = self.is_available(version);
        let choice = Choice { version, reason, available, key, new_key: None };
        if available && !(self.has_breaker && self.is_tripped(version)) { choice } else { self.instead_of(choice) }
    }

    fn is_tripped(&self, version: usize) -> bool {
        self.versions.get(version).is_some_and(VersionShare::is_tripped)
    }

    /// What takes the place of a version that takes no requests, or whose breaker tripped.
    #[cold]
    fn instead_of(&self, mut choice: Choice) -> Choice {
        let mut fallback = self.fallback.load();
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
            fallback = self.fallback.load();
        }
        match &fallback.rest {
            Some(rest) if self.is_tripped(choice.version) => rest.redirect(choice),
            _ => choice,
        }
    }

    fn overridden(&self, request: &impl Request) -> Option<usize> {
        let source = self.options.overrides.as_ref()?;
        if !source.from.as_ref().is_none_or(|nets| contains(nets, request.client())) {
            return None;
        }
        let by_header = source.header.as_ref().and_then(|header| request.header(header));
        by_header.and_then(|value| self.named(value)).or_else(|| {
            let cookie = source.cookie.as_ref()?;
            cookie::find(request, cookie, |value| self.named(value)).flatten()
        })
    }

    /// The available version of this name.
    fn named(&self, name: &[u8]) -> Option<usize> {
        let at = self.versions.iter().position(|version| version.name.as_bytes() == name)?;
        self.is_available(at).then_some(at)
    }
}

fn contains(nets: &[IpNet], client: Option<IpAddr>) -> bool {
    client.is_some_and(|client| nets.iter().any(|net| net.contains(&client)))
}
